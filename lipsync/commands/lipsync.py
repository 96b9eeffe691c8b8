"""`mouthpiece lipsync`."""

from functools import partial
from pathlib import Path

from engine.command import Command, Outcome, documented, output_flags
from engine.config import add_flags, read_preset, resolve
from lipsync.options import LipsyncOptions


def add(parser):
    """Adds the arguments of `lipsync`. Source: ours."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="film with a face")
    parser.add_argument("sound", type=Path, metavar="SOUND", help="its new sound; a video lends its own")
    parser.add_argument("--lips-from", type=Path, metavar="SOUND", help="recording that the lips follow instead, such as the dialogue of a mix")
    output_flags(parser)
    add_flags(parser.add_argument_group("lipsync"), LipsyncOptions)


def run(args, progress):
    """Outcome of `lipsync`. Source: ours."""
    from engine.files import output_file
    from engine.inputs import look_at
    from engine.media import VIDEO_SUFFIXES
    from engine.provenance import marking_of
    from engine.report import sidecar_path

    options = resolve(LipsyncOptions, None if args.preset is None else read_preset(args.preset, "lipsync"), vars(args))
    inputs = (args.video, args.sound) + (() if args.lips_from is None else (args.lips_from,))
    output_file(args.output, args.force, inputs, VIDEO_SUFFIXES)
    sidecar = output_file(sidecar_path(args.output), args.force, inputs)
    look_at(media=(args.video,), sounds=(args.sound, args.lips_from))
    from engine.device import choose_device
    from engine.warm import warm
    from lipsync.pipeline import load_models
    from lipsync.resync import prepare, resync

    placement = choose_device(options.device)
    marking = marking_of(args, "lipsync", inputs)
    job = prepare(args.video, args.sound, options, lips=args.lips_from)
    models = partial(warm, load_models)(placement)
    plan = job.plan()
    if args.verbose:
        progress.note(f"{placement.device}: {placement.reason}")
        progress.note(" ".join(f"{name}={value}" for name, value in (options.settings() | plan).items()))
    if args.dry_run:
        result = {"dry_run": True, "output": str(args.output), "sidecar": str(sidecar), "settings": options.settings(), "facts": plan}
        return Outcome(result, f"would write {args.output}: {plan['width_px']}x{plan['height_px']} at {plan['rate']}")
    facts = resync(job, args.output, models, placement, progress, overwrite=args.force)
    marking = marking.of(source=args.video, spans_s=facts["changed_s"])
    payload = documented(args.output, "lipsync", options, inputs, facts, marking)
    for note in facts["notes"]:
        progress.note(note)
    return Outcome(payload | {"output": str(args.output), "sidecar": str(sidecar)}, summary(args.output, facts))


def summary(output, facts):
    """One line for people. Source: ours."""
    if facts["copied"]:
        why = f" ({facts['notes'][0]})" if facts["notes"] else ""
        return f"{output}: {facts['frames']} frames, no lips changed, picture copied{why}"
    changed = sum(stop - start for start, stop in facts["changed_s"])
    return f"{output}: {facts['frames']} frames, {facts['width_px']}x{facts['height_px']}, lips changed for {changed:.2f} of {facts['duration_s']:.2f} s"


COMMAND = Command("lipsync", "move the lips of a video to new sound", add, run)
