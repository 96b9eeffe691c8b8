"""Script formats that are known and not read, refused by name, and times that nobody may speak."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

_SUBTITLE_HINT = "Export it as SRT or WebVTT from the program that made it, or convert it with a subtitle editor."
_SHEET_HINT = "Give a cue sheet (CSV or TAB) with columns such as character, tc in, tc out and text."


class UnreadFormat(NamedTuple):
    """A format by its title, the marks that its text has from the first row on, and what to do instead."""

    title: str
    mark: re.Pattern[str]
    hint: str = _SUBTITLE_HINT


UNREAD_FORMATS: tuple[UnreadFormat, ...] = (
    UnreadFormat(
        "MicroDVD",
        re.compile(r"\s*\{\d+\}\{\d*\}"),
        "Its times are numbers of frames: convert it to SRT with the frame rate of its film.",
    ),
    UnreadFormat("SAMI", re.compile(r"\s*(?:<\?xml[^>]*>\s*)?<SAMI\b", re.IGNORECASE)),
    UnreadFormat(
        "a Pro Tools session as text",
        re.compile(
            r"\s*SESSION NAME:|(?:.*\n){0,60}?T R A C K {2}L I S T I N G|(?:.*\n){0,60}?M A R K E R S {2}L I S T I N G"
        ),
        _SHEET_HINT,
    ),
    UnreadFormat("MPL2", re.compile(r"\s*\[\d+\]\[\d*\]")),
    UnreadFormat(
        "an edit decision list (EDL)",
        re.compile(r"\s*TITLE:.*\n(?:FCM:|\s*\d{3,6}\s+\S+\s+[AVB])"),
        _SHEET_HINT,
    ),
    UnreadFormat("Avid DS captions", re.compile(r"\s*@ This file written with|\s*<begin subtitles>")),
    UnreadFormat("Spruce STL", re.compile(r"\s*(?:\$\w+\s*=|//.*\n(?:.*\n){0,40}?\$\w+\s*=)")),
    UnreadFormat("VobSub, which holds pictures of text", re.compile(r"\s*# VobSub index file")),
    UnreadFormat("an Audacity label track", re.compile(r"\s*\d+[.,]\d+\t\d+[.,]\d+\t"), _SHEET_HINT),
    UnreadFormat("a Praat TextGrid", re.compile(r"\s*(?:File type = )?\"ooTextFile"), _SHEET_HINT),
    UnreadFormat("RealText", re.compile(r"\s*<window\b", re.IGNORECASE)),
)
_TIME = r"\d+(?:[:.,;]\d+){2,}"
_CUE_TIMES = re.compile(rf"^[ \t]*({_TIME})[ \t]*((?:[-–—=][ \t]*)+>|→|➔)[ \t]*(\S*)", re.MULTILINE)
_ARROW = re.compile(r"-+>")
_SUBTITLE_TIME = re.compile(r"(?:\d{1,6}:)?\d{1,2}:\d{1,2}(?:[.,]\d{1,9})?")
_TIMECODE = re.compile(r"(?<![\d:])\d{1,3}:[0-5]?\d:[0-5]?\d[:;.,]\d{1,3}(?![\d:])")
_TIMED_ROW = re.compile(r"[ \t]*[\[({<]?[ \t]*(?:\d{1,3}:)?\d{1,3}:[0-5]\d(?:[.,]\d{1,3})?(?!\d)")
_FRAMED_ROW = re.compile(r"[ \t]*[\[{]\d+[\]}][ \t]*[\[{]\d*[\]}]")


def reject_unread_format(path: Path, text: str) -> None:
    """Reject a text in one of the UNREAD_FORMATS. Raises InvalidInputError with its name."""
    for row in UNREAD_FORMATS:
        if row.mark.match(text):
            raise InvalidInputError(
                f"{path}: this is {row.title}, which is not read.", hint=row.hint, code="unread_format"
            )


def reject_broken_cue_times(path: Path, text: str) -> None:
    """Reject subtitles with a row of two times and an arrow of which one is no time, or it would be spoken.

    Raises InvalidInputError with the time and its row.
    """
    for found in _CUE_TIMES.finditer(text):
        wrong = next((time for time in found.group(1, 3) if not _SUBTITLE_TIME.fullmatch(time)), None)
        if wrong is not None or not _ARROW.fullmatch(found[2]):
            row = text.count("\n", 0, found.start(1)) + 1
            what = f"'{wrong}' is not a time" if wrong else f"'{found[0].strip()}' is not a pair of times"
            raise InvalidInputError(
                f"{path}, row {row}: {what}.",
                hint="Write hours:minutes:seconds, a comma or point and milliseconds: 00:00:00,500 --> 00:00:02,000.",
                code="bad_time",
            )


def reject_timed_text(path: Path, text: str, hint: str) -> None:
    """Reject a plain text that is a script with times in an unknown form: nobody speaks timecodes.

    hint: which files are accepted.
    A timecode with frames or parts of a second decides alone, as do frames in brackets; clocks at the start of rows do
    where there is more than one and they are a third of the rows.
    Raises InvalidInputError with the first time and its row.
    """
    rows = [(k, row) for k, row in enumerate(text.split("\n"), 1) if row.strip()]
    found = next(((k, m[0]) for k, row in rows if (m := _TIMECODE.search(row) or _FRAMED_ROW.match(row))), None)
    if found is None:
        timed = [(k, m[0]) for k, row in rows if (m := _TIMED_ROW.match(row))]
        found = timed[0] if len(timed) > 1 and 3 * len(timed) >= len(rows) else None
    if found is not None:
        raise InvalidInputError(
            f"{path}, row {found[0]}: '{found[1].strip()}' is a time, in a script format that is not known.",
            hint=f"{hint} A plain text has no times.",
            code="unread_format",
        )
