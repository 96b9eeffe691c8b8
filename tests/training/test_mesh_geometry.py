import numpy as np
import pytest
from skimage import data

from mouthpiece.engine.media.images import write_image
from mouthpiece.training.data.face_crops import crop_portrait
from mouthpiece.training.mesh_geometry import (
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LID_POINTS,
    LIP_POINTS,
    LOWER_LIP_EDGE,
    MID_LOWER_LIP,
    MID_UPPER_LIP,
    OUTER_LOWER,
    OUTER_UPPER,
    POINT_COUNT,
    RIGID_POINTS,
    UPPER_LIP_EDGE,
    close_lips,
    compute_lid_motion,
    estimate_rest_pose,
    extract_motion,
    get_lip_gap,
    measure_eye_aperture,
    measure_mesh_opening,
    remove_head_motion,
)

CHIN, NOSE = 152, 1


@pytest.fixture(scope="module")
def sitter(tmp_path_factory):
    """Mesh (468, 3) of the astronaut, who smiles with open lips."""
    path = tmp_path_factory.mktemp("sitter") / "astronaut.png"
    write_image(path, data.astronaut())
    return crop_portrait(path)[1][:POINT_COUNT].astype(float)


def opened(p, amount):
    """The mesh (468, 3) with its lower lip and chin let down."""
    q = p.copy()
    below = np.clip((p[:, 1] - p[13, 1]) / (p[CHIN, 1] - p[13, 1]), 0, 1)
    q[:, 1] += amount * below * np.exp(-(((p[:, 0] - p[14, 0]) / 0.2) ** 2))
    q[LOWER_LIP_EDGE[1:-1], 1] += amount * 0.7
    return q


def turn(roll=0.0, yaw=0.0, pitch=0.0):
    c, s = np.cos, np.sin
    about_z = np.array([[c(roll), -s(roll), 0], [s(roll), c(roll), 0], [0, 0, 1]])
    about_y = np.array([[c(yaw), 0, s(yaw)], [0, 1, 0], [-s(yaw), 0, c(yaw)]])
    about_x = np.array([[1, 0, 0], [0, c(pitch), -s(pitch)], [0, s(pitch), c(pitch)]])
    return about_z @ about_y @ about_x


def test_shut_closes_the_lips_of_a_smile_and_moves_nothing_sideways_that_is_no_lip(sitter):
    p = sitter[:, :2]
    q = close_lips(p)
    assert measure_mesh_opening(p) > 0.03 and np.abs(get_lip_gap(q)).max() < 1e-12
    assert (q[OUTER_UPPER[1:-1], 1] <= q[UPPER_LIP_EDGE[1:-1], 1]).all() and (
        q[OUTER_LOWER[1:-1], 1] >= q[LOWER_LIP_EDGE[1:-1], 1]
    ).all()
    assert all(q[i, 0] == p[i, 0] for i in range(POINT_COUNT) if i not in LIP_POINTS)


def test_shut_keeps_the_rings_of_both_lips_in_their_order(sitter):
    q = close_lips(sitter[:, :2])
    rings = [
        OUTER_UPPER,
        MID_UPPER_LIP,
        INNER_UPPER_LIP,
        UPPER_LIP_EDGE,
        LOWER_LIP_EDGE,
        INNER_LOWER_LIP,
        MID_LOWER_LIP,
        OUTER_LOWER,
    ]
    for above, below in zip(rings, rings[1:]):
        assert (q[above[2:-2], 1] <= q[below[2:-2], 1] + 0.002).all()


def test_shut_takes_the_chin_along_and_leaves_eyes_and_brow_alone(sitter):
    p = sitter[:, :2]
    q = close_lips(p)
    assert 0.1 * measure_mesh_opening(p) < p[CHIN, 1] - q[CHIN, 1] < measure_mesh_opening(p)
    assert np.array_equal(q[RIGID_POINTS], p[RIGID_POINTS]) and np.array_equal(q[LID_POINTS], p[LID_POINTS])


def test_a_shut_mouth_stays_as_it_is(sitter):
    once = close_lips(sitter[:, :2])
    assert np.abs(close_lips(once) - once).max() < 1e-9


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0])
def test_lids_close_as_far_as_asked_and_move_nothing_else(sitter, amount):
    p = sitter[:, :2]
    d = compute_lid_motion(p, amount)
    assert measure_eye_aperture(p + d) / measure_eye_aperture(p) == pytest.approx(1 - 0.96 * amount, abs=0.01)
    assert not np.delete(d, LID_POINTS, 0).any() and (d[LID_POINTS].any() or amount == 0)


@pytest.mark.parametrize("roll, yaw, pitch", [(0.2, 0, 0), (0, 0.2, 0), (0, 0, -0.15), (-0.1, 0.15, 0.1)])
def test_the_pose_of_a_turned_head_is_the_turn_with_its_sign(sitter, roll, yaw, pitch):
    pose = remove_head_motion((sitter @ turn(roll, yaw, pitch).T)[None], sitter)[2][0]
    exact = 1e-9 if np.count_nonzero((roll, yaw, pitch)) == 1 else 0.02  # turns about two axes mix a little
    assert np.allclose(pose[3:], (roll, yaw, pitch), atol=exact) and abs(pose[2]) < 1e-9


def test_positive_angles_turn_clockwise_the_nose_left_and_down(sitter):
    middle = sitter[RIGID_POINTS].mean(0)

    def moved(**angles):
        return (sitter - middle) @ turn(**angles).T + middle - sitter

    assert moved(yaw=0.1)[NOSE, 0] < 0 and moved(pitch=0.1)[NOSE, 1] > 0
    assert moved(roll=0.1)[CHIN, 0] < 0  # a clockwise turn takes the chin to the left
    for name, index in (("roll", 3), ("yaw", 4), ("pitch", 5)):
        assert remove_head_motion((sitter + moved(**{name: 0.1}))[None], sitter)[2][0, index] == pytest.approx(0.1)


def test_shift_and_scale_are_told_in_units_of_the_crop_and_as_a_logarithm(sitter):
    grown = (sitter - sitter[RIGID_POINTS].mean(0)) * 1.1 + sitter[RIGID_POINTS].mean(0) + [0.03, -0.02, 0.5]
    pose = remove_head_motion(grown[None], sitter)[2][0]
    assert np.allclose(pose, [0.03, -0.02, np.log(1.1), 0, 0, 0], atol=1e-9)


def test_any_affine_motion_of_the_picture_is_undone(sitter):
    a = np.array([[1.1, -0.2, 0.05], [0.1, 0.9, -0.03]])
    frame = np.c_[sitter[:, :2] @ a[:, :2].T + a[:, 2], sitter[:, 2]]
    still, to_rest, _ = remove_head_motion(frame[None], sitter)
    assert np.abs(still[0] - sitter[:, :2]).max() < 1e-9
    there_and_back = np.r_[to_rest[0], [[0, 0, 1]]] @ np.r_[a, [[0, 0, 1]]]
    assert np.abs(there_and_back - np.eye(3)).max() < 1e-9


def test_rest_is_the_calm_face_with_lips_shut(sitter):
    clip = np.stack([opened(sitter, amount) for amount in (0.0, 0.0, 0.0, 0.05, 0.1, 0.08, 0.02, 0.03, 0.06, 0.09)])
    rest = estimate_rest_pose(clip)
    assert abs(measure_mesh_opening(rest)) < 1e-9 and np.abs(rest[:, :2] - close_lips(sitter[:, :2])).max() < 1e-9
    assert np.array_equal(rest[:, 2], sitter[:, 2])


def test_mouth_eyes_and_head_of_a_clip_come_apart(sitter):
    amounts = np.r_[np.zeros(4), 0.02 + 0.08 * np.sin(np.linspace(0, 3, 12)) ** 2]
    frames = np.stack([opened(sitter, a) for a in amounts])
    frames[6, :, :2] += compute_lid_motion(frames[6, :, :2], 1.0)
    middle = sitter[RIGID_POINTS].mean(0)
    heads = [turn(roll=0.02 * np.sin(k)) for k in range(16)]
    shifts = np.c_[0.01 * np.cos(np.arange(16)), np.zeros((16, 2))]
    moved = np.stack([(f - middle) @ m.T + middle + s for f, m, s in zip(frames, heads, shifts)])
    displacement, closed, pose, to_rest, rest = extract_motion(moved)
    assert np.corrcoef(measure_mesh_opening(displacement), amounts)[0, 1] > 0.999
    assert closed[6] > 0.95 and np.delete(closed, 6).max() < 0.1 and not displacement[:, LID_POINTS].any()
    assert np.abs(np.ptp(pose[:, 3]) - np.ptp([0.02 * np.sin(k) for k in range(16)])) < 1e-3
    assert np.corrcoef(pose[:, 0], shifts[:, 0])[0, 1] > 0.999
    carried = moved[9, :, :2] @ to_rest[9][:, :2].T + to_rest[9][:, 2]
    assert np.abs(np.delete(carried - rest[:, :2] - displacement[9], LID_POINTS, 0)).max() < 1e-9
