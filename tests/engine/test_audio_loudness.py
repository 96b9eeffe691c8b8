import numpy as np
import pyloudnorm
import pytest

from mouthpiece.engine.audio.loudness import (
    HOP_SAMPLES,
    Loudness,
    LoudnessMeter,
    compute_gated_lufs,
    measure_file_loudness,
    measure_loudness,
    measure_stereo_lufs,
    measure_wave_lufs,
)
from mouthpiece.engine.audio.loudness_targets import compute_limiter_gain, compute_mastering, parse_loudness_target
from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import UsageError

RATE_HZ = 48_000


def programme(channels=2, length_s=3, seed=0):
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.uniform(0.01, 0.3, length_s * 10), RATE_HZ // 10)
    return (rng.normal(0, 1, (channels, length_s * RATE_HZ)) * level).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_loudness_in_blocks_is_that_of_pyloudnorm(channels):
    samples = programme(channels)
    meter = LoudnessMeter(channels)
    for start in range(0, samples.shape[1], 31_337):
        meter.add(samples[:, start : start + 31_337])
    heard = samples[[0, 1, 2, 4, 5]] if channels == 6 else samples  # it knows no low-frequency channel
    reference = pyloudnorm.Meter(RATE_HZ).integrated_loudness(heard.T.astype(float))
    assert meter.result().lufs == pytest.approx(reference, abs=1e-4)


def test_the_true_peak_lies_between_the_samples():
    # samples reach 0.707
    wave = np.sin(2 * np.pi * 12_000 * np.arange(RATE_HZ) / RATE_HZ + np.pi / 4).astype(np.float32)
    assert np.abs(wave).max() < 0.71
    assert measure_loudness(Sound(wave[None], RATE_HZ)).true_peak_db == pytest.approx(0, abs=0.15)


def test_a_full_scale_tone_reads_as_the_standard_says():
    wave = np.sin(2 * np.pi * 997 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    assert measure_loudness(Sound(wave[None], RATE_HZ)).lufs == pytest.approx(-3.01, abs=0.05)
    half_rate = Sound(resample(wave[None], RATE_HZ, RATE_HZ // 2), RATE_HZ // 2)
    assert measure_loudness(half_rate).lufs == pytest.approx(-3.01, abs=0.05)


def test_silence_and_a_click_have_no_loudness_and_no_infinity():
    assert measure_loudness(Sound(np.zeros((2, RATE_HZ), np.float32), RATE_HZ)).as_dict() == {
        "lufs": None,
        "true_peak_db": None,
    }
    short = measure_loudness(Sound(np.full((1, 4800), 0.5, np.float32), RATE_HZ))
    assert short.lufs is None and short.true_peak_db > -7


@pytest.mark.parametrize("name", ["r128", "web", "netflix", "-16", "-30.5"])
def test_programmes_land_on_their_target_under_its_peak(name):
    samples, target = programme(seed=3), parse_loudness_target(name)
    samples[:, ::20_000] *= 6
    meter = LoudnessMeter(2)
    meter.add(samples)
    mastering = compute_mastering(meter.get_hop_levels(), meter.get_hop_levels(), target)
    after = measure_loudness(
        Sound((samples * mastering.compute_gains(0, samples.shape[1])).astype(np.float32), RATE_HZ)
    )
    assert after.lufs == pytest.approx(target.lufs, abs=0.1)
    assert after.true_peak_db <= target.peak_db


def test_the_limiter_never_lets_a_peak_through_and_leaves_quiet_alone():
    peaks = np.random.default_rng(0).uniform(0, 0.7, 3000).astype(np.float32)
    peaks[[500, 501, 1500]] = (1.5, 3.0, 2.0)
    gain = compute_limiter_gain(peaks, 0.8)
    assert len(gain) == 3001
    assert (np.maximum(gain[:-1], gain[1:]) * peaks).max() <= 0.8 + 1e-6
    assert np.all(gain[:490] == 1) and gain[501] < 0.27 and gain[1400] > 0.99
    assert np.abs(np.diff(gain)).max() < 0.2  # it falls in milliseconds, not at once
    assert np.all(compute_limiter_gain(peaks[:400], 0.8) == 1)


def test_gains_are_lines_between_milliseconds_wherever_they_are_asked_for():
    meter = LoudnessMeter(1)
    meter.add(2 * programme(1))
    mastering = compute_mastering(meter.get_hop_levels(), meter.get_hop_levels(), parse_loudness_target("web"))
    whole = mastering.compute_gains(0, 10_000)
    assert np.allclose(np.concatenate([mastering.compute_gains(0, 3333), mastering.compute_gains(3333, 6667)]), whole)
    assert whole[HOP_SAMPLES] == pytest.approx(10 ** (mastering.gain_db / 20) * mastering.envelope[1], rel=1e-5)


def test_what_cannot_be_brought_to_a_loudness_is_said():
    silent = LoudnessMeter(1)
    silent.add(np.zeros((1, RATE_HZ), np.float32))
    mastering = compute_mastering(silent.get_hop_levels(), silent.get_hop_levels(), parse_loudness_target("r128"))
    assert mastering.gain_db == 0 and "silent" in mastering.note
    full = LoudnessMeter(1)
    full.add(programme(1))
    assert (
        "no dialogue"
        in compute_mastering(full.get_hop_levels(), silent.get_hop_levels(), parse_loudness_target("netflix")).note
    )


@pytest.mark.parametrize("text", ["loud", "0", "-70", "nan", None])
def test_nonsense_is_no_loudness(text):
    with pytest.raises(UsageError, match="r128"):
        parse_loudness_target(text)


def test_a_file_is_as_loud_as_its_sound_and_as_pyloudnorm_says(tmp_path):
    samples = programme(2, 2) * np.float32(0.3)
    write_sound(tmp_path / "a.wav", Sound(samples, RATE_HZ), bits=24)
    reference = pyloudnorm.Meter(RATE_HZ).integrated_loudness(samples.T.astype(float))
    assert measure_stereo_lufs(tmp_path / "a.wav") == pytest.approx(reference, abs=0.001)
    whole = measure_file_loudness(tmp_path / "a.wav")
    assert whole.lufs == pytest.approx(reference, abs=0.001)
    assert whole.true_peak_db == pytest.approx(measure_loudness(Sound(samples, RATE_HZ)).true_peak_db, abs=0.01)


def test_surround_is_metered_in_all_channels_or_mixed_to_two(tmp_path):
    samples = np.zeros((6, RATE_HZ), np.float32)
    samples[4] = programme(1, 1)[0]
    write_sound(tmp_path / "a.wav", Sound(samples, RATE_HZ), bits=24)
    front = measure_loudness(Sound(samples[[4, 3]], RATE_HZ)).lufs
    assert measure_file_loudness(tmp_path / "a.wav").lufs == pytest.approx(front + 10 * np.log10(1.41), abs=0.01)
    assert measure_stereo_lufs(tmp_path / "a.wav") < front - 3


def test_files_of_silence_and_of_a_moment_have_no_loudness(tmp_path):
    write_sound(tmp_path / "a.wav", Sound(np.zeros((1, RATE_HZ), np.float32), RATE_HZ))
    write_sound(tmp_path / "b.wav", Sound(np.full((1, RATE_HZ // 4), 0.5, np.float32), RATE_HZ))
    assert measure_file_loudness(tmp_path / "a.wav") == Loudness(None, None)
    assert measure_stereo_lufs(tmp_path / "a.wav") is None and measure_stereo_lufs(tmp_path / "b.wav") is None


def test_blocks_below_the_gates_do_not_count():
    assert compute_gated_lufs(np.zeros(20)) is None
    assert compute_gated_lufs(np.ones(4)) == pytest.approx(-0.691)
    assert compute_gated_lufs(np.array([1.0, 0.05, 1.0])) == pytest.approx(-0.691)


def test_loudness_of_a_line_follows_its_gain_and_short_sounds_have_none():
    wave = programme(1)[0]
    assert measure_wave_lufs(wave / 2, RATE_HZ) - measure_wave_lufs(wave, RATE_HZ) == pytest.approx(-6.02, abs=0.01)
    assert measure_wave_lufs(wave[:2000], RATE_HZ) is None and measure_wave_lufs(0 * wave, RATE_HZ) is None
