"""`mouthpiece lipsync`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult, add_output_flags, finalize_output
from mouthpiece.engine.config import add_option_groups, read_preset, resolve_options
from mouthpiece.lipsync.options import LipsyncOptions

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mouthpiece.engine.progress import Progress


def add_arguments(parser) -> None:
    """Adds the arguments of `lipsync`."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="film with a face")
    parser.add_argument("sound", type=Path, metavar="SOUND", help="its new sound; a video lends its own")
    parser.add_argument(
        "--lips-from",
        type=Path,
        metavar="SOUND",
        help="recording that the lips follow instead, such as the dialogue of a mix",
    )
    add_output_flags(parser)
    add_option_groups(parser, {"lipsync": LipsyncOptions})


def run(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `lipsync`."""
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.media.reading import VIDEO_SUFFIXES
    from mouthpiece.engine.provenance.manifest import make_marking
    from mouthpiece.engine.provenance.sidecar import get_sidecar_path

    options = resolve_options(
        LipsyncOptions, None if args.preset is None else read_preset(args.preset, "lipsync"), vars(args)
    )
    inputs = (args.video, args.sound) + (() if args.lips_from is None else (args.lips_from,))
    check_output_file(args.output, args.force, inputs, VIDEO_SUFFIXES)
    sidecar = check_output_file(get_sidecar_path(args.output), args.force, inputs)
    check_inputs(media=(args.video,), sounds=(args.sound, args.lips_from))
    from mouthpiece.engine.device import choose_device
    from mouthpiece.engine.weights.model_cache import get_cached_model
    from mouthpiece.lipsync.film.resync import prepare_lipsync, resync
    from mouthpiece.lipsync.portrait.pipeline import load_models

    placement = choose_device(options.device)
    marking = make_marking(args, "lipsync", inputs)
    job = prepare_lipsync(args.video, args.sound, options, lips_from=args.lips_from)
    models = partial(get_cached_model, load_models)(placement)
    plan = job.plan()
    if args.verbose:
        progress.note(f"{placement.device}: {placement.reason}")
        progress.note(" ".join(f"{name}={value}" for name, value in (options.settings() | plan).items()))
    if args.dry_run:
        result = {
            "dry_run": True,
            "output": str(args.output),
            "sidecar": str(sidecar),
            "settings": options.settings(),
            "facts": plan,
        }
        return CommandResult(
            result, f"would write {args.output}: {plan['width_px']}x{plan['height_px']} at {plan['rate']}"
        )
    facts = resync(job, args.output, models, placement, progress, overwrite=args.force)
    marking = marking.of(source=args.video, spans_s=facts["changed_s"])
    payload = finalize_output(args.output, "lipsync", options, inputs, facts, marking)
    for note in facts["notes"]:
        progress.note(note)
    return CommandResult(payload | {"output": str(args.output), "sidecar": str(sidecar)}, summarize(args.output, facts))


def summarize(output: Path, facts: dict[str, Any]) -> str:
    """One line for people."""
    if facts["copied"]:
        why = f" ({facts['notes'][0]})" if facts["notes"] else ""
        return f"{output}: {facts['frames']} frames, no lips changed, picture copied{why}"
    changed = sum(stop - start for start, stop in facts["changed_s"])
    return f"{output}: {facts['frames']} frames, {facts['width_px']}x{facts['height_px']}, lips changed for {changed:.2f} of {facts['duration_s']:.2f} s"


COMMAND = Command("lipsync", "move the lips of a video to new sound", add_arguments, run)
