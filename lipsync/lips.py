"""What the lips of a film shall do: heard in the new sound, or told by a plan; performed span by span, each for itself."""

from dataclasses import dataclass, field

import numpy as np

from engine.encoders.audio import ARTICULATION_WIDTH, PHONES
from engine.encoders.vision import BLINK
from engine.errors import UsageProblem
from engine.timeline import MOTION_HZ, read_at
from lipsync.closures import mouthed
from lipsync.motion import fitted, hear, motion_codes, near_voice
from lipsync.pipeline import LATE_S
from lipsync.spans import joined

AROUND_S = 0.6                         # of sound heard before and after a span
APART_S = 1.2                          # spans further apart than this know nothing of each other
SILENCE = PHONES.index("SIL")


@dataclass(frozen=True, eq=False)
class Heard:
    """A sound on the clocks of the core. articulation: (2 T, 43) at 50 Hz.  active: (2 T,) share of voice. Source: ours."""

    articulation: np.ndarray = field(repr=False)
    active: np.ndarray = field(repr=False)


def listen_to(listener, wave, ticks, gate, told=None):
    """Heard of a recording, and where it is told, of what was told.

    listener: PhoneticEncoder.  wave: (S,) float32 at 16 kHz.  ticks: length on the motion clock.
    gate: whether silence is to be really silent.
    told: (N, 43) articulation at 50 Hz from time zero, NaN in ticks of which it knows nothing; None: nothing is told.
    Raises UsageProblem for another shape.
    Source: ours.
    """
    articulation, active = hear(listener, wave, ticks, gate)
    if told is not None:
        told = np.asarray(told, np.float32)
        if told.ndim != 2 or told.shape[1] != ARTICULATION_WIDTH:
            raise UsageProblem(f"articulation of shape {told.shape}: need (N, {ARTICULATION_WIDTH}) at 50 Hz.", code="bad_articulation")
        told = told[: 2 * ticks]
        known = np.flatnonzero(np.isfinite(told).all(1))
        articulation, active = articulation.copy(), active.copy()
        articulation[known] = told[known]
        active[known] = 1 - told[known, SILENCE]
    return Heard(articulation, active)


def lips_at(models, heard, spans, times_s, options):
    """(F, 21) float32: mouth and jaw wanted at times within the spans, NaN elsewhere.

    models: pipeline.Models.  heard: Heard.
    spans: pairs of seconds.  times_s: (F,), starts of frames.
    options: LipsyncOptions.
    What happens in one span does not depend on spans further than APART_S away, nor on the sound there.
    Source: ours.
    """
    rate, ticks, lips = float(MOTION_HZ), len(heard.active) // 2, models.space.lips[:BLINK].numpy()
    out = np.full((len(times_s), BLINK), np.nan, np.float32)
    for start, stop in joined(spans, APART_S):
        a = int(np.clip(np.floor((start - AROUND_S) * rate), 0, max(0, ticks - 2)))
        b = int(np.clip(np.ceil((stop + AROUND_S) * rate) + 1, a + 2, ticks))
        part = slice(2 * a, 2 * b)
        codes = mouthed(motion_codes(models.core, heard.articulation[part], options, f"from tick {a}"), heard.articulation[part], lips, options)
        voiced = near_voice(fitted(heard.active[part], 2 * (b - a)).reshape(-1, 2).mean(1))
        codes = codes * (voiced[:, None] if options.gate else 1.0) * options.expression
        at = np.flatnonzero((times_s >= start - 1e-6) & (times_s < stop + 1e-6))
        out[at] = read_at(codes, (times_s[at] - a / rate + LATE_S) * rate)
    return out
