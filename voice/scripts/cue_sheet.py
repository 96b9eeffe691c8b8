"""Cue sheets: CSV and TAB tables of studios, read by the names of their columns."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from fractions import Fraction
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import Line, Remark, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.script_format import Match
from mouthpiece.voice.scripts.timestamps import format_timestamp, parse_timecode, parse_timestamp

if TYPE_CHECKING:
    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

SUFFIXES = (".csv", ".tsv", ".tab")
COLUMNS = {  # field -> names of columns, lower case without signs; earlier names win
    "id": ("cue", "cue number", "cue no", "cue id", "id", "number", "no", "nr", "line", "loop", "event", "index"),
    "speaker": ("character", "speaker", "role", "name", "actor", "character name", "speaker id"),
    "start": (
        *("start", "tc in", "in", "timecode in", "time in", "start time", "start tc", "begin", "tcin", "in time"),
        *("start ms", "start s"),
    ),
    "end": (
        *("end", "tc out", "out", "timecode out", "time out", "end time", "end tc", "stop", "tcout", "out time"),
        *("end ms", "end s"),
    ),
    "duration": ("duration", "length", "dur", "duration ms", "duration s"),
    "text": (
        *("translation", "translated text", "dub text", "target text", "adaptation", "text", "dialogue", "dialog"),
        *("line text", "target", "transcription", "transcript", "original", "original text", "source text", "source"),
    ),
    "original": (
        *("original", "original text", "source text", "source", "transcription", "transcript", "original dialogue"),
    ),
    "alternate": ("alternate text", "alternate", "alt text", "alt"),
    "language": ("language", "lang", "locale"),
    "on_screen": ("on screen", "on off screen", "on off", "onscreen", "screen", "on off camera"),
    "prefix": ("prefix",),
    "reason": ("reason code", "reason"),
    "track": ("track",),
    "done": ("done",),
    "notes": ("notes", "note", "comment", "comments", "direction"),
    "engineer": ("engineer notes", "engineer note"),
}
_NOTE_COLUMNS = ("alternate", "prefix", "reason", "engineer", "track")  # kept as "name: value" rows of the notes
_UNITS = {
    **dict.fromkeys(("ms", "milliseconds", "msec"), Fraction(1, 1000)),
    **dict.fromkeys(("s", "sec", "secs", "seconds"), Fraction(1)),
}
_NUMBER = re.compile(r"\d+([.,]\d+)?")
_HEADER_ROWS = 25  # the names of columns stand in one of these
_MIN_WHOLE_MS = 100  # cues whose median length is a whole number this large are in milliseconds, not seconds
_MAX_CELL_CHARACTERS = 16 * 2**20
_ON_SCREEN_WORDS = {
    **dict.fromkeys(("on", "yes", "true", "x", "oncamera", "onscreen"), "on"),
    **dict.fromkeys(("off", "no", "false", "os", "vo", "offcamera", "offscreen"), "off"),
    "onoff": "on_off",
    "offon": "off_on",
}
WRITTEN_COLUMNS = ("cue", "character", "start", "end", "text", "original", "language", "on_screen", "notes")
_HINT = (
    "A cue sheet needs a row of column names with at least a start ('tc in'), "
    "an end ('tc out') or duration, and a text."
)


class Header(NamedTuple):
    """The row with the names of columns.

    delimiter: between cells.  row: its number, from 0.  columns: {field of COLUMNS: index of its column}.
    names: of all columns, normalised.
    """

    delimiter: str
    row: int
    columns: dict[str, int]
    names: list[str]


class _TimeFormat(NamedTuple):
    """How times of a sheet are read: seconds in a plain number, frames a second of timecodes (None when unknown)."""

    unit: Fraction
    rate: Fraction | None


def sniff(text: str, suffix: str) -> Match:
    """Recognise a cue sheet by its row of column names; the suffix tells it from the formats that it may quote."""
    if find_header(text) is None:
        return Match.NO
    return Match.YES if suffix in SUFFIXES else Match.MAYBE


def read(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of a cue sheet. Raises what `parse_cue_sheet` raises."""
    return parse_cue_sheet(file.text, file.name, options.cue_rate)


def write(script: Script, suffix: str) -> str:
    """Write a cue sheet that reads back with everything a line holds; return its text.

    script: Script with times, kept to the millisecond.
    suffix: ".csv" puts commas between cells, others put tabs.
    """
    out = io.StringIO()
    table = csv.writer(out, delimiter="," if suffix == ".csv" else "\t", lineterminator="\n")
    table.writerow(WRITTEN_COLUMNS)
    for line in script.lines:
        times = (format_timestamp(line.start), format_timestamp(line.end))
        texts = (clean_text(line.text), line.original)
        table.writerow((line.id, line.speaker, *times, *texts, line.language, line.on_screen, line.notes))
    return out.getvalue()


def find_header(text: str) -> Header | None:
    """Find the row with the names of columns; None where there is none.

    text: of the whole file.
    The delimiter is the one under which most names are known.
    """
    head = "".join(text.splitlines(True)[: _HEADER_ROWS * 2])
    best = None
    for delimiter in ("\t", ";", ",", "|"):
        for number, row in enumerate(_split_rows(head, delimiter)[:_HEADER_ROWS]):
            names = [_normalize_column(cell) for cell in row]
            known = {field: [names.index(n) for n in COLUMNS[field] if n in names] for field in COLUMNS}
            columns = {field: places[0] for field, places in known.items() if places}
            timed = "start" in columns and ("end" in columns or "duration" in columns)
            if timed and "text" in columns and (best is None or len(columns) > len(best.columns)):
                best = Header(delimiter, number, columns, names)
    return best


def _split_rows(text: str, delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        return []


def _normalize_column(cell: str) -> str:
    """Normalise the name of a column: lower case, single spaces for signs."""
    return re.sub(r"[\W_]+", " ", cell).strip().lower()


def parse_cue_sheet(text: str, name: str, rate: Fraction | None = None) -> Script:
    """Parse the text of a cue sheet to a Script.

    text: of the whole file.
    name: of the file.
    rate: frames a second of its timecodes; None when unknown.
    Times are "HH:MM:SS:FF" (';' for dropped numbers), clocks with milliseconds, seconds, or milliseconds; the header
    may name the unit.
    Raises InvalidInputError for no header or a time that cannot be read, UsageError for timecodes of an unknown rate.
    Source: columns that Cue Pro, EdiCue and ElevenLabs exchange.
    """
    header = find_header(text)
    if header is None:
        raise InvalidInputError(f"{name}: no row with the names of columns.", hint=_HINT, code="no_header")
    rows = _read_table(text, header.delimiter, name)[header.row + 1 :]
    numbered = [(n, row) for n, row in enumerate(rows, header.row + 2) if any(cell.strip() for cell in row)]
    columns = header.columns
    cells = [{field: row[c].strip() if c < len(row) else "" for field, c in columns.items()} for _, row in numbered]
    unit, note = _detect_unit(cells, header)
    ids = make_unique_ids([cell.get("id", "") for cell in cells])
    times = _TimeFormat(unit, rate)
    lines = tuple(_parse_line(i, cell, f"{name}, row {n}", times) for i, cell, (n, _) in zip(ids, cells, numbered))
    if columns.get("original") == columns["text"]:
        lines = tuple(replace(line, original="") for line in lines)
    return Script(lines, source=name, remarks=(Remark("unit", f"{name}: {note}"),) if note else ())


def _read_table(text: str, delimiter: str, name: str) -> list[list[str]]:
    """Read all rows. Raises InvalidInputError for what is not a table."""
    previous = csv.field_size_limit(_MAX_CELL_CHARACTERS)
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=False))
    except csv.Error as error:
        raise InvalidInputError(
            f"{name}: not a table ({error}).", hint="Export it again as CSV.", code="bad_table"
        ) from error
    finally:
        csv.field_size_limit(previous)


def _detect_unit(cells: list[dict[str, str]], header: Header) -> tuple[Fraction, str]:
    """Detect the seconds in a plain number; return them and a note where they are a guess."""
    words = reversed(header.names[header.columns["start"]].split())
    named = next((_UNITS[word] for word in words if word in _UNITS), None)
    pairs = [(cell["start"], cell.get("end") or cell.get("duration", "")) for cell in cells]
    whole = [(int(a), int(b)) for a, b in pairs if a.isdecimal() and b.isdecimal()]
    decimals = any("." in cell["start"] and cell["start"].replace(".", "").isdecimal() for cell in cells)
    if named is not None or not whole or decimals:
        return named or Fraction(1), ""
    lengths = [b if "end" not in header.columns else b - a for a, b in whole]
    if median(lengths) >= _MIN_WHOLE_MS:
        return _UNITS["ms"], "times without a unit read as milliseconds."
    return _UNITS["s"], "times without a unit read as seconds."


def _parse_line(line_id: str, cell: dict[str, str], where: str, times: _TimeFormat) -> Line:
    """Parse the cells of one row, by field. where: file and row, for errors."""
    start = _parse_time(cell["start"], where, times)
    if cell.get("end"):
        end = _parse_time(cell["end"], where, times)
    else:
        end = start + _parse_time(cell.get("duration", ""), where, times)
    notes = [cell.get("notes", "")] + [f"{field}: {cell[field]}" for field in _NOTE_COLUMNS if cell.get(field)]
    return Line(
        line_id,
        cell.get("speaker", ""),
        start,
        end,
        clean_text(cell["text"]),
        language=cell.get("language", ""),
        on_screen=_ON_SCREEN_WORDS.get(re.sub(r"[\W_]+", "", cell.get("on_screen", "")).lower(), ""),
        original=clean_text(cell.get("original", "")),
        notes="\n".join(filter(None, notes)),
    )


def _parse_time(text: str, where: str, times: _TimeFormat) -> Fraction:
    """Parse a time to seconds. where: file and row, for errors."""
    if _NUMBER.fullmatch(text):
        return Fraction(text.replace(",", ".")) * times.unit
    time = parse_timestamp(text) if text.count(":") < 3 else None
    if time is None or ";" in text:
        time = parse_timecode(text, times.rate)
    if time is None:
        hint = "Times are HH:MM:SS:FF, HH:MM:SS.mmm, seconds or milliseconds."
        raise InvalidInputError(f"{where}: '{text}' is not a time.", hint=hint, code="bad_time")
    return time
