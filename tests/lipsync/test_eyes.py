import numpy as np
import pytest
import torch

from face.crop import crop_of
from lipsync.eyes import CROP_PX, EYE_AT, EYE_HEIGHT_PX, EYE_WIDTH_PX, EyeFinder, eye_of, eye_pictures, find_eyes


def ellipse(wide=30, high=10, x=48, y=32):
    row, column = np.mgrid[0:EYE_HEIGHT_PX, 0:EYE_WIDTH_PX] + 0.5
    return np.clip(10 * (1 - ((column - x) / wide) ** 2 - ((row - y) / high) ** 2), 0, 1).astype(np.float32)


def test_an_eye_is_found_where_its_share_says_in_units_of_the_crop():
    eye = eye_of(ellipse(), False)
    assert eye.height == pytest.approx(20 / CROP_PX, rel=0.08)
    open_at = eye.x[eye.lower - eye.upper > eye.height / 4]
    assert open_at.mean() == pytest.approx(EYE_AT[0], abs=1.5 / CROP_PX) and np.ptp(open_at) == pytest.approx(58 / CROP_PX, rel=0.1)
    middle = len(eye.x) // 2
    assert (eye.upper + eye.lower)[middle] / 2 == pytest.approx(EYE_AT[1], abs=1 / CROP_PX)
    assert (eye.lower >= eye.upper).all() and (np.diff(eye.x) > 0).all()


def test_the_other_eye_is_its_mirror_image():
    one, other = (eye_of(ellipse(x=40), mirrored) for mirrored in (False, True))
    assert np.allclose(other.x, 1 - one.x[::-1]) and np.allclose(other.upper, one.upper[::-1]) and np.allclose(other.lower, one.lower[::-1])


@pytest.mark.parametrize("share", [ellipse() * 0, ellipse(high=2), ellipse(wide=7), ellipse() * 0.4])
def test_an_eye_that_is_shut_tiny_or_hidden_is_none(share):
    assert eye_of(share, False) is None


def test_a_spot_far_from_the_eye_does_not_count():
    spotted = np.maximum(ellipse(), ellipse(4, 3, 10, 6))
    assert np.allclose(eye_of(spotted, False).upper, eye_of(ellipse(), False).upper, atol=1e-6)


def test_both_pictures_show_an_eye_with_its_inner_corner_at_the_right():
    taken = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    taken[130:146, 160:170], taken[130:146, 230:240] = 200, 100          # inner corners of a face
    one, other = eye_pictures(taken)
    assert one.shape == other.shape == (EYE_HEIGHT_PX, EYE_WIDTH_PX, 3)
    assert np.array_equal(one > 0, other > 0) and one.max() == 200 and other.max() == 100 and one[:, :48].max() == 0


def test_a_portrait_gives_the_eyes_that_the_network_sees_at_their_place():
    class Sees(EyeFinder):
        def forward(self, eyes):
            return 20 * (eyes.mean(1, keepdim=True) - 0.5)

    crop = crop_of(np.array([[130, 130], [210, 130], [140, 220], [200, 220]], float), 192)
    pixels = np.zeros((340, 340, 3), np.uint8)
    side = crop.size_px / crop.scale
    row, column = np.mgrid[0:340, 0:340]
    x, y = crop.to_frame(np.array(EYE_AT) * 192 - 0.5)
    pixels[((column - x) / (0.06 * side)) ** 2 + ((row - y) / (0.025 * side)) ** 2 < 1] = 255
    (eye,) = find_eyes(Sees(), pixels, crop)
    assert eye.height == pytest.approx(0.05, abs=0.008) and np.average(eye.x, weights=eye.lower - eye.upper) == pytest.approx(EYE_AT[0], abs=0.005)
    with torch.no_grad():
        assert find_eyes(EyeFinder().eval(), pixels, crop) == ()
