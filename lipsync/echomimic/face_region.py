"""The part of a portrait that EchoMimic draws: an upright square around the face, the region where the face may be, and
the way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.curves import smoothstep
from mouthpiece.face.composite import CropCompositor
from mouthpiece.face.crop import Crop, fit_similarity, invert_affine, transform_points

if TYPE_CHECKING:
    from mouthpiece.lipsync.portrait.animation_job import AnimateJob

FACE_MARGIN = 0.5  # sides of the face's box that the square adds on each side
REGION_MARGIN = 0.1  # sides of the box that the region adds on each side
FEATHER_SHARE = 0.1  # share of the square's side over which it fades when it is pasted


def get_face_box(job: AnimateJob) -> np.ndarray:
    """Return left, top, right, bottom of the job's face in the pixels of its output."""
    corners = np.asarray(job.face.box_xyxy, float).reshape(2, 2)
    return transform_points(fit_similarity(job.face.points, job.points), corners).ravel()


def make_square_crop(box_xyxy: np.ndarray, width_px: int, height_px: int, size_px: int) -> Crop:
    """Make the upright crop that the network draws: twice the face, inside the picture.

    box_xyxy: of the face.  width_px, height_px: of the picture.  size_px: side of the crop.
    Source: EchoMimic v1; where its square is cut off at a border, this one is moved inside.
    """
    x0, y0, x1, y1 = box_xyxy
    side = min((1 + 2 * FACE_MARGIN) * (x1 - x0), (1 + 2 * FACE_MARGIN) * (y1 - y0), width_px, height_px)
    left, top = (
        float(np.clip((low + high) / 2 - side / 2, 0, limit - side))
        for low, high, limit in ((x0, x1, width_px), (y0, y1, height_px))
    )
    scale = size_px / side
    matrix = np.array([[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]])
    return Crop(matrix, invert_affine(matrix), size_px)


def make_face_region_mask(box_xyxy: np.ndarray, crop: Crop, width: float = 1.0, height: float = 1.0) -> np.ndarray:
    """Make a mask (size, size) float32 in [0, 1], 1 where the face may be: its box and a tenth more, fractions at the
    edges.

    box_xyxy: of the face, frame pixels.
    width, height: factors on the box; a wider region lets the head swing more, a taller one nod more.
    Source: EMO, 2402.17485 section 3.2 (union of the face's boxes); EchoMimic v1.
    """
    (x0, y0), (x1, y1) = crop.to_crop(np.asarray(box_xyxy, float).reshape(2, 2)) + 0.5
    sides = ((x0, x1, width), (y0, y1, height))
    spans = [((a + b) / 2, (b - a) * (0.5 + REGION_MARGIN) * stretch) for a, b, stretch in sides]
    pixels = np.arange(crop.size_px)
    across, down = (
        np.clip(np.minimum(pixels + 1, middle + reach) - np.maximum(pixels, middle - reach), 0, 1)
        for middle, reach in spans
    )
    return (down[:, None] * across[None]).astype(np.float32)


def make_paste_mask(crop: Crop, width_px: int, height_px: int) -> np.ndarray:
    """Make a mask (size, size) float32: 1 in the middle of the crop, 0 at its sides, except where the picture
    ends too.
    """
    size = crop.size_px
    (left, top), (right, bottom) = crop.to_frame(np.array([[-0.5, -0.5], [size - 0.5, size - 0.5]])) + 0.5
    ramp = smoothstep(np.arange(size) / (FEATHER_SHARE * size))

    def along(at_start: bool, at_end: bool) -> np.ndarray:
        return (1.0 if at_start else ramp) * (np.ones(size) if at_end else ramp[::-1])

    across, down = along(left <= 0.5, right >= width_px - 0.5), along(top <= 0.5, bottom >= height_px - 0.5)
    return (down[:, None] * across[None]).astype(np.float32)


def make_paster(crop: Crop, width_px: int, height_px: int) -> CropCompositor:
    """Make the compositor that pastes the network's square back into the picture."""
    return CropCompositor((height_px, width_px), crop, make_paste_mask(crop, width_px, height_px))
