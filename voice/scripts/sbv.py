"""SBV, the captions of YouTube, and SubViewer, which writes its times the same way."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import Line, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.script_format import Match
from mouthpiece.voice.scripts.speaker_prefix import split_speakers
from mouthpiece.voice.scripts.timestamps import parse_timestamp

if TYPE_CHECKING:
    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

_STAMP = r"\d{1,3}:\d{1,2}:\d{1,2}[.,]\d{1,3}"
_TIMING = re.compile(rf"^[ \t]*({_STAMP})[ \t]*,[ \t]*({_STAMP})[ \t]*$", re.MULTILINE)
_ROW_BREAK = re.compile(r"\[br\]", re.IGNORECASE)  # SubViewer's
_MARKUP = re.compile(r"</?[ibu]>|\{\\?[ybui](?::[ibu]+)?\}", re.IGNORECASE)
_TITLE = re.compile(r"^\[TITLE\][ \t]*(\S.*)$", re.MULTILINE | re.IGNORECASE)


def sniff(text: str, suffix: str) -> Match:
    """Recognise SBV: a row of two times with a comma between and nothing else."""
    return Match.YES if _TIMING.search(text) else Match.NO


def read(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of an SBV file. Raises InvalidInputError for impossible times."""
    return parse_sbv(file.text, file.name)


def parse_sbv(text: str, name: str) -> Script:
    """Parse the text of an SBV or SubViewer file to a Script; a cue ends where the times of the next one stand.

    text: with "\\n" between rows.  name: of the file.
    Speakers come from what stands before a colon (`split_speakers`).
    Raises InvalidInputError for a time that cannot be.
    """
    timings = list(_TIMING.finditer(text))
    bodies = [text[a.end() : b.start()] for a, b in zip(timings, timings[1:])]
    bodies += [text[timing.end() :] for timing in timings[-1:]]
    texts = [clean_text(html.unescape(_MARKUP.sub("", _ROW_BREAK.sub("\n", body)))) for body in bodies]
    lines = []
    ids = make_unique_ids([""] * len(texts))
    for line_id, timing, (speaker, said) in zip(ids, timings, split_speakers(texts)):
        start, end = parse_timestamp(timing[1]), parse_timestamp(timing[2])
        if start is None or end is None:
            raise InvalidInputError(
                f"{name}: '{timing[0].strip()}' has a time beyond 59 minutes or seconds.",
                hint="Mend its times.",
                code="bad_time",
            )
        lines.append(Line(line_id, speaker, start, end, said))
    title = _TITLE.search(text[: timings[0].start()] if timings else "")
    return Script(tuple(lines), title=clean_text(title[1]) if title else "", source=name)
