"""Recordings as people have them: what cannot be used is refused in one sentence, what can be used works."""

from fractions import Fraction

import numpy as np
import pytest
import soundfile

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.engine.media.writing import VideoWriter


def tone(seconds, channels=1, rate_hz=16_000):
    wave = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate_hz)) / rate_hz)
    return Sound(np.tile(wave.astype(np.float32), (channels, 1)), rate_hz)


def film(path, sound, frames=10):
    with VideoWriter(path, Fraction(25), 64, 64, sound) as writer:
        for i in range(frames):
            writer.write(np.full((64, 64, 3), 20 * i, np.uint8))


def test_a_sound_that_is_not_there_is_refused(refuse):
    assert refuse(5, sound="none.wav") == "none.wav: no such file. Check the name; a recording is needed here."


def test_a_folder_in_the_place_of_the_sound_is_refused(refuse, desk):
    (desk / "folder.wav").mkdir()
    assert "this is a folder" in refuse(5, sound="folder.wav")


def test_an_empty_sound_file_is_refused(refuse, desk):
    (desk / "empty.wav").touch()
    assert "the file is empty (0 bytes)" in refuse(5, sound="empty.wav")


def test_text_under_the_name_of_a_sound_is_refused(refuse, desk):
    (desk / "text.wav").write_text("Dear Sir or Madam,\n" * 50)
    assert "not a recording" in refuse(5, sound="text.wav")


def test_a_picture_in_the_place_of_the_sound_is_refused(refuse):
    assert "no sound" in refuse(5, sound="portrait.png")


def test_a_sound_that_is_cut_off_is_refused(refuse, desk):
    whole = (desk / "line.wav").read_bytes()
    (desk / "half.wav").write_bytes(whole[: len(whole) // 2])
    assert "cut off" in refuse(5, sound="half.wav")


def test_a_video_that_is_cut_off_is_refused(refuse, desk):
    film(desk / "film.mp4", tone(4), 100)
    whole = (desk / "film.mp4").read_bytes()
    for share in (0.05, 0.6):
        (desk / "half.mp4").write_bytes(whole[: int(share * len(whole))])
        assert "cut off" in refuse(5, sound="half.mp4")


def test_a_video_without_sound_is_refused(refuse, desk):
    film(desk / "film.mp4", None)
    assert refuse(5, sound="film.mp4") == "film.mp4: no sound in it. Give a recording or a video with sound."


def test_twenty_milliseconds_of_sound_are_refused(refuse, desk):
    write_sound(desk / "blip.wav", tone(0.02))
    assert refuse(5, sound="blip.wav") == "blip.wav: only 20 ms of sound. Give at least 40 ms."


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e9])
def test_sound_that_holds_no_numbers_or_wild_ones_is_refused(refuse, desk, value):
    wave = tone(0.4).samples[0]
    wave[3000] = value
    soundfile.write(desk / "wild.wav", wave, 16_000, subtype="FLOAT")
    assert "samples must lie in [-1, 1]" in refuse(5, sound="wild.wav")


def test_digital_silence_becomes_a_silent_video_of_its_length(perform, desk):
    write_sound(desk / "silence.wav", Sound(np.zeros((1, 8_000), np.float32), 16_000))
    facts = perform(sound="silence.wav")
    assert facts["frames"] == 6 and facts["voiced_share"] == 0
    assert not read_sound(desk / "out.mp4").samples.any()


@pytest.mark.parametrize("channels", [2, 6, 8])
def test_sound_of_many_channels_works(perform, desk, channels):
    write_sound(desk / "many.wav", tone(0.4, channels, 48_000))
    assert perform(sound="many.wav")["duration_s"] == 0.4
    assert read_sound(desk / "out.mp4").channels == 2


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 96_000])
def test_sound_of_unusual_rates_works(perform, desk, rate_hz):
    write_sound(desk / "other.wav", tone(0.4, 1, rate_hz))
    assert perform(sound="other.wav")["frames"] == 5


def test_the_shortest_sound_that_is_accepted_works(perform, desk):
    write_sound(desk / "blip.wav", tone(0.04))
    assert perform(sound="blip.wav")["frames"] == 1


def test_a_video_lends_its_sound(perform, desk):
    film(desk / "film.mp4", tone(0.4, 2, 48_000))
    facts = perform(sound="film.mp4")
    heard, wanted = (read_sound(desk / name).samples[0, 2_000:17_000] for name in ("out.mp4", "film.mp4"))
    assert facts["frames"] == 5 and np.corrcoef(heard, wanted)[0, 1] > 0.99
