"""`mouthpiece lipsync`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import add_output_flags, build_command
from mouthpiece.engine.option_flags import add_option_groups
from mouthpiece.lip_sync import LIPSYNC
from mouthpiece.lipsync.options import LipsyncOptions

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `lipsync`."""
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


COMMAND = build_command(LIPSYNC, "move the lips of a video to new sound", add_arguments)
