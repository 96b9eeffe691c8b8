"""Large files that do not ship with the package: one folder of the user's, every file verified by SHA-256 before use."""

import hashlib
import os
import sys
from pathlib import Path

from engine.errors import Refused
from engine.files import replacing, sha256_of, write_problem

FOLDER_VARIABLE = "MOUTHPIECE_CACHE_DIR"
_CHUNK_BYTES = 1 << 20
_verified = {}  # (path, bytes, time of change) -> SHA-256 of what this process has read


def cache_folder(*parts):
    """The user's cache folder for this program, or a folder in it; made when it is not there.

    parts: names of folders below it.
    MOUTHPIECE_CACHE_DIR names another place.
    Raises WriteFailed when it cannot be made.
    Source: XDG base directories; the customs of macOS and Windows.
    """
    folder = cache_path(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_problem(folder, error) from error
    return folder


def cache_path(*parts):
    """The same path, whether or not it is there. Source: ours."""
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


def is_verified(path, sha256):
    """Whether a file is there and has this SHA-256; read once a process as long as it does not change.

    path: Path.  sha256: 64 hex digits.
    Source: ours.
    """
    return path.is_file() and digest_of(path) == sha256


def digest_of(path):
    """SHA-256 of a file that is there: 64 hex digits; read once a process as long as it does not change. path: Path. Source: ours."""
    facts = path.stat()
    key = (str(path), facts.st_size, facts.st_mtime_ns)
    if key not in _verified:
        _verified[key] = sha256_of(path)
    return _verified[key]


def joined(target, parts, sha256, name, remedy):
    """One verified file out of the parts in which it came; gives its path. A file that is there and right stays as it is.

    target: Path in the cache.
    parts: pairs in order: path, and its SHA-256 or None when only that of the whole is known.
    sha256: of the whole, 64 hex digits.
    name: what to call it in the error.  remedy: sentence that says how to get whole parts.
    Raises Refused when a part is gone or another than it should be, naming it; WriteFailed for the disk.
    Source: ours.
    """
    if is_verified(target, sha256):
        return target
    whole = hashlib.sha256()
    with replacing(target, overwrite=True) as out_path:
        with open(out_path, "wb") as out:
            for path, wanted in parts:
                one = hashlib.sha256()
                for chunk in _chunks(path, name, remedy):
                    one.update(chunk)
                    whole.update(chunk)
                    out.write(chunk)
                _compare(name, path, one.hexdigest(), wanted, remedy)
        _compare(name, " + ".join(Path(path).name for path, _ in parts), whole.hexdigest(), sha256, remedy)
    return target


def _compare(name, path, found, wanted, remedy):
    if wanted is not None and found != wanted:
        message = f"{name}: {path} is damaged or another file (SHA-256 {found[:12]}, need {wanted[:12]})."
        raise Refused(message, hint=remedy, code="bad_parts")


def _chunks(path, name, remedy):
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise Refused(f"{name}: {path} cannot be read ({error.strerror}).", hint=remedy, code="bad_parts") from error
