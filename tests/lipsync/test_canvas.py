import itertools

import numpy as np
import pytest
import torch

from face.crop import crop_of
from lipsync.canvas import Canvas, FrameParts, head_depth, parts_of, tightened
from lipsync.renderer import PATCH, WORK_PX, Rendering, compose
from lipsync.train.mesh import STILL, rigid

STILL_POSE = np.zeros(6, np.float32)
NOTHING = FrameParts(np.zeros((96, 96, 2), np.float32), np.zeros((64, 112, 4), np.float32))


def crop_at(centre, side_px, turn=0.0):
    """Crop whose middle lies at a frame position, side_px long, turned by an angle."""
    at = (np.array([[0.355, 0.34], [0.645, 0.34], [0.40, 0.64], [0.60, 0.64]]) - 0.5) * side_px
    c, s = np.cos(turn), np.sin(turn)
    return crop_of(at @ np.array([[c, s], [-s, c]]) + centre, WORK_PX)


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
    frame = Canvas(place_picture(250, 250), crop_at((125, 125), 160, turn)).draw(with_flow(8 / 160, 4 / 160), STILL_POSE)
    middle = np.s_[100:150, 100:150]
    assert np.abs(read_from(frame)[middle] - read_from(place_picture(250, 250))[middle] - expected).max() <= 1
    assert np.abs((read_from(frame)[middle] - read_from(place_picture(250, 250))[middle]).mean((0, 1)) - expected).max() < 0.1


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
    drawn = canvas.draw(parts_of(rendering)[0], STILL_POSE).astype(float)
    wanted = (compose(portrait, rendering)[0].permute(1, 2, 0).numpy() + 1) * 127.5
    inside = np.s_[14:-14, 14:-14]
    assert np.abs(drawn - wanted)[inside].max() < 6 and np.abs(drawn - wanted)[inside].mean() < 0.7


def test_paint_lands_on_the_mouth_and_nowhere_else():
    paint = np.zeros((64, 112, 4), np.float32)
    paint[20:44, 40:72] = (200, 100, 50, 1)
    pixels = np.full((300, 260, 3), 80, np.uint8)
    crop = crop_at((130, 150), 150, 0.4)
    frame = Canvas(pixels, crop).draw(FrameParts(NOTHING.flow, paint), STILL_POSE)
    top, _, left, _ = PATCH
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
    x[STILL], y[STILL] = rng.uniform(-0.15, 0.15, len(STILL)), np.linspace(-0.25, 0.02, len(STILL))
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
    pose = rigid(frame[None], rest)[2][0]
    canvas = Canvas(np.zeros((192, 192, 3), np.uint8), crop_at((95.5, 95.5), WORK_PX))
    n = canvas._field.shape[1]
    column, row = np.clip((rest[:, :2] * n).astype(int), 0, n - 1).T
    drawn = -np.tensordot(pose, canvas._field, 1)[row, column] / WORK_PX
    measured = (frame - rest)[:, :2]
    error = np.sqrt(((drawn - measured) ** 2).mean())
    assert error < 0.25 * np.sqrt((measured**2).mean())


def test_the_nose_stands_out_and_the_ears_lie_behind():
    nose, ear, still = head_depth(np.array([[0.5, 0.45], [0.2, 0.4], [0.42, 0.26]]))
    assert nose > 0.05 and ear < -0.1 and abs(still) < 0.06


def test_a_tighter_mask_keeps_its_middle_and_flat_paint_stays_as_it_is():
    mask = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]).view(1, 1, 1, 5).expand(1, 1, 4, 5)
    flat = Rendering(torch.zeros(1, 2, 96, 96), torch.full((1, 3, 4, 5), 0.3), mask)
    out = tightened(flat)
    assert torch.allclose(out.mask[0, 0, 0], torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))
    assert torch.allclose(out.paint, flat.paint) and out.flow is flat.flow
    edge = torch.cat([torch.full((1, 3, 4, 3), -0.2), torch.full((1, 3, 4, 3), 0.2)], -1)
    crisp = tightened(Rendering(flat.flow, edge, torch.ones(1, 1, 4, 6))).paint[0, 0, 1]
    assert crisp[3] - crisp[2] > 0.5 and crisp.abs().max() <= 1
