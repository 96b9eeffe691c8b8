"""`mouthpiece voices`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, add_provenance_flags
from mouthpiece.engine.config import reject_unused_options
from mouthpiece.engine.option_flags import add_flags
from mouthpiece.voices import SAMPLE, SampleOptions, list_available_voices

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress
    from mouthpiece.job import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voices`."""
    parser.add_argument("action", choices=("list", "sample"), help="list them, or hear one: a line -> OUT.wav")
    parser.add_argument(
        "--language",
        metavar="xx",
        help="list: only those of a language, such as en, en-gb or es; sample: its usual voice",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.wav", help="sample: where the line goes")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    add_provenance_flags(parser)
    add_flags(parser.add_argument_group("sample"), SampleOptions)


def run(args: argparse.Namespace, progress: Progress) -> Result:
    """Run `voices`."""
    if args.action == "sample":
        return SAMPLE.execute(SAMPLE.from_namespace(args), progress)
    unused = ("output", "force", *SAMPLE.option_names, "no_provenance", "consent", "signing_key", "signing_cert")
    reject_unused_options(vars(args), unused, "with voices list", "It belongs to voices sample; leave it out.")
    return list_available_voices(args.language)


COMMAND = Command("voices", "voices that can speak here, and how they sound", add_arguments, run)
