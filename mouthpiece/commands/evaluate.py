"""`mouthpiece evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import build_command
from mouthpiece.engine.option_flags import add_former_flag
from mouthpiece.evaluate import EVALUATE
from mouthpiece.voice.asr.recognizers import REVIEW_CHOICES

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `evaluate`."""
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument(
        "--against", type=Path, metavar="VIDEO", help="the real clip of the same sound; of a dub: the film before it"
    )
    parser.add_argument("--portrait", type=Path, metavar="IMAGE", help="the picture it was made from")
    parser.add_argument(
        "--project",
        type=Path,
        metavar="PROJECT",
        help="VIDEO is a dub of this project; one in OUT.dub beside it is found",
    )
    parser.add_argument(
        "--recognizer",
        choices=REVIEW_CHOICES,
        help="of a dub: what recognises its lines; auto where it is not given",
    )
    add_former_flag(parser, "listen", "recognizer", choices=REVIEW_CHOICES)
    parser.add_argument(
        "--sheet", type=Path, metavar="OUT.png", help="write a contact sheet: frames, waveform, mouth curve"
    )
    parser.add_argument("--force", action="store_true", help="replace a sheet that is there")


COMMAND = build_command(
    EVALUATE, "sync, stillness, identity, sharpness of a video in numbers; of a dub its lines too", add_arguments
)
