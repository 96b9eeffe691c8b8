"""Resampling of sound in memory by a polyphase filter; streams are resampled by FFmpeg in mouthpiece.engine.media."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.timeline import DELIVERY_HZ

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mouthpiece.engine.audio.sound import Sound


def resample(samples: np.ndarray, rate_in_hz: int, rate_out_hz: int) -> np.ndarray:
    """Resample sound along its last axis: (..., S') float32, S' rounded up.

    samples: (..., S) float; returned as they are when the rates are equal.
    rate_in_hz, rate_out_hz: samples a second.
    """
    if rate_in_hz == rate_out_hz:
        return samples
    from scipy.signal import resample_poly  # slow to import

    shared = gcd(rate_in_hz, rate_out_hz)
    return resample_poly(samples, rate_out_hz // shared, rate_in_hz // shared, axis=-1).astype(np.float32)


def iterate_delivery_blocks(sound: Sound) -> Iterator[np.ndarray]:
    """Yield a Sound at 48 kHz in (C, S) float32 blocks of a second; its length is right to the nearest sample.

    sound: of any rate.
    """
    samples = sound.samples
    if sound.rate_hz != DELIVERY_HZ:
        length = round(samples.shape[1] * DELIVERY_HZ / sound.rate_hz)
        samples = resample(samples, sound.rate_hz, DELIVERY_HZ)[:, :length]
    for start in range(0, samples.shape[1], DELIVERY_HZ):
        yield samples[:, start : start + DELIVERY_HZ]
