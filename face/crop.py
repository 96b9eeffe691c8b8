"""Crop faces aligned: eyes and mouth at fixed places of a unit square, with the matrices both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mouthpiece.engine.contracts import FaceTrack

# eye left, eye right, middle of the mouth corners, in units of the crop's side
TEMPLATE = np.array([[0.355, 0.34], [0.645, 0.34], [0.50, 0.64]])
PYRAMID_SCALE = 0.12  # crop pixels to a frame pixel below which the frame is first shrunk by whole factors
WHOLE_FRAME_PX = 4_000_000  # pixels of frames that are filtered whole


def fit_similarity(p_source: np.ndarray, p_target: np.ndarray) -> np.ndarray:
    """Fit a least-squares similarity to points (N, 2): the matrix (2, 3) target_from_source.

    Raises InvalidInputError when the source points fall on one spot or are not finite.
    Source: closed form, no reflection (Umeyama 1991, two dimensions).
    """
    src, dst = np.asarray(p_source, float), np.asarray(p_target, float)
    s, d = src - src.mean(0), dst - dst.mean(0)
    n = (s**2).sum()
    if not n > 0 or not np.isfinite(d).all():
        raise InvalidInputError(
            f"face points {src.round(1).tolist()}: cannot be aligned.",
            code="bad_points",
            hint="Choose the place of the face with --face x,y.",
        )
    a, b = (s * d).sum() / n, (s[:, 0] * d[:, 1] - s[:, 1] * d[:, 0]).sum() / n
    m = np.array([[a, -b], [b, a]])
    return np.c_[m, dst.mean(0) - m @ src.mean(0)]


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """Invert an affine matrix (2, 3)."""
    return np.linalg.inv(np.r_[matrix, [[0, 0, 1]]])[:2]


def transform_points(matrix: np.ndarray, points: ArrayLike) -> np.ndarray:
    """Transform points (..., 2) by a matrix (2, 3)."""
    return np.asarray(points, float) @ matrix[:, :2].T + matrix[:, 2]


@dataclass(frozen=True, eq=False)
class Crop:
    """A square aligned crop; the centre of crop pixel (i, j) is the point (i + 0.5, j + 0.5) / size of the unit square.

    crop_from_frame, frame_from_crop: (2, 3) similarities, inverse to each other, pixels to pixels.
    size_px: side of the crop.
    Source: LivePortrait, for both matrices in one place.
    """

    crop_from_frame: np.ndarray
    frame_from_crop: np.ndarray
    size_px: int

    @property
    def scale(self) -> float:
        """Return the crop pixels to a frame pixel."""
        return float(np.hypot(*self.crop_from_frame[:, 0]))

    def extract(self, frame: np.ndarray) -> np.ndarray:
        """Extract the crop's pixels from a frame, uint8 (size, size, 3); the frame's border is repeated outside.

        frame: uint8 (H, W, 3).
        A crop that shrinks is filtered: by a Gaussian before the bicubic warp, huge frames by areas before that.
        """
        if frame.shape[0] * frame.shape[1] > WHOLE_FRAME_PX or self.scale < PYRAMID_SCALE:
            frame, near = self.to_local(frame)
            return near._sample(frame)
        return self._sample(frame)

    def _sample(self, frame: np.ndarray) -> np.ndarray:
        """Filter and warp a frame of moderate size."""
        matrix, scale = self.crop_from_frame, self.scale
        if scale < PYRAMID_SCALE:
            factor = int(0.3 / scale)
            h, w = (max(1, n // factor) for n in frame.shape[:2])
            fy, fx = frame.shape[0] / h, frame.shape[1] / w
            frame = cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)
            large_from_small = np.array([[fx, 0, (fx - 1) / 2], [0, fy, (fy - 1) / 2], [0, 0, 1]])
            matrix, scale = matrix @ large_from_small, scale * factor
        if scale < 0.6:
            frame = cv2.GaussianBlur(frame, (0, 0), 0.5 * (1 / scale - 1) + 1e-3)
        return cv2.warpAffine(
            frame, matrix, (self.size_px,) * 2, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )

    def to_local(self, frame: np.ndarray) -> tuple[np.ndarray, Crop]:
        """Cut out the part of a frame that the crop reaches with its filters: (part, the same crop of that part).

        frame: uint8 (H, W[, 3]).
        """
        h, w = frame.shape[:2]
        n = self.size_px
        corners = transform_points(self.frame_from_crop, [[0, 0], [n, 0], [0, n], [n, n]])
        reach = 4 / self.scale + 8
        low = np.clip(np.floor(corners.min(0) - reach), 0, [w - 1, h - 1]).astype(int)
        high = np.clip(np.ceil(corners.max(0) + reach), low + 1, [w, h]).astype(int)
        matrix = self.crop_from_frame.copy()
        matrix[:, 2] += matrix[:, :2] @ low
        return np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]]), _build_crop(matrix, n)

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """Convert frame points (..., 2) to crop pixels."""
        return transform_points(self.crop_from_frame, points)

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Convert crop points (..., 2) to frame pixels."""
        return transform_points(self.frame_from_crop, points)

    def with_size(self, size_px: int) -> Crop:
        """Return the crop of the same square at another number of pixels."""
        r = size_px / self.size_px
        return _build_crop(
            np.array([[r, 0, (r - 1) / 2], [0, r, (r - 1) / 2], [0, 0, 1]]) @ _to_homogeneous(self.crop_from_frame),
            size_px,
        )

    def with_border(self, border: float) -> Crop:
        """Return the crop with a border on each side, in units of its side, at the same scale."""
        pad = round(border * self.size_px)
        return _build_crop(
            np.array([[1, 0, pad], [0, 1, pad], [0, 0, 1]]) @ _to_homogeneous(self.crop_from_frame),
            self.size_px + 2 * pad,
        )


def _to_homogeneous(matrix: np.ndarray) -> np.ndarray:
    """Append the row 0 0 1 to an affine matrix."""
    return np.r_[matrix, [[0, 0, 1]]]


def _build_crop(matrix: np.ndarray, size_px: int) -> Crop:
    """Build a crop of its matrix crop_from_frame."""
    return Crop(matrix[:2], invert_affine(matrix[:2]), int(size_px))


def crop_face(track: FaceTrack, frame: int, size_px: int) -> Crop | None:
    """Make the aligned crop of a tracked face in one frame; None where the face is not seen."""
    points = track[frame]
    return None if points is None else make_crop(points, size_px)


def make_crop(points: np.ndarray, size_px: int) -> Crop:
    """Make the aligned crop of a face.

    points: (4, 2) as in `Face`, frame pixels.  size_px: side of the crop.
    Raises InvalidInputError when the points fall on one spot.
    Eyes and the middle of the mouth corners are fitted to TEMPLATE by least squares.
    """
    three = np.array([points[0], points[1], (np.asarray(points[2]) + points[3]) / 2])
    return _build_crop(fit_similarity(three, TEMPLATE * size_px - 0.5), size_px)
