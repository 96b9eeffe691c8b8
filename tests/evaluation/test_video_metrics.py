"""A video watched once: its face through time, in flat memory, small faces too."""

import os

import cv2
import numpy as np
import pytest

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.timeline import MOTION_HZ
from mouthpiece.evaluation import video_metrics as clips_module
from mouthpiece.evaluation.video_metrics import (
    MAX_ALIGNED_FACES,
    measure_portrait,
    measure_sharpness,
    measure_video,
    resample_to_motion_clock,
)


def test_the_mouth_of_a_clip_follows_what_it_was_made_to_do(spoken, script):
    clip = measure_video(spoken)
    assert clip.measures.present.all() and not clip.truncated
    assert clip.times_s == pytest.approx(np.arange(40) / 25)
    assert clip.duration_s == pytest.approx(1.6)
    assert np.corrcoef(clip.measures.opening, script)[0, 1] > 0.95


def test_looks_are_the_face_in_its_own_resolution(spoken, puppet):
    clip = measure_video(spoken)
    assert len(clip.aligned_faces) == 40 and clip.aligned_faces[0].pixels.shape == (clip.crop_px,) * 2 + (3,)
    assert 170 <= clip.crop_px <= 215  # the puppet is a crop of 192 px itself
    eyes = clip.aligned_faces[0].face.points[:2]
    assert np.hypot(*(eyes[1] - eyes[0])) == pytest.approx(0.29 * clip.crop_px, rel=0.15)


def test_looks_stay_few_and_evenly_spread_in_long_clips(spoken, monkeypatch, tmp_path):
    monkeypatch.setattr(clips_module, "MAX_ALIGNED_FACES", 8)
    copy = tmp_path / "again.mp4"
    copy.write_bytes(spoken.read_bytes())
    looks, every = measure_video(copy).aligned_faces, measure_video(spoken).aligned_faces
    assert MAX_ALIGNED_FACES == 64 and len(looks) == 5
    for i, look in enumerate(looks):
        assert np.array_equal(look.pixels, every[8 * i].pixels)


def test_a_file_is_watched_once_until_it_changes(spoken, tmp_path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(spoken.read_bytes())
    first = measure_video(copy)
    assert measure_video(copy) is first
    os.utime(copy, ns=(1, 1))
    assert measure_video(copy) is not first


def test_a_small_face_in_a_large_frame_is_found(tmp_path, puppet):
    path = tmp_path / "small.mp4"
    with VideoWriter(path, MOTION_HZ, 640, 480) as writer:
        for opening in (0, 0.5, 1, 0):
            frame = np.full((480, 640, 3), 120, np.uint8)
            frame[40:108, 500:568] = cv2.resize(puppet.frame(opening), (68, 68), interpolation=cv2.INTER_AREA)
            writer.write(frame)
    clip = measure_video(path)
    assert clip.measures.present.all()
    assert (np.abs(clip.points.mean(1) - [534, 74]) < 12).all()
    assert clip.measures.opening[2] > clip.measures.opening[0]


def test_frames_without_a_face_are_gaps_in_numbers_not_crashes(faceless):
    clip = measure_video(faceless)
    assert len(clip.times_s) == 12 and not clip.measures.present.any()
    assert clip.crop_px is None and clip.aligned_faces == [] and np.isnan(clip.opening).all()


def test_blur_takes_sharpness_away(puppet):
    sharp, soft = measure_sharpness(puppet.pixels), measure_sharpness(cv2.GaussianBlur(puppet.pixels, (0, 0), 2))
    assert (soft < 0.3 * sharp).all()
    assert measure_sharpness(np.full((96, 96, 3), 99, np.uint8)) == pytest.approx(0, abs=1e-6)


def test_a_portrait_gives_one_look_or_none(portrait, tmp_path):
    assert measure_portrait(portrait, 96).pixels.shape == (96, 96, 3)
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((80, 80, 3), 200, np.uint8))
    assert measure_portrait(blank, 96) is None


def test_a_curve_is_brought_to_25_hz_by_time_and_gaps_stay_gaps():
    times = np.arange(60) / 30
    curve = resample_to_motion_clock(times, 2 * times, 2.0)
    assert len(curve) == 50
    assert curve == pytest.approx(np.minimum(2 * np.arange(50) / 25, 2 * times[-1]))
    values = times.copy()
    values[20:40] = np.nan
    gap = np.isnan(resample_to_motion_clock(times, values, 2.0))
    assert gap[19:32].all() and not gap[:17].any() and not gap[34:].any()
    assert np.isnan(resample_to_motion_clock(times, np.full(60, np.nan), 2.0)).all()
    assert resample_to_motion_clock(np.zeros(1), np.ones(1), 0.04) == pytest.approx([1])


def test_what_is_no_video_is_refused(tmp_path):
    words = tmp_path / "words.mp4"
    words.write_text("no video at all")
    for path in (words, tmp_path, tmp_path / "missing.mp4"):
        with pytest.raises(InvalidInputError):
            measure_video(path)
