"""Resampling of sound in memory."""

import numpy as np
import pytest

from mouthpiece.engine.audio.resample import iterate_delivery_blocks, resample
from mouthpiece.engine.audio.sound import Sound


@pytest.mark.parametrize("rate_in_hz, rate_out_hz", [(48_000, 16_000), (24_000, 16_000), (44_100, 48_000)])
def test_a_tone_stays_the_tone_it_was(rate_in_hz, rate_out_hz):
    def tone(rate_hz):
        return np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz).astype(np.float32)

    out = resample(np.stack([tone(rate_in_hz), -tone(rate_in_hz)]), rate_in_hz, rate_out_hz)
    assert out.shape == (2, rate_out_hz) and out.dtype == np.float32
    middle = slice(rate_out_hz // 10, -rate_out_hz // 10)
    assert np.abs(out[0] - tone(rate_out_hz))[middle].max() < 2e-3 and np.array_equal(out[1], -out[0])


def test_sound_at_the_rate_wanted_is_not_touched():
    wave = np.ones(9, np.float32)
    assert resample(wave, 16_000, 16_000) is wave


def test_delivery_blocks_last_a_second_and_together_as_long_as_the_sound():
    blocks = list(iterate_delivery_blocks(Sound(np.zeros((2, 22_051), np.float32), 11_025)))
    assert [block.shape for block in blocks] == [(2, 48_000), (2, 48_000), (2, 4)]
