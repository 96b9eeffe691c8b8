"""What a command is, and what all commands that write an output share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import ExitCode
from mouthpiece.job import finalize_output

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.job import Result
    from mouthpiece.request import UseCase

__all__ = [
    "Command",
    "CommandResult",
    "add_output_flags",
    "add_provenance_flags",
    "build_command",
    "finalize_output",
    "to_json",
]


class CommandResult(NamedTuple):
    """What a command answers that is not a use case.

    document: JSON-ready, for --json.  summary: the same for people.  exit_code: DONE, or PARTLY when a part failed.
    """

    document: object
    summary: str
    exit_code: ExitCode = ExitCode.DONE


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    name: as typed.  help: one line.
    add: called with an argparse parser, to which it adds arguments.
    run: called with the parsed arguments and a Progress; gives an Outcome.
    loud: True lets native libraries be heard on standard error.
    """

    name: str
    help: str
    add: Callable
    run: Callable
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


def to_json(value: dict[str, Any]) -> str:
    """One line of strict JSON: what is no number becomes null, paths and fractions text. Source: RFC 8259."""
    return json.dumps(to_json_value(value), ensure_ascii=False, allow_nan=False)


def to_json_value(value):
    """The value as JSON knows it: dicts, lists, text, numbers, null."""
    if isinstance(value, dict):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(item) for item in value]
    if hasattr(value, "tolist"):  # arrays and numbers of numpy and torch
        return to_json_value(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path | Fraction) else value
