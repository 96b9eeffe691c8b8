"""`mouthpiece animate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.animate import ANIMATE
from mouthpiece.commands.command import add_output_flags, build_command
from mouthpiece.engine.option_flags import add_option_groups
from mouthpiece.lipsync.renderers import list_option_groups

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `animate`."""
    parser.add_argument("portrait", type=Path, metavar="PORTRAIT", help="picture with a face")
    parser.add_argument(
        "sound",
        type=Path,
        nargs="?",
        metavar="SOUND",
        help="recording of speech or song; a video lends its sound; leave it out with --text",
    )
    add_output_flags(parser)
    add_option_groups(parser, list_option_groups())


COMMAND = build_command(ANIMATE, "portrait + speech or song -> video", add_arguments)
