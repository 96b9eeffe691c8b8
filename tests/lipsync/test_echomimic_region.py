"""The square that the network draws, the region where the face may be, and the way back into the portrait."""

import numpy as np
import pytest

from lipsync.echomimic.region import box_in, paste_mask, paster_of, region_mask, square_of

WIDE, HIGH = 200, 160
BOX = (80.0, 50.0, 120.0, 100.0)


@pytest.mark.parametrize("box", [BOX, (0, 0, 40, 50), (170, 120, 199, 159), (10, 5, 190, 155)])
def test_the_square_is_twice_the_face_and_stays_inside_the_picture(box):
    crop = square_of(box, WIDE, HIGH, 64)
    (left, top), (right, bottom) = crop.to_frame(np.array([[-0.5, -0.5], [63.5, 63.5]])) + 0.5
    side = min(2 * (box[2] - box[0]), 2 * (box[3] - box[1]), WIDE, HIGH)
    assert right - left == pytest.approx(side) and bottom - top == pytest.approx(side)
    assert left >= -1e-6 and top >= -1e-6 and right <= WIDE + 1e-6 and bottom <= HIGH + 1e-6
    if box == BOX:
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((100, 75))


def test_the_region_is_the_box_and_a_tenth_more_with_fractions_at_its_edges():
    crop = square_of(BOX, WIDE, HIGH, 64)
    mask = region_mask(BOX, crop)
    scale = 64 / 80
    assert mask.sum() == pytest.approx(40 * 1.2 * 50 * 1.2 * scale**2, rel=1e-3)
    assert mask.min() == 0 and mask.max() == 1 and mask[32, 32] == 1 and ((mask > 0) & (mask < 1)).any()
    wide, tall = region_mask(BOX, crop, swing=1.3), region_mask(BOX, crop, nod=1.3)
    assert wide.sum() == pytest.approx(1.3 * mask.sum(), rel=0.05)
    assert (wide.any(1) == mask.any(1)).all() and (tall.any(0) == mask.any(0)).all()
    assert region_mask(BOX, crop, 8, 8).min() == 1


def test_what_comes_back_leaves_the_rest_of_the_picture_untouched():
    picture = np.random.default_rng(0).integers(0, 255, (HIGH, WIDE, 3), np.uint8)
    crop = square_of(BOX, WIDE, HIGH, 64)
    out = paster_of(crop, WIDE, HIGH).paste(picture, np.full((64, 64, 3), 200, np.uint8))
    inside = np.zeros((HIGH, WIDE), bool)
    inside[34:116, 59:141] = True
    assert (out[~inside] == picture[~inside]).all()
    assert (out[70:80, 95:105] == 200).all()


def test_the_way_back_fades_at_its_sides_but_not_where_the_picture_ends():
    inner = paste_mask(square_of(BOX, WIDE, HIGH, 64), WIDE, HIGH)
    assert inner[0].max() == inner[-1].max() == inner[:, 0].max() == inner[:, -1].max() == 0 and inner[32, 32] == 1
    corner = paste_mask(square_of((0, 0, 40, 50), WIDE, HIGH, 64), WIDE, HIGH)
    assert corner[0, 0] == 1 and corner[-1].max() == 0 == corner[:, -1].max()
    assert paste_mask(square_of((0, 0, 100, 100), 100, 100, 64), 100, 100).min() == 1


def test_the_box_follows_the_picture_to_its_output_size():
    class Job:
        class face:
            box_xyxy = np.array(BOX)
            points = np.array([[90, 60], [110, 60], [93, 85], [107, 85]], float)

        points = face.points * 0.5 - [10, 4]

    assert box_in(Job) == pytest.approx(np.array(BOX) * 0.5 - [10, 4, 10, 4])
