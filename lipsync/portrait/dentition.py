"""A drawing of upper teeth, and its place on the mouth patch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.lipsync.portrait.mouth_patch import MOUTH_PATCH, WORK_PX

if TYPE_CHECKING:
    from mouthpiece.lipsync.portrait.lip_line import LipLine

# upper teeth from the middle to the side: (width as seen from the front, height) in units of the crop, in which eyes
# are 0.29 apart, 63 mm on most people
TOOTH_SIZES = (
    (0.0385, 0.0440),
    (0.0295, 0.0400),
    (0.0285, 0.0430),
    (0.0215, 0.0370),
    (0.0165, 0.0340),
    (0.0115, 0.0310),
)
LATERAL_INCISOR_LIFT = 0.0035  # how much higher the edge of the second tooth lies, units of the crop
ARCH_CURVATURE = 0.55  # how much higher the biting edge lies to the side: units of the crop per unit squared
TOOTH_COLOUR = (240.0, 230.0, 210.0)  # lit, 8-bit RGB
GUM_COLOUR = (172, 98, 96)  # lit, 8-bit RGB
GAP_COLOUR = (150.0, 120.0, 106.0)  # between teeth, lit, 8-bit RGB
SIDE_SHADE = 0.45  # share of light that the teeth furthest to the side lose
EDGE_SHADE = 0.09  # share that a tooth loses at its sides
NECK_SHADE = 0.10  # share that it loses at the gum
DRAWING_CROP_PX = 1024  # side of the crop that the drawing is made for
DRAWING_SIZE = (0.14, 0.36)  # height and width of the drawing, units of the crop
BITING_EDGE_SHARE = 0.8  # of the height of the drawing, where the biting edge of the middle lies
BITING_EDGE_OFFSET = 0.001  # how far it lies below the line where the lips meet, units of the crop


def draw_dentition(rng: np.random.Generator | None = None) -> np.ndarray:
    """Draw upper teeth, (H, W, 4) float32: 8-bit colours for a white of 235, and cover in [0, 1].

    rng: of small irregularities; None: regular teeth.
    Source: sizes after Wheeler's averages of the human dentition.
    """
    draw = (lambda low, high: 0.5 * (low + high)) if rng is None else rng.uniform
    h, w = (round(s * DRAWING_CROP_PX) for s in DRAWING_SIZE)
    y, x = np.mgrid[0:h, 0:w]
    x, y = (
        (x + 0.5) / DRAWING_CROP_PX - DRAWING_SIZE[1] / 2,
        (y + 0.5) / DRAWING_CROP_PX - BITING_EDGE_SHARE * DRAWING_SIZE[0],
    )
    size, arch = draw(0.86, 1.02), draw(0.6, 1.4) * ARCH_CURVATURE
    cover, light = np.zeros((h, w)), np.zeros((h, w))
    for side in (-1, 1):
        start = 0.0
        for k, (width, height) in enumerate(TOOTH_SIZES):
            width, height = width * size * draw(0.96, 1.04), height * size * draw(0.94, 1.06)
            mid = side * (start + width / 2)
            edge = -arch * mid * mid - (LATERAL_INCISOR_LIFT if k == 1 else 0.0) * size + draw(-0.0012, 0.0012)
            one, lit = _draw_tooth(x - mid, y - edge, width, height)
            shade = 1 - SIDE_SHADE * (abs(mid) / (DRAWING_SIZE[1] / 2)) ** 1.4
            light = np.where(one > cover, lit * shade * draw(0.97, 1.03), light)
            cover = np.maximum(cover, one)
            start += width
    top = -arch * x * x - TOOTH_SIZES[0][1] * size * 0.97
    arch_cover = (
        np.clip((DRAWING_SIZE[1] / 2 * 0.86 - abs(x)) / 0.02, 0, 1)
        * np.clip((y - top + 0.055) / 0.004, 0, 1)
        * np.clip(-(y + arch * x * x) / 0.004, 0, 1)
    )
    behind = arch_cover * np.clip((-(y - top) - 0.002) / 0.004, 0, 1)  # gums above the teeth
    gaps = arch_cover * (1 - behind)  # between teeth it is dark, not open
    colour = np.array(TOOTH_COLOUR) * light[..., None]
    side = (1 - SIDE_SHADE * np.clip(abs(x) / (DRAWING_SIZE[1] / 2), 0, 1) ** 1.4)[..., None]
    under = behind[..., None] * np.array(GUM_COLOUR) * side + gaps[..., None] * np.array(GAP_COLOUR) * side
    below = np.maximum(behind, gaps)
    rgb = colour * cover[..., None] + under * (1 - cover[..., None])
    alpha = cover + below * (1 - cover)
    rgb = np.where(alpha[..., None] > 1e-3, rgb / np.maximum(alpha, 1e-3)[..., None], 0)
    out = np.concatenate([rgb, alpha[..., None]], -1).astype(np.float32)
    return cv2.GaussianBlur(out, (0, 0), 0.7)


def _draw_tooth(x: np.ndarray, y: np.ndarray, width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw one tooth; returns its cover and its light at every place.

    x, y: places in units of the crop, the middle of the tooth at x = 0 and its biting edge at y = 0, y downward.
    width, height: of the tooth, units of the crop.
    """
    narrow = 1 - 0.16 * np.clip(-y / height, 0, 1) ** 1.5  # narrower at the neck
    half_w, half_h, round_ = width / 2 * narrow, height / 2, width * 0.24
    qx, qy = abs(x) - half_w + round_, abs(y + half_h) - half_h + round_
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - round_
    cover = np.clip(0.5 - outside / 0.0016, 0, 1)
    across, up = np.clip(abs(x) / half_w, 0, 1), np.clip(-y / height, 0, 1)
    light = 1 - EDGE_SHADE * across**4 - NECK_SHADE * up**2 - 0.06 * np.clip(1 - up / 0.12, 0, 1)
    return cover, light


@cache
def default_teeth() -> np.ndarray:
    """Return the drawing of regular teeth, made once a process; it must not be written to."""
    return draw_dentition()


def place_on_patch(picture: np.ndarray, line: LipLine, size_px: int) -> np.ndarray:
    """Warp a drawing to the mouth patch of a crop, (h, w, 4) float32: colours and cover.

    picture: as `draw_dentition` makes it.
    line: where the lips meet; the biting edge is laid along it.
    size_px: side of the crop; a multiple of 12 keeps the patch's proportions.
    A drawing that is reduced is blurred first, then sampled bilinearly.
    """
    grow = size_px / DRAWING_CROP_PX
    if grow < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.45 / grow)
    top, bottom, left, right = (round(v * size_px / WORK_PX) for v in MOUTH_PATCH)
    c, s = np.cos(line.tilt_rad) * grow, np.sin(line.tilt_rad) * grow
    at = np.array([line.x * size_px - 0.5 - left, (line.y + BITING_EDGE_OFFSET) * size_px - 0.5 - top])
    origin = np.array(
        [DRAWING_SIZE[1] / 2 * DRAWING_CROP_PX - 0.5, BITING_EDGE_SHARE * DRAWING_SIZE[0] * DRAWING_CROP_PX - 0.5]
    )
    m = np.array([[c, -s, 0], [s, c, 0]], np.float64)
    m[:, 2] = at - m[:, :2] @ origin
    soft = np.dstack([picture[..., :3] * picture[..., 3:], picture[..., 3]])
    out = cv2.warpAffine(soft, m, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    out[..., :3] = np.where(out[..., 3:] > 1e-3, out[..., :3] / np.maximum(out[..., 3:], 1e-3), 0)
    return out
