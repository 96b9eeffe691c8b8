"""The mouth of one frame of a film changed in place: its own pixels moved, what they lack painted, the rest left alone."""

from functools import lru_cache

import cv2
import numpy as np

from engine.film import Patch
from lipsync.renderer import FLOW_PX, PATCH, WORK_PX

# centre x, y and half axes x, y of what may move, in units of the crop: mouth, jaw and chin; eyes and nostrils stay out
REGION = (0.50, 0.73, 0.36, 0.27)
ROUNDNESS, FEATHER = 2.5, 0.09
GRAIN_BLUR_PX, GRAIN_LEFT = 1.0, 0.87  # the high-pass in which grain is measured, and what it leaves of white noise
MOST_GRAIN = 6.0                       # deviation in 8-bit steps


@lru_cache(maxsize=4)
def jaw(size_px):
    """Soft mask of what may move, float32 (size, size) in [0, 1]: 0 outside mouth and jaw. Source: ours; superellipse, smoothstep."""
    x, y = np.meshgrid(*2 * [(np.arange(size_px, dtype=np.float32) + 0.5) / size_px])
    cx, cy, rx, ry = REGION
    within = 1 - ((np.abs(x - cx) / rx) ** ROUNDNESS + (np.abs(y - cy) / ry) ** ROUNDNESS) ** (1 / ROUNDNESS)
    t = np.clip(within * min(rx, ry) / FEATHER, 0, 1)
    mask = t * t * (3 - 2 * t)
    mask.flags.writeable = False
    return mask


def box_of(crop, shape):
    """(x0, y0, x1, y1) of the frame's pixels that a mouth in this crop may change, within the frame; empty outside.

    crop: Crop of WORK_PX.  shape: of the frame.
    Source: ours.
    """
    cx, cy, rx, ry = REGION
    corners = np.array([[cx + a * rx, cy + b * ry] for a in (-1, 1) for b in (-1, 1)]) * WORK_PX - 0.5
    p, size = crop.to_frame(corners), np.array(shape[1::-1])
    x0, y0 = np.clip(np.floor(p.min(0)), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(p.max(0)) + 1, 0, size).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def reshaped(pixels, crop, parts, share=1.0, grain=None):
    """The Patch of a frame with its mouth as rendered; None when it lies outside of the frame.

    pixels: uint8 (H, W, 3).  crop: Crop of WORK_PX.
    parts: FrameParts of the renderer for this crop.
    share: how much of the change is shown, (0, 1].
    grain: numpy Generator that draws the grain of what is painted; None leaves it smooth.
    Source: ours; outside of `jaw` the flow is zero and nothing is painted, so pixels there keep their values.
    """
    x0, y0, x1, y1 = box_of(crop, pixels.shape)
    if x1 <= x0 or y1 <= y0:
        return None
    at = np.stack(np.meshgrid(np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)), -1)
    m = crop.crop_from_frame.astype(np.float32)
    u = (at @ m[:, :2].T + m[:, 2] + 0.5) / WORK_PX
    flow = parts.flow * jaw(FLOW_PX)[..., None]
    f = cv2.remap(flow, u[..., 0] * FLOW_PX - 0.5, u[..., 1] * FLOW_PX - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    read = at + f @ (crop.frame_from_crop[:, :2].astype(np.float32) * WORK_PX).T
    moved = cv2.remap(pixels, read[..., 0], read[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    before = pixels[y0:y1, x0:x1].copy()
    painted, cover = _painted(parts.paint, u)
    if grain is not None:
        painted = painted + cover * _grain(before, cover, grain)
    after = moved * (1 - cover) + painted
    after = before + share * (after - before)
    still = (f == 0).all(-1) & (cover[..., 0] == 0)
    after = np.where(still[..., None], before, np.clip(after + 0.5, 0, 255).astype(np.uint8))
    return Patch(x0, y0, before, after)


def _painted(paint, u):
    """(colours times cover, cover) float32 of the painted mouth where a frame reads the crop at u (h, w, 2)."""
    top, bottom, left, right = PATCH
    at = (u[..., 0] * WORK_PX - 0.5 - left, u[..., 1] * WORK_PX - 0.5 - top)
    part = cv2.remap((paint * jaw(WORK_PX)[top:bottom, left:right, None]).astype(np.float32), *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    cover = np.clip(part[..., 3:], 0, 1)
    return np.clip(part[..., :3], 0, 255 * cover), cover


def _grain(before, cover, rng):
    """Noise (h, w, 1) in 8-bit steps, as strong as in the picture around what is painted."""
    gray = cv2.cvtColor(before, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = (gray - cv2.GaussianBlur(gray, (0, 0), GRAIN_BLUR_PX))[cover[..., 0] < 0.05]
    if fine.size < 64:
        return 0.0
    deviation = min(1.4826 * float(np.median(np.abs(fine))) / GRAIN_LEFT, MOST_GRAIN)
    return (deviation * rng.standard_normal(gray.shape)).astype(np.float32)[..., None]
