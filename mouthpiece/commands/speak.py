"""`mouthpiece speak`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, add_output_flags
from mouthpiece.engine.config import add_option_groups
from mouthpiece.speak import SPEAK
from mouthpiece.voice.options import SpeakOptions

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress
    from mouthpiece.job import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `speak`."""
    parser.add_argument(
        "video", type=Path, nargs="?", metavar="VIDEO", help="film, or its sound alone; leave it out with --text"
    )
    parser.add_argument(
        "script",
        type=Path,
        nargs="?",
        metavar="SCRIPT",
        help="SRT, WebVTT, ASS, cue sheet, DAPT, plain text or project",
    )
    parser.add_argument("--text", help="speak this text instead of a script")
    add_output_flags(parser, "OUT.wav")
    add_option_groups(parser, {"speak": SpeakOptions})


def run(args: argparse.Namespace, progress: Progress) -> Result:
    """Run `speak`."""
    return SPEAK.execute(SPEAK.from_namespace(args), progress, verbose=bool(args.verbose))


COMMAND = Command("speak", "speech for a video from its transcript, or for a text", add_arguments, run)
