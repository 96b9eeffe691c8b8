"""The command line: the one door between the rooms, and the only file that prints."""

import argparse
import difflib
import json
import math
import os
import signal
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path

from engine import __version__
from engine.config import add_flags, read_preset
from engine.errors import ExitCode, MouthpieceError, UsageProblem
from engine.progress import MODES, Progress

TRAININGS = ("crops", "puppets", "align", "motion", "phonetic", "codes", "core", "renderer", "embed")
TRAININGS_WITH_DATA = ("crops", "align", "codes")


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are our errors, and which takes options under their full names only."""

    def __init__(self, **settings):
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message):
        hint = f"Run '{self.prog} --help' to see what is accepted."
        raise UsageProblem(f"{self._of_command()}{message}.", hint=hint, code="usage")

    def _of_command(self):
        command = self.prog.removeprefix("mouthpiece").strip()
        return f"{command}: " if command else ""

    def parse_known_args(self, args=None, namespace=None):
        found, unknown = super().parse_known_args(args, namespace)
        strange = next((word.split("=")[0] for word in unknown if word.startswith("-")), None)
        if strange:
            close = difflib.get_close_matches(strange, self._option_string_actions, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Run '{self.prog} --help' to see the options."
            raise UsageProblem(f"{self._of_command()}there is no option {strange}.", hint=hint, code="unknown_option")
        return found, unknown


def build_parser():
    """The whole command line. Source: ours."""
    parser = Parser(prog="mouthpiece", description="Talking portraits and dubbing from one audio-visual core.")
    parser.add_argument("--version", action="version", version=f"mouthpiece {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    add_animate(commands)
    add_evaluate(commands)
    add_train(commands)
    add_models(commands)
    common(commands.add_parser("doctor", help="what works on this machine, what is missing"))
    return parser


def common(parser):
    """Adds the options that every command has; gives the parser back. Source: ours."""
    group = parser.add_argument_group("common")
    group.add_argument("--json", action="store_true", help="one JSON document on standard output")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv shows tracebacks")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no notes")
    group.add_argument("--progress", choices=MODES, default="auto", help="how progress is told on standard error")
    return parser


def add_animate(commands):
    """Adds `animate`. Source: ours."""
    from lipsync.options import AnimateOptions

    parser = common(commands.add_parser("animate", help="portrait + speech or song -> video"))
    parser.add_argument("portrait", type=Path, metavar="PORTRAIT", help="picture with a face")
    parser.add_argument("sound", type=Path, metavar="SOUND", help="recording of speech or song; a video lends its sound")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4")
    parser.add_argument("--preset", help="TOML file, side-car of an earlier result, or the name of a packaged preset")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    add_flags(parser.add_argument_group("animate"), AnimateOptions)


def add_evaluate(commands):
    """Adds `evaluate`. Source: ours."""
    parser = common(commands.add_parser("evaluate", help="sync, stillness, identity, sharpness of a video in numbers"))
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument("--against", type=Path, metavar="VIDEO", help="the real clip of the same sound")
    parser.add_argument("--portrait", type=Path, metavar="IMAGE", help="the picture it was made from")
    parser.add_argument("--sheet", type=Path, metavar="OUT.png", help="write a contact sheet: frames, waveform, mouth curve")
    parser.add_argument("--force", action="store_true", help="replace a sheet that is there")


def add_train(commands):
    """Adds `train`. Source: ours."""
    parser = common(commands.add_parser("train", help="the recipes that made the embedded weights, resumable"))
    parser.add_argument("stage", choices=TRAININGS, help="in this order; docs/training.md tells what each reads and writes")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with manifest.jsonl (crops, align, codes)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="working folder; a run continues where it stopped")
    parser.add_argument("--minutes", type=float, help="budget of the whole run, earlier parts included")
    parser.add_argument("--workers", type=int, default=2, help="processes that prepare data")
    parser.add_argument("--device", default="auto", help="where networks learn: auto, cpu, or a GPU by name and number; a wrong one lists what is accepted")
    parser.add_argument("--seed", type=int, default=0)


def add_models(commands):
    """Adds `models`. Source: ours."""
    parser = common(commands.add_parser("models", help="the weights at hand"))
    parser.add_argument("action", choices=("list", "path", "licences"))
    parser.add_argument("name", nargs="?", help="for path: which one")


def run_animate(args, progress):
    """Result and human line of `animate`."""
    from engine.device import choose_device
    from engine.files import output_file
    from engine.media import VIDEO_SUFFIXES
    from engine.report import sidecar_path
    from lipsync.options import options_of
    from lipsync.pipeline import animate, load_models, prepare

    options = options_of(None if args.preset is None else read_preset(args.preset), vars(args))
    placement = choose_device(options.device)
    inputs = (args.portrait, args.sound)
    output_file(args.output, args.force, inputs, VIDEO_SUFFIXES)
    sidecar = output_file(sidecar_path(args.output), args.force, inputs)
    job = prepare(*inputs, options)
    models = load_models(placement)
    if args.verbose:
        progress.note(f"{placement.device}: {placement.reason}")
        progress.note(" ".join(f"{name}={value}" for name, value in (options.settings() | job.plan()).items()))
    plan = job.plan()
    size = f"{plan['frames']} frames, {plan['duration_s']:.2f} s, {plan['width_px']}x{plan['height_px']}"
    if args.dry_run:
        result = {"dry_run": True, "output": str(args.output), "sidecar": str(sidecar), "settings": options.settings()}
        return result | {"facts": plan}, f"would write {args.output}: {size}"
    facts = animate(job, args.output, models, placement, progress, overwrite=args.force)
    payload = documented(args.output, "animate", options, inputs, facts)
    return payload | {"output": str(args.output), "sidecar": str(sidecar)}, f"{args.output}: {size}"


def documented(output, command, options, inputs, facts):
    """Writes the side-car of a finished output and gives its contents; without side-car there is no output either."""
    from engine.report import report_of, write_sidecar

    try:
        payload = report_of(command, options.settings(), options.seed, inputs, facts)
        write_sidecar(output, payload)
        return payload
    except BaseException:
        output.unlink(missing_ok=True)
        raise


def run_evaluate(args, progress):
    """Result and human table of `evaluate`."""
    from engine.files import output_file
    from engine.images import WRITE_SUFFIXES
    from lipsync.evaluate import evaluate, table
    from lipsync.sheet import write_sheet

    inputs = tuple(path for path in (args.video, args.against, args.portrait) if path is not None)
    if args.sheet is not None:
        output_file(args.sheet, args.force, inputs, WRITE_SUFFIXES)
    with progress.stage("measuring", 1, "video") as advance:
        facts = evaluate(args.video, against=args.against, portrait=args.portrait)
        advance(1)
    if args.sheet is not None:
        write_sheet(args.video, args.sheet, against=args.against)
    return facts, table(facts)


def run_train(args, progress):
    """Result and human line of `train`."""
    if args.stage in TRAININGS_WITH_DATA and args.data is None:
        hint = "Give the folder that holds manifest.jsonl."
        raise UsageProblem(f"train {args.stage}: --data is missing.", hint=hint, code="usage")
    if args.minutes is not None and not 0 < args.minutes < math.inf:
        raise UsageProblem(f"--minutes {args.minutes:g}: need a number above 0.", code="bad_option")
    if args.workers < 1:
        raise UsageProblem(f"--workers {args.workers}: need at least 1.", code="bad_option")

    def tell(*facts):
        progress.note(" ".join(json.dumps(f) if isinstance(f, dict) else f"{f:.4g}" for f in facts))

    facts = training(args, tell)
    return {"stage": args.stage, "facts": facts}, f"{args.stage}: {document(facts)}"


def training(args, tell):
    """Run one stage of the training; returns what it measured."""
    from engine.train import align, core, embed, phonetic
    from lipsync.train import codes, crops, motion, puppets, renderer
    how = dict(seed=args.seed, report=tell, device=args.device)
    if args.minutes is not None:
        how["minutes"] = args.minutes
    stages = dict(
        crops=lambda: crops.crops(args.data, args.out, args.workers, tell),
        align=lambda: align.align(args.data, args.out, args.workers, tell),
        puppets=lambda: puppets.puppets(args.out, workers=args.workers, progress=tell),
        codes=lambda: codes.codes(args.data, args.out),
        embed=lambda: embed.embed(args.out),
        motion=lambda: motion.train(args.out, **how),
        phonetic=lambda: phonetic.train(args.out, **how),
        core=lambda: core.train(args.out, **how),
        renderer=lambda: renderer.train(args.out, **how))
    return stages[args.stage]()


def run_models(args, progress):
    """Result and human lines of `models`."""
    from engine.weights import embedded_path, manifest

    if args.action == "path":
        if args.name is None:
            hint = f"Give one of: {', '.join(sorted(manifest())) or 'none is there'}."
            raise UsageProblem("models path: which one?", hint=hint, code="usage")
        path = str(embedded_path(args.name))
        return {"name": args.name, "path": path}, path
    if args.name is not None:
        raise UsageProblem(f"models {args.action}: takes no name.", hint="Leave it out.", code="usage")
    fields = ("licence", "source") if args.action == "licences" else ("bytes", "licence", "description")
    rows = {name: {f: entry.get(f) for f in fields} for name, entry in manifest().items()}
    return rows, "\n".join(f"{name}: " + ", ".join(str(v) for v in row.values()) for name, row in rows.items())


def run_doctor(args, progress):
    """Result and human lines of `doctor`."""
    from engine.doctor import examine

    rows = examine()
    return rows, "\n".join(f"{'ok     ' if r['ok'] else 'missing'} {r['name']}: {r['detail']}" for r in rows)


RUNNERS = {
    "animate": run_animate,
    "evaluate": run_evaluate,
    "train": run_train,
    "models": run_models,
    "doctor": run_doctor,
}


def document(value):
    """One line of strict JSON: what is no number becomes null, paths and fractions text. Source: RFC 8259."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # arrays and numbers of numpy and torch
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path | Fraction) else value


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
        args = build_parser().parse_args(argv)
        verbosity = args.verbose
        with hushed() if not verbosity and args.command != "train" else nullcontext():
            progress = Progress("none" if args.quiet else args.progress)
            result, lines = RUNNERS[args.command](args, progress)
        print(document({"ok": True, "result": result}) if args.json else lines, flush=True)
        return int(ExitCode.DONE)
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
