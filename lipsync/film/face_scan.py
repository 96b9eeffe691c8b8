"""A film looked at before its lips are changed: where each face is, what its mouth does, whether it can be seen. Memory
stays flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from mouthpiece.engine.contracts import FaceTrack
from mouthpiece.engine.encoders.motion import CROP_PX, EXPRESSION_WIDTH, LOWER_FACE_WIDTH, encode_crops
from mouthpiece.engine.media.reading import VideoReader, to_upright_rgb
from mouthpiece.face.crop import crop_face
from mouthpiece.lipsync.film.reference_mouths import HEAD_DESCRIPTOR_PX, ReferenceMouthCollector, head_descriptor
from mouthpiece.lipsync.portrait.opening_segmenter import correct_opening, estimate_openings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mouthpiece.engine.contracts import FaceTracks
    from mouthpiece.engine.encoders.motion import MotionEncoder, MotionSpace
    from mouthpiece.lipsync.portrait.opening_segmenter import OpeningSegmenter

ENCODER_BATCH = 8
LARGEST_YAW_DEG = 45.0
SMALLEST_CROP_PX = 48  # side of the face's crop in the film: eyes about 14 px apart
MOUTH_ROWS, MOUTH_COLS = (66, 112), (36, 92)  # of the 128 px crop: what of it must look as it usually does
APPEARANCE_PX = (14, 12)  # width and height of that part, reduced
# nose and cheeks, mouth and chin (rows, columns): of one colour on bare faces
SKIN_REGION, LIPS_REGION = (50, 64, 38, 90), (74, 104, 44, 84)
# correlation with the shot's usual mouth, below the first alone, below the second where
APPEARANCE_CORRELATION_LIMITS, COLOUR_DISTANCE_LIMIT = (0.25, 0.5), 20.0
# the code's mouth is hardly there (laughing is unlike too); distance in a and b of Lab, 8-bit steps
FLAT_CODE_NORM = 0.35
CODE_SMOOTHING_FRAMES = 0.7  # deviation of the smoothing of the film's own codes, in frames of 40 ms
SKIP_REASONS = ("no face is seen", "the face is turned away", "the face is too small", "the mouth is covered")


@dataclass(frozen=True, eq=False)
class MouthScan:
    """What a face does in the frames that were looked at.

    codes: (F, 26) float32, NaN in other frames.
    skip_reasons: (F,) int8: 0 the mouth can be changed, else 1 + the number of the reason in WHY.
    noses: (F, 88) float16, how the head is held; 0 in other frames.
    collector: RestFinder, moments in which the mouth rests.
    """

    codes: np.ndarray
    skip_reasons: np.ndarray
    head_descriptors: np.ndarray
    collector: ReferenceMouthCollector


def hold_last_position(track: FaceTrack) -> FaceTrack:
    """The track with the face's last place kept until it is seen again in the shot, and its first place before that."""
    points, yaw = track.points.copy(), track.yaw_deg.copy()
    for shot in np.unique(track.shot):
        at = np.flatnonzero(track.shot == shot)
        known = at[track.present[at]]
        if len(known):
            nearest = known[(np.searchsorted(known, at, "right") - 1).clip(0)]
            points[at], yaw[at] = points[nearest], yaw[nearest]
    return FaceTrack(points, track.shot, yaw)


def scan_mouths(
    video: Path,
    tracks: FaceTracks,
    wanted: list[np.ndarray],
    models: tuple[MotionEncoder, MotionSpace, OpeningSegmenter],
    advance: Callable = lambda n: None,
) -> list[MouthScan]:
    """Looks of every face in the frames that are wanted, in one pass.

    video: path.  seen: Seen.  wanted: (F,) bool for each face.
    models: (MotionEncoder, MotionSpace, Finder).
    advance: called with the number of frames read.
    """
    wanted = [w & track.present for w, track in zip(wanted, tracks.tracks)]
    books = [_MouthScanner(track, tracks.times_s, models) for track in tracks.tracks]
    needed = np.flatnonzero(np.any(wanted, 0))
    if len(needed):
        with VideoReader(video) as reader:
            for index, _, native in reader.read_native_frames():
                advance(1)
                if any(w[index] for w in wanted):
                    pixels = to_upright_rgb(native)
                    for book, w in zip(books, wanted):
                        if w[index]:
                            book.add(index, pixels)
                if index == needed[-1]:
                    break
    return [book.finish(w) for book, w in zip(books, wanted)]


class _MouthScanner:
    """Codes, small looks and rests of one face, gathered frame by frame."""

    def __init__(
        self, track: FaceTrack, times_s: np.ndarray, models: tuple[MotionEncoder, MotionSpace, OpeningSegmenter]
    ) -> None:
        self.track, self.times_s, self.models, self.pending = track, times_s, models, []
        frames = len(track)
        self.codes = np.full((frames, EXPRESSION_WIDTH), np.nan, np.float32)
        self.plain = np.zeros(frames, np.float32)
        self.appearances, self.colour = (
            np.zeros((frames, APPEARANCE_PX[0] * APPEARANCE_PX[1]), np.float16),
            np.zeros(frames, np.float32),
        )
        self.head_descriptors, self.collector = (
            np.zeros((frames, HEAD_DESCRIPTOR_PX[0] * HEAD_DESCRIPTOR_PX[1]), np.float16),
            ReferenceMouthCollector(),
        )

    def add(self, index: int, pixels: np.ndarray) -> None:
        crop = crop_face(self.track, index, CROP_PX).take(pixels)
        self.appearances[index], self.colour[index], self.head_descriptors[index] = (
            appearance_vector(crop),
            colour_outlier_score(crop),
            head_descriptor(crop),
        )
        self.pending.append((index, crop, pixels))
        if len(self.pending) == ENCODER_BATCH:
            self._encode()

    def _encode(self) -> None:
        if self.pending:
            at = [index for index, _, _ in self.pending]
            encoder, space, finder = self.models
            crops = np.stack([crop for _, crop, _ in self.pending])
            codes, openings = encode_crops(encoder, space, crops), estimate_openings(finder, crops)
            self.plain[at] = np.sqrt((codes[:, :LOWER_FACE_WIDTH] ** 2).mean(1))
            self.codes[at] = correct_opening(codes, space, openings)
            for (index, crop, pixels), opening in zip(self.pending, openings):
                if self.colour[index] <= COLOUR_DISTANCE_LIMIT:
                    where = (
                        index,
                        self.track.shot[index],
                        self.times_s[index],
                        self.track.points[index],
                        self.track.yaw_deg[index],
                    )
                    self.collector.add(pixels, where, self.codes[index], float(opening))
            self.pending = []

    def finish(self, wanted: np.ndarray) -> MouthScan:
        self._encode()
        why = np.where(wanted, 0, 1).astype(np.int8)
        for shot in np.unique(self.track.shot[wanted]):
            at = np.flatnonzero(wanted & (self.track.shot == shot))
            alike, colour = (
                median_filter(track, 3, mode="mirror")
                for track in (correlate_with_median(self.appearances[at]), self.colour[at])
            )
            flat = self.plain[at] < FLAT_CODE_NORM
            why[
                at[
                    (alike < APPEARANCE_CORRELATION_LIMITS[0])
                    | (flat & (alike < APPEARANCE_CORRELATION_LIMITS[1]))
                    | (colour > COLOUR_DISTANCE_LIMIT)
                ]
            ] = 4
        at = np.flatnonzero(wanted)
        why[[k for k in at if CROP_PX / crop_face(self.track, k, CROP_PX).scale < SMALLEST_CROP_PX]] = 3
        why[wanted & (np.abs(np.nan_to_num(self.track.yaw_deg)) > LARGEST_YAW_DEG)] = 2
        return MouthScan(self.codes, why, self.head_descriptors, self.collector)


def appearance_vector(crop: np.ndarray) -> np.ndarray:
    """The mouth of a crop (128, 128, 3) in few numbers (168,): mean 0, length 1. Source: ours; green, in which lips are
    darkest.
    """
    part = crop[slice(*MOUTH_ROWS), slice(*MOUTH_COLS), 1]
    values = cv2.resize(part, APPEARANCE_PX, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-3)


def correlate_with_median(looks: np.ndarray) -> np.ndarray:
    """(N,) correlation of each look (N, 168) of a shot with their median. Source: ours; a hand before the mouth is rare
    in its shot.
    """
    usual = np.median(looks.astype(np.float32), 0)
    usual -= usual.mean()
    return looks.astype(np.float32) @ (usual / max(float(np.linalg.norm(usual)), 1e-3))


def colour_outlier_score(crop: np.ndarray) -> float:
    """Distance in colour, a and b of Lab in 8-bit steps, between nose and mouth of a crop (128, 128, 3): a mask's is
    large.
    """
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
    skin, lips = (np.median(lab[a:b, c:d].reshape(-1, 3), 0) for a, b, c, d in (SKIN_REGION, LIPS_REGION))
    return float(np.hypot(*(lips - skin)[1:]))


def smooth_codes(codes: np.ndarray, shot: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Codes (F, 26) smoothed within shots and runs of known ones, so that the renderer's start does not flicker.

    times_s: (F,) seconds.
    Source: ours; Gaussian of STEADY_FRAMES.
    """
    out, known = codes.copy(), np.isfinite(codes[:, 0])
    breaks = np.flatnonzero((np.diff(shot) != 0) | (known[1:] != known[:-1])) + 1
    step = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.04
    for a, b in zip([0, *breaks], [*breaks, len(codes)]):
        if known[a] and b - a > 1:
            out[a:b] = gaussian_filter1d(
                codes[a:b], CODE_SMOOTHING_FRAMES * 0.04 / max(step, 1e-3), axis=0, mode="nearest"
            )
    return out
