"""What a command is, and what all commands that write an output share."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from engine.errors import ExitCode
from engine.provenance import marking_flags


class Outcome(NamedTuple):
    """What a command answers.

    result: JSON-ready, for --json.  lines: the same for people.  exit_code: DONE, or PARTLY when a part failed.
    Source: ours.
    """

    result: object
    lines: str
    exit_code: ExitCode = ExitCode.DONE


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    name: as typed.  help: one line.
    add: called with an argparse parser, to which it adds arguments.
    run: called with the parsed arguments and a Progress; gives an Outcome.
    loud: True lets native libraries be heard on standard error.
    Source: ours.
    """

    name: str
    help: str
    add: Callable
    run: Callable
    loud: bool = False


def output_flags(parser, place="OUT.mp4"):
    """Adds -o, --preset, --force, --dry-run, and the options of provenance.

    parser: argparse parser.  place: how help pages write the output.
    Source: ours.
    """
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=place)
    parser.add_argument("--preset", help="TOML file, side-car of an earlier result, or the name of a packaged preset")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    marking_flags(parser)


def documented(output, command, options, inputs, facts, marking=None):
    """Marks a finished output and writes its side-car; gives the side-car's contents. Without them there is no output either.

    output: Path.  command: its name.  options: option dataclass with a seed.
    inputs: paths of the files read.  facts: dict, what was measured.
    marking: provenance.Marking, from marking_of(args, ...); None marks with the installation's own key.
    Raises what provenance.mark and write_sidecar raise.
    Source: ours.
    """
    from engine.provenance import Marking, mark, place_of_mark
    from engine.report import report_of, write_sidecar
    from engine.signing import credentials

    try:
        payload = report_of(command, options.settings(), options.seed, inputs, facts)
        payload["provenance"] = mark(output, payload, marking or Marking(credentials()), inputs)
        write_sidecar(output, payload)
        return payload
    except BaseException:
        for path in {output, place_of_mark(output)}:
            path.unlink(missing_ok=True)
        raise


def document(value):
    """One line of strict JSON: what is no number becomes null, paths and fractions text. Source: RFC 8259."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def plain(value):
    """The value as JSON knows it: dicts, lists, text, numbers, null. Source: ours."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # arrays and numbers of numpy and torch
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path | Fraction) else value
