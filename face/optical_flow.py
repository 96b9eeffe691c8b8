"""Track a face from frame to frame by sparse optical flow."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.face.crop import make_crop, transform_points
from mouthpiece.face.masks import make_region_mask

if TYPE_CHECKING:
    from mouthpiece.face.crop import Crop

VIEW_PX = 112  # side of the aligned crop in which motion is measured, a border around it
MAX_CORNERS = 60  # image corners followed from frame to frame
MIN_INLIERS = 6  # corners that must agree on a motion
LUCAS_KANADE_OPTIONS = {"winSize": (21, 21), "maxLevel": 3, "minEigThreshold": 1e-5}
MIN_CORRELATION = 0.5  # correlation of the face with itself one frame earlier


class FaceFlow:
    """Estimate the motion of a face from frame to frame, from corners of its rigid part, as a similarity in pixels.

    `begin_run` comes first.
    """

    _view: Crop  # crop of the face in the newest frame
    _gray: np.ndarray  # that crop in grey
    _first: tuple[np.ndarray, np.ndarray]  # grey crop at the beginning of the run, and the face's points in it

    def begin_run(self, frame: np.ndarray, points: np.ndarray) -> None:
        """Begin a run at a frame; its first view is kept to come back to. points: (4, 2) of the face."""
        self.set_view(frame, points)
        self._first = self._gray, self._view.to_crop(points)

    def set_view(self, frame: np.ndarray, points: np.ndarray) -> None:
        """Set the view from which the next motion is measured. points: (4, 2) of the face in this frame."""
        self._view = make_crop(points, VIEW_PX).with_border(0.25)
        self._gray = _extract_gray(self._view, frame)

    def track_points(self, frame: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Track points to this frame: (points, motion (2, 3) frame_from_frame); None when the face is lost."""
        now = _extract_gray(self._view, frame)
        mask = _make_rigid_mask()
        motion = _estimate_motion(self._gray, now, mask)
        if motion is None or not 0.7 < np.hypot(*motion[:, 0]) < 1.4:
            return None
        frame_from_frame = compose_affine(
            self._view.frame_from_crop, compose_affine(motion, self._view.crop_from_frame)
        )
        moved = transform_points(frame_from_frame, points)
        before = self._gray[mask > 0].astype(float)
        self.set_view(frame, moved)
        correlation = np.corrcoef(before, self._gray[mask > 0])[0, 1] if before.std() > 0 else 0.0
        return (moved, frame_from_frame) if correlation >= MIN_CORRELATION else None

    def match_first_view(self) -> np.ndarray | None:
        """Find the points of the run's first view again in the newest frame, without drift; None when too unlike."""
        motion = _estimate_motion(self._first[0], self._gray, _make_rigid_mask())
        return None if motion is None else self._view.to_frame(transform_points(motion, self._first[1]))


@lru_cache(maxsize=1)
def _make_rigid_mask() -> np.ndarray:
    """Make the mask of what moves as one rigid piece in a view: the face without mouth and jaw."""
    pad = round(0.25 * VIEW_PX)
    mask = np.pad((make_region_mask("oval", VIEW_PX) > 0.3).astype(np.uint8) * 255, pad)
    mask[pad + int(0.58 * VIEW_PX) :] = 0
    return mask


def _estimate_motion(before: np.ndarray, now: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Estimate the similarity (2, 3) now_from_before from corners tracked there and back; None when too few agree."""
    corners = cv2.goodFeaturesToTrack(before, MAX_CORNERS, 0.01, 4, mask=mask)
    if corners is None or len(corners) < MIN_INLIERS:
        return None
    needed = max(MIN_INLIERS, 0.4 * len(corners))
    there, ok, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, **LUCAS_KANADE_OPTIONS)  # type: ignore[call-overload]  # OpenCV takes None
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(now, before, there, None, **LUCAS_KANADE_OPTIONS)  # type: ignore[call-overload]
    good = (ok & ok_back).ravel().astype(bool) & (np.abs(back - corners).max((1, 2)) < 1.0)
    if good.sum() < needed:
        return None
    motion, inliers = cv2.estimateAffinePartial2D(corners[good], there[good], ransacReprojThreshold=1.5)
    return motion if motion is not None and inliers.sum() >= needed else None


def compose_affine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compose two affine matrices (2, 3): first b, then a."""
    return a @ np.r_[b, [[0, 0, 1]]]


def _extract_gray(view: Crop, frame: np.ndarray) -> np.ndarray:
    """Extract a crop from a frame in grey, uint8 (H, W)."""
    part, near = view.to_local(frame)
    return near.extract(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY))
