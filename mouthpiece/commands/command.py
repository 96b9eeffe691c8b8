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
from mouthpiece.engine.provenance.manifest import add_provenance_flags

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.config import Options
    from mouthpiece.engine.provenance.manifest import Marking


class CommandResult(NamedTuple):
    """What a command answers.

    result: JSON-ready, for --json.  lines: the same for people.  exit_code: DONE, or PARTLY when a part failed.
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
    """

    name: str
    help: str
    add: Callable
    run: Callable
    keep_native_output: bool = False


def add_output_flags(parser, place: str = "OUT.mp4") -> None:
    """Adds -o, --preset, --force, --dry-run, and the options of provenance.

    parser: argparse parser.  place: how help pages write the output.
    """
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=place)
    parser.add_argument("--preset", help="TOML file, side-car of an earlier result, or the name of a packaged preset")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    add_provenance_flags(parser)


def finalize_output(
    output: Path,
    command: str,
    options: Options,
    inputs: tuple[Path, ...],
    facts: dict[str, Any],
    marking: Marking | None = None,
) -> dict[str, Any] | None:
    """Marks a finished output and writes its side-car; gives the side-car's contents. Without them there is no output
    either.

    output: Path.  command: its name.  options: option dataclass with a seed.
    inputs: paths of the files read.  facts: dict, what was measured.
    marking: provenance.Marking, from marking_of(args, ...); None marks with the installation's own key.
    Raises what provenance.mark and write_sidecar raise.
    """
    from mouthpiece.engine.provenance.manifest import Marking, get_manifest_path, mark_output
    from mouthpiece.engine.provenance.sidecar import build_sidecar, write_sidecar
    from mouthpiece.engine.provenance.signing import load_credentials

    try:
        payload = build_sidecar(command, options.settings(), options.seed, inputs, facts)
        payload["provenance"] = mark_output(output, payload, marking or Marking(load_credentials()), inputs)
        write_sidecar(output, payload)
        return payload
    except BaseException:
        for path in {output, get_manifest_path(output)}:
            path.unlink(missing_ok=True)
        raise


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
