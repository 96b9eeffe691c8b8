import numpy as np
import pytest

from mouthpiece.engine.media.shot_cuts import CUT_LEVEL, ShotCutDetector

HEIGHT, WIDTH = 90, 160


@pytest.fixture
def make_plain():
    return lambda: ShotCutDetector(thumbnail_px=None, circular_hue=False, adaptive_ratio=0)


def make_grey(level):
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def make_scene(seed):
    blocks = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 10, WIDTH // 10, 3), np.uint8)
    return blocks.repeat(10, 0).repeat(10, 1)


def test_the_first_frame_is_never_a_cut_and_another_scene_is(make_plain):
    for detector in (ShotCutDetector(), make_plain()):
        frames = [make_scene(1), make_scene(1), make_scene(2), make_scene(2), make_scene(3)]
        assert [detector.is_cut(frame) for frame in frames] == [False, False, True, False, True]


@pytest.mark.parametrize("step", [80, 81])
def test_a_fixed_level_is_the_mean_change_of_the_three_channels(make_plain, step):
    detector = make_plain()
    assert detector.is_cut(make_grey(0)) is False
    assert detector.is_cut(make_grey(step)) is (step / 3 >= CUT_LEVEL)


def test_an_adaptive_level_rises_with_steady_change_and_a_fixed_one_does_not(make_plain):
    frames = [make_grey(level) for level in (0, 78, 0, 78, 0, 90)]  # changes of 26, then one of 30
    plain, adaptive = make_plain(), ShotCutDetector()
    assert [plain.is_cut(frame) for frame in frames] == [False] * 5 + [True]
    assert [adaptive.is_cut(frame) for frame in frames] == [False] * 6


def test_a_hue_beside_red_is_far_on_a_line_and_near_on_its_circle(make_plain):
    red, nearly_red = np.array([255, 0, 0], np.uint8), np.array([255, 0, 12], np.uint8)
    frames = [np.broadcast_to(colour, (HEIGHT, WIDTH, 3)).copy() for colour in (red, nearly_red)]
    plain, circular = make_plain(), ShotCutDetector()
    assert [plain.is_cut(frame) for frame in frames] == [False, True]
    assert [circular.is_cut(frame) for frame in frames] == [False, False]


def test_a_hue_of_grey_pixels_says_nothing(make_plain):
    reddish, bluish = np.array([129, 128, 128], np.uint8), np.array([128, 128, 129], np.uint8)
    frames = [np.broadcast_to(colour, (HEIGHT, WIDTH, 3)).copy() for colour in (reddish, bluish)]
    plain, circular = make_plain(), ShotCutDetector()
    assert [plain.is_cut(frame) for frame in frames] == [False, True]
    assert [circular.is_cut(frame) for frame in frames] == [False, False]
