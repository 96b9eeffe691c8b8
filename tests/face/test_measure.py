import cv2
import numpy as np
import pytest

from mouthpiece.engine.errors import UsageError
from mouthpiece.face.crop import make_crop
from mouthpiece.face.detect import find_faces_mtcnn
from mouthpiece.face.measure import (
    BROW_UP,
    CHIN,
    INNER_LIPS,
    LIP_DOWN,
    LIP_LEFT,
    LIP_RIGHT,
    LIP_UP,
    FaceMeasurements,
    compute_acceleration,
    compute_blink_rate,
    compute_correlation,
    compute_jitter,
    correlate_at_lag,
    estimate_head_pose,
    find_best_lag,
    find_blinks,
    measure_blink_depths,
    measure_closures,
    measure_frames,
    measure_landmarks,
    measure_stillness,
)

RATE_HZ = 25


def mesh_of(gap=10.0, turn_deg=(0, 0, 0)):
    """468 landmarks of a made-up face 100 px high, mouth 40 px wide, turned by yaw, pitch, roll."""
    p = np.zeros((468, 3))
    p[BROW_UP], p[CHIN] = [0, -50, 0], [0, 50, 0]
    p[33], p[133], p[362], p[263] = [-30, -20, 0], [-10, -20, 0], [10, -20, 0], [30, -20, 0]
    for eye, height in (((160, 158, 144, 153), 6), ((387, 385, 373, 380), 4)):
        x = -20 if eye[0] == 160 else 20
        for i, y in zip(eye, (-20 - height / 2, -20 - height / 2, -20 + height / 2, -20 + height / 2)):
            p[i] = [x, y, 0]
    angle = np.linspace(np.pi, -np.pi, len(INNER_LIPS), endpoint=False)
    p[INNER_LIPS] = np.c_[15 * np.cos(angle), 25 - gap / 2 * np.sin(angle), 0 * angle]
    p[LIP_UP], p[LIP_DOWN], p[LIP_LEFT], p[LIP_RIGHT] = (
        [0, 25 - gap / 2, 0],
        [0, 25 + gap / 2, 0],
        [-20, 25, 0],
        [20, 25, 0],
    )
    yaw, pitch, roll = np.radians(turn_deg)
    about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return p @ (about_z @ about_x @ about_y).T


def test_mouth_and_eyes_of_a_made_up_face_in_closed_form():
    opening, width, area, left, right, *_, height = measure_landmarks(mesh_of(gap=10))
    assert (opening, width, height) == pytest.approx((0.10, 0.40, 100))
    assert (left, right) == pytest.approx((0.3, 0.2))
    assert area == pytest.approx(np.pi * 15 * 5 / 1e4, rel=0.03)
    assert measure_landmarks(mesh_of(gap=0))[0] == 0
    assert measure_landmarks(3 * mesh_of(gap=10) + 70)[:5] == pytest.approx([opening, width, area, left, right])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_head_pose_names_each_turn_with_its_sign(axis):
    for angle in (-30, 15):
        turn = np.zeros(3)
        turn[axis] = angle
        assert estimate_head_pose(mesh_of(turn_deg=turn)) == pytest.approx(turn, abs=1e-9)


def test_pitch_down_brings_the_forehead_to_the_front():
    p = mesh_of(turn_deg=(0, 20, 0))
    assert p[BROW_UP, 2] < p[CHIN, 2]


def test_a_clip_is_measured_frame_by_frame_with_gaps_where_no_face_is(photo):
    crop = make_crop(find_faces_mtcnn(photo)[0].points, 160).extract(photo)
    blank = np.zeros_like(crop)
    measures = measure_frames(f for f in [crop, crop, crop, crop, blank, crop])
    assert len(measures) == 6 and measures.present.tolist() == [True, True, True, True, False, True]
    assert 0.02 < measures.opening[0] < 0.12 and 0.3 < measures.width[0] < 0.5 and 0.2 < measures.eyes[0] < 0.45
    assert abs(measures.yaw_deg[0]) < 12 and abs(measures.roll_deg[0]) < 6 and 100 < measures.height_px[0] < 160
    assert np.isfinite(measures.acceleration).tolist() == [False, True, True, False, False, False]
    assert np.nanmax(measures.acceleration) < 0.01


def test_a_closed_mouth_measures_smaller_and_a_turned_picture_the_same(photo):
    crop = make_crop(find_faces_mtcnn(photo)[0].points, 256).extract(photo)
    turned = cv2.warpAffine(
        crop, cv2.getRotationMatrix2D((128, 128), -12, 1), (256, 256), borderMode=cv2.BORDER_REPLICATE
    )
    measures = measure_frames([crop, turned], follow=False)
    assert measures.roll_deg[1] - measures.roll_deg[0] == pytest.approx(12, abs=3)
    assert measures.opening[1] == pytest.approx(measures.opening[0], abs=0.02)


def test_no_frames_give_empty_measures():
    measures = measure_frames([])
    assert isinstance(measures, FaceMeasurements) and len(measures) == 0 and measures.points.shape[0] == 0


def test_acceleration_of_straight_motion_is_zero_and_of_a_zigzag_is_four_halves():
    t = np.arange(6.0)
    straight = np.stack([t * 2, t * -1], -1)[:, None]
    assert (
        np.allclose(compute_acceleration(straight, 10)[1:-1], 0)
        and np.isnan(compute_acceleration(straight, 10)[[0, -1]]).all()
    )
    zigzag = np.stack([t % 2, 0 * t], -1)[:, None]
    assert np.allclose(compute_acceleration(zigzag, 10)[1:-1], 0.2)
    assert compute_jitter(zigzag, 10) == pytest.approx(0.2)
    assert (
        np.isnan(compute_jitter(zigzag, 10, np.zeros(6, bool))) and np.isnan(compute_acceleration(zigzag[:2], 10)).all()
    )


def test_blinks_are_short_dips_and_are_counted_a_minute():
    openness = np.full(RATE_HZ * 60, 0.3)
    for start in (100, 400, 401, 900):
        openness[start : start + 4] = 0.05
    openness[402] = 0.02
    openness[1200 : 1200 + 2 * RATE_HZ] = 0.05  # eyes shut for two seconds: no blink
    assert find_blinks(openness, RATE_HZ).tolist() == [100, 402, 900]
    assert compute_blink_rate(openness, RATE_HZ) == pytest.approx(3)
    openness[750:] = np.nan
    assert compute_blink_rate(openness, RATE_HZ) == pytest.approx(2 / 0.5)
    assert np.isnan(compute_blink_rate(np.full(5, np.nan), RATE_HZ)) and len(find_blinks(np.full(9, 0.3), RATE_HZ)) == 0


def test_the_best_lag_is_the_shift_that_was_put_in():
    rng = np.random.default_rng(0)
    a = np.convolve(rng.normal(size=220), np.ones(5) / 5, "same")
    assert find_best_lag(a[10:200], a[10:200], 5) == (pytest.approx(1), 0)
    assert find_best_lag(a[10:200], a[7:197], 5) == (pytest.approx(1), 3)
    assert find_best_lag(a[10:200], -2 * a[12:202] + 1, 1)[0] < 0.9
    value, lag = find_best_lag(a[10:200], a[12:202], 5)
    assert (value, lag) == (pytest.approx(1), -2)


def test_correlation_skips_missing_frames_and_knows_when_there_is_none():
    a = np.array([0, 1, 2, np.nan, 4.0])
    assert compute_correlation(a, 3 * a + 1) == pytest.approx(1) and compute_correlation(a, -a) == pytest.approx(-1)
    assert np.isnan(compute_correlation(a, np.ones(5))) and np.isnan(compute_correlation(a[:2], a[:2]))
    value, lag = find_best_lag(np.ones(9), np.arange(9.0), 2)
    assert np.isnan(value) and lag == 0
    with pytest.raises(UsageError, match="one length"):
        find_best_lag(np.ones(3), np.ones(4), 1)


def test_stillness_is_the_ratio_of_deviations():
    opening = np.array([0.1, 0.1, 0.1, 0.0, 0.4, 0.0, 0.4, np.nan])
    silent = np.array([1, 1, 1, 0, 0, 0, 0, 1], bool)
    assert measure_stillness(opening, silent) == pytest.approx(0)
    opening[:3] = [0.0, 0.2, 0.1]
    assert measure_stillness(opening, silent) == pytest.approx(np.std([0, 0.2, 0.1]) / 0.2)
    assert np.isnan(measure_stillness(opening, ~silent & False)) and np.isnan(measure_stillness(np.ones(8), silent))


def test_closed_lips_are_measured_against_the_usual_opening_of_voiced_frames():
    times = np.arange(25) / RATE_HZ
    opening = np.full(25, 0.02)
    opening[10:13] = [0.012, 0.004, 0.01]
    opening[20] = np.nan
    shut, voiced = [(0.41, 0.47), (0.0, 0.04), (0.8, 0.8)], [(0.04, 0.36), (0.6, 0.76)]
    assert measure_closures(opening, times, shut, voiced, margin_s=0.0) == pytest.approx([0.2, 1, np.nan], nan_ok=True)
    assert measure_closures(opening, times, shut[:1], voiced, rest=0.002)[0] == pytest.approx(1 / 9)
    assert (
        measure_closures(opening, times, shut[:1], voiced, rest=0.01)[0] == 0
        and np.isnan(measure_closures(opening, times, shut, voiced, rest=0.02)).all()
    )
    # one frame later is still looked at
    assert measure_closures(opening, times, [(0.33, 0.36)], voiced)[0] == pytest.approx(0.6)
    assert (
        np.isnan(measure_closures(opening, times, shut, [])).all()
        and len(measure_closures(opening, times, [], voiced)) == 0
    )


def test_an_eye_that_stays_open_in_a_blink_is_seen():
    left = np.full(100, 0.3)
    right = np.full(100, 0.2)
    left[40:43], right[41:44] = [0.1, 0.03, 0.1], [0.1, 0.05, 0.14]
    left[70:73] = 0.06
    right[71] = 0.18
    depths = measure_blink_depths(left, right, RATE_HZ)
    assert depths == pytest.approx(np.array([[0.1, 0.25], [0.2, 0.9]]))
    assert measure_blink_depths(np.full(50, 0.3), np.full(50, 0.3), RATE_HZ).shape == (0, 2)


@pytest.mark.parametrize("late", [-2, 0, 3])
def test_a_curve_that_comes_late_correlates_best_at_its_own_lag(late):
    first = np.random.default_rng(0).normal(size=80)
    second = np.roll(first, late)
    values = [correlate_at_lag(first, second, lag) for lag in range(-3, 4)]
    assert int(np.argmax(values)) - 3 == late and max(values) == pytest.approx(1)
