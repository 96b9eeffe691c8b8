"""The teacher's geometry: MediaPipe's mesh in the unit square of a crop, its shut and rigid parts, blinks. Training
only.
"""

from __future__ import annotations

import numpy as np

UPPER_LIP_EDGE = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]  # inner lips, corner to corner
LOWER_LIP_EDGE = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
OUTER_UPPER = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
OUTER_LOWER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
INNER_UPPER_LIP, MID_UPPER_LIP = (
    [62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292],
    [76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306],
)
INNER_LOWER_LIP, MID_LOWER_LIP = (
    [62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292],
    [76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306],
)
INNER_LIP_RING = UPPER_LIP_EDGE + LOWER_LIP_EDGE[-2:0:-1]
LIP_POINTS = sorted(
    {
        *UPPER_LIP_EDGE,
        *LOWER_LIP_EDGE,
        *OUTER_UPPER,
        *OUTER_LOWER,
        *INNER_UPPER_LIP,
        *MID_UPPER_LIP,
        *INNER_LOWER_LIP,
        *MID_LOWER_LIP,
    }
)
# forehead, nose bridge, eye corners, temples
RIGID_POINTS = [10, 67, 297, 109, 338, 151, 9, 8, 168, 6, 197, 195, 33, 133, 362, 263, 127, 356]
CHEEKS = [50, 280, 205, 425, 187, 411]
LID_UPPER = [[246, 161, 160, 159, 158, 157, 173], [466, 388, 387, 386, 385, 384, 398]]  # lash lines, outer to inner
LID_LOWER = [[7, 163, 144, 145, 153, 154, 155], [249, 390, 373, 374, 380, 381, 382]]
LID_CREASE = [[247, 30, 29, 27, 28, 56, 190], [467, 260, 259, 257, 258, 286, 414]]
LID_POINTS = sorted(i for part in (LID_UPPER, LID_LOWER, LID_CREASE) for eye in part for i in eye)
POINT_COUNT = 468  # the iris points behind them are not used


def get_lip_gap(p: np.ndarray) -> np.ndarray:
    """Return the inner-lip gap vectors (11, 2), from upper to lower; p (468, 2)."""
    return p[LOWER_LIP_EDGE] - p[UPPER_LIP_EDGE]


def measure_mesh_opening(p: np.ndarray) -> np.ndarray:
    """Return the mouth opening (...,) in units of the crop, downward; p (..., 468, 2)."""
    return p[..., 14, 1] - p[..., 13, 1]


def close_lips(p: np.ndarray) -> np.ndarray:
    """Return the same face with its lips closed: inner lips meet, the rings of both lips follow column by column, chin
    and
    cheeks fade with distance.

    p: (468, 2).
    Returns (468, 2).
    Checked by eye on unseen portraits, smiles with teeth too.
    """
    q, g = p.copy(), get_lip_gap(p)
    q[UPPER_LIP_EDGE] = q[LOWER_LIP_EDGE] = p[UPPER_LIP_EDGE] + g * 0.45
    for ring, share in ((INNER_UPPER_LIP, 0.42), (MID_UPPER_LIP, 0.39), (OUTER_UPPER, 0.36)):
        q[ring[1:-1]] = p[ring[1:-1]] + g[1:-1] * share
    for ring, share in ((INNER_LOWER_LIP, 0.51), (MID_LOWER_LIP, 0.47), (OUTER_LOWER, 0.44)):
        q[ring[1:-1]] = p[ring[1:-1]] - g[1:-1] * share
    rest = np.setdiff1d(np.arange(len(p)), LIP_POINTS)
    centre, width = p[14, 0], np.linalg.norm(p[61] - p[291]) + 1e-6
    x, y = p[rest, 0], p[rest, 1]
    order = np.argsort(p[LOWER_LIP_EDGE, 0])
    column = np.interp(x, p[LOWER_LIP_EDGE, 0][order], g[order, 1], left=0, right=0)  # the gap right above
    below = (y - p[14, 1]) / width
    far = np.clip(below / 0.5, 0, 1)
    jaw = g[5, 1] * np.exp(-(((x - centre) / (width * 0.7)) ** 2)) * np.clip(1 - below / 1.6, 0, 1)
    q[rest, 1] -= np.where(below > 0, 0.44 * ((1 - far) * column + far * jaw), 0)
    lip_above = (below <= 0) & (abs(x - centre) < width * 0.75) & (y > p[2, 1])
    up = np.clip((y - p[2, 1]) / (p[0, 1] - p[2, 1] + 1e-3), 0, 1)
    q[rest, 1] += np.where(lip_above, 0.3 * column * up, 0)
    return q


def compute_lid_motion(p: np.ndarray, amount: float) -> np.ndarray:
    """Return the displacement (468, 2) that closes the eyes of p (468, 2) by amount in [0, 1].

    Upper lashes meet the lower, the crease follows.
    """
    d = np.zeros_like(p)
    for upper, lower, crease in zip(LID_UPPER, LID_LOWER, LID_CREASE):
        g = p[lower] - p[upper]
        d[upper] = g * 0.93 * amount
        d[lower] = -g * 0.03 * amount
        d[crease] = g * 0.45 * amount
    return d


def measure_eye_aperture(p: np.ndarray) -> np.ndarray | float:
    """Return the eye aperture (...,), mean of both eyes, in units of the crop; p (..., 468, 2)."""
    mid = [(159, 145), (386, 374)]
    return np.mean([p[..., b, 1] - p[..., a, 1] for a, b in mid], 0)


def remove_head_motion(marks: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the head motion of each frame against the rest pose.

    marks: (N, 468, 3) in the unit square, x to the right, y down, z away from the camera.  rest: (468, 3).
    Returns still (N, 468, 2): the points with the head's motion undone (affine fit on points that do not deform);
    to_rest (N, 2, 3): that fit, rest_from_frame;
    pose (N, 6): shift x, shift y of the still points' middle (units of the crop), log scale, roll (clockwise on the
    picture),
    yaw (the nose to the left of the picture), pitch (the nose down), radians.
    Source: least squares; rotation by Kabsch 1976.
    """
    still, to_rest, pose = [], [], []
    r = rest[RIGID_POINTS] - rest[RIGID_POINTS].mean(0)
    for p in marks:
        a = np.linalg.lstsq(np.c_[p[RIGID_POINTS, :2], np.ones(len(RIGID_POINTS))], rest[RIGID_POINTS, :2], rcond=None)[
            0
        ].T
        still.append(p[:, :2] @ a[:, :2].T + a[:, 2])
        to_rest.append(a)
        q = p[RIGID_POINTS] - p[RIGID_POINTS].mean(0)
        u, s, vt = np.linalg.svd(r.T @ q)
        flip = np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))])
        m = vt.T @ flip @ u.T
        yaw, pitch, roll = (
            np.arctan2(m[0, 2], m[2, 2]),
            np.arctan2(-m[1, 2], np.hypot(m[0, 2], m[2, 2])),
            np.arctan2(m[1, 0], m[0, 0]),
        )
        shift = p[RIGID_POINTS, :2].mean(0) - rest[RIGID_POINTS, :2].mean(0)
        pose.append([*shift, np.log(np.sqrt((q**2).sum() / (r**2).sum())), roll, yaw, pitch])
    return np.array(still), np.array(to_rest), np.array(pose)


def estimate_rest_pose(marks: np.ndarray) -> np.ndarray:
    """Return the rest pose of a clip (468, 3): median of the fifth of its frames with the smallest mouth opening, lips
    shut.

    marks: (N, 468, 3).
    """
    wide = measure_mesh_opening(marks[..., :2])
    calm = np.median(marks[wide <= np.quantile(wide, 0.2)], 0)
    return np.c_[close_lips(calm[:, :2]), calm[:, 2]]


def extract_motion(marks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what the face of a clip does.

    marks: (N, 468, 3).
    Returns displacement (N, 468, 2) from rest without head or lids; closed (N,), eyes, 0 open to 1 shut; pose (N, 6)
    and
    to_rest (N, 2, 3) of `remove_head_motion`; rest (468, 3) of `estimate_rest_pose`.
    """
    rest = estimate_rest_pose(marks)
    still, to_rest, pose = remove_head_motion(marks, rest)
    open_eye = np.quantile(measure_eye_aperture(still), 0.8)
    closed = np.clip(1.15 * (1 - measure_eye_aperture(still) / max(open_eye, 1e-6)), 0, 1)
    displacement = still - rest[:, :2]
    displacement[:, LID_POINTS] = 0
    return displacement, closed, pose, to_rest, rest
