import numpy as np
import pytest

from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.plan.time_stretch import stretch_wave

RATE_HZ = 24000


def buzz(seconds=1.0, hz=120.0):
    at = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return sum(np.sin(2 * np.pi * hz * k * at) / k for k in range(1, 12)).astype(np.float32) * 0.1


@pytest.mark.parametrize("factor", (0.77, 0.9, 1.11, 1.5))
def test_the_length_is_exact_and_the_pitch_stays(factor):
    out = stretch_wave(buzz(), RATE_HZ, factor)
    assert len(out) == round(RATE_HZ * factor) and out.dtype == np.float32
    middle = out[len(out) // 4 : 3 * len(out) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 18))
    assert np.argmax(spectrum) * RATE_HZ / (1 << 18) == pytest.approx(120, abs=2)


def test_a_factor_of_one_gives_the_wave_itself():
    assert np.array_equal(stretch_wave(buzz(), RATE_HZ, 1.0), buzz())


@pytest.mark.parametrize("samples", (0, 1, 50, 900))
def test_a_blip_and_nothing_are_stretched_too(samples):
    wave = buzz()[:samples]
    assert len(stretch_wave(wave, RATE_HZ, 0.8)) == round(samples * 0.8)
    assert len(stretch_wave(wave, RATE_HZ, 1.3)) == round(samples * 1.3)


def test_silence_stays_silent():
    out = stretch_wave(np.zeros(RATE_HZ, np.float32), RATE_HZ, 0.8)
    assert len(out) == round(0.8 * RATE_HZ) and not out.any()


@pytest.mark.parametrize("factor", (0.0, -1.0, 9.0, float("nan")))
def test_other_factors_are_refused(factor):
    with pytest.raises(UsageError, match="stretch"):
        stretch_wave(buzz(), RATE_HZ, factor)
