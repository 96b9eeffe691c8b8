"""The square that the network draws, the region where the face may be, and the way back into the portrait."""

import numpy as np
import pytest

from mouthpiece.lipsync.echomimic.face_region import (
    get_face_box,
    make_face_region_mask,
    make_paste_mask,
    make_paster,
    make_square_crop,
)

WIDE, HIGH = 200, 160
BOX = (80.0, 50.0, 120.0, 100.0)


@pytest.mark.parametrize("box", [BOX, (0, 0, 40, 50), (170, 120, 199, 159), (10, 5, 190, 155)])
def test_the_square_is_twice_the_face_and_stays_inside_the_picture(box):
    crop = make_square_crop(box, WIDE, HIGH, 64)
    (left, top), (right, bottom) = crop.to_frame(np.array([[-0.5, -0.5], [63.5, 63.5]])) + 0.5
    side = min(2 * (box[2] - box[0]), 2 * (box[3] - box[1]), WIDE, HIGH)
    assert right - left == pytest.approx(side) and bottom - top == pytest.approx(side)
    assert left >= -1e-6 and top >= -1e-6 and right <= WIDE + 1e-6 and bottom <= HIGH + 1e-6
    if box == BOX:
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((100, 75))


def test_the_region_is_the_box_and_a_tenth_more_with_fractions_at_its_edges():
    crop = make_square_crop(BOX, WIDE, HIGH, 64)
    mask = make_face_region_mask(BOX, crop)
    scale = 64 / 80
    assert mask.sum() == pytest.approx(40 * 1.2 * 50 * 1.2 * scale**2, rel=1e-3)
    assert mask.min() == 0 and mask.max() == 1 and mask[32, 32] == 1 and ((mask > 0) & (mask < 1)).any()
    wide, tall = make_face_region_mask(BOX, crop, width=1.3), make_face_region_mask(BOX, crop, height=1.3)
    assert wide.sum() == pytest.approx(1.3 * mask.sum(), rel=0.05)
    assert (wide.any(1) == mask.any(1)).all() and (tall.any(0) == mask.any(0)).all()
    assert make_face_region_mask(BOX, crop, 8, 8).min() == 1


def test_pasting_leaves_the_rest_of_the_picture_untouched():
    picture = np.random.default_rng(0).integers(0, 255, (HIGH, WIDE, 3), np.uint8)
    crop = make_square_crop(BOX, WIDE, HIGH, 64)
    out = make_paster(crop, WIDE, HIGH).paste(picture, np.full((64, 64, 3), 200, np.uint8))
    inside = np.zeros((HIGH, WIDE), bool)
    inside[34:116, 59:141] = True
    assert (out[~inside] == picture[~inside]).all()
    assert (out[70:80, 95:105] == 200).all()


def test_the_paste_mask_fades_at_its_sides_but_not_where_the_picture_ends():
    inner = make_paste_mask(make_square_crop(BOX, WIDE, HIGH, 64), WIDE, HIGH)
    assert inner[0].max() == inner[-1].max() == inner[:, 0].max() == inner[:, -1].max() == 0 and inner[32, 32] == 1
    corner = make_paste_mask(make_square_crop((0, 0, 40, 50), WIDE, HIGH, 64), WIDE, HIGH)
    assert corner[0, 0] == 1 and corner[-1].max() == 0 == corner[:, -1].max()
    assert make_paste_mask(make_square_crop((0, 0, 100, 100), 100, 100, 64), 100, 100).min() == 1


def test_the_box_follows_the_picture_to_its_output_size():
    class Job:
        class face:
            box_xyxy = np.array(BOX)
            points = np.array([[90, 60], [110, 60], [93, 85], [107, 85]], float)

        points = face.points * 0.5 - [10, 4]

    assert get_face_box(Job) == pytest.approx(np.array(BOX) * 0.5 - [10, 4, 10, 4])
