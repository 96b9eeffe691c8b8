"""SRT (SubRip), read and written with speakers.

pysubs2 1.8.1 loses words here: the last row of the last cue when it is a number, and every speaker on writing.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import Line, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.speaker_prefix import split_speakers
from mouthpiece.voice.scripts.timestamps import format_timestamp, parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

_STAMP = r"(?:\d{1,6}:)?\d{1,2}:\d{1,2}(?:[.,]\d{1,9})?"
TIMING = re.compile(rf"^[ \t]*({_STAMP})[ \t]*-+>[ \t]*({_STAMP})(?=\s|$)[^\n]*$", re.MULTILINE)
VOICE_TAG = re.compile(r"<v(?:\.[^\s>]*)?(?:[ \t]+([^>]*))?>")
MARKUP = re.compile(r"</?(?:[ibusvc]|font|ruby|rt|lang)(?:[\s.][^<>]*)?>|\{\\[^}]*\}", re.IGNORECASE)
TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^}]*\}")


def is_srt(text: str) -> bool:
    """True for text with a row of two times and an arrow."""
    found = TIMING.search(text)
    return bool(found and parse_timestamp(found[1]) is not None and parse_timestamp(found[2]) is not None)


def parse_srt_cues(text: str) -> list:
    """(id, start, end, rows) of every cue: times as Fractions, seconds; rows as one str, markup in it.

    text: str with "\\n" between rows.
    Source: ours; an index is a whole number alone in the row before the times.
    """
    stamps = list(TIMING.finditer(text))
    before, found = text[: stamps[0].start()] if stamps else "", []
    for k, stamp in enumerate(stamps):
        body = text[stamp.end() : stamps[k + 1].start() if k + 1 < len(stamps) else len(text)]
        number, before = _find_index(before, found), body
        if found and number:
            found[-1][3] = found[-1][3].rstrip("\n \t")[: -len(number)]
        found.append([number, parse_timestamp(stamp[1]), parse_timestamp(stamp[2]), body])
    return [(number, start, end, body.strip("\n")) for number, start, end, body in found]


def _find_index(before: str, found: list[list]) -> str:
    """The number in the last row before a timing, "" when that row is text."""
    rows = before.split("\n")
    if not rows[-1].strip():
        rows.pop()
    last = rows[-1].strip() if rows else ""
    alone = len(rows) < 2 or not rows[-2].strip()
    follows = bool(found) and found[-1][0].isdigit() and last.isdigit() and int(last) == int(found[-1][0]) + 1
    return last if last.isdigit() and last.isascii() and len(last) < 10 and (alone or follows) else ""


def read_srt(text: str, name: str) -> Script | None:
    """Script of an SRT file.

    text: str.  name: of the file.
    Speakers: "<v Name>" where the file has one, else what stands before a colon (speakers.named).
    Raises Refused for a time that cannot be.
    Source: ours; the format has no standard.
    """
    found = parse_srt_cues(text)
    for number, start, end, body in found:
        if start is None or end is None:
            raise InvalidInputError(
                f"{name}: cue {number or body[:20]!r} has a time beyond 59 minutes or seconds.", hint="Mend its times."
            )
    bodies = [body for *_, body in found]
    if any(VOICE_TAG.search(body) for body in bodies):
        spoken = [((VOICE_TAG.search(body) or [None, ""])[1] or "", strip_srt_markup(body)) for body in bodies]
    else:
        spoken = split_speakers([strip_srt_markup(body) for body in bodies])
    ids = make_unique_ids([number for number, *_ in found])
    lines = (
        Line(i, html.unescape(who).strip(), cue[1], cue[2], text) for i, cue, (who, text) in zip(ids, found, spoken)
    )
    return Script(tuple(lines), source=name)


def strip_srt_markup(body: str) -> str:
    """Text of a cue without the markup that players know; what else stands in angle brackets is text."""
    return clean_text(MARKUP.sub("", body))


def write_srt(script: Script) -> str:
    """Text of an SRT file that reads back with the same ids (where they are numbers in order), speakers, texts and
    milliseconds.

    script: Script with times.
    Speakers stand before a colon; where a reader would take something else for a speaker, in "<v Name>" instead.
    """
    wanted = [(line.speaker, clean_text(line.text)) for line in script.lines]
    text = _format_cues(
        script,
        lambda who, said: (
            f"{who}: {said}" if who and said else said or (who and f"<v {html.escape(who, quote=False)}>")
        ),
    )
    if [(line.speaker, line.text) for line in read_srt(text, "").lines] != wanted:
        text = _format_cues(
            script, lambda who, said: f"<v {html.escape(who, quote=False)}>{said}" if who else f"<v>{said}"
        )
    return text


def _format_cues(script: Script, speak: Callable) -> str:
    blocks = []
    for number, line in enumerate(script.lines, 1):
        start, end = (format_timestamp(time, ",") for time in (line.start, line.end))
        blocks.append(f"{number}\n{start} --> {end}\n{speak(line.speaker, clean_text(line.text))}\n")
    return "\n".join(blocks)
