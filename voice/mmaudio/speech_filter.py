"""Unwanted speech in generated sound: detected, and attenuated where resampling did not help."""

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

ONSET = 0.6  # probability from which speech begins; effects reach 0.5 for a moment
OFFSET = 0.4  # probability below which it ends
MIN_SPEECH_S = 0.3  # shorter speech cannot be told from effects
PAD_S = 0.08  # attenuated before and after speech
RAMP_S = 0.06  # of the fades
ATTENUATION_DB = -24.0


def detect_speech(wave: np.ndarray, rate_hz: int) -> list[tuple[float, float]]:
    """Detect speech by silero-vad: [(start_s, stop_s)]. wave: (S,) float32."""
    resampled = np.ascontiguousarray(resample(wave, rate_hz, RATE_HZ), np.float32)
    active = apply_hysteresis(compute_speech_probability(resampled), ONSET, OFFSET)
    length_s, step_s = len(wave) / rate_hz, FRAME_SAMPLES / RATE_HZ
    spans = [(float(a * step_s), min(length_s, float(b * step_s))) for a, b in find_runs(active)]
    return [(a, b) for a, b in spans if b - a >= MIN_SPEECH_S]


def attenuate_spans(wave: np.ndarray, rate_hz: int, spans: list[tuple[float, float]]) -> np.ndarray:
    """Attenuate spans of a wave by ATTENUATION_DB, with fades. wave: (S,) float32.  spans: of `detect_speech`."""
    target = np.zeros(len(wave), np.float32)
    for start, stop in spans:
        first = max(0, count_samples(Fraction(start - PAD_S), rate_hz))
        target[first : count_samples(Fraction(stop + PAD_S), rate_hz)] = ATTENUATION_DB
    width = max(1, count_samples(Fraction(RAMP_S), rate_hz))
    padded = np.pad(target, (width // 2, width - 1 - width // 2), mode="edge")
    smooth = np.convolve(padded, np.full(width, 1 / width, np.float32), "valid")
    return (wave * 10 ** (smooth / 20)).astype(np.float32)


def sum_lengths(spans: list[tuple[float, float]]) -> float:
    """Sum the lengths of spans, seconds."""
    return sum(stop - start for start, stop in spans)
