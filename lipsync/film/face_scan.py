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
    from collections.abc import Callable


@dataclass(frozen=True, eq=False)
class FaceTracks:
    """What the first look at a film found.

    times: F Fractions, starts of the frames in seconds.  end: Fraction, end of the last.
    choices: of the faces, as for mouthpiece.face.detect.choose_face.  tracks: a Track for each.
    truncated: whether announced frames are missing.
    """

    times: list = field(repr=False)
    end: Fraction
    choices: tuple
    tracks: list = field(repr=False)
    truncated: bool = False

    @property
    def times_s(self) -> np.ndarray:
        """(F,) float64."""
        return np.array([float(time) for time in self.times])


def track_faces(
    video: Path, choices: tuple[str] | list[str], advance: Callable | type = lambda n: None
) -> FaceTracks | None:
    """The Seen of a film: its frames' times, and each chosen face followed through all of it, in one pass.

    video: path.  choices: as for mouthpiece.face.detect.choose_face.
    advance: called with 1 for every frame.
    Raises Refused for a film without picture, with frames of several sizes, or a face that is in no frame.
    """
    try:
        identity = open_identity()
    except MissingDependencyError:
        identity = None  # after a cut the face is known by its size alone
    name = Path(video).name
    trackers, times, shape = [FaceTracker(choice, name, identity=identity) for choice in choices], [], None
    with VideoReader(video) as reader:
        for frame in reader:
            if shape not in (None, frame.pixels.shape):
                raise InvalidInputError(
                    f"{video}: the picture changes its size on the way.",
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
    """The track with the face's last place kept until it is seen again in the shot, and its first place before that."""
    points, yaw = track.points.copy(), track.yaw_deg.copy()
    for shot in np.unique(track.shot):
        at = np.flatnonzero(track.shot == shot)
        known = at[track.present[at]]
        if len(known):
            nearest = known[(np.searchsorted(known, at, "right") - 1).clip(0)]
            points[at], yaw[at] = points[nearest], yaw[nearest]
    return FaceTrack(points, track.shot, yaw)


def save_face_tracks(path: Path, tracks: FaceTracks) -> None:
    """Writes a Seen, so that a later job on the same film need not look again. path: Path. Raises WriteFailed."""
    arrays = {
        f"{name}_{k}": getattr(track, name)
        for k, track in enumerate(tracks.tracks)
        for name in ("points", "shot", "yaw_deg")
    }
    times = np.array([[t.numerator, t.denominator] for t in (*tracks.times, tracks.end)], np.int64)
    with atomic_write(path, overwrite=True) as part:
        with open(part, "wb") as file:
            np.savez_compressed(
                file,
                times=times,
                choices=np.array([str(c) for c in tracks.choices]),
                truncated=tracks.truncated,
                **arrays,
            )


def load_face_tracks(path: Path, choices: tuple[str] | list[str] | None = None) -> FaceTracks | None:
    """The Seen that `keep` wrote for these choices of face, or for any; None where there is none. path: Path."""
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
