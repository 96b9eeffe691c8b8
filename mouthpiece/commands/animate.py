"""`mouthpiece animate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult, add_output_flags, finalize_output
from mouthpiece.engine.config import add_flags, read_preset
from mouthpiece.engine.errors import UsageError
from mouthpiece.lipsync.renderers import get_renderer, list_option_groups

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress


def add_arguments(parser) -> None:
    """Adds the arguments of `animate`."""
    parser.add_argument("portrait", type=Path, metavar="PORTRAIT", help="picture with a face")
    parser.add_argument(
        "sound",
        type=Path,
        nargs="?",
        metavar="SOUND",
        help="recording of speech or song; a video lends its sound; leave it out with --text",
    )
    add_output_flags(parser)
    for title, options in list_option_groups():
        add_flags(parser.add_argument_group(title), options)


def run(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `animate`."""
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.media.reading import VIDEO_SUFFIXES
    from mouthpiece.engine.provenance.manifest import make_marking
    from mouthpiece.engine.provenance.sidecar import get_sidecar_path
    from mouthpiece.lipsync.options import resolve_animate_options

    options = resolve_animate_options(None if args.preset is None else read_preset(args.preset, "animate"), vars(args))
    if (args.sound is None) == (options.text is None):
        raise UsageError(
            "animate: need a SOUND or --text, one of them.", hint="Run 'mouthpiece animate --help'.", code="usage"
        )
    if options.text is None and options.voice is not None:
        raise UsageError(
            f"--voice {options.voice}: nothing is spoken, the sound is given.",
            hint="It belongs to --text; leave it out.",
            code="usage",
        )
    inputs = (args.portrait,) if args.sound is None else (args.portrait, args.sound)
    check_output_file(args.output, args.force, inputs, VIDEO_SUFFIXES)
    sidecar = check_output_file(get_sidecar_path(args.output), args.force, inputs)
    check_inputs(pictures=(args.portrait,), sounds=(args.sound,))
    from mouthpiece.engine.device import choose_device
    from mouthpiece.lipsync.portrait.animation_job import prepare_animation

    placement = choose_device(options.device)
    marking = make_marking(args, "animate", inputs)
    sound, articulation, speech = (
        (args.sound, None, None) if options.text is None else args.speak(options.text, options.voice, options.seed)
    )
    job = prepare_animation(args.portrait, sound, options, articulation)
    renderer = get_renderer(options.model)
    models = renderer.check(options, placement) if args.dry_run else renderer.load_models(options, placement)
    if args.verbose:
        progress.note(f"{placement.device}: {placement.reason}")
        progress.note(" ".join(f"{name}={value}" for name, value in (options.settings() | job.plan()).items()))
    plan = job.plan()
    size = f"{plan['frames']} frames, {plan['duration_s']:.2f} s, {plan['width_px']}x{plan['height_px']}"
    if args.dry_run:
        result = {"dry_run": True, "output": str(args.output), "sidecar": str(sidecar), "settings": options.settings()}
        return CommandResult(result | {"facts": plan}, f"would write {args.output}: {size}")
    facts = renderer.animate(job, args.output, models, placement, progress, overwrite=args.force)
    facts |= {} if speech is None else {"speech": speech}
    payload = finalize_output(args.output, "animate", options, inputs, facts, marking)
    return CommandResult(payload | {"output": str(args.output), "sidecar": str(sidecar)}, f"{args.output}: {size}")


COMMAND = Command("animate", "portrait + speech or song -> video", add_arguments, run)
