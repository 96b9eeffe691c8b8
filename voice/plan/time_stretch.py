"""Time stretching of a finished wave at its own pitch: the last step of fitting, the only one for untimed voices."""

from __future__ import annotations

import numpy as np

from mouthpiece.engine.errors import UsageError

MIN_F0_HZ = 60.0  # of the pitch search
MAX_F0_HZ = 600.0  # of the pitch search
MIN_FACTOR = 0.33  # on the duration
MAX_FACTOR = 3.0  # on the duration


def stretch_wave(wave: np.ndarray, rate_hz: int, factor: float) -> np.ndarray:
    """Stretch a wave to `factor` times its duration, pitch kept: (round(S factor),) float32.

    wave: (S,) float32.  factor: 0.33 to 3; 1.0 gives the wave itself.
    Raises UsageError for another factor.
    Source: Praat, "Lengthen (overlap-add)": Moulines and Charpentier 1990, pitch-synchronous overlap-add.
    """
    if not MIN_FACTOR <= factor <= MAX_FACTOR:
        raise UsageError(f"stretch {factor}: need {MIN_FACTOR} to {MAX_FACTOR}.", code="bad_stretch")
    wave = np.asarray(wave, np.float32).reshape(-1)
    wanted = round(len(wave) * float(factor))
    if factor == 1.0 or len(wave) < 4 * rate_hz / MIN_F0_HZ:  # Praat needs a few periods
        if np.any(wave) and factor != 1.0:
            return _resample_linearly(wave, wanted)
        return np.pad(wave[:wanted], (0, max(0, wanted - len(wave))))
    import parselmouth

    sound = parselmouth.Sound(wave.astype(np.float64), rate_hz)
    out = parselmouth.praat.call(sound, "Lengthen (overlap-add)", MIN_F0_HZ, MAX_F0_HZ, float(factor)).values[0]
    return np.pad(out[:wanted], (0, max(0, wanted - len(out)))).astype(np.float32)


def _resample_linearly(wave: np.ndarray, wanted: int) -> np.ndarray:
    """Resample a sound of a few periods linearly: it is too short to have a pitch."""
    if wanted < 1:
        return np.zeros(0, np.float32)
    return np.interp(np.linspace(0, len(wave) - 1, wanted), np.arange(len(wave)), wave).astype(np.float32)
