"""Track chosen faces through a whole film, once: later runs on the same film read what an earlier one found."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from mouthpiece.engine.contracts import FaceTrack, FaceTracks
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.version import get_code_version
from mouthpiece.engine.weights.records import add_model_hashes, record_models
from mouthpiece.face.identity import open_identity
from mouthpiece.face.track import FaceTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mouthpiece.engine.media.film import Film
    from mouthpiece.engine.progress import Progress
    from mouthpiece.engine.weights.records import ModelRecords

TRACKS_FILE = "faces-{film}-{choice}.npz"  # one face of one film
MODELS_SUFFIX = ".nets.json"  # beside it: the models that found the face
NOBODY_SUFFIX = ".json"  # in its place where no face is in the film: the error


def track_faces(
    video: str | Path,
    choices: Sequence[str],
    advance: Callable[[int], object] = lambda n: None,
    *,
    identify: bool = True,
) -> FaceTracks:
    """Track each chosen face through all frames of a film, in one pass and constant memory but for the points.

    video: path.  choices: as for mouthpiece.face.detect.choose_face.
    advance: called with 1 for every frame.
    identify: know a person again after a shot cut by face recognition, where its package is installed; False, and
        without the package, by place and size alone.
    Raises InvalidInputError for a film without picture, with frames of several sizes, or a face that is in no frame.
    """
    identity = None
    if identify:
        try:
            identity = open_identity()
        except MissingDependencyError:
            pass
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
        tracks = [tracker.finish() for tracker in trackers]
        return FaceTracks(times, times[-1] + step, tuple(choices), tracks, reader.truncated)


def save_face_tracks(path: Path, tracks: FaceTracks) -> None:
    """Save tracks as NumPy's npz; raise OutputError when the disk refuses."""
    arrays = {
        f"{name}_{k}": getattr(track, name)
        for k, track in enumerate(tracks.tracks)
        for name in ("points", "shot", "yaw_deg")
    }
    times = np.array([[t.numerator, t.denominator] for t in (*tracks.times, tracks.end)], np.int64)
    choices = np.array([str(choice) for choice in tracks.choices])
    with atomic_write(path, overwrite=True) as part:
        with open(part, "wb") as file:
            np.savez_compressed(file, times=times, choices=choices, truncated=tracks.truncated, **arrays)


def load_face_tracks(path: Path, choices: Sequence[str] | None = None) -> FaceTracks | None:
    """Load saved tracks; None where the file is missing, broken or of other choices of face (None: of any)."""
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


class FilmFaceTracker:
    """Track faces of one film on demand and keep each track in a folder, for later calls and later runs.

    film: the film.  folder: where tracks are kept; made when it is needed.
    The models that found a face are recorded for the side-car, those of a kept track too.
    """

    def __init__(self, film: Film, folder: Path) -> None:
        self._film, self._folder = film, folder

    def track(self, choices: Sequence[str], progress: Progress) -> FaceTracks:
        """Give the tracks of the chosen faces; those that are kept are read, the others tracked in one pass.

        choices: as for mouthpiece.face.detect.choose_face.
        Raises what track_faces raises; that no face is in the film is kept too.
        """
        choices = tuple(str(choice) for choice in choices)
        with progress.stage("following the face", self._film.info.frames) as advance:
            paths = [self._get_path(choice) for choice in choices]
            kept = {choice: load_face_tracks(path, (choice,)) for path, choice in zip(paths, choices)}
            known = {choice: tracks for choice, tracks in kept.items() if tracks is not None}
            missing = [choice for choice in choices if choice not in known]
            if missing:
                known |= zip(missing, self._track_anew(missing, advance))
        for path in paths:
            add_saved_records(path)
        found = [known[choice] for choice in choices]
        tracks = [one.tracks[0] for one in found]
        return FaceTracks(found[0].times, found[0].end, choices, tracks, found[0].truncated)

    def load_all(self) -> list[FaceTracks]:
        """Load every track of the film that is kept, one face each."""
        paths = sorted(self._folder.glob(TRACKS_FILE.format(film=self._film.sha256[:16], choice="*")))
        return [tracks for tracks in (load_face_tracks(path) for path in paths) if tracks is not None]

    def _get_path(self, choice: str) -> Path:
        key = crc32(f"{choice}|{get_code_version()}".encode())
        name = TRACKS_FILE.format(film=self._film.sha256[:16], choice=f"{key:08x}")
        return self._folder / name

    def _track_anew(self, choices: list[str], advance: Callable[[int], object]) -> list[FaceTracks]:
        """Track faces and keep each; raise the kept error where an earlier run found nobody."""
        paths = [self._get_path(choice) for choice in choices]
        nobody = paths[0].with_suffix(NOBODY_SUFFIX)
        if nobody.is_file():
            add_saved_records(paths[0])
            raise InvalidInputError(**json.loads(nobody.read_text(encoding="utf-8")))
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with record_models() as models:
                tracks = track_faces(self._film.path, choices, advance)
        except InvalidInputError as problem:
            if problem.code == "no_face":  # the next run need not look again
                _save_records(paths[0], models)
                facts = {"message": problem.message, "hint": problem.hint, "code": problem.code}
                with atomic_write(nobody, overwrite=True) as part:
                    part.write_text(json.dumps(facts), encoding="utf-8")
            raise
        single = [
            FaceTracks(tracks.times, tracks.end, (choice,), [track], tracks.truncated)
            for choice, track in zip(choices, tracks.tracks)
        ]
        for path, one in zip(paths, single):
            save_face_tracks(path, one)
            _save_records(path, models)
        return single


def _save_records(path: Path, models: ModelRecords) -> None:
    """Write beside a file of tracks which models found them."""
    with atomic_write(path.with_suffix(MODELS_SUFFIX), overwrite=True) as part:
        part.write_text(json.dumps(models.get_hashes()), encoding="utf-8")


def add_saved_records(path: Path) -> None:
    """Record for the side-car the models that found the tracks in a file, where they are known."""
    beside = path.with_suffix(MODELS_SUFFIX)
    if beside.is_file():
        add_model_hashes(json.loads(beside.read_text(encoding="utf-8")))
