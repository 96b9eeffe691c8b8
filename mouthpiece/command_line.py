"""The command line: parses arguments, runs one command, prints its result or its error. Nothing else prints."""

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
from mouthpiece.engine import __version__
from mouthpiece.engine.config import note_renamed_options
from mouthpiece.engine.errors import ExitCode, MouthpieceError, UsageError
from mouthpiece.engine.progress import MODES, Progress
from mouthpiece.engine.weights.records import record_models
from mouthpiece.json_values import to_json
from mouthpiece.native_output import silence_native_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, NoReturn

    from mouthpiece.commands.command import Command

COMMAND_ORDER = (  # on the help page; commands that are not listed follow
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

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError instead of leaving the process."""
        hint = _suggest_dashed_file(self._words) or f"Run '{self.prog} --help' to see what is accepted."
        raise UsageError(f"{self._format_command()}{message}.", hint=hint, code="usage")

    def _format_command(self) -> str:
        """Format the beginning of an error: the command's name; "" for the program itself."""
        command = self.prog.removeprefix("mouthpiece").strip()
        return f"{command}: " if command else ""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments as argparse does. Raises UsageError for an unknown option, with the nearest one."""
        self.complete()
        self._words = list(args or ())
        parsed, rest = super().parse_known_args(args, namespace)
        unknown = next((word.split("=")[0] for word in rest if word.startswith("-")), None)
        if unknown:
            close = difflib.get_close_matches(unknown, self._option_string_actions, 1)
            hint = (
                f"Did you mean {self._name_now(close[0])}?"
                if close
                else f"Run '{self.prog} --help' to see the options."
            )
            hint = "Options stand before --." if unknown in close else _suggest_dashed_file([unknown]) or hint
            raise UsageError(f"{self._format_command()}there is no option {unknown}.", hint=hint, code="unknown_option")
        return parsed, rest

    def _name_now(self, flag: str) -> str:
        """Return the present spelling of a flag that may be a former, hidden one."""
        action = self._option_string_actions[flag]
        return f"--{action.dest.replace('_', '-')}" if action.help == argparse.SUPPRESS else flag


def _suggest_dashed_file(words: list[str]) -> str:
    """Suggest how to write the first word that looks like an option and is a file; "" where none is."""
    file = next((word for word in words if word.startswith("-") and Path(word).is_file()), None)
    return f"Is the file of that name meant? Write ./{file}." if file else ""


def build_parser() -> CommandParser:
    """Build the parser of the whole command line."""
    parser = CommandParser(prog="mouthpiece", description="Talking portraits and dubbing from one audio-visual core.")
    parser.add_argument("--version", action="version", version=f"mouthpiece {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    for command in load_commands().values():
        commands.add_parser(command.name, help=command.help, add_arguments=partial(add_arguments, command))
    return parser


def add_arguments(command: Command, parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has, and those of one command."""
    add_common_flags(parser)
    command.add(parser)


def get_parser(name: str) -> CommandParser:
    """Build the parser of one command. Raises KeyError for an unknown name."""
    command = load_commands()[name]
    parser = CommandParser(prog=f"mouthpiece {name}", add_arguments=partial(add_arguments, command))
    return parser.complete()


@cache
def load_commands() -> dict[str, Command]:
    """Load the Command of every file in the folder of commands, by name, in the order of the help page."""
    names = [file.name for file in iter_modules(mouthpiece.commands.__path__)]
    modules = [import_module(f"mouthpiece.commands.{name}") for name in names]
    commands = [module.COMMAND for module in modules if hasattr(module, "COMMAND")]
    places = {name: place for place, name in enumerate(COMMAND_ORDER)}
    return {command.name: command for command in sorted(commands, key=lambda c: places.get(c.name, len(places)))}


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group("common")
    group.add_argument("--json", action="store_true", help="one JSON document on standard output")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv shows tracebacks")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no notes")
    group.add_argument("--progress", choices=MODES, default="auto", help="how progress is shown on standard error")


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop the job the way Ctrl-C does, so that it cleans up; a context manager."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
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
    """Print an error, its sentence and its remedy; return the exit code."""
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
    """Run one command and print its result or its error; return the exit code."""
    as_json, verbosity = "--json" in argv, 2 if "-vv" in argv else 0
    try:
        args = build_parser().parse_args(argv)
        verbosity = args.verbose
        command = load_commands()[args.command]
        with silence_native_output() if not verbosity and not command.keep_native_output else nullcontext():
            progress = Progress("none" if args.quiet else args.progress)
            with note_renamed_options(progress.note), record_models():
                result = command.run(args, progress)
        text = (
            to_json({"ok": result.exit_code == ExitCode.DONE, "result": result.document})
            if args.json
            else result.summary
        )
        print(text, flush=True)
        return int(result.exit_code)
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
    """Run one command; return the exit code. A traceback is shown only with -vv.

    argv: words after the program's name; None takes those of the process.
    """
    argv = sys.argv[1:] if argv is None else [str(word) for word in argv]
    try:
        with stop_on_signals():
            return run_and_report(argv)
    except BrokenPipeError:  # standard output is closed; keep the interpreter from trying again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.INTERNAL)


if __name__ == "__main__":
    sys.exit(main())
