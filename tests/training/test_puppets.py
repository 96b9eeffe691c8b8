from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data

from mouthpiece.engine.encoders.motion import EXPRESSION_WIDTH, MotionEncoder, MotionSpace
from mouthpiece.engine.media.images import write_image
from mouthpiece.lipsync.portrait.lip_line import LipLine
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX
from mouthpiece.lipsync.portrait.renderer import warp
from mouthpiece.lipsync.portrait.teeth import draw_teeth
from mouthpiece.training.data.face_crops import crop_portrait
from mouthpiece.training.data.mesh_warp import BORDER_POINTS, map_to_source, rasterize, sample_image, triangulate_face
from mouthpiece.training.data.puppets import (
    FLOW_PX,
    IMAGE_PX,
    DrivingClip,
    draw_mouth_cavity,
    estimate_teeth_cover,
    load_driving_clip,
    load_portrait,
    locate_lip_line,
    make_original_pose,
    mask_inner_mouth,
    mask_lip_contact,
    sample_poses,
    trim_inner_lips,
    warp_portrait,
)
from mouthpiece.training.mesh_geometry import (
    INNER_LIP_RING,
    LOWER_LIP_EDGE,
    POINT_COUNT,
    UPPER_LIP_EDGE,
    close_lips,
    compute_lid_motion,
    measure_mesh_opening,
)
from mouthpiece.training.motion_space import make_lattice_map
from mouthpiece.training.renderer import MAX_LIP_PRESS, PuppetPairs, collate


@pytest.fixture(scope="module")
def crop_file(tmp_path_factory):
    """The astronaut as `train crops` writes her."""
    folder = tmp_path_factory.mktemp("sitter")
    write_image(folder / "astronaut.png", data.astronaut())
    frames, marks = crop_portrait(folder / "astronaut.png")
    np.savez(folder / "portrait__a__astronaut.npz", frames=frames, marks=marks)
    return folder / "portrait__a__astronaut.npz"


@pytest.fixture(scope="module")
def who(crop_file):
    return load_portrait(crop_file)


@pytest.fixture(scope="module")
def actor(who):
    """The same face shut, a little and wide open."""
    below = np.clip((who.shut[:, 1] - who.shut[13, 1]) / 0.15, 0, 1) * (who.shut[:, 1] > who.shut[13, 1])
    drop = np.c_[np.zeros(POINT_COUNT), below * np.exp(-(((who.shut[:, 0] - 0.5) / 0.15) ** 2))]
    drop[LOWER_LIP_EDGE[1:-1], 1] += 0.6
    return DrivingClip(np.stack([drop * amount for amount in (0.0, 0.04, 0.09)]), np.zeros(3))


def test_each_pixel_of_a_raster_says_where_in_which_triangle_it_lies():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    tris = np.array([[0, 1, 2], [3, 1, 2]])
    ids, weights = rasterize(points, tris, 32)
    x, y = np.meshgrid((np.arange(32) + 0.5) / 32, (np.arange(32) + 0.5) / 32)
    assert (ids[x + y < 0.95] == 0).all() and (ids[x + y > 1.05] == 1).all()
    assert np.abs(weights.sum(-1) - 1).max() < 1e-6
    wanted = np.stack([1 - x - y, x, y], -1)
    assert np.abs(weights - wanted)[ids == 0].max() < 1e-6
    assert np.abs(map_to_source(ids, weights, tris, points) - np.stack([x, y], -1)).max() < 1e-6


def test_pixels_without_a_triangle_are_told():
    ids, _ = rasterize(np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]]), np.array([[0, 1, 2]]), 16)
    assert ids[6, 6] == 0 and ids[0, 0] == ids[15, 15] == -1 and ids.dtype == np.int16


def test_a_picture_read_at_its_own_pixels_is_itself():
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    at = (np.stack(np.meshgrid(np.arange(20), np.arange(20)), -1) + 0.5) / 20
    assert np.array_equal(sample_image(picture, at.astype(np.float32)), picture)


def test_the_mesh_covers_all_of_the_picture_but_the_mouth_which_no_triangle_bridges(who):
    tris = triangulate_face(who.shut)
    assert np.array_equal(tris, who.triangles) and not any(set(t) <= set(INNER_LIP_RING) for t in tris)
    ids, _ = rasterize(np.r_[who.points, BORDER_POINTS], tris, 64)
    assert (ids[mask_inner_mouth(who.points[INNER_LIP_RING], 64) == 0] >= 0).all()


def ring_of(gap, middle=0.65):
    """Inner lips (20, 2) of an oval mouth."""
    at = np.linspace(0.4, 0.6, 11)
    arc = gap / 2 * np.sin(np.linspace(0, np.pi, 11))
    return np.r_[np.c_[at, middle - arc], np.c_[at, middle + arc][-2:0:-1]]


@pytest.mark.parametrize("gap", [0.003, 0.1])
def test_the_inside_of_the_lips_has_their_area(gap):
    mask = mask_inner_mouth(ring_of(gap), 96)
    ring = ring_of(gap)
    area = abs(np.dot(ring[:, 0], np.roll(ring[:, 1], 1)) - np.dot(ring[:, 1], np.roll(ring[:, 0], 1))) / 2
    assert mask.sum() / 96**2 == pytest.approx(area, rel=0.03) and mask[30, 48] == 0


def test_lips_that_meet_have_no_inside_but_a_line_which_goes_as_they_part():
    assert not mask_inner_mouth(ring_of(0.0), 96).any()
    line = mask_lip_contact(ring_of(0.0), 96)
    assert line[62, 48] > 0.8 and line[57, 48] < 0.05 and line[:, :36].max() == 0
    assert (
        mask_lip_contact(ring_of(0.004), 96)[:, 44:52].max() < 0.7
        and not mask_lip_contact(ring_of(0.05), 96)[:, 44:52].any()
    )


def test_lips_of_a_smile_are_drawn_back_from_its_teeth_and_shut_ones_left(who):
    smile = who.shut.copy()
    smile[LOWER_LIP_EDGE[1:-1], 1] += 0.04
    back = trim_inner_lips(smile)
    assert (
        (back[UPPER_LIP_EDGE, 1] <= smile[UPPER_LIP_EDGE, 1]).all()
        and (back[LOWER_LIP_EDGE, 1] >= smile[LOWER_LIP_EDGE, 1]).all()
        and 0 < np.abs(back - smile).max() <= 0.003
    )
    assert np.array_equal(trim_inner_lips(who.shut), who.shut)


def test_a_line_is_drawn_between_lips_that_were_photographed_apart_alone(who, actor):
    x, y = (who.shut[13] * IMAGE_PX).astype(int)
    drawn, bare = (
        warp_portrait(replace(who, contact=contact), actor.displacement[0], 0.0) for contact in (who.contact, 0.0)
    )
    assert who.contact > 0.3 and drawn[0][y - 2 : y + 3, x].min() < bare[0][y - 2 : y + 3, x].min()
    assert not bare[-1].any() and 0 < drawn[-1].max() < 128


def test_a_portrait_doing_nothing_is_its_own_first_pose(who):
    image, ids, weights, points, mouth = make_original_pose(who)
    assert image.shape == (IMAGE_PX, IMAGE_PX, 3) and ids.shape == (FLOW_PX, FLOW_PX) and mouth.shape == (64, 112)
    assert weights.shape == (FLOW_PX, FLOW_PX, 2) and np.allclose(points[:POINT_COUNT], who.points, atol=1e-6)
    assert mouth.max() == 255  # she smiles with open lips


def test_no_displacement_shuts_her_lips_and_a_large_one_opens_them_on_the_dark_inside(who, actor):
    shut_image, *_, points, mouth = warp_portrait(who, actor.displacement[0], 0.0)
    assert abs(measure_mesh_opening(points[:POINT_COUNT])) < 1e-6 and mouth.sum() / 255 < 60
    open_image, *_, points, mouth = warp_portrait(who, actor.displacement[2], 0.0)
    assert measure_mesh_opening(points[:POINT_COUNT]) == pytest.approx(
        measure_mesh_opening(who.shut + actor.displacement[2]), abs=1e-6
    )
    assert mouth.sum() / 255 > 240
    x, y = (who.shut[13] * IMAGE_PX).astype(int)
    y += 2  # below the upper lip, which stays where it is
    assert open_image[y, x].max() < 0.6 * shut_image[y, x].max() and open_image[y, x, 0] > open_image[y, x, 1]
    brow = np.s_[:50]
    assert np.abs(shut_image[brow].astype(int) - make_original_pose(who)[0][brow]).mean() < 3


def test_teeth_show_where_the_lips_part_and_stay_where_they_are(who, actor):
    line = locate_lip_line(who.shut)
    # lower than they are, for her upper lip stays where it is
    teeth = draw_teeth(replace(line, y=line.y + 0.03), who.image)
    bare, worn = (warp_portrait(who, actor.displacement[2], 0.0, worn)[0].astype(int) for worn in (None, teeth))
    x, y = int(who.shut[13, 0] * IMAGE_PX), int(who.shut[13, 1] * IMAGE_PX) + 3
    assert worn[y, x].min() > 80 and worn[y, x].min() > bare[y, x].min() + 40
    assert (bare != worn).any(-1).sum() < 1200  # nothing but the inside of the mouth
    closed = [warp_portrait(who, actor.displacement[0], 0.0, worn)[0].astype(int) for worn in (None, teeth)]
    assert np.array_equal(*closed)  # a line where lips meet shows none


def test_half_the_displacement_opens_half_as_far_and_lids_close_when_told(who, actor):
    half = warp_portrait(who, actor.displacement[2] / 2, 0.0)[3]
    assert measure_mesh_opening(half[:POINT_COUNT]) == pytest.approx(
        measure_mesh_opening(who.shut + actor.displacement[2] / 2), abs=1e-6
    )
    closed = warp_portrait(who, actor.displacement[0], 1.0)[3]
    assert np.allclose(closed[159], (who.points + compute_lid_motion(who.points, 1.0))[159], atol=1e-6)


def test_the_line_of_the_lips_turns_with_the_face():
    shut_face = np.zeros((POINT_COUNT, 2))
    shut_face[UPPER_LIP_EDGE[0]], shut_face[UPPER_LIP_EDGE[-1]], shut_face[[13, 14]] = (
        (0.4, 0.6),
        (0.6, 0.7),
        (0.5, 0.65),
    )
    assert locate_lip_line(shut_face) == LipLine(0.5, pytest.approx(0.65), pytest.approx(np.arctan2(0.1, 0.2)))


def test_the_inside_of_a_mouth_has_a_tongue_at_its_floor_and_lower_teeth_where_it_is_wide():
    wide, little = (draw_mouth_cavity(ring_of(gap), 256, 1.0) for gap in (0.12, 0.03))
    roof, floor = wide[int(0.61 * 256), 128], wide[int(0.68 * 256), 128]
    assert roof.max() < 70 and floor[0] > 1.8 * roof[0] and floor[0] > 1.5 * floor[1]
    assert wide[int(0.705 * 256), 128].min() > 2 * floor.min() and little[int(0.662 * 256), 128, 1] < 100
    assert np.allclose(draw_mouth_cavity(ring_of(0.12), 256, 0.5), wide / 2)


def test_a_smile_shows_its_own_teeth_and_shut_lips_none(who):
    image, *_, mouth = make_original_pose(who)
    cover = estimate_teeth_cover(image, mouth)
    assert cover.dtype == np.uint8 and 150 < (cover > 128).sum() <= (mouth > 0).sum()
    assert not estimate_teeth_cover(image, np.zeros_like(mouth)).any()


def test_poses_begin_with_the_portrait_itself_and_repeat_with_their_seed(who, actor):
    (images, ids, weights, points, mouths), lids = sample_poses(who, [actor], 3, np.random.default_rng(0))
    assert len(images) == len(ids) == len(weights) == len(points) == len(mouths) == len(lids) == 4
    assert np.array_equal(images[0], make_original_pose(who)[0]) and lids[0] == 0 and ((lids >= 0) & (lids <= 1)).all()
    again, _ = sample_poses(who, [actor], 3, np.random.default_rng(0))
    assert np.array_equal(images, again[0])


def test_a_clip_file_makes_an_actor_unless_the_face_was_lost(tmp_path, who):
    points = np.pad(who.points, ((0, 10), (0, 1)))
    marks = np.stack([points] * 4)
    np.savez(tmp_path / "clip.npz", frames=np.zeros((4, 8, 8, 3), np.uint8), marks=marks)
    actor = load_driving_clip(tmp_path / "clip.npz")
    assert actor.displacement.shape == (4, POINT_COUNT, 2) and len(actor) == 4
    marks[1, 0, 0] = np.nan
    np.savez(tmp_path / "lost.npz", frames=np.zeros((4, 8, 8, 3), np.uint8), marks=marks)
    assert load_driving_clip(tmp_path / "lost.npz") is None


class OnlyPair:
    """A generator of chance that draws one reference and one target, drawn teeth, and nothing by accident."""

    def __init__(self, reference, target):
        self.whole, self.shares = iter([0, reference, target, 0]), iter([0.99, 0.9, 0.9, 0.0])

    def integers(self, count):
        return next(self.whole)

    def random(self):
        return next(self.shares)

    def normal(self):
        return 0.0

    def uniform(self, low, high):
        return high


@pytest.mark.parametrize("reference, target", [(0, 1), (1, 0), (2, 1)])
def test_the_flow_between_two_poses_carries_the_reference_onto_the_target(tmp_path, who, actor, reference, target):
    made = [
        make_original_pose(who),
        warp_portrait(who, actor.displacement[2], 0.0),
        warp_portrait(who, 1.2 * actor.displacement[1], 1.0),
    ]
    images, ids, weights, points, mouths = (np.stack(part) for part in zip(*made))
    np.savez(
        tmp_path / "p.npz",
        images=images,
        ids=ids,
        weights=weights,
        points=points,
        mouths=mouths,
        tris=who.triangles,
        shut=who.shut,
        teeth=np.zeros_like(mouths[0]),
    )
    space = MotionSpace(
        torch.zeros(EXPRESSION_WIDTH, 2, 32, 32),
        torch.zeros(EXPRESSION_WIDTH, 2048),
        torch.ones(6),
        torch.zeros(EXPRESSION_WIDTH),
    )
    people = PuppetPairs(
        [tmp_path / "p.npz"], MotionEncoder(8).eval(), space, make_lattice_map(who.shut + actor.displacement[2])
    )
    item = people.draw(OnlyPair(reference, target))
    outside = np.s_[:90]
    assert np.array_equal(item["ref"][outside], images[reference][outside]) and np.array_equal(
        item["target"][outside], images[target][outside]
    )
    batch = collate([item], torch.Generator().manual_seed(1))
    ref, wanted, flow, known = (batch[k] for k in ("ref", "target", "flow", "known"))
    full = torch.nn.functional.interpolate(flow, size=WORK_PX, mode="bilinear")
    sure = torch.nn.functional.interpolate(known, size=WORK_PX) > 0.99
    face = torch.zeros_like(sure)
    face[..., 60:180, 40:152] = True
    before, after = (
        (picture - wanted).abs().mean(1, keepdim=True)[sure & face].mean() for picture in (ref, warp(ref, full))
    )
    assert sure.float().mean() > 0.9 and after < 0.5 * before
    # and no other place fits better: half a pixel would show
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        beside = warp(ref, full + torch.tensor([dx, dy]).view(1, 2, 1, 1) * 0.5 / WORK_PX)
        assert (beside - wanted).abs().mean(1, keepdim=True)[sure & face].mean() > after


def test_lips_that_meet_may_be_wished_pressed_and_others_may_not(tmp_path, who, actor):
    made = [
        make_original_pose(who),
        warp_portrait(who, actor.displacement[0], 0.0),
        warp_portrait(who, actor.displacement[2], 0.0),
    ]
    images, ids, weights, points, mouths = (np.stack(part) for part in zip(*made))
    np.savez(
        tmp_path / "p.npz",
        images=images,
        ids=ids,
        weights=weights,
        points=points,
        mouths=mouths,
        tris=who.triangles,
        shut=who.shut,
        teeth=np.zeros_like(mouths[0]),
    )
    basis = torch.zeros(EXPRESSION_WIDTH, 2, 32, 32)
    basis[0, 1, 20:, 10:22] = 1
    space = MotionSpace(basis, torch.zeros(EXPRESSION_WIDTH, 2048), torch.ones(6), torch.eye(EXPRESSION_WIDTH)[0] * 0.5)
    people = PuppetPairs(
        [tmp_path / "p.npz"], MotionEncoder(8).eval(), space, make_lattice_map(who.shut + actor.displacement[2])
    )
    pressed, parted = (people.draw(OnlyPair(0, target))["wish"] for target in (1, 2))
    assert torch.allclose(pressed, -MAX_LIP_PRESS / 0.5 * basis[0]) and not parted.any()


def test_upper_and_lower_lips_meet_in_what_the_puppets_rest_on(who):
    assert np.abs(who.shut[UPPER_LIP_EDGE] - who.shut[LOWER_LIP_EDGE]).max() < 1e-9 and np.array_equal(
        who.shut, close_lips(who.points)
    )
