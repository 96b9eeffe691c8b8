"""How a face moves from one frame to the next, from the image alone."""

from functools import lru_cache

import cv2
import numpy as np

from face.crop import crop_of, place
from face.masks import region

VIEW_PX = 112  # side of the aligned crop in which motion is measured, a border around it
CORNERS = 60  # image corners followed from frame to frame
NEEDED_INLIERS = 6
LK = {"winSize": (21, 21), "maxLevel": 3, "minEigThreshold": 1e-5}
NEEDED_LIKENESS = 0.5  # correlation of the face with itself one frame earlier


class Flow:
    """Motion of the face from frame to frame, from corners of its rigid part, as a similarity in frame pixels."""

    def __init__(self):
        self._view = self._gray = self._first = None

    def begin(self, frame, points):
        """A new run starts here: its first view is kept to come back to."""
        self.start(frame, points)
        self._first = self._gray, self._view.to_crop(points)

    def start(self, frame, points):
        self._view = crop_of(points, VIEW_PX).widened(0.25)
        self._gray = _gray_of(self._view, frame)

    def step(self, frame, points):
        """The points moved to this frame, and the (2, 3) frame_from_frame motion; None when the face is lost."""
        now = _gray_of(self._view, frame)
        mask = _rigid_mask()
        motion = _motion_of_corners(self._gray, now, mask)
        if motion is None or not 0.7 < np.hypot(*motion[:, 0]) < 1.4:
            return None
        frame_from_frame = compose(self._view.frame_from_crop, compose(motion, self._view.crop_from_frame))
        moved = place(frame_from_frame, points)
        before = self._gray[mask > 0].astype(float)
        self.start(frame, moved)
        likeness = np.corrcoef(before, self._gray[mask > 0])[0, 1] if before.std() > 0 else 0.0
        return (moved, frame_from_frame) if likeness >= NEEDED_LIKENESS else None

    def register(self):
        """The points of the run's first view found again in the newest frame, so nothing drifts; None when unlike."""
        motion = _motion_of_corners(self._first[0], self._gray, _rigid_mask())
        return None if motion is None else self._view.to_frame(place(motion, self._first[1]))


@lru_cache(maxsize=1)
def _rigid_mask():
    """Where the face moves as one piece in a view: not the mouth and jaw."""
    pad = round(0.25 * VIEW_PX)
    mask = np.pad((region("oval", VIEW_PX) > 0.3).astype(np.uint8) * 255, pad)
    mask[pad + int(0.58 * VIEW_PX) :] = 0
    return mask


def _motion_of_corners(before, now, mask):
    """(2, 3) similarity now_from_before of image corners followed there and back; None when too few agree."""
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 4, mask=mask)
    if corners is None or len(corners) < NEEDED_INLIERS:
        return None
    needed = max(NEEDED_INLIERS, 0.4 * len(corners))
    there, ok, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, **LK)
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(now, before, there, None, **LK)
    good = (ok & ok_back).ravel().astype(bool) & (np.abs(back - corners).max((1, 2)) < 1.0)
    if good.sum() < needed:
        return None
    motion, inliers = cv2.estimateAffinePartial2D(corners[good], there[good], ransacReprojThreshold=1.5)
    return motion if motion is not None and inliers.sum() >= needed else None


def compose(a, b):
    return a @ np.r_[b, [[0, 0, 1]]]


def _gray_of(view, frame):
    part, near = view.near(frame)
    return near.take(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY))
