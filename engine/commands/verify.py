"""`mouthpiece verify`."""

from pathlib import Path

from engine.command import Command, Outcome
from engine.errors import ExitCode


def add(parser):
    """Adds the arguments of `verify`. Source: ours."""
    parser.add_argument("file", type=Path, metavar="FILE", help="video, sound or picture; a .c2pa beside it is read too")
    parser.add_argument("--trust", type=Path, metavar="ISSUERS.pem", help="certificates of issuers that you trust")


def run(args, progress):
    """Outcome of `verify`: exit code 0 for marked and intact, 5 for anything else. Source: ours."""
    from engine.verification import INTACT, told, verify

    with progress.stage("verifying", 1, "file") as advance:
        found = verify(args.file, args.trust)
        advance(1)
    return Outcome(found, told(found), ExitCode.DONE if found["state"] == INTACT else ExitCode.REFUSED)


COMMAND = Command("verify", "provenance: what was generated, which seconds, by which model", add, run)
