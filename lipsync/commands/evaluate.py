"""`mouthpiece evaluate`."""

from pathlib import Path

from engine.command import Command, Outcome


def add(parser):
    """Adds the arguments of `evaluate`. Source: ours."""
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument("--against", type=Path, metavar="VIDEO", help="the real clip of the same sound")
    parser.add_argument("--portrait", type=Path, metavar="IMAGE", help="the picture it was made from")
    parser.add_argument("--sheet", type=Path, metavar="OUT.png", help="write a contact sheet: frames, waveform, mouth curve")
    parser.add_argument("--force", action="store_true", help="replace a sheet that is there")


def run(args, progress):
    """Outcome of `evaluate`. Source: ours."""
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
    return Outcome(facts, table(facts))


COMMAND = Command("evaluate", "sync, stillness, identity, sharpness of a video in numbers", add, run)
