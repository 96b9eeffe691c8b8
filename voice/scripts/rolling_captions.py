"""Rolling captions: rows that stay in the picture while the next one comes are read once, at their own time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.voice.scripts.script import Line, Remark
from mouthpiece.voice.scripts.speaker_prefix import split_speakers

if TYPE_CHECKING:
    from mouthpiece.voice.scripts.script import Script

_MAX_GAP_S = Fraction(1, 2)  # between two cues of which the second still shows rows of the first
_MAX_WORD_S = 1  # a cue that is there for one word
_MIN_CARRIES = 2  # pairs of cues that share rows, where some cue adds a row or a word
_MIN_REPEATS = 4  # pairs of equal cues, where none adds anything: one word after the other is highlighted
_CARRY_SHARE = Fraction(1, 2)  # of all pairs that follow each other
_REPEAT_SHARE = Fraction(7, 10)
_WINDOW_SHARE = Fraction(4, 5)  # of lines that stay until the line after the next comes
_WINDOW_TOLERANCE_S = Fraction(1, 10)
_MIN_WINDOW_LINES = 4
_FIRST_UNSPACED = "\u2e80"  # from here on scripts are written without spaces between words

Row = frozenset[str]  # a row as it is shown, with and without the speaker before it


@dataclass(frozen=True)
class _Carry:
    """What a cue shows again of the cue before it.

    rows: how many of its first rows.  grown: words that were added to the last of them.  is_all: nothing else is in it.
    is_telling: one of the two has several rows or lasts no longer than a word; lines of a song are also sung twice.
    """

    rows: int
    grown: str = ""
    is_all: bool = False
    is_telling: bool = False

    @property
    def adds(self) -> bool:
        """Whether the cue also shows something new."""
        return bool(self.grown) or not self.is_all


def unroll_captions(script: Script) -> Script:
    """Unroll the captions of a Script where rows stay in the picture over several cues; return others unchanged.

    YouTube's automatic captions and the roll-up captions of television show each row two or three times, captions that
    are painted on show a row again with every word. Each row becomes one line, from the cue that first shows it; a
    remark says so. Where every line merely stays until the one after the next, its end becomes the next one's start.
    """
    carries = [_find_carry(before, line) for before, line in zip(script.lines, script.lines[1:])]
    if not _is_rolling(carries):
        return _clip_two_row_windows(script)
    lines = _unroll_lines(script.lines, [None, *carries])
    ids = {line.id for line in lines}
    remarks = tuple(remark for remark in script.remarks if not remark.line_id or remark.line_id in ids)
    note = f"{script.source}: rolling captions; {len(script.lines)} cues hold {len(lines)} lines, each read once."
    return replace(script, lines=lines, remarks=(*remarks, Remark("format", note)))


def _is_rolling(carries: Sequence[_Carry | None]) -> bool:
    """Decide from all pairs of cues that follow each other; None for a pair that does not."""
    pairs = [carry for carry in carries if carry is not None]
    carried = [carry for carry in pairs if carry.rows and carry.is_telling]
    if any(carry.adds for carry in carried):
        return len(carried) >= _MIN_CARRIES and len(carried) >= _CARRY_SHARE * len(pairs)
    return len(carried) >= _MIN_REPEATS and len(carried) >= _REPEAT_SHARE * len(pairs)


def _find_carry(before: Line, line: Line) -> _Carry | None:
    """Find what a line shows again of the line before it; None where it does not follow at once or has no text."""
    if before.start is None or before.end is None or line.start is None or line.end is None:
        return None
    if not before.text or not line.text:
        return None
    if not before.start <= line.start <= before.end + _MAX_GAP_S:
        return None
    old, new = _list_rows(before), _list_rows(line)
    is_telling = len(old) + len(new) > 2 or min(before.end - before.start, line.end - line.start) <= _MAX_WORD_S
    for count in range(min(len(old), len(new)), 0, -1):
        if all(a & b for a, b in zip(old[-count:-1], new[: count - 1])):
            if old[-1] & new[count - 1]:
                return _Carry(count, "", count == len(new), is_telling)
            grown = _find_growth(old[-1], new[count - 1])
            if grown:
                return _Carry(count, grown, count == len(new), is_telling)
    return _Carry(0)


def _list_rows(line: Line) -> list[Row]:
    """List the rows of a line, the first one with and without its speaker."""
    first, *others = line.text.split("\n")
    shown = {first, f"{line.speaker}: {first}"} if line.speaker else {first}
    return [frozenset(shown), *(frozenset((row,)) for row in others)]


def _find_growth(old: Row, new: Row) -> str:
    """Find the words by which a row has grown; "" where it is another row."""
    for before in old:
        for after in new:
            rest = after[len(before) :]
            whole = not (before[-1].isalnum() and rest[:1].isalnum()) or rest[:1] >= _FIRST_UNSPACED
            if after.startswith(before) and rest.strip() and whole:
                return rest
    return ""


def _unroll_lines(lines: Sequence[Line], carries: Sequence[_Carry | None]) -> tuple[Line, ...]:
    """Make one line of every row that is new. carries: of each line with the one before it."""
    unrolled: list[Line] = []
    for line, carry in zip(lines, carries):
        if not line.text:
            continue
        if carry is None or not carry.rows:
            unrolled.append(line)
            continue
        rows = line.text.split("\n")[carry.rows :]
        unrolled[-1] = _extend_line(unrolled[-1], line, carry.grown, bool(rows))
        if rows:
            speaker, text = split_speakers(["\n".join(rows)])[0]
            unrolled.append(replace(line, speaker=speaker or line.speaker, text=text))
    return tuple(unrolled)


def _extend_line(shown: Line, line: Line, grown: str, is_followed: bool) -> Line:
    """Extend a line by a cue that still shows it: by the words that came, to the cue's end, or to the next row's start.

    grown: words that were added.
    is_followed: True where the cue also shows a further row.
    """
    ends = [time for time in (shown.end, line.start if is_followed and not grown else line.end) if time is not None]
    return replace(shown, text=shown.text + grown, end=min(ends) if is_followed and not grown else max(ends))


def _clip_two_row_windows(script: Script) -> Script:
    """Clip lines that stay until the line after the next comes, as in a window of two rows, to the next one's start."""
    times = [line.times for line in script.lines]
    spans = [span for span in times if span is not None]
    if len(spans) < max(_MIN_WINDOW_LINES, len(times)):
        return script
    overlaps = [end > after > start for (start, end), (after, _) in zip(spans, spans[1:])]
    staying = [
        overlap and abs(end - last) <= _WINDOW_TOLERANCE_S
        for overlap, (_, end), (last, _) in zip(overlaps, spans, spans[2:])
    ]
    if sum(staying) < _WINDOW_SHARE * len(staying):
        return script
    lines = [
        replace(line, end=after) if overlap else line
        for line, overlap, (after, _) in zip(script.lines, overlaps, spans[1:])
    ]
    note = f"{script.source}: every row stays while the next one is spoken; each line ends where the next begins."
    return replace(script, lines=(*lines, script.lines[-1]), remarks=(*script.remarks, Remark("format", note)))
