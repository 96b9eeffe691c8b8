"""Moments in which a mouth rests: what lips are made of in a changed film, so that nothing of its old words shows through."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from engine.errors import MouthpieceError
from face.crop import Crop, crop_of
from lipsync.renderer import WORK_PX

EVERY_S = 1.5                          # one moment is kept of every stretch this long
OPENED_EVERY_S = 6.0                   # and the most open one of every stretch this long
OPENED_SHARE, OPENED_LEAST = 0.6, 1.0  # such a mouth is this much of the way to the shot's most open one, and this far from its least open one
OPEN_SHARE, OPEN_LEAST = 0.4, 0.3      # of the way from the least open moment to the usual one: beyond, a moment is no rest
CODE_UNIT, EDGE_UNIT = 0.015, 0.04     # usual deviations of the two signs of an open mouth
MOUTH, FACE = (74, 96, 52, 76), (38, 96, 38, 90)   # rows and columns of the 128 px crop
MIX_S = 0.2                            # how long one rest takes to give way to the next
JPEG_QUALITY = 97


@dataclass(frozen=True, eq=False)
class Rest:
    """A mouth at rest, compressed.

    index: number of its frame.  code: (26,) of its face.  ajar: how open its mouth looks, as `ajar` gives it.
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


def ajar(crop, opening):
    """How open a mouth looks: 0 and more, comparable within one clip only.

    crop: (128, 128, 3) uint8, aligned.  opening: of its code, units of the crop.
    Source: ours; the code's opening and the edges across the mouth, either of which fails on some faces: correlation with the mesh's opening
    over seven clips 0.21 to 0.94 for the code alone, 0.53 to 0.91 for the edges, 0.68 to 0.94 for both.
    """
    green = crop[..., 1].astype(np.float32)
    mouth, face = (green[a:b, c:d] for a, b, c, d in (MOUTH, FACE))
    edges = float(np.abs(np.diff(mouth, axis=0)).mean()) / max(float(face.std()), 4.0)
    return opening / CODE_UNIT + edges / EDGE_UNIT


class RestFinder:
    """Keeps the mouths that look least and most open of every stretch of a shot, in constant memory but for these.

    found: {(shot, number of the stretch): Rest} of an earlier look; numbers below 0 are those of open mouths.
    Source: ours.
    """

    def __init__(self, found=None):
        self.found = found or {}

    def offer(self, frame, where, code, open_by):
        """A frame with its code. frame: uint8 (H, W, 3).  where: (index, shot, time in seconds, points (4, 2)).  open_by: from `ajar`."""
        index, shot, time_s, points = where
        resting, opened = (int(shot), int(time_s / EVERY_S)), (int(shot), -1 - int(time_s / OPENED_EVERY_S))
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


def between(rests, times_s, index):
    """[(Rest, share)], one or two whose shares sum to one: the nearest in time, one giving way to the next half-way between.

    rests: of one shot, in order.  times_s: (F,) starts of frames.  index: of the frame.
    Source: ours; linear over MIX_S.
    """
    at = np.array([times_s[rest.index] for rest in rests])
    after = int(np.searchsorted(at, times_s[index]))
    if after == 0 or after == len(rests):
        return [(rests[min(after, len(rests) - 1)], 1.0)]
    share = float(np.clip(0.5 + (times_s[index] - (at[after - 1] + at[after]) / 2) / MIX_S, 0, 1))
    return [(rest, part) for rest, part in ((rests[after - 1], 1 - share), (rests[after], share)) if part > 0]


def _packed(pixels):
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), flags)
    if not done:
        raise MouthpieceError(f"picture of {pixels.shape}: cannot be kept.")
    return data.tobytes()


def _unpacked(data):
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
