"""Spans: the seconds of a film that change, as asked for, or wherever its new sound differs from its own."""

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
MERGE_GAP_S = 0.5  # seconds: changed spans this near to each other become one
SPAN_MARGIN_S = 0.2  # seconds that a changed span is extended by at both ends
SHORTEST_SPAN_S = 0.06  # seconds; shorter differences are ignored
DIFFERENCE_GAP_S = 0.1  # seconds: differences this near to each other become one before that
POWER_SMOOTHING_TICKS = 5  # of 20 ms: codecs spread a sound a little
FALLBACK_FRAME_S = 0.04  # seconds of a frame, of a run with one frame
SHORTEST_SPAN_FRAMES = 2  # shorter runs of frames are not changed


def parse_spans(text: str | None) -> list[tuple[float, float]] | None:
    """Parse text such as "1.2-3.4,10-12.5" into (start, end) pairs of seconds, in order; None stays None.

    Raises UsageError for anything else, and for a span that ends before it starts.
    """
    if text is None:
        return None
    spans = []
    for part in text.split(","):
        found = _SPAN.fullmatch(part.strip())
        if not found or not float(found[1]) < float(found[2]):
            raise UsageError(
                f"--spans {text}: {part.strip() or 'nothing'} is not a span of time.",
                hint="Give seconds as START-END, START below END, several with commas: 1.2-3.4,10-12.5.",
                code="bad_spans",
            )
        spans.append((float(found[1]), float(found[2])))
    return merge_spans(spans)


def merge_spans(spans: Iterable[tuple[float, float]], gap_s: float = 0.0) -> list[tuple[float, float]]:
    """Merge spans that overlap or lie within gap_s of each other; returns them in order."""
    return timeline.merge_spans(((float(a), float(b)) for a, b in spans), gap_s)


def find_changed_spans(old: np.ndarray, new: np.ndarray) -> list[tuple[float, float]]:
    """Find the spans in seconds in which two recordings differ, with a margin, close ones merged.

    old, new: (S,) float32 at 16 kHz; the shorter one is padded with silence.
    The power of the difference in 20 ms is compared with that of the louder one.
    """
    unit = RATE_HZ // int(ARTICULATION_HZ)
    ticks = -(-max(len(old), len(new)) // unit)
    old, new = (np.pad(wave, (0, ticks * unit - len(wave))).reshape(ticks, unit).astype(float) for wave in (old, new))
    power = np.maximum((old**2).mean(1), (new**2).mean(1))
    wide = np.convolve(power, np.ones(POWER_SMOOTHING_TICKS) / POWER_SMOOTHING_TICKS, "same")
    differs = ((new - old) ** 2).mean(1) > np.maximum(SAME_POWER_SHARE * wide, QUIET_POWER)
    runs = merge_spans(find_runs(differs) / float(ARTICULATION_HZ), DIFFERENCE_GAP_S)
    spans = [(a, b) for a, b in runs if b - a >= SHORTEST_SPAN_S]
    return merge_spans(
        [(max(0.0, a - SPAN_MARGIN_S), min(ticks / float(ARTICULATION_HZ), b + SPAN_MARGIN_S)) for a, b in spans],
        MERGE_GAP_S,
    )


def flag_frames(times: np.ndarray, spans: Iterable[tuple[float, float]]) -> np.ndarray:
    """Flag the frames, (F,) bool, that start within one of the spans. times: (F,) seconds."""
    out = np.zeros(len(times), bool)
    for start, stop in spans:
        out |= (times >= start - 1e-6) & (times < stop - 1e-6)
    return out


def compute_crossfade(times: np.ndarray, changed: np.ndarray, shot: np.ndarray, crossfade_s: float) -> np.ndarray:
    """Compute how far each frame is changed, (F,) float32 in [0, 1]: linear ramps at the ends of each run, none at
    cuts.

    times: (F,) seconds.  changed: (F,) bool.  shot: (F,) int.
    crossfade_s: length of a ramp, seconds.
    Runs shorter than SHORTEST_SPAN_FRAMES are left out.
    """
    out = np.zeros(len(times), np.float32)
    cuts = np.r_[False, np.diff(shot) != 0]
    edges = np.flatnonzero(cuts)
    for a, b in find_runs(changed):
        for start, stop in zip([a, *edges[(edges > a) & (edges < b)]], [*edges[(edges > a) & (edges < b)], b]):
            if stop - start < SHORTEST_SPAN_FRAMES:
                continue
            t = times[start:stop]
            step = float(np.median(np.diff(t))) if len(t) > 1 else FALLBACK_FRAME_S
            fades_in = start > 0 and not cuts[start]
            fades_out = stop < len(times) and not cuts[stop]
            ramp = np.ones(len(t))
            if fades_in and crossfade_s:
                ramp = np.minimum(ramp, (t - t[0] + step) / (crossfade_s + step))
            if fades_out and crossfade_s:
                ramp = np.minimum(ramp, (t[-1] - t + step) / (crossfade_s + step))
            out[start:stop] = ramp
    return out


def to_spans(times: np.ndarray, end_s: Fraction | float, flags: np.ndarray) -> list[tuple[float, float]]:
    """Convert flags of frames to (start, end) pairs in seconds, one for each run.

    times: (F,) starts of frames.  end_s: of the film.  flags: (F,) bool.
    """
    edges = np.r_[times, end_s]
    return [(round(float(edges[a]), 6), round(float(edges[b]), 6)) for a, b in find_runs(flags)]
