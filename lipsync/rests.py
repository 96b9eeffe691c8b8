"""Moments in which a mouth rests: what lips are made of in a changed film, so that nothing of its old words shows through."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from engine.errors import MouthpieceError
from face.crop import Crop, crop_of
from lipsync.renderer import WORK_PX

EVERY_S = 1.5                          # one moment is kept of every stretch this long
OPEN_SHARE = 0.4                       # of the way from the least open moment to the usual one: beyond, a moment is no rest
MIX_S = 0.2                            # how long one rest takes to give way to the next
JPEG_QUALITY = 97


@dataclass(frozen=True, eq=False)
class Rest:
    """A mouth at rest, compressed.

    index: number of its frame.  code: (26,) of its face.  opening: of its lips, units of the crop.
    crop: Crop of WORK_PX in `part`.  part, face: JPEG of the frame around the face, and of the crop.
    Source: ours.
    """

    index: int
    code: np.ndarray
    opening: float
    crop: Crop = field(repr=False)
    part: bytes = field(repr=False)
    face: bytes = field(repr=False)

    def pixels(self):
        """(h, w, 3) uint8 of the frame around the face."""
        return _unpacked(self.part)

    def taken(self):
        """(192, 192, 3) uint8, the crop."""
        return _unpacked(self.face)


class RestFinder:
    """Keeps the least open mouth of every stretch of a shot, in constant memory but for these.

    lips: (26,) opening of a unit code.
    Source: ours.
    """

    def __init__(self, lips):
        self._lips, self._found = lips, {}

    def offer(self, frame, where, code):
        """A frame with its code. frame: uint8 (H, W, 3).  where: (index, shot, time in seconds, points (4, 2))."""
        index, shot, time_s, points = where
        key, opening = (int(shot), int(time_s / EVERY_S)), float(code @ self._lips)
        if key in self._found and self._found[key].opening <= opening:
            return
        part, crop = crop_of(points, WORK_PX).near(frame)
        self._found[key] = Rest(index, code.copy(), opening, crop, _packed(part), _packed(crop.take(part)))

    def rests(self, shot):
        """The Rests of a shot in order; those that are open as mouths usually are there are left out."""
        found = sorted((rest for (of, _), rest in self._found.items() if of == shot), key=lambda rest: rest.index)
        if len(found) < 2:
            return found
        openings = np.array([rest.opening for rest in found])
        most = openings.min() + OPEN_SHARE * max(np.median(openings) - openings.min(), 0.004)
        return [rest for rest in found if rest.opening <= most]


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
