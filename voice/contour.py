"""Melody and loudness of a recording as curves: F0 by Praat, cleaned of octave jumps; loudness in dB."""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from engine.errors import UsageProblem
from voice.plan import CURVE_PER_UNIT, RATE_HZ, UNIT_S

HOP_S = 0.01                                     # of what Praat measures
POINT_S = float(UNIT_S) / CURVE_PER_UNIT         # of a plan's curves
LOWEST_HZ, HIGHEST_HZ = 55.0, 600.0
QUIETEST_DB = -70.0
LOUDNESS_WINDOW_S = 0.05
OCTAVE_ST = 12.0
JUMP_ST = 4.0                                    # from one 10 ms to the next no voice moves so far
TOGETHER_ST = 2.0                                # neighbouring frames closer than this are one melody
OFF_ST = 9.0                                     # a short stretch so far from what is before and after it is no melody
LONGEST_JUMP_FRAMES, REACH_FRAMES = 20, 15       # a longer stretch is meant; what lies further away says nothing
SHORT_FRAMES = 3                                 # voiced stretches below this are accidents


@dataclass(frozen=True, eq=False)
class Melody:
    """F0 of a recording.

    f0_hz: (T,) float32, 0 where unvoiced; value i is about i * 10 ms.
    Source: Praat autocorrelation (Boersma 1993), range by two passes (De Looze and Hirst 2008).
    """

    f0_hz: np.ndarray = field(repr=False)

    @property
    def voiced(self):
        """(T,) bool."""
        return self.f0_hz > 0

    @property
    def median_hz(self):
        """Median of the voiced frames; None without any."""
        return float(np.median(self.f0_hz[self.voiced])) if self.voiced.any() else None

    @property
    def spread_st(self):
        """Standard deviation of the voiced frames in semitones; 0 without any."""
        return float(np.std(12 * np.log2(self.f0_hz[self.voiced]))) if self.voiced.any() else 0.0

    def at(self, times_s):
        """F0 in Hz at any times (N,), carried through unvoiced stretches by lines in semitones; zeros without any voiced frame."""
        if not self.voiced.any():
            return np.zeros(len(times_s), np.float32)
        where = np.flatnonzero(self.voiced)
        return np.exp(np.interp(times_s, where * HOP_S, np.log(self.f0_hz[where]))).astype(np.float32)

    def voiced_at(self, times_s):
        """(N,) bool: whether the frame nearest each time is voiced."""
        index = np.clip(np.round(np.asarray(times_s) / HOP_S).astype(int), 0, len(self.f0_hz) - 1)
        return self.voiced[index]


def melody_of(wave, rate_hz):
    """Melody of a recording; silence has no voiced frame.

    wave: (S,) float32 in [-1, 1].  rate_hz: samples a second.
    Raises UsageProblem for another shape.
    Source: Praat; octave jumps mended by ours.
    """
    import parselmouth

    wave = np.asarray(wave, np.float64)
    if wave.ndim != 1:
        raise UsageProblem(f"wave of shape {wave.shape}: need (S,), one channel.", code="bad_wave")
    frames = max(1, round(len(wave) / rate_hz / HOP_S))
    if len(wave) < rate_hz * 3.5 / LOWEST_HZ or not np.abs(wave).max() > 1e-5:
        return Melody(np.zeros(frames, np.float32))
    sound = parselmouth.Sound(wave, rate_hz)
    times = np.arange(frames) * HOP_S

    def track(floor_hz, ceiling_hz):
        pitch = sound.to_pitch_ac(HOP_S, floor_hz, pitch_ceiling=ceiling_hz)
        return _sampled(pitch.selected_array["frequency"], (times - pitch.t1) / pitch.dt)

    first = track(LOWEST_HZ, HIGHEST_HZ)
    if not (first > 0).any():
        return Melody(first.astype(np.float32))
    low, high = np.quantile(first[first > 0], (0.35, 0.65))
    second = track(max(LOWEST_HZ, 0.6 * low), min(HIGHEST_HZ, max(2.5 * high, 200.0)))
    return Melody(mended(second).astype(np.float32))


def _sampled(f0_hz, at):
    """F0 (N,) at places between frames: on the line between two that belong together, else that of the nearest; 0 outside."""
    low = np.clip(np.floor(at).astype(int), 0, len(f0_hz) - 1)
    high = np.minimum(low + 1, len(f0_hz) - 1)
    a, b = f0_hz[low], f0_hz[high]
    share = np.clip(at - low, 0, 1)
    together = (a > 0) & (b > 0) & (np.abs(12 * np.log2(np.maximum(a, 1) / np.maximum(b, 1))) < TOGETHER_ST)
    between = np.exp((1 - share) * np.log(np.maximum(a, 1)) + share * np.log(np.maximum(b, 1)))
    inside = (at > -0.5) & (at < len(f0_hz) - 0.5)
    return np.where(inside, np.where(together, between, np.where(share < 0.5, a, b)), 0.0)


def mended(f0_hz):
    """F0 (T,) without octave jumps: short stretches an octave off what is beside them are moved;
    those elsewhere, and accidents of under 30 ms, are dropped.

    f0_hz: (T,) Hz, 0 where unvoiced.
    Source: ours.
    """
    out = np.array(f0_hz, float)
    if not (out > 0).any():
        return out
    st = np.where(out > 0, 12 * np.log2(np.maximum(out, 1)), 0)
    voiced = out > 0
    cuts = np.flatnonzero((np.diff(voiced.astype(int)) != 0) | (np.abs(np.diff(st)) > JUMP_ST)) + 1
    for a, b in zip(np.r_[0, cuts], np.r_[cuts, len(st)]):
        if not voiced[a]:
            continue
        before, after = np.flatnonzero(voiced[max(0, a - REACH_FRAMES) : a]), np.flatnonzero(voiced[b : b + REACH_FRAMES])
        jumps = [st[a] - st[max(0, a - REACH_FRAMES) + before[-1]]] if len(before) else []
        jumps += [st[b - 1] - st[b + after[0]]] if len(after) else []
        apart = bool(jumps) and b - a <= LONGEST_JUMP_FRAMES and (min(jumps) > OFF_ST or max(jumps) < -OFF_ST)
        if apart and np.abs(np.abs(jumps) - OCTAVE_ST).max() < OCTAVE_ST - OFF_ST:
            st[a:b] -= OCTAVE_ST * np.sign(jumps[0])
        elif apart or b - a < SHORT_FRAMES:
            voiced[a:b] = False
    return np.where(voiced, 2 ** (st / 12), 0)


def smooth_melody(melody, sigma_s=0.01):
    """The melody without the jitter of single periods. Source: ours; median of three, then a Gaussian inside voiced stretches."""
    voiced = melody.voiced
    if not voiced.any():
        return melody
    st = np.log(melody.at(np.arange(len(voiced)) * HOP_S))
    return Melody(np.where(voiced, np.exp(gaussian_filter1d(median_filter(st, 3), sigma_s / HOP_S)), 0).astype(np.float32))


def loudness_of(wave, rate_hz, times_s):
    """Loudness in dB of full scale around each time (N,) float32, no lower than -70.

    wave: (S,) float32.  rate_hz: samples a second.  times_s: (N,) seconds; outside the wave is silence.
    Source: ours; mean square under a Hann window of 50 ms.
    """
    half = round(LOUDNESS_WINDOW_S * rate_hz / 2)
    window = np.hanning(2 * half + 1)[1:]
    power = np.convolve(np.asarray(wave, np.float64) ** 2, window / window.sum(), "same") if len(wave) > 2 * half else np.zeros(len(wave))
    index = np.round(np.asarray(times_s) * rate_hz).astype(int)
    inside = (index >= 0) & (index < len(power))
    out = np.full(len(index), 10 ** (QUIETEST_DB / 10))
    out[inside] = np.maximum(power[index[inside]], out[inside])
    return (10 * np.log10(out)).astype(np.float32)


def points_s(plan):
    """Times in seconds (2 U,) of a plan's curve values, from its own start. Source: ours; the middle of each 12.5 ms."""
    return (np.arange(CURVE_PER_UNIT * plan.units) + 0.5) * POINT_S


def semitones(above_hz, hz):
    """How many semitones the first lies above the second; arrays or numbers in Hz, both positive. Source: 12 an octave."""
    return 12 * np.log2(above_hz / hz)


def measured(wave, plan):
    """(Melody, loudness (2 U,) in dB at the plan's points) of a spoken plan, (1, S) or (S,) at 24 kHz. Source: ours."""
    wave = np.asarray(wave).reshape(-1)
    return melody_of(wave, RATE_HZ), loudness_of(wave, RATE_HZ, points_s(plan))
