"""`mouthpiece verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command
from mouthpiece.engine.errors import ExitCode
from mouthpiece.job import Result

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `verify`."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="video, sound or picture; a .c2pa beside it is read too"
    )
    parser.add_argument("--trust", type=Path, metavar="ISSUERS.pem", help="certificates of issuers that you trust")


def run(args: argparse.Namespace, progress: Progress) -> Result:
    """Run `verify`: exit code 0 for marked and intact, 5 for anything else."""
    from mouthpiece.engine.provenance.verification import INTACT, format_verification, verify_file

    with progress.stage("verifying", 1, "file") as advance:
        report = verify_file(args.file, args.trust)
        advance(1)
    exit_code = ExitCode.DONE if report["state"] == INTACT else ExitCode.REFUSED
    return Result("verify", report, format_verification(report), report, exit_code=exit_code)


COMMAND = Command("verify", "provenance: what was generated, which seconds, by which model", add_arguments, run)
