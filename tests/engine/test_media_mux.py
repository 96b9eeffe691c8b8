"""A picture copied packet by packet with new sound: same frames at the same times, sound where it belongs, nothing
half-written.
"""

from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.media.mux import copy_with_sound, open_wave_writer
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.writing import VideoWriter


def flash_video(path, rate, frames=40, flash=25):
    with VideoWriter(path, rate, 64, 48) as writer:
        for index in range(frames):
            level = 235 if index == flash else 20 + index
            writer.write(np.full((48, 64, 3), level, np.uint8))
    return path


def click(at, seconds, rate_hz=44_100):
    wave = np.zeros((1, int(seconds * rate_hz)), np.float32)
    wave[0, round(float(at) * rate_hz)] = 0.9
    return Sound(wave, rate_hz)


def frames_of(path):
    with VideoReader(path) as reader:
        return [(frame.time, frame.pixels) for frame in reader]


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60"])
@pytest.mark.parametrize("suffixes", [(".mp4", ".mp4"), (".mkv", ".mp4"), (".mp4", ".mkv"), (".mkv", ".mov")])
def test_frames_are_the_same_and_the_clap_stays_with_its_flash(tmp_path, rate, suffixes):
    rate = Fraction(rate)
    video = flash_video(tmp_path / ("in" + suffixes[0]), rate)
    output = tmp_path / ("out" + suffixes[1])
    assert copy_with_sound(video, output, click(25 / rate, 40 / rate)) == 40
    before, after = frames_of(video), frames_of(output)
    assert len(before) == len(after) == 40
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(before, after))
    assert max(abs(a[0] - b[0]) for a, b in zip(before, after)) <= Fraction(1, 1000)
    flash = next(time for time, pixels in after if pixels.mean() > 200)
    wave = read_sound(output).samples[0]
    assert abs(np.abs(wave).argmax() / 48_000 - float(flash)) < float(1 / rate) / 2
    assert abs(len(wave) / 48_000 - float(40 / rate)) < 0.05
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([video.name, output.name])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_the_copy_has_the_rate_of_the_film_also_where_the_coded_picture_says_another(tmp_path, suffix):
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30_000, 1001))
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.time_base = (
            64,
            48,
            "yuv420p",
            Fraction(1, 90_000),
        )
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * index, np.uint8), format="rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = 3003 * index, Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    output = tmp_path / f"out{suffix}"
    copy_with_sound(tmp_path / "in.mp4", output, click(Fraction(1, 5), 0.6))
    assert probe(tmp_path / "in.mp4").rate == probe(output).rate == Fraction(30_000, 1001)


def test_the_sound_keeps_its_channels_and_is_mixed_down_where_that_is_asked(tmp_path):
    video, wave = flash_video(tmp_path / "in.mp4", Fraction(25), frames=5), np.zeros((6, 9_600), np.float32)
    wave[2] = 0.3 * np.sin(np.arange(9_600) / 40)
    for channels, wanted in ((None, 6), (2, 2)):
        copy_with_sound(video, tmp_path / "out.mp4", Sound(wave, 48_000), True, channels=channels)
        made = read_sound(tmp_path / "out.mp4")
        assert made.channels == wanted and (channels or (made.samples**2).mean(1).argmax() == 2)


def test_a_turned_picture_stays_turned(tmp_path):
    with av.open(str(tmp_path / "turned.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(90)
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    copy_with_sound(tmp_path / "turned.mp4", tmp_path / "out.mp4", click(0.5, 1))
    assert probe(tmp_path / "out.mp4").rotation_degrees == probe(tmp_path / "turned.mp4").rotation_degrees != 0


def test_a_codec_that_the_container_cannot_hold_is_refused_and_mkv_takes_it(tmp_path):
    path = tmp_path / "old.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("msmpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(InvalidInputError, match="msmpeg4\\w* cannot be stored in a .mp4"):
        copy_with_sound(path, tmp_path / "out.mp4", click(0.1, 0.4))
    assert [p.name for p in tmp_path.iterdir()] == ["old.avi"]
    assert copy_with_sound(path, tmp_path / "out.mkv", click(0.1, 0.4)) == 10


def test_names_and_inputs_are_guarded(tmp_path):
    video = flash_video(tmp_path / "in.mp4", Fraction(25), 5, 2)
    with pytest.raises(UsageError, match="input of the same job"):
        copy_with_sound(video, video, click(0, 0.2), overwrite=True)
    with pytest.raises(UsageError, match=".avi"):
        copy_with_sound(video, tmp_path / "out.avi", click(0, 0.2))
    (tmp_path / "tone.wav").write_bytes(b"")
    soundfile.write(tmp_path / "tone.wav", np.zeros(4800), 48_000)
    with pytest.raises(InvalidInputError, match="no moving picture"):
        copy_with_sound(tmp_path / "tone.wav", tmp_path / "out.mp4", click(0, 0.2))


def test_a_wave_is_written_in_pieces_and_only_whole(tmp_path):
    path = tmp_path / "out.wav"
    with open_wave_writer(path, 48_000, 2) as write:
        write(np.full((2, 100), 0.5, np.float32))
        write(np.full((2, 50), 2.0, np.float32))
    wave, rate_hz = soundfile.read(path)
    assert wave.shape == (150, 2) and rate_hz == 48_000 and wave.max() <= 1
    with pytest.raises(ZeroDivisionError), open_wave_writer(tmp_path / "no.wav", 48_000, 1) as write:
        write(np.zeros((1, 10), np.float32))
        raise ZeroDivisionError
    with open_wave_writer(tmp_path / "long.wav", 8_000, 1, samples=2**32, subtype="FLOAT") as write:
        write(np.full((1, 10), 0.25, np.float32))
    assert (tmp_path / "long.wav").read_bytes()[:4] == b"RF64"
    assert read_sound_of(tmp_path / "long.wav") == 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.wav", "out.wav"]


def read_sound_of(path):
    return soundfile.info(path).frames
