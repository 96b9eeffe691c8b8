"""A film looked at before its lips are changed: where each face is, what its mouth does, whether it can be seen. Memory stays flat."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from engine.encoders.vision import CROP_PX, EXPRESSION, LOWER, codes_of
from engine.errors import Missing, Refused
from engine.files import replacing
from engine.media import VideoReader, upright_rgb
from face.identity import open_identity
from face.track import Track, Tracker
from lipsync.finder import opened, openings_of
from lipsync.rests import NOSE_PX, RestFinder, nose_of

BATCH = 8
MOST_TURNED_DEG = 45.0
SMALLEST_CROP_PX = 48                  # side of the face's crop in the film: eyes about 14 px apart
MOUTH_ROWS, MOUTH_COLS = (66, 112), (36, 92)   # of the 128 px crop: what of it must look as it usually does
LOOK_PX = (14, 12)                     # width and height of that part, reduced
SKIN, LIPS = (50, 64, 38, 90), (74, 104, 44, 84)   # nose and cheeks, mouth and chin (rows, columns): of one colour on bare faces
UNLIKE, STRANGE_COLOUR = (0.25, 0.5), 20.0   # correlation with the shot's usual mouth, below the first alone, below the second where
FLAT = 0.35                            # the code's mouth is hardly there (laughing is unlike too); distance in a and b of Lab, 8-bit steps
STEADY_FRAMES = 0.7                    # deviation of the smoothing of the film's own codes, in frames of 40 ms
WHY = ("no face is seen", "the face is turned away", "the face is too small", "the mouth is covered")


@dataclass(frozen=True, eq=False)
class Seen:
    """What the first look at a film found.

    times: F Fractions, starts of the frames in seconds.  end: Fraction, end of the last.
    choices: of the faces, as for face.detect.choose_face.  tracks: a Track for each.
    truncated: whether announced frames are missing.
    Source: ours.
    """

    times: list = field(repr=False)
    end: Fraction
    choices: tuple
    tracks: list = field(repr=False)
    truncated: bool = False

    @property
    def times_s(self):
        """(F,) float64."""
        return np.array([float(time) for time in self.times])


@dataclass(frozen=True, eq=False)
class Looks:
    """What a face does in the frames that were looked at.

    codes: (F, 26) float32, NaN in other frames.
    why: (F,) int8: 0 the mouth can be changed, else 1 + the number of the reason in WHY.
    noses: (F, 88) float16, how the head is held; 0 in other frames.
    rests: RestFinder, moments in which the mouth rests.
    Source: ours.
    """

    codes: np.ndarray
    why: np.ndarray
    noses: np.ndarray
    rests: RestFinder


def see(video, choices, advance=lambda n: None):
    """The Seen of a film: its frames' times, and each chosen face followed through all of it, in one pass.

    video: path.  choices: as for face.detect.choose_face.
    advance: called with 1 for every frame.
    Raises Refused for a film without picture, with frames of several sizes, or a face that is in no frame.
    Source: ours.
    """
    try:
        identity = open_identity()
    except Missing:
        identity = None  # after a cut the face is known by its size alone
    name = Path(video).name
    trackers, times, shape = [Tracker(choice, name, identity=identity) for choice in choices], [], None
    with VideoReader(video) as reader:
        for frame in reader:
            if shape not in (None, frame.pixels.shape):
                raise Refused(f"{video}: the picture changes its size on the way.", hint="Convert the video to one size.", code="size_changes")
            shape = frame.pixels.shape
            for tracker in trackers:
                tracker.push(frame.pixels)
            times.append(frame.time)
            advance(1)
        step = times[-1] - times[-2] if len(times) > 1 else 1 / (reader.info.rate or Fraction(25))
        return Seen(times, times[-1] + step, tuple(choices), [tracker.finish() for tracker in trackers], reader.truncated)


def held(track):
    """The track with the face's last place kept until it is seen again in the shot, and its first place before that. Source: ours."""
    points, yaw = track.points.copy(), track.yaw_deg.copy()
    for shot in np.unique(track.shot):
        at = np.flatnonzero(track.shot == shot)
        known = at[track.present[at]]
        if len(known):
            nearest = known[(np.searchsorted(known, at, "right") - 1).clip(0)]
            points[at], yaw[at] = points[nearest], yaw[nearest]
    return Track(points, track.shot, yaw)


def look(video, seen, wanted, models, advance=lambda n: None):
    """Looks of every face in the frames that are wanted, in one pass.

    video: path.  seen: Seen.  wanted: (F,) bool for each face.
    models: (MotionEncoder, MotionSpace, Finder).
    advance: called with the number of frames read.
    Source: ours.
    """
    wanted = [w & track.present for w, track in zip(wanted, seen.tracks)]
    books = [_Book(track, seen.times_s, models) for track in seen.tracks]
    needed = np.flatnonzero(np.any(wanted, 0))
    if len(needed):
        with VideoReader(video) as reader:
            for index, _, native in reader.natives():
                advance(1)
                if any(w[index] for w in wanted):
                    pixels = upright_rgb(native)
                    for book, w in zip(books, wanted):
                        if w[index]:
                            book.take(index, pixels)
                if index == needed[-1]:
                    break
    return [book.close(w) for book, w in zip(books, wanted)]


class _Book:
    """Codes, small looks and rests of one face, gathered frame by frame."""

    def __init__(self, track, times_s, models):
        self.track, self.times_s, self.models, self.held = track, times_s, models, []
        frames = len(track)
        self.codes = np.full((frames, EXPRESSION), np.nan, np.float32)
        self.plain = np.zeros(frames, np.float32)
        self.small, self.colour = np.zeros((frames, LOOK_PX[0] * LOOK_PX[1]), np.float16), np.zeros(frames, np.float32)
        self.noses, self.rests = np.zeros((frames, NOSE_PX[0] * NOSE_PX[1]), np.float16), RestFinder()

    def take(self, index, pixels):
        crop = self.track.crop(index, CROP_PX).take(pixels)
        self.small[index], self.colour[index], self.noses[index] = small_look(crop), strangeness(crop), nose_of(crop)
        self.held.append((index, crop, pixels))
        if len(self.held) == BATCH:
            self._encode()

    def _encode(self):
        if self.held:
            at = [index for index, _, _ in self.held]
            encoder, space, finder = self.models
            crops = np.stack([crop for _, crop, _ in self.held])
            codes, openings = codes_of(encoder, space, crops), openings_of(finder, crops)
            self.plain[at] = np.sqrt((codes[:, :LOWER] ** 2).mean(1))
            self.codes[at] = opened(codes, space, openings)
            for (index, crop, pixels), opening in zip(self.held, openings):
                if self.colour[index] <= STRANGE_COLOUR:
                    where = (index, self.track.shot[index], self.times_s[index], self.track.points[index], self.track.yaw_deg[index])
                    self.rests.offer(pixels, where, self.codes[index], float(opening))
            self.held = []

    def close(self, wanted):
        self._encode()
        why = np.where(wanted, 0, 1).astype(np.int8)
        for shot in np.unique(self.track.shot[wanted]):
            at = np.flatnonzero(wanted & (self.track.shot == shot))
            alike, colour = (median_filter(track, 3, mode="mirror") for track in (likeness(self.small[at]), self.colour[at]))
            flat = self.plain[at] < FLAT
            why[at[(alike < UNLIKE[0]) | (flat & (alike < UNLIKE[1])) | (colour > STRANGE_COLOUR)]] = 4
        at = np.flatnonzero(wanted)
        why[[k for k in at if CROP_PX / self.track.crop(k, CROP_PX).scale < SMALLEST_CROP_PX]] = 3
        why[wanted & (np.abs(np.nan_to_num(self.track.yaw_deg)) > MOST_TURNED_DEG)] = 2
        return Looks(self.codes, why, self.noses, self.rests)


def small_look(crop):
    """The mouth of a crop (128, 128, 3) in few numbers (168,): mean 0, length 1. Source: ours; green, in which lips are darkest."""
    part = crop[slice(*MOUTH_ROWS), slice(*MOUTH_COLS), 1]
    values = cv2.resize(part, LOOK_PX, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-3)


def likeness(looks):
    """(N,) correlation of each look (N, 168) of a shot with their median. Source: ours; a hand before the mouth is rare in its shot."""
    usual = np.median(looks.astype(np.float32), 0)
    usual -= usual.mean()
    return looks.astype(np.float32) @ (usual / max(float(np.linalg.norm(usual)), 1e-3))


def strangeness(crop):
    """Distance in colour, a and b of Lab in 8-bit steps, between nose and mouth of a crop (128, 128, 3): a mask's is large. Source: ours."""
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
    skin, lips = (np.median(lab[a:b, c:d].reshape(-1, 3), 0) for a, b, c, d in (SKIN, LIPS))
    return float(np.hypot(*(lips - skin)[1:]))


def steadied(codes, shot, times_s):
    """Codes (F, 26) smoothed within shots and runs of known ones, so that the renderer's start does not flicker.

    times_s: (F,) seconds.
    Source: ours; Gaussian of STEADY_FRAMES.
    """
    out, known = codes.copy(), np.isfinite(codes[:, 0])
    breaks = np.flatnonzero((np.diff(shot) != 0) | (known[1:] != known[:-1])) + 1
    step = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.04
    for a, b in zip([0, *breaks], [*breaks, len(codes)]):
        if known[a] and b - a > 1:
            out[a:b] = gaussian_filter1d(codes[a:b], STEADY_FRAMES * 0.04 / max(step, 1e-3), axis=0, mode="nearest")
    return out


def keep(path, seen):
    """Writes a Seen, so that a later job on the same film need not look again. path: Path. Raises WriteFailed. Source: ours."""
    arrays = {f"{name}_{k}": getattr(track, name) for k, track in enumerate(seen.tracks) for name in ("points", "shot", "yaw_deg")}
    times = np.array([[t.numerator, t.denominator] for t in (*seen.times, seen.end)], np.int64)
    with replacing(path, overwrite=True) as part:
        with open(part, "wb") as file:
            np.savez_compressed(file, times=times, choices=np.array([str(c) for c in seen.choices]), truncated=seen.truncated, **arrays)


def kept(path, choices=None):
    """The Seen that `keep` wrote for these choices of face, or for any; None where there is none. path: Path. Source: ours."""
    try:
        with np.load(path) as file:
            choices = file["choices"].tolist() if choices is None else choices
            if file["choices"].tolist() != [str(choice) for choice in choices]:
                return None
            *times, end = (Fraction(int(a), int(b)) for a, b in file["times"])
            tracks = [Track(file[f"points_{k}"], file[f"shot_{k}"], file[f"yaw_deg_{k}"]) for k in range(len(choices))]
            return Seen(times, end, tuple(choices), tracks, bool(file["truncated"]))
    except (OSError, ValueError, KeyError):
        return None
