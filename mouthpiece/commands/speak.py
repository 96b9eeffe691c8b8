"""`mouthpiece speak`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import add_output_flags, build_command
from mouthpiece.engine.option_flags import add_option_groups
from mouthpiece.speak import SPEAK
from mouthpiece.voice.options import SpeakOptions

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `speak`."""
    from mouthpiece.voice.scripts.formats import describe_formats

    parser.add_argument(
        "video", type=Path, nargs="?", metavar="VIDEO", help="film, or its sound alone; leave it out with --text"
    )
    parser.add_argument(
        "script",
        type=Path,
        nargs="?",
        metavar="SCRIPT",
        help=describe_formats(),
    )
    parser.add_argument("--text", help="speak this text instead of a script")
    add_output_flags(parser, "OUT.wav")
    add_option_groups(parser, {"speak": SpeakOptions})


COMMAND = build_command(SPEAK, "speech for a video from its transcript, or for a text", add_arguments)
