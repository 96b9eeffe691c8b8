"""Convert exactly between clocks: every rate and every instant is a Fraction."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

Time = TypeVar("Time", int, float)  # samples, frames or seconds

MOTION_HZ = Fraction(25)  # clock of the motion code
ARTICULATION_HZ = Fraction(50)  # clock of the articulation stream
DELIVERY_HZ = 48_000  # sample rate of every sound that is written
MAX_RATE_HZ = 1000  # frames a second

_NTSC_RATES_HZ = tuple(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120))
_WHOLE_RATES_HZ = tuple(Fraction(n) for n in (5, 6, 8, 10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60, 100, 120))
_RATE_PATTERN = re.compile(r"\d+(\.\d+)?|\d+/\d+")


def parse_rate(text: str) -> Fraction:
    """Parse a frame rate as a person means it: "25", "30000/1001", and "29.97" as 30000/1001.

    text: whole, decimal or fraction, in frames a second; above 0, at most MAX_RATE_HZ.
    Raises UsageError for zero, negative, too large or not a number.
    """
    plain = str(text).strip()
    if not _RATE_PATTERN.fullmatch(plain) or plain.endswith("/0"):
        raise _make_rate_error(text)
    rate = Fraction(plain)
    if not 0 < rate <= MAX_RATE_HZ:
        raise _make_rate_error(text)
    _, _, decimals = plain.partition(".")
    if len(decimals) >= 2:
        scale = 10 ** len(decimals)
        for exact in _NTSC_RATES_HZ:
            written = (math.floor(exact * scale), round_half_up(exact * scale))
            if rate * scale in written:
                return exact
    return rate


def _make_rate_error(text: str) -> UsageError:
    """Make the error for a frame rate that is not one."""
    return UsageError(
        f"--fps {text}: not a frame rate.",
        hint=f"Give a number above 0 and at most {MAX_RATE_HZ}, such as 25, 29.97 or 30000/1001.",
        code="bad_rate",
    )


def snap_to_standard_rate(rate: Fraction) -> Fraction:
    """Snap a rate to a standard one within 10 parts in a million, else return it as it is.

    rate: frames a second, as containers with rounded time stamps report it.
    """
    for known in _WHOLE_RATES_HZ + _NTSC_RATES_HZ:
        if abs(rate - known) * 100_000 <= known:
            return known
    return Fraction(rate)


def round_half_up(value: Fraction | float) -> int:
    """Round to the nearest whole number; halves go up, also below zero.

    The built-in round() sends halves to the even number, which makes uneven steps.
    """
    return math.floor(Fraction(value) + Fraction(1, 2))


def count_frames(duration: Fraction, rate: Fraction) -> int:
    """Count the frames that cover a duration completely, at least 1.

    duration: seconds.  rate: frames a second.
    The picture may outlast the sound by less than one frame, never the reverse.
    """
    return max(1, math.ceil(Fraction(duration) * rate))


def get_frame_time(index: int, rate: Fraction) -> Fraction:
    """Get the start of a frame in seconds.

    index: from 0.  rate: frames a second.
    """
    return Fraction(index) / rate


def count_samples(time: Fraction | float, rate_hz: int) -> int:
    """Count the samples that lie before a time, to the nearest sample.

    time: seconds.  rate_hz: samples a second.
    """
    return round_half_up(Fraction(time) * rate_hz)


def make_frame_times(count: int, rate: Fraction) -> np.ndarray:
    """Make the starts of frames in seconds, (count,) float64, each rounded once.

    rate: frames a second.
    """
    import numpy as np  # on use: every start imports this file

    rate = Fraction(rate)
    # a whole product divided once does not drift the way a running sum does
    return np.arange(count, dtype=np.int64) * rate.denominator / float(rate.numerator)


def merge_spans(spans: Iterable[tuple[Time, Time]], gap: float = 0) -> list[tuple[Time, Time]]:
    """Merge spans that overlap, touch, or lie within a gap of each other; return them in order.

    spans: (start, stop) in any order and any unit; empty ones are dropped.
    gap: in the same unit.
    """
    merged: list[tuple[Time, Time]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        elif stop > start:
            merged.append((start, stop))
    return merged


def interpolate_track(track: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolate a track between its ticks, (N, ...) float32: linear between two, held beyond its ends.

    track: (T, ...), T at least 1; tick k stands for the instant k.
    at: (N,) float, instants in ticks.
    """
    import numpy as np  # on use: every start imports this file

    track, at = np.asarray(track, np.float32), np.clip(at, 0, len(track) - 1)
    low = np.minimum(at.astype(int), max(0, len(track) - 2))
    share = (at - low).reshape(-1, *[1] * (track.ndim - 1)).astype(np.float32)
    return track[low] * (1 - share) + track[np.minimum(low + 1, len(track) - 1)] * share
