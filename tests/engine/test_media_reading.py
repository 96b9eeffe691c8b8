"""Files of all kinds read and measured; odd ones are made with PyAV on the spot."""

import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from mouthpiece.engine.audio.sound import CHANNEL_NAMES, Sound, make_mix_matrix, write_sound
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, open_sound_stream, read_sound
from mouthpiece.engine.media.writing import VideoWriter


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


def odd_video(
    path, stamps, time_base=Fraction(1, 1000), size_px=(64, 48), rotation=0, codec="libx264", pix_fmt="yuv420p"
):
    """A video with any time stamps, made without our writer."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size_px
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        for i, stamp in enumerate(stamps):
            pixels = grey(60, *size_px)
            pixels[: size_px[1] // 4, : size_px[0] // 4] = 10 * (i % 15) + 100
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_video_with_odd_sides_is_read_as_it_is(tmp_path):
    path = odd_video(tmp_path / "a.mkv", range(0, 400, 40), size_px=(63, 47), codec="ffv1", pix_fmt="yuv444p")
    assert frames_of(path)[0].pixels.shape == (47, 63, 3)


def test_variable_time_stamps_are_kept_and_noticed(tmp_path):
    stamps = [0, 33, 66, 100, 200, 233, 400, 433, 466, 500]
    path = odd_video(tmp_path / "a.mkv", stamps)
    assert [frame.time for frame in frames_of(path)] == [Fraction(stamp, 1000) for stamp in stamps]
    assert probe(path).variable_rate
    even = odd_video(tmp_path / "b.mkv", [round(1000 * i * 1001 / 30000) for i in range(20)])
    assert not probe(even).variable_rate


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_video_lying_on_its_side_is_read_upright(tmp_path, rotation):
    path = odd_video(tmp_path / "a.mp4", range(0, 400, 40), size_px=(96, 48), rotation=rotation)
    info, pixels = probe(path), frames_of(path)[0].pixels
    assert (info.height_px, info.width_px) == pixels.shape[:2]
    assert pixels.shape[:2] == ((96, 48) if rotation % 180 else (48, 96))
    corner = {90: pixels[-5:, :5], 180: pixels[-5:, -5:], -90: pixels[:5, -5:]}[rotation]
    assert corner.mean() > 90 and pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].mean() < 80


def test_a_phone_held_upright_is_read_upright(tmp_path):
    """The matrix that phones write, (0, 1, -1, 0): turn the coded picture clockwise."""
    path = odd_video(tmp_path / "a.mp4", range(0, 400, 40), size_px=(96, 48), rotation=180)
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 40
    one = (1 << 16).to_bytes(4, "big")
    turned = (
        bytes(4)
        + one
        + bytes(4)
        + (2**32 - (1 << 16)).to_bytes(4, "big")
        + bytes(4 + 12)
        + (1 << 30).to_bytes(4, "big")
    )
    path.write_bytes(data[:at] + turned + data[at + 36 :])
    pixels = frames_of(path)[0].pixels
    assert pixels.shape[:2] == (96, 48)
    assert pixels[:5, -5:].mean() > 90 and pixels[:5, :5].mean() < 80


@pytest.mark.parametrize("size_px, matrix", [((1280, 720), 1), ((64, 48), 5)])
def test_colours_without_a_tag_are_read_as_their_size_suggests(tmp_path, size_px, matrix):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        (stream.width, stream.height), stream.pix_fmt = size_px, "yuv420p"
        red = np.broadcast_to(np.uint8((220, 30, 30)), (size_px[1], size_px[0], 3))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(red), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=matrix)
        frame.colorspace = 2
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert probe(path).colour["matrix"] == 2
    assert np.abs(frames_of(path)[0].pixels.reshape(-1, 3).mean(0) - (220, 30, 30)).max() < 6


def test_cover_art_does_not_make_a_song_a_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        art = container.add_stream("mjpeg", rate=25)
        art.width, art.height, art.pix_fmt = 64, 64, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        for packet in art.encode(av.VideoFrame.from_ndarray(grey(9, 64, 64), format="rgb24")):
            container.mux(packet)
        frame = av.AudioFrame.from_ndarray(tone(1, 48_000).samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    info = probe(path)
    assert info.has_audio and not info.has_video
    with pytest.raises(InvalidInputError, match="no moving picture"):
        VideoReader(path)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_every_sample_rate_comes_out_at_the_length_and_pitch_asked_for(tmp_path, rate_hz):
    write_sound(tmp_path / "a.wav", tone(1.3, rate_hz))
    sound = read_sound(tmp_path / "a.wav", 16_000)
    assert sound.rate_hz == 16_000
    assert abs(sound.duration - Fraction(13, 10)) <= Fraction(1, 16_000) + Fraction(1, rate_hz)
    middle = sound.samples[0, 3000:18_000]
    wanted = tone(1.3, 16_000).samples[0, 3000:18_000]
    assert np.abs(middle - wanted).max() < 0.01


@pytest.mark.parametrize("channels", range(1, 9))
def test_one_to_eight_channels_are_read_as_they_are_and_mixed_within_full_scale(tmp_path, channels):
    samples = np.random.default_rng(channels).uniform(-0.9, 0.9, (channels, 8000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples.T, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav").samples, samples)
    mono = read_sound(tmp_path / "a.wav", mono=True)
    np.testing.assert_allclose(mono.samples, Sound(samples, 16_000).to_mono().samples, atol=1e-6)
    assert np.abs(mono.samples).max() <= 0.9


@pytest.mark.parametrize(
    "layout, usual", [("3.0", 5), ("4.0", 7), ("6.0", 7), ("5.0(side)", 5), ("5.1(side)", 6), ("7.1", 8)]
)
def test_loudspeakers_that_a_file_names_come_to_their_usual_places(tmp_path, layout, usual):
    with av.open(str(tmp_path / "a.flac"), "w") as container:
        stream = container.add_stream("flac", rate=16_000, layout=layout)
        stream.codec_context.format = "s16"
        names = [channel.name for channel in stream.layout.channels]
        frame = av.AudioFrame.from_ndarray(
            np.array([[1000 * (k + 1) for k in range(len(names))] * 1600], np.int16), "s16", layout
        )
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound, places = read_sound(tmp_path / "a.flac"), CHANNEL_NAMES[usual]
    heard = dict(zip(places, (32.768 * sound.samples[:, 800]).round().tolist(), strict=True))
    other = {"SL": "BL", "SR": "BR", "BL": "SL", "BR": "SR"}
    wanted = {name if name in places else other[name]: k + 1 for k, name in enumerate(names)}
    assert heard == dict.fromkeys(places, 0) | wanted


def test_a_mix_keeps_full_scale_and_leaves_out_the_low_frequency_channel():
    for names in CHANNEL_NAMES.values():
        for channels in (1, 2):
            matrix = make_mix_matrix(names, channels)
            assert matrix.shape == (channels, len(names)) and (matrix >= 0).all()
            if len(names) > 1:
                np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    assert make_mix_matrix(CHANNEL_NAMES[6], 2)[:, 3].tolist() == [0, 0]
    np.testing.assert_allclose(make_mix_matrix(CHANNEL_NAMES[2], 1), [[0.5, 0.5]])


def test_nine_channels_are_refused_with_what_is_accepted(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((8000, 9)), 16_000)
    with pytest.raises(InvalidInputError, match="9 channels.*1 to 8"):
        read_sound(tmp_path / "a.wav")


def test_a_float_file_keeps_what_goes_beyond_full_scale_and_unscaled_numbers_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(8000, 1.25, np.float32), 16_000, subtype="FLOAT")
    assert read_sound(tmp_path / "a.wav").samples.max() == 1.25
    soundfile.write(tmp_path / "b.wav", np.full(8000, 20_000, np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(InvalidInputError, match="peak of 20000"):
        read_sound(tmp_path / "b.wav")


@pytest.mark.parametrize("delay_ms", [-200, 0, 250])
def test_sample_zero_of_the_sound_is_frame_zero_of_the_picture(tmp_path, delay_ms):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        samples = np.zeros((1, 48_000), np.int16)
        samples[:, 24_000] = 20_000
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 48_000, 48 * (1000 + delay_ms), Fraction(1, 48_000)
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(grey(50), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = 25 + i, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    click_s = int(read_sound(path).samples[0].argmax()) / 48_000
    assert abs(click_s - (0.5 + delay_ms / 1000)) < 0.002
    assert frames_of(path)[0].time == 0


def test_a_hole_in_the_sound_becomes_silence_of_its_length(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for start_s in (0, 1.5):
            frame = av.AudioFrame.from_ndarray(np.full((1, 8000), 9000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, int(start_s * 16_000), Fraction(1, 16_000)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    samples = read_sound(path).samples[0]
    assert abs(len(samples) - 32_000) <= 32
    assert (samples[:7900] > 0.2).all() and (samples[8100:23_900] == 0).all() and (samples[24_100:-50] > 0.2).all()


def test_sound_is_streamed_in_small_blocks_whatever_its_length(tmp_path):
    write_sound(tmp_path / "a.wav", tone(60, 16_000, 2))
    tracemalloc.start()
    with open_sound_stream(tmp_path / "a.wav", 48_000, 1) as (_, blocks):
        total = sum(block.shape[1] for block in blocks)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 60 * 48_000
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize("look", [probe, read_sound, VideoReader])
def test_what_is_no_media_is_refused_by_name_and_with_a_remedy(tmp_path, look):
    (tmp_path / "text.wav").write_text("hello there\n" * 50)
    (tmp_path / "text.mp4").write_text("hello there\n" * 50)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    for name, said in [
        ("text.wav", "cut off"),
        ("text.mp4", "cut off"),
        ("empty.wav", "empty"),
        ("folder.wav", "folder"),
        ("none.wav", "no such"),
    ]:
        with pytest.raises(InvalidInputError, match=f"{name}: .*{said}") as caught:
            look(tmp_path / name)
        assert caught.value.hint and caught.value.exit_code == 5


def test_sound_without_sound_and_video_without_picture_are_refused(tmp_path):
    write_sound(tmp_path / "a.wav", tone(1, 16_000))
    video = write_video(tmp_path / "a.mp4", [1, 2])
    with pytest.raises(InvalidInputError, match="a.mp4: no sound"):
        read_sound(video)
    with pytest.raises(InvalidInputError, match="a.wav: no moving picture"):
        VideoReader(tmp_path / "a.wav")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_sound_that_holds_no_numbers_is_refused(tmp_path, wrong):
    samples = tone(1, 16_000).samples[0].copy()
    samples[9000] = wrong
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(InvalidInputError, match="NaN"):
        read_sound(tmp_path / "a.wav", 48_000)


def test_less_than_forty_milliseconds_is_refused_with_its_length(tmp_path):
    write_sound(tmp_path / "a.wav", tone(0.02, 16_000))
    with pytest.raises(InvalidInputError, match="only 20 ms.*at least 40 ms"):
        read_sound(tmp_path / "a.wav")
    write_sound(tmp_path / "b.wav", tone(0.04, 16_000))
    assert read_sound(tmp_path / "b.wav").duration == Fraction(4, 100)


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_a_wav_cut_off_is_refused_and_one_from_a_pipe_is_read(tmp_path):
    path = tmp_path / "a.wav"
    write_sound(path, tone(1, 16_000))
    whole = path.read_bytes()
    with pytest.raises(InvalidInputError, match="cut off"):
        read_sound(cut(path, 0.5))
    path.write_bytes(whole[:4] + b"\xff" * 4 + whole[8:40] + b"\xff" * 4 + whole[44:])
    assert read_sound(path).duration == 1


def test_a_video_cut_off_yields_what_is_there_and_says_so(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    path = tmp_path / "a.mp4"
    with VideoWriter(path, Fraction(25), 64, 48, tone(4, 16_000)) as writer:
        for i in range(100):
            writer.write(np.roll(pixels, i, 1))
    with VideoReader(path) as reader:
        assert len(list(reader)) == 100 and not reader.truncated
    with VideoReader(cut(path, 0.6)) as reader:
        assert 10 < len(list(reader)) < 100
        assert reader.truncated
    with pytest.raises(InvalidInputError, match="cut off"):
        read_sound(path)
    with pytest.raises(InvalidInputError, match="a.mp4"):
        VideoReader(cut(path, 0.02))


def test_blocks_put_together_are_the_sound_read_at_once(tmp_path):
    write_sound(tmp_path / "a.wav", tone(2.5, 22_050, 2), bits=24)
    with open_sound_stream(tmp_path / "a.wav", 16_000) as (rate_hz, blocks):
        blocks = list(blocks)
    assert rate_hz == 16_000 and len(blocks) > 5
    np.testing.assert_array_equal(np.concatenate(blocks, 1), read_sound(tmp_path / "a.wav", 16_000).samples)
