import numpy as np
import pytest
import torch
from debug_weights import make_motion_space

from mouthpiece.engine.encoders.motion import BLINK_INDEX, EXPRESSION_WIDTH, MotionSpace
from mouthpiece.face.crop import make_crop
from mouthpiece.lipsync.portrait.opening_segmenter import (
    EYE_WINDOW,
    HEIGHT_PX,
    MOUTH_WINDOW,
    WIDTH_PX,
    OpeningSegmenter,
    correct_opening,
    estimate_opening,
    estimate_openings,
    find_eyes,
    measure_opening,
    to_eye_contour,
)


def ellipse(wide=30, high=10, x=48, y=32):
    row, column = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX] + 0.5
    return np.clip(10 * (1 - ((column - x) / wide) ** 2 - ((row - y) / high) ** 2), 0, 1).astype(np.float32)


def test_an_eye_contour_follows_its_probabilities_in_units_of_the_crop():
    eye = to_eye_contour(ellipse(), False)
    assert eye.height == pytest.approx(20 / EYE_WINDOW.crop_px, rel=0.08)
    open_at = eye.x[eye.lower - eye.upper > eye.height / 4]
    assert open_at.mean() == pytest.approx(EYE_WINDOW.at[0], abs=1.5 / EYE_WINDOW.crop_px) and np.ptp(
        open_at
    ) == pytest.approx(58 / EYE_WINDOW.crop_px, rel=0.1)
    middle = len(eye.x) // 2
    assert (eye.upper + eye.lower)[middle] / 2 == pytest.approx(EYE_WINDOW.at[1], abs=1 / EYE_WINDOW.crop_px)
    assert (eye.lower >= eye.upper).all() and (np.diff(eye.x) > 0).all()


def test_the_other_eye_is_its_mirror_image():
    one, other = (to_eye_contour(ellipse(x=40), mirrored) for mirrored in (False, True))
    assert (
        np.allclose(other.x, 1 - one.x[::-1])
        and np.allclose(other.upper, one.upper[::-1])
        and np.allclose(other.lower, one.lower[::-1])
    )


@pytest.mark.parametrize("share", [ellipse() * 0, ellipse(high=2), ellipse(wide=7), ellipse() * 0.4])
def test_a_shut_tiny_or_hidden_eye_has_no_contour(share):
    assert to_eye_contour(share, False) is None


def test_a_spot_far_from_the_eye_does_not_count():
    spotted = np.maximum(ellipse(), ellipse(4, 3, 10, 6))
    assert np.allclose(to_eye_contour(spotted, False).upper, to_eye_contour(ellipse(), False).upper, atol=1e-6)


def test_both_pictures_show_an_eye_with_its_inner_corner_at_the_right():
    taken = np.zeros((EYE_WINDOW.crop_px, EYE_WINDOW.crop_px, 3), np.uint8)
    taken[130:146, 160:170], taken[130:146, 230:240] = 200, 100  # inner corners of a face
    one, other = EYE_WINDOW.cut(taken), EYE_WINDOW.cut(taken[:, ::-1])
    assert one.shape == other.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert np.array_equal(one > 0, other > 0) and one.max() == 200 and other.max() == 100 and one[:, :48].max() == 0


def test_a_portrait_gives_the_eyes_that_the_network_sees_at_their_place():
    class Sees(OpeningSegmenter):
        def segment_eyes(self, eyes):
            return 20 * (eyes.mean(1, keepdim=True) - 0.5)

    crop = make_crop(np.array([[130, 130], [210, 130], [140, 220], [200, 220]], float), 192)
    pixels = np.zeros((340, 340, 3), np.uint8)
    side = crop.size_px / crop.scale
    row, column = np.mgrid[0:340, 0:340]
    x, y = crop.to_frame(np.array(EYE_WINDOW.at) * 192 - 0.5)
    pixels[((column - x) / (0.06 * side)) ** 2 + ((row - y) / (0.025 * side)) ** 2 < 1] = 255
    (eye,) = find_eyes(Sees(), pixels, crop)
    assert eye.height == pytest.approx(0.05, abs=0.008) and np.average(
        eye.x, weights=eye.lower - eye.upper
    ) == pytest.approx(EYE_WINDOW.at[0], abs=0.005)
    with torch.no_grad():
        assert find_eyes(OpeningSegmenter().eval(), pixels, crop) == ()


@pytest.mark.parametrize("high", [0.0, 3.0, 12.0])
def test_a_mouth_is_open_by_its_greatest_height_and_a_shut_one_by_nothing(high):
    share = ellipse(wide=30, high=high) if high else ellipse() * 0
    assert measure_opening(share) == pytest.approx(2 * high / MOUTH_WINDOW.crop_px, abs=1.0 / MOUTH_WINDOW.crop_px)


def test_the_opening_of_a_portrait_is_what_the_network_sees_in_it_and_in_its_mirror_image():
    class Sees(OpeningSegmenter):
        def segment_mouth(self, pictures):
            return 20 * (pictures.mean(1, keepdim=True) - 0.5)

    crop = make_crop(np.array([[130, 130], [210, 130], [140, 220], [200, 220]], float), 192)
    pixels, side = np.zeros((340, 340, 3), np.uint8), crop.size_px / crop.scale
    row, column = np.mgrid[0:340, 0:340]
    x, y = crop.to_frame(np.array(MOUTH_WINDOW.at) * 192 - 0.5)
    pixels[((column - x) / (0.12 * side)) ** 2 + ((row - y) / (0.04 * side)) ** 2 < 1] = 255
    assert estimate_opening(Sees(), pixels, crop) == pytest.approx(0.08, abs=0.01)
    assert estimate_opening(OpeningSegmenter(), pixels, crop) == 0
    crops = np.stack([crop.with_size(128).extract(pixels), np.zeros((128, 128, 3), np.uint8)])
    assert estimate_openings(Sees(), crops) == pytest.approx([0.08, 0], abs=0.012)


def test_a_code_of_another_opening_differs_in_nothing_but_the_opening():
    space = MotionSpace(**make_motion_space(0))
    codes = np.random.default_rng(0).normal(size=(3, EXPRESSION_WIDTH)).astype(np.float32)
    lips = space.lips[:BLINK_INDEX].numpy()
    out = correct_opening(codes, space, [0.0, 0.05, 0.1])
    assert out[:, :BLINK_INDEX] @ lips == pytest.approx([0, 0.05, 0.1], abs=1e-6) and np.array_equal(
        out[:, BLINK_INDEX:], codes[:, BLINK_INDEX:]
    )
    across = np.eye(BLINK_INDEX) - np.outer(lips, lips) / (lips @ lips)
    assert np.allclose(out[:, :BLINK_INDEX] @ across, codes[:, :BLINK_INDEX] @ across, atol=1e-5)
