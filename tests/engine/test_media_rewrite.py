"""A film written again: what is not changed keeps its bits, its times, its colours and its turn; what is changed is
changed there alone.
"""

from fractions import Fraction

import av
import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.engine.media.patches import FramePatch, get_plane
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound, to_upright_rgb
from mouthpiece.engine.media.rewrite import VideoRewriter

BOX = (slice(11, 31), slice(7, 40))  # odd corners on purpose
FRAMES = 10


def film(
    path,
    pix_fmt="yuv420p",
    *,
    codec="libx264",
    size_px=(96, 64),
    rotation=0,
    stamps=range(0, 40 * FRAMES, 40),
    tag=1,
    full=False,
):
    """A moving picture with every kind of frame a codec makes."""
    time_base, rng = Fraction(1, 1000), np.random.default_rng(3)
    rough = rng.integers(0, 255, (size_px[1] + FRAMES, size_px[0] + FRAMES, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        (stream.width, stream.height), stream.pix_fmt = size_px, pix_fmt
        context = stream.codec_context
        context.time_base = time_base
        context.colorspace = context.color_primaries = context.color_trc = tag
        context.color_range = 2 if full else 1
        if rotation:
            stream.set_display_rotation(rotation)
        for index, stamp in enumerate(stamps):
            pixels = np.ascontiguousarray(rough[index : index + size_px[1], index : index + size_px[0]])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format=pix_fmt, dst_colorspace=tag, dst_color_range=2 if full else 1
            )
            frame.colorspace, frame.color_range = tag, 2 if full else 1
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def planes(path):
    """Every frame as the decoder has it: (time, array)."""
    with VideoReader(path) as reader:
        return [(time, frame.to_ndarray()) for _, time, frame in reader.read_native_frames()]


def shown(path):
    with VideoReader(path) as reader:
        return [frame.pixels for frame in reader]


def rewrite(source, target, which=lambda index: False, sound=None, duration=Fraction(2, 5), crf=0):
    """Writes a film again, dark in BOX in the frames asked for; gives what should be seen."""
    wanted = []
    with VideoReader(source) as reader, VideoRewriter(target, reader.info, sound, duration, crf=crf) as writer:
        for index, time, native in reader.read_native_frames():
            pixels = to_upright_rgb(native).copy()
            before, patches = pixels[BOX].copy(), []
            if which(index):
                after = before.copy()
                after[2:-2, 2:-2] = after[2:-2, 2:-2] // 4 + 20
                patches = [FramePatch(BOX[1].start, BOX[0].start, before, after)]
                pixels[BOX] = after
            writer.write(native, time, patches)
            wanted.append(pixels)
    return wanted


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le"])
def test_frames_left_alone_keep_their_bits_even_between_changed_ones(tmp_path, pix_fmt):
    source = film(tmp_path / "a.mkv", pix_fmt)
    rewrite(source, tmp_path / "b.mp4", lambda index: index % 2 == 1)
    before, after = planes(source), planes(tmp_path / "b.mp4")
    assert len(before) == len(after) == FRAMES
    for index, ((t0, old), (t1, new)) in enumerate(zip(before, after)):
        assert t0 == t1 and old.dtype == new.dtype and old.shape == new.shape
        assert np.array_equal(old, new) == (index % 2 == 0)


@pytest.mark.parametrize(
    "rotation, size_px", [(0, (96, 64)), (90, (96, 64)), (180, (96, 64)), (-90, (96, 64)), (0, (64, 96))]
)
@pytest.mark.parametrize("full", [False, True])
def test_a_change_is_seen_where_it_was_made_and_nowhere_else(tmp_path, rotation, size_px, full):
    source = film(tmp_path / "a.mp4", "yuv444p", rotation=rotation, size_px=size_px, full=full)
    wanted = rewrite(source, tmp_path / "b.mp4", lambda index: True)
    outside = np.ones(wanted[0].shape[:2], bool)
    outside[13:29, 9:38] = False
    for old, want, new in zip(shown(source), wanted, shown(tmp_path / "b.mp4")):
        assert np.array_equal(old[outside], new[outside])
        assert np.abs(want[~outside].astype(int) - new[~outside]).mean() < 1.0
        assert np.abs(old[~outside].astype(int) - new[~outside]).mean() > 20


def test_chroma_at_half_size_changes_with_its_pixels(tmp_path):
    source = film(tmp_path / "a.mkv", "yuv420p")
    wanted = rewrite(source, tmp_path / "b.mp4", lambda index: True)
    for old, want, new in zip(shown(source), wanted, shown(tmp_path / "b.mp4")):
        inner = (slice(16, 26), slice(12, 35))
        assert (
            np.abs(want[inner].astype(int) - new[inner]).mean()
            < 0.25 * np.abs(want[inner].astype(int) - old[inner]).mean()
        )


@pytest.mark.parametrize("tag", [1, 5, 9])
@pytest.mark.parametrize("rotation", [0, 90])
def test_tags_turn_and_kind_of_picture_stay(tmp_path, tag, rotation):
    source = film(tmp_path / "a.mp4", "yuv420p10le", tag=tag, rotation=rotation)
    rewrite(source, tmp_path / "b.mp4", lambda index: index == 3)
    old, new = probe(source), probe(tmp_path / "b.mp4")
    assert new.colour == old.colour and new.colour["matrix"] == tag
    assert (new.rotation_degrees, new.width_px, new.height_px) == (old.rotation_degrees, old.width_px, old.height_px)
    assert (rotation != 0) == (new.rotation_degrees != 0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_times_are_kept(tmp_path, suffix):
    stamps = [0, 33, 66, 100, 200, 233, 400, 433, 466, 500]
    source = film(tmp_path / "a.mkv", stamps=stamps)
    rewrite(source, tmp_path / f"b{suffix}", duration=Fraction(1, 2))
    assert [time for time, _ in planes(tmp_path / f"b{suffix}")] == [Fraction(stamp, 1000) for stamp in stamps]


def test_a_picture_of_another_kind_becomes_the_nearest(tmp_path):
    source = film(tmp_path / "a.mkv", "bgr0", codec="ffv1", tag=1)
    rewrite(source, tmp_path / "b.mp4")
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert next(reader.read_native_frames())[2].format.name == "yuv420p"
    assert probe(tmp_path / "b.mp4").colour["matrix"] == 1
    odd = film(tmp_path / "c.mkv", "yuv420p", codec="ffv1", size_px=(63, 47))
    rewrite(odd, tmp_path / "d.mp4")
    with VideoReader(odd) as before, VideoReader(tmp_path / "d.mp4") as after:
        for (_, _, old), (_, _, new) in zip(before.read_native_frames(), after.read_native_frames()):
            assert (new.width, new.height) == (64, 48)
            for number, (rows, columns) in enumerate([(47, 63), (24, 32), (24, 32)]):
                assert np.array_equal(get_plane(new, number, 8)[:rows, :columns], get_plane(old, number, 8))
            assert np.array_equal(get_plane(new, 0, 8)[47], get_plane(new, 0, 8)[46])


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_sound_keeps_all_its_channels_each_in_its_place(tmp_path, channels):
    source, wave = film(tmp_path / "a.mkv"), np.zeros((channels, 19_200), np.float32)
    for k in range(channels):
        wave[k, 2_400 * k : 2_400 * (k + 1)] = 0.3 * np.sin(np.arange(2_400) / 40)
    rewrite(source, tmp_path / "b.mp4", sound=Sound(wave, 48_000))
    made = read_sound(tmp_path / "b.mp4")
    power = (made.samples[:, :19_200].reshape(channels, 8, 2_400) ** 2).mean(2)
    assert made.channels == channels and (power.argmax(1) == range(channels)).all()


@pytest.mark.parametrize("length_s", [0.2, 0.7])
def test_sound_is_as_long_as_the_film_and_starts_with_it(tmp_path, length_s):
    source, wave = film(tmp_path / "a.mkv"), np.zeros((2, int(48_000 * length_s)), np.float32)
    wave[:, 4800] = 0.9
    rewrite(source, tmp_path / "b.mp4", sound=Sound(wave, 48_000))
    made = read_sound(tmp_path / "b.mp4")
    assert made.channels == 2 and abs(float(made.duration) - 0.4) < 1024 / 48_000
    assert abs(int(np.abs(made.samples[0]).argmax()) - 4800) <= 2


def test_a_film_that_breaks_off_leaves_nothing(tmp_path):
    source = film(tmp_path / "a.mkv")
    with (
        pytest.raises(MouthpieceError, match="no frame"),
        VideoReader(source) as reader,
        VideoRewriter(tmp_path / "b.mp4", reader.info, None, Fraction(1)),
    ):
        pass
    with (
        pytest.raises(ZeroDivisionError),
        VideoReader(source) as reader,
        VideoRewriter(tmp_path / "b.mp4", reader.info, None, Fraction(1)) as writer,
    ):
        for _, time, native in reader.read_native_frames():
            writer.write(native, time)
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_the_same_film_makes_the_same_file_and_times_never_run_back(tmp_path):
    source = film(tmp_path / "a.mkv")
    for name in ("b.mp4", "c.mp4"):
        rewrite(source, tmp_path / name, lambda index: index > 4, crf=14)
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()
    with VideoReader(source) as reader, VideoRewriter(tmp_path / "d.mp4", reader.info, None, Fraction(1)) as writer:
        for _, time, native in reader.read_native_frames():
            writer.write(native, min(time, Fraction(1, 5)))
    times = [time for time, _ in planes(tmp_path / "d.mp4")]
    assert len(times) == FRAMES and all(a < b for a, b in zip(times, times[1:]))


@pytest.mark.parametrize("stamps", [range(0, 40 * FRAMES, 40), [0, 40, 41, 42, 300, 310, 311, 900, 2000, 2001]])
def test_a_film_in_segments_has_the_times_and_frames_of_the_film_and_a_change_stays_in_its_own(
    tmp_path, monkeypatch, stamps
):
    monkeypatch.setattr("mouthpiece.engine.media.rewrite.SEGMENT_FRAMES", 4)
    source, told = film(tmp_path / "a.mp4", stamps=stamps), {}
    rewritten(source, tmp_path / "plain.mp4", on_segment=lambda number, data: told.update({number: data}))
    rewritten(source, tmp_path / "changed.mp4", changed=5)
    old, plain, changed = (planes(path) for path in (source, tmp_path / "plain.mp4", tmp_path / "changed.mp4"))
    assert [time for time, _ in old] == [time for time, _ in plain] == [time for time, _ in changed] and sorted(
        told
    ) == [0, 1, 2]
    same = [np.array_equal(a, b) for (_, a), (_, b) in zip(plain, changed)]
    assert same[:4] == [True] * 4 and same[8:] == [True] * 2 and not same[5]
    rewritten(source, tmp_path / "again.mp4", changed=5, kept={number: told[number] for number in (0, 2)})
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "changed.mp4").read_bytes()


def rewritten(source, target, changed=None, kept=(), on_segment=None):
    """Writes a film again: with a change in one frame, with segments of an earlier run in place of its frames."""
    with VideoReader(source) as reader, VideoRewriter(target, reader.info, None, Fraction(3)) as writer:
        writer.on_segment = on_segment
        frames = list(reader.read_native_frames())
        for index, time, frame in frames:
            if index // 4 in kept:
                if index % 4 == 0:
                    writer.append(frame, [t for k, t, _ in frames if k // 4 == index // 4], kept[index // 4])
                continue
            patch = FramePatch(11, 7, np.zeros((20, 33, 3), np.uint8), np.full((20, 33, 3), 90, np.uint8))
            writer.write(frame, time, [patch] if index == changed else [])


def test_a_segment_is_appended_only_where_one_has_ended(tmp_path):
    with VideoReader(film(tmp_path / "a.mp4")) as reader, pytest.raises(MouthpieceError, match="after 1 frames"):
        with VideoRewriter(tmp_path / "b.mp4", reader.info, None, Fraction(1)) as writer:
            _, time, frame = next(reader.read_native_frames())
            writer.write(frame, time)
            writer.append(frame, [time], b"")
