"""`mouthpiece sound`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import add_output_flags, build_command
from mouthpiece.engine.option_flags import add_option_groups
from mouthpiece.sound import SOUND
from mouthpiece.voice.mmaudio.options import SoundOptions

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sound`."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="video that gets a soundtrack")
    add_output_flags(parser, "OUT.mp4|OUT.wav")
    parser.add_argument(
        "--accept-licence",
        action="store_true",
        help="the licences of the public weights were read and are accepted; noted once",
    )
    add_option_groups(parser, {"sound": SoundOptions})


COMMAND = build_command(SOUND, "silent video -> soundtrack, by public MMAudio weights", add_arguments)
