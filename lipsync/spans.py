"""Which seconds of a film change: as they are asked for, or wherever its new sound is another than its own."""

import re

import numpy as np

from engine.activity import runs
from engine.encoders.audio import RATE_HZ
from engine.errors import UsageProblem
from engine.timeline import ARTICULATION_HZ

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)")
SAME_SHARE = 0.05                      # of the louder one's power: a difference below it is coding
QUIET_POWER = 1e-7                     # -70 dBFS: a difference below it is not heard
JOIN_S, BESIDE_S, SHORTEST_S = 0.5, 0.2, 0.06
SHORTEST_FRAMES = 2


def parse_spans(text):
    """Pairs of seconds, in order, of text such as "1.2-3.4,10-12.5"; None stays None.

    Raises UsageProblem for anything else, and for a span that ends before it starts.
    Source: ours.
    """
    if text is None:
        return None
    spans = []
    for part in text.split(","):
        found = _SPAN.fullmatch(part.strip())
        if not found or not float(found[1]) < float(found[2]):
            raise UsageProblem(
                f"--spans {text}: {part.strip() or 'nothing'} is no stretch of time.",
                hint="Give seconds as START-END, START below END, several with commas: 1.2-3.4,10-12.5.",
                code="bad_spans",
            )
        spans.append((float(found[1]), float(found[2])))
    return joined(spans)


def joined(spans, gap_s=0.0):
    """The spans in order, those that overlap or lie within gap_s of each other made one. Source: ours."""
    out = []
    for start, stop in sorted((float(a), float(b)) for a, b in spans):
        if out and start <= out[-1][1] + gap_s:
            out[-1] = (out[-1][0], max(out[-1][1], stop))
        elif stop > start:
            out.append((start, stop))
    return out


def differing(old, new):
    """Spans in seconds in which two recordings are not the same sound, a breath wider, close ones made one.

    old, new: (S,) float32 at 16 kHz; the shorter one goes on as silence.
    Source: ours; power of the difference in 20 ms against that of the louder one.
    """
    unit = RATE_HZ // int(ARTICULATION_HZ)
    ticks = -(-max(len(old), len(new)) // unit)
    old, new = (np.pad(wave, (0, ticks * unit - len(wave))).reshape(ticks, unit).astype(float) for wave in (old, new))
    power = np.maximum((old**2).mean(1), (new**2).mean(1))
    wide = np.convolve(power, np.ones(5) / 5, "same")  # codecs spread a sound a little
    other = ((new - old) ** 2).mean(1) > np.maximum(SAME_SHARE * wide, QUIET_POWER)
    found = [(a, b) for a, b in runs(other) / float(ARTICULATION_HZ)]
    found = [(a, b) for a, b in joined(found, 0.1) if b - a >= SHORTEST_S]
    return joined([(max(0.0, a - BESIDE_S), min(ticks / float(ARTICULATION_HZ), b + BESIDE_S)) for a, b in found], JOIN_S)


def inside(times, spans):
    """(F,) bool: frames that start within one of the spans. times: (F,) seconds."""
    out = np.zeros(len(times), bool)
    for start, stop in spans:
        out |= (times >= start - 1e-6) & (times < stop - 1e-6)
    return out


def weights(times, changed, shot, ease_s):
    """(F,) float32: how far a frame is changed, 0 to 1: rising and falling over ease_s at the ends of each run, at once at cuts.

    times: (F,) seconds.  changed: (F,) bool.  shot: (F,) int.
    Runs shorter than SHORTEST_FRAMES are left out.
    Source: ours; linear.
    """
    out = np.zeros(len(times), np.float32)
    cuts = np.r_[False, np.diff(shot) != 0]
    edges = np.flatnonzero(cuts)
    for a, b in runs(changed):
        for start, stop in zip([a, *edges[(edges > a) & (edges < b)]], [*edges[(edges > a) & (edges < b)], b]):
            if stop - start < SHORTEST_FRAMES:
                continue
            t = times[start:stop]
            step = float(np.median(np.diff(t))) if len(t) > 1 else 0.04
            own_before = start > 0 and not cuts[start]
            own_after = stop < len(times) and not cuts[stop]
            ramp = np.ones(len(t))
            if own_before and ease_s:
                ramp = np.minimum(ramp, (t - t[0] + step) / (ease_s + step))
            if own_after and ease_s:
                ramp = np.minimum(ramp, (t[-1] - t + step) / (ease_s + step))
            out[start:stop] = ramp
    return out


def frame_spans(times, end_s, flags):
    """Spans in seconds of the runs of frames with a flag. times: (F,) starts of frames.  end_s: of the film.  flags: (F,) bool."""
    edges = np.r_[times, end_s]
    return [(round(float(edges[a]), 6), round(float(edges[b]), 6)) for a, b in runs(flags)]
