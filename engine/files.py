"""Input files checked before use, output files written atomically."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_input_file(path: Path | str, kind: str = "file") -> Path:
    """Check that a file can be read; return its path.

    kind: what a person would call it: "picture", "recording", "video".
    Raises InvalidInputError for a path without file, a folder, an empty or unreadable file.
    """
    path = Path(path)
    if not os.path.exists(path):  # unlike Path.exists, also False for a name too long
        raise InvalidInputError(
            f"{path}: no such file.", hint=f"Check the name; a {kind} is needed here.", code="no_such_file"
        )
    if os.path.isdir(path):
        raise InvalidInputError(f"{path}: this is a folder.", hint=f"Give one {kind}.", code="is_a_folder")
    try:
        with open(path, "rb") as file:
            first = file.read(1)
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be read ({error.strerror}).", hint="Check its permissions.", code="unreadable"
        ) from error
    if not first:
        raise InvalidInputError(
            f"{path}: the file is empty (0 bytes).", hint=f"Give a complete {kind}.", code="empty_file"
        )
    return path


def check_output_file(
    path: Path | str, overwrite: bool = False, inputs: Iterable[Path | str] = (), suffixes: Collection[str] = ()
) -> Path:
    """Check that writing a file harms nothing; return its path.

    path: where the finished file will be.
    overwrite: True lets an existing file be replaced.
    inputs: paths read by the same job; they are never overwritten, whatever `overwrite` says.
    suffixes: endings accepted, such as (".mp4", ".mov"); empty accepts any.
    Raises UsageError for its ending, when it is an input or exists; OutputError when its folder is missing or not
    writable.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(
            f"{path}: cannot be written as '{path.suffix}'.",
            hint=f"Use one of {' '.join(suffixes)}.",
            code="output_suffix",
        )
    for source in inputs:
        if _is_same_file(path, Path(source)):
            raise UsageError(
                f"{path}: this is an input of the same job; inputs are never touched.",
                hint="Give another output name.",
                code="output_is_input",
            )
    if os.path.isdir(path):
        raise UsageError(f"{path}: this is a folder.", hint="Give a file name for the output.", code="is_a_folder")
    if os.path.exists(path) and not overwrite:
        raise UsageError(
            f"{path}: already there.", hint="Use --force to replace it, or another name.", code="output_exists"
        )
    folder = path.parent
    if not os.path.isdir(folder):
        what = "is not a folder" if os.path.exists(folder) else "does not exist"
        hint = "Give a name in a folder that is there."
        raise OutputError(f"{path}: the folder {folder} {what}.", hint=hint, code="no_folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"{path}: no permission to write in {folder}.", hint="Choose another folder.", code="not_writable"
        )
    return path


def _is_same_file(a: Path, b: Path) -> bool:
    if os.path.exists(a) and os.path.exists(b):
        return os.path.samefile(a, b)
    return a.resolve() == b.resolve()


def get_part_path(target: Path) -> Path:
    """Return the temporary name beside `target`: hidden, marked as a part, with the same ending.

    It is in the same folder so that the last step is a rename within one file system.
    """
    return target.with_name(f".{target.stem}.part-{os.getpid()}{target.suffix}")


@contextmanager
def atomic_write(path: Path | str, overwrite: bool = False, inputs: Iterable[Path | str] = ()) -> Iterator[Path]:
    """Write a file atomically: a context that gives a temporary path, renamed to `path` at its end.

    When the context is left by an exception the temporary file is deleted.

    path, overwrite, inputs: as for check_output_file.
    Raises what check_output_file raises, and OutputError for a full disk or a file system that refuses.
    """
    target = check_output_file(path, overwrite, inputs)
    part = get_part_path(target)
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        raise make_output_error(target, error) from error
    finally:
        part.unlink(missing_ok=True)


def make_output_error(path: Path, error: OSError) -> OutputError:
    """Make the OutputError that says in words what the system reported. path: the output as the user named it."""
    if error.errno in _DISK_FULL_ERRNOS:
        return OutputError(
            f"{path}: no space left while writing.",
            hint="Free some space or choose another disk; nothing unfinished was left.",
            code="disk_full",
            retryable=True,
        )
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}).", hint="Choose another place.", code="not_writable"
    )


def compute_sha256(path: Path | str) -> str:
    """Compute the SHA-256 of a file: 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
