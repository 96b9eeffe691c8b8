import cv2
import numpy as np
import pytest

from mouthpiece.engine.errors import UsageError
from mouthpiece.face.composite import ColorMatch, CropCompositor, match_colors
from mouthpiece.face.crop import make_crop
from mouthpiece.face.masks import make_edge_mask, make_region_mask

POINTS = np.array([[205, 101.7], [246.8, 103.7], [201.7, 139.2], [245.3, 141.9]])
SHIFTS = [np.array([0, 0]), np.array([-190, -95]), np.array([255, 350])]  # in the middle, over two corners


@pytest.fixture
def noisy():
    return np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
@pytest.mark.parametrize("size_px", [64, 256])
def test_only_pixels_under_the_mask_change(noisy, shift, size_px):
    crop = make_crop(POINTS + shift, size_px)
    paster = CropCompositor(noisy.shape, crop, make_region_mask("lower", size_px))
    before = noisy.copy()
    out = paster.paste(noisy, np.full((size_px, size_px, 3), 255, np.uint8))
    assert (noisy == before).all()
    changed = (out != noisy).any(-1)
    x0, y0, x1, y1 = paster.box_xyxy
    box = np.zeros(changed.shape, bool)
    box[y0:y1, x0:x1] = True
    warped = cv2.warpAffine(make_region_mask("lower", size_px), crop.frame_from_crop, (512, 512))
    assert changed.any() and not changed[~box].any() and not changed[cv2.dilate(warped, np.ones((9, 9))) == 0].any()
    assert box.sum() < 0.5 * box.size


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_what_was_cut_out_goes_back_without_a_seam(photo, scale):
    frame = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    crop = make_crop((POINTS + 0.5) * scale - 0.5, 256)
    out = CropCompositor(frame.shape, crop, make_region_mask("oval", 256)).paste(frame, crop.extract(frame))
    assert np.abs(out.astype(int) - frame).mean() < 0.1


def test_the_middle_of_the_mask_shows_the_render_and_its_edge_blends():
    frame, crop = np.zeros((512, 512, 3), np.uint8), make_crop(POINTS, 128)
    out = CropCompositor(frame.shape, crop, make_region_mask("oval", 128)).paste(
        frame, np.full((128, 128, 3), 200, np.uint8)
    )[..., 0]
    x, y = np.rint(POINTS.mean(0)).astype(int)
    assert out[y, x] == 200
    row = out[y].astype(int)
    assert np.abs(np.diff(row)).max() < 60 and len(set(row.tolist())) > 10


@pytest.mark.parametrize("tint", [(1.0, 0.9, 1.1), (0.85, 0.85, 0.85), (1.15, 1.0, 0.95)])
def test_colour_match_takes_a_tint_away(photo, tint):
    crop = make_crop(POINTS, 256)
    paster = CropCompositor(photo.shape, crop, make_region_mask("oval", 256))
    tinted = np.clip(crop.extract(photo) * np.array(tint) + 8, 0, 255).astype(np.uint8)
    plain = paster.paste(photo, tinted).astype(int)
    matched = paster.paste(photo, tinted, paster.match(photo, tinted)).astype(int)
    assert np.abs(matched - photo).mean() < 0.4 * np.abs(plain - photo).mean()


def test_colour_match_gives_mean_and_spread_exactly():
    rng = np.random.default_rng(3)
    given = rng.normal(120, 20, (2000, 3))
    match = match_colors(given * 1.1 - 5, given)
    assert np.allclose(match.gain, 1.1) and np.allclose(match.offset, -5)


def test_colour_match_is_limited_and_leaves_flat_patches_their_contrast():
    rng = np.random.default_rng(3)
    match = match_colors(rng.normal(128, 90, (500, 3)), rng.normal(20, 10, (500, 3)))
    assert np.allclose(match.gain, 1.4)
    flat = match_colors(np.full((100, 3), 140.0), np.full((100, 3), 130.0))
    assert np.allclose(flat.gain, 1) and np.allclose(flat.offset, 10)


def test_no_match_and_the_neutral_match_are_the_same(photo):
    crop = make_crop(POINTS, 128)
    paster = CropCompositor(photo.shape, crop, make_edge_mask(128))
    render = crop.extract(photo)
    neutral = ColorMatch(np.ones(3), np.zeros(3))
    assert (paster.paste(photo, render) == paster.paste(photo, render, neutral)).all()


def test_a_small_face_gets_a_filtered_render_not_an_aliased_one(noisy):
    frame, crop = np.full((512, 512, 3), 128, np.uint8), make_crop(POINTS, 512)
    assert crop.scale > 3
    render = np.ascontiguousarray(noisy)
    paster = CropCompositor(frame.shape, crop, make_region_mask("lower", 512))
    x0, y0, x1, y1 = paster.box_xyxy
    aliased = cv2.warpAffine(render, crop.frame_from_crop, (512, 512), flags=cv2.INTER_CUBIC)
    centre = (slice((y0 + y1) // 2 - 8, (y0 + y1) // 2 + 8), slice((x0 + x1) // 2 - 8, (x0 + x1) // 2 + 8))
    assert paster.paste(frame, render)[centre].std() < 0.6 * aliased[centre].std()


def test_wrong_sizes_and_masks_off_the_frame_are_named(photo):
    crop = make_crop(POINTS, 64)
    with pytest.raises(UsageError, match="the crop's size"):
        CropCompositor(photo.shape, crop, make_region_mask("oval", 32))
    with pytest.raises(UsageError, match="empty"):
        CropCompositor(photo.shape, crop, np.zeros((64, 64), np.float32))
    with pytest.raises(UsageError, match="outside"):
        CropCompositor(photo.shape, make_crop(POINTS + 2000, 64), make_region_mask("oval", 64))
    with pytest.raises(UsageError, match="need"):
        CropCompositor(photo.shape, crop, make_region_mask("oval", 64)).paste(
            photo[:100], np.zeros((64, 64, 3), np.uint8)
        )
