"""The watermark of dialogue: put in, heard again after the mix and the encoder, not heard where it is not."""

from fractions import Fraction

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.provenance import watermark

needs_perth = pytest.mark.skipif(
    watermark.get_unavailable_reason() is not None, reason=str(watermark.get_unavailable_reason())
)


def babble(seconds, rate_hz, seed=0):
    """A voice-like sound: a buzz of wandering pitch through wandering resonances, in syllables. (1, S) float32."""
    from scipy.signal import lfilter

    noise, count = np.random.default_rng(seed), int(seconds * rate_hz)
    pitch_hz = 120 + 25 * np.sin(np.cumsum(noise.standard_normal(count)) / 300)
    wave = 2 * (np.cumsum(pitch_hz / rate_hz) % 1) - 1 + 0.05 * noise.standard_normal(count)
    out, block = np.zeros(count), int(0.2 * rate_hz)
    for start in range(0, count, block):
        piece = wave[start : start + block]
        for centre_hz in (noise.uniform(300, 800), noise.uniform(900, 2200), 2600):
            pole = 0.97 * np.exp(2j * np.pi * centre_hz / rate_hz)
            piece = lfilter([1], [1, -2 * pole.real, abs(pole) ** 2], piece)
        out[start : start + block] = piece / np.abs(piece).max() * np.hanning(len(piece)) * noise.choice([1, 0.7, 0.02])
    return (0.3 * out[None]).astype(np.float32)


@needs_perth
@pytest.mark.parametrize("rate_hz, channels", [(24_000, 1), (48_000, 2), (44_100, 1)])
def test_what_was_put_in_is_heard_and_what_was_not_is_not(rate_hz, channels):
    sound = Sound(np.repeat(babble(3, rate_hz), channels, 0), rate_hz)
    marked = watermark.embed_watermark(sound)
    assert (
        marked.samples.shape == sound.samples.shape and marked.samples.dtype == np.float32 and marked.rate_hz == rate_hz
    )
    assert watermark.detect_watermark(marked).found and watermark.detect_watermark(marked).score > 0.9
    assert not watermark.detect_watermark(sound).found and watermark.detect_watermark(sound).score < 0.3


@needs_perth
def test_it_lies_below_two_kilohertz_and_well_below_the_voice():
    sound = Sound(babble(3, 48_000), 48_000)
    change = (watermark.embed_watermark(sound).samples - sound.samples)[0]
    power = np.abs(np.fft.rfft(change)) ** 2
    above = np.fft.rfftfreq(len(change), 1 / 48_000) > 2_200
    assert power[above].sum() < 1e-3 * power.sum()
    assert 10 < 10 * np.log10((sound.samples**2).mean() / (change**2).mean()) < 30


@needs_perth
def test_it_is_heard_in_the_finished_film_under_a_bed(tmp_path):
    marked = watermark.embed_watermark(Sound(babble(3, 24_000), 24_000))
    bed = 0.002 * np.random.default_rng(1).standard_normal(marked.samples.shape).astype(np.float32)
    with VideoWriter(tmp_path / "film.mp4", Fraction(5), 32, 32, Sound(marked.samples + bed, 24_000)) as writer:
        for _ in range(15):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    assert watermark.detect_watermark(read_sound(tmp_path / "film.mp4")).found


@pytest.mark.parametrize("seconds", [0.2, 1.5, 1.6, 4.0])
def test_blocks_overlap_with_fades_that_sum_to_one(monkeypatch, seconds):
    monkeypatch.setattr(watermark, "_load_net", lambda: None)
    monkeypatch.setattr(watermark, "_compute_change", lambda wave: wave.copy())
    monkeypatch.setattr(watermark, "_BLOCK_SAMPLES", 3 * watermark.WATERMARK_RATE_HZ // 2)
    sound = Sound(babble(seconds, watermark.WATERMARK_RATE_HZ), watermark.WATERMARK_RATE_HZ)
    assert np.allclose(watermark.embed_watermark(sound).samples, 2 * sound.samples, atol=1e-6)


@needs_perth
def test_verify_listens_to_the_sound_of_a_file(tmp_path, monkeypatch):
    from mouthpiece.engine.provenance.verification import format_verification, verify_file

    write_sound(tmp_path / "line.wav", watermark.embed_watermark(Sound(babble(3, 24_000), 24_000)))
    found = verify_file(tmp_path / "line.wav")
    assert found["state"] == "unmarked" and found["heard"]["found"] is True and found["heard"]["listened_s"] == 3
    assert "no mark" in format_verification(found) and "watermark in the sound: heard" in format_verification(found)
    write_sound(tmp_path / "plain.wav", Sound(babble(3, 24_000), 24_000))
    assert "watermark in the sound: not heard" in format_verification(verify_file(tmp_path / "plain.wav"))
    monkeypatch.setattr(watermark, "get_unavailable_reason", lambda: "the package is not installed")
    assert "not looked for (the package is not installed)" in format_verification(verify_file(tmp_path / "line.wav"))


@needs_perth
def test_silence_stays_silence_and_carries_nothing():
    for seconds in (0.02, 1):
        silence = Sound(np.zeros((1, int(24_000 * seconds)), np.float32), 24_000)
        assert np.abs(watermark.embed_watermark(silence).samples).max() < 1e-6
        assert watermark.detect_watermark(silence) == watermark.WatermarkDetection(0.0, ())


@needs_perth
def test_long_sound_is_marked_in_blocks_and_heard_in_windows(monkeypatch):
    sound = Sound(babble(4, watermark.WATERMARK_RATE_HZ), watermark.WATERMARK_RATE_HZ)
    monkeypatch.setattr(watermark, "_BLOCK_SAMPLES", 3 * watermark.WATERMARK_RATE_HZ // 2)
    monkeypatch.setattr(watermark, "_WINDOW_SAMPLES", 2 * watermark.WATERMARK_RATE_HZ)
    marked = watermark.embed_watermark(sound)
    assert [span[0] for span in watermark.detect_watermark(marked).spans_s] == [0.0, 2.0]
    half = Sound(
        np.concatenate(
            [sound.samples[:, : 2 * watermark.WATERMARK_RATE_HZ], marked.samples[:, 2 * watermark.WATERMARK_RATE_HZ :]],
            1,
        ),
        watermark.WATERMARK_RATE_HZ,
    )
    assert watermark.detect_watermark(half).spans_s == ((2.0, 4.0),)


def test_where_the_package_is_missing_that_is_said(monkeypatch):
    monkeypatch.setattr(watermark, "find_spec", lambda name: None)
    watermark._load_net.cache_clear()
    assert "resemble-perth is not installed" in watermark.get_unavailable_reason()
    with pytest.raises(MissingDependencyError, match="resemble-perth is not installed"):
        watermark.embed_watermark(Sound(np.zeros((1, 9_000), np.float32), 24_000))


def test_another_version_of_the_weights_is_refused(monkeypatch, tmp_path):
    (tmp_path / "weights").write_bytes(b"other")
    monkeypatch.setattr(watermark, "_find_weights", lambda: tmp_path / "weights")
    watermark._load_net.cache_clear()
    with pytest.raises(MissingDependencyError, match="is not the file of resemble-perth 1.0.1"):
        watermark.detect_watermark(Sound(np.zeros((1, 9_000), np.float32), 24_000))
