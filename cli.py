"""The command line: the one door between the rooms, and the only file that prints."""
import argparse
import json
import signal
import sys
import traceback
from pathlib import Path

from engine import __version__
from engine.config import add_flags, read_preset, resolve
from engine.errors import ExitCode, MouthpieceError, UsageProblem
from engine.progress import MODES, Progress

TRAININGS = ("crops", "puppets", "align", "motion", "phonetic", "codes", "core", "renderer")


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are our errors."""

    def error(self, message):
        raise UsageProblem(f"{self.prog}: {message}.", hint=f"Run '{self.prog} --help' to see what is accepted.", code="usage")


def build_parser():
    """The whole command line."""
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
    """Options that every command has."""
    group = parser.add_argument_group("common")
    group.add_argument("--json", action="store_true", help="one JSON document on standard output")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv shows tracebacks")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress")
    group.add_argument("--progress", choices=MODES, default="auto", help="how progress is told on standard error")
    return parser


def add_animate(commands):
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
    parser = common(commands.add_parser("evaluate", help="sync, stillness, identity, sharpness of a video in numbers"))
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument("--against", type=Path, metavar="VIDEO", help="the real clip of the same sound")
    parser.add_argument("--portrait", type=Path, metavar="IMAGE", help="the picture it was made from")
    parser.add_argument("--sheet", type=Path, metavar="OUT.png", help="write a contact sheet: frames, waveform, mouth curve")
    parser.add_argument("--force", action="store_true", help="replace a sheet that is there")


def add_train(commands):
    parser = common(commands.add_parser("train", help="the recipes that made the embedded weights, resumable"))
    parser.add_argument("stage", choices=TRAININGS, help="in this order; docs/training.md tells what each reads and writes")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with manifest.jsonl (crops, align, codes)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="working folder; a run continues where it stopped")
    parser.add_argument("--minutes", type=float, help="budget of the whole run, earlier parts included")
    parser.add_argument("--workers", type=int, default=2, help="processes that prepare data")
    parser.add_argument("--seed", type=int, default=0)


def add_models(commands):
    parser = common(commands.add_parser("models", help="the weights at hand"))
    parser.add_argument("action", choices=("list", "path", "licences"))
    parser.add_argument("name", nargs="?", help="for path: which one")


def run_animate(args, progress):
    from engine.device import choose_device
    from engine.files import output_file
    from engine.report import report_of, sidecar_path, write_sidecar
    from lipsync.options import AnimateOptions
    from lipsync.pipeline import animate, load_models, preflight
    options = resolve(AnimateOptions, read_preset(args.preset) if args.preset else None, vars(args))
    placement = choose_device(options.device)
    output_file(args.output, args.force, (args.portrait, args.sound))
    sidecar = sidecar_path(args.output)
    plan = preflight(args.portrait, args.sound, options)
    if args.dry_run:
        return dict(plan, output=str(args.output), sidecar=str(sidecar), dry_run=True), f"would write {args.output}: {plan['frames']} frames at {plan['rate']}"
    facts = animate(args.portrait, args.sound, args.output, options, load_models(), placement, progress, overwrite=args.force)
    payload = report_of("animate", options.settings(), options.seed, (args.portrait, args.sound), facts)
    write_sidecar(args.output, payload)
    return dict(payload, output=str(args.output)), f"{args.output}: {facts['frames']} frames, {facts['duration_s']:.2f} s, {facts['width_px']}x{facts['height_px']}"


def run_evaluate(args, progress):
    from engine.files import output_file
    from lipsync.evaluate import evaluate, table
    from lipsync.sheet import write_sheet
    if args.sheet is not None:
        output_file(args.sheet, args.force, tuple(p for p in (args.video, args.against, args.portrait) if p))
    with progress.stage("measuring", 1, "video") as advance:
        facts = evaluate(args.video, against=args.against, portrait=args.portrait)
        advance(1)
    if args.sheet is not None:
        write_sheet(args.video, args.sheet, against=args.against)
    return facts, table(facts)


def run_train(args, progress):
    if args.stage in ("crops", "align", "codes") and args.data is None:
        raise UsageProblem(f"train {args.stage}: --data is missing.", hint="Give the folder that holds manifest.jsonl.", code="usage")
    tell = lambda *facts: progress.note(" ".join(json.dumps(f) if isinstance(f, dict) else f"{f:.4g}" for f in facts))
    facts = training(args, tell)
    return dict(stage=args.stage, facts=facts), f"{args.stage}: {json.dumps(facts)}"


def training(args, tell):
    """Run one stage of the training; returns what it measured."""
    from engine.train import align, core, phonetic
    from lipsync.train import codes, crops, motion, puppets, renderer
    budget = {} if args.minutes is None else dict(minutes=args.minutes)
    stages = dict(
        crops=lambda: crops.crops(args.data, args.out, args.workers, tell),
        align=lambda: align.align(args.data, args.out, args.workers, tell),
        puppets=lambda: puppets.puppets(args.out, workers=args.workers, progress=tell),
        codes=lambda: codes.codes(args.data, args.out),
        motion=lambda: motion.train(args.out, seed=args.seed, report=tell, **budget),
        phonetic=lambda: phonetic.train(args.out, seed=args.seed, report=tell, **budget),
        core=lambda: core.train(args.out, seed=args.seed, report=tell, **budget),
        renderer=lambda: renderer.train(args.out, seed=args.seed, report=tell, **budget))
    return stages[args.stage]()


def run_models(args, progress):
    from engine.weights import embedded_path, manifest
    known = manifest()
    if args.action == "path":
        path = str(embedded_path(args.name or ""))
        return dict(name=args.name, path=path), path
    fields = ("licence", "source") if args.action == "licences" else ("bytes", "licence", "description")
    rows = {name: {f: entry.get(f) for f in fields} for name, entry in known.items()}
    return rows, "\n".join(f"{name}: " + ", ".join(str(v) for v in row.values()) for name, row in rows.items())


def run_doctor(args, progress):
    from engine.doctor import examine
    rows = examine()
    return rows, "\n".join(f"{'ok     ' if r['ok'] else 'missing'} {r['name']}: {r['detail']}" for r in rows)


RUNNERS = dict(animate=run_animate, evaluate=run_evaluate, train=run_train, models=run_models, doctor=run_doctor)


def fail(error, as_json, verbosity):
    """Tell an error in one sentence and a remedy; returns the exit code."""
    if verbosity >= 2:
        traceback.print_exc()
    if as_json:
        print(json.dumps(dict(ok=False, error=error.as_dict())))
    print(f"mouthpiece: {error}", file=sys.stderr)
    return int(error.exit_code)


def main(argv=None):
    """Run one command; returns the exit code. No traceback unless -vv."""
    argv = sys.argv[1:] if argv is None else list(argv)
    as_json, verbosity = "--json" in argv, 2 if "-vv" in argv else 0
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        args = build_parser().parse_args(argv)
        verbosity = args.verbose
        progress = Progress("none" if args.quiet else args.progress)
        result, line = RUNNERS[args.command](args, progress)
        print(json.dumps(dict(ok=True, result=result), default=str) if args.json else line)
        return int(ExitCode.DONE)
    except MouthpieceError as error:
        return fail(error, as_json, verbosity)
    except KeyboardInterrupt:
        print("mouthpiece: interrupted; nothing half-written is left.", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        return int(ExitCode.INTERNAL)
    except Exception as error:
        return fail(MouthpieceError(f"internal error: {type(error).__name__}: {error}.", hint="Run again with -vv and report what it shows."), as_json, verbosity)


if __name__ == "__main__":
    sys.exit(main())
