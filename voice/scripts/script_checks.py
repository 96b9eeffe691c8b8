"""Checks of a script: remarks on lines that need a look, and whether it belongs to the film."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import Line, Remark, Script
from mouthpiece.voice.scripts.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

_HOUR_S = 3600
_EAST_ASIAN = ("Cjk", "Hiragana", "Katakana", "Bopomofo")
_LATIN_FORMS = ("Fullwidth", "Feminine", "Masculine", "Modifier", "Mathematical")
_ROW_SHARE = 0.8  # of the letters of a row, which makes it a row in their writing system
_MIN_LETTERS = {"Chinese or Japanese": 2, "Hangul": 2}
_MIN_LETTERS_ELSEWHERE = 5


def align_to_film(script: Script, path: Path, duration: Fraction) -> Script:
    """Shift a script whose times start at a full programme hour to the start of the film; return others unchanged.

    script: Script.
    path: of the script file, for the error.
    duration: seconds of the film.
    Raises InvalidInputError when half of the lines or more start after the end of the film.
    """
    timed = [(line.start, line.end) for line in script.lines if line.start is not None and line.end is not None]
    if not timed:
        return script
    first, last = min(start for start, _ in timed), max(start for start, _ in timed)
    hours_s = int(first // _HOUR_S) * _HOUR_S
    if hours_s and first >= duration and min(end for _, end in timed) >= hours_s and last - hours_s < duration:
        note = f"{path.name}: its times start in hour {hours_s // _HOUR_S}; taken as the start of the film."
        lines = tuple(_shift_line(line, -hours_s) for line in script.lines)
        return replace(script, lines=lines, remarks=(*script.remarks, Remark("origin", note)))
    late = sum(start >= duration for start, _ in timed)
    if late * 2 >= len(timed) and late > 0:
        where = f"{late} of {len(timed)} lines start after the end of the film ({format_timestamp(duration)})"
        raise InvalidInputError(
            f"{path}: {where}; the first line is at {format_timestamp(first)}.",
            hint="Is this the script of another film?",
            code="other_film",
        )
    return script


def _shift_line(line: Line, seconds: int) -> Line:
    if line.start is None or line.end is None:
        return line
    return replace(line, start=line.start + seconds, end=line.end + seconds)


def check_script(
    script: Script, duration: Fraction | None = None, speakers: Collection[str] | None = None
) -> tuple[Remark, ...]:
    """Collect remarks on lines that a person should look at; nothing is changed.

    script: Script.
    duration: seconds of the film; None skips the check for cues beyond its end.
    speakers: names that have a voice; None skips the check for unknown ones.
    """
    remarks = []
    for line in script.lines:
        issues = _find_issues(line, duration, speakers)
        remarks += [Remark(kind, f"Line {line.id}: {issue}", line.id) for kind, issue in issues]
    return tuple(remarks + _find_overlaps(script.lines))


def _find_issues(line: Line, duration: Fraction | None, speakers: Collection[str] | None) -> Iterator[tuple[str, str]]:
    """Yield (kind of Remark, sentence) for one line."""
    if not line.text.strip():
        yield "empty", "no text; nothing will be spoken."
    systems = list_writing_systems(line.text)
    if len(systems) > 1:
        yield "two_scripts", f"its rows are in {' and '.join(systems)} script; a voice speaks one of them."
    if speakers is not None and line.speaker not in speakers:
        known = f"no voice is given for speaker '{line.speaker}'." if line.speaker else ""
        yield "unknown_speaker", known or "no speaker and no voice for it."
    if line.start is None or line.end is None:
        return
    span = f"{format_timestamp(line.start)} to {format_timestamp(line.end)}"
    if line.end < line.start:
        yield "reversed", f"it ends before it starts ({span})."
    elif line.end == line.start:
        yield "zero_length", f"it has no length ({span})."
    if duration is not None and max(line.start, line.end) > duration:
        yield "beyond_end", f"{span} goes beyond the end of the film ({format_timestamp(duration)})."


def list_writing_systems(text: str) -> list[str]:
    """List the writing systems of the rows of a text, such as ["Latin", "Cyrillic"], in their order.

    A row is in a system when nearly all of its letters are and when it has several of them: "OK" is no row of its own.
    Kana and Chinese characters are one system.
    """
    systems = []
    for row in text.split("\n"):
        letters = Counter(_get_writing_system(letter) for letter in row if letter.isalpha())
        if not letters:
            continue
        system, count = letters.most_common(1)[0]
        if count >= _ROW_SHARE * letters.total() and count >= _MIN_LETTERS.get(system, _MIN_LETTERS_ELSEWHERE):
            systems.append(system)
    return list(dict.fromkeys(systems))


def _get_writing_system(letter: str) -> str:
    """Get the writing system of a letter, the first word of its name in Unicode."""
    system = unicodedata.name(letter, "UNKNOWN").split("-")[0].split()[0].capitalize()
    return "Chinese or Japanese" if system in _EAST_ASIAN else "Latin" if system in _LATIN_FORMS else system


def _find_overlaps(lines: Sequence[Line]) -> list[Remark]:
    """List a remark for every line that starts while another still lasts."""
    timed = [(line.start, line.end, line) for line in lines if line.start is not None and line.end is not None]
    timed = sorted((entry for entry in timed if entry[1] > entry[0]), key=lambda entry: entry[:2])
    latest_end, latest_id, remarks = None, "", []
    for start, end, line in timed:
        if latest_end is not None and latest_end > start:
            overlap_s = float(min(latest_end, end) - start)
            note = f"Line {line.id}: it starts {overlap_s:.3f} s before line {latest_id} ends."
            remarks.append(Remark("overlap", note, line.id))
        if latest_end is None or end > latest_end:
            latest_end, latest_id = end, line.id
    return remarks
