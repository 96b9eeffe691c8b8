import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import ConvexHull, Delaunay

from mouthpiece.engine.encoders.motion import BLINK_INDEX, CODE_WIDTH, EXPRESSION_WIDTH, LATTICE_NODES, LOWER_FACE_WIDTH
from mouthpiece.engine.errors import UsageError
from mouthpiece.training import mesh_geometry
from mouthpiece.training.data.motion_codes import compute_motion_code
from mouthpiece.training.mesh_geometry import LID_POINTS, POINT_COUNT, RIGID_POINTS, compute_lid_motion
from mouthpiece.training.motion_space import (
    BLINK_UNIT,
    build_space,
    iterate_meshes,
    load_mesh_points,
    load_space,
    make_lattice_map,
    make_teacher_lattices,
    project_to_lattice,
    split_crop_files,
)

SPLIT = {"talk": ["kept"], "readers": [], "known_every": 2, "portraits_every": 3, "portraits_at": 1}


def toy_face(seed=0):
    """Points (468, 3) spread over a face, those that matter in their places, lips shut."""
    rng = np.random.default_rng(seed)
    p = np.c_[
        rng.uniform(0.2, 0.8, POINT_COUNT), rng.uniform(0.12, 0.88, POINT_COUNT), rng.uniform(-0.1, 0.1, POINT_COUNT)
    ]
    p[RIGID_POINTS, 1] = rng.uniform(0.1, 0.38, len(RIGID_POINTS))
    across = np.linspace(-0.11, 0.11, 11)
    arch = 0.03 * (1 - (across / 0.11) ** 2)
    for ids, offset in (
        (mesh_geometry.UPPER_LIP_EDGE, 0.0),
        (mesh_geometry.LOWER_LIP_EDGE, 0.0),
        (mesh_geometry.OUTER_UPPER, -1.0),
        (mesh_geometry.OUTER_LOWER, 1.0),
    ):
        p[ids, 0], p[ids, 1] = 0.5 + across, 0.64 + offset * arch
    for middle, upper, lower, crease in zip(
        (0.355, 0.645), mesh_geometry.LID_UPPER, mesh_geometry.LID_LOWER, mesh_geometry.LID_CREASE
    ):
        for ids, y in ((crease, 0.31), (upper, 0.33), (lower, 0.36)):
            p[ids, 0], p[ids, 1] = middle + np.linspace(-0.04, 0.04, 7), y
    return p


def fields(count, seed=1):
    """Make smooth displacements (count, 468, 2) of the lower face, and two of the brows; the first opens the mouth."""
    rng, p = np.random.default_rng(seed), toy_face()[:, :2]
    centres = np.c_[rng.uniform(0.3, 0.7, count), np.r_[rng.uniform(0.58, 0.8, count - 2), 0.22, 0.25]]
    bumps = np.exp(-((p[None] - centres[:, None]) ** 2).sum(-1) / 0.012)
    out = bumps[..., None] * rng.normal(size=(count, 1, 2)) * 0.02
    out[0] = np.c_[np.zeros(POINT_COUNT), 0.04 * np.exp(-((p - [0.5, 0.75]) ** 2).sum(-1) / 0.02)]
    out[0][mesh_geometry.LOWER_LIP_EDGE[1:-1], 1] += 0.03
    out[:, RIGID_POINTS] = 0
    return out


def clip(seed, ticks=40, blink_at=7):
    """Mesh (N, 478, 3) of a toy clip that talks, blinks once and nods."""
    rng = np.random.default_rng(seed)
    parts = fields(28)
    size = gaussian_filter1d(rng.normal(size=(ticks, len(parts))), 2, axis=0)
    size[:, 0] = np.clip(size[:, 0], 0, None) * 2
    size[: ticks // 4] = 0
    face = toy_face()
    frames = face[None] + np.pad(np.einsum("tk,kpd->tpd", size, parts), ((0, 0), (0, 0), (0, 1)))
    frames[blink_at, :, :2] += compute_lid_motion(face[:, :2], 1.0)
    frames[..., :2] += gaussian_filter1d(rng.normal(size=(ticks, 1, 2)), 2, axis=0) * 0.02
    return np.pad(frames, ((0, 0), (0, 10), (0, 0)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder after `train crops`: three talkers, one of them faceless at times, and portraits."""
    out = tmp_path_factory.mktemp("work")
    (out / "crops").mkdir()
    for name, marks in (("talk__grid_s1__a", clip(0)), ("talk__ann__b", clip(1)), ("talk__bob__c", clip(2))):
        np.savez(out / "crops" / f"{name}.npz", frames=np.zeros((len(marks), 8, 8, 3), np.uint8), marks=marks)
    hidden = clip(3)
    hidden[5] = np.nan
    np.savez(out / "crops" / "talk__bob__hidden.npz", frames=np.zeros((40, 8, 8, 3), np.uint8), marks=hidden)
    for k in range(4):
        marks = np.pad(toy_face() + [0.004 * k, 0, 0], ((0, 10), (0, 0)))
        np.savez(out / "crops" / f"portrait__p{k}__p{k}.npz", frames=np.zeros((8, 8, 3), np.uint8), marks=marks)
    return out


def test_a_linear_field_is_read_exactly_wherever_the_mesh_reaches():
    points = toy_face()[:, :2]
    matrix = make_lattice_map(points)
    assert matrix.shape == (LATTICE_NODES**2, POINT_COUNT)
    a, b = np.array([[0.1, -0.2], [0.05, 0.3]]), np.array([0.01, -0.02])
    field = points @ a.T + b
    nodes = (np.stack(np.meshgrid(*[np.arange(LATTICE_NODES)] * 2), -1) + 0.5) / LATTICE_NODES
    inside = Delaunay(points[ConvexHull(points).vertices] * 0.97 + points.mean(0) * 0.03).find_simplex(nodes) >= 0
    read = project_to_lattice(field[None], matrix)[0].transpose(1, 2, 0)
    whole = (matrix.sum(1) > 1 - 1e-9).reshape(LATTICE_NODES, LATTICE_NODES)
    assert (whole & inside).sum() > 0.9 * inside.sum() > 200
    assert np.abs(read - (nodes @ a.T + b))[whole].max() < 1e-9


def test_motion_fades_towards_the_border_of_the_crop_and_no_weight_is_negative():
    matrix = make_lattice_map(toy_face()[:, :2])
    assert matrix.min() > -1e-9 and matrix.sum(1).max() < 1 + 1e-9
    lattice = project_to_lattice(np.ones((1, POINT_COUNT, 2)), matrix)[0]
    assert lattice[:, 0].max() < 0.7 and lattice[:, :, -1].max() < 0.7 and lattice[:, 16, 16].min() > 1 - 1e-9
    assert (np.diff(lattice[0, 16]) >= -1e-9)[:8].all() and (np.diff(lattice[0, 16]) <= 1e-9)[-8:].all()


def test_lattices_are_the_plain_matrix_product_x_then_y():
    matrix, displacement = (
        make_lattice_map(toy_face()[:, :2]),
        np.random.default_rng(0).normal(size=(3, POINT_COUNT, 2)),
    )
    slow = np.stack([(matrix @ d).T.reshape(2, LATTICE_NODES, LATTICE_NODES) for d in displacement])
    assert np.abs(project_to_lattice(displacement, matrix) - slow).max() < 1e-12


def test_files_fall_into_their_parts_by_kind_person_and_turn(tmp_path):
    (tmp_path / "crops").mkdir()
    names = [
        "talk__ann__one",
        "talk__x__kept",
        "talk-eval__y__two",
        *(f"talk__grid_s1__{k}" for k in "abcd"),
        *(f"portrait__{k}__{k}" for k in "abcde"),
        ".talk__ann__half",
    ]
    for name in names:
        (tmp_path / "crops" / f"{name}.npz").touch()
    parts = {k: [p.stem.split("__")[-1] for p in v] for k, v in split_crop_files(tmp_path, SPLIT).items()}
    assert parts == dict(
        clips=["one", "b", "d"],
        held_clips=["kept"],
        known_clips=["a", "c"],
        eval=["two"],
        portraits=["a", "c", "d"],
        held_portraits=["b", "e"],
    )


def test_without_crops_the_stage_to_run_is_named(tmp_path):
    with pytest.raises(UsageError, match="crops") as caught:
        split_crop_files(tmp_path)
    assert "train crops" in caught.value.hint
    (tmp_path / "crops").mkdir()
    with pytest.raises(UsageError, match="0 frames of talking clips and 0 portraits"):
        load_space(tmp_path)
    assert not (tmp_path / "space.npz").exists()


def test_clips_whose_face_was_lost_are_left_out(folder):
    paths = sorted((folder / "crops").glob("talk__bob*.npz"))
    assert [p.stem for p, _ in iterate_meshes(paths)] == ["talk__bob__c"] and load_mesh_points(paths[0]).shape == (
        40,
        POINT_COUNT,
        3,
    )


def test_the_space_is_built_once_and_read_back_whatever_ran_before(folder):
    space, matrix = load_space(folder)
    stamp = (folder / "space.npz").stat().st_mtime_ns
    again, same = load_space(folder)
    assert (folder / "space.npz").stat().st_mtime_ns == stamp and np.array_equal(matrix, same)
    assert torch.equal(space.basis, again.basis) and torch.equal(space.pose_std, again.pose_std)
    torch.manual_seed(123)
    assert torch.equal(build_space(folder)[0].basis, space.basis)


def test_codes_survive_the_lattice_and_halves_of_the_face_keep_to_themselves(folder):
    space, _ = load_space(folder)
    code = torch.randn(5, CODE_WIDTH, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(space.to_code(space.to_lattice(code)), code[:, :EXPRESSION_WIDTH], atol=5e-3)
    assert (
        not space.basis[:LOWER_FACE_WIDTH, :, : LATTICE_NODES // 2].any()
        and not space.basis[BLINK_INDEX + 1 :, :, LATTICE_NODES // 2 :].any()
    )
    assert space.basis[BLINK_INDEX].any() and not space.basis[BLINK_INDEX, :, LATTICE_NODES // 2 + 2 :].any()


def test_teacher_codes_follow_mouth_eyes_and_head_of_the_clip(folder):
    space, matrix = load_space(folder)
    marks = load_mesh_points(folder / "crops" / "talk__ann__b.npz")
    code, wide = compute_motion_code(marks, space, matrix)
    assert code.shape == (40, CODE_WIDTH) and code.dtype == wide.dtype == np.float32
    seen = space.compute_mouth_opening(torch.from_numpy(code)).numpy()
    assert np.corrcoef(seen, wide)[0, 1] > 0.85 and abs(space.lips[BLINK_INDEX]) < 1e-9
    assert (
        code[7, BLINK_INDEX] == pytest.approx(1 / BLINK_UNIT, abs=0.1)
        and np.abs(np.delete(code[:, BLINK_INDEX], 7)).max() < 0.5
    )
    assert (
        np.abs(np.median(code[:, EXPRESSION_WIDTH:], 0)).max() < 1 and code[:, EXPRESSION_WIDTH:].std(0)[:2].min() > 0.3
    )


def test_a_clip_of_four_frames_is_not_smoothed_and_still_coded(folder):
    space, matrix = load_space(folder)
    assert compute_motion_code(load_mesh_points(folder / "crops" / "talk__ann__b.npz")[10:14], space, matrix)[
        0
    ].shape == (4, CODE_WIDTH)


def test_lids_of_the_teacher_come_back_as_far_as_they_are_closed(folder):
    space, matrix = load_space(folder)
    rest = toy_face()[:, :2]
    still = np.zeros((3, POINT_COUNT, 2))
    z = make_teacher_lattices(still, np.array([0.0, 0.5, 1.0]), matrix, rest)
    assert not z[0].any() and np.allclose(z[2], 2 * z[1])
    assert (
        np.allclose(z[2], project_to_lattice(compute_lid_motion(rest, 1.0)[None], matrix)[0]) and len(LID_POINTS) == 42
    )
    blink = space.to_code(torch.tensor(z, dtype=torch.float32))[:, BLINK_INDEX]
    assert torch.allclose(blink, torch.tensor([0.0, 1.0, 2.0]), atol=0.15)
