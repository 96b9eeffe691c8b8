"""LRC: lyrics and lines, each with the time at which it begins."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.voice.scripts.script import Line, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.script_format import Match
from mouthpiece.voice.scripts.speaker_prefix import split_speakers
from mouthpiece.voice.scripts.syllables import estimate_duration

if TYPE_CHECKING:
    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

_STAMP = r"\[[ \t]*(\d{1,3}):([0-5]\d)(?::(\d{2,3}))?(?:[.,](\d{1,3}))?[ \t]*\]"
_TIME = re.compile(_STAMP)
_ROW = re.compile(rf"[ \t]*(?P<times>(?:{_STAMP}[ \t]*)+)(?P<text>.*)")
_TAG = re.compile(
    r"[ \t]*\[(ti|ar|al|au|by|re|tool|ve|la|lang|length|offset|#)[ \t]*:[ \t]*([^\]]*)\][ \t]*", re.IGNORECASE
)
_WORD_TIME = re.compile(r"<\d{1,3}:\d{2}(?:[.:]\d{1,3})?>")


def sniff(text: str, suffix: str) -> Match:
    """Recognise LRC: rows with a time in square brackets, and hardly any other."""
    rows = [row for row in text.split("\n") if row.strip()]
    timed = sum(_ROW.fullmatch(row) is not None for row in rows)
    tags = sum(_TAG.fullmatch(row) is not None for row in rows)
    return Match.YES if timed and 2 * (timed + tags) > len(rows) else Match.NO


def read(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of an LRC file."""
    return parse_lrc(file.text, file.name, options.duration)


def parse_lrc(text: str, name: str, duration: Fraction | None = None) -> Script:
    """Parse the text of an LRC file to a Script in the order of its times.

    text: with "\\n" between rows.  name: of the file.
    duration: seconds of the film; None when there is none.
    A line lasts until the next time, which may be that of an empty row; the last one as long as it takes to say it, at
    most to the end of the film or to `[length:]`. `[offset:]` and the times of words are known; rows without a time go
    on with the line above. Speakers stand before a colon (`split_speakers`).
    """
    tags, timed = _read_rows(text, name.lower().endswith(".lrc") or _has_hundredths(text))
    shift = Fraction(int(tags["offset"]), 1000) if re.fullmatch(r"[+-]?\d+", tags.get("offset", "")) else Fraction(0)
    cues = sorted(((max(Fraction(0), time - shift), k, said) for k, (time, said) in enumerate(timed)))
    spoken = split_speakers([said for _, _, said in cues])
    length = _TIME.fullmatch(f"[{tags.get('length', '')}]")
    limits = [limit for limit in (_parse_time(length) if length else None, duration) if limit]
    lines: list[tuple[str, Fraction, Fraction, str]] = []
    for k, ((start, _, text), (speaker, said)) in enumerate(zip(cues, spoken)):
        later = next((time for time, _, _ in cues[k + 1 :] if time > start), None)
        end = later if later is not None else min([start + estimate_duration(said), *limits])
        if text:
            lines.append((speaker, start, max(start, end), said))
    ids = make_unique_ids([""] * len(lines))
    return Script(
        tuple(Line(i, speaker, start, end, said) for i, (speaker, start, end, said) in zip(ids, lines)),
        language=tags.get("la") or tags.get("lang", ""),
        title=tags.get("ti", ""),
        source=name,
    )


def _has_hundredths(text: str) -> bool:
    """Say whether a third number is too large for seconds."""
    return any(found[3] and not found[4] and int(found[3]) > 59 for found in _TIME.finditer(text))


def _read_rows(text: str, hundredths: bool) -> tuple[dict[str, str], list[tuple[Fraction, str]]]:
    """Read the tags, by name, and (seconds, text) of every time, in the order of the file.

    hundredths: as for `_parse_time`.
    """
    tags: dict[str, str] = {}
    timed: list[tuple[Fraction, str]] = []
    fresh = 0  # how many times the last row had
    for row in text.split("\n"):
        tag, found = _TAG.fullmatch(row), _ROW.fullmatch(row)
        if tag:
            tags[tag[1].lower()] = clean_text(tag[2])
        elif found:
            said = clean_text(_WORD_TIME.sub("", found["text"]))
            times = [_parse_time(time, hundredths) for time in _TIME.finditer(found["times"])]
            timed += [(time, said) for time in times]
            fresh = len(times)
        elif row.strip() and fresh:
            timed[-fresh:] = [(time, clean_text(f"{said}\n{row}")) for time, said in timed[-fresh:]]
    return tags, timed


def _parse_time(found: re.Match[str], hundredths: bool = True) -> Fraction:
    """Parse a time to seconds.

    hundredths: whether "01:02:03" is a minute, two seconds and three hundredths, as lyrics have it, or a clock.
    """
    first, second, third, part = found.groups()[:4]
    if third and (part or not hundredths):
        whole = (int(first) * 60 + int(second)) * 60 + int(third)
    else:
        whole, part = int(first) * 60 + int(second), part or third
    return whole + (Fraction(int(part), 10 ** len(part)) if part else Fraction(0))
