"""Where eyes and mouth of a portrait are open: a small network segments them, once a clip. A face mesh taught it and
does
not run here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import nn

from mouthpiece.engine.encoders.motion import BLINK_INDEX
from mouthpiece.engine.weights.loading import load_state, load_state_into
from mouthpiece.lipsync.portrait.unet import ResidualUNet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mouthpiece.engine.encoders.motion import MotionSpace
    from mouthpiece.face.crop import Crop

HEIGHT_PX = 64  # of the picture of an eye or a mouth that a network is given
WIDTH_PX = 96
SMALLEST_EYE_HEIGHT = 0.012  # units of the crop; an eye that is less open has no lid to shut
SMALLEST_EYE_WIDTH = 0.05  # units of the crop
SMOOTH_PX = 1.5  # deviation of the smoothing along lids and lips, px
PART_THRESHOLD = 0.5  # probability from which a pixel belongs to a component
COMPONENT_MARGIN_PX = 9  # side of the square by which the largest component is dilated


@dataclass(frozen=True)
class NetworkWindow:
    """Place the picture that one of the networks is given in a face's crop.

    crop_px: side of the crop that it is cut from, pixel by pixel.  at: its centre x, y in units of the crop.
    """

    crop_px: int
    at: tuple[float, float]

    @property
    def corner(self) -> tuple[int, int]:
        """Return (row, column) of its first pixel in that crop."""
        x, y = self.at
        return round(y * self.crop_px - HEIGHT_PX / 2), round(x * self.crop_px - WIDTH_PX / 2)

    def cut(self, taken: np.ndarray) -> np.ndarray:
        """Cut its picture (64, 96, 3) out of a crop (crop_px, crop_px, 3)."""
        row, column = self.corner
        return taken[row : row + HEIGHT_PX, column : column + WIDTH_PX]


# the eye at the left of the picture; the other is its mirror image
EYE_WINDOW = NetworkWindow(400, (0.358, 0.345))
MOUTH_WINDOW = NetworkWindow(240, (0.5, 0.665))


@dataclass(frozen=True)
class EyeContour:
    """Describe an open eye, column by column, in units of the crop, y downward.

    x: (N,) evenly spaced.  upper, lower: (N,) edges of its lids.
    """

    x: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    @property
    def height(self) -> float:
        """Return how far the eye is open at its widest, in units of the crop."""
        return float((self.lower - self.upper).max())


class OpeningSegmenter(nn.Module):
    """Segment what lies between lids, or between lips: pictures (B, 3, 64, 96) in [-1, 1] -> logits (B, 1, 64, 96).

    Of an eye the inner corner must be at the right.
    widths: channels of both U-Nets, from fine to coarse.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 48, 64)) -> None:
        super().__init__()
        self.config = dict(widths=list(widths))
        self.eye_net, self.mouth_net = ResidualUNet(3, widths), ResidualUNet(3, widths)
        self.eye_out, self.mouth_out = (nn.Conv2d(widths[0], 1, 3, padding=1) for _ in range(2))
        for layer in (self.eye_out, self.mouth_out):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None  # a convolution's default
            nn.init.constant_(layer.bias, -2.0)

    def segment_eyes(self, pictures: torch.Tensor) -> torch.Tensor:
        """Predict logits of what lies between the lids."""
        return self.eye_out(self.eye_net(pictures.contiguous(memory_format=torch.channels_last))).float()

    def segment_mouth(self, pictures: torch.Tensor) -> torch.Tensor:
        """Predict logits of what lies between the lips."""
        return self.mouth_out(self.mouth_net(pictures.contiguous(memory_format=torch.channels_last))).float()


def load_opening_segmenter() -> OpeningSegmenter:
    """Load the embedded segmenter, in eval. Raises MissingDependencyError."""
    state, config = load_state("finder")
    return load_state_into(OpeningSegmenter(config["widths"]), state, "finder").eval().float()


def keep_largest_component(share: np.ndarray) -> np.ndarray | None:
    """Keep the largest connected component of probabilities (64, 96); None where there is none."""
    count, parts = cv2.connectedComponents((share > PART_THRESHOLD).astype(np.uint8))
    if count < 2:
        return None
    largest = 1 + np.argmax([(parts == k).sum() for k in range(1, count)])
    return share * cv2.dilate((parts == largest).astype(np.uint8), np.ones((COMPONENT_MARGIN_PX,) * 2, np.uint8))


def to_eye_contour(share: np.ndarray, mirrored: bool) -> EyeContour | None:
    """Convert probabilities (64, 96) of open eye to a contour; None where it is shut, hidden or hardly open.

    mirrored: whether it is the one at the right of the picture.
    The sum of a column is its height, to fractions of a pixel.
    """
    component = keep_largest_component(share)
    if component is None:
        return None
    height = component.sum(0)
    sure = np.flatnonzero(height > 1)
    if len(sure) < 2:
        return None
    middle, columns = (np.arange(HEIGHT_PX) @ component)[sure] / height[sure] + 0.5, np.arange(WIDTH_PX)
    middle, height = (gaussian_filter1d(track, SMOOTH_PX) for track in (np.interp(columns, sure, middle), height))
    y, x = (
        (EYE_WINDOW.corner[0] + middle) / EYE_WINDOW.crop_px,
        (EYE_WINDOW.corner[1] + columns + 0.5) / EYE_WINDOW.crop_px,
    )
    half = height / 2 / EYE_WINDOW.crop_px
    if 2 * half.max() < SMALLEST_EYE_HEIGHT or (half > half.max() / 4).sum() / EYE_WINDOW.crop_px < SMALLEST_EYE_WIDTH:
        return None
    if mirrored:
        x, y, half = 1 - x[::-1], y[::-1], half[::-1]
    return EyeContour(*(v.astype(np.float32) for v in (x, y - half, y + half)))


def measure_opening(share: np.ndarray) -> float:
    """Measure how far a mouth is open, in units of the crop, from probabilities (64, 96); 0 shut."""
    component = keep_largest_component(share)
    if component is None:
        return 0.0
    return float(gaussian_filter1d(component.sum(0), SMOOTH_PX).max()) / MOUTH_WINDOW.crop_px


def _predict_shares(network: Callable, pictures: np.ndarray) -> np.ndarray:
    """Predict probabilities (B, 64, 96) for pictures (B, 64, 96, 3) uint8."""
    return torch.sigmoid(network(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1))[:, 0].numpy()


@torch.inference_mode()
def find_eyes(segmenter: OpeningSegmenter, pixels: np.ndarray, crop: Crop) -> tuple[EyeContour, ...]:
    """Find the eyes of a portrait that are open and visible: none, one or two.

    pixels: (H, W, 3) uint8.  crop: of its face, any size.
    """
    taken = crop.with_size(EYE_WINDOW.crop_px).extract(pixels)
    shares = _predict_shares(segmenter.segment_eyes, np.stack([EYE_WINDOW.cut(taken), EYE_WINDOW.cut(taken[:, ::-1])]))
    found = (to_eye_contour(share, mirrored) for share, mirrored in zip(shares, (False, True)))
    return tuple(eye for eye in found if eye is not None)


@torch.inference_mode()
def estimate_opening(segmenter: OpeningSegmenter, pixels: np.ndarray, crop: Crop) -> float:
    """Estimate how far the mouth of a portrait is open, in units of the crop: the mean over the picture and its mirror
    image.

    pixels: (H, W, 3) uint8.  crop: of its face, any size.
    """
    seen = MOUTH_WINDOW.cut(crop.with_size(MOUTH_WINDOW.crop_px).extract(pixels))
    shares = _predict_shares(segmenter.segment_mouth, np.stack([seen, seen[:, ::-1]]))
    return float(np.mean([measure_opening(share) for share in shares]))


@torch.inference_mode()
def estimate_openings(segmenter: OpeningSegmenter, crops: np.ndarray) -> np.ndarray:
    """Estimate how far the mouths of crops (N, S, S, 3) uint8 are open, (N,) in units of the crop.

    On held-out clips it correlates with a face mesh by 0.86 to 0.99 in 128 px, the motion encoder's code by 0.00 to
    0.98.
    """
    size = (MOUTH_WINDOW.crop_px,) * 2
    pictures = np.stack([MOUTH_WINDOW.cut(cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR)) for crop in crops])
    return np.array([measure_opening(share) for share in _predict_shares(segmenter.segment_mouth, pictures)])


def correct_opening(codes: np.ndarray, space: MotionSpace, openings: np.ndarray | Sequence[float]) -> np.ndarray:
    """Correct codes (N, 26) so that they have the measured openings (N,), in units of the crop.

    As little else as possible is changed.
    codes: as the motion encoder predicts them.
    Of strangers the encoder predicts openings too small, and what is not seen as open cannot be shut.
    """
    lips = np.pad(space.lips[:BLINK_INDEX].numpy(), (0, codes.shape[1] - BLINK_INDEX))
    return (codes + np.outer(np.asarray(openings) - codes @ lips, lips) / max(float(lips @ lips), 1e-9)).astype(
        np.float32
    )
