"""Which seconds of a film change: as they are asked for, or wherever its new sound is another than its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine import timeline
from mouthpiece.engine.audio.voice_activity import find_runs
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.timeline import ARTICULATION_HZ

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)")
SAME_POWER_SHARE = 0.05  # of the louder one's power: a difference below it is coding
QUIET_POWER = 1e-7  # -70 dBFS: a difference below it is not heard
MERGE_GAP_S, SPAN_MARGIN_S, SHORTEST_SPAN_S = 0.5, 0.2, 0.06
SHORTEST_SPAN_FRAMES = 2


def parse_spans(text: str | None) -> list[tuple[float, float]] | None:
    """Pairs of seconds, in order, of text such as "1.2-3.4,10-12.5"; None stays None.

    Raises UsageProblem for anything else, and for a span that ends before it starts.
    """
    if text is None:
        return None
    spans = []
    for part in text.split(","):
        found = _SPAN.fullmatch(part.strip())
        if not found or not float(found[1]) < float(found[2]):
            raise UsageError(
                f"--spans {text}: {part.strip() or 'nothing'} is no stretch of time.",
                hint="Give seconds as START-END, START below END, several with commas: 1.2-3.4,10-12.5.",
                code="bad_spans",
            )
        spans.append((float(found[1]), float(found[2])))
    return merge_spans(spans)


def merge_spans(spans: Iterable[tuple[float, float]], gap_s: float = 0.0) -> list[tuple[float, float]]:
    """Merge spans in seconds as mouthpiece.engine.timeline.merge_spans does; numbers of any kind become floats."""
    return timeline.merge_spans(((float(a), float(b)) for a, b in spans), gap_s)


def find_changed_spans(old: np.ndarray, new: np.ndarray) -> list[tuple[float, float]]:
    """Spans in seconds in which two recordings are not the same sound, a breath wider, close ones made one.

    old, new: (S,) float32 at 16 kHz; the shorter one goes on as silence.
    Source: ours; power of the difference in 20 ms against that of the louder one.
    """
    unit = RATE_HZ // int(ARTICULATION_HZ)
    ticks = -(-max(len(old), len(new)) // unit)
    old, new = (np.pad(wave, (0, ticks * unit - len(wave))).reshape(ticks, unit).astype(float) for wave in (old, new))
    power = np.maximum((old**2).mean(1), (new**2).mean(1))
    wide = np.convolve(power, np.ones(5) / 5, "same")  # codecs spread a sound a little
    other = ((new - old) ** 2).mean(1) > np.maximum(SAME_POWER_SHARE * wide, QUIET_POWER)
    found = [(a, b) for a, b in find_runs(other) / float(ARTICULATION_HZ)]
    found = [(a, b) for a, b in merge_spans(found, 0.1) if b - a >= SHORTEST_SPAN_S]
    return merge_spans(
        [(max(0.0, a - SPAN_MARGIN_S), min(ticks / float(ARTICULATION_HZ), b + SPAN_MARGIN_S)) for a, b in found],
        MERGE_GAP_S,
    )


def flag_frames(times: np.ndarray, spans: tuple | list[tuple[float, float]]) -> np.ndarray:
    """(F,) bool: frames that start within one of the spans. times: (F,) seconds."""
    out = np.zeros(len(times), bool)
    for start, stop in spans:
        out |= (times >= start - 1e-6) & (times < stop - 1e-6)
    return out


def compute_crossfade(times: np.ndarray, changed: np.ndarray, shot: np.ndarray, crossfade_s: float) -> np.ndarray:
    """(F,) float32: how far a frame is changed, 0 to 1: rising and falling over ease_s at the ends of each run, at once
    at cuts.

    times: (F,) seconds.  changed: (F,) bool.  shot: (F,) int.
    Runs shorter than SHORTEST_FRAMES are left out.
    Source: ours; linear.
    """
    out = np.zeros(len(times), np.float32)
    cuts = np.r_[False, np.diff(shot) != 0]
    edges = np.flatnonzero(cuts)
    for a, b in find_runs(changed):
        for start, stop in zip([a, *edges[(edges > a) & (edges < b)]], [*edges[(edges > a) & (edges < b)], b]):
            if stop - start < SHORTEST_SPAN_FRAMES:
                continue
            t = times[start:stop]
            step = float(np.median(np.diff(t))) if len(t) > 1 else 0.04
            own_before = start > 0 and not cuts[start]
            own_after = stop < len(times) and not cuts[stop]
            ramp = np.ones(len(t))
            if own_before and crossfade_s:
                ramp = np.minimum(ramp, (t - t[0] + step) / (crossfade_s + step))
            if own_after and crossfade_s:
                ramp = np.minimum(ramp, (t[-1] - t + step) / (crossfade_s + step))
            out[start:stop] = ramp
    return out


def to_spans(times: np.ndarray, end_s: Fraction | float, flags: np.ndarray) -> list[tuple[float, float]]:
    """Spans in seconds of the runs of frames with a flag. times: (F,) starts of frames.  end_s: of the film.  flags:
    (F,) bool.
    """
    edges = np.r_[times, end_s]
    return [(round(float(edges[a]), 6), round(float(edges[b]), 6)) for a, b in find_runs(flags)]
