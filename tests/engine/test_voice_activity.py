"""Voice activity: silence, noise and instruments are nothing, speech and held vowels are everything."""

import numpy as np
import pytest
from scipy.signal import lfilter, resample_poly

from mouthpiece.engine.audio.voice_activity import (
    MAX_GAP_S,
    MIN_RUN_S,
    PAD_S,
    SPEECH_ONSET,
    apply_hysteresis,
    clean_mask,
    compute_speech_probability,
    compute_vowel_probability,
    detect_speech_activity,
    find_runs,
)
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.weights.records import record_models

RATE_HZ = 16_000
QUIET = np.zeros(RATE_HZ // 2, np.float32)


@pytest.fixture(scope="module")
def line():
    """A line spoken by the small English voice, 16 kHz, about 3 s."""
    from hibari import Hibari

    spoken = Hibari(threads=1)("The quick brown fox jumps over the lazy dog.")
    return resample_poly(spoken, 2, 3).astype(np.float32)


def sung_vowel(pitch_hz=150, seconds=4, formants_hz=(700, 1150, 2500, 3400)):
    """An "ah" with vibrato by pulses through four resonances."""
    count = RATE_HZ * seconds
    t = np.arange(count) / RATE_HZ
    phase = np.cumsum(pitch_hz * (1 + 0.012 * np.sin(2 * np.pi * 5.5 * t))) / RATE_HZ
    x = lfilter([1], [1, -0.96], np.diff(np.floor(phase), prepend=0))
    for centre, band in zip(formants_hz, (90, 100, 140, 200)):
        r = np.exp(-np.pi * band / RATE_HZ)
        x = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * centre / RATE_HZ), r * r], x)
    x = np.diff(x, prepend=0) * np.clip(np.minimum(t, t[::-1]) / 0.08, 0, 1)
    return (0.3 * x / np.abs(x).max()).astype(np.float32)


def chord(pitches_hz, seconds=3, overtones=12):
    t = np.arange(RATE_HZ * seconds) / RATE_HZ
    x = sum(np.sin(2 * np.pi * p * k * t + k) / k for p in pitches_hz for k in range(1, overtones + 1))
    return (0.3 * x / np.abs(x).max()).astype(np.float32)


def noise(colour, level=0.1, seconds=3):
    spectrum = np.fft.rfft(np.random.default_rng(4).normal(size=RATE_HZ * seconds))
    if colour == "pink":
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    x = np.fft.irfft(spectrum)
    return (level * x / x.std()).astype(np.float32)


NO_VOICE = {
    "nothing": np.zeros(RATE_HZ * 2, np.float32),
    "white noise": noise("white"),
    "faint white noise": noise("white", 1e-4),
    "pink noise": noise("pink"),
    "C major": chord((261.6, 329.6, 392.0)),
    "low organ": chord((110, 220, 330, 440, 550)),
    "one held tone": chord((220,)),
    "one bright low tone": chord((130.8,), overtones=50),
}


@pytest.mark.parametrize("name", NO_VOICE)
def test_what_is_no_voice_is_zero(name):
    sound = NO_VOICE[name]
    assert detect_speech_activity(sound).max() == 0
    assert detect_speech_activity(np.r_[QUIET, sound, QUIET]).max() == 0


def test_a_spoken_line_is_one_and_the_silence_around_it_zero(line):
    activity = detect_speech_activity(np.r_[QUIET, line, QUIET])
    loudness = np.sqrt((line[: len(line) // 320 * 320].reshape(-1, 320) ** 2).mean(1))
    spoken = 25 + np.flatnonzero(loudness > 0.1 * loudness.max())
    assert activity[spoken].min() > 0.9
    assert activity[: spoken[0] - 8].max() == 0
    assert activity[spoken[-1] + 20 :].max() == 0


def test_the_level_of_the_recording_does_not_matter(line):
    whole = detect_speech_activity(np.r_[QUIET, line, QUIET])
    faint = detect_speech_activity(np.r_[QUIET, line * 0.002, QUIET])
    assert np.abs(whole - faint).mean() < 0.02


def test_a_held_vowel_stays_a_voice_where_the_plain_detector_gives_up():
    sound = np.r_[QUIET, sung_vowel(), QUIET]
    assert detect_speech_activity(sound)[30:220].min() == 1
    inside = slice(20, -20)
    assert (compute_speech_probability(sound)[inside] > SPEECH_ONSET).mean() < 0.3
    assert (compute_vowel_probability(sound)[inside] > 0.3).mean() > 0.9


def test_the_mask_covers_the_sound_and_ramps_instead_of_jumping(line):
    for samples in (0, 1, 320, 321, 16_001):
        assert detect_speech_activity(np.zeros(samples, np.float32)).shape == (-(-samples // 320),)
    activity = detect_speech_activity(np.r_[QUIET, line, QUIET])
    assert activity.dtype == np.float32 and activity.min() == 0 and activity.max() == 1
    assert np.abs(np.diff(activity)).max() <= 0.34


def test_blocks_give_what_single_frames_give():
    sound = np.tile(sung_vowel(seconds=2), 10)[: 512 * 600]
    cut = sound[512 * 505 :]
    early = compute_vowel_probability(sound)[508:]
    late = compute_vowel_probability(cut)[3:]
    assert np.allclose(early, late, atol=1e-4)
    assert len(compute_speech_probability(sound)) == 600


def test_hysteresis_keeps_the_whole_run_that_reaches_the_onset():
    values = np.array([0.3, 0.6, 0.3, 0.1, 0.3, 0.4, 0.1, 0.9])
    assert apply_hysteresis(values, 0.5, 0.25).tolist() == [True, True, True, False, False, False, False, True]
    assert apply_hysteresis(np.zeros(0), 0.5, 0.25).shape == (0,)


def test_short_gaps_are_filled_short_runs_dropped_and_the_rest_padded():
    hz = 1000
    mask = np.zeros(1000, bool)
    mask[200:300] = mask[370:400] = True  # 70 ms apart: one run
    mask[600:650] = True  # 50 ms: too short
    assert MAX_GAP_S == 0.08 and MIN_RUN_S == 0.06 and PAD_S == 0.04
    assert find_runs(clean_mask(mask, hz)).tolist() == [[160, 440]]
    assert not clean_mask(np.zeros(0, bool), hz).any()


def test_two_channels_are_refused_with_the_shape_that_is_needed():
    with pytest.raises(UsageError, match=r"\(320, 2\).*need \(S,\)"):
        compute_speech_probability(np.zeros((320, 2), np.float32))
    with pytest.raises(UsageError):
        detect_speech_activity(np.zeros((320, 2), np.float32))


def test_the_detectors_that_were_asked_are_named_for_the_side_car_in_every_job():
    for _ in range(2):
        with record_models() as used:
            compute_speech_probability(QUIET)
        assert [record.name.split()[0] for record in used] == ["silero-vad"]
        assert next(iter(used)).name.endswith("silero_vad_16k_sequence.onnx")
