"""Move the lips of a dub line by line, each by its own plan; what earlier runs made of a line is used again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import cv2
import numpy as np

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.encoders.motion import BLINK_INDEX
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.film import open_film
from mouthpiece.engine.media.mux import copy_with_sound
from mouthpiece.engine.media.reading import VideoReader, read_sound, to_upright_rgb
from mouthpiece.engine.timeline import MOTION_HZ
from mouthpiece.engine.weights.model_cache import get_cached_model
from mouthpiece.engine.weights.records import record_models
from mouthpiece.face.crop import crop_face, make_crop
from mouthpiece.face.film_tracks import FilmFaceTracker, track_faces
from mouthpiece.lipsync.film.cache import BlobStore, DubCache
from mouthpiece.lipsync.film.lipsync_job import FaceEdit, prepare_edits
from mouthpiece.lipsync.film.mouth_compositor import get_mouth_box
from mouthpiece.lipsync.film.resync import resync
from mouthpiece.lipsync.models import load_models
from mouthpiece.lipsync.motion.speech_to_motion import recognize_articulation
from mouthpiece.lipsync.motion.speech_to_mouth import ArticulationTrack, predict_mouth
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.contracts import DubLine, FaceTracks
    from mouthpiece.engine.media.film import Film
    from mouthpiece.engine.progress import Progress
    from mouthpiece.lipsync.models import LipsyncModels
    from mouthpiece.lipsync.options import LipsyncOptions

MOUTH_PICTURE_PX = 112  # side of a mouth's picture on a report's page
MAX_MOUTH_PICTURES = 24  # of a page
PICTURES_PER_LINE = 2
CACHE_FILE = "kept.db"  # in the job's cache folder
CROSSFADE_S = 0.12  # within which, outside of its span, a line hands the mouth over to a neighbour
MARGIN_TICKS = 25  # of the motion clock, before and after a line when its motion is generated


@dataclass(frozen=True, eq=False)
class DubLipsJob:
    """Describe a film whose lips are to follow a dub.

    film: the film.  lines: those whose lips move.
    mix: sound of the output.  dialogue: sound in which lines without a plan are recognized.
    options: of the lip-sync; spans and face are those of the lines.
    cache: folder in which the results of lines and frames are kept for later runs.
    language: that is spoken.
    """

    film: Film
    lines: Sequence[DubLine]
    mix: Path
    dialogue: Path
    options: LipsyncOptions
    cache: Path
    language: str | None = None


class MouthPicture(NamedTuple):
    """Show the mouth of a line in the finished film: id of the line, second of the film, picture as PNG."""

    line_id: str
    time_s: float
    png: bytes


@dataclass(frozen=True, eq=False)
class DubPicture:
    """Report the written picture of a dub. facts: JSON-ready.  mouths: pictures for the report's page."""

    facts: dict[str, Any]
    mouths: Sequence[MouthPicture] = field(default=(), repr=False)


def lipsync_dub(
    job: DubLipsJob, output: Path, tracker: FilmFaceTracker, progress: Progress, overwrite: bool = False
) -> DubPicture | None:
    """Write OUTPUT, the film with the new sound and its lips moved.

    Gives None, and writes nothing, where no face is in the film, none was asked for by name and frames without one may
    pass: then copy_picture remains.

    tracker: of the faces in the job's film.
    overwrite: replace an existing file.
    Raises what resync raises.
    """
    options = job.options
    placement = choose_device(options.device)
    with record_models() as own_models:
        models = get_cached_model(load_models, placement)
    store, completed = BlobStore(job.cache / CACHE_FILE), False
    try:
        settings = f"{sorted(record.sha256 for record in own_models)}{placement.as_dict()}{version('av')}"
        cache = DubCache(store, job.film.sha256, settings)
        edits = plan_face_edits(job.lines, lambda lines: DubMouthPredictor(lines, options, job.dialogue, cache))
        task = prepare_edits(job.film, job.mix, options, edits)
        tracks = _track_visible_faces(tracker, tuple(str(edit.face) for edit in edits), options, progress)
        if tracks is None:
            return None
        facts = resync(
            task,
            output,
            models,
            placement,
            progress,
            tracks=tracks,
            cache=cache,
            overwrite=overwrite,
            language=job.language,
        )
        completed = True
    finally:
        store.close(completed)
    facts["faces"] = [face | {"speakers": _list_speakers(job.lines, face["face"])} for face in facts["faces"]]
    frames = len(tracks.times)
    facts |= {"lips": "moved", "frames_source": frames, "frames_match": facts["frames"] == frames}
    mouths = [] if facts["copied"] else extract_mouth_pictures(output, tracks, job.lines)
    return DubPicture(facts | {"used_again": cache.counts}, mouths)


def _list_speakers(lines: Sequence[DubLine], face: str) -> list[str]:
    return sorted({line.speaker for line in lines if str(line.face) == face})


def _track_visible_faces(
    tracker: FilmFaceTracker, choices: tuple[str, ...], options: LipsyncOptions, progress: Progress
) -> FaceTracks | None:
    """Track the faces; None where nobody is in the film, no face was asked for by name and frames without one pass."""
    try:
        return tracker.track(choices, progress)
    except InvalidInputError as problem:
        if problem.code != "no_face" or options.on_missing_face == "fail" or set(choices) != {"largest"}:
            raise
        return None


def copy_picture(job: DubLipsJob, output: Path, overwrite: bool = False) -> DubPicture:
    """Write OUTPUT, the film with its picture copied packet by packet and the mix as its sound.

    The facts say that no face is in the film where the job has lines whose lips should move.
    """
    packets = copy_with_sound(job.film.path, output, job.mix, overwrite, language=job.language)
    counts = {"frames": packets, "frames_source": packets, "frames_match": True}
    if not job.lines:
        return DubPicture({"lips": "picture copied"} | counts)
    return DubPicture({"lips": "picture copied: no face is seen in the film", "copied": True} | counts)


def plan_face_edits(
    lines: Sequence[DubLine], make_predictor: Callable[[list[DubLine]], Callable]
) -> tuple[FaceEdit, ...]:
    """Plan a FaceEdit for every face that speaks, in the order of their first lines.

    make_predictor: called with the lines of a face, gives what predicts its mouth.
    """
    by_face: dict[str, list[DubLine]] = {}
    for line in lines:
        by_face.setdefault(line.face, []).append(line)
    return tuple(
        FaceEdit(tuple((line.start_s, line.end_s) for line in own), face, predict=make_predictor(own))
        for face, own in by_face.items()
    )


@dataclass(frozen=True, eq=False)
class DubMouthPredictor:
    """Predict the mouth of one face from its lines; each line alone, so that another word in one leaves the others.

    lines: of the face.  options: of the lip-sync.
    dialogue: sound in which lines without a plan are recognized.  cache: keeps the prediction of each line.
    """

    lines: Sequence[DubLine]
    options: LipsyncOptions
    dialogue: Path
    cache: DubCache

    def __call__(self, models: LipsyncModels, times_s: np.ndarray) -> np.ndarray:
        """Predict mouth and jaw at the starts of frames, (F,) seconds: (F, 21) float32, NaN away from every line.

        Lines next to each other crossfade; lines at the same time are averaged.
        """
        total, weight = np.zeros((len(times_s), BLINK_INDEX), np.float32), np.zeros(len(times_s), np.float32)
        wave = None
        for line in self.lines:
            outside_s = np.maximum(line.start_s - times_s, times_s - line.end_s)
            share = np.clip(1 - outside_s / CROSSFADE_S, 0, 1).astype(np.float32)
            frames = np.flatnonzero(share > 0)
            if not len(frames):
                continue
            if line.articulation is None and wave is None:
                wave = read_sound(self.dialogue, RATE_HZ, mono=True).samples[0]
            total[frames] += share[frames, None] * self._predict_line(line, models, wave, times_s[frames])
            weight[frames] += share[frames]
        return np.where(weight[:, None] > 0, total / np.maximum(weight[:, None], 1e-6), np.nan)

    def _predict_line(
        self, line: DubLine, models: LipsyncModels, wave: np.ndarray | None, times_s: np.ndarray
    ) -> np.ndarray:
        """Predict the mouth of one line, (N, 21), or read it from the cache."""
        track = get_line_articulation(line, models, wave, self.options)
        options = replace(self.options, seed=(self.options.seed + crc32(line.id.encode())) % 2**31)
        line_times_s = times_s - get_line_origin(line) / float(MOTION_HZ)
        key = self.cache.make_key("lips", track.articulation, track.active, line_times_s, options.settings())
        made = self.cache.get_arrays(key, lambda: {"lips": predict_line_mouth(models, track, line_times_s, options)})
        return made["lips"]


def get_line_origin(line: DubLine) -> int:
    """Get the tick of the motion clock at which a line's own clock begins."""
    return max(0, int(np.floor(line.start_s * float(MOTION_HZ))) - MARGIN_TICKS)


def get_line_articulation(
    line: DubLine, models: LipsyncModels, wave: np.ndarray | None, options: LipsyncOptions
) -> ArticulationTrack:
    """Get the articulation of one line on its own clock, silence before and after it; recognize it without a plan.

    wave: (S,) float32 at 16 kHz, the dialogue; None where the line has a plan.
    """
    origin = get_line_origin(line)
    ticks = int(np.ceil(line.end_s * float(MOTION_HZ))) + MARGIN_TICKS - origin
    if line.articulation is None:
        samples_per_tick = RATE_HZ // int(MOTION_HZ)
        first = origin * RATE_HZ // int(MOTION_HZ)
        part = np.zeros(ticks * samples_per_tick, np.float32)
        if wave is None:
            raise ValueError(f"line {line.id}: has no plan, so the dialogue is needed")
        sound = wave[max(first, round(line.start_s * RATE_HZ)) : round(line.end_s * RATE_HZ)]
        at = max(0, round(line.start_s * RATE_HZ) - first)
        part[at : at + len(sound)] = sound[: len(part) - at]
        return ArticulationTrack(*recognize_articulation(models.phonetic_encoder, part, ticks, options.gate))
    placed = line.articulation.place_in_silence(line.first_tick - 2 * origin, 2 * ticks)
    return ArticulationTrack(placed.values, placed.speech_probability)


def predict_line_mouth(
    models: LipsyncModels, track: ArticulationTrack, times_s: np.ndarray, options: LipsyncOptions
) -> np.ndarray:
    """Predict mouth and jaw, (N, 21) float32, at times on the line's own clock, (N,) seconds."""
    reach = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1 / float(MOTION_HZ)
    return predict_mouth(models, track, [(float(times_s[0]), float(times_s[-1]) + reach)], times_s, options)


def make_box_lookup(video: Path, folder: Path, progress: Progress) -> Callable[[int], list[tuple]]:
    """Make a function from the number of a frame to the boxes (x0, y0, x1, y1) in px in which a dub may change it.

    video: film before the dub.  folder: the cache of its dub; the largest face is tracked where no face is kept there.
    Raises what track_faces raises; InvalidInputError, code no_face, where nobody is seen.
    """
    with progress.stage("following the face", None) as advance:
        kept = FilmFaceTracker(open_film(video), folder).load_all() or [track_faces(video, ("largest",), advance)]
    with VideoReader(video) as reader:
        height_px, width_px, channels = next(iter(reader)).pixels.shape
    shape = (height_px, width_px, channels)

    def get_boxes(index: int) -> list[tuple[int, int, int, int]]:
        tracks = (track for one in kept for track in one.tracks if index < len(track))
        crops = (crop_face(track, index, WORK_PX) for track in tracks)
        return [get_mouth_box(crop, shape) for crop in crops if crop is not None]

    return get_boxes


def extract_mouth_pictures(video: Path, tracks: FaceTracks, lines: Sequence[DubLine]) -> list[MouthPicture]:
    """Extract pictures of mouths from the finished film, PICTURES_PER_LINE of each line while there is room."""
    wanted: dict[int, DubLine] = {}
    for line in lines[: MAX_MOUTH_PICTURES // PICTURES_PER_LINE]:
        for share in (np.arange(PICTURES_PER_LINE) + 0.5) / PICTURES_PER_LINE:
            time_s = line.start_s + share * (line.end_s - line.start_s)
            wanted[int(np.argmin(np.abs(tracks.times_s - time_s)))] = line
    pictures = []
    rows, columns = (
        slice(MOUTH_PICTURE_PX, 2 * MOUTH_PICTURE_PX),
        slice(MOUTH_PICTURE_PX // 2, MOUTH_PICTURE_PX * 3 // 2),
    )
    with VideoReader(video) as reader:
        for index, time, native in reader.read_native_frames():
            shown = wanted.get(index)
            points = None if shown is None else tracks.get_track(str(shown.face))[index]
            if shown is not None and points is not None:
                crop = make_crop(points, 2 * MOUTH_PICTURE_PX).extract(to_upright_rgb(native))[rows, columns]
                png = cv2.imencode(".png", crop[..., ::-1])[1].tobytes()
                pictures.append(MouthPicture(shown.id, float(Fraction(time)), png))
            if index >= max(wanted, default=0):
                break
    return pictures
