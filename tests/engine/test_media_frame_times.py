"""Films whose container stores only when packets are decoded: every frame is shown in its turn, none late."""

from fractions import Fraction

import av
import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.mux import copy_with_sound
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.media.rewrite import VideoRewriter

RATE, FRAMES = 25, 24
TIMES = [Fraction(index, RATE) for index in range(FRAMES)]
PIXELS = {"mjpeg": "yuvj420p"}
DEEP = {"bf": "5", "b-pyramid": "normal", "x264-params": "b-adapt=0"}  # B-frames that are reordered twice


def write_film(path, codec, options):
    """A film that grows brighter from frame to frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, PIXELS.get(codec, "yuv420p")
        stream.codec_context.options, stream.bit_rate = options, 3_000_000
        for index in range(FRAMES):
            pixels = np.full((64, 96, 3), 10 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_frames(path):
    """Times, and the brightness of each frame."""
    with VideoReader(path) as reader:
        frames = [(frame.time, round(float(frame.pixels.mean()))) for frame in reader]
    return [time for time, _ in frames], [level for _, level in frames]


FILMS = [
    ("a.avi", "libx264", {"bf": "2"}),
    ("a.avi", "libx264", DEEP),
    ("a.avi", "libx264", {"bf": "0"}),
    ("a.avi", "mpeg4", {"bf": "2"}),
    ("a.avi", "mjpeg", {}),
    ("a.wmv", "libx264", {"bf": "2"}),
    ("a.m2v", "mpeg2video", {"bf": "2"}),
    ("a.mkv", "libx264", DEEP),
]


@pytest.mark.parametrize("name, codec, options", FILMS)
def test_frames_are_read_in_rising_times_from_zero(tmp_path, name, codec, options):
    times, levels = read_frames(write_film(tmp_path / name, codec, options))
    assert times == TIMES
    assert levels == sorted(levels) and len(set(levels)) == FRAMES


@pytest.mark.parametrize("name, codec, options", FILMS)
@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_a_copied_picture_shows_the_same_frames_at_these_times(tmp_path, name, codec, options, suffix):
    source = write_film(tmp_path / name, codec, options)
    silence = Sound(np.zeros((1, 46_080), np.float32), 48_000)
    assert copy_with_sound(source, tmp_path / f"b{suffix}", silence) == FRAMES
    times, levels = read_frames(tmp_path / f"b{suffix}")
    assert times == TIMES
    assert levels == read_frames(source)[1]


def test_a_rewritten_film_has_these_times(tmp_path):
    source = write_film(tmp_path / "a.avi", "libx264", DEEP)
    with VideoReader(source) as reader:
        with VideoRewriter(tmp_path / "b.mp4", reader.info, None, Fraction(FRAMES, RATE)) as writer:
            for _, time, frame in reader.read_native_frames():
                writer.write(frame, time)
    assert read_frames(tmp_path / "b.mp4")[0] == TIMES


def test_a_packet_that_does_not_decode_leaves_its_own_time_free(tmp_path):
    source = write_film(tmp_path / "a.avi", "mjpeg", {})
    with av.open(str(source)) as container:
        coded = [bytes(packet) for packet in container.demux(video=0) if packet.size][7]
    source.write_bytes(source.read_bytes().replace(coded, bytes(len(coded))))
    with VideoReader(source) as reader:
        assert [frame.time for frame in reader] == TIMES[:7] + TIMES[8:]
        assert reader.truncated
