"""Commands of the command line: their type, and the flags they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress
    from mouthpiece.job import Result
    from mouthpiece.request import UseCase


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    name: as typed.  help: one line.
    add: adds the arguments to an argparse parser.
    run: runs the command with parsed arguments and a Progress.
    keep_native_output: True lets native libraries write to standard error.
    """

    name: str
    help: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Progress], Result]
    keep_native_output: bool = False


def build_command(use_case: UseCase, help: str, add_arguments: Callable[[argparse.ArgumentParser], None]) -> Command:
    """Build the command of a use case: its arguments make a Request, which is run."""

    def run(args: argparse.Namespace, progress: Progress) -> Result:
        return use_case.execute(use_case.from_namespace(args), progress, verbose=bool(getattr(args, "verbose", 0)))

    return Command(use_case.name, help, add_arguments, run)


def add_output_flags(parser: argparse.ArgumentParser, place: str = "OUT.mp4") -> None:
    """Add -o, --preset, --force, --dry-run, and the options of provenance.

    place: how help pages write the output.
    """
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=place)
    parser.add_argument("--preset", help="TOML file, side-car of an earlier result, or the name of a packaged preset")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    add_provenance_flags(parser)


def add_provenance_flags(parser: argparse.ArgumentParser) -> None:
    """Add --no-provenance, --consent, --signing-key and --signing-cert to an argparse parser."""
    group = parser.add_argument_group("provenance")
    group.add_argument(
        "--no-provenance", action="store_true", help="leave the output without mark; the side-car says so"
    )
    group.add_argument(
        "--consent", type=Path, metavar="FILE.json", help="who allowed what; expired or for something else is refused"
    )
    group.add_argument(
        "--signing-key", type=Path, metavar="KEY.pem", help="sign with this key instead of the installation's own"
    )
    group.add_argument(
        "--signing-cert", type=Path, metavar="CERT.pem", help="certificates of that key, the signer's first"
    )
