"""Composite a mouth into one frame of a film: jaw and cheeks are warped, the lips come from reference mouths, all else
stays.
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

# superellipses in units of the crop: centre x, y, half axes x, y, and the width of the ramp within
JAW_REGION = (0.50, 0.73, 0.36, 0.27, 0.09)  # what may move: mouth, jaw and chin; eyes and nostrils stay out
LIPS_REGION = (0.50, 0.665, 0.215, 0.125, 0.05)  # what is replaced: the lips and what is between them
SUPERELLIPSE_EXPONENT = 2.5
COLOUR_RING = (0.02, 0.5)  # values of the lips' mask between which colours are compared
SMALLEST_RING_PX = 32  # pixels of that ring, below which colours are left alone
LARGEST_COLOUR_SHIFT = 40.0  # 8-bit steps
GRAIN_BLUR_PX = 1.0  # deviation of the blur whose remainder is the grain, px
GRAIN_GAIN = 0.87  # what that high-pass leaves of white noise
LARGEST_GRAIN = 6.0  # deviation, 8-bit steps
SMALLEST_GRAIN_PX = 64  # pixels beside the lips, below which no grain is measured
MAD_TO_DEVIATION = 1.4826  # deviation of a normal distribution over its median absolute deviation


@lru_cache(maxsize=8)
def make_region_mask(shape: tuple[float, float, float, float, float], size_px: int) -> np.ndarray:
    """Make a soft mask (size, size) float32 in [0, 1] of a region, 0 outside: a superellipse with a smoothstep ramp.

    shape: JAW_REGION or LIPS_REGION.  The mask must not be written to.
    """
    x, y = np.meshgrid(*2 * [(np.arange(size_px, dtype=np.float32) + 0.5) / size_px])
    cx, cy, rx, ry, feather = shape
    within = 1 - ((np.abs(x - cx) / rx) ** SUPERELLIPSE_EXPONENT + (np.abs(y - cy) / ry) ** SUPERELLIPSE_EXPONENT) ** (
        1 / SUPERELLIPSE_EXPONENT
    )
    mask = smoothstep(within * min(rx, ry) / feather)
    mask.flags.writeable = False
    return mask


def get_mouth_box(crop: Crop, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1) of the frame's pixels that a mouth in this crop may change; empty outside of the frame.

    crop: of WORK_PX.  shape: of the frame.
    """
    cx, cy, rx, ry, _ = JAW_REGION
    corners = np.array([[cx + a * rx, cy + b * ry] for a in (-1, 1) for b in (-1, 1)]) * WORK_PX - 0.5
    p, size = crop.to_frame(corners), np.array(shape[1::-1])
    x0, y0 = np.clip(np.floor(p.min(0)), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(p.max(0)) + 1, 0, size).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


class MouthCompositor:
    """Composite a changed mouth into a frame.

    pixels: (H, W, 3) uint8.  crop: of WORK_PX in it, whose mouth box is not empty.
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
        """Move the jaw of the frame's own pixels; returns (h, w, 3) float32, and (h, w) bool where nothing moves.

        flow: (n, n, 2) in units of the crop, where each place reads.
        """
        f = grid_sample((flow * make_region_mask(JAW_REGION, len(flow))[..., None]).astype(np.float32), self.u)
        read = self.at + f @ (self.crop.frame_from_crop[:, :2].astype(np.float32) * WORK_PX).T
        return cv2.remap(
            self.pixels, read[..., 0], read[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32), (f == 0).all(-1)

    def blend(
        self, reference: tuple[np.ndarray, Crop], parts: FrameParts, grain: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Blend a reference mouth as rendered, as it would stand in this frame.

        reference: pixels, and a crop of WORK_PX in them.  parts: as rendered for it.
        grain: draws the grain of what is painted; None leaves it smooth.
        Returns the colours (h, w, 3) float32, and the share (h, w, 1) of them that is painted.
        """
        pixels, crop = reference
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
        """Make the patch of the frame.

        moved, still: from `warp_jaw`.  lips: from `blend`, or a mix of several.
        share: how much of the change is shown, in (0, 1].
        """
        lips = lips + fit_colour_plane(moved, lips, self.lips[..., 0])
        after = moved + self.lips * (lips - moved)
        after = np.clip(self.before + share * (after - self.before) + 0.5, 0, 255).astype(np.uint8)
        after = np.where((still & (self.lips[..., 0] == 0))[..., None], self.before, after)
        return FramePatch(self.box[0], self.box[1], self.before, after)


def grid_sample(field: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Sample a square field over the crop at u (h, w, 2) in units of the crop, bilinearly; 0 outside."""
    n = len(field)
    return cv2.remap(field, u[..., 0] * n - 0.5, u[..., 1] * n - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def fit_colour_plane(target: np.ndarray, source: np.ndarray, lips: np.ndarray) -> np.ndarray | float:
    """Fit what brings the colours of `source` to those of `target` around the lips: (h, w, 3), a plane for each
    channel.

    target, source: (h, w, 3) float32.  lips: (h, w) mask.
    Source: least squares over the ring in which the mask fades.
    """
    rows, columns = np.nonzero((lips > COLOUR_RING[0]) & (lips < COLOUR_RING[1]))
    if len(rows) < SMALLEST_RING_PX:
        return 0.0
    h, w = lips.shape
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, w, dtype=np.float32), np.linspace(-0.5, 0.5, h, dtype=np.float32))
    terms = np.stack([np.ones_like(x), x, y], -1)
    planes = np.linalg.lstsq(terms[rows, columns], (target - source)[rows, columns], rcond=None)[0]
    return np.clip(terms @ planes, -LARGEST_COLOUR_SHIFT, LARGEST_COLOUR_SHIFT).astype(np.float32)


def _sample_paint(paint: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sample the painted mouth where a frame reads the crop at u (h, w, 2): colours times cover, and cover, float32."""
    top, _, left, _ = MOUTH_PATCH
    at = (u[..., 0] * WORK_PX - 0.5 - left, u[..., 1] * WORK_PX - 0.5 - top)
    part = cv2.remap(paint.astype(np.float32), *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    cover = np.clip(part[..., 3:], 0, 1)
    return np.clip(part[..., :3], 0, 255 * cover), cover


def _make_grain(before: np.ndarray, lips: np.ndarray, rng: np.random.Generator) -> np.ndarray | float:
    """Draw noise (h, w, 1) in 8-bit steps, as strong as the grain of the picture beside the lips; 0 for few pixels."""
    gray = cv2.cvtColor(before, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = (gray - cv2.GaussianBlur(gray, (0, 0), GRAIN_BLUR_PX))[lips[..., 0] < 0.05]
    if fine.size < SMALLEST_GRAIN_PX:
        return 0.0
    deviation = min(MAD_TO_DEVIATION * float(np.median(np.abs(fine))) / GRAIN_GAIN, LARGEST_GRAIN)
    return (deviation * rng.standard_normal(gray.shape)).astype(np.float32)[..., None]


def compute_jaw_flow(current: np.ndarray, wanted: np.ndarray, size_px: int = FLOW_PX) -> np.ndarray:
    """Compute the flow (n, n, 2) of jaw and cheeks in units of the crop, bilinearly from two lattices (2, 32, 32).

    current, wanted: of the face as it is and as it is to be. Lips themselves are replaced, not moved.
    """
    change = np.asarray(current - wanted, np.float32).transpose(1, 2, 0)
    return cv2.resize(change, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
