"""A container is one row: WebM, which has none, works as soon as a row is added: written, read, copied, verified."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.media import containers
from mouthpiece.engine.media.containers import (
    AudioCodec,
    Container,
    OutputFormat,
    VideoCodec,
    find_container,
    get_c2pa_type,
    get_output_format,
    has_exact_duration,
    list_video_suffixes,
)
from mouthpiece.engine.media.mux import copy_with_sound
from mouthpiece.engine.media.patches import FramePatch
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.rewrite import VideoRewriter
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.provenance.manifest import Marking, get_manifest_path, mark_output
from mouthpiece.engine.provenance.signing import load_credentials
from mouthpiece.engine.provenance.verification import verify_file

FRAMES = 30
WIDTH_PX, HEIGHT_PX = 96, 64
VP9 = VideoCodec(
    name="VP9",
    encoder="libvpx-vp9",
    options={"b": "0", "cpu-used": "5", "row-mt": "0"},
    quality_option="crf",
    lossless_options={"lossless": "1"},
    reorder_frames=0,
    max_bits=8,
    full_range_formats=False,
)
OPUS = AudioCodec(name="Opus", encoder="libopus", base_bits_per_s=32_000, channel_bits_per_s=64_000)
WEBM = Container(suffixes=(".webm",), demuxer="matroska,webm", output=OutputFormat("webm", VP9, OPUS))
PAYLOAD = {"mouthpiece": "0", "command": "animate", "seed": 0, "models": {}, "settings": {}, "inputs": []}


@pytest.fixture
def webm(monkeypatch):
    """The table with one more row."""
    monkeypatch.setattr(containers, "CONTAINERS", (*containers.CONTAINERS, WEBM))


@pytest.fixture
def tone():
    seconds = np.arange(2 * 48_000) / 48_000
    return Sound((0.3 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)[None], 48_000)


def write(path, tone):
    """A film whose frames become brighter."""
    with VideoWriter(path, Fraction(25), WIDTH_PX, HEIGHT_PX, tone) as writer:
        for k in range(FRAMES):
            writer.write(np.full((HEIGHT_PX, WIDTH_PX, 3), 40 + 5 * k, np.uint8))
    return path


def brightness(path):
    with VideoReader(path) as reader:
        return [float(frame.pixels.mean()) for frame in reader]


def loudest_hz(sound):
    spectrum = np.abs(np.fft.rfft(sound.samples[0]))
    return np.fft.rfftfreq(sound.samples.shape[1], 1 / sound.rate_hz)[spectrum.argmax()]


def test_without_its_row_no_such_film_is_written(tmp_path, tone):
    with pytest.raises(UsageError, match=r"cannot be written as '.webm'"):
        write(tmp_path / "a.webm", tone)


def test_a_new_row_is_all_that_writing_and_reading_need(tmp_path, tone, webm):
    path = write(tmp_path / "a.webm", tone)
    info = probe(path)
    assert "vp9" in info.video_codec and "opus" in info.audio_codec
    assert (info.rate, info.width_px, info.height_px, info.channels) == (25, WIDTH_PX, HEIGHT_PX, 1)
    assert np.abs(np.subtract(brightness(path), [40 + 5 * k for k in range(FRAMES)])).max() < 3
    sound = read_sound(path)
    assert abs(sound.duration - 2) < Fraction(1, 20) and abs(loudest_hz(sound) - 440) < 2


def test_a_new_row_is_all_that_rewriting_needs(tmp_path, tone, webm):
    source, target = write(tmp_path / "a.webm", tone), tmp_path / "b.webm"
    before = np.full((8, 16, 3), 40, np.uint8)
    kept = {}
    with (
        VideoReader(source) as reader,
        VideoRewriter(target, reader.info, source, Fraction(FRAMES, 25), crf=0) as writer,
    ):
        writer.on_segment = kept.__setitem__
        for index, time, frame in reader.read_native_frames():
            patches = [FramePatch(8, 4, before, before + np.uint8(80))] if index == 0 else []
            writer.write(frame, time, patches)
    old, new = brightness(source), brightness(target)
    assert len(new) == FRAMES and list(kept) == [0]
    assert new[0] - old[0] > 1 and new[1:] == old[1:]
    assert probe(target).rate == 25 and read_sound(target).duration <= Fraction(FRAMES, 25) + Fraction(1, 20)


def test_segments_of_a_film_in_a_new_container_are_used_again(tmp_path, tone, webm):
    source, kept = write(tmp_path / "a.webm", tone), {}
    for name in ("b.webm", "c.webm"):
        with (
            VideoReader(source) as reader,
            VideoRewriter(tmp_path / name, reader.info, None, Fraction(FRAMES, 25)) as writer,
        ):
            frames = list(reader.read_native_frames())
            if kept:
                writer.append(frames[0][2], [time for _, time, _ in frames], kept[0])
            else:
                writer.on_segment = kept.__setitem__
                for _, time, frame in frames:
                    writer.write(frame, time)
    assert brightness(tmp_path / "b.webm") == brightness(tmp_path / "c.webm")


def test_a_picture_of_full_range_keeps_its_brightness_in_a_codec_without_such_formats(tmp_path, webm):
    import av

    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuvj420p"
        for k in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT_PX, WIDTH_PX, 3), 250, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuvj420p")
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with (
        VideoReader(source) as reader,
        VideoRewriter(tmp_path / "b.webm", reader.info, None, Fraction(1, 5), crf=0) as writer,
    ):
        for _, time, frame in reader.read_native_frames():
            writer.write(frame, time)
    assert np.abs(np.subtract(brightness(tmp_path / "b.webm"), brightness(source))).max() < 3


def test_a_new_row_is_all_that_copying_needs(tmp_path, tone, webm):
    source = write(tmp_path / "a.webm", tone)
    assert copy_with_sound(source, tmp_path / "b.webm", tone) == FRAMES
    assert brightness(tmp_path / "b.webm") == brightness(source)
    write(tmp_path / "c.mp4", tone)
    with pytest.raises(InvalidInputError, match=r"cannot be stored in a .webm file") as caught:
        copy_with_sound(tmp_path / "c.mp4", tmp_path / "d.webm", tone)
    assert "Try a name ending in .mov or .mkv, or convert the video to VP9 first." in caught.value.hint


def test_a_new_row_is_all_that_marking_and_verifying_need(tmp_path, tone, webm):
    path = write(tmp_path / "a.webm", tone)
    assert get_manifest_path(path) == tmp_path / "a.c2pa"
    record = mark_output(path, PAYLOAD, Marking(load_credentials()))
    assert record["marked"] and record["manifest"] == "a.c2pa"
    assert verify_file(path)["state"] == "intact"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert verify_file(path)["state"] == "tampered"


@pytest.mark.parametrize("name", ["a.wav", "a.m4v", "a.txt", "a"])
def test_what_is_only_read_has_no_output_format(name):
    with pytest.raises(UsageError, match="cannot be written as.*Use one of .mp4 .mov .mkv"):
        get_output_format(name)


def test_no_suffix_has_two_rows():
    suffixes = [suffix for row in containers.CONTAINERS for suffix in row.suffixes]
    assert len(suffixes) == len(set(suffixes)) and all(suffix == suffix.lower() for suffix in suffixes)


def test_names_stand_for_the_container_that_their_ending_says():
    assert list_video_suffixes() == (".mp4", ".mov", ".mkv")
    assert get_output_format(Path("A.MP4")).muxer == "mp4" and find_container("a.txt") is None
    assert get_c2pa_type("a.JPEG") == "image/jpeg" and get_c2pa_type("a.mkv") is None and get_c2pa_type("a") is None
    assert has_exact_duration("wav") and not has_exact_duration("mp3") and not has_exact_duration("matroska,webm")
