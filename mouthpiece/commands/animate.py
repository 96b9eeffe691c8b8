"""`mouthpiece animate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult, add_output_flags, finalize_output
from mouthpiece.engine.config import add_flags, read_preset
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.weights.model_cache import get_cached_model
from mouthpiece.lipsync.echomimic.options import EchoMimicControls
from mouthpiece.lipsync.options import AnimateOptions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.progress import Progress
    from mouthpiece.lipsync.echomimic.weights import EchoMimicModels


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
    add_flags(parser.add_argument_group("animate"), AnimateOptions)
    add_flags(parser.add_argument_group("with --model echomimic or echomimic-acc"), EchoMimicControls)


def select_model(options: AnimateOptions, dry: bool) -> tuple[Callable, Callable]:
    """(load_models, animate) of the model asked for. dry: only look whether its weights are there."""
    if options.model == "mini":
        from mouthpiece.lipsync.portrait.pipeline import animate, load_models

        return partial(get_cached_model, load_models), animate
    from mouthpiece.lipsync.echomimic.pipeline import animate, check_speed
    from mouthpiece.lipsync.echomimic.weights import load_models, locate_files

    def load(placement: Placement) -> EchoMimicModels | None:
        if dry:
            return locate_files(options.model, options.weights)
        models = get_cached_model(load_models, placement, options.model, options.weights)
        check_speed(options, models)
        return models

    return load, animate


def run(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `animate`."""
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.media.containers import VIDEO_SUFFIXES
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
    from mouthpiece.lipsync.portrait.pipeline import prepare_animation

    placement = choose_device(options.device)
    marking = make_marking(args, "animate", inputs)
    sound, articulation, speech = (
        (args.sound, None, None) if options.text is None else args.speak(options.text, options.voice, options.seed)
    )
    job = prepare_animation(args.portrait, sound, options, articulation)
    load, animate = select_model(options, args.dry_run)
    models = load(placement)
    if args.verbose:
        progress.note(f"{placement.device}: {placement.reason}")
        progress.note(" ".join(f"{name}={value}" for name, value in (options.settings() | job.plan()).items()))
    plan = job.plan()
    size = f"{plan['frames']} frames, {plan['duration_s']:.2f} s, {plan['width_px']}x{plan['height_px']}"
    if args.dry_run:
        result = {"dry_run": True, "output": str(args.output), "sidecar": str(sidecar), "settings": options.settings()}
        return CommandResult(result | {"facts": plan}, f"would write {args.output}: {size}")
    facts = animate(job, args.output, models, placement, progress, overwrite=args.force)
    facts |= {} if speech is None else {"speech": speech}
    payload = finalize_output(args.output, "animate", options, inputs, facts, marking)
    return CommandResult(payload | {"output": str(args.output), "sidecar": str(sidecar)}, f"{args.output}: {size}")


COMMAND = Command("animate", "portrait + speech or song -> video", add_arguments, run)
