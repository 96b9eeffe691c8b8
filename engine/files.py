"""Inputs looked at before use, outputs that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_input_file(path: Path, kind: str = "file") -> Path:
    """The path as Path, after a look at what is there.

    path: str or Path.
    kind: what a person would call it: "picture", "recording", "video".
    Raises Refused for nothing there, a folder, an empty or unreadable file.
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
    path: Path, overwrite: bool = False, inputs: Sequence[str | Path] = (), suffixes: tuple[str, ...] = ()
) -> Path | None:
    """The path as Path, after making sure that writing there harms nothing.

    path: str or Path, where the finished file will be.
    overwrite: True lets an existing file be replaced.
    inputs: paths read by the same job; they are never written over, whatever `overwrite` says.
    suffixes: endings accepted, such as (".mp4", ".mov"); empty accepts any.
    Raises UsageProblem for its ending, when it is an input or exists; WriteFailed when its folder is missing or closed.
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
    """The temporary name beside `target`: hidden, marked as a part, with the same ending.

    target: Path.
    Source: ours; the same folder, so that the last step is a rename inside one file system.
    """
    return target.with_name(f".{target.stem}.part-{os.getpid()}{target.suffix}")


@contextmanager
def atomic_write(path: Path, overwrite: bool = False, inputs: Sequence[str | Path] = ()) -> Iterator[Path]:
    """A temporary path to write to; renamed to `path` on a clean end, deleted on any other.

    path, overwrite, inputs: as for output_file.
    Raises what output_file raises, and WriteFailed for a full disk or a file system that says no.
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


def make_output_error(path: Path, error) -> OutputError:
    """The WriteFailed that says in words what the system said in numbers.

    path: Path, the output as the user named it.
    error: OSError.
    """
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


def compute_sha256(path: Path) -> str:
    """The SHA-256 of a file as 64 hex digits.

    path: str or Path.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
