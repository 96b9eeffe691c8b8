"""A batch file as rows: JSON lines or CSV, every fault with its line."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import check_input_file

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

MAX_LINE_BYTES = 1 << 20
Faults = list[tuple[int, str]]  # (line, what is wrong)


class InvalidRowError(ValueError):
    """A row that cannot be used: what is wrong, in words that go after 'line N: '."""


@dataclass(frozen=True)
class BatchRow:
    """One row as written.

    line: of the file, from 1.
    fields: {name: text, number, bool or a list of those}; what was not given is left out.
    """

    line: int
    fields: dict[str, Any]


def read_batch_rows(path: Path | str) -> tuple[list[BatchRow], Faults]:
    """Read a batch file: its rows and its faults, pairs (line, what is wrong).

    path: .jsonl (one object a line) or .csv (names in the first line).
    Raises InvalidInputError for a file that does not exist, is of another kind, or has no row.
    """
    path = check_input_file(path, "batch file")
    if path.suffix.lower() not in (".jsonl", ".ndjson", ".csv"):
        raise InvalidInputError(
            f"{path}: cannot be read as '{path.suffix}'.",
            hint="Give JSON lines (.jsonl) or a table (.csv).",
            code="bad_batch",
        )
    read = _read_table if path.suffix.lower() == ".csv" else _read_json_lines
    rows, faults = read(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    if not rows and not faults:
        raise InvalidInputError(
            f"{path}: it has no row.", hint="Write one job a line; docs/batch.md shows some.", code="bad_batch"
        )
    return rows, faults


def _read_json_lines(data: bytes) -> tuple[list[BatchRow], Faults]:
    rows, faults = [], []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(BatchRow(number, _parse_object(line)))
        except InvalidRowError as fault:
            faults.append((number, str(fault)))
    return rows, faults


def _parse_object(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise InvalidRowError(f"{len(line)} bytes long; need at most {MAX_LINE_BYTES}")
    try:
        fields = json.loads(line.decode("utf-8"), object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        raise InvalidRowError("is not UTF-8") from error
    except RecursionError as error:
        raise InvalidRowError("is nested too deep") from error
    except ValueError as error:
        raise error if isinstance(error, InvalidRowError) else InvalidRowError(f"is not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise InvalidRowError('is not an object; need {"id": ..., "command": ..., "output": ...}')
    for name, value in fields.items():
        if not _is_scalar(value) and not (isinstance(value, list) and all(map(_is_scalar, value))):
            raise InvalidRowError(f"{name}: need text, a number, true, false, or a list of those")
    named = _reject_duplicates([(_get_field_name(name), value) for name, value in fields.items()])
    return {name: value for name, value in named.items() if value is not None}


def _get_field_name(title: str) -> str:
    """Get the name of a field from a title or key as people type it: "ID" is "id", "Head speed" "head_speed"."""
    return "_".join(title.lower().split())


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRowError(f"{name}: given twice")
    return dict(pairs)


def _reject_constant(text: str) -> None:
    raise InvalidRowError(f"{text} is not a number")


def _read_table(data: bytes) -> tuple[list[BatchRow], Faults]:
    """Read the rows of a CSV; the separator is comma, semicolon or tab, whichever the first line has most of."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return [], [(data[: error.start].count(b"\n") + 1, "is not UTF-8")]
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    rows: list[BatchRow] = []
    faults: Faults = []
    names: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return rows, faults
        except csv.Error as error:
            return rows, [*faults, (line, f"is not CSV ({error})")]
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = [_get_field_name(cell) for cell in cells]
            twice = sorted({name for name in names if names.count(name) > 1 or not name})
            if twice:
                return [], [(line, f"column '{twice[0]}': given twice or without a name")]
        elif len(cells) > len(names):
            faults.append((line, f"{len(cells)} cells; the first line names {len(names)}"))
        elif "\0" in "".join(cells):
            faults.append((line, "has a character of code 0 in it"))
        else:
            rows.append(BatchRow(line, {name: cell.strip() for name, cell in zip(names, cells) if cell.strip()}))
