"""Captions of broadcasters, SCC and EBU STL, read by ttconv with the start of the programme in mind."""

from __future__ import annotations

import io
import re
import struct
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import Line, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.script_format import Match
from mouthpiece.voice.scripts.speaker_prefix import split_speakers
from mouthpiece.voice.scripts.syllables import estimate_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

_SCC_SIGNATURE = "Scenarist_SCC"
_SCC_TIMECODE = re.compile(r"^(\d{2}):\d{2}:\d{2}([:;.,])\d{2}", re.MULTILINE)
_ROLL_UP = re.compile(r"\b(?:94|1[4c]|9c)(?:25|26|a7)\b", re.IGNORECASE)  # resume captioning in 2 to 4 rolling rows
_STL_SIGNATURE = re.compile(rb"[ -~]{3}STL\d\d\.\d\d")
_STL_GSI_BYTES = 1024
_STL_TTI_BYTES = 128
_STL_START = slice(256, 264)  # TCP, the timecode of the start of the programme, as HHMMSSFF
_STL_TIME_IN = slice(5, 9)  # TCI of a block, one byte each for hours, minutes, seconds and frames
_UNREADABLE = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError, AssertionError, struct.error)
_HOUR_S = 3600
_MAX_UNCHANGED_GAP_S = Fraction(1, 10)  # between two states of rolling rows


class _Cue(NamedTuple):
    """A cue: seconds, end None when nothing ends it, and its text."""

    start: Fraction
    end: Fraction | None
    text: str


def sniff_scc(text: str, suffix: str) -> Match:
    """Recognise SCC by its first row."""
    return Match.YES if text.lstrip().startswith(_SCC_SIGNATURE) else Match.NO


def sniff_ebu_stl(raw: bytes) -> bool:
    """Recognise EBU STL by the code of its frame rate, bytes 3 to 10."""
    return bool(_STL_SIGNATURE.match(raw))


def read_scc(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of an SCC file. Raises InvalidInputError for a broken one. Source: CTA-608."""
    from ttconv.scc import reader

    cues = _list_cues(_convert(lambda: reader.to_model(file.text), file.name))
    if _ROLL_UP.search(file.text):
        cues = _unroll(cues)
    stamps = list(_SCC_TIMECODE.finditer(file.text))
    if stamps and all(stamp[2] == ":" for stamp in stamps):
        hour = min(int(stamp[1]) for stamp in stamps)
        cues = _count_hours_as_clock(cues, hour, Fraction(1001, 1000))
    return _make_script(cues, file, options)


def read_ebu_stl(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of an EBU STL file; times count from the start that it states, where no cue is before it.

    Raises InvalidInputError for a broken one. Source: EBU Tech 3264.
    """
    from ttconv.stl import reader
    from ttconv.stl.config import STLReaderConfiguration

    config = STLReaderConfiguration(program_start_tc="TCP" if _starts_at_programme(file.raw) else None)
    model = _convert(lambda: reader.to_model(io.BytesIO(file.raw), config), file.name)
    return replace(_make_script(_list_cues(model), file, options), language=model.get_lang() or "")


def _starts_at_programme(raw: bytes) -> bool:
    """Say whether the start of the programme is stated, and no subtitle is before it."""
    stated = raw[_STL_START]
    blocks = range(_STL_GSI_BYTES, len(raw) - _STL_TTI_BYTES + 1, _STL_TTI_BYTES)
    starts = [tuple(raw[at : at + _STL_TTI_BYTES][_STL_TIME_IN]) for at in blocks]
    if not stated.isdigit() or not starts:
        return False
    return min(starts) >= tuple(int(stated[k : k + 2]) for k in range(0, 8, 2))


def _convert(read_model: Callable[[], Any], name: str) -> Any:
    """Run a reader of ttconv. Raises InvalidInputError where it fails."""
    try:
        model = read_model()
    except _UNREADABLE as error:
        raise InvalidInputError(
            f"{name}: its captions cannot be read ({error}).", hint="Export it again.", code="broken_script"
        ) from error
    return model


def _list_cues(document: Any) -> list[_Cue]:
    """List the paragraphs of a ttconv document with their absolute times."""
    from ttconv.model import P

    body = document.get_body()
    if body is None:
        return []
    cues = []
    for paragraph in (element for element in body.dfs_iterator() if isinstance(element, P)):
        text = clean_text("".join(_list_texts(paragraph)))
        start, end = paragraph.get_begin() or Fraction(0), paragraph.get_end()
        if text:
            cues.append(_Cue(Fraction(start), None if end is None else Fraction(end), text))
    return cues


def _list_texts(element: Any) -> list[str]:
    """List the texts in an element of a ttconv document, "\\n" for a break."""
    from ttconv.model import Br, Text

    if isinstance(element, Text):
        return [element.get_text()]
    if isinstance(element, Br):
        return ["\n"]
    return [text for child in element for text in _list_texts(child)]


def _unroll(cues: list[_Cue]) -> list[_Cue]:
    """Unroll captions that move up: of every state only the rows that the one before did not show."""
    unrolled: list[_Cue] = []
    before: _Cue | None = None
    for cue in cues:
        rows = cue.text.split("\n")
        fresh = rows
        if before is not None and before.end is not None and cue.start - before.end <= _MAX_UNCHANGED_GAP_S:
            shown = before.text.split("\n")
            kept = next((n for n in range(min(len(shown), len(rows)), 0, -1) if shown[-n:] == rows[:n]), 0)
            fresh = rows[kept:]
        if fresh:
            unrolled.append(cue._replace(text="\n".join(fresh)))
        elif unrolled:
            unrolled[-1] = unrolled[-1]._replace(end=cue.end)
        before = cue
    return unrolled


def _count_hours_as_clock(cues: list[_Cue], hour: int, factor: Fraction) -> list[_Cue]:
    """Count the full hours before a programme as 3600 s each, so that it begins at a full hour of the clock.

    hour: of the first timecode.  factor: seconds of real time in a second of timecode that drops no numbers.
    """
    surplus = hour * _HOUR_S * (factor - 1)
    return [cue._replace(start=cue.start - surplus, end=cue.end and cue.end - surplus) for cue in cues]


def _make_script(cues: list[_Cue], file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Make the Script of cues; one that nothing ends lasts as long as it takes to say it, at most to the next one."""
    lines = []
    ids = make_unique_ids([""] * len(cues))
    for k, (cue, (speaker, said)) in enumerate(zip(cues, split_speakers([cue.text for cue in cues]))):
        end = cue.end
        if end is None:
            later = [other.start for other in cues[k + 1 :] if other.start > cue.start]
            end = min([cue.start + estimate_duration(said), *later[:1]])
        lines.append(Line(ids[k], speaker, cue.start, end, said))
    return Script(tuple(lines), source=file.name)
