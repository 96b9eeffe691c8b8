"""`mouthpiece animate`."""

from pathlib import Path

from engine.command import Command, Outcome, documented, output_flags
from engine.config import add_flags, read_preset
from lipsync.options import AnimateOptions


def add(parser):
    """Adds the arguments of `animate`. Source: ours."""
    parser.add_argument("portrait", type=Path, metavar="PORTRAIT", help="picture with a face")
    parser.add_argument("sound", type=Path, metavar="SOUND", help="recording of speech or song; a video lends its sound")
    output_flags(parser)
    add_flags(parser.add_argument_group("animate"), AnimateOptions)


def run(args, progress):
    """Outcome of `animate`. Source: ours."""
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
        return Outcome(result | {"facts": plan}, f"would write {args.output}: {size}")
    facts = animate(job, args.output, models, placement, progress, overwrite=args.force)
    payload = documented(args.output, "animate", options, inputs, facts)
    return Outcome(payload | {"output": str(args.output), "sidecar": str(sidecar)}, f"{args.output}: {size}")


COMMAND = Command("animate", "portrait + speech or song -> video", add, run)
