import cv2
import numpy as np
import pytest

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.face.crop import TEMPLATE, Crop, fit_similarity, invert_affine, make_crop, transform_points

POINTS = np.array([[205, 101.7], [246.8, 103.7], [201.7, 139.2], [245.3, 141.9]])


def slow_take(crop, frame):
    """The crop by averaging 16 x 16 samples of each crop pixel."""
    n, k = crop.size_px, 16
    at = (np.arange(n * k) + 0.5) / k - 0.5
    x, y = np.meshgrid(at, at)
    there = transform_points(crop.frame_from_crop, np.stack([x, y], -1)).astype(np.float32)
    fine = cv2.remap(frame, there[..., 0], there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return fine.reshape(n, k, n, k, 3).mean((1, 3))


def test_crop_after_inverse_is_the_identity():
    crop = make_crop(POINTS, 256)
    there = np.random.default_rng(0).uniform(-500, 500, (50, 2))
    assert np.abs(crop.to_frame(crop.to_crop(there)) - there).max() < 1e-9
    assert np.allclose(
        crop.crop_from_frame @ np.r_[crop.frame_from_crop, [[0, 0, 1]]], [[1, 0, 0], [0, 1, 0]], atol=1e-12
    )


def test_eyes_and_mouth_land_on_the_template_when_they_have_its_shape():
    matrix = np.array([[30.0, -12, 100], [12, 30, 50]])
    three = transform_points(matrix, TEMPLATE)
    four = np.array([three[0], three[1], three[2] - [9, 4], three[2] + [9, 4]])
    crop = make_crop(four, 128)
    assert np.abs((crop.to_crop(three) + 0.5) / 128 - TEMPLATE).max() < 1e-9


def test_the_similarity_never_mirrors_and_beats_its_neighbours():
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    best = fit_similarity(p, q)
    assert np.linalg.det(best[:, :2]) > 0

    def error(matrix):
        return ((transform_points(matrix, p) - q) ** 2).sum()

    for da, db in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
        assert error(best + np.array([[da, -db, 0], [db, da, 0]])) > error(best)


def test_the_other_size_shows_the_same_square():
    crop = make_crop(POINTS, 128)
    large = crop.with_size(384)
    corners = np.array([[-0.5, -0.5], [127.5, 127.5]])
    assert np.abs(large.to_frame(corners * 3 + 1) - crop.to_frame(corners)).max() < 1e-9
    wide = crop.with_border(0.25)
    assert wide.size_px == 192 and np.abs(wide.to_frame([32, 32]) - crop.to_frame([0, 0])).max() < 1e-9


@pytest.mark.parametrize("size_px", [16, 40])
def test_shrinking_averages_areas_instead_of_picking_pixels(size_px):
    fine = np.random.default_rng(2).integers(0, 256, (512, 512, 3), np.uint8)
    crop = make_crop(POINTS, size_px)
    assert crop.scale < 0.6
    fast, slow = crop.extract(fine).astype(float), slow_take(crop, fine)
    aliased = cv2.warpAffine(fine, crop.crop_from_frame, (size_px,) * 2, flags=cv2.INTER_CUBIC).astype(float)
    assert fast.std() < 0.6 * aliased.std()
    assert np.abs(fast - slow).mean() < 0.5 * np.abs(aliased - slow).mean()


def test_a_smooth_picture_is_shrunk_without_a_shift_also_through_the_pyramid():
    x, y = np.meshgrid(np.arange(3000), np.arange(2000))
    frame = np.stack([x / 3000 * 250, y / 2000 * 250, x * 0], -1).astype(np.uint8)
    crop = make_crop(POINTS * 8, 32)
    assert crop.scale < 0.12
    at = np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1)
    there = crop.to_frame(at)
    inside = ((there > 50) & (there < [2900, 1900])).all(-1)
    assert inside.sum() > 300
    taken = crop.extract(frame).astype(float)
    assert np.abs(taken[..., 0] + 0.5 - there[..., 0] / 3000 * 250)[inside].max() < 1.5
    assert np.abs(taken[..., 1] + 0.5 - there[..., 1] / 2000 * 250)[inside].max() < 1.5


@pytest.mark.parametrize("size_px", [48, 128])
def test_the_part_near_the_face_is_enough(photo, size_px):
    for shift in ([0, 0], [-180, -90], [250, 360]):
        crop = make_crop(POINTS + shift, size_px)
        part, near = crop.to_local(photo)
        assert part.size < photo.size
        assert np.abs(near.extract(part).astype(int) - crop.extract(photo)).max() <= 1


def test_outside_the_frame_its_border_goes_on():
    frame = np.full((60, 60, 3), 77, np.uint8)
    assert (make_crop(POINTS, 64).extract(frame) == 77).all()


@pytest.mark.parametrize("points", [np.zeros((4, 2)), np.full((4, 2), np.nan)])
def test_points_on_one_spot_are_refused(points):
    with pytest.raises(InvalidInputError, match="cannot be aligned"):
        make_crop(points, 64)


def test_a_crop_can_be_built_from_its_matrix():
    matrix = np.array([[0.5, 0.1, 3], [-0.1, 0.5, 4]])
    crop = Crop(matrix, invert_affine(matrix), 32)
    assert np.allclose(crop.to_frame(crop.to_crop([[5, 6]])), [[5, 6]])
