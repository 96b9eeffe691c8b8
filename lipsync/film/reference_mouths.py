"""Reference mouths: closed and open moments of a film that changed lips are rendered from, so that nothing of the old
words shows through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.face.crop import Crop, make_crop
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX

CLOSED_INTERVAL_S = 1.5  # seconds: the least open moment of every interval is kept
OPEN_INTERVAL_S = 6.0  # seconds: and the most open one of every interval
YAW_BIN_DEG = 8.0  # degrees: of every interval and turn of the head this wide
YAW_BINS = 16  # turns told apart
OPEN_MIN_SHARE = 0.6  # of the way from the shot's least open moment to its most open one that an open mouth must have
OPEN_MIN_DISTANCE = 0.02  # opening above the least open moment that it must have, units of the crop
CLOSED_MAX_SHARE = 0.4  # of the way from the least open moment to the median one, beyond which a mouth is not closed
CLOSED_MIN_RANGE = 0.006  # opening, units of the crop, that this way is taken to have at least
HEAD_REGION = (44, 74, 42, 86)  # rows and columns of the 128 px crop that show how the head is held, px
HEAD_CROP_PX = 128  # side of that crop
HEAD_DESCRIPTOR_PX = (11, 8)  # width and height to which the region is reduced, px
NEARBY_S = 10.0  # seconds: references further away serve only frames that have none nearer
TIME_PENALTY_PER_S = 0.01  # similarity that a second of distance costs
SHARE_SMOOTHING_S = 0.12  # seconds, deviation of the Gaussian over which one reference gives way to another
SOFTMAX_WIDTH = 0.02  # difference in similarity that changes the ratio of two shares by e
SMALLEST_SHARE = 0.08  # smaller shares are dropped
SHARE_STEPS = 64  # shares are rounded to this fraction, which hides the last bits of a processor
BLOCK_FRAMES = 500  # frames whose similarities are computed together
FALLBACK_FRAME_S = 0.04  # seconds of a frame, of a film with one frame
JPEG_QUALITY = 97  # of 100, at full chroma resolution


@dataclass(frozen=True, eq=False)
class ReferenceMouth:
    """Hold a moment of a film from which lips can be rendered, compressed.

    index: of its frame.
    code: (26,) expression code of its face.
    opening: of its mouth, in units of the crop.
    crop: of WORK_PX, in the picture.
    picture_jpeg: the frame around the face.  crop_jpeg: the crop.
    """

    index: int
    code: np.ndarray
    opening: float
    crop: Crop = field(repr=False)
    picture_jpeg: bytes = field(repr=False)
    crop_jpeg: bytes = field(repr=False)

    def decode_picture(self) -> np.ndarray:
        """Decode the frame around the face, (h, w, 3) uint8."""
        return _decode_jpeg(self.picture_jpeg)

    def decode_crop(self) -> np.ndarray:
        """Decode the crop, (192, 192, 3) uint8."""
        return _decode_jpeg(self.crop_jpeg)

    def compute_head_descriptor(self) -> np.ndarray:
        """Compute the head descriptor (88,) float32 of its face."""
        return head_descriptor(
            cv2.resize(self.decode_crop(), (HEAD_CROP_PX, HEAD_CROP_PX), interpolation=cv2.INTER_AREA)
        )


WeightedReferences: TypeAlias = list[tuple[ReferenceMouth, float]]  # shares sum to 1


class FaceSighting(NamedTuple):
    """Say where a face is in one frame.

    frame_index: from 0.  shot: its number.  time_s: start of the frame, seconds.
    points: (4, 2) eyes and corners of the mouth, frame pixels.  yaw_deg: turn of the head; NaN where it is not known.
    """

    frame_index: int
    shot: int
    time_s: float
    points: np.ndarray
    yaw_deg: float


class ReferenceKey(NamedTuple):
    """Name the place of one reference mouth: a shot, closed or open, an interval of time and a turn of the head."""

    shot: int
    is_open: int
    interval: int
    yaw_bin: int


def head_descriptor(crop: np.ndarray) -> np.ndarray:
    """Describe how a head is held, (88,) float32 of mean 0 and length 1, to be compared within a shot.

    crop: (128, 128, 3) uint8, aligned.
    """
    a, b, c, d = HEAD_REGION
    values = cv2.resize(crop[a:b, c:d, 1], HEAD_DESCRIPTOR_PX, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-3)


class ReferenceMouthCollector:
    """Keep the most closed and the most open mouth of every interval of a shot and turn of the head.

    Memory grows with these alone.
    references: of an earlier scan.
    """

    def __init__(self, references: dict[ReferenceKey, ReferenceMouth] | None = None) -> None:
        self.references = references or {}

    def add(self, frame: np.ndarray, sighting: FaceSighting, code: np.ndarray, opening: float) -> None:
        """Keep a frame's mouth if it is the most closed or the most open one so far of its interval and turn.

        frame: (H, W, 3) uint8.  code: (26,) of the face.  opening: as `estimate_openings` measures it.
        """
        index, shot, time_s, points, yaw_deg = sighting
        yaw_bin = round(yaw_deg / YAW_BIN_DEG) + YAW_BINS // 2 if np.isfinite(yaw_deg) else YAW_BINS // 2
        yaw_bin = int(np.clip(yaw_bin, 0, YAW_BINS - 1))
        closed = ReferenceKey(shot, False, int(time_s / CLOSED_INTERVAL_S), yaw_bin)
        opened = ReferenceKey(shot, True, int(time_s / OPEN_INTERVAL_S), yaw_bin)
        keys = [closed] if closed not in self.references or opening < self.references[closed].opening else []
        keys += [opened] if opened not in self.references or opening > self.references[opened].opening else []
        if keys:
            picture, crop = make_crop(points, WORK_PX).to_local(frame)
            mouth = ReferenceMouth(
                index, code.copy(), opening, crop, _encode_jpeg(picture), _encode_jpeg(crop.extract(picture))
            )
            self.references |= dict.fromkeys(keys, mouth)

    def select_closed(self, shot: int) -> list[ReferenceMouth]:
        """Select the closed mouths of a shot, by frame; those as open as its mouths usually are are left out."""
        mouths = self._select(shot, is_open=False)
        if len(mouths) < 2:
            return mouths
        openings = np.array([mouth.opening for mouth in mouths])
        widest = openings.min() + CLOSED_MAX_SHARE * max(np.median(openings) - openings.min(), CLOSED_MIN_RANGE)
        return [mouth for mouth in mouths if mouth.opening <= widest]

    def select_open(self, shot: int) -> list[ReferenceMouth]:
        """Select the most open mouths of a shot, by frame: open lips show their insides."""
        mouths = self._select(shot, is_open=True)
        widest = max((mouth.opening for mouth in mouths), default=0.0)
        narrowest = min((mouth.opening for key, mouth in self.references.items() if key.shot == shot), default=0.0)
        least = max(OPEN_MIN_SHARE * (widest - narrowest), OPEN_MIN_DISTANCE)
        return [mouth for mouth in mouths if mouth.opening - narrowest >= least]

    def _select(self, shot: int, is_open: bool) -> list[ReferenceMouth]:
        mouths = (mouth for key, mouth in self.references.items() if key.shot == shot and key.is_open == is_open)
        return sorted(mouths, key=lambda mouth: mouth.index)


def assign_references(
    references: list[ReferenceMouth], times_s: np.ndarray, head_descriptors: np.ndarray, frames: np.ndarray
) -> dict[int, WeightedReferences]:
    """Assign one or two reference mouths to each frame: near in time, and with the head held most alike.

    Similarities are smoothed over SHARE_SMOOTHING_S, then a softmax of width SOFTMAX_WIDTH gives the shares.
    references: of one shot, by frame.
    times_s: (F,) starts of all frames.  head_descriptors: (F, 88) of all frames.
    frames: (N,) rising indices of frames of that shot.
    Returns frame -> references and shares, which sum to 1.
    """
    assigned, reference_times = {}, np.array([times_s[mouth.index] for mouth in references])
    descriptors = np.stack([mouth.compute_head_descriptor() for mouth in references])
    step_s = max(float(np.median(np.diff(times_s))), 1e-3) if len(times_s) > 1 else FALLBACK_FRAME_S
    reach = int(np.ceil(4 * SHARE_SMOOTHING_S / step_s))
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    for run, start in ((run, start) for run in runs for start in range(0, len(run), BLOCK_FRAMES)):
        low, high = max(0, start - reach), min(len(run), start + BLOCK_FRAMES + reach)
        block = run[low:high]
        distance_s = np.abs(times_s[block][:, None] - reference_times)
        nearest = distance_s == distance_s.min(1, keepdims=True)
        near = np.flatnonzero((distance_s.min(0) <= NEARBY_S) | nearest.any(0))
        similarity = head_descriptors[block].astype(np.float32) @ descriptors[near].T
        similarity = similarity - TIME_PENALTY_PER_S * distance_s[:, near]
        similarity = gaussian_filter1d(similarity, SHARE_SMOOTHING_S / step_s, axis=0, mode="nearest")
        shares = np.exp((similarity - similarity.max(1, keepdims=True)) / SOFTMAX_WIDTH)
        for k in range(start, min(len(run), start + BLOCK_FRAMES)):
            assigned[int(run[k])] = _keep_two_largest([references[i] for i in near], shares[k - low])
    return assigned


def _keep_two_largest(references: list[ReferenceMouth], shares: np.ndarray) -> WeightedReferences:
    """Keep the two largest shares, scaled to sum to 1 and rounded; a second one below SMALLEST_SHARE is dropped."""
    order = np.argsort(-shares, kind="stable")[:2]
    kept = shares[order] / shares[order].sum()
    if len(order) == 1 or kept[1] < SMALLEST_SHARE:
        return [(references[order[0]], 1.0)]
    # from 0 at SMALLEST_SHARE, so that a reference comes in without a jump
    second = float((kept[1] - SMALLEST_SHARE) / (1 - 2 * SMALLEST_SHARE)) if kept[1] < 0.5 else 0.5
    second = round(SHARE_STEPS * second) / SHARE_STEPS
    if not second:
        return [(references[order[0]], 1.0)]
    return [(references[order[0]], 1 - second), (references[order[1]], second)]


def _encode_jpeg(pixels: np.ndarray) -> bytes:
    """Compress a picture (h, w, 3) uint8."""
    flags = [
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), flags)
    if not done:
        raise MouthpieceError(f"picture of {pixels.shape}: cannot be compressed.")
    return data.tobytes()


def _decode_jpeg(data: bytes) -> np.ndarray:
    """Decompress a picture to (h, w, 3) uint8."""
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
