"""Shot cuts of a video, found frame by frame."""

from __future__ import annotations

import cv2
import numpy as np

CUT_LEVEL = 27.0  # mean HSV change between frames that is a cut, 8-bit steps
THUMBNAIL_PX = (64, 36)  # (width, height) of the compared thumbnails
HUE_STEPS = 180  # of an 8-bit hue circle
RECENT_FRAMES = 5  # whose mean change an adaptive level follows


class ShotCutDetector:
    """Detect shot cuts: frames whose mean absolute change in hue, saturation and value reaches a level.

    level: 8-bit steps, above 0.
    thumbnail_px: (width, height) to which frames are reduced; None compares them in the size that they have.
    circular_hue: whether hue is compared on its circle and weighted by saturation; without it hue is a plain number,
    as in PySceneDetect.
    adaptive_ratio: the change must also be so many times the mean of the last RECENT_FRAMES; 0 for a fixed level.
    Following a face needs all three (fast motion must not cut a track); the soundtrack compares larger frames plainly.
    Source: ContentDetector of PySceneDetect (BSD-3-Clause).
    """

    def __init__(
        self,
        level: float = CUT_LEVEL,
        *,
        thumbnail_px: tuple[int, int] | None = THUMBNAIL_PX,
        circular_hue: bool = True,
        adaptive_ratio: float = 2.0,
    ) -> None:
        self._level, self._thumbnail_px = level, thumbnail_px
        self._circular_hue, self._adaptive_ratio = circular_hue, adaptive_ratio
        self._last: np.ndarray | None = None
        self._recent: list[float] = []

    def is_cut(self, frame: np.ndarray) -> bool:
        """Tell whether a frame begins a new shot; the first never does. frame: uint8 (H, W, 3) RGB, in order."""
        if self._thumbnail_px is not None:
            frame = cv2.resize(frame, self._thumbnail_px, interpolation=cv2.INTER_AREA)
        hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV).astype(float)
        last, self._last = self._last, hsv
        if last is None:
            return False
        change = np.abs(hsv - last)
        if self._circular_hue:  # and grey pixels have no hue
            turn = np.minimum(change[..., 0], HUE_STEPS - change[..., 0])
            change[..., 0] = turn * np.minimum(hsv[..., 1], last[..., 1]) / 255
        value = float(change.mean())
        cut = value >= self._level and value >= self._adaptive_ratio * np.mean(self._recent or [0])
        self._recent = [] if cut else [*self._recent[1 - RECENT_FRAMES :], value]
        return bool(cut)
