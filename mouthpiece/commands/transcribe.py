"""`mouthpiece transcribe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import build_command
from mouthpiece.engine.option_flags import add_flags
from mouthpiece.transcribe import TRANSCRIBE, TranscribeOptions

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `transcribe`."""
    from mouthpiece.voice.scripts.formats import list_written_suffixes

    parser.add_argument("video", type=Path, metavar="VIDEO", help="video or recording with speech")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="SCRIPT.srt",
        help=f"{', '.join(list_written_suffixes())}; .json is a project",
    )
    parser.add_argument("--preset", help="TOML file, or side-car of an earlier result")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    add_flags(parser.add_argument_group("transcribe"), TranscribeOptions)


COMMAND = build_command(TRANSCRIBE, "video or recording with speech -> draft script with times", add_arguments)
