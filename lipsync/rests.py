"""Moments in which a mouth rests: what lips are made of in a changed film, so that nothing of its old words shows through."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from engine.errors import MouthpieceError
from face.crop import Crop, crop_of
from lipsync.patch import WORK_PX

EVERY_S, YAW_DEG, YAWS = 1.5, 8.0, 16  # one moment is kept of every stretch this long and turn of the head this wide; turns told apart
OPENED_EVERY_S = 6.0                   # and the most open one of every stretch this long
OPENED_SHARE, OPENED_LEAST = 0.6, 0.02   # such a mouth is this much of the way to the shot's most open one, and this far from its least open one
OPEN_SHARE, OPEN_LEAST = 0.4, 0.006    # of the way from the least open moment to the usual one, which is at least so open: beyond, a moment is no rest
NOSE, NOSE_PX = (44, 74, 42, 86), (11, 8)          # rows and columns of the 128 px crop that show how the head is held; reduced to
NEAR_S, LATE_COST = 10.0, 0.01         # rests this far away are asked only where there is none nearer; likeness that a second is worth
SOFT_S, DECIDED, SHARE_LEAST = 0.12, 0.02, 0.08    # over how long one rest gives way to another; likeness that decides; shares below are none
JPEG_QUALITY = 97
SHARE_STEPS = 64
BLOCK = 500                            # frames looked at together


@dataclass(frozen=True, eq=False)
class Rest:
    """A mouth at rest, compressed.

    index: number of its frame.  code: (26,) of its face.  ajar: how open its mouth is, in units of the crop.
    crop: Crop of WORK_PX in `part`.  part, face: JPEG of the frame around the face, and of the crop.
    Source: ours.
    """

    index: int
    code: np.ndarray
    ajar: float
    crop: Crop = field(repr=False)
    part: bytes = field(repr=False)
    face: bytes = field(repr=False)

    def pixels(self):
        """(h, w, 3) uint8 of the frame around the face."""
        return _unpacked(self.part)

    def taken(self):
        """(192, 192, 3) uint8, the crop."""
        return _unpacked(self.face)

    def nose(self):
        """(88,) float32, as `nose_of` its face."""
        return nose_of(cv2.resize(self.taken(), (128, 128), interpolation=cv2.INTER_AREA))


def nose_of(crop):
    """How a head is held, (88,) float32 of mean 0 and length 1, to be compared within a shot. crop: (128, 128, 3) uint8, aligned. Source: ours."""
    a, b, c, d = NOSE
    values = cv2.resize(crop[a:b, c:d, 1], NOSE_PX, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-3)


class RestFinder:
    """Keeps the mouths that look least and most open of every stretch of a shot, in constant memory but for these.

    found: {(shot, number of the stretch): Rest} of an earlier look; numbers below 0 are those of open mouths.
    Source: ours.
    """

    def __init__(self, found=None):
        self.found = found or {}

    def offer(self, frame, where, code, open_by):
        """A frame with its code. frame: uint8 (H, W, 3).  where: (index, shot, time in seconds, points (4, 2), yaw in degrees).  open_by: of `finder.openings_of`."""
        index, shot, time_s, points, yaw_deg = where
        turn = int(np.clip(round(yaw_deg / YAW_DEG) + YAWS // 2, 0, YAWS - 1)) if np.isfinite(yaw_deg) else YAWS // 2
        resting, opened = (int(shot), int(time_s / EVERY_S) * YAWS + turn), (int(shot), -1 - int(time_s / OPENED_EVERY_S) * YAWS - turn)
        keys = [resting] if resting not in self.found or open_by < self.found[resting].ajar else []
        keys += [opened] if opened not in self.found or open_by > self.found[opened].ajar else []
        if keys:
            part, crop = crop_of(points, WORK_PX).near(frame)
            self.found |= dict.fromkeys(keys, Rest(index, code.copy(), open_by, crop, _packed(part), _packed(crop.take(part))))

    def rests(self, shot):
        """The Rests of a shot in order; those that look open as mouths usually do there are left out."""
        found = self._of(shot, lambda stretch: stretch >= 0)
        if len(found) < 2:
            return found
        looks = np.array([rest.ajar for rest in found])
        most = looks.min() + OPEN_SHARE * max(np.median(looks) - looks.min(), OPEN_LEAST)
        return [rest for rest in found if rest.ajar <= most]

    def opened(self, shot):
        """The most open mouths of a shot, as Rests in order: their insides are what open lips show."""
        found = self._of(shot, lambda stretch: stretch < 0)
        most = max((rest.ajar for rest in found), default=0.0)
        least = min((rest.ajar for rest in self._of(shot, lambda stretch: True)), default=0.0)
        return [rest for rest in found if rest.ajar - least >= OPENED_SHARE * (most - least) and rest.ajar - least >= OPENED_LEAST]

    def _of(self, shot, asked):
        found = (rest for (of, stretch), rest in self.found.items() if of == shot and asked(stretch))
        return sorted(found, key=lambda rest: rest.index)


def sharing(rests, times_s, noses, frames):
    """{frame: [(Rest, share)]}, one or two Rests whose shares sum to one: those in which the head is held most alike, and near in time.

    rests: of one shot, in order.  times_s: (F,) starts of frames.  noses: (F, 88) as `nose_of` each frame's face.
    frames: (N,) numbers of frames of that shot, rising.
    Source: ours; likeness smoothed over SOFT_S, then a softmax of width DECIDED.
    """
    out, at = {}, np.array([times_s[rest.index] for rest in rests])
    looks = np.stack([rest.nose() for rest in rests])
    step_s = max(float(np.median(np.diff(times_s))), 1e-3) if len(times_s) > 1 else 0.04
    reach = int(np.ceil(4 * SOFT_S / step_s))
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    for run, start in ((run, start) for run in runs for start in range(0, len(run), BLOCK)):
        low, high = max(0, start - reach), min(len(run), start + BLOCK + reach)
        asked = run[low:high]
        away = np.abs(times_s[asked][:, None] - at)
        near = np.flatnonzero((away.min(0) <= NEAR_S) | (away == away.min(1, keepdims=True)).any(0))
        likeness = noses[asked].astype(np.float32) @ looks[near].T - LATE_COST * away[:, near]
        likeness = gaussian_filter1d(likeness, SOFT_S / step_s, axis=0, mode="nearest")
        share = np.exp((likeness - likeness.max(1, keepdims=True)) / DECIDED)
        for k in range(start, min(len(run), start + BLOCK)):
            out[int(run[k])] = _two([rests[i] for i in near], share[k - low])
    return out


def _two(rests, share):
    """The two largest shares, made to sum to one; a small second one counts as none, and steps hide the last bits of a processor."""
    order = np.argsort(-share, kind="stable")[:2]
    kept = share[order] / share[order].sum()
    if len(order) == 1 or kept[1] < SHARE_LEAST:
        return [(rests[order[0]], 1.0)]
    second = float((kept[1] - SHARE_LEAST) / (1 - 2 * SHARE_LEAST)) if kept[1] < 0.5 else 0.5  # from 0, so that none becomes some without a jump
    second = round(SHARE_STEPS * second) / SHARE_STEPS
    return [(rests[order[0]], 1 - second), (rests[order[1]], second)] if second else [(rests[order[0]], 1.0)]


def _packed(pixels):
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), flags)
    if not done:
        raise MouthpieceError(f"picture of {pixels.shape}: cannot be kept.")
    return data.tobytes()


def _unpacked(data):
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
