"""Measure faces by MediaPipe's mesh: lips, eyes, head pose, jitter; for evaluation and training, not for inference."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction
    from typing import Any

# points of the mesh around the inner edge of the lips, in order
INNER_LIPS = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95]
LIP_UP = 13  # middle of the upper lip's inner edge
LIP_DOWN = 14  # middle of the lower lip's inner edge
LIP_LEFT = 61  # mouth corner on the picture's left
LIP_RIGHT = 291  # mouth corner on the picture's right
BROW_UP = 10  # top of the forehead
CHIN = 152
MESH_POINTS = 468  # points of the mesh; the iris points behind them are not used
# outer corner, inner corner, two upper and two lower lid points
EYE_LEFT = (33, 133, 160, 158, 144, 153)  # on the picture's left
EYE_RIGHT = (263, 362, 387, 385, 373, 380)  # on the picture's right
# points whose jitter is measured
JITTER_POINTS = [
    33,
    133,
    263,
    362,
    168,
    6,
    197,
    195,
    5,
    4,
    61,
    291,
    13,
    14,
    152,
    70,
    105,
    300,
    334,
]
BLINK_MAX_S = 0.6  # longest blink
CLOSED_BELOW = 0.25  # share of the usual opening below which the lips count as shut


@dataclass(frozen=True, eq=False)
class FaceMeasurements:
    """Measurements of a face in each frame, all (T,) float, NaN where no face was found.

    opening: inner-lip gap over face height.  width: mouth width over face height.
    area: inner-lip area over face height squared.
    eye_left, eye_right: lid gap over eye width; left and right in the picture.
    yaw_deg, pitch_deg, roll_deg: head pose; positive is to the picture's right, down, clockwise.
    height_px: face height (top of the forehead to chin).
    points: (T, N, 2) landmarks JITTER_POINTS in frame pixels.
    """

    opening: np.ndarray
    width: np.ndarray
    area: np.ndarray
    eye_left: np.ndarray
    eye_right: np.ndarray
    yaw_deg: np.ndarray
    pitch_deg: np.ndarray
    roll_deg: np.ndarray
    height_px: np.ndarray
    points: np.ndarray

    def __len__(self) -> int:
        return len(self.opening)

    @property
    def present(self) -> np.ndarray:
        """Return where a face was found, (T,) bool."""
        return np.isfinite(self.opening)

    @property
    def eyes(self) -> np.ndarray:
        """Return the mean openness of both eyes, (T,)."""
        return (self.eye_left + self.eye_right) / 2

    @property
    def acceleration(self) -> np.ndarray:
        """Return the acceleration of the landmarks, (T,), in face heights a frame squared; NaN at gaps and ends."""
        return compute_acceleration(self.points, self.height_px)


class FaceMeshDetector:
    """Detect MediaPipe's face mesh with attention to lips and eyes, one face a frame; a context manager.

    follow: True for frames of one clip in order, False for single pictures.
    border: how much the frame is padded on each side first, in units of its size, for crops filled by a face.
    Source: Grishchenko et al. 2020 (2006.10962), through MediaPipe. Without attention it misses shut lids and lips,
    docs/log.md.
    """

    def __init__(self, follow: bool = True, border: float = 0.25, min_score: float = 0.3) -> None:
        self._follow, self._border, self._needed = follow, border, min_score
        self._mesh: Any = None  # MediaPipe's FaceMesh while the context is open

    def __enter__(self) -> FaceMeshDetector:
        os.environ.setdefault("GLOG_minloglevel", "2")
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self._mesh = FaceMesh(
            static_image_mode=not self._follow,
            max_num_faces=1,
            refine_landmarks=True,
            min_detection_confidence=self._needed,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._mesh.close()
        self._mesh = None

    def landmarks(self, frame: np.ndarray) -> np.ndarray | None:
        """Detect landmarks (468, 3) of a frame uint8 (H, W, 3) in pixels, z too, smaller is nearer; None: no face."""
        h, w = frame.shape[:2]
        pad = round(self._border * max(h, w))
        wide = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        found = self._mesh.process(wide).multi_face_landmarks
        if not found:
            return None
        size = np.array([w + 2 * pad, h + 2 * pad, w + 2 * pad])
        return np.array([[p.x, p.y, p.z] for p in found[0].landmark[:MESH_POINTS]]) * size - [pad, pad, 0]


def measure_frames(frames: Iterable[np.ndarray], *, follow: bool = True, border: float = 0.25) -> FaceMeasurements:
    """Measure mouth, eyes, head pose and landmarks of one face through the frames of a clip.

    frames: uint8 (H, W, 3) RGB; taken one at a time, never kept.
    follow, border: as in `FaceMeshDetector`.
    """
    rows, points = [], []
    with FaceMeshDetector(follow, border) as mesh:
        for frame in frames:
            landmarks = mesh.landmarks(frame)
            rows.append(np.full(9, np.nan) if landmarks is None else measure_landmarks(landmarks))
            points.append(
                np.full((len(JITTER_POINTS), 2), np.nan) if landmarks is None else landmarks[JITTER_POINTS, :2]
            )
    table = np.array(rows, float).reshape(-1, 9)
    return FaceMeasurements(*(*table.T.copy(), np.array(points, float).reshape(-1, len(JITTER_POINTS), 2)))


def measure_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Measure one face: (9,) opening, width, area, eye_left, eye_right, yaw, pitch, roll, height of FaceMeasurements.

    landmarks: (468, 3) pixels.
    Source: eye openness after Soukupova and Cech 2016.
    """
    p = np.asarray(landmarks, float)
    height = np.linalg.norm(p[BROW_UP] - p[CHIN])
    ring = p[INNER_LIPS, :2]
    x, y = ring.T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    opening = np.linalg.norm(p[LIP_UP, :2] - p[LIP_DOWN, :2]) / height
    width = np.linalg.norm(p[LIP_LEFT, :2] - p[LIP_RIGHT, :2]) / height
    return np.array(
        [
            opening,
            width,
            area / height**2,
            _measure_eye(p, EYE_LEFT),
            _measure_eye(p, EYE_RIGHT),
            *estimate_head_pose(p),
            height,
        ]
    )


def _measure_eye(p: np.ndarray, corners: tuple[int, ...]) -> float:
    """Measure the gap of the lids over the width of an eye. corners: EYE_LEFT or EYE_RIGHT."""
    outer, inner, up_a, up_b, down_a, down_b = (p[i, :2] for i in corners)
    gap = float(np.linalg.norm(up_a - down_a) + np.linalg.norm(up_b - down_b)) / 2
    return gap / max(float(np.linalg.norm(outer - inner)), 1e-6)


def estimate_head_pose(landmarks: np.ndarray) -> np.ndarray:
    """Estimate (yaw, pitch, roll) in degrees by the mesh's depth: positive is to the picture's right, down, clockwise.

    landmarks: (468, 3) pixels, z towards the back.
    The axes of the head are the eye line and the forehead-chin line.
    """
    p = np.asarray(landmarks, float)
    across = (p[263] + p[362]) / 2 - (p[33] + p[133]) / 2
    across = across / np.linalg.norm(across)
    down = p[CHIN] - p[BROW_UP]
    down = down - (down @ across) * across
    down = down / np.linalg.norm(down)
    back = np.cross(across, down)  # away from the camera for a frontal face
    yaw = np.arctan2(-back[0], back[2])
    pitch = np.arctan2(-back[1], np.hypot(back[0], back[2]))
    return np.degrees([yaw, pitch, np.arctan2(across[1], across[0])])


def compute_acceleration(points: np.ndarray, height_px: np.ndarray) -> np.ndarray:
    """Compute the mean acceleration (second difference) of points over the face height, (T,); NaN at gaps and ends.

    points: (T, N, 2) pixels.  height_px: (T,) or a number.
    """
    points = np.asarray(points, float)
    out = np.full(len(points), np.nan)
    if len(points) >= 3:
        second = points[2:] - 2 * points[1:-1] + points[:-2]
        out[1:-1] = np.linalg.norm(second, axis=-1).mean(-1)
    return out / height_px


def compute_jitter(points: np.ndarray, height_px: np.ndarray, where: np.ndarray | None = None) -> float:
    """Compute the jitter: mean acceleration of landmarks in face heights a frame squared; NaN when no frame counts.

    points: (T, N, 2) pixels.  height_px: (T,) or a number.  where: (T,) bool, the frames that count; all when None.
    """
    values = compute_acceleration(points, height_px)
    values = values if where is None else values[np.asarray(where, bool)]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def find_blinks(openness: np.ndarray, rate_hz: Fraction | int, depth: float = 0.6) -> np.ndarray:
    """Find blinks: the frame at which the eye is most shut in each dip below `depth` of the usual openness.

    openness: (T,) as `FaceMeasurements.eyes`; NaN where there is no face.
    rate_hz: frames a second.  depth: share of the usual (median) openness, (0, 1).
    """
    openness = np.asarray(openness, float)
    known = np.isfinite(openness)
    if not known.any():
        return np.zeros(0, int)
    shut = known & (openness < depth * np.median(openness[known]))
    edges = np.flatnonzero(np.diff(np.r_[0, shut.astype(int), 0]))
    runs = edges.reshape(-1, 2)
    return np.array([a + int(np.argmin(openness[a:b])) for a, b in runs if b - a <= BLINK_MAX_S * float(rate_hz)], int)


def compute_blink_rate(openness: np.ndarray, rate_hz: Fraction | int, depth: float = 0.6) -> float:
    """Compute the blinks a minute of the time in which a face is seen; NaN when there is none.

    openness, rate_hz, depth: as in `find_blinks`.
    """
    minutes = np.isfinite(np.asarray(openness, float)).sum() / float(rate_hz) / 60
    return len(find_blinks(openness, rate_hz, depth)) / minutes if minutes else float("nan")


def measure_blink_depths(
    eye_left: np.ndarray, eye_right: np.ndarray, rate_hz: Fraction | int, depth: float = 0.6
) -> np.ndarray:
    """Measure how open each eye stays in each blink over its usual openness, (N, 2): 0 is shut.

    eye_left, eye_right: (T,) as in `FaceMeasurements`; NaN where there is no face.
    rate_hz, depth: as in `find_blinks`.
    """
    eyes = np.stack([eye_left, eye_right], 1).astype(float)
    found = find_blinks(eyes.mean(1), rate_hz, depth)
    lowest = [np.nanmin(eyes[max(0, k - 1) : k + 2], axis=0) for k in found]
    return np.array(lowest).reshape(-1, 2) / np.nanmedian(eyes, axis=0) if lowest else np.zeros((0, 2))


def measure_closures(
    opening: np.ndarray,
    times_s: np.ndarray,
    shut_s: list[tuple[float, float]],
    voiced_s: list[tuple[float, float]],
    margin_s: float = 0.04,
    rest: float = 0.0,
) -> np.ndarray:
    """Measure closures: the smallest opening in each span in which the lips must meet, over the usual one, (N,).

    opening, times_s: (T,), NaN allowed.  shut_s: (N, 2) start and stop of p, b and m, seconds; widened by margin_s
    either side.
    voiced_s: (M, 2) start and stop of voiced sounds, in which the median opening is the usual one.
    rest: opening that the mesh measures of this face's shut lips, seldom 0; it is taken off both.
    Returns NaN where no frame of a span is known, or none that is voiced; below CLOSED_BELOW a mouth counts as shut.
    """
    opening, times_s = np.asarray(opening, float), np.asarray(times_s, float)

    def inside(span: tuple[float, float], margin: float) -> np.ndarray:
        return np.isfinite(opening) & (times_s >= span[0] - margin - 1e-9) & (times_s <= span[1] + margin + 1e-9)

    voiced = np.any([inside(span, 0.0) for span in voiced_s], axis=0) if len(voiced_s) else np.zeros(len(opening), bool)
    usual = np.median(opening[voiced]) if voiced.any() else np.nan
    smallest = np.array(
        [opening[at].min() if (at := inside(span, margin_s)).any() else np.nan for span in shut_s], float
    )
    return np.maximum(smallest - rest, 0) / (usual - rest) if usual > rest else np.full(len(smallest), np.nan)


def find_best_lag(a: np.ndarray, b: np.ndarray, max_lag: int) -> tuple[float, int]:
    """Find the lag at which b follows a best: (correlation, lag); NaN and 0 when nothing varies.

    a, b: (T,), NaN allowed.  max_lag: frames, >= 0.
    lag: frames by which b comes after a; negative when b comes first.
    Raises UsageError when the lengths differ or max_lag is negative.
    Source: Pearson's correlation over the common part; the smallest lag wins a tie.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 1 or max_lag < 0:
        raise UsageError(
            f"curves {a.shape} and {b.shape}, max_lag {max_lag}: need two of one length and a lag of 0 or more.",
            code="bad_curves",
            hint="Bring both curves to one rate and cut them to one length.",
        )
    best = (float("nan"), 0)
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        value = correlate_at_lag(a, b, lag)
        if np.isfinite(value) and not value <= best[0] + 1e-12:
            best = (value, lag)
    return best


def correlate_at_lag(a: np.ndarray, b: np.ndarray, lag: int) -> float:
    """Compute the correlation of two curves (T,) over their common part when b comes `lag` frames after a."""
    return compute_correlation(a[max(0, -lag) : len(a) - max(0, lag)], b[max(0, lag) : len(b) - max(0, -lag)])


def compute_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Compute Pearson's correlation of two curves over the frames where both are finite; NaN when one does not vary.

    a, b: (T,).
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3:
        return float("nan")
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 1e-12 else float("nan")


def measure_stillness(opening: np.ndarray, silent: np.ndarray) -> float:
    """Measure how much the mouth moves in silence against speech: ratio of the deviations of its opening; 0 is still.

    opening: (T,), NaN allowed.  silent: (T,) bool.
    Returns NaN when one of the two parts has fewer than two frames, or the mouth never moves in speech.
    """
    opening, silent = np.asarray(opening, float), np.asarray(silent, bool)
    known = np.isfinite(opening)
    quiet, loud = opening[known & silent], opening[known & ~silent]
    if len(quiet) < 2 or len(loud) < 2 or loud.std() < 1e-12:
        return float("nan")
    return float(quiet.std() / loud.std())
