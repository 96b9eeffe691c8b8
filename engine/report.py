"""The side-car of an output: what was asked, with what it was made, what was measured."""

import json
from pathlib import Path

from engine import __version__
from engine.errors import UsageProblem
from engine.files import replacing, sha256_of

_MARK = "mouthpiece"


def sidecar_path(output_path):
    """Where the side-car of an output goes: OUT.json beside OUT.mp4; OUT.mp4.json where OUT.json is that of another output, such as OUT.wav.

    output_path: str or Path.
    Raises UsageProblem when a file of that name is there and is no side-car; ask before the work.
    Source: ours.
    """
    output = Path(output_path)
    first, second = _places(output)
    said = _read(first)
    path = second if owner_of(_read(second)) == output.name or owner_of(said) not in (None, output.name) else first
    if path.exists() and _MARK not in _read(path):
        raise UsageProblem(
            f"{path}: is in the way of the side-car of {output.name}, and was not written by us.",
            hint="Give the output another name.",
            code="sidecar_exists",
        )
    return path


def find_sidecar(output_path):
    """(path, contents) of the side-car that speaks of an output; contents is empty where there is none, the path then where it would be.

    output_path: str or Path.
    Source: ours; one that names no output, as older ones, is no one's.
    """
    output = Path(output_path)
    places = _places(output)
    for path in places[::-1]:
        said = _read(path)
        if owner_of(said) == output.name:
            return path, said
    return places[0], {}


def owner_of(contents):
    """Name of the file that a side-car speaks of; None where it does not say. contents: dict as read. Source: ours."""
    marked = contents.get("provenance")
    name = marked.get("file") if isinstance(marked, dict) else contents.get("file")
    return name if isinstance(name, str) else None


def _places(output):
    return output.with_suffix(".json"), output.with_name(f"{output.name}.json")


def _read(path):
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


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
    from engine import weights  # torch: not for who asks where side-cars lie

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
