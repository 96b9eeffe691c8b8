"""Video frames prepared for CLIP and the sync encoder; resized as bytes, as published weights were trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy as np

CLIP_PX = 384  # side of CLIP's images
SYNC_PX = 224  # side of the sync encoder's images
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of RGB in [0, 1]
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)  # of RGB in [0, 1]


def resize_frame(pixels: np.ndarray, height_px: int, width_px: int) -> torch.Tensor:
    """Resize a frame to (3, height_px, width_px) uint8, bicubic with antialiasing, rounded to bytes.

    pixels: (H, W, 3) uint8 RGB.
    Source: MMAudio; in float the hard edges differ by up to 10 levels.
    """
    frame = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return F.interpolate(frame, (height_px, width_px), mode="bicubic", antialias=True)[0]


def resize_for_clip(pixels: np.ndarray, side_px: int = CLIP_PX) -> torch.Tensor:
    """Resize a frame to (3, side_px, side_px) uint8; its aspect ratio is not kept. Source: MMAudio."""
    return resize_frame(pixels, side_px, side_px)


def normalize_for_clip(frames: torch.Tensor) -> torch.Tensor:
    """Normalize uint8 frames (..., 3, H, W) to CLIP's float input. Source: CLIP, 2103.00020."""
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (frames.float() / 255 - mean) / std


def crop_for_sync(pixels: np.ndarray, side_px: int = SYNC_PX, focus: tuple[float, float] | None = None) -> torch.Tensor:
    """Crop a square (3, side_px, side_px) uint8 from a frame after resizing its short side.

    pixels: (H, W, 3) uint8 RGB.
    focus: (x, y) in pixels of the frame at the centre of the square, as far as the frame reaches; None is the middle.
    Source: MMAudio for the middle, halves rounded to even.
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
    """Normalize uint8 frames to the sync encoder's float input in [-1, 1]. Source: Synchformer."""
    return (frames.float() / 255 - 0.5) / 0.5
