"""SRT (SubRip), read and written with speakers.

pysubs2 1.8.1 loses words here: the last row of the last cue when it is a number, and every speaker on writing.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import Line, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.script_format import Match
from mouthpiece.voice.scripts.speaker_prefix import split_speakers
from mouthpiece.voice.scripts.timestamps import format_timestamp, parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

_STAMP = r"(?:\d{1,6}:)?\d{1,2}:\d{1,2}(?:[.,]\d{1,9})?"
TIMING = re.compile(rf"^[ \t]*({_STAMP})[ \t]*-+>[ \t]*({_STAMP})(?=\s|$)[^\n]*$", re.MULTILINE)
VOICE_TAG = re.compile(r"<v(?:\.[^\s>]*)?(?:[ \t]+([^>]*))?>")
PLAYER_MARKUP = re.compile(r"</?(?:[ibusvc]|font|ruby|r[bpt]|rtc|lang)(?:[\s.][^<>]*)?>|\{\\[^}]*\}", re.IGNORECASE)
_RUBY = re.compile(r"<ruby(?:[\s.][^<>]*)?>.*?(?:</ruby\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_RUBY_TEXT = re.compile(  # its end tag may be missing before the next part of the annotation
    r"<(rtc|rt|rp)(?:[\s.][^<>]*)?>.*?(?:</\1\s*>|(?=</?(?:ruby|rb|rp|rt|rtc)[\s.>])|\Z)", re.IGNORECASE | re.DOTALL
)
_RUBY_TEXT_ALONE = re.compile(r"<(rtc|rt|rp)(?:[\s.][^<>]*)?>[^<>]*</\1\s*>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MAX_INDEX_DIGITS = 9  # a longer number above a timing is text


@dataclass
class SrtCue:
    """A cue as the file has it: its index or "", times in seconds or None for impossible ones, text with markup."""

    index: str
    start: Fraction | None
    end: Fraction | None
    body: str


def sniff(text: str, suffix: str) -> Match:
    """Recognise SRT: a row of two times and an arrow, not already claimed by WebVTT."""
    return Match.YES if has_cue_timing(text) else Match.NO


def read(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of an SRT file. Raises InvalidInputError for impossible times."""
    return parse_srt(file.text, file.name)


def write(script: Script, suffix: str) -> str:
    """Write an SRT file that reads back with the same speakers, texts and milliseconds; return its text.

    script: Script with times.
    Ids survive where they are numbers in order. Speakers stand before a colon; where a reader would take something
    else for a speaker, all stand in "<v Name>" instead.
    """
    wanted = [(line.speaker, clean_text(line.text)) for line in script.lines]
    text = _format_cues(script, _format_with_prefix)
    if [(line.speaker, line.text) for line in parse_srt(text, "").lines] != wanted:
        text = _format_cues(script, _format_with_voice_tag)
    return text


def has_cue_timing(text: str) -> bool:
    """Find out whether a text has a row of two possible times with an arrow between."""
    found = TIMING.search(text)
    return bool(found and parse_timestamp(found[1]) is not None and parse_timestamp(found[2]) is not None)


def split_cues(text: str) -> list[SrtCue]:
    """Split the text of an SRT file into cues.

    text: with "\\n" between rows.
    The format has no standard: an index is a whole number alone in the row before the times.
    """
    timings = list(TIMING.finditer(text))
    before = text[: timings[0].start()] if timings else ""
    cues: list[SrtCue] = []
    for k, timing in enumerate(timings):
        body = text[timing.end() : timings[k + 1].start() if k + 1 < len(timings) else len(text)]
        index, before = _find_index(before, cues[-1].index if cues else None), body
        if cues and index:
            cues[-1].body = cues[-1].body.rstrip("\n \t")[: -len(index)]
        cues.append(SrtCue(index, parse_timestamp(timing[1]), parse_timestamp(timing[2]), body))
    for cue in cues:
        cue.body = cue.body.strip("\n")
    return cues


def _find_index(before: str, previous: str | None) -> str:
    """Find the index of a cue in the last row before its timing; "" when that row is text.

    before: all text since the timing of the cue in front.
    previous: index of that cue; None for the first.
    """
    rows = before.split("\n")
    if not rows[-1].strip():
        rows.pop()
    last = rows[-1].strip() if rows else ""
    if not (last.isdigit() and last.isascii() and len(last) <= _MAX_INDEX_DIGITS):
        return ""
    alone = len(rows) < 2 or not rows[-2].strip()
    follows = previous is not None and previous.isdigit() and int(last) == int(previous) + 1
    return last if alone or follows else ""


def parse_srt(text: str, name: str) -> Script:
    """Parse the text of an SRT file to a Script.

    text: with "\\n" between rows.
    name: of the file.
    Speakers come from "<v Name>" where the file has one, else from what stands before a colon (`split_speakers`).
    Raises InvalidInputError for a time that cannot be.
    """
    cues = split_cues(text)
    lines = []
    for number, cue, (speaker, said) in zip(make_unique_ids([cue.index for cue in cues]), cues, _split_speakers(cues)):
        if cue.start is None or cue.end is None:
            raise InvalidInputError(
                f"{name}: cue {cue.index or cue.body[:20]!r} has a time beyond 59 minutes or seconds.",
                hint="Mend its times.",
            )
        lines.append(Line(number, html.unescape(speaker).strip(), cue.start, cue.end, said))
    return Script(tuple(lines), source=name)


def _split_speakers(cues: list[SrtCue]) -> list[tuple[str, str]]:
    """Separate speaker and text of every cue."""
    texts = [strip_player_markup(cue.body) for cue in cues]
    tags = [VOICE_TAG.search(cue.body) for cue in cues]
    if any(tags):
        return [((tag and tag[1]) or "", text) for tag, text in zip(tags, texts)]
    return split_speakers(texts)


def strip_player_markup(body: str) -> str:
    """Strip the markup that players know from the text of a cue and resolve its entities.

    Other angle brackets are text. Of ruby the base is kept: the reading says the same words once more. Files made from
    WebVTT or HTML write "&amp;" and "&lt;i&gt;"; a name that HTML does not know, or without ";", is text.
    """
    text = resolve_entities(PLAYER_MARKUP.sub("", strip_ruby_text(body)))
    return clean_text(PLAYER_MARKUP.sub("", text))


def strip_ruby_text(body: str) -> str:
    """Strip the readings of ruby (`<rt>`, `<rtc>`) and their fallback brackets (`<rp>`), and keep the base.

    Source: HTML, section 4.5.10; W3C WebVTT, section 4.2.2.
    """
    within = _RUBY.sub(lambda ruby: _RUBY_TEXT.sub("", ruby[0]), body)
    return _RUBY_TEXT_ALONE.sub("", within)


def resolve_entities(text: str) -> str:
    """Resolve the entities of HTML in a text of a format that has none, such as "&amp;"; "&nbsp;" is a space."""
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]).replace("\xa0", " "), text)


def _escape_text(text: str) -> str:
    """Escape what a reader would take for an entity, and nothing else: few players resolve entities in SRT."""
    return _ENTITY.sub(lambda entity: "&amp;" + entity[0][1:], text)


def _format_with_prefix(speaker: str, text: str) -> str:
    if not speaker:
        return text
    return f"{speaker}: {text}" if text else f"<v {html.escape(speaker, quote=False)}>"


def _format_with_voice_tag(speaker: str, text: str) -> str:
    return f"<v {html.escape(speaker, quote=False)}>{text}" if speaker else f"<v>{text}"


def _format_cues(script: Script, format_body: Callable[[str, str], str]) -> str:
    """Format all lines as cues; format_body takes speaker and text."""
    blocks = []
    for number, line in enumerate(script.lines, 1):
        start, end = (format_timestamp(time, ",") for time in (line.start, line.end))
        blocks.append(
            f"{number}\n{start} --> {end}\n{format_body(line.speaker, _escape_text(clean_text(line.text)))}\n"
        )
    return "\n".join(blocks)
