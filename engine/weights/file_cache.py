"""Large files that do not ship with the package: one folder of the user's, every file verified by SHA-256 before use."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import atomic_write, compute_sha256, make_output_error

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_VARIABLE = "MOUTHPIECE_CACHE_DIR"
_CHUNK_BYTES = 1 << 20
_digests = {}  # (path, bytes, time of change) -> SHA-256 of what this process has read


def make_cache_folder(*parts) -> Path:
    """The user's cache folder for this program, or a folder in it; made when it is not there.

    parts: names of folders below it.
    MOUTHPIECE_CACHE_DIR names another place.
    Raises WriteFailed when it cannot be made.
    Source: XDG base directories; the customs of macOS and Windows.
    """
    folder = get_cache_path(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise make_output_error(folder, error) from error
    return folder


def get_cache_path(*parts) -> Path:
    """The same path, whether or not it is there."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        base = Path(named)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mouthpiece"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches" / "mouthpiece"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mouthpiece"
    return base.joinpath(*parts)


def is_verified(path: Path, sha256: str) -> bool:
    """Whether a file is there and has this SHA-256; read once a process as long as it does not change.

    path: Path.  sha256: 64 hex digits.
    """
    return path.is_file() and get_sha256(path) == sha256


def get_sha256(path: Path) -> str:
    """SHA-256 of a file that is there: 64 hex digits; read once a process as long as it does not change. path: Path."""
    facts = path.stat()
    key = (str(path), facts.st_size, facts.st_mtime_ns)
    if key not in _digests:
        _digests[key] = compute_sha256(path)
    return _digests[key]


def join_parts(target: Path, parts: list, sha256: str, name: str, remedy: str) -> Path | None:
    """One verified file out of the parts in which it came; gives its path. A file that is there and right stays as it
    is.

    target: Path in the cache.
    parts: pairs in order: path, and its SHA-256 or None when only that of the whole is known.
    sha256: of the whole, 64 hex digits.
    name: what to call it in the error.  remedy: sentence that says how to get whole parts.
    Raises Refused when a part is gone or another than it should be, naming it; WriteFailed for the disk.
    """
    if is_verified(target, sha256):
        return target
    whole = hashlib.sha256()
    with atomic_write(target, overwrite=True) as out_path:
        with open(out_path, "wb") as out:
            for path, wanted in parts:
                one = hashlib.sha256()
                for chunk in _read_chunks(path, name, remedy):
                    one.update(chunk)
                    whole.update(chunk)
                    out.write(chunk)
                _check_digest(name, path, one.hexdigest(), wanted, remedy)
        _check_digest(name, " + ".join(Path(path).name for path, _ in parts), whole.hexdigest(), sha256, remedy)
    return target


def _check_digest(name: str, path: Path | str, found: str, wanted: str | None, remedy: str) -> None:
    if wanted is not None and found != wanted:
        message = f"{name}: {path} is damaged or another file (SHA-256 {found[:12]}, need {wanted[:12]})."
        raise InvalidInputError(message, hint=remedy, code="bad_parts")


def _read_chunks(path: Path, name: str, remedy: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise InvalidInputError(
            f"{name}: {path} cannot be read ({error.strerror}).", hint=remedy, code="bad_parts"
        ) from error
