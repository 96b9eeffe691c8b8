"""Composite rendered crops into their frames, at the frame's own resolution; pixels outside the mask do not change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.errors import UsageError
from mouthpiece.face.crop import transform_points

if TYPE_CHECKING:
    from mouthpiece.face.crop import Crop

MAX_RING_PX = 4096  # most pixels compared by the colour match
GAIN_LIMITS = (0.7, 1.4)  # least and greatest gain of the colour match
OFFSET_LIMIT = 40.0  # greatest shift of a colour, 8-bit steps
MIN_SPREAD = 4.0  # standard deviations below this say nothing about contrast


@dataclass(frozen=True, eq=False)
class ColorMatch:
    """Match rendered colours to the frame's: gain * value + offset, a channel each.

    gain, offset: (3,) float; offset in 8-bit steps.
    """

    gain: np.ndarray
    offset: np.ndarray

    def apply(self, rendered: np.ndarray) -> np.ndarray:
        """Apply the match to a rendered picture, uint8 (H, W, 3)."""
        steps = np.arange(256)[:, None]
        table = np.clip(steps * self.gain + self.offset + 0.5, 0, 255).astype(np.uint8)
        return cv2.LUT(rendered, table[None])


def match_colors(target: np.ndarray, source: np.ndarray) -> ColorMatch:
    """Match the mean and spread of source pixels to those of target pixels; limited against bad patches.

    target, source: (N, 3) pixels, 8-bit steps.
    Source: Reinhard et al. 2001, in RGB.
    """
    target, source = np.asarray(target, float), np.asarray(source, float)
    spread = source.std(0)
    gain = np.where(spread > MIN_SPREAD, target.std(0) / np.maximum(spread, 1e-6), 1.0).clip(*GAIN_LIMITS)
    shift = (target.mean(0) - source.mean(0)).clip(-OFFSET_LIMIT, OFFSET_LIMIT)
    return ColorMatch(gain, source.mean(0) * (1 - gain) + shift)


class CropCompositor:
    """Paste rendered crops into frames; made once for a crop that stands still, once a frame for a moving one.

    frame_shape: (H, W[, 3]) of the frames.
    crop: the Crop whose square is rendered; its size_px is the rendered pictures' size.
    mask: float32 (size_px, size_px) in [0, 1], in crop space, as from `mouthpiece.face.masks`.
    Raises UsageError when mask and crop do not fit, or the mask misses the frame.
    """

    def __init__(self, frame_shape: tuple[int, ...], crop: Crop, mask: np.ndarray) -> None:
        if mask.shape != (crop.size_px, crop.size_px):
            raise UsageError(
                f"mask {mask.shape}: need ({crop.size_px}, {crop.size_px}), the crop's size.",
                code="bad_mask",
                hint="Make the mask at crop.size_px.",
            )
        self.crop = crop
        self.frame_shape = tuple(frame_shape[:2])
        self._box = self._find_box(mask)
        x0, y0, x1, y1 = self._box
        self._part_from_crop = crop.frame_from_crop - np.array([[0, 0, x0], [0, 0, y0]])
        self._blur = 0.5 * (crop.scale - 1) if crop.scale > 1 / 0.6 else 0.0
        soft = cv2.GaussianBlur(mask, (0, 0), self._blur) if self._blur else mask
        self._mask = cv2.warpAffine(soft, self._part_from_crop, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        self._keep = 1 - self._mask
        self._ring = self._find_ring(mask)

    def _find_box(self, mask: np.ndarray) -> tuple[int, int, int, int]:
        """Find the frame pixels that the mask reaches: left, top, right, bottom."""
        ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        h, w = self.frame_shape
        if len(ys) == 0:
            raise UsageError("mask: empty.", hint="Give one that is above 0 somewhere.", code="bad_mask")
        x0, x1, y0, y1 = xs[0] - 1, xs[-1] + 1, ys[0] - 1, ys[-1] + 1
        corners = transform_points(self.crop.frame_from_crop, [[x0, y0], [x1, y0], [x0, y1], [x1, y1]])
        low = np.clip(np.floor(corners.min(0)), 0, [w, h]).astype(int)
        high = np.clip(np.ceil(corners.max(0)) + 1, 0, [w, h]).astype(int)
        if (high <= low).any():
            raise UsageError(
                f"crop at {corners.mean(0).round().tolist()}: lies outside the {w} x {h} frame.",
                code="bad_crop",
                hint="Take the crop from a face of this frame.",
            )
        return (*low, *high)

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom of the only pixels that are written, in the frame, ends excluded."""
        left, top, right, bottom = (int(n) for n in self._box)
        return left, top, right, bottom

    def _find_ring(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find where the mask fades: crop pixels (N, 2) as (x, y) that lie in the frame, and their frame pixels."""
        ys, xs = np.nonzero((mask > 0.02) & (mask < 0.6))
        at = np.c_[xs, ys][:: max(1, len(xs) // MAX_RING_PX)]
        there = np.rint(transform_points(self.crop.frame_from_crop, at)).astype(int)
        seen = ((there >= 0) & (there < self.frame_shape[::-1])).all(1)
        return at[seen], there[seen]

    def match(self, frame: np.ndarray, rendered: np.ndarray) -> ColorMatch:
        """Match the colours of a rendered crop to the frame, from the ring where the mask fades.

        frame: uint8 (H, W, 3).  rendered: uint8 (size_px, size_px, 3).
        The caller decides whether to match once a clip, or to smooth matches over time.
        """
        at, there = self._ring
        if len(at) < 16:
            return ColorMatch(np.ones(3), np.zeros(3))
        return match_colors(frame[there[:, 1], there[:, 0]], rendered[at[:, 1], at[:, 0]])

    def paste(self, frame: np.ndarray, rendered: np.ndarray, match: ColorMatch | None = None) -> np.ndarray:
        """Paste a rendered crop into a copy of a frame; bit for bit the same where the mask is 0.

        frame: uint8 (H, W, 3).  rendered: uint8 (size_px, size_px, 3).
        match: ColorMatch for the rendered pixels, or None to take them as they are.
        Raises UsageError when a size differs from what the compositor was made for.
        """
        n = self.crop.size_px
        if frame.shape != (*self.frame_shape, 3) or rendered.shape != (n, n, 3):
            raise UsageError(
                f"frame {frame.shape} and render {rendered.shape}: need {(*self.frame_shape, 3)} and {(n, n, 3)}.",
                code="bad_image",
                hint="Make one CropCompositor for each size of frame.",
            )
        if match is not None:
            rendered = match.apply(rendered)
        if self._blur:
            rendered = cv2.GaussianBlur(rendered, (0, 0), self._blur)
        x0, y0, x1, y1 = self._box
        warped = cv2.warpAffine(
            rendered, self._part_from_crop, (x1 - x0, y1 - y0), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        out = frame.copy()
        part = np.ascontiguousarray(frame[y0:y1, x0:x1])
        out[y0:y1, x0:x1] = cv2.blendLinear(warped, part, self._mask, self._keep)
        return out
