"""The side-car of an output: what was asked, with what it was made, what was measured."""

import json
from pathlib import Path

from engine import __version__, weights
from engine.errors import UsageProblem
from engine.files import replacing, sha256_of

_MARK = "mouthpiece"


def sidecar_path(output_path):
    """Where the side-car of an output goes: OUT.json beside OUT.mp4.

    output_path: str or Path.
    Raises UsageProblem when a file of that name is there and is no side-car; ask before the work.
    Source: ours.
    """
    path = Path(output_path).with_suffix(".json")
    if path.exists() and not _is_sidecar(path):
        raise UsageProblem(
            f"{path}: is in the way of the side-car of {Path(output_path).name}, and was not written by us.",
            hint="Give the output another name.",
            code="sidecar_exists",
        )
    return path


def _is_sidecar(path):
    try:
        return _MARK in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def report_of(command, settings, seed, inputs=(), facts=None):
    """The contents of a side-car as a JSON-ready dict.

    command: the command's name, such as "animate".
    settings: dict, every resolved option; given back as --preset it makes the same job.
    seed: int.
    inputs: paths of the files read; each is recorded with its SHA-256.
    facts: dict, what was measured.
    Model hashes are those of the weights this process has loaded.
    Source: ours.
    """
    return {
        _MARK: __version__,
        "command": command,
        "settings": settings,
        "seed": seed,
        "models": weights.hashes(),
        "inputs": [{"path": str(path), "sha256": sha256_of(path)} for path in inputs],
        "facts": facts or {},
    }


def write_sidecar(output_path, payload):
    """Writes the side-car of an output under a temporary name and renames it; gives its path.

    output_path: str or Path of the output itself.
    payload: JSON-ready dict, from report_of; paths and fractions become text.
    Raises UsageProblem as sidecar_path does, WriteFailed for the disk.
    Source: ours.
    """
    path = sidecar_path(output_path)
    text = json.dumps({_MARK: __version__} | payload, indent=2, ensure_ascii=False, default=str)
    with replacing(path, overwrite=True, inputs=(output_path,)) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path
