"""Moments of rest and of open mouths: which are kept, who gives what to a frame, how it is laid over it."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from mouthpiece.face.crop import make_crop
from mouthpiece.lipsync.film.edit_plan import INSIDE_OPENING, INSIDE_SHARE, FaceEditPlan
from mouthpiece.lipsync.film.mouth_compositor import (
    JAW_REGION,
    LIPS_REGION,
    MouthCompositor,
    compute_jaw_flow,
    fit_colour_plane,
    get_mouth_box,
    make_region_mask,
)
from mouthpiece.lipsync.film.reference_mouths import (
    FaceSighting,
    ReferenceMouthCollector,
    assign_references,
    head_descriptor,
)
from mouthpiece.lipsync.portrait.frame_parts import FrameParts
from mouthpiece.lipsync.portrait.renderer import WORK_PX

POINTS = np.array([[70.0, 70.0], [120.0, 70.0], [78.0, 122.0], [112.0, 122.0]])
TIMES = np.arange(200) / 25


def look(openings, shot=lambda index: 0):
    """A finder that was offered a mouth this far open, in fiftieths of the crop, in every frame."""
    finder = ReferenceMouthCollector()
    for index, opening in enumerate(openings):
        frame = np.full((192, 192, 3), index, np.uint8)
        finder.add(
            frame,
            FaceSighting(index, shot(index), TIMES[index], POINTS, 0.0),
            np.full(26, opening, np.float32),
            0.02 * float(opening),
        )
    return finder


def test_the_least_open_moment_of_every_interval_is_kept_and_open_intervals_give_none():
    openings = np.r_[np.linspace(3, 4, 37), np.linspace(1, 2, 37)[::-1], np.linspace(4, 5, 50), np.linspace(1.1, 3, 76)]
    rests = look(openings).select_closed(0)
    kept = [rest.index for rest in rests]
    assert kept[0] == 73 and 124 in kept and all(openings[k] < 2 for k in kept)
    assert abs(int(rests[0].decode_picture().mean()) - 73) <= 1 and rests[0].decode_crop().shape == (
        WORK_PX,
        WORK_PX,
        3,
    )


def test_a_shot_has_its_own_closed_references_and_a_mouth_that_never_shuts_gives_its_most_closed():
    finder = look(np.r_[np.full(40, 1.0), np.linspace(5, 6, 160)], shot=lambda index: int(index >= 40))
    assert (
        finder.select_closed(0)[0].index == 0
        and finder.select_closed(1)[0].index == 40
        and finder.select_closed(2) == []
    )


def test_a_turned_head_has_reference_mouths_of_its_own():
    finder = ReferenceMouthCollector()
    for index in range(30):
        finder.add(
            np.zeros((192, 192, 3), np.uint8),
            FaceSighting(index, 0, 0.0, POINTS, 20.0 * (index >= 15)),
            np.zeros(26, np.float32),
            0.02 * (1.0 + index % 15),
        )
    assert [rest.index for rest in finder.select_closed(0)] == [0, 15]


def test_the_head_descriptor_tells_a_shifted_face(puppet):
    face = make_crop(POINTS, 128).extract(puppet.pixels)
    same, moved = (
        head_descriptor(face) @ head_descriptor(face),
        head_descriptor(face) @ head_descriptor(np.roll(face, 6, 1)),
    )
    assert abs(same - 1) < 1e-5 and moved < 0.97


def test_open_references_are_collected_separately_and_a_mouth_that_stays_shut_has_none():
    openings = 1 + 4 * np.exp(-(((np.arange(200) - 60) / 8) ** 2))
    (opened,) = look(openings).select_open(0)
    assert opened.index == 60
    assert look(np.linspace(1, 1.3, 200)).select_open(0) == []


def unit(values):
    values = np.asarray(values, np.float32) - np.mean(values)
    return values / np.linalg.norm(values)


def test_the_reference_with_the_most_similar_head_is_chosen_and_gives_way_gradually():
    rng = np.random.default_rng(0)
    left, right = unit(rng.standard_normal(88)), unit(rng.standard_normal(88))
    rests = [
        SimpleNamespace(index=0, compute_head_descriptor=lambda: left),
        SimpleNamespace(index=4, compute_head_descriptor=lambda: right),
    ]
    turn = np.clip((np.arange(120) - 40) / 40, 0, 1)
    noses = np.stack([unit(left * (1 - t) + right * t) for t in turn]).astype(np.float16)
    found = assign_references(rests, TIMES, noses, np.arange(120))
    assert all(abs(sum(share for _, share in row) - 1) < 1e-9 and len(row) <= 2 for row in found.values())
    shares = np.array([sum(share for rest, share in found[k] if rest is rests[1]) for k in range(120)])
    assert shares[:50].max() == 0 and shares[70:].min() == 1 and np.abs(np.diff(shares)).max() < 0.6
    assert np.array_equal(sorted(found), np.arange(120))


def test_of_similar_references_the_nearer_one_is_chosen_and_far_ones_where_there_is_no_other():
    look = unit(np.arange(88))
    times = np.arange(1000) / 25
    rests = [SimpleNamespace(index=k, compute_head_descriptor=lambda: look) for k in (100, 300)]
    noses = np.tile(look, (1000, 1)).astype(np.float16)
    found = assign_references(rests, times, noses, np.r_[50:160, 280:320, 980:1000])
    assert (
        max(found[110], key=lambda row: row[1])[0].index == 100
        and max(found[290], key=lambda row: row[1])[0].index == 300
    )
    assert found[990][0][0].index == 300 and 200 not in found
    assert all(
        a[1] == b[1]
        for k in range(60, 100)
        for a, b in zip(assign_references(rests, times, noses, np.arange(50, 130))[k], found[k])
    )


def test_only_lips_that_open_show_an_open_mouths_inside():
    rest, opened = SimpleNamespace(index=0), SimpleNamespace(index=50)
    lips = torch.zeros(26)
    lips[0] = 1.0

    def select(opening):
        target = np.zeros((100, 26), np.float32)
        target[:, 0] = opening
        plan = FaceEditPlan(
            track=None,
            weight=np.ones(100),
            source_codes=np.zeros((100, 26), np.float32),
            target_codes=target,
            skip_reasons=np.zeros(100, np.int8),
            requested=np.ones(100, bool),
            closed_references={10: [(rest, 1.0)]},
            open_references={10: [(opened, 1.0)]},
        )
        return plan.select_sources(10, SimpleNamespace(lips=lips))

    shut = select(0.9 * INSIDE_OPENING[0])
    assert shut.lips == [(rest, 1.0)] and shut.inside is None and shut.mouths == [rest]
    wide = select(INSIDE_OPENING[1] + 0.01)
    assert wide.inside is opened and wide.inside_share == INSIDE_SHARE and wide.mouths == [rest, opened]
    assert wide.lips == shut.lips
    assert 0 < select(sum(INSIDE_OPENING) / 2).inside_share < INSIDE_SHARE


@pytest.fixture(scope="module")
def sight(puppet):
    return MouthCompositor(puppet.pixels, make_crop(POINTS, WORK_PX))


def test_nothing_asked_for_changes_nothing_and_outside_of_the_jaw_nothing_ever_changes(sight, puppet):
    moved, still = sight.warp_jaw(np.zeros((96, 96, 2), np.float32))
    assert still.all() and np.array_equal(moved, sight.before)
    still_patch = sight.make_patch(moved, still, sight.before.astype(np.float32))
    assert np.array_equal(still_patch.before, still_patch.after)
    moved, still = sight.warp_jaw(np.full((96, 96, 2), 0.05, np.float32))
    patch = sight.make_patch(moved, still, moved)
    jaw = cv2.remap(
        make_region_mask(JAW_REGION, 96), sight.u[..., 0] * 96 - 0.5, sight.u[..., 1] * 96 - 0.5, cv2.INTER_LINEAR
    )
    assert np.array_equal(patch.before[jaw == 0], patch.after[jaw == 0])
    assert (patch.before[jaw > 0.9] != patch.after[jaw > 0.9]).mean() > 0.5
    x0, y0, x1, y1 = get_mouth_box(sight.crop, puppet.pixels.shape)
    assert (patch.x_px, patch.y_px, patch.before.shape[:2]) == (x0, y0, (y1 - y0, x1 - x0))


def test_lips_lie_within_the_jaw_and_both_fade():
    lips, jaw = make_region_mask(LIPS_REGION, 192), make_region_mask(JAW_REGION, 192)
    assert (jaw[lips > 0] > 0).all() and lips.max() == jaw.max() == 1 and lips.mean() < 0.5 * jaw.mean()
    assert max(np.abs(np.diff(lips, axis=0)).max(), np.abs(np.diff(jaw, axis=0)).max()) < 0.35


def test_blending_the_same_face_gives_the_same_picture(sight, puppet):
    parts = FrameParts(np.zeros((96, 96, 2), np.float32), np.zeros((64, 112, 4), np.float32))
    put, cover = sight.blend((puppet.pixels, sight.crop), parts)
    assert np.abs(put - sight.before).max() < 1.5 and cover.max() == 0
    moved, still = sight.warp_jaw(np.zeros((96, 96, 2), np.float32))
    patch = sight.make_patch(moved, still, 0.8 * put + 20, 1.0)  # other light: brought back to the frame's
    lips = sight.lips[..., 0] > 0.9
    assert np.abs(patch.after[lips].astype(float) - patch.before[lips]).mean() < 6
    assert np.abs((0.8 * put + 20)[lips] - patch.before[lips]).mean() > 8


def test_paint_gets_the_grain_of_the_picture(sight, puppet):
    paint = np.zeros((64, 112, 4), np.float32)
    paint[20:44, 30:80] = (100, 100, 100, 1)
    parts = FrameParts(np.zeros((96, 96, 2), np.float32), paint)
    rough = MouthCompositor(
        np.clip(puppet.pixels + 4 * np.random.default_rng(0).standard_normal(puppet.pixels.shape), 0, 255).astype(
            np.uint8
        ),
        sight.crop,
    )
    smooth, cover = rough.blend((rough.pixels, rough.crop), parts)
    grainy, _ = rough.blend((rough.pixels, rough.crop), parts, np.random.default_rng(1))
    inside = cover[..., 0] == 1
    assert smooth[inside].std() < 2 < grainy[inside].std() < 7
    assert np.array_equal(smooth[cover[..., 0] == 0], grainy[cover[..., 0] == 0])


def test_colours_are_shifted_by_a_plane_fitted_to_the_ring(sight):
    lips = sight.lips[..., 0]
    h, w = lips.shape
    slope = np.linspace(-10, 10, w, dtype=np.float32)[None, :, None] + np.float32((5, 0, -5))
    given = np.full((h, w, 3), 100, np.float32)
    assert np.abs(fit_colour_plane(given + slope, given, lips) - slope).max() < 0.01


def test_the_jaws_flow_is_the_lattices_difference():
    change = np.zeros((2, 32, 32), np.float32)
    change[1] = 0.05
    flow = compute_jaw_flow(np.zeros_like(change), change)
    assert flow.shape == (96, 96, 2) and np.allclose(flow, (0, -0.05))
