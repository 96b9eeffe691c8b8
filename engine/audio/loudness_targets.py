"""Mastering of a programme to a loudness target: a static gain and a limiter that looks ahead."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mouthpiece.engine.audio.loudness import HOP_SAMPLES, compute_integrated_lufs
from mouthpiece.engine.errors import UsageError

MIN_TARGET_LUFS = -40.0
MAX_TARGET_LUFS = -5.0
MAX_GAIN_DB = 40.0  # a programme this much too quiet is not speech recorded on purpose
LANDING_TOLERANCE_LU = 0.02
MAX_LANDING_ITERATIONS = 12
PEAK_MARGIN_DB = 0.1  # the limiter stays this far below the ceiling
LOOKAHEAD_HOPS = 5  # milliseconds before a peak in which the gain falls
RELEASE_HOPS = 120  # milliseconds in which it recovers
_RELEASE_BLOCK_HOPS = 20 * RELEASE_HOPS  # a decay of that length is still a number


@dataclass(frozen=True)
class LoudnessTarget:
    """The loudness and peak at which a programme is delivered.

    name: as asked for.
    lufs: integrated loudness.
    peak_db: highest true peak, dBTP.
    gated_by: "programme" or "dialogue": what the loudness is measured on.
    tolerance_lu: what a check allows.
    Source: EBU R 128 (2020); Netflix sound mix specifications; what streaming services turn down to.
    """

    name: str
    lufs: float
    peak_db: float
    gated_by: str = "programme"
    tolerance_lu: float = 1.0


LOUDNESS_TARGETS = {
    "r128": LoudnessTarget("r128", -23.0, -1.0, tolerance_lu=0.2),
    "netflix": LoudnessTarget("netflix", -27.0, -2.0, gated_by="dialogue", tolerance_lu=2.0),
    "web": LoudnessTarget("web", -14.0, -1.0),
}
PEAKS_ALONE = LoudnessTarget("none", 0.0, -1.0)  # keeps the level, limits peaks


def parse_loudness_target(text: str) -> LoudnessTarget:
    """Parse the LoudnessTarget asked for.

    text: a key of LOUDNESS_TARGETS, or LUFS as a number from MIN_TARGET_LUFS to MAX_TARGET_LUFS (peak at most -1 dBTP).
    Raises UsageError for anything else.
    """
    if text in LOUDNESS_TARGETS:
        return LOUDNESS_TARGETS[text]
    try:
        lufs = float(text)
    except (TypeError, ValueError):
        lufs = 0.0
    if not MIN_TARGET_LUFS <= lufs <= MAX_TARGET_LUFS:
        need = f"{', '.join(LOUDNESS_TARGETS)}, or LUFS from {MIN_TARGET_LUFS:.0f} to {MAX_TARGET_LUFS:.0f}"
        raise UsageError(f"--loudness {text}: need {need}.", code="bad_loudness")
    return LoudnessTarget(str(text), lufs, -1.0)


def compute_limiter_gain(peaks: np.ndarray, ceiling: float) -> np.ndarray:
    """Compute the gain of a limiter that looks ahead: (N + 1,) in (0, 1], at the edges of the milliseconds.

    peaks: (N,) true peak of every millisecond.
    ceiling: what no peak times its gain exceeds; the gain runs in straight lines between the edges.
    It falls within LOOKAHEAD_HOPS before a peak and recovers slowly; where nothing is too loud it is exactly 1: least
    gain ahead, slow release, mean over the fall.
    """
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9)).astype(np.float64)
    if not len(needed) or needed.min() >= 1:
        return np.ones(len(needed) + 1)
    padded = np.concatenate([[1.0], needed, np.ones(1 + LOOKAHEAD_HOPS)])
    # from the hop before an edge to LOOKAHEAD_HOPS after
    least = np.lib.stride_tricks.sliding_window_view(padded, LOOKAHEAD_HOPS + 2).min(1)
    gain = 1 - _apply_release(1 - least)
    gain = np.concatenate([np.full(LOOKAHEAD_HOPS - 1, gain[0]), gain])
    return np.convolve(gain, np.full(LOOKAHEAD_HOPS, 1 / LOOKAHEAD_HOPS), "valid")


def _apply_release(reduction: np.ndarray) -> np.ndarray:
    """Let every value decay over RELEASE_HOPS: d[k] = max(reduction[k], d[k - 1] * keep)."""
    out, last = np.empty_like(reduction), 0.0
    for start in range(0, len(reduction), _RELEASE_BLOCK_HOPS):
        part = reduction[start : start + _RELEASE_BLOCK_HOPS]
        decay = np.exp(-np.arange(1, len(part) + 1) / RELEASE_HOPS)
        out[start : start + len(part)] = np.maximum(np.maximum.accumulate(part / decay), last) * decay
        last = out[start + len(part) - 1]
    return out


@dataclass(frozen=True, eq=False)
class Mastering:
    """A static gain and a limiter, for one programme.

    gain_db: static.
    envelope: (N + 1,) gain of the limiter at the edges of the milliseconds.
    note: what could not be done; "" when all could.
    """

    gain_db: float
    envelope: np.ndarray = field(repr=False)
    note: str = ""

    @property
    def reduction_db(self) -> float:
        """The most that the limiter takes away, dB."""
        return abs(float(20 * np.log10(self.envelope.min())))

    def compute_gains(self, start: int, samples: int) -> np.ndarray:
        """Compute the gain of every sample from a sample number on: (samples,) float32."""
        at = (start + np.arange(samples)) / HOP_SAMPLES
        limiter = np.interp(at, np.arange(len(self.envelope)), self.envelope)
        return (10 ** (self.gain_db / 20) * limiter).astype(np.float32)


def compute_mastering(
    programme: tuple[np.ndarray, np.ndarray], dialogue: tuple[np.ndarray, np.ndarray], target: LoudnessTarget | None
) -> Mastering:
    """Compute the Mastering that lands a programme on a target, limiter included.

    programme, dialogue: (power, peak) from LoudnessMeter.get_hop_levels, of the mix and of its dialogue.
    target: None limits peaks alone to -1 dBTP.
    The gain is found by trying it on the power of every millisecond.
    """
    power, peaks = programme
    target = target or PEAKS_ALONE
    ceiling = 10 ** ((target.peak_db - PEAK_MARGIN_DB) / 20)
    metered, note = power, ""
    if target.gated_by == "dialogue":
        if compute_integrated_lufs(dialogue[0]) is None:
            note = "no dialogue to meter: metered on the whole programme"
        else:
            metered = dialogue[0]
    before = compute_integrated_lufs(metered)
    if target.name == PEAKS_ALONE.name or before is None:
        note = (
            note if target.name == PEAKS_ALONE.name else "silent, or shorter than 0.4 s: no loudness to bring anywhere"
        )
        return Mastering(0.0, compute_limiter_gain(peaks, ceiling), note)
    gain_db = min(target.lufs - before, MAX_GAIN_DB)
    if gain_db == MAX_GAIN_DB:
        note = f"{before:.1f} LUFS: too quiet, raised by {MAX_GAIN_DB:.0f} dB and no more"
        return Mastering(gain_db, compute_limiter_gain(peaks * 10 ** (gain_db / 20), ceiling), note)
    for _ in range(MAX_LANDING_ITERATIONS):
        envelope = compute_limiter_gain(peaks * 10 ** (gain_db / 20), ceiling)
        gains = (envelope[:-1] + envelope[1:])[: len(metered)] / 2
        landed = compute_integrated_lufs(metered[: len(gains)] * gains**2 * 10 ** (gain_db / 10))
        if landed is None or abs(target.lufs - landed) < LANDING_TOLERANCE_LU or gain_db >= MAX_GAIN_DB:
            break
        gain_db = min(gain_db + target.lufs - landed, MAX_GAIN_DB)
    if landed is not None and abs(target.lufs - landed) > target.tolerance_lu:
        note = f"peaks under {target.peak_db:.0f} dBTP allow {landed:.1f} LUFS at most"
    return Mastering(gain_db, envelope, note)
