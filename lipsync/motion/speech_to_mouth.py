"""Speech to mouth, for films: articulation recognised from the new sound or planned, and mouth codes span by span."""

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

CONTEXT_S = 0.6  # seconds of sound before and after a span that the core is given
INDEPENDENT_GAP_S = 1.2  # seconds; spans further apart than this are predicted independently


@dataclass(frozen=True, eq=False)
class ArticulationTrack:
    """Hold a sound on the clock of the core. articulation: (2 T, 43) at 50 Hz.  active: (2 T,) voice activity."""

    articulation: np.ndarray = field(repr=False)
    active: np.ndarray = field(repr=False)


def estimate_articulation(
    phonetic_encoder: PhoneticEncoder, wave: np.ndarray, ticks: int, gate: bool, planned: Articulation | None = None
) -> ArticulationTrack:
    """Recognise the articulation of a recording, and replace it by a planned one where there is one.

    wave: (S,) float32 at 16 kHz.  ticks: length at 25 Hz.
    gate: as for `recognize_articulation`.
    planned: from time zero, replaces what is recognised in the ticks that it knows; None: nowhere.
    """
    articulation, active = recognize_articulation(phonetic_encoder, wave, ticks, gate)
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
    """Predict mouth and jaw codes (F, 21) float32 at times within the spans, NaN elsewhere.

    track: of the new speech.
    spans: (start, end) pairs in seconds.  times_s: (F,) starts of frames.
    A span depends neither on spans further than INDEPENDENT_GAP_S away nor on the sound there.
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
