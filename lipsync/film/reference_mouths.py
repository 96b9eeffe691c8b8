"""Moments in which a mouth rests: what lips are made of in a changed film, so that nothing of its old words shows
through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.face.crop import Crop, make_crop
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX

if TYPE_CHECKING:
    from collections.abc import Callable

# one moment is kept of every stretch this long and turn of the head this wide; turns told apart
CLOSED_INTERVAL_S, YAW_BIN_DEG, YAW_BINS = 1.5, 8.0, 16
OPEN_INTERVAL_S = 6.0  # and the most open one of every stretch this long
# such a mouth is this much of the way to the shot's most open one, and this far from its least open one
OPEN_MIN_SHARE, OPEN_MIN_DISTANCE = 0.6, 0.02
# of the way from the least open moment to the usual one, which is at least so open: beyond, a moment is no rest
CLOSED_MAX_SHARE, CLOSED_MIN_RANGE = 0.4, 0.006
# rows and columns of the 128 px crop that show how the head is held; reduced to
HEAD_REGION, HEAD_DESCRIPTOR_PX = (44, 74, 42, 86), (11, 8)
# rests this far away are asked only where there is none nearer; likeness that a second is worth
NEARBY_S, TIME_PENALTY_PER_S = 10.0, 0.01
# over how long one rest gives way to another; likeness that decides; shares below are none
SHARE_SMOOTHING_S, SOFTMAX_WIDTH, SMALLEST_SHARE = 0.12, 0.02, 0.08
JPEG_QUALITY = 97
SHARE_STEPS = 64
BLOCK_FRAMES = 500  # frames looked at together


@dataclass(frozen=True, eq=False)
class ReferenceMouth:
    """A mouth at rest, compressed.

    index: number of its frame.  code: (26,) of its face.  ajar: how open its mouth is, in units of the crop.
    crop: Crop of WORK_PX in the picture.  picture_jpeg, crop_jpeg: JPEG of the frame around the face, and of the crop.
    """

    index: int
    code: np.ndarray
    opening: float
    crop: Crop = field(repr=False)
    picture_jpeg: bytes = field(repr=False)
    crop_jpeg: bytes = field(repr=False)

    def decode_picture(self) -> np.ndarray:
        """(h, w, 3) uint8 of the frame around the face."""
        return _decode_jpeg(self.picture_jpeg)

    def decode_crop(self) -> np.ndarray:
        """(192, 192, 3) uint8, the crop."""
        return _decode_jpeg(self.crop_jpeg)

    def compute_head_descriptor(self) -> np.ndarray:
        """(88,) float32, as `nose_of` its face."""
        return head_descriptor(cv2.resize(self.decode_crop(), (128, 128), interpolation=cv2.INTER_AREA))


def head_descriptor(crop: np.ndarray) -> np.ndarray:
    """How a head is held, (88,) float32 of mean 0 and length 1, to be compared within a shot. crop: (128, 128, 3)
    uint8, aligned.
    """
    a, b, c, d = HEAD_REGION
    values = cv2.resize(crop[a:b, c:d, 1], HEAD_DESCRIPTOR_PX, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-3)


class ReferenceMouthCollector:
    """Keeps the mouths that look least and most open of every stretch of a shot, in constant memory but for these.

    found: {(shot, number of the stretch): Rest} of an earlier look; numbers below 0 are those of open mouths.
    """

    def __init__(self, references: dict[tuple[int, int], ReferenceMouth] | None = None) -> None:
        self.references = references or {}

    def add(
        self, frame: np.ndarray, where: tuple[int, int, float, np.ndarray, float], code: np.ndarray, open_by: float
    ) -> None:
        """A frame with its code. frame: uint8 (H, W, 3).  where: (index, shot, time in seconds, points (4, 2), yaw in
        degrees).  open_by: of `finder.openings_of`.
        """
        index, shot, time_s, points, yaw_deg = where
        turn = (
            int(np.clip(round(yaw_deg / YAW_BIN_DEG) + YAW_BINS // 2, 0, YAW_BINS - 1))
            if np.isfinite(yaw_deg)
            else YAW_BINS // 2
        )
        resting, opened = (
            (int(shot), int(time_s / CLOSED_INTERVAL_S) * YAW_BINS + turn),
            (int(shot), -1 - int(time_s / OPEN_INTERVAL_S) * YAW_BINS - turn),
        )
        keys = [resting] if resting not in self.references or open_by < self.references[resting].opening else []
        keys += [opened] if opened not in self.references or open_by > self.references[opened].opening else []
        if keys:
            part, crop = make_crop(points, WORK_PX).to_local(frame)
            self.references |= dict.fromkeys(
                keys,
                ReferenceMouth(index, code.copy(), open_by, crop, _encode_jpeg(part), _encode_jpeg(crop.take(part))),
            )

    def select_closed(self, shot: int) -> list[ReferenceMouth]:
        """The Rests of a shot in order; those that look open as mouths usually do there are left out."""
        found = self._select(shot, lambda stretch: stretch >= 0)
        if len(found) < 2:
            return found
        looks = np.array([rest.opening for rest in found])
        most = looks.min() + CLOSED_MAX_SHARE * max(np.median(looks) - looks.min(), CLOSED_MIN_RANGE)
        return [rest for rest in found if rest.opening <= most]

    def select_open(self, shot: int) -> list[ReferenceMouth]:
        """The most open mouths of a shot, as Rests in order: their insides are what open lips show."""
        found = self._select(shot, lambda stretch: stretch < 0)
        most = max((rest.opening for rest in found), default=0.0)
        least = min((rest.opening for rest in self._select(shot, lambda stretch: True)), default=0.0)
        return [
            rest
            for rest in found
            if rest.opening - least >= OPEN_MIN_SHARE * (most - least) and rest.opening - least >= OPEN_MIN_DISTANCE
        ]

    def _select(self, shot: int, asked: Callable) -> list[ReferenceMouth]:
        found = (rest for (of, stretch), rest in self.references.items() if of == shot and asked(stretch))
        return sorted(found, key=lambda rest: rest.index)


def assign_references(
    rests: list[ReferenceMouth], times_s: np.ndarray, noses: np.ndarray, frames: np.ndarray
) -> dict[int, list[tuple]]:
    """{frame: [(Rest, share)]}, one or two Rests whose shares sum to one: those in which the head is held most alike,
    and near in time.

    rests: of one shot, in order.  times_s: (F,) starts of frames.  noses: (F, 88) as `nose_of` each frame's face.
    frames: (N,) numbers of frames of that shot, rising.
    Source: ours; likeness smoothed over SOFT_S, then a softmax of width DECIDED.
    """
    out, at = {}, np.array([times_s[rest.index] for rest in rests])
    looks = np.stack([rest.compute_head_descriptor() for rest in rests])
    step_s = max(float(np.median(np.diff(times_s))), 1e-3) if len(times_s) > 1 else 0.04
    reach = int(np.ceil(4 * SHARE_SMOOTHING_S / step_s))
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    for run, start in ((run, start) for run in runs for start in range(0, len(run), BLOCK_FRAMES)):
        low, high = max(0, start - reach), min(len(run), start + BLOCK_FRAMES + reach)
        asked = run[low:high]
        away = np.abs(times_s[asked][:, None] - at)
        near = np.flatnonzero((away.min(0) <= NEARBY_S) | (away == away.min(1, keepdims=True)).any(0))
        likeness = noses[asked].astype(np.float32) @ looks[near].T - TIME_PENALTY_PER_S * away[:, near]
        likeness = gaussian_filter1d(likeness, SHARE_SMOOTHING_S / step_s, axis=0, mode="nearest")
        share = np.exp((likeness - likeness.max(1, keepdims=True)) / SOFTMAX_WIDTH)
        for k in range(start, min(len(run), start + BLOCK_FRAMES)):
            out[int(run[k])] = _keep_two_largest([rests[i] for i in near], share[k - low])
    return out


def _keep_two_largest(rests: list[ReferenceMouth], share: np.ndarray) -> list[tuple[ReferenceMouth, float]]:
    """The two largest shares, made to sum to one; a small second one counts as none, and steps hide the last bits of a
    processor.
    """
    order = np.argsort(-share, kind="stable")[:2]
    kept = share[order] / share[order].sum()
    if len(order) == 1 or kept[1] < SMALLEST_SHARE:
        return [(rests[order[0]], 1.0)]
    # from 0, so that none becomes some without a jump
    second = float((kept[1] - SMALLEST_SHARE) / (1 - 2 * SMALLEST_SHARE)) if kept[1] < 0.5 else 0.5
    second = round(SHARE_STEPS * second) / SHARE_STEPS
    return [(rests[order[0]], 1 - second), (rests[order[1]], second)] if second else [(rests[order[0]], 1.0)]


def _encode_jpeg(pixels: np.ndarray) -> bytes:
    flags = [
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), flags)
    if not done:
        raise MouthpieceError(f"picture of {pixels.shape}: cannot be kept.")
    return data.tobytes()


def _decode_jpeg(data: bytes) -> np.ndarray:
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
