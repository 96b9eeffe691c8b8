"""What the lips of a film shall do: heard in the new sound, or told by a plan; performed span by span, each for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.encoders.motion import BLINK_INDEX
from mouthpiece.engine.timeline import MOTION_HZ, interpolate_track
from mouthpiece.lipsync.film.spans import merge_spans
from mouthpiece.lipsync.motion.closures import postprocess_mouth
from mouthpiece.lipsync.motion.speech_to_motion import (
    MOUTH_DELAY_S,
    compute_mouth_gate,
    pad_or_trim,
    recognize_articulation,
    sample_motion_codes,
)

if TYPE_CHECKING:
    from mouthpiece.engine.contracts import Articulation
    from mouthpiece.engine.encoders.phonetic import PhoneticEncoder
    from mouthpiece.lipsync.motion.speech_to_motion import SpeechMotionModels
    from mouthpiece.lipsync.options import LipsyncOptions

CONTEXT_S = 0.6  # of sound heard before and after a span
INDEPENDENT_GAP_S = 1.2  # spans further apart than this know nothing of each other


@dataclass(frozen=True, eq=False)
class ArticulationTrack:
    """A sound on the clocks of the core. articulation: (2 T, 43) at 50 Hz.  active: (2 T,) share of voice."""

    articulation: np.ndarray = field(repr=False)
    active: np.ndarray = field(repr=False)


def estimate_articulation(
    listener: PhoneticEncoder, wave: np.ndarray, ticks: int, gate: bool, planned: Articulation | None = None
) -> ArticulationTrack | None:
    """Heard of a recording, and where it is told, of what was told.

    listener: PhoneticEncoder.  wave: (S,) float32 at 16 kHz.  ticks: length on the motion clock.
    gate: whether silence is to be really silent.
    planned: articulation from time zero, which replaces what is recognized in the ticks that it knows; None: all is
    recognized.
    """
    articulation, active = recognize_articulation(listener, wave, ticks, gate)
    if planned is not None:
        known = np.flatnonzero(planned.known[: 2 * ticks])
        articulation, active = articulation.copy(), active.copy()
        articulation[known] = planned.values[known]
        active[known] = planned.speech_probability[known]
    return ArticulationTrack(articulation, active)


def predict_mouth(
    models: SpeechMotionModels,
    track: ArticulationTrack,
    spans: list[tuple[float, float]],
    times_s: np.ndarray,
    options: LipsyncOptions,
) -> np.ndarray:
    """(F, 21) float32: mouth and jaw wanted at times within the spans, NaN elsewhere.

    spans: pairs of seconds.  times_s: (F,), starts of frames.
    options: LipsyncOptions.
    What happens in one span does not depend on spans further than APART_S away, nor on the sound there.
    """
    rate, ticks, lips = float(MOTION_HZ), len(track.active) // 2, models.space.lips[:BLINK_INDEX].numpy()
    out = np.full((len(times_s), BLINK_INDEX), np.nan, np.float32)
    for start, stop in merge_spans(spans, INDEPENDENT_GAP_S):
        a = int(np.clip(np.floor((start - CONTEXT_S) * rate), 0, max(0, ticks - 2)))
        b = int(np.clip(np.ceil((stop + CONTEXT_S) * rate) + 1, a + 2, ticks))
        part = slice(2 * a, 2 * b)
        codes = postprocess_mouth(
            sample_motion_codes(models.core, track.articulation[part], options, f"from tick {a}"),
            track.articulation[part],
            lips,
            options,
        )
        voiced = compute_mouth_gate(pad_or_trim(track.active[part], 2 * (b - a)).reshape(-1, 2).mean(1))
        codes = codes * (voiced[:, None] if options.gate else 1.0) * options.expression
        at = np.flatnonzero((times_s >= start - 1e-6) & (times_s < stop + 1e-6))
        out[at] = interpolate_track(codes, (times_s[at] - a / rate + MOUTH_DELAY_S) * rate)
    return out
