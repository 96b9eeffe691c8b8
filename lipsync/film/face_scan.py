"""Track the chosen faces of a film, once; the tracks can be saved for later jobs. Memory stays flat."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.face.identity import open_identity
from mouthpiece.face.track import FaceTrack, FaceTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mouthpiece.face.detect import FaceChoice


@dataclass(frozen=True, eq=False)
class FaceTracks:
    """Hold the tracks of a film's chosen faces.

    times: starts of the F frames in seconds, exact.  end: of the last one.
    choices: of the faces, as for `face.detect.parse_face_choice`.  tracks: one for each.
    truncated: whether frames that the header announces are missing.
    """

    times: list[Fraction] = field(repr=False)
    end: Fraction
    choices: tuple[str | int | FaceChoice, ...]
    tracks: list[FaceTrack] = field(repr=False)
    truncated: bool = False

    @property
    def times_s(self) -> np.ndarray:
        """Return the starts of the frames, (F,) float64 seconds."""
        return np.array([float(time) for time in self.times])


def track_faces(
    video: Path, choices: Sequence[str | int | FaceChoice], advance: Callable[[int], None] = lambda n: None
) -> FaceTracks:
    """Track each chosen face through a film, in one pass.

    choices: as for `face.detect.parse_face_choice`.
    advance: called with 1 for every frame.
    Raises InvalidInputError for a film without picture or with frames of several sizes, and for a face that is in no
    frame.
    """
    try:
        identity = open_identity()
    except MissingDependencyError:
        identity = None  # after a cut the face is matched by its size alone
    name = Path(video).name
    trackers, times, shape = [FaceTracker(choice, name, identity=identity) for choice in choices], [], None
    with VideoReader(video) as reader:
        for frame in reader:
            if shape not in (None, frame.pixels.shape):
                raise InvalidInputError(
                    f"{video}: the picture changes its size within the film.",
                    hint="Convert the video to one size.",
                    code="size_changes",
                )
            shape = frame.pixels.shape
            for tracker in trackers:
                tracker.push(frame.pixels)
            times.append(frame.time)
            advance(1)
        step = times[-1] - times[-2] if len(times) > 1 else 1 / (reader.info.rate or Fraction(25))
        return FaceTracks(
            times, times[-1] + step, tuple(choices), [tracker.finish() for tracker in trackers], reader.truncated
        )


def hold_last_position(track: FaceTrack) -> FaceTrack:
    """Fill the gaps of a track: the face keeps its last position in the shot, and before it is first seen its first."""
    points, yaw = track.points.copy(), track.yaw_deg.copy()
    for shot in np.unique(track.shot):
        at = np.flatnonzero(track.shot == shot)
        known = at[track.present[at]]
        if len(known):
            nearest = known[(np.searchsorted(known, at, "right") - 1).clip(0)]
            points[at], yaw[at] = points[nearest], yaw[nearest]
    return FaceTrack(points, track.shot, yaw)


def save_face_tracks(path: Path, tracks: FaceTracks) -> None:
    """Save tracks, so that a later job on the same film need not track again. Raises OutputError."""
    arrays = {
        f"{name}_{k}": getattr(track, name)
        for k, track in enumerate(tracks.tracks)
        for name in ("points", "shot", "yaw_deg")
    }
    times = np.array([[t.numerator, t.denominator] for t in (*tracks.times, tracks.end)], np.int64)
    with atomic_write(path, overwrite=True) as temporary:
        with open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                times=times,
                choices=np.array([str(c) for c in tracks.choices]),
                truncated=tracks.truncated,
                **arrays,
            )


def load_face_tracks(path: Path, choices: Sequence[str | int | FaceChoice] | None = None) -> FaceTracks | None:
    """Load tracks that `save_face_tracks` saved for these choices of face, or for any; None where there are none."""
    try:
        with np.load(path) as file:
            choices = file["choices"].tolist() if choices is None else choices
            if file["choices"].tolist() != [str(choice) for choice in choices]:
                return None
            *times, end = (Fraction(int(a), int(b)) for a, b in file["times"])
            tracks = [
                FaceTrack(file[f"points_{k}"], file[f"shot_{k}"], file[f"yaw_deg_{k}"]) for k in range(len(choices))
            ]
            return FaceTracks(times, end, tuple(choices), tracks, bool(file["truncated"]))
    except (OSError, ValueError, KeyError):
        return None
