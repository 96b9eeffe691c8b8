"""Audio-visual synchrony of a mouth: its opening against that of a real mouth, or against what the sound predicts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from mouthpiece.engine.encoders.articulatory_features import MOUTH_SHAPES
from mouthpiece.engine.encoders.phonetic import PHONES, RATE_HZ, extract_articulation
from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.timeline import ARTICULATION_HZ, MOTION_HZ
from mouthpiece.evaluation.missing import NotMeasured, check_finite, fill_missing
from mouthpiece.face.measure import compute_correlation, correlate_at_lag, find_best_lag

if TYPE_CHECKING:
    from typing import Any

MAX_LAG_FRAMES = 5  # how far synchrony is searched on either side, in frames of 40 ms
NEAR_LAG_FRAMES = 2  # on either side, in frames of 40 ms
BLEND_TICKS = 2  # deviation of the blend of neighbouring phones, in ticks of 20 ms


class OpeningCurve(NamedTuple):
    """Hold the opening that a mouth should have. opening: (N,) at 25 Hz.  source: "against", "articulation" or
    "energy".
    """

    opening: np.ndarray
    source: str


SYNC_KEYS = (
    "sync_correlation",
    "sync_near_correlation",
    "sync_best_correlation",
    "sync_lag_frames",
    "sync_lag_ms",
    "av_offset_ms",
)


def measure_sync(wanted: np.ndarray, opening: np.ndarray, max_lag_frames: int = MAX_LAG_FRAMES) -> dict[str, Any]:
    """Return the correlation of a mouth with its reference as it stands, the best within two frames, the best of all
    and its lag, positive when the mouth is late.

    wanted, opening: (N,), (M,) at 25 Hz, NaN allowed; the common part counts.
    max_lag_frames: frames of 40 ms.
    Returns a dict with SYNC_KEYS; av_offset_ms is the lag between frames, by a parabola through three correlations.
    """
    n = min(len(wanted), len(opening))
    wanted, opening = wanted[:n], opening[:n]
    usual = compute_correlation(wanted, opening)
    reach = min(max_lag_frames, max(0, n - 3))
    best, lag = find_best_lag(wanted, opening, reach)
    if not math.isfinite(best):
        return fill_missing(
            SYNC_KEYS, "the mouth or its reference does not move, or fewer than three frames can be compared"
        )
    near, _ = find_best_lag(wanted, opening, min(NEAR_LAG_FRAMES, reach))
    sides = [correlate_at_lag(wanted, opening, lag + d) if abs(lag) < reach else math.nan for d in (-1, 0, 1)]
    step_ms = 1000 / float(MOTION_HZ)
    near_or_missing = check_finite(near, "the mouth or its reference does not move")
    values = (usual, near_or_missing, best, lag, lag * step_ms, (lag + interpolate_peak(*sides)) * step_ms)
    return dict(zip(SYNC_KEYS, values))


def interpolate_peak(left: float, middle: float, right: float) -> float:
    """Return the position between -0.5 and 0.5 of the vertex of the parabola through three values at -1, 0 and 1; 0
    when it has no maximum.
    """
    bend = left - 2 * middle + right
    if not (math.isfinite(left) and math.isfinite(right) and bend < -1e-12):
        return 0.0
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))


def compute_amplitude_ratio(wanted: np.ndarray, opening: np.ndarray) -> float | NotMeasured:
    """Compute the standard deviation of a mouth's opening over that of the real one, in the common part.

    wanted, opening: (N,), (M,) at 25 Hz, NaN allowed.
    Returns a float, or NotMeasured where the real mouth does not move.
    """
    n = min(len(wanted), len(opening))
    both = np.isfinite(wanted[:n]) & np.isfinite(opening[:n])
    if both.sum() < 3 or wanted[:n][both].std() < 1e-9:
        return NotMeasured("the real mouth does not move, or fewer than three frames can be compared")
    return float(opening[:n][both].std() / wanted[:n][both].std())


def estimate_opening(wave: np.ndarray, activity: np.ndarray) -> OpeningCurve:
    """Estimate the OpeningCurve of a mouth from its sound: by the phones that the embedded encoder recognizes, or by
    loudness without its weights.

    wave: (S,) float32 at 16 kHz.  activity: (T,) as `detect_speech_activity` gives it.
    Phones are weighted by their measured openings (`MOUTH_SHAPES`).
    """
    try:
        from mouthpiece.engine.encoders.phonetic import load_phonetic_encoder

        curve, source = (
            compute_phone_opening(extract_articulation(load_phonetic_encoder(), wave).phone_posteriors),
            "articulation",
        )
    except MissingDependencyError:
        curve, source = compute_energy_curve(wave), "energy"
    n = min(len(curve), len(activity))
    curve = curve[:n] * activity[:n]
    return OpeningCurve(curve[: n // 2 * 2].reshape(-1, 2).mean(1), source)


def compute_phone_opening(posteriors: np.ndarray) -> np.ndarray:
    """Compute the expected opening, (T,) in [0, 1] at 50 Hz, blended over 80 ms. posteriors: (T, 40) of PHONES."""
    return gaussian_filter1d(
        posteriors @ np.array([MOUTH_SHAPES[phone].measured_opening for phone in PHONES]), BLEND_TICKS
    )


def compute_energy_curve(wave: np.ndarray) -> np.ndarray:
    """Compute the level of a sound as (T,) in [0, 1] at 50 Hz: 0 is 40 dB below the loudest tick, smoothed over 80 ms.

    wave: (S,) at 16 kHz.
    """
    unit = RATE_HZ // int(ARTICULATION_HZ)
    wave = np.pad(wave, (0, -len(wave) % unit)).reshape(-1, unit)
    level_db = 10 * np.log10((wave**2).mean(1) + 1e-10)
    return gaussian_filter1d(np.clip(1 + (level_db - level_db.max(initial=-100)) / 40, 0, 1), BLEND_TICKS)
