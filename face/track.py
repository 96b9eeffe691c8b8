"""Track one face through the frames of a clip: points or none for every frame, gaps and shot cuts kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from mouthpiece.engine.contracts import FaceTrack
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.media.shot_cuts import CUT_LEVEL, ShotCutDetector
from mouthpiece.face.crop import transform_points
from mouthpiece.face.detect import (
    FACE_HINT,
    MIN_FACE_SCORE,
    Face,
    check_image,
    choose_face,
    confirm_face,
    find_faces_fast,
    parse_face_choice,
)
from mouthpiece.face.optical_flow import FaceFlow

if TYPE_CHECKING:
    from mouthpiece.face.detect import FaceChoice
    from mouthpiece.face.identity import FacenetIdentity, SFaceIdentity


@dataclass(frozen=True)
class TrackOptions:
    """How a face is tracked; raises UsageError for values out of range."""

    every_frames: int = 6  # frames between detections of a face that is tracked, >= 1
    search_frames: int = 3  # frames between searches for a face that is lost, >= 1
    bridge_frames: int = 3  # gaps up to this many frames within a shot are filled, >= 0
    smooth_frames: float = 1.0  # deviation of the symmetric smoothing of the points, >= 0
    cut_level: float = CUT_LEVEL  # mean HSV change between frames that is a shot cut, 8-bit steps, > 0

    def __post_init__(self) -> None:
        for name, least in (
            ("every_frames", 1),
            ("search_frames", 1),
            ("bridge_frames", 0),
            ("smooth_frames", 0),
            ("cut_level", 1e-9),
        ):
            if not getattr(self, name) >= least:
                raise UsageError(
                    f"{name} {getattr(self, name)}: need {least:g} or more.",
                    code="bad_option",
                    hint=f"The default is {getattr(TrackOptions, name)}.",
                )


class _TrackRun:
    """Frames in which the face is tracked without a break: by flow, with detections now and then."""

    def __init__(self, start_frame: int, face: Face) -> None:
        self.start_frame = start_frame
        self.source = face.source
        self.points = face.points  # best guess now, in frame pixels
        self.flow_points = [face.points]  # of each frame, from the first one by flow only
        self.detections = [(0, face.points, face.rough_yaw_deg)]  # frame of the run, points, yaw
        self.unconfirmed = 0  # newest frames in which the detector has not found the face

    def advance(self, points: np.ndarray, motion: np.ndarray) -> None:
        """Advance by one frame. points: (4, 2) in it.  motion: (2, 3) from the frame before."""
        self.points = points
        self.flow_points.append(transform_points(motion, self.flow_points[-1]))

    def add_detection(self, face: Face) -> None:
        """Add a detection in the newest frame."""
        self.points = face.points
        self.detections.append((len(self.flow_points) - 1, face.points, face.rough_yaw_deg))
        self.unconfirmed = 0

    def refine(self, every_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Refine the run: (points (T, 4, 2), yaw (T,)), motion from flow, place from smoothed detections."""
        count = len(self.flow_points) - self.unconfirmed
        flow_points = np.array(self.flow_points[:count])
        detections = [row for row in self.detections if row[0] < count]
        frames = [row[0] for row in detections]
        error, weight = np.zeros((count, 4, 2)), np.zeros((count, 1, 1))
        error[frames], weight[frames] = np.array([row[1] for row in detections]) - flow_points[frames], 1
        deviation = 1.5 * every_frames
        error, weight = (gaussian_filter1d(x, deviation, axis=0, mode="constant", truncate=12) for x in (error, weight))
        yaw = np.interp(np.arange(count), frames, [row[2] for row in detections])
        return flow_points + error / np.maximum(weight, 1e-300), yaw


class FaceTracker:
    """Track the chosen face through frames that are pushed one by one; keeps points, never frames.

    choice: as for `choose_face`; meant for the first frame with a face (x,y: the first frame).
    name: what to call the video in error messages.
    identity: from `open_identity`, to recognize the person after a gap or cut; None: by place and size.
    """

    def __init__(
        self,
        choice: str | FaceChoice = "largest",
        name: str = "video",
        options: TrackOptions = TrackOptions(),
        identity: FacenetIdentity | SFaceIdentity | None = None,
    ) -> None:
        self._choice, self._name, self._options, self._identity = parse_face_choice(choice), name, options, identity
        self._cuts, self._flow = ShotCutDetector(options.cut_level), FaceFlow()
        self._shots: list[int] = []  # number of the shot of each frame
        self._runs: list[_TrackRun] = []
        self._run: _TrackRun | None = None  # that goes on in the newest frame
        self._last: np.ndarray | None = None  # points of the face where it was seen last in this shot
        self._reference: np.ndarray | None = None  # identity of the chosen person
        self._missed_frames = self._most_faces = 0

    def push(self, frame: np.ndarray) -> None:
        """Push the next frame, uint8 (H, W, 3) RGB, all of one size."""
        check_image(frame)
        cut = self._cuts.is_cut(frame)
        self._shots.append(self._shots[-1] + cut if self._shots else 0)
        if cut:
            self._run = self._last = None
            self._missed_frames = 0
        if self._run is None or not self._follow(self._run, frame):
            self._run = None
            self._search(frame)

    def _follow(self, run: _TrackRun, frame: np.ndarray) -> bool:
        """Continue a run in this frame; return False when the face is lost."""
        step = self._flow.track_points(frame, run.points)
        if step is None:
            return False
        run.advance(*step)
        self._last = run.points
        due = len(run.flow_points) - 1 - run.detections[-1][0] >= self._options.every_frames
        if not due:
            return True
        if run.source == "hand":
            points = self._flow.match_first_view()
            detected = None if points is None else _make_face(points)
        else:
            detected = confirm_face(frame, _make_face(run.points), run.source)
        if detected is not None and _is_near(detected.points, run.points):
            run.add_detection(detected)
            self._flow.set_view(frame, detected.points)
            self._last = detected.points
        elif run.source != "hand":
            run.unconfirmed += 1
        return run.unconfirmed <= self._options.every_frames

    def _search(self, frame: np.ndarray) -> None:
        """Start a run when the face is in this frame."""
        self._missed_frames += 1
        if self._missed_frames > self._options.every_frames and self._missed_frames % self._options.search_frames:
            return
        face = self._pick(frame, find_faces_fast(frame))
        if face is None:
            return
        face = face if face.source == "hand" else confirm_face(frame, face) or face
        if self._identity is not None and self._reference is None:
            self._reference = self._identity.embed(frame, face)
        self._run = _TrackRun(len(self._shots) - 1, face)
        self._runs.append(self._run)
        self._last, self._missed_frames = face.points, 0
        self._flow.begin_run(frame, face.points)

    def _pick(self, frame: np.ndarray, faces: list[Face]) -> Face | None:
        """Pick the chosen face among those of a frame; None when it is not among them."""
        self._most_faces = max(self._most_faces, len(faces))
        if not self._runs:
            if self._choice.point is not None:
                return choose_face(faces, self._choice, self._name, frame)
            index = self._choice.index or 0
            return faces[index] if index < len(faces) else None
        if self._identity is not None and self._reference is not None and faces:
            cosines = [float(self._reference @ self._identity.embed(frame, f)) for f in faces]
            best = int(np.argmax(cosines))
            return faces[best] if cosines[best] >= self._identity.same_person_cosine else None
        last = self._last
        if last is None:  # a new shot
            index = self._choice.index or 0
            return faces[min(index, len(faces) - 1)] if faces else None
        near = [f for f in faces if 0.4 < _measure_size_px(f.points) / _measure_size_px(last) < 2.5]
        return min(near, key=lambda f: np.hypot(*(f.points.mean(0) - last.mean(0))), default=None)

    def finish(self) -> FaceTrack:
        """Finish: the track of all frames pushed.

        Raises InvalidInputError when there was no frame, or the face was in none.
        """
        count, options = len(self._shots), self._options
        if not self._runs and self._most_faces:
            raise InvalidInputError(
                f"{self._name}: face {self._choice.index} asked for, at most {self._most_faces} seen at once.",
                code="no_such_face",
                hint=f"Give --face 0 to {self._most_faces - 1}, largest, or x,y.",
            )
        if not self._runs:
            raise InvalidInputError(
                f"{self._name}: no face found in {count} frames (need a score of {MIN_FACE_SCORE:.2f}).",
                code="no_face",
                hint=FACE_HINT,
            )
        points, yaw, shot = np.full((count, 4, 2), np.nan), np.full(count, np.nan), np.array(self._shots, int)
        for run in self._runs:
            run_points, run_yaw = run.refine(options.every_frames)
            part = slice(run.start_frame, run.start_frame + len(run_points))
            points[part], yaw[part] = run_points, run_yaw
        rough = FaceTrack(points, shot, yaw)
        points, yaw = fill_gaps(rough, options.bridge_frames)
        rough = FaceTrack(points, shot, yaw)
        return FaceTrack(smooth_points(rough, options.smooth_frames), shot, yaw)


def _measure_size_px(points: np.ndarray) -> np.floating:
    """Measure the size of a face: mean of eye distance and eye-mouth distance."""
    return (np.linalg.norm(points[1] - points[0]) + np.linalg.norm(points[2:].mean(0) - points[:2].mean(0))) / 2


def _is_near(points: np.ndarray, others: np.ndarray) -> bool:
    """Return whether two sets of points of a face lie within less than half its size."""
    return np.hypot(*(points - others).T).mean() < 0.4 * _measure_size_px(others)


def _make_face(points: np.ndarray) -> Face:
    """Make a face of its points alone."""
    middle, half = points.mean(0), 1.2 * _measure_size_px(points)
    return Face(np.r_[middle - half, middle + half], points, 1.0, "track")


def fill_gaps(track: FaceTrack, bridge_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill gaps of up to bridge_frames frames by straight lines, never across a shot cut: (points, yaw)."""
    points, yaw = track.points.copy(), track.yaw_deg.copy()
    spans = track.spans()
    for before, gap, after in zip(spans, spans[1:], spans[2:]):
        if (
            gap.present
            or before.shot != gap.shot
            or after.shot != gap.shot
            or gap.end_frame - gap.start_frame > bridge_frames
        ):
            continue
        a, b = gap.start_frame - 1, gap.end_frame
        share = (np.arange(a + 1, b) - a) / (b - a)
        points[a + 1 : b] = points[a] + share[:, None, None] * (points[b] - points[a])
        yaw[a + 1 : b] = yaw[a] + share * (yaw[b] - yaw[a])
    return points, yaw


def smooth_points(track: FaceTrack, deviation_frames: float) -> np.ndarray:
    """Smooth points (T, 4, 2) by a symmetric Gaussian: no lag, straight motion kept, gaps and cuts not crossed.

    deviation_frames: of the Gaussian; 0 leaves the points alone.
    """
    points = track.points.copy()
    reach = int(np.ceil(4 * deviation_frames))
    for span in track.spans():
        length = span.end_frame - span.start_frame
        if not span.present or reach == 0 or length < 2:
            continue
        part = points[span.start_frame : span.end_frame]
        wide = np.pad(part, ((reach, reach), (0, 0), (0, 0)), mode="reflect", reflect_type="odd")
        points[span.start_frame : span.end_frame] = gaussian_filter1d(wide, deviation_frames, axis=0)[
            reach : reach + length
        ]
    return points


def hold_last_position(track: FaceTrack) -> FaceTrack:
    """Hold the face's last position until it is seen again in the shot, and its first one before that."""
    points, yaw = track.points.copy(), track.yaw_deg.copy()
    for shot in np.unique(track.shot):
        at = np.flatnonzero(track.shot == shot)
        known = at[track.present[at]]
        if len(known):
            nearest = known[(np.searchsorted(known, at, "right") - 1).clip(0)]
            points[at], yaw[at] = points[nearest], yaw[nearest]
    return FaceTrack(points, track.shot, yaw)
