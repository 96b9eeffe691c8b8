"""Where the lips meet, and what a network finds in the mouth patch of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mouthpiece.lipsync.portrait.mouth_patch import MOUTH_PATCH, WORK_PX

LIP_BAND_HALF_LENGTH = 0.14  # of the band along which the lips meet, units of the crop
LIP_BAND_SOFTNESS = 0.015  # distance from its middle at which the band has fallen to 1/e, units of the crop
LIP_BAND_END_SOFTNESS = 0.03  # length over which it fades at its ends, units of the crop
LIP_BAND_FLOOR = 0.15  # values of a predicted band below this count as none
SMALLEST_BAND = 20.0  # sum over a band, px, below which no line is read from it
LARGEST_TILT_RAD = 0.35  # of a line, radians
X_RANGE = (0.40, 0.60)  # where the middle of a line may lie, units of the crop
Y_RANGE = (0.58, 0.76)  # the same, downward


@dataclass(frozen=True, eq=False)
class MouthLogits:
    """Hold what a network finds in the mouth patch of a picture, as logits (64, 112).

    teeth: of the picture's own teeth.  lip_band: of the line along which the lips meet, as `draw_lip_band` draws it.
    """

    teeth: np.ndarray
    lip_band: np.ndarray

    @property
    def teeth_cover(self) -> np.ndarray:
        """Compute where own teeth show, (64, 112) float64 in [0, 1]."""
        return _sigmoid(self.teeth)

    @property
    def lip_band_cover(self) -> np.ndarray:
        """Compute where the lips meet, (64, 112) float64 in [0, 1]."""
        return _sigmoid(self.lip_band)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """Convert logits to values in [0, 1], float64."""
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


@dataclass(frozen=True)
class LipLine:
    """Say where closed lips meet: the middle x, y of the line in units of the crop, and its clockwise tilt in
    radians.
    """

    x: float = 0.5
    y: float = 0.665
    tilt_rad: float = 0.0


def draw_lip_band(line: LipLine) -> np.ndarray:
    """Draw a line as a soft band on the mouth patch, (64, 112) float32 in [0, 1]."""
    top, bottom, left, right = MOUTH_PATCH
    y, x = np.mgrid[top:bottom, left:right]
    x, y = (x + 0.5) / WORK_PX - line.x, (y + 0.5) / WORK_PX - line.y
    c, s = np.cos(line.tilt_rad), np.sin(line.tilt_rad)
    along, off = c * x + s * y, c * y - s * x
    across = np.exp(-((off / LIP_BAND_SOFTNESS) ** 2))
    return (across * np.clip((LIP_BAND_HALF_LENGTH - abs(along)) / LIP_BAND_END_SOFTNESS, 0, 1)).astype(np.float32)


def estimate_lip_line(band: np.ndarray) -> LipLine:
    """Estimate the line that a band (64, 112) in [0, 1] shows, by its moments; the default where there is no band."""
    top, bottom, left, right = MOUTH_PATCH
    weight = np.clip(np.asarray(band, float) - LIP_BAND_FLOOR, 0, None)
    total = weight.sum()
    if total < SMALLEST_BAND:
        return LipLine()
    y, x = np.mgrid[top:bottom, left:right]
    x, y = (x + 0.5) / WORK_PX, (y + 0.5) / WORK_PX
    mx, my = (weight * x).sum() / total, (weight * y).sum() / total
    xx, xy = (weight * (x - mx) ** 2).sum() / total, (weight * (x - mx) * (y - my)).sum() / total
    tilt_rad = float(np.clip(np.arctan2(xy, max(xx, 1e-6)), -LARGEST_TILT_RAD, LARGEST_TILT_RAD))
    return LipLine(float(np.clip(mx, *X_RANGE)), float(np.clip(my, *Y_RANGE)), tilt_rad)
