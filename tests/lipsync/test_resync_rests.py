"""Moments of rest and of open mouths: which are kept, who gives what to a frame, how it is laid over it."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from face.crop import crop_of
from lipsync.canvas import FrameParts
from lipsync.mouth import JAW, LIPS, Sight, area, box_of, jaw_flow, shift
from lipsync.renderer import WORK_PX
from lipsync.rests import RestFinder, ajar, between
from lipsync.resync import INSIDE, INSIDE_FROM, donors

POINTS = np.array([[70.0, 70.0], [120.0, 70.0], [78.0, 122.0], [112.0, 122.0]])
TIMES = np.arange(200) / 25


def look(openings, shot=lambda index: 0):
    """A finder that was offered a mouth this far open in every frame."""
    finder = RestFinder()
    for index, opening in enumerate(openings):
        frame = np.full((192, 192, 3), index, np.uint8)
        finder.offer(frame, (index, shot(index), TIMES[index], POINTS), np.full(26, opening, np.float32), float(opening))
    return finder


def test_the_least_open_moment_of_every_stretch_is_kept_and_open_stretches_give_none():
    openings = np.r_[np.linspace(3, 4, 37), np.linspace(1, 2, 37)[::-1], np.linspace(4, 5, 50), np.linspace(1.1, 3, 76)]
    rests = look(openings).rests(0)
    kept = [rest.index for rest in rests]
    assert kept[0] == 73 and 124 in kept and all(openings[k] < 2 for k in kept)
    assert abs(int(rests[0].pixels().mean()) - 73) <= 1 and rests[0].taken().shape == (WORK_PX, WORK_PX, 3)


def test_a_shot_has_its_own_rests_and_a_mouth_that_never_shuts_gives_its_best():
    finder = look(np.r_[np.full(40, 1.0), np.linspace(5, 6, 160)], shot=lambda index: int(index >= 40))
    assert finder.rests(0)[0].index == 0 and finder.rests(1)[0].index == 40 and finder.rests(2) == []


def test_open_mouths_are_kept_apart_and_a_mouth_that_stays_shut_has_none():
    openings = 1 + 4 * np.exp(-(((np.arange(200) - 60) / 8) ** 2))
    (opened,) = look(openings).opened(0)
    assert opened.index == 60
    assert look(np.linspace(1, 1.3, 200)).opened(0) == []


def test_one_rest_gives_way_to_the_next_halfway_and_little_by_little():
    rests = [SimpleNamespace(index=20), SimpleNamespace(index=60)]
    shares = np.array([sum(share for rest, share in between(rests, TIMES, k) if rest.index == 60) for k in range(80)])
    assert all(abs(sum(share for _, share in between(rests, TIMES, k)) - 1) < 1e-9 for k in range(80))
    assert shares[:36].max() == 0 and shares[45:].min() == 1 and abs(shares[40] - 0.5) < 1e-9
    assert np.abs(np.diff(shares)).max() < 0.25


def test_only_lips_that_open_show_an_open_mouths_inside():
    rest, opened = SimpleNamespace(index=0), SimpleNamespace(index=50)
    lips = torch.zeros(26)
    lips[0] = 1.0

    def asked(opening):
        wanted = np.zeros((100, 26), np.float32)
        wanted[:, 0] = opening
        change = SimpleNamespace(
            track=SimpleNamespace(shot=np.zeros(100, int)), rests={0: [rest]}, opened={0: [opened]}, own=np.zeros((100, 26), np.float32), wanted=wanted, weight=np.ones(100)
        )
        return donors(change, 10, TIMES, SimpleNamespace(lips=lips))

    assert asked(0.9 * INSIDE_FROM[0]) == [(rest, 1.0)]
    assert asked(INSIDE_FROM[1] + 0.01) == [(rest, 1.0), (opened, -INSIDE)]
    middle = asked(sum(INSIDE_FROM) / 2)[-1][1]
    assert -INSIDE < middle < 0


def test_a_mouth_with_edges_looks_open_and_so_does_one_whose_code_says_it():
    plain = np.full((128, 128, 3), 120, np.uint8)
    plain[40:60, 40:88] = 160
    striped = plain.copy()
    striped[80:90, 54:74] = 20
    assert ajar(striped, 0.0) > ajar(plain, 0.0) + 0.5 and ajar(plain, 0.03) > ajar(plain, 0.0) + 0.5


@pytest.fixture(scope="module")
def sight(puppet):
    return Sight(puppet.pixels, crop_of(POINTS, WORK_PX))


def test_nothing_asked_for_changes_nothing_and_outside_of_the_jaw_nothing_ever_changes(sight, puppet):
    moved, still = sight.moved(np.zeros((96, 96, 2), np.float32))
    assert still.all() and np.array_equal(moved, sight.before)
    still_patch = sight.patch(moved, still, sight.before.astype(np.float32))
    assert np.array_equal(still_patch.before, still_patch.after)
    moved, still = sight.moved(np.full((96, 96, 2), 0.05, np.float32))
    patch = sight.patch(moved, still, moved)
    jaw = cv2.remap(area(JAW, 96), sight.u[..., 0] * 96 - 0.5, sight.u[..., 1] * 96 - 0.5, cv2.INTER_LINEAR)
    assert np.array_equal(patch.before[jaw == 0], patch.after[jaw == 0])
    assert (patch.before[jaw > 0.9] != patch.after[jaw > 0.9]).mean() > 0.5
    x0, y0, x1, y1 = box_of(sight.crop, puppet.pixels.shape)
    assert (patch.x_px, patch.y_px, patch.before.shape[:2]) == (x0, y0, (y1 - y0, x1 - x0))


def test_lips_lie_within_the_jaw_and_both_fade():
    lips, jaw = area(LIPS, 192), area(JAW, 192)
    assert (jaw[lips > 0] > 0).all() and lips.max() == jaw.max() == 1 and lips.mean() < 0.5 * jaw.mean()
    assert max(np.abs(np.diff(lips, axis=0)).max(), np.abs(np.diff(jaw, axis=0)).max()) < 0.35


def test_the_same_face_put_in_is_the_same_picture(sight, puppet):
    parts = FrameParts(np.zeros((96, 96, 2), np.float32), np.zeros((64, 112, 4), np.float32))
    put, cover = sight.put_in((puppet.pixels, sight.crop), parts)
    assert np.abs(put - sight.before).max() < 1.5 and cover.max() == 0
    moved, still = sight.moved(np.zeros((96, 96, 2), np.float32))
    patch = sight.patch(moved, still, 0.8 * put + 20, 1.0)      # other light: brought back to the frame's
    lips = sight.lips[..., 0] > 0.9
    assert np.abs(patch.after[lips].astype(float) - patch.before[lips]).mean() < 6
    assert np.abs((0.8 * put + 20)[lips] - patch.before[lips]).mean() > 8


def test_paint_gets_the_grain_of_the_picture(sight, puppet):
    paint = np.zeros((64, 112, 4), np.float32)
    paint[20:44, 30:80] = (100, 100, 100, 1)
    parts = FrameParts(np.zeros((96, 96, 2), np.float32), paint)
    rough = Sight(np.clip(puppet.pixels + 4 * np.random.default_rng(0).standard_normal(puppet.pixels.shape), 0, 255).astype(np.uint8), sight.crop)
    smooth, cover = rough.put_in((rough.pixels, rough.crop), parts)
    grainy, _ = rough.put_in((rough.pixels, rough.crop), parts, np.random.default_rng(1))
    inside = cover[..., 0] == 1
    assert smooth[inside].std() < 2 < grainy[inside].std() < 7
    assert np.array_equal(smooth[cover[..., 0] == 0], grainy[cover[..., 0] == 0])


def test_colours_are_shifted_by_a_plane_that_the_ring_says(sight):
    lips = sight.lips[..., 0]
    h, w = lips.shape
    slope = np.linspace(-10, 10, w, dtype=np.float32)[None, :, None] + np.float32((5, 0, -5))
    given = np.full((h, w, 3), 100, np.float32)
    assert np.abs(shift(given + slope, given, lips) - slope).max() < 0.01


def test_the_jaws_flow_is_the_lattices_difference():
    change = np.zeros((2, 32, 32), np.float32)
    change[1] = 0.05
    flow = jaw_flow(np.zeros_like(change), change)
    assert flow.shape == (96, 96, 2) and np.allclose(flow, (0, -0.05))
