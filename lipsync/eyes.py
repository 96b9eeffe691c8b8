"""Where a portrait's eyes are open: a small network looks at both, once a clip; the mesh taught it and does not run here."""
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import nn

from lipsync.renderer import UNet

EYE_HEIGHT_PX, EYE_WIDTH_PX = 64, 96   # picture of one eye
CROP_PX = 400                          # side of the crop that it is cut out of, one pixel to one
EYE_AT = (0.358, 0.345)                # its middle in units of the crop, the eye at the left of the picture; the other is its mirror image
LEAST_HEIGHT, LEAST_WIDTH = 0.012, 0.05   # units of the crop; what is less open has no lid to shut
SMOOTH_PX = 1.5                        # deviation along the lids


@dataclass(frozen=True)
class Eye:
    """An open eye, column by column. x: (N,) evenly spaced, upper, lower: (N,) edges of its lids, all in units of the crop, y downward."""
    x: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    @property
    def height(self):
        """How far it is open, in units of the crop. Source: ours."""
        return float((self.lower - self.upper).max())


class EyeFinder(nn.Module):
    """Pictures of eyes (B, 3, 64, 96) in [-1, 1], inner corner at the right -> logits (B, 1, 64, 96) of what lies between the lids. Source: ours."""

    def __init__(self, widths=(16, 32, 48, 64)):
        super().__init__()
        self.config = dict(widths=list(widths))
        self.net = UNet(3, widths)
        self.out = nn.Conv2d(widths[0], 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, -2.0)

    def forward(self, eyes):
        return self.out(self.net(eyes.contiguous(memory_format=torch.channels_last))).float()


def eye_pictures(taken):
    """Both eyes (2, 64, 96, 3) uint8 of a crop (400, 400, 3), that at the right of the picture mirrored. Source: ours."""
    top, left = (round(v * CROP_PX - side / 2) for v, side in zip(EYE_AT[::-1], (EYE_HEIGHT_PX, EYE_WIDTH_PX)))
    rows, columns = slice(top, top + EYE_HEIGHT_PX), slice(left, left + EYE_WIDTH_PX)
    return np.stack([taken[rows, columns], taken[:, ::-1][rows, columns]])


def eye_of(share, mirrored):
    """The Eye that shares (64, 96) of open eye in [0, 1] show, or None where it is shut, hidden or hardly open.

    mirrored: whether it is the one at the right of the picture.
    Source: ours; a column's sum is its height, to parts of a pixel.
    """
    count, parts = cv2.connectedComponents((share > 0.5).astype(np.uint8))
    if count < 2:
        return None
    largest = 1 + np.argmax([(parts == k).sum() for k in range(1, count)])
    near = cv2.dilate((parts == largest).astype(np.uint8), np.ones((9, 9), np.uint8))
    share = share * near
    height = share.sum(0)
    sure = np.flatnonzero(height > 1)
    if len(sure) < 2:
        return None
    middle = (np.arange(len(share)) @ share)[sure] / height[sure] + 0.5
    columns = np.arange(share.shape[1])
    middle = gaussian_filter1d(np.interp(columns, sure, middle), SMOOTH_PX)
    height = gaussian_filter1d(height, SMOOTH_PX)
    y = (round(EYE_AT[1] * CROP_PX - EYE_HEIGHT_PX / 2) + middle) / CROP_PX
    x = (round(EYE_AT[0] * CROP_PX - EYE_WIDTH_PX / 2) + columns + 0.5) / CROP_PX
    half = height / 2 / CROP_PX
    if 2 * half.max() < LEAST_HEIGHT or (half > half.max() / 4).sum() / CROP_PX < LEAST_WIDTH:
        return None
    if mirrored:
        x, y, half = 1 - x[::-1], y[::-1], half[::-1]
    return Eye(*(v.astype(np.float32) for v in (x, y - half, y + half)))


@torch.inference_mode()
def find_eyes(finder, pixels, crop):
    """The Eyes of a portrait that are open and to be seen: none, one or two.

    finder: EyeFinder in eval.  pixels: (H, W, 3) uint8.  crop: Crop of its face, any size.
    Source: ours.
    """
    eyes = eye_pictures(crop.resized(CROP_PX).take(pixels))
    shares = torch.sigmoid(finder(torch.from_numpy(eyes).permute(0, 3, 1, 2).float() / 127.5 - 1))[:, 0].numpy()
    found = (eye_of(share, mirrored) for share, mirrored in zip(shares, (False, True)))
    return tuple(eye for eye in found if eye is not None)
