"""How still the background of a talking portrait stays, in pixels: corners beside the person followed through the
frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_CORNERS, MIN_DISTANCE_PX, MIN_QUALITY = 400, 5, 0.02
MIN_TEXTURE = 8.0  # deviation of grey levels in a corner's window, 0-255
HALF_WINDOW_PX = 7  # half the window in which a corner is followed
MAX_RETURN_ERROR_PX = 0.5  # a corner followed there and back that ends further away is lost


@dataclass(frozen=True)
class BackgroundStability:
    """Motion of background corners against the first frame, in pixels.

    corners: how many were followed.  kept: share of them that was found again, over all frames.
    median_px, p95_px, most_px: of all corners in all frames; NaN when there are no corners.
    """

    corners: int
    kept: float
    median_px: float
    p95_px: float
    max_px: float


def find_background(matte: np.ndarray, reach_px: float) -> np.ndarray:
    """Return where nothing but background can be, whatever the head does within its reach: (H, W) bool.

    matte: float (H, W), share of the person.
    reach_px: how far the head gets from its place, 0 or more; what the corners' window covers is added.
    """
    side = 2 * int(np.ceil(reach_px + HALF_WINDOW_PX)) + 1
    person = (np.asarray(matte) > 0.02).astype(np.uint8)
    return cv2.dilate(person, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) == 0


def measure_background_motion(frames: Iterable[np.ndarray], background: np.ndarray) -> BackgroundStability:
    """Return the Steadiness of a clip whose background ought to stand still.

    frames: iterable of uint8 (H, W, 3) RGB, the first one still; taken one at a time.
    background: (H, W) bool, where to look; `find_background` gives it.
    Raises UsageError when there is no frame or its size is another.
    Source: Shi and Tomasi 1994 for the corners, Bouguet 2000 for following them, there and back.
    """
    first, points, moved, lost = None, None, [], 0
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if first is None:
            if grey.shape != background.shape:
                raise UsageError(
                    f"background {background.shape}: the frames are {grey.shape}.",
                    code="bad_image",
                    hint="Give a mask of the frames' own size.",
                )
            first, points = grey, _find_corners(grey, background)
        elif points is not None:
            step = _measure_displacements(first, grey, points)
            moved.append(step[np.isfinite(step)])
            lost += int(np.isnan(step).sum())
    if first is None:
        raise UsageError(
            "background: there are no frames.", code="bad_clip", hint="Give a clip with at least one frame."
        )
    steps = np.concatenate(moved) if moved else np.zeros(0)
    if points is None or not len(steps):
        return BackgroundStability(0 if points is None else len(points), 0.0, *[float("nan")] * 3)
    numbers = (float(np.percentile(steps, share)) for share in (50, 95, 100))
    return BackgroundStability(len(points), len(steps) / (len(steps) + lost), *numbers)


def _find_corners(grey: np.ndarray, background: np.ndarray) -> np.ndarray | None:
    """Return (N, 1, 2) float32, or None: where the picture has texture, for on a plain wall noise makes the corners."""
    grey32 = grey.astype(np.float32)
    mean = cv2.blur(grey32, (2 * HALF_WINDOW_PX + 1,) * 2)
    spread = np.sqrt(np.maximum(cv2.blur(grey32 * grey32, (2 * HALF_WINDOW_PX + 1,) * 2) - mean * mean, 0))
    background = background & (spread >= MIN_TEXTURE)
    return cv2.goodFeaturesToTrack(grey, MAX_CORNERS, MIN_QUALITY, MIN_DISTANCE_PX, mask=background.astype(np.uint8))


def _measure_displacements(first: np.ndarray, grey: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return (N,) how far each corner has gone since the first frame, in pixels; NaN where it was not found again."""
    look = dict(winSize=(2 * HALF_WINDOW_PX + 1,) * 2, maxLevel=2)
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, grey, points, None, **look)  # type: ignore[call-overload]  # OpenCV takes None
    back, again, _ = cv2.calcOpticalFlowPyrLK(grey, first, there, None, **look)  # type: ignore[call-overload]
    sure = (found & again).ravel().astype(bool) & (np.linalg.norm(back - points, axis=-1).ravel() < MAX_RETURN_ERROR_PX)
    return np.where(sure, np.linalg.norm(there - points, axis=-1).ravel(), np.nan)
