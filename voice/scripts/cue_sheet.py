"""Cue sheets: CSV and TAB tables of studios, read by the names of their columns."""

from __future__ import annotations

import csv
import io
import re
from fractions import Fraction
from statistics import median

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import Line, Remark, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.timestamps import format_timestamp, parse_timecode, parse_timestamp

COLUMNS = {  # field -> names of columns, lower case without signs; earlier names win
    "id": ("cue", "cue number", "cue no", "cue id", "id", "number", "no", "nr", "line", "loop", "event", "index"),
    "speaker": ("character", "speaker", "role", "name", "actor", "character name", "speaker id"),
    "start": (
        "start",
        "tc in",
        "in",
        "timecode in",
        "time in",
        "start time",
        "start tc",
        "begin",
        "tcin",
        "in time",
        "start ms",
        "start s",
    ),
    "end": (
        "end",
        "tc out",
        "out",
        "timecode out",
        "time out",
        "end time",
        "end tc",
        "stop",
        "tcout",
        "out time",
        "end ms",
        "end s",
    ),
    "duration": ("duration", "length", "dur", "duration ms", "duration s"),
    "text": (
        "translation",
        "translated text",
        "dub text",
        "target text",
        "adaptation",
        "text",
        "dialogue",
        "dialog",
        "line text",
        "target",
        "transcription",
        "transcript",
        "original",
        "original text",
        "source text",
        "source",
    ),
    "original": (
        "original",
        "original text",
        "source text",
        "source",
        "transcription",
        "transcript",
        "original dialogue",
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
_NOTE_COLUMNS = (
    ("alternate", "alternate: "),
    ("prefix", "prefix: "),
    ("reason", "reason: "),
    ("engineer", "engineer: "),
    ("track", "track: "),
)
_UNITS = {
    "ms": Fraction(1, 1000),
    "milliseconds": Fraction(1, 1000),
    "msec": Fraction(1, 1000),
    "s": Fraction(1),
    "sec": Fraction(1),
    "secs": Fraction(1),
    "seconds": Fraction(1),
}
_NUMBER = re.compile(r"\d+([.,]\d+)?")
_HEADER_ROWS = 25
_MIN_WHOLE_MS = 100  # cues of whole numbers this long and longer in the middle are milliseconds, not seconds
_ON_SCREEN_WORDS = {
    "on": "on",
    "off": "off",
    "onoff": "on_off",
    "offon": "off_on",
    "yes": "on",
    "no": "off",
    "true": "on",
    "false": "off",
    "x": "on",
    "os": "off",
    "vo": "off",
    "oncamera": "on",
    "offcamera": "off",
    "onscreen": "on",
    "offscreen": "off",
}
WRITTEN_COLUMNS = ("cue", "character", "start", "end", "text", "original", "language", "on_screen", "notes")
_HINT = "A cue sheet needs a row of column names with at least a start ('tc in'), an end ('tc out') or duration, and a text."


def find_header(text: str) -> tuple[str, int, dict[str, int], list[str]] | None:
    """(delimiter, row number, {field: column}) of the row with the names of columns; None where there is none.

    text: str.
    Source: ours; the delimiter under which most names are known.
    """
    head = "".join(text.splitlines(True)[: _HEADER_ROWS * 2])
    best = None
    for delimiter in ("\t", ";", ",", "|"):
        for number, row in enumerate(_read_rows(head, delimiter)[:_HEADER_ROWS]):
            names = [_normalize_column(cell) for cell in row]
            columns = {
                field: next((names.index(n) for n in known if n in names), None) for field, known in COLUMNS.items()
            }
            columns = {field: column for field, column in columns.items() if column is not None}
            timed = "start" in columns and ("end" in columns or "duration" in columns)
            if timed and "text" in columns and (best is None or len(columns) > len(best[2])):
                best = delimiter, number, columns, names
    return best


def _read_rows(text: str, delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        return []


def _normalize_column(cell: str) -> str:
    """A column's name in small letters, single spaces for signs."""
    return re.sub(r"[\W_]+", " ", cell).strip().lower()


def read_cues(text: str, name: str, rate=None) -> Script | None:
    """Script of a cue sheet.

    text: str.  name: of the file.
    rate: Fraction, frames a second of its timecodes; None when not told.
    Times: "HH:MM:SS:FF" (';' for dropped numbers), clocks with milliseconds, seconds, or milliseconds; the header may
    name the unit.
    Raises Refused for no header or a time that cannot be read, UsageProblem for timecodes of an unknown rate.
    Source: columns that Cue Pro, EdiCue and ElevenLabs exchange.
    """
    found = find_header(text)
    if found is None:
        raise InvalidInputError(f"{name}: no row with the names of columns.", hint=_HINT, code="no_header")
    delimiter, skipped, columns, names = found
    previous = csv.field_size_limit(16 * 2**20)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=False))[skipped + 1 :]
    except csv.Error as error:
        raise InvalidInputError(
            f"{name}: no table ({error}).", hint="Export it again as CSV.", code="bad_table"
        ) from error
    finally:
        csv.field_size_limit(previous)
    numbered = [(n, row) for n, row in enumerate(rows, skipped + 2) if any(cell.strip() for cell in row)]
    cells = [{field: row[c].strip() if c < len(row) else "" for field, c in columns.items()} for _, row in numbered]
    unit, remarks = _detect_unit(cells, names, columns)
    ids = make_unique_ids([cell.get("id", "") for cell in cells])
    lines = [_parse_line(i, cell, f"{name}, row {n}", unit, rate) for i, cell, (n, _) in zip(ids, cells, numbered)]
    if "original" in columns and columns["original"] == columns["text"]:
        lines = [_strip_original(line) for line in lines]
    return Script(tuple(lines), source=name, remarks=tuple(Remark(kind, f"{name}: {said}") for kind, said in remarks))


def _detect_unit(cells: list[dict[str, str]], names: list[str], columns: dict[str, int]) -> tuple[Fraction, tuple]:
    """Seconds in a plain number, and what to say about it."""
    told = next((_UNITS[word] for word in reversed(names[columns["start"]].split()) if word in _UNITS), None)
    whole = [(cell["start"], cell.get("end") or cell.get("duration", "")) for cell in cells]
    whole = [(int(a), int(b)) for a, b in whole if a.isdecimal() and b.isdecimal()]
    if (
        told is not None
        or not whole
        or any("." in cell["start"] and cell["start"].replace(".", "").isdecimal() for cell in cells)
    ):
        return told or Fraction(1), ()
    lengths = [b if "end" not in columns else b - a for a, b in whole]
    if median(lengths) >= _MIN_WHOLE_MS:
        return Fraction(1, 1000), (("unit", "times without a unit read as milliseconds."),)
    return Fraction(1), (("unit", "times without a unit read as seconds."),)


def _parse_line(line_id: str, cell: dict[str, str], where: str, unit: Fraction, rate) -> Line | None:
    start = _parse_time(cell["start"], where, unit, rate)
    end = (
        _parse_time(cell["end"], where, unit, rate)
        if cell.get("end")
        else start + _parse_time(cell.get("duration", ""), where, unit, rate)
    )
    notes = [cell.get("notes", "")] + [label + cell[field] for field, label in _NOTE_COLUMNS if cell.get(field)]
    screen = _ON_SCREEN_WORDS.get(re.sub(r"[\W_]+", "", cell.get("on_screen", "")).lower(), "")
    said, original = clean_text(cell["text"]), clean_text(cell.get("original", ""))
    return Line(
        line_id,
        cell.get("speaker", ""),
        start,
        end,
        said,
        cell.get("language", ""),
        screen,
        original,
        "\n".join(filter(None, notes)),
    )


def _strip_original(line):
    from dataclasses import replace

    return replace(line, original="")


def _parse_time(text: str, where: str, unit: Fraction, rate) -> Fraction:
    if _NUMBER.fullmatch(text):
        return Fraction(text.replace(",", ".")) * unit
    time = parse_timestamp(text) if text.count(":") < 3 else None
    if time is None or ";" in text:
        time = parse_timecode(text, rate)
    if time is None:
        hint = "Times are HH:MM:SS:FF, HH:MM:SS.mmm, seconds or milliseconds."
        raise InvalidInputError(f"{where}: '{text}' is no time.", hint=hint, code="bad_time")
    return time


def write_cues(script: Script, delimiter: str = ",") -> str:
    """Text of a cue sheet that reads back with ids, speakers, milliseconds, originals, languages, on/off screen and
    notes.

    script: Script with times.
    delimiter: str, "," or a tab.
    """
    out = io.StringIO()
    table = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    table.writerow(WRITTEN_COLUMNS)
    for line in script.lines:
        times = (format_timestamp(line.start), format_timestamp(line.end))
        table.writerow(
            (
                line.id,
                line.speaker,
                *times,
                clean_text(line.text),
                line.original,
                line.language,
                line.on_screen,
                line.notes,
            )
        )
    return out.getvalue()
