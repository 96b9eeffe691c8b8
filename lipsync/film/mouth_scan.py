"""Scan the mouths of tracked faces: their codes, whether they can be changed, and reference mouths. Memory
stays flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from mouthpiece.engine.encoders.motion import CROP_PX, EXPRESSION_WIDTH, LOWER_FACE_WIDTH, encode_crops
from mouthpiece.engine.media.reading import VideoReader, to_upright_rgb
from mouthpiece.face.crop import crop_face
from mouthpiece.lipsync.film.reference_mouths import (
    HEAD_DESCRIPTOR_PX,
    FaceSighting,
    ReferenceMouthCollector,
    head_descriptor,
)
from mouthpiece.lipsync.portrait.opening_segmenter import correct_opening, estimate_openings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mouthpiece.engine.contracts import FaceTracks
    from mouthpiece.face.crop import Crop
    from mouthpiece.face.track import FaceTrack
    from mouthpiece.lipsync.models import LipsyncModels

ENCODER_BATCH = 8  # crops a call of the motion encoder
LARGEST_YAW_DEG = 45.0  # turn of the head, degrees, beyond which a mouth is left alone
SMALLEST_CROP_PX = 48  # side of the face's crop in the film, px of the film, below which it is: eyes about 14 px apart
MOUTH_ROWS = (66, 112)  # first row and row after the last of the mouth in the 128 px crop, px
MOUTH_COLS = (36, 92)  # its columns, px
APPEARANCE_PX = (14, 12)  # width and height to which the mouth is reduced for its appearance vector, px
SKIN_REGION = (50, 64, 38, 90)  # rows and columns of nose and cheeks in the 128 px crop, px
LIPS_REGION = (74, 104, 44, 84)  # rows and columns of mouth and chin, px: of the same colour on bare faces
COVERED_CORRELATION = 0.25  # correlation with the shot's median appearance below which a mouth counts as covered
FLAT_COVERED_CORRELATION = 0.5  # the same for a mouth whose code is flat; laughing, which is unlike too, is not flat
FLAT_CODE_NORM = 0.35  # root mean square of the mouth and jaw code below which it is flat: hardly any mouth is seen
COLOUR_DISTANCE_LIMIT = 20.0  # distance of skin and lips in a, b of Lab, 8-bit steps: above it the mouth is covered
CODE_SMOOTHING_FRAMES = 0.7  # deviation of the smoothing of the film's own codes, in frames of FRAME_S
FRAME_S = 0.04  # seconds of a frame at 25 Hz
SKIP_REASONS = ("no face is seen", "the face is turned away", "the face is too small", "the mouth is covered")
UNSEEN, TURNED, SMALL, COVERED = range(1, 5)  # values of MouthScan.skip_reasons


@dataclass(frozen=True, eq=False)
class MouthScan:
    """Hold what a face's mouth does in the frames that were scanned.

    codes: (F, 26) float32 expression codes, NaN in other frames.
    skip_reasons: (F,) int8: 0 where the mouth can be changed, else 1 + the index of the reason in SKIP_REASONS.
    head_descriptors: (F, 88) float16, as `head_descriptor` computes them; 0 in other frames.
    collector: reference mouths of the face.
    """

    codes: np.ndarray
    skip_reasons: np.ndarray
    head_descriptors: np.ndarray
    collector: ReferenceMouthCollector


def scan_mouths(
    video: Path,
    tracks: FaceTracks,
    requested: list[np.ndarray],
    models: LipsyncModels,
    advance: Callable[[int], object] = lambda n: None,
) -> list[MouthScan]:
    """Scan the mouth of every tracked face in the requested frames, in one pass over the film.

    requested: (F,) bool for each face.  advance: called with 1 for every frame that is read.
    """
    requested = [flags & track.present for flags, track in zip(requested, tracks.tracks)]
    scanners = [_MouthScanner(track, tracks.times_s, models) for track in tracks.tracks]
    needed = np.flatnonzero(np.any(requested, 0))
    if len(needed):
        with VideoReader(video) as reader:
            for index, _, native in reader.read_native_frames():
                advance(1)
                if any(flags[index] for flags in requested):
                    pixels = to_upright_rgb(native)
                    for scanner, flags in zip(scanners, requested):
                        if flags[index]:
                            scanner.add(index, pixels)
                if index == needed[-1]:
                    break
    return [scanner.finish(flags) for scanner, flags in zip(scanners, requested)]


class _MouthScanner:
    """Gather codes, appearances and reference mouths of one face, frame by frame.

    times_s: (F,) starts of the film's frames.
    """

    def __init__(self, track: FaceTrack, times_s: np.ndarray, models: LipsyncModels) -> None:
        self.track, self.times_s, self.models = track, times_s, models
        self.pending: list[tuple[int, np.ndarray, np.ndarray]] = []  # index, crop, frame: waiting for the encoder
        frames = len(track)
        self.codes = np.full((frames, EXPRESSION_WIDTH), np.nan, np.float32)
        self.code_norms = np.zeros(frames, np.float32)
        self.appearances = np.zeros((frames, APPEARANCE_PX[0] * APPEARANCE_PX[1]), np.float16)
        self.colour_scores = np.zeros(frames, np.float32)
        self.head_descriptors = np.zeros((frames, HEAD_DESCRIPTOR_PX[0] * HEAD_DESCRIPTOR_PX[1]), np.float16)
        self.collector = ReferenceMouthCollector()

    def add(self, index: int, pixels: np.ndarray) -> None:
        """Add a frame, (H, W, 3) uint8, by its index in the film."""
        crop = self._crop_face(index).extract(pixels)
        self.appearances[index] = appearance_vector(crop)
        self.colour_scores[index] = colour_outlier_score(crop)
        self.head_descriptors[index] = head_descriptor(crop)
        self.pending.append((index, crop, pixels))
        if len(self.pending) == ENCODER_BATCH:
            self._encode()

    def _crop_face(self, index: int) -> Crop:
        """Return the aligned crop of a frame in which the face is seen. Raises ValueError for another frame."""
        crop = crop_face(self.track, index, CROP_PX)
        if crop is None:
            raise ValueError(f"frame {index}: the face is not seen")
        return crop

    def _encode(self) -> None:
        if not self.pending:
            return
        indices = [index for index, _, _ in self.pending]
        crops = np.stack([crop for _, crop, _ in self.pending])
        codes = encode_crops(self.models.encoder, self.models.space, crops)
        openings = estimate_openings(self.models.opening_segmenter, crops)
        self.code_norms[indices] = np.sqrt((codes[:, :LOWER_FACE_WIDTH] ** 2).mean(1))
        self.codes[indices] = correct_opening(codes, self.models.space, openings)
        for (index, _, pixels), opening in zip(self.pending, openings):
            if self.colour_scores[index] <= COLOUR_DISTANCE_LIMIT:
                sighting = FaceSighting(
                    index,
                    int(self.track.shot[index]),
                    self.times_s[index],
                    self.track.points[index],
                    self.track.yaw_deg[index],
                )
                self.collector.add(pixels, sighting, self.codes[index], float(opening))
        self.pending = []

    def finish(self, requested: np.ndarray) -> MouthScan:
        """Encode what is pending and judge the requested frames, (F,) bool: which mouths can be changed."""
        self._encode()
        reasons = np.where(requested, 0, UNSEEN).astype(np.int8)
        for shot in np.unique(self.track.shot[requested]):
            at = np.flatnonzero(requested & (self.track.shot == shot))
            correlation = median_filter(correlate_with_median(self.appearances[at]), 3, mode="mirror")
            colour = median_filter(self.colour_scores[at], 3, mode="mirror")
            flat = self.code_norms[at] < FLAT_CODE_NORM
            unlike = (correlation < COVERED_CORRELATION) | (flat & (correlation < FLAT_COVERED_CORRELATION))
            reasons[at[unlike | (colour > COLOUR_DISTANCE_LIMIT)]] = COVERED
        sides_px = {k: CROP_PX / self._crop_face(k).scale for k in np.flatnonzero(requested)}
        reasons[[k for k, side_px in sides_px.items() if side_px < SMALLEST_CROP_PX]] = SMALL
        reasons[requested & (np.abs(np.nan_to_num(self.track.yaw_deg)) > LARGEST_YAW_DEG)] = TURNED
        return MouthScan(self.codes, reasons, self.head_descriptors, self.collector)


def appearance_vector(crop: np.ndarray) -> np.ndarray:
    """Reduce the mouth of a crop (128, 128, 3) to a vector (168,) float32 of mean 0 and length 1.

    The green channel is used, in which lips are darkest.
    """
    mouth = crop[slice(*MOUTH_ROWS), slice(*MOUTH_COLS), 1]
    values = cv2.resize(mouth, APPEARANCE_PX, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-3)


def correlate_with_median(appearances: np.ndarray) -> np.ndarray:
    """Correlate each appearance vector (N, 168) of a shot with their median, (N,); a covered mouth is rare in
    a shot.
    """
    median = np.median(appearances.astype(np.float32), 0)
    median -= median.mean()
    return appearances.astype(np.float32) @ (median / max(float(np.linalg.norm(median)), 1e-3))


def colour_outlier_score(crop: np.ndarray) -> float:
    """Measure the distance in colour between nose and mouth of a crop (128, 128, 3), in a, b of Lab, 8-bit steps.

    That of a mask or a hand is large.
    """
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
    skin, lips = (np.median(lab[a:b, c:d].reshape(-1, 3), 0) for a, b, c, d in (SKIN_REGION, LIPS_REGION))
    return float(np.hypot(*(lips - skin)[1:]))


def smooth_codes(codes: np.ndarray, shot: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Smooth codes (F, 26) within shots and within runs that are not NaN, so that the renderer's start does not
    flicker.

    shot, times_s: (F,).
    """
    out, known = codes.copy(), np.isfinite(codes[:, 0])
    breaks = np.flatnonzero((np.diff(shot) != 0) | (known[1:] != known[:-1])) + 1
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else FRAME_S
    deviation_frames = CODE_SMOOTHING_FRAMES * FRAME_S / max(step_s, 1e-3)
    for start, stop in zip([0, *breaks], [*breaks, len(codes)]):
        if known[start] and stop - start > 1:
            out[start:stop] = gaussian_filter1d(codes[start:stop], deviation_frames, axis=0, mode="nearest")
    return out
