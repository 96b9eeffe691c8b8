"""Typed errors: each says what was wrong, what is accepted and what to do, and has an exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the process, as docs/commands.md promises them."""

    DONE = 0
    INTERNAL = 1  # an error of the program
    USAGE = 2  # UsageError
    MISSING = 3  # MissingDependencyError
    REFUSED = 5  # InvalidInputError, OutputError
    PARTLY = 6  # a part failed
    INTERRUPTED = 130  # stopped by the user


class MouthpieceError(Exception):
    """Base of all errors: a sentence for people, a JSON shape for programs.

    message: one sentence naming the thing, the value met and the value needed; a missing full stop is added.
    hint: what to do about it, as a sentence; empty when there is nothing to do.
    code: short word for programs, snake_case; the kind when not given.
    retryable: True when the same call may succeed later without a change.
    """

    kind = "internal"
    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "", code: str = "", retryable: bool = False) -> None:
        message = message if message.endswith((".", "!", "?", "…", "\n")) or not message else f"{message}."
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.kind
        self.retryable = retryable

    def __str__(self) -> str:
        between = "" if self.message.endswith("\n") else " "
        return f"{self.message}{between}{self.hint}".strip()

    def as_dict(self) -> dict[str, str | bool]:
        """Return the error as JSON-ready dict: kind, code, message, hint, retryable."""
        return {
            "kind": self.kind,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
        }


class UsageError(MouthpieceError):
    """The command or an option asks for something that makes no sense (exit 2)."""

    kind = "usage"
    exit_code = ExitCode.USAGE


class MissingDependencyError(MouthpieceError):
    """A dependency, a model, a device or a licence consent is not there (exit 3)."""

    kind = "missing"
    exit_code = ExitCode.MISSING


class InvalidInputError(MouthpieceError):
    """The input cannot be used: broken, too short, no face, no sound (exit 5)."""

    kind = "refused"
    exit_code = ExitCode.REFUSED


class OutputError(MouthpieceError):
    """The output could not be written: folder, permission or disk space (exit 5)."""

    kind = "write"
    exit_code = ExitCode.REFUSED
