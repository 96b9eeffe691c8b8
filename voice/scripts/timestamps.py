"""Times as scripts write them, read and written without losing a millisecond."""

from __future__ import annotations

import re
from fractions import Fraction

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.timeline import round_half_up

_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?")
_TIMECODE = re.compile(r"(\d{1,3}):(\d{2}):(\d{2})([:;.,])(\d{2,3})")


def parse_timestamp(text: str) -> Fraction | None:
    """Parse "01:02:03.456", "02:03,456" or "02:03" to seconds; None for anything else."""
    found = _CLOCK.fullmatch(text.strip())
    if not found:
        return None
    hours, minutes, seconds, part = found.groups()
    if int(minutes) > 59 or int(seconds) > 59:
        return None
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    return whole + (Fraction(int(part), 10 ** len(part)) if part else Fraction(0))


def format_timestamp(time: Fraction | None, mark: str = ".") -> str:
    """Format seconds as "HH:MM:SS.mmm", to the nearest millisecond.

    time: seconds, 0 or more. Raises ValueError for a line without times.
    mark: before the milliseconds, "." or ",".
    """
    if time is None:
        raise ValueError("a line without times cannot be written")
    total_ms = round_half_up(max(Fraction(0), time) * 1000)
    seconds, part_ms = divmod(total_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{part_ms:03d}"


def parse_timecode(text: str, rate: Fraction | None) -> Fraction | None:
    """Parse a timecode with frames, "01:02:03:04", to seconds; None for anything else.

    text: with ';' or '.' before the frames where frame numbers are dropped.
    rate: frames a second; None when unknown.
    Raises UsageError for a timecode without a rate, and for a frame number that the rate does not have.
    Source: SMPTE ST 12-1: at 30000/1001 numbers 0 and 1 are left out every minute but the tenth, at 60000/1001 four.
    """
    found = _TIMECODE.fullmatch(text.strip())
    if not found or found[4] in ".," and len(found[5]) == 3:
        return None
    if rate is None:
        hint = "Give the frame rate of its timecodes, such as --cue-rate 25 or --cue-rate 29.97."
        raise UsageError(f"timecode {text.strip()}: frames of an unknown rate.", hint=hint, code="no_cue_rate")
    hours, minutes, seconds, frame = (int(found[k]) for k in (1, 2, 3, 5))
    base = -(-rate.numerator // rate.denominator)
    drop = base // 15 if rate.denominator == 1001 and found[4] in ";." else 0
    if frame >= base or minutes > 59 or seconds > 59 or drop and frame < drop and seconds == 0 and minutes % 10:
        hint = f"At {rate} frames a second frames are numbered 00 to {base - 1:02d}; look at --cue-rate."
        raise UsageError(f"timecode {text.strip()}: no such frame.", hint=hint, code="bad_timecode")
    minute = hours * 60 + minutes
    number = (minute * 60 + seconds) * base + frame - drop * (minute - minute // 10)
    return number / Fraction(rate)
