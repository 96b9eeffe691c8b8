"""Exact time: every rate and every instant is a Fraction; only this file converts between clocks."""

import math
import re
from fractions import Fraction

import numpy as np

from engine.errors import UsageProblem

MOTION_HZ = Fraction(25)  # clock of the motion code
ARTICULATION_HZ = Fraction(50)  # clock of the articulation stream
DELIVERY_HZ = 48_000  # sample rate of every sound we deliver
MAX_RATE_HZ = 1000

_NTSC_HZ = tuple(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120))
_WHOLE_HZ = tuple(Fraction(n) for n in (5, 6, 8, 10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60, 100, 120))
_NUMBER = re.compile(r"\d+(\.\d+)?|\d+/\d+")


def parse_rate(text):
    """The exact rate a person meant: "25", "30000/1001", and "29.97" as 30000/1001.

    text: str, whole, decimal or fraction, in frames a second; above 0, at most 1000.
    Raises UsageProblem for zero, negative, too large or not a number.
    Source: ours; NTSC rates are n * 1000 / 1001.
    """
    plain = str(text).strip()
    if not _NUMBER.fullmatch(plain) or plain.endswith("/0"):
        raise _rate_problem(text)
    rate = Fraction(plain)
    if not 0 < rate <= MAX_RATE_HZ:
        raise _rate_problem(text)
    _, _, decimals = plain.partition(".")
    if len(decimals) >= 2:
        scale = 10 ** len(decimals)
        for exact in _NTSC_HZ:
            written = (math.floor(exact * scale), nearest(exact * scale))
            if rate * scale in written:
                return exact
    return rate


def _rate_problem(text):
    return UsageProblem(
        f"--fps {text}: not a frame rate.",
        hint=f"Give a number above 0 and at most {MAX_RATE_HZ}, such as 25, 29.97 or 30000/1001.",
        code="bad_rate",
    )


def standard_rate(rate):
    """The well-known rate within 10 parts in a million of `rate`, else `rate` itself.

    rate: Fraction, frames a second, as containers with rounded time stamps report it.
    Source: ours.
    """
    for known in _WHOLE_HZ + _NTSC_HZ:
        if abs(rate - known) * 100_000 <= known:
            return known
    return Fraction(rate)


def nearest(value):
    """The whole number nearest to `value`; halves go up, also below zero.

    value: Fraction or int.
    Source: ours; built-in round() sends halves to the even number, which makes uneven steps.
    """
    return math.floor(Fraction(value) + Fraction(1, 2))


def frame_count(duration, rate):
    """How many frames cover `duration` completely; at least 1.

    duration: Fraction, seconds.
    rate: Fraction, frames a second.
    Source: ours; the picture may outlast the sound by less than one frame, never the reverse.
    """
    return max(1, math.ceil(Fraction(duration) * rate))


def frame_time(index, rate):
    """When frame `index` starts: Fraction, seconds.

    index: int, from 0.
    rate: Fraction, frames a second.
    Source: ours.
    """
    return Fraction(index) / rate


def frame_at(time, rate):
    """The index of the frame on screen at `time`.

    time: Fraction, seconds.
    rate: Fraction, frames a second.
    Source: ours.
    """
    return math.floor(Fraction(time) * rate)


def nearest_frame(time, rate):
    """The index of the frame that starts nearest to `time`.

    time: Fraction, seconds.
    rate: Fraction, frames a second.
    Source: ours.
    """
    return nearest(Fraction(time) * rate)


def samples_at(time, rate_hz):
    """How many samples lie before `time`, to the nearest sample.

    time: Fraction, seconds.
    rate_hz: int, samples a second.
    Source: ours.
    """
    return nearest(Fraction(time) * rate_hz)


def ticks_at(time, clock_hz=MOTION_HZ):
    """How many ticks of a model clock lie before `time`, to the nearest tick.

    time: Fraction, seconds.
    clock_hz: Fraction, ticks a second: MOTION_HZ or ARTICULATION_HZ.
    Source: ours.
    """
    return nearest(Fraction(time) * clock_hz)


def tick_count(duration, clock_hz=MOTION_HZ):
    """How many ticks of a model clock cover `duration`; at least 1.

    duration: Fraction, seconds.
    clock_hz: Fraction, ticks a second.
    Source: ours.
    """
    return frame_count(duration, clock_hz)


def times_s(count, rate):
    """The starts of `count` frames: (count,) float64, seconds, each rounded once.

    count: int, how many.
    rate: Fraction, frames a second.
    Source: ours; a whole product divided once does not drift the way a running sum does.
    """
    rate = Fraction(rate)
    return np.arange(count, dtype=np.int64) * rate.denominator / float(rate.numerator)


def read_at(track, at):
    """A track read between its ticks, (N, ...) float32: linear between two, held beyond its ends.

    track: (T, ...), T at least 1; tick k stands for the instant k.
    at: (N,) float, instants in ticks.
    Source: ours.
    """
    track, at = np.asarray(track, np.float32), np.clip(at, 0, len(track) - 1)
    low = np.minimum(at.astype(int), max(0, len(track) - 2))
    part = (at - low).reshape(-1, *[1] * (track.ndim - 1)).astype(np.float32)
    return track[low] * (1 - part) + track[np.minimum(low + 1, len(track) - 1)] * part
