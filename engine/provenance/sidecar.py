"""The side-car of an output: what was asked, with what it was made, what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine import __version__
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.files import atomic_write, compute_sha256
from mouthpiece.engine.weights.records import get_model_hashes

if TYPE_CHECKING:
    from typing import Any

_VERSION_KEY = "mouthpiece"


def get_sidecar_path(output_path: Path) -> Path:
    """Where the side-car of an output goes: OUT.json beside OUT.mp4; OUT.mp4.json where OUT.json is that of another
    output, such as OUT.wav.

    output_path: str or Path.
    Raises UsageProblem when a file of that name is there and is no side-car; ask before the work.
    """
    output = Path(output_path)
    first, second = _list_sidecar_paths(output)
    said = _read_sidecar(first)
    path = (
        second
        if get_sidecar_owner(_read_sidecar(second)) == output.name or get_sidecar_owner(said) not in (None, output.name)
        else first
    )
    if path.exists() and _VERSION_KEY not in _read_sidecar(path):
        raise UsageError(
            f"{path}: is in the way of the side-car of {output.name}, and was not written by us.",
            hint="Give the output another name.",
            code="sidecar_exists",
        )
    return path


def find_sidecar(output_path: Path) -> tuple:
    """(path, contents) of the side-car that speaks of an output; contents is empty where there is none, the path then
    where it would be.

    output_path: str or Path.
    Source: ours; one that names no output, as older ones, is no one's.
    """
    output = Path(output_path)
    places = _list_sidecar_paths(output)
    for path in places[::-1]:
        said = _read_sidecar(path)
        if get_sidecar_owner(said) == output.name:
            return path, said
    return places[0], {}


def get_sidecar_owner(contents: dict[str, Any]) -> str | None:
    """Name of the file that a side-car speaks of; None where it does not say. contents: dict as read."""
    marked = contents.get("provenance")
    name = marked.get("file") if isinstance(marked, dict) else contents.get("file")
    return name if isinstance(name, str) else None


def _list_sidecar_paths(output: Path) -> tuple[Path, Path]:
    return output.with_suffix(".json"), output.with_name(f"{output.name}.json")


def _read_sidecar(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def build_sidecar(
    command: str,
    settings: dict[str, Any],
    seed: int,
    inputs: tuple[Path, ...] = (),
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The contents of a side-car as a JSON-ready dict.

    command: the command's name, such as "animate".
    settings: dict, every resolved option; given back as --preset it makes the same job.
    seed: int.
    inputs: paths of the files read; each is recorded with its SHA-256.
    facts: dict, what was measured.
    Model hashes are those of the models that the current job has used.
    """
    return {
        _VERSION_KEY: __version__,
        "command": command,
        "settings": settings,
        "seed": seed,
        "models": get_model_hashes(),
        "inputs": [{"path": str(path), "sha256": compute_sha256(path)} for path in inputs],
        "facts": facts or {},
    }


def write_sidecar(output_path: Path, payload: dict[str, Any]) -> Path:
    """Writes the side-car of an output under a temporary name and renames it; gives its path.

    output_path: str or Path of the output itself.
    payload: JSON-ready dict, from report_of; paths and fractions become text.
    Raises UsageProblem as sidecar_path does, WriteFailed for the disk.
    """
    path = get_sidecar_path(output_path)
    text = json.dumps({_VERSION_KEY: __version__} | payload, indent=2, ensure_ascii=False, default=str)
    with atomic_write(path, overwrite=True, inputs=(output_path,)) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path
