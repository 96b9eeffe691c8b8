"""A video watched once for evaluation: mouth, eyes and pose of its face through time, and how sharp it is. Memory stays
flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.files import check_input_file
from mouthpiece.engine.media.images import read_image
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.timeline import MOTION_HZ, make_frame_times
from mouthpiece.face.crop import make_crop, transform_points
from mouthpiece.face.detect import find_faces_fast
from mouthpiece.face.detectors import Face
from mouthpiece.face.masks import make_region_mask
from mouthpiece.face.measure import (
    EYE_LEFT,
    EYE_RIGHT,
    JITTER_POINTS,
    LIP_LEFT,
    LIP_RIGHT,
    FaceMeasurements,
    FaceMeshDetector,
    measure_landmarks,
)

if TYPE_CHECKING:
    from mouthpiece.face.crop import Crop

MIN_CROP_PX, MAX_CROP_PX = 64, 256
WINDOW_PX = 384  # what the mesh sees of a face that it does not find in the whole frame
RETRY_FRAMES = 12
MAX_ALIGNED_FACES = 64
MAX_PORTRAIT_PX = 4096
SHARPNESS_PARTS = ("mouth", "upper")
CHEEK_CENTRES, CHEEK_SIDE = ((0.31, 0.54), (0.69, 0.54)), 0.09  # middles and side, in units of the aligned crop


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """Hold an aligned crop of the face. pixels: uint8 (S, S, 3) RGB.  face: `Face` in crop pixels."""

    pixels: np.ndarray
    face: Face


@dataclass(frozen=True, eq=False)
class VideoMetrics:
    """Hold what is measured in a video.

    path: the file.  rate: Fraction, frames a second on average.
    times_s: (T,) starts of the frames, seconds from time zero.  measures: `FaceMeasurements` of T frames.
    points: (T, 4, 2) eyes and mouth corners in frame pixels, NaN without a face.
    sharpness: (T, 2) Laplacian variance of SHARPNESS_PARTS in the aligned crop, NaN without a face.
    cheeks: (T, 3) mean CIE Lab of both cheeks in it, NaN without a face.
    crop_px: side of that crop: as many pixels as the face has in the video, 64 to 256; None without a face.
    aligned_faces: up to 64, evenly spread over the frames with a face.
    truncated: whether announced frames are missing.
    """

    path: Path
    rate: Fraction
    times_s: np.ndarray
    measures: FaceMeasurements
    points: np.ndarray
    sharpness: np.ndarray
    cheeks: np.ndarray
    crop_px: int | None
    aligned_faces: list
    truncated: bool

    @property
    def duration_s(self) -> float:
        """Start of the first frame to the end of the last."""
        steps = np.diff(self.times_s)
        return float(self.times_s[-1] + (np.median(steps) if len(steps) else 1 / self.rate))

    @property
    def opening(self) -> np.ndarray:
        """(N,) mouth opening over face height at 25 Hz; NaN where no face is near."""
        return resample_to_motion_clock(self.times_s, self.measures.opening, self.duration_s)


class _LandmarkFinder:
    """Landmarks of one face in frame pixels; a face too small for the mesh is seen through a window around it."""

    def __init__(self, mesh: FaceMeshDetector) -> None:
        self._mesh, self._wait = mesh, 0
        self._window: Crop | None = None

    def landmarks(self, frame: np.ndarray) -> np.ndarray | None:
        found = self._find_in_window(frame)
        if found is None and self._wait <= 0:
            self._wait = RETRY_FRAMES
            faces = find_faces_fast(frame)
            if faces:
                self._window = make_crop(faces[0].points, WINDOW_PX).with_border(0.25)
                found = self._find_in_window(frame)
        self._wait -= 1
        return found

    def _find_in_window(self, frame: np.ndarray) -> np.ndarray | None:
        if self._window is None:
            return self._mesh.landmarks(frame)
        found = self._mesh.landmarks(self._window.extract(frame))
        if found is None:
            return None
        return np.c_[self._window.to_frame(found[:, :2]), found[:, 2] / self._window.scale]


def get_face_points(landmarks: np.ndarray) -> np.ndarray:
    """Return (4, 2) eyes and mouth corners as in `Face`, from the mesh (468, 3); an eye is the mean of
    its lid
    points.
    """
    p = landmarks[:, :2]
    return np.array([p[list(EYE_LEFT)].mean(0), p[list(EYE_RIGHT)].mean(0), p[LIP_LEFT], p[LIP_RIGHT]])


def align_face(image: np.ndarray, landmarks: np.ndarray, size_px: int) -> AlignedFace:
    """Align a face. image: uint8 (H, W, 3) RGB.  landmarks: (468, 3) pixels.  size_px: side of the crop."""
    points = get_face_points(landmarks)
    crop = make_crop(points, size_px)
    around = transform_points(crop.crop_from_frame, landmarks[:, :2])
    return AlignedFace(
        crop.extract(image), Face(np.r_[around.min(0), around.max(0)], crop.to_crop(points), 1.0, "mesh")
    )


def choose_crop_px(landmarks: np.ndarray) -> int:
    """Return the side of the aligned crop in frame pixels, kept between 64 and 256. landmarks: (468, 3) pixels."""
    side = round(256 / make_crop(get_face_points(landmarks), 256).scale)
    return min(max(side, MIN_CROP_PX), MAX_CROP_PX)


def measure_sharpness(pixels: np.ndarray) -> np.ndarray:
    """Return (2,) Laplacian variance of the PARTS of an aligned crop, uint8 (S, S, 3) RGB; weighted by their soft
    masks.

    Source: Pech-Pacheco et al. 2000.
    """
    edges = cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32), cv2.CV_32F)
    weights = [make_region_mask(part, pixels.shape[0]) for part in SHARPNESS_PARTS]
    means = [np.average(edges, weights=w) for w in weights]
    return np.array([np.average((edges - m) ** 2, weights=w) for m, w in zip(means, weights)])


def measure_cheek_colour(pixels: np.ndarray) -> np.ndarray:
    """Return (3,) mean CIE Lab of the cheeks of an aligned crop, uint8 (S, S, 3) RGB."""
    size = pixels.shape[0]
    half = max(1, round(size * CHEEK_SIDE / 2))
    places = [(round(x * size), round(y * size)) for x, y in CHEEK_CENTRES]
    patches = [pixels[y - half : y + half, x - half : x + half].reshape(-1, 1, 3) for x, y in places]
    return cv2.cvtColor(np.concatenate(patches).astype(np.float32) / 255, cv2.COLOR_RGB2LAB).mean((0, 1))


def measure_video(path: Path) -> VideoMetrics:
    """Measure the VideoMetrics of a video; the last few are remembered as long as their files do not change.

    path: str or Path.
    Raises InvalidInputError for what is no video.
    """
    facts = check_input_file(path, "video").stat()
    return _measure_video(str(path), (facts.st_mtime_ns, facts.st_size))


@lru_cache(maxsize=4)
def _measure_video(path: str, _: tuple[int, int]) -> VideoMetrics:
    rows: list[np.ndarray] = []
    steady: list[np.ndarray] = []
    points: list[np.ndarray] = []
    sharp: list[np.ndarray] = []
    cheeks: list[np.ndarray] = []
    times, looks = [], []
    crop_px, every, faces = None, 1, 0
    with VideoReader(path) as reader, FaceMeshDetector(follow=True) as mesh:
        finder = _LandmarkFinder(mesh)
        for frame in reader:
            times.append(float(frame.time))
            landmarks = finder.landmarks(frame.pixels)
            if landmarks is None:
                for table, shape in (
                    (rows, 9),
                    (steady, (len(JITTER_POINTS), 2)),
                    (points, (4, 2)),
                    (sharp, len(SHARPNESS_PARTS)),
                    (cheeks, 3),
                ):
                    table.append(np.full(shape, np.nan))
                continue
            crop_px = crop_px or choose_crop_px(landmarks)
            look = align_face(frame.pixels, landmarks, crop_px)
            rows.append(measure_landmarks(landmarks))
            steady.append(landmarks[JITTER_POINTS, :2])
            points.append(get_face_points(landmarks))
            sharp.append(measure_sharpness(look.pixels))
            cheeks.append(measure_cheek_colour(look.pixels))
            if faces % every == 0:
                looks.append(look)
            if len(looks) > MAX_ALIGNED_FACES:
                looks, every = looks[::2], 2 * every
            faces += 1
        measures = FaceMeasurements(*(*np.array(rows).T.copy(), np.array(steady)))
        rate = reader.info.rate or MOTION_HZ
        return VideoMetrics(
            *(Path(path), rate, np.array(times), measures, np.array(points), np.array(sharp), np.array(cheeks)),
            *(crop_px, looks, reader.truncated),
        )


def measure_portrait(path: Path, size_px: int) -> AlignedFace | None:
    """Measure the `AlignedFace` of a still picture, or None when the mesh finds none.

    path: image file.  size_px: side of the crop.
    Raises InvalidInputError for what is no picture.
    """
    image = read_image(path, max_side_px=MAX_PORTRAIT_PX).pixels
    with FaceMeshDetector(follow=False) as mesh:
        landmarks = _LandmarkFinder(mesh).landmarks(image)
    return None if landmarks is None else align_face(image, landmarks, size_px)


def resample_to_motion_clock(
    times: np.ndarray, values: np.ndarray, duration_s: float, reach_s: float = 0.06
) -> np.ndarray:
    """Return (N,) a curve at 25 Hz by straight lines; NaN where the nearest known value is further than `reach_s`.

    times: (T,) seconds, rising.  values: (T,), NaN allowed.  duration_s: what is to be covered.
    Source: closed form.
    """
    ticks = make_frame_times(max(1, int(np.ceil(duration_s * float(MOTION_HZ) - 1e-6))), MOTION_HZ)
    known = np.isfinite(values)
    if not known.any():
        return np.full(len(ticks), np.nan)
    t, v = np.asarray(times)[known], np.asarray(values)[known]
    after = np.searchsorted(t, ticks).clip(0, len(t) - 1)
    near = np.minimum(np.abs(t[after] - ticks), np.abs(t[(after - 1).clip(0)] - ticks))
    return np.where(
        near <= max(reach_s, 0.6 * float(np.median(np.diff(times))) if len(times) > 1 else reach_s),
        np.interp(ticks, t, v),
        np.nan,
    )
