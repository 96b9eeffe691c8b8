"""Side-cars: the JSON file beside an output that says what was asked, with what it was made, what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine import __version__
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.weights.digests import get_sha256
from mouthpiece.engine.weights.records import get_model_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_VERSION_KEY = "mouthpiece"


def get_sidecar_path(output_path: str | Path) -> Path:
    """Return where the side-car of an output is written: OUT.json beside OUT.mp4.

    It is OUT.mp4.json where OUT.json is that of another output, such as OUT.wav.
    Raises UsageError when a file of that name exists and is not a side-car; call it before the work.
    """
    output = Path(output_path)
    short, long = _list_sidecar_paths(output)
    has_long = get_sidecar_owner(_read_sidecar(long)) == output.name
    short_is_taken = get_sidecar_owner(_read_sidecar(short)) not in (None, output.name)
    path = long if has_long or short_is_taken else short
    if path.exists() and _VERSION_KEY not in _read_sidecar(path):
        raise UsageError(
            f"{path}: is in the way of the side-car of {output.name}, and was not written by us.",
            hint="Give the output another name.",
            code="sidecar_exists",
        )
    return path


def find_sidecar(output_path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Find the side-car that names an output: (path, contents); without one the contents are empty.

    A side-car that names no output, as older ones do not, belongs to none.
    """
    output = Path(output_path)
    paths = _list_sidecar_paths(output)
    for path in paths[::-1]:
        contents = _read_sidecar(path)
        if get_sidecar_owner(contents) == output.name:
            return path, contents
    return paths[0], {}


def get_sidecar_owner(contents: dict[str, Any]) -> str | None:
    """Return the name of the file that a side-car belongs to; None where it does not say. contents: as read."""
    record = contents.get("provenance")
    name = record.get("file") if isinstance(record, dict) else contents.get("file")
    return name if isinstance(name, str) else None


def _list_sidecar_paths(output: Path) -> tuple[Path, Path]:
    return output.with_suffix(".json"), output.with_name(f"{output.name}.json")


def _read_sidecar(path: Path) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        return contents if isinstance(contents, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def build_sidecar(
    command: str,
    settings: dict[str, Any],
    seed: int,
    inputs: Iterable[str | Path] = (),
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the contents of a side-car, JSON-ready.

    command: name of the command, such as "animate".
    settings: every resolved option; given back as --preset they make the same output.
    inputs: paths of the files read; each is recorded with its SHA-256.
    facts: what was measured.
    The models are those that the current job has used.
    """
    return {
        _VERSION_KEY: __version__,
        "command": command,
        "settings": settings,
        "seed": seed,
        "models": get_model_hashes(),
        "inputs": [{"path": str(path), "sha256": get_sha256(Path(path))} for path in inputs],
        "facts": facts or {},
    }


def write_sidecar(output_path: str | Path, payload: dict[str, Any]) -> Path:
    """Write the side-car of an output atomically; return its path.

    output_path: of the output itself.
    payload: from build_sidecar; paths and fractions become text.
    Raises UsageError as get_sidecar_path does, OutputError for the disk.
    """
    path = get_sidecar_path(output_path)
    text = json.dumps({_VERSION_KEY: __version__} | payload, indent=2, ensure_ascii=False, default=str)
    with atomic_write(path, overwrite=True, inputs=(output_path,)) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path
