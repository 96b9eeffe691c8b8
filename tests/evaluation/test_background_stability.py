import cv2
import numpy as np
import pytest

from mouthpiece.engine.errors import UsageError
from mouthpiece.evaluation.background_stability import find_background, measure_background_motion


def wall(shift_px=0.0, seed=0):
    """A textured wall, moved to the right by a part of a pixel or more."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 255, (200, 260, 3)).astype(np.float32), (0, 0), 2)
    noise = np.clip((noise - noise.mean()) * 6 + 128, 0, 255)
    return cv2.warpAffine(
        noise,
        np.array([[1, 0, shift_px], [0, 1, 0]], float),
        (260, 200),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    ).astype(np.uint8)


EVERYWHERE = np.ones((200, 260), bool)
EVERYWHERE[:, :20] = EVERYWHERE[:, -20:] = False


def test_a_wall_that_stands_still_does_not_move():
    found = measure_background_motion([wall(), wall(), wall()], EVERYWHERE)
    assert found.corners > 50 and found.kept == 1 and found.max_px < 0.02


def test_a_wall_that_moves_is_measured_to_a_tenth_of_a_pixel():
    found = measure_background_motion([wall(), wall(0.5), wall(0.5)], EVERYWHERE)
    assert found.median_px == pytest.approx(0.5, abs=0.1) and found.p95_px < 0.8


def test_only_the_background_counts():
    moved = wall()
    moved[50:150, 60:160] = wall(3)[50:150, 60:160]
    matte = np.zeros((200, 260), np.float32)
    matte[55:145, 65:155] = 1
    assert measure_background_motion([wall(), moved], find_background(matte, 5)).p95_px < 0.1
    assert measure_background_motion([wall(), moved], EVERYWHERE).max_px > 2


def test_reach_and_window_are_left_out_around_the_person():
    matte = np.zeros((101, 101), np.float32)
    matte[50, 50] = 1
    background = find_background(matte, 10)
    assert not background[50, 50 - 17 : 50 + 18].any() and background[50, 31] and background[50, 69]


def test_a_blank_wall_has_nothing_to_measure_and_no_frames_are_refused():
    blank = np.full((200, 260, 3), 80, np.uint8)
    found = measure_background_motion([blank, blank], EVERYWHERE)
    assert found.corners == 0 and np.isnan(found.median_px)
    with pytest.raises(UsageError):
        measure_background_motion([], EVERYWHERE)
    with pytest.raises(UsageError):
        measure_background_motion([blank], EVERYWHERE[:-1])
