import itertools

import cv2
import numpy as np
import pytest
import torch

from mouthpiece.face.crop import make_crop
from mouthpiece.lipsync.portrait.canvas import (
    Canvas,
    compute_head_depth,
    compute_person_rigidity,
)
from mouthpiece.lipsync.portrait.frame_parts import FrameParts
from mouthpiece.lipsync.portrait.layers import inpaint_background
from mouthpiece.lipsync.portrait.mouth_patch import MOUTH_PATCH, WORK_PX
from mouthpiece.lipsync.portrait.opening_segmenter import EyeContour
from mouthpiece.lipsync.portrait.renderer import Rendering, composite_mouth, tighten_mask, to_frame_parts
from mouthpiece.training.mesh_geometry import RIGID_POINTS, remove_head_motion

STILL_POSE = np.zeros(6, np.float32)
NOTHING = FrameParts(np.zeros((96, 96, 2), np.float32), np.zeros((64, 112, 4), np.float32))


def crop_at(centre, side_px, turn=0.0):
    """Crop whose middle lies at a frame position, side_px long, turned by an angle."""
    at = (np.array([[0.355, 0.34], [0.645, 0.34], [0.40, 0.64], [0.60, 0.64]]) - 0.5) * side_px
    c, s = np.cos(turn), np.sin(turn)
    return make_crop(at @ np.array([[c, s], [-s, c]]) + centre, WORK_PX)


def place_picture(height, width):
    """A picture whose red and green say where a pixel lies, a quarter pixel fine at best."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, y, 0 * x], -1).astype(np.uint8)


def read_from(frame):
    return frame[..., :2].astype(float)


def with_flow(x, y):
    return FrameParts(np.full((96, 96, 2), (x, y), np.float32), NOTHING.paint)


@pytest.mark.parametrize("size", [(240, 240), (301, 203), (97, 400), (401, 61)])
@pytest.mark.parametrize("where", [(0.5, 0.5), (0.02, 0.97), (1.1, -0.1)])
def test_nothing_to_do_leaves_every_bit_of_a_picture_of_any_shape(size, where):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    canvas = Canvas(pixels, crop_at(np.array(where) * size[::-1], 90, 0.3))
    assert np.array_equal(canvas.draw(NOTHING, STILL_POSE), pixels)
    moved = canvas.draw(with_flow(0.05, 0), np.full(6, 0.05, np.float32))
    assert moved.shape == pixels.shape and moved.dtype == np.uint8


@pytest.mark.parametrize("turn, expected", [(0.0, (8, 4)), (np.pi / 2, (-4, 8))])
def test_flow_reads_as_far_away_as_it_says_in_the_directions_of_the_crop(turn, expected):
    frame = Canvas(place_picture(250, 250), crop_at((125, 125), 160, turn)).draw(
        with_flow(8 / 160, 4 / 160), STILL_POSE
    )
    middle = np.s_[100:150, 100:150]
    assert np.abs(read_from(frame)[middle] - read_from(place_picture(250, 250))[middle] - expected).max() <= 1
    assert (
        np.abs((read_from(frame)[middle] - read_from(place_picture(250, 250))[middle]).mean((0, 1)) - expected).max()
        < 0.1
    )


def test_flow_fades_out_at_the_border_of_the_crop():
    frame = Canvas(place_picture(250, 250), crop_at((125, 125), 160)).draw(with_flow(8 / 160, 0), STILL_POSE)
    moved = (frame != place_picture(250, 250)).any(-1)
    assert moved[125, 55:195].all() and not moved[:, :45].any() and not moved[:44].any() and not moved[206:].any()


def test_a_frame_at_working_size_is_what_the_renderer_was_trained_to_compose():
    rng = np.random.default_rng(1)
    coarse = torch.from_numpy(rng.uniform(-0.04, 0.04, (1, 2, 6, 6)).astype(np.float32))
    flow = torch.nn.functional.interpolate(coarse, size=96, mode="bicubic")
    smooth = torch.from_numpy(rng.uniform(-1, 1, (1, 3, 12, 12)).astype(np.float32))
    portrait = torch.nn.functional.interpolate(smooth, size=WORK_PX, mode="bicubic").clamp(-1, 1)
    pixels = np.round((portrait[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
    paint, mask = torch.rand(1, 3, 64, 112) * 2 - 1, torch.full((1, 1, 64, 112), 0.7)
    rendering = Rendering(flow, torch.nn.functional.avg_pool2d(paint, 9, 1, 4), mask)
    canvas = Canvas(pixels, crop_at((95.5, 95.5), WORK_PX))
    drawn = canvas.draw(to_frame_parts(rendering)[0], STILL_POSE).astype(float)
    wanted = (composite_mouth(portrait, rendering)[0].permute(1, 2, 0).numpy() + 1) * 127.5
    inside = np.s_[14:-14, 14:-14]
    assert np.abs(drawn - wanted)[inside].max() < 6 and np.abs(drawn - wanted)[inside].mean() < 0.7


def test_paint_lands_on_the_mouth_and_nowhere_else():
    paint = np.zeros((64, 112, 4), np.float32)
    paint[20:44, 40:72] = (200, 100, 50, 1)
    pixels = np.full((300, 260, 3), 80, np.uint8)
    crop = crop_at((130, 150), 150, 0.4)
    frame = Canvas(pixels, crop).draw(FrameParts(NOTHING.flow, paint), STILL_POSE)
    top, _, left, _ = MOUTH_PATCH
    x, y = crop.to_frame([left + 55.5, top + 31.5])
    assert frame[round(y), round(x)].tolist() == [200, 100, 50]
    rows, cols = np.nonzero((frame != pixels).any(-1))
    at = crop.to_crop(np.c_[cols, rows]) - [left, top]
    assert at.min(0)[0] > 37 and at.min(0)[1] > 17 and at.max(0)[0] < 74 and at.max(0)[1] < 46


def test_paint_moves_with_a_head_that_moves_far():
    paint = np.zeros((64, 112, 4), np.float32)
    paint[8:-8, 8:-8] = (255, 255, 255, 1)
    pixels, shift = np.zeros((300, 300, 3), np.uint8), 0.15
    canvas = Canvas(pixels, crop_at((150, 150), 160))
    still = canvas.draw(FrameParts(NOTHING.flow, paint), STILL_POSE)
    moved = canvas.draw(FrameParts(NOTHING.flow, paint), np.array([shift, 0, 0, 0, 0, 0]))
    before, after = (np.nonzero(frame[160, :, 0] > 127)[0] for frame in (still, moved))
    assert len(after) == pytest.approx(len(before), abs=1)
    assert after.mean() - before.mean() == pytest.approx(shift * 160, abs=0.7)


def test_a_shift_moves_the_head_and_leaves_the_far_corners_alone():
    pixels = place_picture(256, 256)
    frame = Canvas(pixels, crop_at((128, 110), 70)).draw(NOTHING, np.array([0.1, -0.05, 0, 0, 0, 0]))
    head = np.s_[95:125, 115:141]
    assert np.abs(read_from(frame)[head] - read_from(pixels)[head] - [-7, 3.5]).max() <= 1.1
    for rows in (slice(0, 20), slice(236, 256)):
        for cols in (slice(0, 20), slice(236, 256)):
            assert np.array_equal(frame[rows, cols], pixels[rows, cols])


def test_head_motion_neither_folds_nor_tears_the_picture_in_a_strong_pose():
    canvas = Canvas(np.zeros((256, 256, 3), np.uint8), crop_at((128, 120), 110))
    for signs in itertools.product((1, -1), repeat=6):
        moved = np.tensordot(np.array([0.05, 0.05, 0.03, 0.1, 0.15, 0.12]) * signs, canvas._field, 1)
        at = np.stack(np.meshgrid(np.arange(64) * 4.0, np.arange(64) * 4.0), -1) + moved
        across, down = np.diff(at, axis=1)[:-1], np.diff(at, axis=0)[:, :-1]
        assert (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).min() > 0.3 * 16


def head(count=468):
    """Points of an ellipsoid's front (468, 3) in the unit square of a crop, eyes and brow among the still ones."""
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-0.2, 0.2, count), rng.uniform(-0.3, 0.4, count)
    x[RIGID_POINTS], y[RIGID_POINTS] = (
        rng.uniform(-0.15, 0.15, len(RIGID_POINTS)),
        np.linspace(-0.25, 0.02, len(RIGID_POINTS)),
    )
    z = -0.333 * np.sqrt(1 - (x / 0.3) ** 2 - (y / 0.69) ** 2)
    return np.c_[x + 0.5, y + 0.377, z]


def turned(points, roll, yaw, pitch):
    """Points turned about the neck: x to the right, y down, z away from the camera."""
    c, s = np.cos, np.sin
    about_z = np.array([[c(roll), -s(roll), 0], [s(roll), c(roll), 0], [0, 0, 1]])
    about_y = np.array([[c(yaw), 0, s(yaw)], [0, 1, 0], [-s(yaw), 0, c(yaw)]])
    about_x = np.array([[1, 0, 0], [0, c(pitch), -s(pitch)], [0, s(pitch), c(pitch)]])
    neck = np.array([0.5, 0.9, 0.1])
    return (points - neck) @ (about_z @ about_y @ about_x).T + neck


@pytest.mark.parametrize("roll, yaw, pitch", [(0.08, 0, 0), (0, 0.09, 0), (0, 0, 0.07), (-0.05, -0.06, 0.05)])
def test_a_head_drawn_in_a_measured_pose_is_where_the_measured_head_was(roll, yaw, pitch):
    rest = head()
    frame = turned(rest, roll, yaw, pitch)
    pose = remove_head_motion(frame[None], rest)[2][0]
    canvas = Canvas(np.zeros((192, 192, 3), np.uint8), crop_at((95.5, 95.5), WORK_PX))
    n = canvas._field.shape[1]
    column, row = np.clip((rest[:, :2] * n).astype(int), 0, n - 1).T
    drawn = -np.tensordot(pose, canvas._field, 1)[row, column] / WORK_PX
    measured = (frame - rest)[:, :2]
    error = np.sqrt(((drawn - measured) ** 2).mean())
    assert error < 0.25 * np.sqrt((measured**2).mean())


def test_the_nose_stands_out_and_the_ears_lie_behind():
    nose, ear, still = compute_head_depth(np.array([[0.5, 0.45], [0.2, 0.4], [0.42, 0.26]]))
    assert nose > 0.05 and ear < -0.1 and abs(still) < 0.06


def test_a_tighter_mask_keeps_its_middle_and_the_lower_lip_shades_the_paint_beside_it():
    mask = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]).view(1, 1, 1, 5).expand(1, 1, 4, 5)
    flat = Rendering(torch.zeros(1, 2, 96, 96), torch.full((1, 3, 4, 5), 0.3), mask)
    assert (
        torch.allclose(tighten_mask(flat).mask[0, 0, 0], torch.tensor([0.0, 0.0, 1 / 3, 8 / 9, 1.0]), atol=1e-3)
        and tighten_mask(flat).flow is flat.flow
    )
    inside = torch.zeros(1, 1, 64, 112)
    inside[..., 20:44, 30:80] = 1
    out = tighten_mask(Rendering(flat.flow, torch.full((1, 3, 64, 112), 0.3), inside)).paint[0, 0, :, 55]
    assert out[22:38].min() > 0.28 and out[43] < -0.1 and (out >= -1).all()


def busy_picture(height, width, seed=5):
    """A picture full of texture, smooth enough to be read between its pixels."""
    noise = cv2.GaussianBlur(
        np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32), (0, 0), 3
    )
    return np.clip((noise - noise.mean()) * 6 + 128, 0, 255).astype(np.uint8)


def bust(height, width, x, y, side_px):
    """A matte of head and shoulders with a soft edge."""
    rows, cols = np.mgrid[0:height, 0:width]
    head = np.hypot((cols - x) / (0.42 * side_px), (rows - y + 0.05 * side_px) / (0.6 * side_px)) < 1
    body = (rows > y + 0.45 * side_px) & (np.abs(cols - x) < 0.9 * side_px)
    return cv2.GaussianBlur((head | body).astype(np.float32), (0, 0), 1)


STRONG = np.array([0.08, -0.04, 0.03, 0.08, 0.1, 0.08], np.float32)


@pytest.mark.parametrize("where", [(150, 130), (20, 40), (290, 230)])
def test_with_a_matte_nothing_to_do_leaves_every_bit(where):
    pixels = busy_picture(260, 300)
    canvas = Canvas(pixels, crop_at(where, 90, 0.2), bust(260, 300, *where, 90))
    assert np.array_equal(canvas.draw(NOTHING, STILL_POSE), pixels)


def test_with_a_matte_the_background_stays_and_the_head_goes():
    pixels, matte = busy_picture(300, 320), bust(300, 320, 160, 130, 90)
    frame = Canvas(pixels, crop_at((160, 130), 90), matte).draw(NOTHING, STRONG)
    far = cv2.dilate((matte > 0).astype(np.uint8), np.ones((61, 61), np.uint8)) == 0
    assert far.sum() > 20000 and np.array_equal(frame[far], pixels[far])
    shifted = Canvas(pixels, crop_at((160, 130), 90), matte).draw(NOTHING, np.array([0.1, 0, 0, 0, 0, 0]))
    moved = shifted[100:150, 145:175].astype(float)
    assert np.abs(moved - pixels[100:150, 136:166]).mean() < 2 < 10 < np.abs(moved - pixels[100:150, 145:175]).mean()


def test_what_the_head_uncovers_is_background():
    pixels, matte = np.full((300, 320, 3), (30, 60, 200), np.uint8), bust(300, 320, 160, 130, 90)
    pixels = np.where(
        matte[..., None] > 0, matte[..., None] * (220, 160, 120) + (1 - matte[..., None]) * pixels, pixels
    ).astype(np.uint8)
    frame = Canvas(pixels, crop_at((160, 130), 90), matte).draw(NOTHING, np.array([0.1, 0, 0, 0, 0, 0]))
    # the left edge of the head was at 122 and is at 131
    assert np.abs(frame[125, 60:125].astype(int) - (30, 60, 200)).max() <= 2
    assert np.abs(frame[125, 140:200].astype(int) - (220, 160, 120)).max() <= 2
    assert frame[125, 100:220, 2].max() <= 202 and frame[125, 100:220, 0].max() <= 222  # no halo brighter than either


def test_hair_far_from_the_face_goes_along_and_shoulders_stay():
    crown, side, hat, collar, shoulder = compute_person_rigidity(
        np.array([[0.5, -0.2], [1.05, 0.3], [0.5, -0.7], [0.5, 1.4], [1.6, 1.2]])
    )
    assert crown == side == hat == 1 and collar == 0 and shoulder == 0
    down = compute_person_rigidity(np.stack([np.full(60, 0.5), np.linspace(0.5, 1.5, 60)], -1))
    assert (np.diff(down) <= 0).all() and -np.diff(down).min() < 0.07


def test_a_person_neither_folds_nor_tears_in_a_strong_pose():
    canvas = Canvas(busy_picture(256, 256), crop_at((128, 120), 80), bust(256, 256, 128, 120, 80))
    rows, cols = (part.stop - part.start for part in canvas._window)
    n, m = canvas._field.shape[1:3]
    at = np.stack(np.meshgrid((np.arange(m) + 0.5) * cols / m, (np.arange(n) + 0.5) * rows / n), -1)
    cell = cols / m * rows / n
    for signs in itertools.product((1, -1), repeat=6):
        read = at + np.tensordot(np.array([0.05, 0.05, 0.03, 0.1, 0.15, 0.12]) * signs, canvas._field, 1)
        across, down = np.diff(read, axis=1)[:-1], np.diff(read, axis=0)[:, :-1]
        assert (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).min() > 0.2 * cell


@pytest.mark.parametrize("matte", [np.zeros((120, 120), np.float32), np.ones((120, 120), np.float32)])
def test_a_matte_without_background_or_person_is_as_good_as_none(matte):
    pixels = busy_picture(120, 120)
    canvas, plain = Canvas(pixels, crop_at((60, 60), 50), matte), Canvas(pixels, crop_at((60, 60), 50))
    assert np.array_equal(canvas.draw(NOTHING, STRONG), plain.draw(NOTHING, STRONG))


def test_a_background_is_kept_where_it_is_visible_and_inpainted_where_it_is_hidden():
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[..., 0], pixels[:60, :, 1], pixels[60:, :, 1] = 50, 40, 200
    hidden = np.zeros((120, 160), bool)
    hidden[20:100, 60:100] = True
    marked = np.where(hidden[..., None], 255, pixels).astype(np.uint8)
    behind = inpaint_background(marked, hidden, 100)
    beyond = cv2.dilate(hidden.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    assert np.array_equal(behind[beyond], marked[beyond])
    assert (
        np.abs(behind[..., 0] - 50).max() < 1
        and np.abs(behind[40, :, 1] - 40).max() < 2
        and np.abs(behind[80, :, 1] - 200).max() < 2
    )
    assert inpaint_background(pixels, np.ones((120, 160), bool), 100) is None


def test_teeth_are_laid_over_where_the_mouth_is_open_and_in_the_light_that_the_lips_leave():
    paint, light = np.zeros((64, 112, 4), np.float32), np.full((64, 112), 0.5, np.float32)
    paint[20:44, 30:82, :3], paint[20:44, 30:82, 3] = 20, 1
    teeth = np.zeros((128, 224, 5), np.float32)  # twice the working crop's resolution
    teeth[:64, :, :3], teeth[:64, :, 3] = (240, 220, 200), 1  # down to the 32nd row of the patch
    pixels, crop = np.full((300, 300, 3), 80, np.uint8), crop_at((150, 150), 2 * WORK_PX)
    top, _, left, _ = MOUTH_PATCH

    def at(frame, x, y):
        column, row = crop.to_frame([left + x, top + y]).round().astype(int)
        return frame[row, column].tolist()

    frame = Canvas(pixels, crop, teeth=teeth).draw(FrameParts(NOTHING.flow, paint, light), STILL_POSE)
    assert at(frame, 56, 26) == [120, 110, 100]  # teeth in half the light
    assert at(frame, 56, 38) == [20, 20, 20]  # below them it is dark
    assert at(frame, 100, 26) == [80, 80, 80]  # behind the lips they do not show
    without = Canvas(pixels, crop).draw(FrameParts(NOTHING.flow, paint, light), STILL_POSE)
    assert at(without, 56, 26) == [20, 20, 20]


def almond():
    """An open eye like the one in `with_eye`, in units of the crop."""
    x = np.linspace(60, 84, 25) / WORK_PX
    half = 7 / WORK_PX * np.sqrt(np.clip(1 - ((x * WORK_PX - 72) / 12) ** 2, 0, 1))
    return EyeContour(*(v.astype(np.float32) for v in (x, 65 / WORK_PX - half, 65 / WORK_PX + half)))


def with_eye():
    """Skin with the white of an eye between dark lashes."""
    pixels = np.full((192, 192, 3), 180, np.uint8)
    cv2.ellipse(pixels, (72, 65), (12, 9), 0, 0, 360, (30, 30, 30), -1)
    cv2.ellipse(pixels, (72, 65), (12, 7), 0, 0, 360, (255, 255, 255), -1)
    return pixels


def test_a_lowered_lid_hides_the_eye_brings_its_lashes_down_and_leaves_all_else():
    canvas = Canvas(with_eye(), crop_at((95.5, 95.5), WORK_PX), eyes=(almond(),))
    open_eye, half, shut = (canvas.draw(NOTHING, STILL_POSE, s).astype(int) for s in (0.0, 0.5, 1.0))
    assert np.array_equal(open_eye, canvas.draw(NOTHING, STILL_POSE))
    white = [(frame[55:76, 66:78, 0] > 230).sum() for frame in (open_eye, half, shut)]
    assert white[0] > 1.5 * white[1] > 0 and white[2] <= 2
    assert open_eye[57, 72, 0] < 60 and half[63:66, 72, 0].min() < 60 and shut[70:75, 72, 0].min() < 60
    assert shut[60:66, 68:76, 0].min() > 150  # where the eye was there is skin
    outside = np.ones((192, 192), bool)
    outside[44:78, 58:86] = False
    assert np.array_equal(shut[outside], open_eye[outside])


def test_a_lid_moves_along_with_the_head_and_with_the_skin_about_it():
    canvas = Canvas(with_eye(), crop_at((95.5, 95.5), WORK_PX), eyes=(almond(),))
    shifted = canvas.draw(NOTHING, np.array([10 / WORK_PX, 0, 0, 0, 0, 0]), 1.0).astype(int)
    assert np.abs(shifted[50:80, 64:104] - canvas.draw(NOTHING, STILL_POSE, 1.0)[50:80, 54:94]).max() < 3
    moved = canvas.draw(with_flow(4 / WORK_PX, 0), STILL_POSE, 1.0).astype(int)
    assert np.abs(moved[50:80, 54:90] - canvas.draw(NOTHING, STILL_POSE, 1.0)[50:80, 58:94]).max() < 3


def test_eyes_out_of_the_picture_and_portraits_without_them_are_drawn_all_the_same():
    pixels = with_eye()
    assert np.array_equal(Canvas(pixels, crop_at((95.5, 95.5), WORK_PX)).draw(NOTHING, STILL_POSE, 1.0), pixels)
    cut = np.ascontiguousarray(pixels[:, 90:])
    assert np.array_equal(
        Canvas(cut, crop_at((5.5, 95.5), WORK_PX), eyes=(almond(),)).draw(NOTHING, STILL_POSE, 1.0), cut
    )
