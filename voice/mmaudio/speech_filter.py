"""Speech that nobody asked for, in sound that was generated: found, and turned down where it cannot be avoided."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.audio.voice_activity import (
    FRAME_SAMPLES,
    apply_hysteresis,
    compute_speech_probability,
    find_runs,
)
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.timeline import count_samples

ONSET, OFFSET = 0.6, 0.4  # of silero's probability; effects now and then reach 0.5 for a moment
MIN_SPEECH_S = 0.3  # speech shorter than this is not told from effects
PAD_S, RAMP_S = 0.08, 0.06
ATTENUATION_DB = -24.0  # how far what sounds like speech is turned down


def detect_speech(wave: np.ndarray, rate_hz: int) -> list[tuple[float, float]]:
    """Pairs (start, stop) in seconds, floats, of what silero takes for speech.

    wave: (S,) float32.  rate_hz: int.
    Source: Silero Team 2024, silero-vad 6.
    """
    speech = np.ascontiguousarray(resample(wave, rate_hz, RATE_HZ), np.float32)
    found = apply_hysteresis(compute_speech_probability(speech), ONSET, OFFSET)
    length_s, step_s = len(wave) / rate_hz, FRAME_SAMPLES / RATE_HZ
    spans = [(float(a * step_s), min(length_s, float(b * step_s))) for a, b in find_runs(found)]
    return [(a, b) for a, b in spans if b - a >= MIN_SPEECH_S]


def attenuate_spans(wave: np.ndarray, rate_hz: int, spans: list[tuple[float, float]]) -> np.ndarray:
    """The wave with some spans DOWN_DB quieter, faded in and out.

    wave: (S,) float32.  spans: from spoken.
    """
    target = np.zeros(len(wave), np.float32)
    for start, stop in spans:
        target[
            max(0, count_samples(Fraction(start - PAD_S), rate_hz)) : count_samples(Fraction(stop + PAD_S), rate_hz)
        ] = ATTENUATION_DB
    width = max(1, count_samples(Fraction(RAMP_S), rate_hz))
    padded = np.pad(target, (width // 2, width - 1 - width // 2), mode="edge")
    smooth = np.convolve(padded, np.full(width, 1 / width, np.float32), "valid")
    return (wave * 10 ** (smooth / 20)).astype(np.float32)


def sum_lengths(spans: list[tuple[float, float]]) -> float:
    """Seconds in all of spans."""
    return sum(stop - start for start, stop in spans)
