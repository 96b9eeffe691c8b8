"""Windows of a long video: where they lie, what they see, and the first look that finds shots and trouble."""

from fractions import Fraction

import numpy as np
import pytest

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.types import Frame
from mouthpiece.voice.mmaudio.frame_buffer import buffer_windows
from mouthpiece.voice.mmaudio.latent_windows import SEAM_LATENTS, plan_latent_windows, split_shots
from mouthpiece.voice.mmaudio.sizes import RATES
from mouthpiece.voice.mmaudio.speech_filter import attenuate_spans, detect_speech
from mouthpiece.voice.mmaudio.video_inspection import inspect_video

R16 = RATES["16k"]


def test_short_shots_join_a_neighbour_and_shots_cover_everything():
    assert split_shots(100, [], 10) == [(0, 100)]
    assert split_shots(100, [30, 35, 60, 95], 10) == [(0, 30), (30, 60), (60, 100)]
    assert split_shots(100, [5, 50], 10) == [(0, 50), (50, 100)]


@pytest.mark.parametrize("total", [20, 249, 250, 251, 600, 5000])
@pytest.mark.parametrize("cuts", [(), (300,), (100, 130, 420, 4000)])
def test_windows_cover_every_latent_and_none_reaches_into_the_next_shot(total, cuts):
    spans = plan_latent_windows(total, cuts, 250, 31, 63)
    covered = np.zeros(total, int)
    edges = [start for start, _ in split_shots(total, cuts, 63)] + [total]
    for before, span in zip([None, *spans], spans):
        covered[span.start : span.stop] += 1
        shot = max(edge for edge in edges[:-1] if edge <= span.start)
        end = edges[edges.index(shot) + 1]
        assert span.stop <= min(total, end + SEAM_LATENTS)
        if span.start == shot:
            assert span.kept == 0
        else:
            assert before.stop - span.start == span.kept >= 31
    assert covered.min() >= 1 and (total > 250 or cuts or len(spans) == 1)


def frames_at(times):
    for index, time in enumerate(times):
        yield Frame(index, time, np.full((30, 40, 3), index % 256, np.uint8))


def level(tensor):
    return tensor.float().mean((1, 2, 3)).round().int().tolist()


def test_each_instant_sees_the_frame_nearest_in_time_and_the_last_one_stays():
    rate = Fraction(30000, 1001)
    times = [index / rate for index in range(200)]
    spans = plan_latent_windows(R16.lengths(8)[0], (), 250, 31, 63)
    (seen,) = buffer_windows(frames_at(times), spans, R16, sizes_px=(16, 16))
    wanted = [min(range(200), key=lambda i: abs(times[i] - Fraction(k, 8))) for k in range(64)]
    assert level(seen.clip) == wanted
    wanted = [min(range(200), key=lambda i: abs(times[i] - Fraction(k, 25))) for k in range(200)]
    assert level(seen.sync) == wanted
    (seen,) = buffer_windows(frames_at(times[:30]), spans, R16, sizes_px=(16, 16))
    assert level(seen.sync)[-1] == 29 and len(seen.sync) == 200


def test_overlapping_windows_see_what_they_would_see_alone_and_come_as_soon_as_they_can():
    times = [Fraction(index, 25) for index in range(800)]
    spans = plan_latent_windows(R16.lengths(32)[0], (400,), 250, 31, 63)
    read = []

    def counted():
        for frame in frames_at(times):
            read.append(frame.index)
            yield frame

    for span, seen in zip(spans, buffer_windows(counted(), spans, R16, sizes_px=(16, 16)), strict=True):
        start = span.start / R16.latent_hz
        assert len(read) <= float(span.stop / R16.latent_hz) * 25 + 3
        wanted = [min(799, round(float((start + Fraction(k, 25)) * 25))) % 256 for k in range(len(seen.sync))]
        assert np.abs(np.array(level(seen.sync)) - wanted).max() <= 1
        (alone,) = buffer_windows(frames_at(times), [span], R16, sizes_px=(16, 16))
        assert (alone.sync == seen.sync).all() and (alone.clip == seen.clip).all()


def scene(seed, height=120, width=160):
    return (
        np.random.default_rng(seed)
        .integers(0, 255, (height // 20, width // 20, 3), np.uint8)
        .repeat(20, 0)
        .repeat(20, 1)
    )


def write(path, pictures, rate=Fraction(25)):
    with VideoWriter(path, rate, pictures[0].shape[1], pictures[0].shape[0]) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def test_shot_changes_are_found_at_their_frame(tmp_path):
    pictures = [np.roll(scene(n // 30), n, 1) for n in range(90)]
    found = inspect_video(write(tmp_path / "a.mp4", pictures, Fraction(30)))
    assert found.cuts == (Fraction(1), Fraction(2)) and found.duration == 3 and found.frames == 90
    assert found.repeated == 0


def test_repeated_frames_a_still_picture_blur_and_tiny_pictures_are_worth_a_word(tmp_path):
    moving = [np.roll(scene(1, 240, 320), 2 * (n // 2), 1) for n in range(40)]
    assert inspect_video(write(tmp_path / "a.mp4", moving)).warnings()[0].startswith("51 % of the frames repeat")
    still = inspect_video(write(tmp_path / "b.mp4", [scene(2, 240, 320)] * 30)).warnings()
    assert len(still) == 1 and "Nothing moves" in still[0]
    y, x = np.mgrid[:240, :320]
    soft = [
        np.stack([128 + 100 * np.sin((x + 3 * n) / 60) * np.cos(y / 50)] * 3, -1).astype(np.uint8) for n in range(30)
    ]
    assert "blurred" in inspect_video(write(tmp_path / "c.mp4", soft)).warnings()[0]
    tiny = inspect_video(write(tmp_path / "d.mp4", [np.roll(scene(3), n, 1) for n in range(30)])).warnings()
    assert len(tiny) == 1 and "160x120" in tiny[0]
    sharp = inspect_video(write(tmp_path / "e.mp4", [np.roll(scene(4, 240, 320), n, 1) for n in range(30)]))
    assert sharp.warnings() == []


def test_less_than_one_sync_window_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="0.32 s of video"):
        inspect_video(write(tmp_path / "a.mp4", [scene(1)] * 8))


@pytest.fixture(scope="module")
def line():
    from hibari import SAMPLE_RATE, Hibari

    return np.asarray(Hibari(threads=1)("The quick brown fox jumps over the lazy dog."), np.float32).reshape(
        -1
    ), SAMPLE_RATE


def test_speech_is_heard_and_noises_are_not(line):
    wave, rate_hz = line
    rng = np.random.default_rng(0)
    padded = np.concatenate([np.zeros(rate_hz, np.float32), wave, np.zeros(rate_hz, np.float32)])
    (first, *_), last = detect_speech(padded, rate_hz), detect_speech(padded, rate_hz)[-1]
    assert abs(first[0] - 1) < 0.4 and abs(last[1] - 1 - len(wave) / rate_hz) < 0.4
    t = np.arange(3 * 16_000) / 16_000
    for noise in (0.2 * rng.standard_normal(48_000), 0.3 * np.sin(2 * np.pi * 300 * t), np.zeros(48_000)):
        assert detect_speech(noise.astype(np.float32), 16_000) == []


def test_speech_is_turned_down_where_it_is_and_nowhere_else(line):
    wave, rate_hz = line
    quiet = 0.01 * np.random.default_rng(0).standard_normal(2 * rate_hz).astype(np.float32)
    mixed = np.concatenate([quiet, wave, quiet])
    found = detect_speech(mixed, rate_hz)
    lower = attenuate_spans(mixed, rate_hz, found)
    assert np.array_equal(lower[:rate_hz], mixed[:rate_hz]) and np.array_equal(lower[-rate_hz:], mixed[-rate_hz:])
    middle = slice(2 * rate_hz + rate_hz // 2, 2 * rate_hz + len(wave) - rate_hz // 2)
    drop_db = 20 * np.log10(np.sqrt((lower[middle] ** 2).mean() / (mixed[middle] ** 2).mean()))
    assert -24.5 < drop_db < -20
    assert resample(mixed, rate_hz, 16_000).shape[0] == pytest.approx(len(mixed) * 16_000 / rate_hz, abs=1)
