"""Pitch and loudness contours of a recording: F0 by Praat, without octave jumps; loudness in dB."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.plan.speech_plan import CURVE_VALUES_PER_UNIT, UNIT_S, VOICE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mouthpiece.voice.plan.speech_plan import SpeechPlan

HOP_S = 0.01  # of Praat's frames
CURVE_STEP_S = float(UNIT_S) / CURVE_VALUES_PER_UNIT  # of a plan's curves
MIN_F0_HZ = 55.0
MAX_F0_HZ = 600.0
LOUDNESS_FLOOR_DB = -70.0
LOUDNESS_WINDOW_S = 0.05
OCTAVE_ST = 12.0
MAX_FRAME_STEP_ST = 4.0  # no voice moves further from one frame to the next
MAX_INTERPOLATED_STEP_ST = 2.0  # between neighbouring frames that are interpolated
OUTLIER_ST = 9.0  # a short stretch so far from both of its neighbours is an error of the pitch tracker
MAX_JUMP_FRAMES = 20  # a longer stretch is not an error
CONTEXT_FRAMES = 15  # neighbours further away are not compared
MIN_VOICED_FRAMES = 3  # shorter voiced stretches are dropped


@dataclass(frozen=True, eq=False)
class F0Contour:
    """F0 of a recording.

    f0_hz: (T,) float32, 0 where unvoiced; value i lies at i * 10 ms.
    """

    f0_hz: np.ndarray = field(repr=False)

    @property
    def voiced(self) -> np.ndarray:
        """Frames with voice: (T,) bool."""
        return self.f0_hz > 0

    @property
    def median_hz(self) -> float | None:
        """Median of the voiced frames; None without any."""
        return float(np.median(self.f0_hz[self.voiced])) if self.voiced.any() else None

    @property
    def std_st(self) -> float:
        """Standard deviation of the voiced frames in semitones; 0 without any."""
        return float(np.std(12 * np.log2(self.f0_hz[self.voiced]))) if self.voiced.any() else 0.0

    def at(self, times_s: np.ndarray | Sequence[float]) -> np.ndarray:
        """Interpolate F0 in Hz at any times (N,), linearly in semitones through unvoiced stretches; zeros without any
        voiced frame.
        """
        if not self.voiced.any():
            return np.zeros(len(times_s), np.float32)
        where = np.flatnonzero(self.voiced)
        return np.exp(np.interp(times_s, where * HOP_S, np.log(self.f0_hz[where]))).astype(np.float32)

    def is_voiced_at(self, times_s: np.ndarray) -> np.ndarray:
        """Tell whether the frame nearest to each time is voiced: (N,) bool."""
        index = np.clip(np.round(np.asarray(times_s) / HOP_S).astype(int), 0, len(self.f0_hz) - 1)
        return self.voiced[index]


def estimate_f0(wave: np.ndarray, rate_hz: int) -> F0Contour:
    """Estimate the F0 contour of a recording, without octave jumps; silence has no voiced frame.

    wave: (S,) float32 in [-1, 1].
    Raises UsageError for another shape.
    Source: Praat autocorrelation (Boersma 1993), range by two passes (De Looze and Hirst 2008).
    """
    import parselmouth

    wave = np.asarray(wave, np.float64)
    if wave.ndim != 1:
        raise UsageError(f"wave of shape {wave.shape}: need (S,), one channel.", code="bad_wave")
    frames = max(1, round(len(wave) / rate_hz / HOP_S))
    if len(wave) < rate_hz * 3.5 / MIN_F0_HZ or not np.abs(wave).max() > 1e-5:
        return F0Contour(np.zeros(frames, np.float32))
    sound = parselmouth.Sound(wave, rate_hz)
    times = np.arange(frames) * HOP_S

    def track(floor_hz: float, ceiling_hz: float) -> np.ndarray:
        pitch = sound.to_pitch_ac(HOP_S, floor_hz, pitch_ceiling=ceiling_hz)
        return _sample_f0(pitch.selected_array["frequency"], (times - pitch.t1) / pitch.dt)

    first = track(MIN_F0_HZ, MAX_F0_HZ)
    if not (first > 0).any():
        return F0Contour(first.astype(np.float32))
    low, high = np.quantile(first[first > 0], (0.35, 0.65))
    second = track(max(MIN_F0_HZ, 0.6 * low), min(MAX_F0_HZ, max(2.5 * high, 200.0)))
    return F0Contour(fix_octave_jumps(second).astype(np.float32))


def _sample_f0(f0_hz: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Sample F0 (N,) at fractional frames: interpolated between frames that belong together, else the nearest frame's;
    0 outside.
    """
    low = np.clip(np.floor(at).astype(int), 0, len(f0_hz) - 1)
    high = np.minimum(low + 1, len(f0_hz) - 1)
    a, b = f0_hz[low], f0_hz[high]
    share = np.clip(at - low, 0, 1)
    step_st = np.abs(12 * np.log2(np.maximum(a, 1) / np.maximum(b, 1)))
    together = (a > 0) & (b > 0) & (step_st < MAX_INTERPOLATED_STEP_ST)
    between = np.exp((1 - share) * np.log(np.maximum(a, 1)) + share * np.log(np.maximum(b, 1)))
    inside = (at > -0.5) & (at < len(f0_hz) - 0.5)
    return np.where(inside, np.where(together, between, np.where(share < 0.5, a, b)), 0.0)


def fix_octave_jumps(f0_hz: np.ndarray) -> np.ndarray:
    """Fix octave jumps in F0 (T,) Hz, 0 where unvoiced: short stretches an octave off their neighbours are moved; other
    outliers, and voiced stretches under 30 ms, are dropped.
    """
    out = np.array(f0_hz, float)
    if not (out > 0).any():
        return out
    st = np.where(out > 0, 12 * np.log2(np.maximum(out, 1)), 0)
    voiced = out > 0
    cuts = np.flatnonzero((np.diff(voiced.astype(int)) != 0) | (np.abs(np.diff(st)) > MAX_FRAME_STEP_ST)) + 1
    for a, b in zip(np.r_[0, cuts], np.r_[cuts, len(st)]):
        if not voiced[a]:
            continue
        before = np.flatnonzero(voiced[max(0, a - CONTEXT_FRAMES) : a])
        after = np.flatnonzero(voiced[b : b + CONTEXT_FRAMES])
        jumps = [st[a] - st[max(0, a - CONTEXT_FRAMES) + before[-1]]] if len(before) else []
        jumps += [st[b - 1] - st[b + after[0]]] if len(after) else []
        apart = bool(jumps) and b - a <= MAX_JUMP_FRAMES and (min(jumps) > OUTLIER_ST or max(jumps) < -OUTLIER_ST)
        if apart and np.abs(np.abs(jumps) - OCTAVE_ST).max() < OCTAVE_ST - OUTLIER_ST:
            st[a:b] -= OCTAVE_ST * np.sign(jumps[0])
        elif apart or b - a < MIN_VOICED_FRAMES:
            voiced[a:b] = False
    return np.where(voiced, 2 ** (st / 12), 0)


def smooth_f0(contour: F0Contour, sigma_s: float = 0.01) -> F0Contour:
    """Smooth the jitter of single periods: a median of three, then a Gaussian, in voiced stretches."""
    voiced = contour.voiced
    if not voiced.any():
        return contour
    log_hz = np.log(contour.at(np.arange(len(voiced)) * HOP_S))
    smooth = gaussian_filter1d(median_filter(log_hz, 3), sigma_s / HOP_S)
    return F0Contour(np.where(voiced, np.exp(smooth), 0).astype(np.float32))


def compute_loudness_contour(wave: np.ndarray, rate_hz: int, times_s: np.ndarray) -> np.ndarray:
    """Compute the loudness around each time, (N,) float32 in dB of full scale, at least -70: the mean square under a
    Hann window of 50 ms.

    wave: (S,) float32.  times_s: (N,) seconds; outside the wave is silence.
    """
    half = round(LOUDNESS_WINDOW_S * rate_hz / 2)
    window = np.hanning(2 * half + 1)[1:]
    power = np.zeros(len(wave))
    if len(wave) > 2 * half:
        power = np.convolve(np.asarray(wave, np.float64) ** 2, window / window.sum(), "same")
    index = np.round(np.asarray(times_s) * rate_hz).astype(int)
    inside = (index >= 0) & (index < len(power))
    out = np.full(len(index), 10 ** (LOUDNESS_FLOOR_DB / 10))
    out[inside] = np.maximum(power[index[inside]], out[inside])
    return (10 * np.log10(out)).astype(np.float32)


def get_curve_times(plan: SpeechPlan) -> np.ndarray:
    """Get the times (2 U,) of a plan's curve values, seconds from its start: the middle of each 12.5 ms."""
    return (np.arange(CURVE_VALUES_PER_UNIT * plan.units) + 0.5) * CURVE_STEP_S


def compute_interval_st(above_hz: np.ndarray | float, hz: np.ndarray | float) -> np.ndarray | float:
    """Compute the interval in semitones from the second to the first; arrays or numbers in Hz, both positive."""
    return 12 * np.log2(above_hz / hz)


def measure_contours(wave: np.ndarray, plan: SpeechPlan) -> tuple[F0Contour, np.ndarray]:
    """Measure the contours of a spoken plan: (F0, loudness (2 U,) in dB). wave: (1, S) or (S,) at 24 kHz."""
    wave = np.asarray(wave).reshape(-1)
    return estimate_f0(wave, VOICE_RATE_HZ), compute_loudness_contour(wave, VOICE_RATE_HZ, get_curve_times(plan))
