import cv2
import numpy as np
import pytest
import torch

from mouthpiece.face.crop import make_crop
from mouthpiece.lipsync.portrait.dentition import (
    BITING_EDGE_OFFSET,
    BITING_EDGE_SHARE,
    DRAWING_CROP_PX,
    DRAWING_SIZE,
    draw_dentition,
    place_on_patch,
)
from mouthpiece.lipsync.portrait.lip_line import LipLine, MouthLogits, draw_lip_band, estimate_lip_line
from mouthpiece.lipsync.portrait.mouth_patch import MOUTH_PATCH, WORK_PX
from mouthpiece.lipsync.portrait.mouth_shading import alpha_composite, shading, visibility
from mouthpiece.lipsync.portrait.teeth import (
    blur_teeth,
    build_teeth,
    draw_teeth,
    estimate_blur,
    estimate_illuminant,
    extend_upward,
    inpaint_teeth,
    match_tone,
    measure_cheek_colour,
    shows_enough_teeth,
    to_teeth_tensor,
)

DARK = torch.full((1, 3, 64, 112), -0.8)


@pytest.fixture(scope="module")
def regular():
    return draw_dentition()


def logits(cover, band):
    p = np.clip(np.stack([cover, band]), 1e-4, 1 - 1e-4)
    return MouthLogits(*np.log(p / (1 - p)).astype(np.float32))


def test_drawn_teeth_are_bright_with_dark_gaps_under_pink_gums_and_alike_on_both_sides(regular):
    h, w = regular.shape[:2]
    edge, middle = round(BITING_EDGE_SHARE * h), w // 2
    tooth, gum = regular[edge - 16, middle + 18], regular[edge - 60, middle + 18]
    assert tooth[3] > 0.99 and tooth[:3].min() > 180 and gum[0] > gum[1] + 40
    assert regular[edge - 16, middle, :3].sum() < 0.9 * tooth[:3].sum()
    assert regular[-4:, :, 3].max() < 0.05 and regular[edge + 6, middle + 18, 3] < 0.05
    assert np.abs(regular - regular[:, ::-1]).mean() < 1.0
    assert (h, w) == tuple(round(s * DRAWING_CROP_PX) for s in DRAWING_SIZE)


def test_irregular_teeth_repeat_with_their_seed_and_differ_between_seeds(regular):
    one, again, other = (draw_dentition(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other) and not np.array_equal(one, regular)


@pytest.mark.parametrize("size_px", [96, 192, 384])
def test_placed_teeth_bite_a_little_below_where_the_lips_meet_at_any_size(regular, size_px):
    for where in (LipLine(), LipLine(0.47, 0.63)):
        out = place_on_patch(regular, where, size_px)
        grow = size_px / WORK_PX
        assert out.shape == (64 * grow, 112 * grow, 4)
        top, _, left, _ = MOUTH_PATCH
        column = out[:, round(where.x * size_px - left * grow + 2 * grow), 3]
        edge = np.flatnonzero(column > 0.5).max() + 1
        assert edge / grow + top == pytest.approx((where.y + BITING_EDGE_OFFSET) * WORK_PX, abs=1.6)


def test_tilted_teeth_hang_lower_on_the_side_of_the_tilt(regular):
    out = place_on_patch(regular, LipLine(tilt_rad=0.2), 192)[..., 3]
    left, right = (np.flatnonzero(out[:, column] > 0.5).max() for column in (46, 66))
    assert right - left == pytest.approx(20 * np.tan(0.2), abs=1.5)


@pytest.mark.parametrize("where", [LipLine(), LipLine(0.48, 0.64, 0.12), LipLine(0.53, 0.70, -0.1)])
def test_the_lip_line_read_from_a_band_is_the_one_drawn(where):
    found = estimate_lip_line(draw_lip_band(where))
    assert found.x == pytest.approx(where.x, abs=0.004) and found.y == pytest.approx(where.y, abs=0.004)
    assert found.tilt_rad == pytest.approx(where.tilt_rad, abs=0.02)


def test_without_a_band_the_default_lip_line_is_taken():
    assert estimate_lip_line(np.full((64, 112), 0.1)) == LipLine()


def test_teeth_cover_what_is_inside_and_nothing_else():
    teeth = torch.zeros(1, 5, 64, 112)
    teeth[:, :3], teeth[:, 3, :30] = 0.6, 1
    inside = torch.zeros(1, 1, 64, 112)
    inside[..., 20:40, 30:80] = 1
    out = alpha_composite(DARK, teeth, inside)
    assert torch.equal(out[..., :20, :], DARK[..., :20, :]) and torch.equal(out[..., 30:, :], DARK[..., 30:, :])
    assert (out[..., 20:30, 32:78] > -0.3).all() and out[0, 0, 28, 50] > out[0, 0, 20, 50]  # in the shade of the lip


def test_alpha_compositing_is_the_same_in_8_bit_units():
    teeth, inside = torch.rand(1, 5, 64, 112), torch.rand(1, 1, 64, 112)
    teeth[:, 4] = 0
    eight = teeth.clone()
    eight[:, :3] *= 255
    teeth[:, :3] = teeth[:, :3] * 2 - 1
    assert torch.allclose(
        alpha_composite(eight[:, :3] * 0 + 30, eight, inside, black=0.0) / 127.5 - 1,
        alpha_composite(teeth[:, :3] * 0 + (30 / 127.5 - 1), teeth, inside),
        atol=1e-4,
    )


def test_a_wide_open_mouth_is_light_a_slit_is_dark_and_photographed_teeth_are_shaded_less():
    inside = torch.zeros(1, 1, 64, 112)
    inside[..., 16:48, 20:90] = 1
    drawn, own = (shading(inside, torch.full_like(inside, value)) for value in (0.0, 1.0))
    assert drawn[0, 0, 34, 50] > 0.98 and drawn[0, 0, 16, 50] < 0.7 and (own >= drawn).all()
    slit = torch.zeros_like(inside)
    slit[..., 30:33, 20:90] = 1
    assert (
        shading(slit, torch.zeros_like(slit))[0, 0, 31, 50]
        < 0.62
        < 0.75
        < shading(slit, torch.ones_like(slit))[0, 0, 31, 50]
    )


def test_a_portrait_that_shows_its_teeth_keeps_them_and_another_gets_drawn_ones():
    taken = np.random.default_rng(0).integers(90, 200, (192, 192, 3)).astype(np.uint8)
    smile = np.zeros((64, 112), np.float32)
    smile[20:30, 40:80] = 1
    large = np.repeat(np.repeat(taken, 2, 0), 2, 1)
    own = build_teeth(taken, logits(smile, draw_lip_band(LipLine())), large)
    top, bottom, left, right = (2 * v for v in MOUTH_PATCH)
    assert (
        own.shape == (128, 224, 5)
        and (own[..., 4] == 1).all()
        and np.array_equal(own[60:, :, :3], large[top + 60 : bottom, left:right])
    )
    assert own[50, 120, 3] > 0.95 and own[5, 5, 3] < 0.05
    drawn = build_teeth(taken, logits(0 * smile, draw_lip_band(LipLine(0.5, 0.7))))
    assert (
        np.allclose(drawn, draw_teeth(estimate_lip_line(draw_lip_band(LipLine(0.5, 0.7))), taken), atol=0.01)
        and not drawn[..., 4].any()
    )
    assert shows_enough_teeth(smile) and not shows_enough_teeth(0.4 * smile)


def test_drawn_teeth_take_the_colour_of_what_shows_of_the_portraits_own():
    taken, glimpse = np.full((192, 192, 3), 120, np.uint8), np.zeros((64, 112), np.float32)
    glimpse[30:33, 40:70] = 1
    taken[MOUTH_PATCH[0] + 30 : MOUTH_PATCH[0] + 33, MOUTH_PATCH[2] + 40 : MOUTH_PATCH[2] + 70] = (200, 180, 90)
    teeth = build_teeth(taken, logits(glimpse, draw_lip_band(LipLine())))
    bright = teeth[teeth[..., 3] > 0.9][:, :3].max(0)
    grey = build_teeth(taken, logits(0 * glimpse, draw_lip_band(LipLine())))
    usual = grey[grey[..., 3] > 0.9][:, :3].max(0)
    assert not teeth[..., 4].any() and bright[2] / bright[0] < 0.8 * usual[2] / usual[0]


def test_drawn_teeth_are_darker_in_a_darker_face():
    light, dark = (np.full((192, 192, 3), value, np.uint8) for value in (200, 60))
    assert measure_cheek_colour(light).tolist() == [200, 200, 200]
    assert draw_teeth(LipLine(), dark)[..., :3].max() < 0.8 * draw_teeth(LipLine(), light)[..., :3].max()


def test_the_teeth_tensor_has_the_renderers_unit_and_the_same_cover():
    teeth = draw_teeth(LipLine(), np.full((192, 192, 3), 150, np.uint8))
    out = to_teeth_tensor(teeth)
    assert out.shape == (5, 64, 112) and -1 <= out[:3].min() and out[:3].max() <= 1
    assert np.array_equal(out[3].numpy(), teeth[..., 3]) and torch.allclose(
        out[0], torch.from_numpy(teeth[..., 0]) / 127.5 - 1
    )


def test_teeth_in_a_blurred_picture_are_as_soft_and_in_a_sharp_one_left_as_they_are():
    sharp = cv2.resize(np.random.default_rng(0).integers(0, 256, (192, 192, 3)).astype(np.uint8), (192, 192))
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2.5)
    assert estimate_blur(sharp) == 0 and estimate_blur(blurred) > 0.8
    teeth = draw_teeth(LipLine(), sharp)
    soft = blur_teeth(teeth, 1.2)
    steps = [np.abs(np.diff(x[..., 3], axis=0)).max() for x in (teeth, soft)]
    assert blur_teeth(teeth, 0.0) is teeth and steps[1] < 0.6 * steps[0]
    assert soft[..., :3].max() <= teeth[..., :3].max() + 1 and abs(soft[..., 3].sum() / teeth[..., 3].sum() - 1) < 0.02


def test_own_teeth_are_extended_behind_the_upper_lip():
    teeth = np.zeros((64, 112, 5), np.float32)
    teeth[30:40, 40:70, :3], teeth[30:40, 40:70, 3], teeth[..., 4] = 200, 1, 1
    out = extend_upward(teeth, 7)
    assert out[25, 50, 3] > 0.8 and out[18, 50, 3] < 0.05 and out[25, 30, 3] == 0
    assert np.ptp(out[29, 50, :3]) < 5 and out[24, 50, 0] > out[24, 50, 1] + 30  # tooth, then gum
    assert np.array_equal(out[31:], teeth[31:]) and not extend_upward(0 * teeth, 7)[..., 3].any()


def test_teeth_under_a_yellow_lamp_are_yellow_and_dark_skin_in_daylight_makes_none():
    assert np.array_equal(estimate_illuminant((200, 140, 110)), [1, 1, 1]) and np.array_equal(
        estimate_illuminant((120, 75, 50)), [1, 1, 1]
    )
    red, green, blue = estimate_illuminant((230, 160, 67))
    assert red == 1 and 0.75 < green < 0.9 and 0.45 < blue < 0.6
    white = np.full((2, 2, 4), 220.0)
    day, evening = (match_tone(white, skin)[0, 0] for skin in ((200, 140, 110), (230, 160, 67)))
    assert evening[2] < 0.65 * day[2] and evening[3] == day[3] == 220


def test_a_line_along_which_lips_meet_shows_no_teeth():
    assert np.array_equal(visibility(np.array([0.0, 0.45, 0.75, 1.0])), [0, 0, 0.5, 1])


@pytest.mark.parametrize("grow", [0.5, 1.0, 3.0])
def test_photographed_teeth_are_inpainted_with_lip(grow):
    side = round(WORK_PX * grow)
    points = np.array([[0.355, 0.34], [0.645, 0.34], [0.40, 0.64], [0.60, 0.64]]) * side - 0.5
    crop, cover = make_crop(points, WORK_PX), np.zeros((64, 112), np.float32)
    cover[20:30, 40:80] = 1
    at = [round(v * grow) for v in (MOUTH_PATCH[0] + 20, MOUTH_PATCH[0] + 30, MOUTH_PATCH[2] + 40, MOUTH_PATCH[2] + 80)]
    picture = np.full((side, side, 3), (150, 90, 90), np.uint8)
    picture[at[0] : at[1], at[2] : at[3]] = 240
    bare = inpaint_teeth(picture, crop, logits(cover, 0 * cover))
    assert np.abs(bare[at[0] : at[1], at[2] : at[3]].astype(int) - (150, 90, 90)).max() < 30 and picture.max() == 240
    assert np.array_equal(bare[: at[0] - round(4 * grow)], picture[: at[0] - round(4 * grow)])
    assert inpaint_teeth(picture, crop, logits(0 * cover, cover)) is picture


def test_teeth_that_would_lie_beside_the_picture_are_left_alone():
    points = np.array([[0.355, 0.34], [0.645, 0.34], [0.40, 0.64], [0.60, 0.64]]) * WORK_PX - 0.5
    picture, cover = np.full((MOUTH_PATCH[0] + 10, WORK_PX, 3), 120, np.uint8), np.zeros((64, 112), np.float32)
    cover[20:30, 40:80] = 1  # below its last row
    assert inpaint_teeth(picture, make_crop(points, WORK_PX), logits(cover, 0 * cover)) is picture
