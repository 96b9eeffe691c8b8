"""Video frames as CLIP and the sync encoder want them; resized as bytes, as the published weights saw them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy as np

CLIP_PX, SYNC_PX = 384, 224
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def resize_frame(pixels: np.ndarray, height_px: int, width_px: int) -> torch.Tensor:
    """(3, height_px, width_px) uint8 of a frame, bicubic with antialiasing, rounded to bytes.

    pixels: (H, W, 3) uint8 RGB.
    Source: MMAudio; in float the hard edges differ by up to 10 levels.
    """
    frame = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return F.interpolate(frame, (height_px, width_px), mode="bicubic", antialias=True)[0]


def resize_for_clip(pixels: np.ndarray, side_px: int = CLIP_PX) -> torch.Tensor:
    """(3, side_px, side_px) uint8 of a frame; its aspect is not kept. Source: MMAudio."""
    return resize_frame(pixels, side_px, side_px)


def normalize_for_clip(frames: torch.Tensor) -> torch.Tensor:
    """CLIP's float input of uint8 frames (..., 3, H, W). Source: CLIP, 2103.00020."""
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (frames.float() / 255 - mean) / std


def crop_for_sync(pixels: np.ndarray, side_px: int = SYNC_PX, focus=None) -> torch.Tensor:
    """(3, side_px, side_px) uint8 of a frame: short side resized, then a square cut out.

    pixels: (H, W, 3) uint8 RGB.
    focus: (x, y) in pixels of the frame that the square shall be centred on, as far as the frame reaches; None is the
    middle.
    Source: MMAudio for the middle, halves rounded to even; focus is ours: what lies outside of the square is not seen.
    """
    h, w = pixels.shape[:2]
    if h <= w:
        size = side_px, int(side_px * w / h)
    else:
        size = int(side_px * h / w), side_px
    small = resize_frame(pixels, *size)
    if focus is None:
        top, left = (round((side - side_px) / 2) for side in size)
    else:
        places = (focus[1] * size[0] / h, focus[0] * size[1] / w)
        top, left = (min(max(round(at - side_px / 2), 0), side - side_px) for at, side in zip(places, size))
    return small[:, top : top + side_px, left : left + side_px]


def normalize_for_sync(frames: torch.Tensor) -> torch.Tensor:
    """The sync encoder's float input in [-1, 1] of uint8 frames. Source: Synchformer."""
    return (frames.float() / 255 - 0.5) / 0.5
