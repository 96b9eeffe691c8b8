"""The command line: the one door between the rooms, and the only file that prints."""

import argparse
import difflib
import os
import signal
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import engine.commands
import engine.commands.models
import lipsync.commands
import voice.commands
from engine import __version__
from engine.command import document, plain
from engine.errors import ExitCode, MouthpieceError, UsageProblem
from engine.progress import MODES, Progress
from engine.warm import new_job

ORDER = ("animate", "lipsync", "speak", "dub", "sound", "batch", "transcribe", "voices", "models", "evaluate", "verify", "doctor", "train")
CONVERTED = ("kokoro", "echomimic", "echomimic-acc")
ROOMS = (engine.commands, lipsync.commands, voice.commands)


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are our errors, and which takes options under their full names only."""

    def __init__(self, **settings):
        super().__init__(**settings, allow_abbrev=False)
        self._words = []

    def error(self, message):
        hint = _dashed(self._words) or f"Run '{self.prog} --help' to see what is accepted."
        raise UsageProblem(f"{self._of_command()}{message}.", hint=hint, code="usage")

    def _of_command(self):
        command = self.prog.removeprefix("mouthpiece").strip()
        return f"{command}: " if command else ""

    def parse_known_args(self, args=None, namespace=None):
        self._words = list(args or ())
        found, unknown = super().parse_known_args(args, namespace)
        strange = next((word.split("=")[0] for word in unknown if word.startswith("-")), None)
        if strange:
            close = difflib.get_close_matches(strange, self._option_string_actions, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Run '{self.prog} --help' to see the options."
            hint = "Options stand before --." if strange in close else _dashed([strange]) or hint
            raise UsageProblem(f"{self._of_command()}there is no option {strange}.", hint=hint, code="unknown_option")
        return found, unknown


def _dashed(words):
    """How to write the first of these words that looks like an option and is a file; "" where none is."""
    found = next((word for word in words if word.startswith("-") and Path(word).is_file()), None)
    return f"Is the file of that name meant? Write ./{found}." if found else ""


def build_parser():
    """The whole command line. Source: ours."""
    parser = Parser(prog="mouthpiece", description="Talking portraits and dubbing from one audio-visual core.")
    parser.add_argument("--version", action="version", version=f"mouthpiece {__version__}")
    places = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for command in commands().values():
        place = common(places.add_parser(command.name, help=command.help))
        place.set_defaults(door=("cli:parser_of", "cli:perform"))  # for commands that run others, in other processes too
        place.set_defaults(**services())
        command.add(place)
    return parser


def converted(name, folder):
    """Where a pulled model's files lie in the form that is loaded; made once. Source: ours."""
    if name == "kokoro":
        from voice.backends.kokoro import cut_files

        return cut_files()[0].parent
    from lipsync.echomimic.weights import convert

    return convert(folder)


def services():
    """What the rooms lend each other, by the name under which commands find it among their arguments. Source: ours."""
    return dict(speak=planned_speech, relip=relip, follow=follow, check_dub=check_dub, judge_dub=judge_dub)


def planned_speech(text, spec, seed):
    """(Sound, articulation (T, 43), facts) of a text in our own voice: how the branch that moves faces borrows one. Source: ours."""
    from voice.line import speech_for_face

    return speech_for_face(text, spec, seed)


def relip(video, sound, output, job, progress, overwrite=False):
    """Writes a film with other sound, its lips moved to it; facts for the report: how the branch that speaks borrows the other one.

    job: dict with lines, faces {speaker: face}, dialogue (path), options, cache (folder); lipsync.dubbing.relip_dub says more.
    Source: ours.
    """
    from lipsync.dubbing import relip_dub

    return relip_dub(video, sound, output, job, progress, overwrite)


def follow(video, face, folder, progress):
    """(Track, starts of frames in seconds) of a face in a film, kept in the folder for both branches. Source: ours."""
    from lipsync.dubbing import follow_dub

    return follow_dub(video, face, folder, progress)


def check_dub(video, project, listen):
    """Refuses what could not be judged as a dub, before anything is measured; voice.evaluation says more. Source: ours."""
    from voice.evaluation import check_dub as check

    check(video, project, listen)


def judge_dub(video, source, project, mouths, listen, progress):
    """Numbers of a finished dub: how the branch that moves faces borrows the ears of the other one; voice.evaluation says more. Source: ours."""
    from voice.evaluation import judge_dub as judge

    return judge(video, source, project, mouths, listen, progress)


def parser_of(name):
    """The parser of one command; KeyError when there is none of that name. Source: ours."""
    command = commands()[name]
    parser = common(Parser(prog=f"mouthpiece {name}"))
    parser.set_defaults(**services())
    command.add(parser)
    return parser


def perform(argv):
    """Runs one command without a word; gives its exit code and the document that --json would show.

    argv: list of words after the program's name.
    Source: ours.
    """
    try:
        args = build_parser().parse_args(argv)
        with hushed():
            outcome = commands()[args.command].run(args, Progress("none"))
        return int(outcome.exit_code), {"ok": outcome.exit_code == ExitCode.DONE, "result": plain(outcome.result)}
    except MouthpieceError as error:
        return int(error.exit_code), {"ok": False, "error": error.as_dict()}
    except SystemExit as stop:
        return int(stop.code or ExitCode.DONE), {"ok": True, "result": None}
    except Exception as error:
        error = MouthpieceError(f"internal error: {type(error).__name__}: {error}.", hint="Run the item alone with -vv and report what it shows.")
        return int(error.exit_code), {"ok": False, "error": error.as_dict()}


@cache
def commands():
    """{name: Command} of every file in the rooms' folders of commands, in the order of the help page. Source: ours."""
    engine.commands.models.CONVERTERS.update({name: partial(converted, name) for name in CONVERTED})
    found = [import_module(f"{room.__name__}.{file.name}").COMMAND for room in ROOMS for file in iter_modules(room.__path__)]
    known = {name: k for k, name in enumerate(ORDER)}
    return {command.name: command for command in sorted(found, key=lambda c: known.get(c.name, len(known)))}


def common(parser):
    """Adds the options that every command has; gives the parser back. Source: ours."""
    group = parser.add_argument_group("common")
    group.add_argument("--json", action="store_true", help="one JSON document on standard output")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv shows tracebacks")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no notes")
    group.add_argument("--progress", choices=MODES, default="auto", help="how progress is told on standard error")
    return parser


@contextmanager
def stoppable():
    """Within it SIGTERM and SIGHUP stop the job the way Ctrl-C does, so that it cleans up behind itself."""

    def stop(number, frame):
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


@contextmanager
def hushed():
    """Within it native libraries, which write to descriptor 2 past Python, and warnings are not heard; our own words are."""
    before = sys.stderr
    try:
        ours = os.fdopen(os.dup(before.fileno()), "w", buffering=1, encoding=before.encoding, errors=before.errors)
    except (OSError, AttributeError):  # standard error is no file of the system, as in a notebook
        ours = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if ours is None:
            yield
            return
        native, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        sys.stderr = ours
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(native, 2)
            for descriptor in (native, nowhere):
                os.close(descriptor)
            ours.close()


def fail(error, as_json, verbosity):
    """Tells an error in one sentence and a remedy; gives the exit code. Source: ours."""
    if verbosity >= 2:
        traceback.print_exc()
    print(f"mouthpiece: {error}", file=sys.stderr)
    if as_json:
        print(document({"ok": False, "error": error.as_dict()}), flush=True)
    return int(error.exit_code)


class Interrupted(MouthpieceError):
    """Stopped by the user (exit 130)."""

    kind = "interrupted"
    exit_code = ExitCode.INTERRUPTED


def answer(argv):
    """Runs one command and tells its result or its error; gives the exit code."""
    as_json, verbosity = "--json" in argv, 2 if "-vv" in argv else 0
    try:
        new_job()
        args = build_parser().parse_args(argv)
        verbosity = args.verbose
        command = commands()[args.command]
        with hushed() if not verbosity and not command.loud else nullcontext():
            progress = Progress("none" if args.quiet else args.progress)
            outcome = command.run(args, progress)
        told = document({"ok": outcome.exit_code == ExitCode.DONE, "result": outcome.result}) if args.json else outcome.lines
        print(told, flush=True)
        return int(outcome.exit_code)
    except MouthpieceError as error:
        return fail(error, as_json, verbosity)
    except KeyboardInterrupt:
        hint = "Nothing half-written is left; run it again to start over."
        return fail(Interrupted("interrupted.", hint=hint, retryable=True), as_json, verbosity)
    except BrokenPipeError:
        raise
    except SystemExit as stop:  # --help and --version
        return int(stop.code or ExitCode.DONE)
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {error}."
        hint = "Run again with -vv and report what it shows."
        return fail(MouthpieceError(text, hint=hint), as_json, verbosity)


def main(argv=None):
    """Runs one command; gives the exit code. No traceback unless -vv.

    argv: list of words after the program's name; None takes those of the process.
    Source: ours.
    """
    argv = sys.argv[1:] if argv is None else [str(word) for word in argv]
    try:
        with stoppable():
            return answer(argv)
    except BrokenPipeError:  # nobody listens to standard output any more; keep the interpreter from trying again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.INTERNAL)


if __name__ == "__main__":
    sys.exit(main())
