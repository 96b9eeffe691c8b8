"""`mouthpiece animate`."""

from functools import partial
from pathlib import Path

from engine.command import Command, Outcome, documented, output_flags
from engine.config import add_flags, read_preset
from engine.errors import UsageProblem
from engine.warm import warm
from lipsync.echomimic.options import EchoControls
from lipsync.options import AnimateOptions


def add(parser):
    """Adds the arguments of `animate`. Source: ours."""
    parser.add_argument("portrait", type=Path, metavar="PORTRAIT", help="picture with a face")
    parser.add_argument("sound", type=Path, nargs="?", metavar="SOUND", help="recording of speech or song; a video lends its sound; leave it out with --text")
    output_flags(parser)
    add_flags(parser.add_argument_group("animate"), AnimateOptions)
    add_flags(parser.add_argument_group("with --model echomimic or echomimic-acc"), EchoControls)


def engine_of(options, dry):
    """(load_models, animate) of the model asked for. dry: only look whether its weights are there. Source: ours."""
    if options.model == "mini":
        from lipsync.pipeline import animate, load_models

        return partial(warm, load_models), animate
    from lipsync.echomimic.pipeline import animate, check_speed
    from lipsync.echomimic.weights import at_hand, load_models

    def load(placement):
        if dry:
            return at_hand(options.model, options.weights)
        models = warm(load_models, placement, options.model, options.weights)
        check_speed(options, models)
        return models

    return load, animate


def run(args, progress):
    """Outcome of `animate`. Source: ours."""
    from engine.files import output_file
    from engine.inputs import look_at
    from engine.media import VIDEO_SUFFIXES
    from engine.provenance import marking_of
    from engine.report import sidecar_path
    from lipsync.options import options_of

    options = options_of(None if args.preset is None else read_preset(args.preset, "animate"), vars(args))
    if (args.sound is None) == (options.text is None):
        raise UsageProblem("animate: need a SOUND or --text, one of them.", hint="Run 'mouthpiece animate --help'.", code="usage")
    if options.text is None and options.voice is not None:
        raise UsageProblem(f"--voice {options.voice}: nothing is spoken, the sound is given.", hint="It belongs to --text; leave it out.", code="usage")
    inputs = (args.portrait,) if args.sound is None else (args.portrait, args.sound)
    output_file(args.output, args.force, inputs, VIDEO_SUFFIXES)
    sidecar = output_file(sidecar_path(args.output), args.force, inputs)
    look_at(pictures=(args.portrait,), sounds=(args.sound,))
    from engine.device import choose_device
    from lipsync.pipeline import prepare

    placement = choose_device(options.device)
    marking = marking_of(args, "animate", inputs)
    sound, articulation, speech = (args.sound, None, None) if options.text is None else args.speak(options.text, options.voice, options.seed)
    job = prepare(args.portrait, sound, options, articulation)
    load, animate = engine_of(options, args.dry_run)
    models = load(placement)
    if args.verbose:
        progress.note(f"{placement.device}: {placement.reason}")
        progress.note(" ".join(f"{name}={value}" for name, value in (options.settings() | job.plan()).items()))
    plan = job.plan()
    size = f"{plan['frames']} frames, {plan['duration_s']:.2f} s, {plan['width_px']}x{plan['height_px']}"
    if args.dry_run:
        result = {"dry_run": True, "output": str(args.output), "sidecar": str(sidecar), "settings": options.settings()}
        return Outcome(result | {"facts": plan}, f"would write {args.output}: {size}")
    facts = animate(job, args.output, models, placement, progress, overwrite=args.force)
    facts |= {} if speech is None else {"speech": speech}
    payload = documented(args.output, "animate", options, inputs, facts, marking)
    return Outcome(payload | {"output": str(args.output), "sidecar": str(sidecar)}, f"{args.output}: {size}")


COMMAND = Command("animate", "portrait + speech or song -> video", add, run)
