"""`mouthpiece dub`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import add_output_flags, build_command
from mouthpiece.dub import DUB
from mouthpiece.engine.option_flags import add_option_groups
from mouthpiece.voice.options import DubOptions

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dub`."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="film")
    parser.add_argument(
        "script",
        type=Path,
        nargs="?",
        metavar="SCRIPT",
        help="script or project; without one a draft is written for you to edit",
    )
    add_output_flags(parser)
    add_option_groups(parser, {"dub": DubOptions})


COMMAND = build_command(DUB, "speak + mix with the bed + lips + mux, with a report", add_arguments)
