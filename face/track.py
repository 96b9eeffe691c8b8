"""One face followed through the frames of a clip: points or none for every frame, gaps and shot cuts kept apart."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class TrackOptions:
    """How a face is followed; UsageProblem for nonsense."""

    every_frames: int = 6  # frames between detections of a face in view, >= 1
    search_frames: int = 3  # frames between looks for a face out of view, >= 1
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
    """Frames in which the face is followed without a break: carried by flow, with the detections met on the way."""

    def __init__(self, start_frame: int, face: Face) -> None:
        self.start_frame = start_frame
        self.source = face.source
        self.points = face.points  # best guess now, in frame pixels
        self.carried = [face.points]  # from the first frame by flow only
        self.anchors = [(0, face.points, face.rough_yaw_deg)]
        self.unconfirmed = 0  # newest frames that the detector has denied

    def advance(self, points: np.ndarray, motion: np.ndarray) -> None:
        self.points = points
        self.carried.append(transform_points(motion, self.carried[-1]))

    def add_detection(self, face: Face) -> None:
        self.points = face.points
        self.anchors.append((len(self.carried) - 1, face.points, face.rough_yaw_deg))
        self.unconfirmed = 0

    def refine(self, every_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """((T, 4, 2) points, (T,) yaw): motion from flow, place from detections averaged over their neighbours."""
        count = len(self.carried) - self.unconfirmed
        carried = np.array(self.carried[:count])
        anchors = [a for a in self.anchors if a[0] < count]
        at = [a[0] for a in anchors]
        wrong, weight = np.zeros((count, 4, 2)), np.zeros((count, 1, 1))
        wrong[at], weight[at] = np.array([a[1] for a in anchors]) - carried[at], 1
        wide = 1.5 * every_frames
        wrong, weight = (gaussian_filter1d(x, wide, axis=0, mode="constant", truncate=12) for x in (wrong, weight))
        yaw = np.interp(np.arange(count), at, [a[2] for a in anchors])
        return carried + wrong / np.maximum(weight, 1e-300), yaw


class FaceTracker:
    """Follows the chosen face through frames pushed one by one; keeps points, never frames.

    choice: as for `choose_face`; meant for the first frame with a face (x,y: the first frame).
    name: what to call the video in a sentence.
    identity: from `mouthpiece.face.identity.open_identity`, to know the person after a gap or cut; None: by place and
    size.
    """

    def __init__(
        self,
        choice: str = "largest",
        name: str = "video",
        options: TrackOptions = TrackOptions(),
        identity: None = None,
    ) -> None:
        self._choice, self._name, self._options, self._identity = parse_face_choice(choice), name, options, identity
        self._cuts, self._flow = ShotCutDetector(options.cut_level), FaceFlow()
        self._shots, self._runs = [], []
        self._run = self._last = self._reference = None
        self._missed_frames = self._most_faces = 0

    def push(self, frame: np.ndarray) -> None:
        """Take the next frame, uint8 (H, W, 3) RGB, all of one size."""
        check_image(frame)
        cut = self._cuts.is_cut(frame)
        self._shots.append(self._shots[-1] + cut if self._shots else 0)
        if cut:
            self._run = self._last = None
            self._missed_frames = 0
        if self._run is None or not self._follow(frame):
            self._run = None
            self._search(frame)

    def _follow(self, frame: np.ndarray) -> bool:
        """Carry the run into this frame; False when the face is lost."""
        run = self._run
        step = self._flow.track_points(frame, run.points)
        if step is None:
            return False
        run.advance(*step)
        self._last = run.points
        due = len(run.carried) - 1 - run.anchors[-1][0] >= self._options.every_frames
        if not due:
            return True
        if run.source == "hand":
            found = self._flow.match_first_view()
            seen = None if found is None else _make_face(found)
        else:
            seen = confirm_face(frame, _make_face(run.points), run.source)
        if seen is not None and np.hypot(*(seen.points - run.points).T).mean() < 0.4 * _measure_size_px(run.points):
            run.add_detection(seen)
            self._flow.set_view(frame, seen.points)
            self._last = seen.points
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
        self._most_faces = max(self._most_faces, len(faces))
        if not self._runs:
            if self._choice.point is not None:
                return choose_face(faces, self._choice, self._name, frame)
            index = self._choice.index or 0
            return faces[index] if index < len(faces) else None
        if self._identity is not None and self._reference is not None and faces:
            likeness = [float(self._reference @ self._identity.embed(frame, f)) for f in faces]
            best = int(np.argmax(likeness))
            return faces[best] if likeness[best] >= self._identity.same_person_cosine else None
        if self._last is None:  # a new shot
            index = self._choice.index or 0
            return faces[min(index, len(faces) - 1)] if faces else None
        near = [f for f in faces if 0.4 < _measure_size_px(f.points) / _measure_size_px(self._last) < 2.5]
        return min(near, key=lambda f: np.hypot(*(f.points.mean(0) - self._last.mean(0))), default=None)

    def finish(self) -> FaceTrack | None:
        """The Track of all frames pushed.

        Raises Refused when there was no frame, or the face was in none.
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


def _measure_size_px(points: np.ndarray) -> float:
    """Mean of eye distance and eye-mouth distance."""
    return (np.linalg.norm(points[1] - points[0]) + np.linalg.norm(points[2:].mean(0) - points[:2].mean(0))) / 2


def _make_face(points: np.ndarray) -> Face:
    middle, half = points.mean(0), 1.2 * _measure_size_px(points)
    return Face(np.r_[middle - half, middle + half], points, 1.0, "track")


def fill_gaps(track: FaceTrack, bridge_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(points, yaw) with gaps of up to bridge_frames frames filled by straight lines; never across a shot cut."""
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
    """(T, 4, 2) points under a symmetric Gaussian: no lag, straight motion kept, gaps and cuts not crossed.

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
    """The track with the face's last place kept until it is seen again in the shot, and its first place before that."""
    points, yaw = track.points.copy(), track.yaw_deg.copy()
    for shot in np.unique(track.shot):
        at = np.flatnonzero(track.shot == shot)
        known = at[track.present[at]]
        if len(known):
            nearest = known[(np.searchsorted(known, at, "right") - 1).clip(0)]
            points[at], yaw[at] = points[nearest], yaw[nearest]
    return FaceTrack(points, track.shot, yaw)
