"""What is written, read again and measured; and what is left when writing fails: nothing."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
from small_disk import limit_file_size

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, OutputError, UsageError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.rewrite import VideoRewriter
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.timeline import count_frames

RATES = [
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
    Fraction(50),
    Fraction(60),
]


def tone(seconds, rate_hz, channels=1, hz=440.0, level=0.3):
    wave = level * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)
    return Sound(np.tile(wave.astype(np.float32), (channels, 1)), rate_hz)


def grey(level, width_px=64, height_px=48):
    return np.full((height_px, width_px, 3), level, np.uint8)


def write_video(path, levels, rate=Fraction(25), size_px=(64, 48), **options):
    with VideoWriter(path, rate, *size_px, **options) as writer:
        for level in levels:
            writer.write(grey(level, *size_px))
    return path


def frames_of(path):
    with VideoReader(path) as reader:
        return list(reader)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_a_flash_and_a_click_stay_together_at_every_rate(tmp_path, rate, suffix):
    sound = Sound(np.zeros((1, 3 * 44_100), np.float32), 44_100)
    frames = count_frames(sound.duration, rate)
    flashes = [round(0.5 * rate), round(2.3 * rate)]
    for i in flashes:
        at = round(i / rate * 44_100)
        sound.samples[:, at : at + 30] = 0.9
    path = write_video(tmp_path / f"a{suffix}", [255 * (i in flashes) for i in range(frames)], rate, sound=sound)
    seen = frames_of(path)
    assert len(seen) == frames
    assert seen[0].time == 0
    lit = [float(frame.time) for frame in seen if frame.pixels.mean() > 128]
    heard = read_sound(path)
    loud = np.flatnonzero(np.abs(heard.samples[0]) > 0.3) / heard.rate_hz
    clicks = [loud[0], loud[loud > 1.5][0]]
    assert np.abs(np.array(lit) - clicks).max() < 0.010
    assert np.abs(np.array(lit) - [float(i / rate) for i in flashes]).max() < 0.001
    assert heard.duration >= sound.duration


def test_frames_are_exactly_one_over_rate_apart_in_mp4(tmp_path):
    rate = Fraction(30000, 1001)
    path = write_video(tmp_path / "a.mp4", range(0, 240, 3), rate)
    assert [frame.time for frame in frames_of(path)] == [i / rate for i in range(80)]
    info = probe(path)
    assert (info.rate, info.frames, info.duration) == (rate, 80, 80 / rate)
    assert not info.variable_rate and not info.has_audio


def test_the_video_says_bt709_and_its_colours_come_back(tmp_path):
    path = tmp_path / "a.mp4"
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120), (255, 255, 255)]
    with VideoWriter(path, Fraction(25), 64, 48, crf=8) as writer:
        for colour in colours:
            writer.write(np.broadcast_to(np.uint8(colour), (48, 64, 3)))
    assert probe(path).colour == {"primaries": 1, "transfer": 1, "matrix": 1, "range": 1}
    for frame, colour in zip(frames_of(path), colours, strict=True):
        assert np.abs(frame.pixels.reshape(-1, 3).mean(0) - colour).max() < 4
    with av.open(str(path)) as container:
        luma = next(container.decode(video=0)).to_ndarray(format="yuv420p")[10, 10]
    assert abs(int(luma) - (16 + 219 * 0.2126)) < 3


def test_better_quality_makes_a_larger_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    for crf in (10, 40):
        with VideoWriter(tmp_path / f"{crf}.mp4", Fraction(25), 64, 48, crf=crf) as writer:
            for i in range(10):
                writer.write(np.roll(pixels, i, 1))
    assert (tmp_path / "10.mp4").stat().st_size > 2 * (tmp_path / "40.mp4").stat().st_size


def test_the_same_frames_make_the_same_file_whatever_lies_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (15, 20, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
    files, kept = set(), []
    for _ in range(4):
        kept = [rng.integers(0, 255, rng.integers(1, 200_000), dtype=np.uint8) for _ in range(30)][:: 1 + len(kept) % 2]
        with VideoWriter(tmp_path / "a.mp4", Fraction(25), 320, 240, overwrite=True) as writer:
            for i in range(14):
                writer.write(np.roll(picture, 2 * i, 1))
        files.add((tmp_path / "a.mp4").read_bytes())
    assert len(files) == 1


def test_an_odd_side_gets_one_more_row_or_column_and_the_rest_stays(tmp_path):
    ramp = np.tile(np.arange(63, dtype=np.uint8)[None, :, None] * 4, (47, 1, 3))
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), 63, 47, crf=5) as writer:
        writer.write(ramp)
    pixels = frames_of(tmp_path / "a.mp4")[0].pixels
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels[:47, :63].astype(int) - ramp).mean() < 3
    assert np.abs(pixels[:, 63].astype(int) - ramp[0, 62, 0]).mean() < 6


@pytest.mark.parametrize("channels, kept", [(1, 1), (2, 2), (6, 2), (8, 2)])
def test_the_video_carries_the_whole_sound_in_one_or_two_channels(tmp_path, channels, kept):
    write_sound(tmp_path / "a.wav", tone(1.0, 44_100, channels))
    for name, sound in (("path", tmp_path / "a.wav"), ("sound", tone(1.0, 44_100, channels))):
        path = write_video(tmp_path / f"{name}.mp4", [50] * 10, sound=sound)
        info = probe(path)
        assert (info.channels, info.audio_rate_hz, info.audio_codec) == (kept, 48_000, "aac")
        assert info.frames == 10
        heard = read_sound(path)
        assert heard.duration >= 1
        assert np.abs(heard.samples[0, 5000:40_000]).max() > 0.05


def test_the_sound_is_encoded_beside_the_frames_and_not_at_the_end(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), 64, 48, tone(10, 48_000)) as writer:
        writer.write(grey(0))
        assert 0 < writer.sound_samples <= 96_000
        for _ in range(99):
            writer.write(grey(0))
        assert 4 * 48_000 <= writer.sound_samples < 6 * 48_000


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("problem", [KeyboardInterrupt, InvalidInputError("x"), RuntimeError("x")])
def test_whatever_stops_the_job_leaves_nothing_that_looks_finished(tmp_path, problem):
    with pytest.raises(type(problem) if isinstance(problem, Exception) else problem):
        with VideoWriter(tmp_path / "a.mp4", Fraction(25), 64, 48, tone(2, 16_000)) as writer:
            for _ in range(30):
                writer.write(grey(9))
            assert leftovers(tmp_path) == [f".a.part-{os.getpid()}.mp4"]
            raise problem
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("size_bytes, frames", [(40_000, 200), (20_000, 20)])
def test_a_full_disk_is_said_so_and_nothing_is_left(tmp_path, size_bytes, frames):
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    with limit_file_size(size_bytes), pytest.raises(OutputError, match="a.mp4: no space left") as caught:
        with VideoWriter(tmp_path / "a.mp4", Fraction(25), 160, 120) as writer:
            for i in range(frames):
                writer.write(np.roll(noise, i, 1))
    assert caught.value.exit_code == 5 and caught.value.retryable
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_said_so_for_sound_too(tmp_path):
    with limit_file_size(10_000), pytest.raises(OutputError, match="a.wav"):
        write_sound(tmp_path / "a.wav", tone(2, 16_000))
    assert leftovers(tmp_path) == []


def test_an_output_in_the_way_an_input_or_a_missing_folder_is_refused_before_work(tmp_path):
    path = write_video(tmp_path / "a.mp4", [1, 2])
    before = path.read_bytes()
    with pytest.raises(UsageError, match="--force"):
        VideoWriter(path, Fraction(25), 64, 48)
    (tmp_path / "link.mp4").symlink_to(path)
    for name in (path, tmp_path / "link.mp4"):
        with pytest.raises(UsageError, match="input of the same job"):
            VideoWriter(path, Fraction(25), 64, 48, overwrite=True, inputs=(name,))
    with pytest.raises(OutputError, match="does not exist"):
        VideoWriter(tmp_path / "no" / "a.mp4", Fraction(25), 64, 48)
    with pytest.raises(UsageError, match=r"\.mp4 \.mov \.mkv"):
        VideoWriter(tmp_path / "a.avi", Fraction(25), 64, 48)
    (tmp_path / "d.mp4").mkdir()
    with pytest.raises(UsageError, match="folder"):
        VideoWriter(tmp_path / "d.mp4", Fraction(25), 64, 48)
    assert path.read_bytes() == before


def test_a_folder_closed_to_us_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission"):
        VideoWriter(tmp_path / "a.mp4", Fraction(25), 64, 48)


def test_force_replaces_the_old_video_only_when_the_new_one_is_whole(tmp_path):
    path = write_video(tmp_path / "a.mp4", [1, 2])
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        with VideoWriter(path, Fraction(25), 64, 48, overwrite=True) as writer:
            writer.write(grey(9))
            raise KeyboardInterrupt
    assert path.read_bytes() == before
    write_video(path, [1, 2, 3], overwrite=True)
    assert len(frames_of(path)) == 3


def test_frames_of_another_shape_and_videos_without_frames_are_refused(tmp_path):
    for wrong in (grey(0, 48, 64), grey(0).astype(np.float32), grey(0)[..., 0]):
        with pytest.raises(MouthpieceError, match="need"):
            with VideoWriter(tmp_path / "a.mp4", Fraction(25), 64, 48) as writer:
                writer.write(wrong)
    with pytest.raises(MouthpieceError, match="no frame"):
        with VideoWriter(tmp_path / "a.mp4", Fraction(25), 64, 48):
            pass
    assert leftovers(tmp_path) == []


def test_sound_is_written_with_the_bits_asked_for_and_under_wav_only(tmp_path):
    sound = tone(0.1, 16_000)
    for bits in (16, 24):
        write_sound(tmp_path / f"{bits}.wav", sound, bits)
        error = np.abs(read_sound(tmp_path / f"{bits}.wav").samples - sound.samples).max()
        assert error <= 2.0 ** (1 - bits)
    with pytest.raises(UsageError, match=".wav"):
        write_sound(tmp_path / "a.mp3", sound)
    with pytest.raises(MouthpieceError, match="float32"):
        Sound(np.zeros(100), 16_000)
    with pytest.raises(MouthpieceError, match="float32"):
        Sound(np.zeros((1, 100)), 16_000)


def encode_noise(path, suffix):
    """A film that is written, and the same written again from its frames."""
    rng = np.random.default_rng(1)
    with VideoWriter(path / f"a{suffix}", Fraction(25), 96, 160, tone(0.4, 48_000)) as writer:
        for _ in range(10):
            writer.write(rng.integers(0, 255, (160, 96, 3), np.uint8))
    with VideoReader(path / f"a{suffix}") as reader:
        with VideoRewriter(path / f"b{suffix}", reader.info, None, Fraction(2, 5)) as writer:
            for _, time, frame in reader.read_native_frames():
                writer.write(frame, time)
    return (path / f"a{suffix}").read_bytes(), (path / f"b{suffix}").read_bytes()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that says which cores are used")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_bytes_of_a_film_depend_neither_on_the_cores_nor_on_the_run(tmp_path, suffix):
    cores, films = os.sched_getaffinity(0), []
    for number, chosen in enumerate(({min(cores)}, cores)):
        os.sched_setaffinity(0, chosen)
        try:
            (tmp_path / str(number)).mkdir()
            films.append(encode_noise(tmp_path / str(number), suffix))
        finally:
            os.sched_setaffinity(0, cores)
    assert films[0] == films[1]
    for film in films[0]:  # x264 says in the stream how it was set: as on two cores, however many there are
        assert b" threads=2 " in film and b" slices=2 " in film
