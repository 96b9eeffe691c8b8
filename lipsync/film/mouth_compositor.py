"""The mouth of one frame of a film changed in place: jaw and cheeks moved, lips put in from a moment of rest, the rest
left alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.curves import smoothstep
from mouthpiece.engine.media.patches import FramePatch
from mouthpiece.lipsync.portrait.mouth_patch import FLOW_PX, MOUTH_PATCH, WORK_PX

if TYPE_CHECKING:
    from mouthpiece.face.crop import Crop
    from mouthpiece.lipsync.portrait.frame_parts import FrameParts

# centre x, y and half axes x, y in units of the crop, and the width of the ramp within: what may move (mouth, jaw and
# chin; eyes and
# nostrils stay out), and what is put in (the lips and what is between them)
JAW_REGION, LIPS_REGION = (0.50, 0.73, 0.36, 0.27, 0.09), (0.50, 0.665, 0.215, 0.125, 0.05)
SUPERELLIPSE_EXPONENT = 2.5
COLOUR_RING = (0.02, 0.5)  # of the lips' mask: where colours are compared
LARGEST_COLOUR_SHIFT = 40.0  # of colours, 8-bit steps
GRAIN_BLUR_PX, GRAIN_GAIN = 1.0, 0.87  # the high-pass in which grain is measured, and what it leaves of white noise
LARGEST_GRAIN = 6.0  # deviation in 8-bit steps


@lru_cache(maxsize=8)
def make_region_mask(shape: tuple[float, float, float, float, float], size_px: int) -> np.ndarray:
    """Soft mask float32 (size, size) in [0, 1] of JAW or LIPS: 0 outside. Source: ours; superellipse, smoothstep."""
    x, y = np.meshgrid(*2 * [(np.arange(size_px, dtype=np.float32) + 0.5) / size_px])
    cx, cy, rx, ry, feather = shape
    within = 1 - ((np.abs(x - cx) / rx) ** SUPERELLIPSE_EXPONENT + (np.abs(y - cy) / ry) ** SUPERELLIPSE_EXPONENT) ** (
        1 / SUPERELLIPSE_EXPONENT
    )
    mask = smoothstep(within * min(rx, ry) / feather)
    mask.flags.writeable = False
    return mask


def get_mouth_box(crop: Crop, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of the frame's pixels that a mouth in this crop may change, within the frame; empty outside.

    crop: Crop of WORK_PX.  shape: of the frame.
    """
    cx, cy, rx, ry, _ = JAW_REGION
    corners = np.array([[cx + a * rx, cy + b * ry] for a in (-1, 1) for b in (-1, 1)]) * WORK_PX - 0.5
    p, size = crop.to_frame(corners), np.array(shape[1::-1])
    x0, y0 = np.clip(np.floor(p.min(0)), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(p.max(0)) + 1, 0, size).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


class MouthCompositor:
    """A frame's mouth about to be changed.

    pixels: uint8 (H, W, 3).  crop: Crop of WORK_PX in it; box_of must not be empty.
    """

    def __init__(self, pixels: np.ndarray, crop: Crop) -> None:
        self.pixels, self.crop = pixels, crop
        self.box = x0, y0, x1, y1 = get_mouth_box(crop, pixels.shape)
        self.at = np.stack(np.meshgrid(np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)), -1)
        m = crop.crop_from_frame.astype(np.float32)
        self.u = (self.at @ m[:, :2].T + m[:, 2] + 0.5) / WORK_PX
        self.before = pixels[y0:y1, x0:x1].copy()
        self.lips = grid_sample(make_region_mask(LIPS_REGION, WORK_PX), self.u)[..., None]

    def warp_jaw(self, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) float32: the frame's own pixels with the jaw moved, and (h, w) bool: where nothing moves.

        flow: (n, n, 2) in units of the crop, where each place reads.
        """
        f = grid_sample((flow * make_region_mask(JAW_REGION, len(flow))[..., None]).astype(np.float32), self.u)
        read = self.at + f @ (self.crop.frame_from_crop[:, :2].astype(np.float32) * WORK_PX).T
        return cv2.remap(
            self.pixels, read[..., 0], read[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32), (f == 0).all(-1)

    def blend(
        self, rest: tuple[np.ndarray, Crop], parts: FrameParts, grain: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) float32: the face at rest with its mouth as rendered, as it would stand in this frame; and (h, w,
        1): what of it is painted.

        rest: (pixels, Crop of WORK_PX in them).  parts: FrameParts of the renderer for it.
        grain: numpy Generator that draws the grain of what is painted; None leaves it smooth.
        """
        pixels, crop = rest
        read = (self.u + grid_sample(parts.flow.astype(np.float32), self.u)) * WORK_PX - 0.5
        m = crop.frame_from_crop.astype(np.float32)
        read = read @ m[:, :2].T + m[:, 2]
        out = cv2.remap(pixels, read[..., 0], read[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(
            np.float32
        )
        painted, cover = _sample_paint(parts.paint, self.u)
        if grain is not None:
            painted = painted + cover * _make_grain(self.before, self.lips, grain)
        return out * (1 - cover) + painted, cover

    def make_patch(self, moved: np.ndarray, still: np.ndarray, lips: np.ndarray, share: float = 1.0) -> FramePatch:
        """The Patch of the frame.

        moved, still: from `warp_jaw`.  lips: from `blend`, or a mix of several.
        share: how much of the change is shown, (0, 1].
        """
        lips = lips + fit_colour_plane(moved, lips, self.lips[..., 0])
        after = moved + self.lips * (lips - moved)
        after = np.clip(self.before + share * (after - self.before) + 0.5, 0, 255).astype(np.uint8)
        after = np.where((still & (self.lips[..., 0] == 0))[..., None], self.before, after)
        return FramePatch(self.box[0], self.box[1], self.before, after)


def grid_sample(field: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A square field over the crop read at u (h, w, 2) in its units; nothing outside. Source: bilinear."""
    n = len(field)
    return cv2.remap(field, u[..., 0] * n - 0.5, u[..., 1] * n - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def fit_colour_plane(wanted: np.ndarray, given: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """(h, w, 3): what added to `given` brings its colours to those of `wanted` around the lips, a plane for each
    channel.

    wanted, given: (h, w, 3) float32.  lips: (h, w) mask.
    Source: least squares over the ring in which the mask fades.
    """
    rows, columns = np.nonzero((lips > COLOUR_RING[0]) & (lips < COLOUR_RING[1]))
    if len(rows) < 32:
        return 0.0
    h, w = lips.shape
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, w, dtype=np.float32), np.linspace(-0.5, 0.5, h, dtype=np.float32))
    terms = np.stack([np.ones_like(x), x, y], -1)
    found = np.linalg.lstsq(terms[rows, columns], (wanted - given)[rows, columns], rcond=None)[0]
    return np.clip(terms @ found, -LARGEST_COLOUR_SHIFT, LARGEST_COLOUR_SHIFT).astype(np.float32)


def _sample_paint(paint: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(colours times cover, cover) float32 of the painted mouth where a frame reads the crop at u (h, w, 2)."""
    top, _, left, _ = MOUTH_PATCH
    at = (u[..., 0] * WORK_PX - 0.5 - left, u[..., 1] * WORK_PX - 0.5 - top)
    part = cv2.remap(paint.astype(np.float32), *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    cover = np.clip(part[..., 3:], 0, 1)
    return np.clip(part[..., :3], 0, 255 * cover), cover


def _make_grain(before: np.ndarray, lips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise (h, w, 1) in 8-bit steps, as strong as in the picture around the lips."""
    gray = cv2.cvtColor(before, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = (gray - cv2.GaussianBlur(gray, (0, 0), GRAIN_BLUR_PX))[lips[..., 0] < 0.05]
    if fine.size < 64:
        return 0.0
    deviation = min(1.4826 * float(np.median(np.abs(fine))) / GRAIN_GAIN, LARGEST_GRAIN)
    return (deviation * rng.standard_normal(gray.shape)).astype(np.float32)[..., None]


def compute_jaw_flow(lattice_is: np.ndarray, lattice_wish: np.ndarray, size_px: int = FLOW_PX) -> np.ndarray:
    """(n, n, 2) flow of jaw and cheeks in units of the crop, from lattices (2, 32, 32) of a face as it is and as it
    shall be.

    Source: ours; bilinear, as the renderer starts from. Lips themselves are put in, not moved.
    """
    change = np.asarray(lattice_is - lattice_wish, np.float32).transpose(1, 2, 0)
    return cv2.resize(change, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
