"""The command line: the one door between the rooms, and the only file that prints."""

from __future__ import annotations

import argparse
import difflib
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

import mouthpiece.commands
from mouthpiece.commands.command import to_json
from mouthpiece.engine import __version__
from mouthpiece.engine.config import note_renamed_options
from mouthpiece.engine.errors import ExitCode, MouthpieceError, UsageError
from mouthpiece.engine.progress import MODES, Progress
from mouthpiece.engine.weights.records import record_models
from mouthpiece.native_output import silence_native_output

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.commands.command import Command

COMMAND_ORDER = (
    "animate",
    "lipsync",
    "speak",
    "dub",
    "sound",
    "batch",
    "transcribe",
    "voices",
    "models",
    "evaluate",
    "verify",
    "doctor",
    "train",
)


class CommandParser(argparse.ArgumentParser):
    """argparse with typed errors, which accepts options under their full names only.

    add_arguments: called with the parser before it parses or shows help, so that a parser that is not used costs
    nothing; settings: of argparse.ArgumentParser.
    """

    def __init__(self, *, add_arguments: Callable[[CommandParser], object] | None = None, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)
        self._add_arguments = add_arguments
        self._words: list[str] = []

    def complete(self) -> CommandParser:
        """Add the arguments, where that has not been done; return the parser."""
        add_arguments, self._add_arguments = self._add_arguments, None
        if add_arguments is not None:
            add_arguments(self)
        return self

    def format_help(self) -> str:
        """Format the help page."""
        return super(CommandParser, self.complete()).format_help()

    def error(self, message: str) -> None:
        hint = _suggest_dashed_file(self._words) or f"Run '{self.prog} --help' to see what is accepted."
        raise UsageError(f"{self._of_command()}{message}.", hint=hint, code="usage")

    def _of_command(self) -> str:
        command = self.prog.removeprefix("mouthpiece").strip()
        return f"{command}: " if command else ""

    def parse_known_args(self, args: list[str] | None = None, namespace=None) -> tuple[argparse.Namespace, list]:
        self.complete()
        self._words = list(args or ())
        found, unknown = super().parse_known_args(args, namespace)
        strange = next((word.split("=")[0] for word in unknown if word.startswith("-")), None)
        if strange:
            close = difflib.get_close_matches(strange, self._option_string_actions, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Run '{self.prog} --help' to see the options."
            hint = "Options stand before --." if strange in close else _suggest_dashed_file([strange]) or hint
            raise UsageError(f"{self._of_command()}there is no option {strange}.", hint=hint, code="unknown_option")
        return found, unknown


def _suggest_dashed_file(words: list[str]) -> str:
    """How to write the first of these words that looks like an option and is a file; "" where none is."""
    found = next((word for word in words if word.startswith("-") and Path(word).is_file()), None)
    return f"Is the file of that name meant? Write ./{found}." if found else ""


def build_parser():
    """The whole command line."""
    parser = CommandParser(prog="mouthpiece", description="Talking portraits and dubbing from one audio-visual core.")
    parser.add_argument("--version", action="version", version=f"mouthpiece {__version__}")
    places = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    for command in load_commands().values():
        places.add_parser(command.name, help=command.help, add_arguments=partial(add_arguments, command))
    return parser


def add_arguments(command: Command, parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has, and those of one command."""
    add_common_flags(parser)
    command.add(parser)


def get_parser(name: str) -> CommandParser:
    """The parser of one command; KeyError when there is none of that name."""
    command = load_commands()[name]
    parser = CommandParser(prog=f"mouthpiece {name}", add_arguments=partial(add_arguments, command))
    return parser.complete()


@cache
def load_commands() -> dict[str, Command]:
    """{name: Command} of every file in the rooms' folders of commands, in the order of the help page."""
    names = [file.name for file in iter_modules(mouthpiece.commands.__path__)]
    found = [
        module.COMMAND
        for module in (import_module(f"mouthpiece.commands.{name}") for name in names)
        if hasattr(module, "COMMAND")
    ]
    known = {name: k for k, name in enumerate(COMMAND_ORDER)}
    return {command.name: command for command in sorted(found, key=lambda c: known.get(c.name, len(known)))}


def add_common_flags(parser):
    """Adds the options that every command has; gives the parser back."""
    group = parser.add_argument_group("common")
    group.add_argument("--json", action="store_true", help="one JSON document on standard output")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv shows tracebacks")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no notes")
    group.add_argument("--progress", choices=MODES, default="auto", help="how progress is told on standard error")
    return parser


@contextmanager
def stop_on_signals():
    """Within it SIGTERM and SIGHUP stop the job the way Ctrl-C does, so that it cleans up behind itself."""

    def stop(number: int, frame) -> None:
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report_error(error: MouthpieceError, as_json: bool, verbosity: int) -> int:
    """Tells an error in one sentence and a remedy; gives the exit code."""
    if verbosity >= 2:
        traceback.print_exc()
    print(f"mouthpiece: {error}", file=sys.stderr)
    if as_json:
        print(to_json({"ok": False, "error": error.as_dict()}), flush=True)
    return int(error.exit_code)


class JobInterruptedError(MouthpieceError):
    """Stopped by the user (exit 130)."""

    kind = "interrupted"
    exit_code = ExitCode.INTERRUPTED


def run_and_report(argv: list[str]) -> int:
    """Runs one command and tells its result or its error; gives the exit code."""
    as_json, verbosity = "--json" in argv, 2 if "-vv" in argv else 0
    try:
        args = build_parser().parse_args(argv)
        verbosity = args.verbose
        command = load_commands()[args.command]
        with silence_native_output() if not verbosity and not command.keep_native_output else nullcontext():
            progress = Progress("none" if args.quiet else args.progress)
            with note_renamed_options(progress.note), record_models():
                outcome = command.run(args, progress)
        told = (
            to_json({"ok": outcome.exit_code == ExitCode.DONE, "result": outcome.document})
            if args.json
            else outcome.summary
        )
        print(told, flush=True)
        return int(outcome.exit_code)
    except MouthpieceError as error:
        return report_error(error, as_json, verbosity)
    except KeyboardInterrupt:
        hint = "Nothing half-written is left; run it again to start over."
        return report_error(JobInterruptedError("interrupted.", hint=hint, retryable=True), as_json, verbosity)
    except BrokenPipeError:
        raise
    except SystemExit as stop:  # --help and --version
        return int(stop.code or ExitCode.DONE)
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {error}."
        hint = "Run again with -vv and report what it shows."
        return report_error(MouthpieceError(text, hint=hint), as_json, verbosity)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; gives the exit code. No traceback unless -vv.

    argv: list of words after the program's name; None takes those of the process.
    """
    argv = sys.argv[1:] if argv is None else [str(word) for word in argv]
    try:
        with stop_on_signals():
            return run_and_report(argv)
    except BrokenPipeError:  # nobody listens to standard output any more; keep the interpreter from trying again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.INTERNAL)


if __name__ == "__main__":
    sys.exit(main())
