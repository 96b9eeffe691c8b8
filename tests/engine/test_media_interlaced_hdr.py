"""Interlaced films stay interlaced in their order of fields, or are refused; HDR10 films keep their metadata."""

from fractions import Fraction

import av
import numpy as np
import pytest

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.media.rewrite import VideoRewriter
from mouthpiece.engine.types import HdrMetadata

FRAMES = 6
INTERLACED = 1 << 18 | 1 << 29  # FFmpeg's flags of an encoder: coded and searched by fields
HDR = HdrMetadata((13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 50), (1000, 400))
HDR_SETTINGS = "mastering-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):cll=1000,400"


def make_frames(pixel_format, size_px, mode):
    """Frames of noise whose two fields are marked by a filter. mode: tff, bff or prog."""
    graph, rng = av.filter.Graph(), np.random.default_rng(1)
    source = graph.add_buffer(
        width=size_px[0], height=size_px[1], format=av.VideoFormat(pixel_format), time_base=Fraction(1, 25)
    )
    field, sink = graph.add("setfield", f"mode={mode}"), graph.add("buffersink")
    source.link_to(field)
    field.link_to(sink)
    graph.configure()
    for index in range(FRAMES):
        pixels = rng.integers(0, 255, (size_px[1], size_px[0], 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
        frame.pts, frame.time_base = index, Fraction(1, 25)
        graph.push(frame)
        frame = graph.pull()
        frame.pict_type = 0
        yield frame


def write_film(path, codec, pixel_format="yuv420p", *, size_px=(96, 160), mode="prog", settings=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        (stream.width, stream.height), stream.pix_fmt = size_px, pixel_format
        stream.codec_context.options = settings or {}
        if codec == "libx264" and mode == "bff":  # FFmpeg takes it from the frames too late
            stream.codec_context.options = {"x264-params": "bff=1"}
        if mode != "prog":
            stream.codec_context.flags |= INTERLACED
        for frame in make_frames(pixel_format, size_px, mode):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def rewrite(source, target):
    with VideoReader(source) as reader:
        with VideoRewriter(target, reader.info, None, Fraction(FRAMES, 25), crf=0) as writer:
            for _, time, frame in reader.read_native_frames():
                writer.write(frame, time)
    return target


def read_native(path):
    with VideoReader(path) as reader:
        return [(frame.interlaced_frame, frame.to_ndarray()) for _, _, frame in reader.read_native_frames()]


def read_coded_order(path):
    """The order of fields that the coded pictures say, without the header of a container."""
    raw = path.with_suffix(".h264")
    with av.open(str(path)) as source, av.open(str(raw), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    return probe(raw).field_order


@pytest.mark.parametrize("mode, order", [("tff", 2), ("bff", 3), ("prog", None)])
@pytest.mark.parametrize("name, codec, pixel_format", [
    ("a.mpg", "mpeg2video", "yuv420p"), ("a.mpg", "mpeg2video", "yuv422p"), ("a.mkv", "libx264", "yuv420p"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_an_interlaced_film_stays_so_with_its_order_of_fields(tmp_path, name, codec, pixel_format, mode, order, suffix):
    source = write_film(tmp_path / name, codec, pixel_format, mode=mode)
    target = rewrite(source, tmp_path / f"b{suffix}")
    assert probe(source).field_order == probe(target).field_order == order
    before, after = read_native(source), read_native(target)
    assert [interlaced for interlaced, _ in after] == [order is not None] * FRAMES
    assert all(np.array_equal(old, new) for (_, old), (_, new) in zip(before, after))
    assert read_coded_order(target) == order


@pytest.mark.parametrize("codec, pixel_format, size_px", [
    ("ffv1", "yuv411p", (96, 160)),  # would be converted to 4:2:0, fields mixed
    ("ffv1", "yuv420p", (96, 162)),  # a field of 81 lines, and 40.5 of colour
])  # fmt: skip
def test_fields_that_cannot_be_kept_are_refused_with_the_command_that_helps(tmp_path, codec, pixel_format, size_px):
    source = write_film(tmp_path / "it's.mkv", codec, pixel_format, size_px=size_px, mode="tff")
    assert probe(source).field_order is not None
    with pytest.raises(InvalidInputError) as raised:
        rewrite(source, tmp_path / "b.mp4")
    assert raised.value.code == "interlaced" and not (tmp_path / "b.mp4").exists()
    assert "ffmpeg -i " in raised.value.hint and "-vf bwdif" in raised.value.hint
    assert pixel_format in str(raised.value)
    progressive = write_film(tmp_path / "p.mkv", codec, pixel_format, size_px=size_px)
    assert probe(rewrite(progressive, tmp_path / "b.mp4")).field_order is None


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("settings, hdr", [
    (HDR_SETTINGS, HDR),
    (HDR_SETTINGS.split(":")[0], HdrMetadata(HDR.mastering_display, None)),
    (HDR_SETTINGS.split(":")[1], HdrMetadata(None, HDR.light_level)),
    ("bframes=0", HdrMetadata()),
])  # fmt: skip
def test_mastering_display_and_light_level_are_kept(tmp_path, settings, hdr, suffix):
    source = write_film(tmp_path / "a.mkv", "libx264", "yuv420p10le", settings={"x264-params": settings})
    assert probe(source).hdr == hdr
    assert probe(rewrite(source, tmp_path / f"b{suffix}")).hdr == hdr
