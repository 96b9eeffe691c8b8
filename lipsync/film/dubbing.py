"""Lips for a dub: every line moves the mouth of its speaker by itself, by its own plan; what earlier runs made of a
line is used again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import version
from typing import TYPE_CHECKING
from zlib import crc32

import cv2
import numpy as np

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.encoders.motion import BLINK_INDEX
from mouthpiece.engine.encoders.phonetic import ARTICULATION_WIDTH, RATE_HZ
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import atomic_write, compute_sha256
from mouthpiece.engine.media.mux import copy_with_sound
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound, to_upright_rgb
from mouthpiece.engine.timeline import MOTION_HZ
from mouthpiece.engine.version import get_code_version
from mouthpiece.engine.weights.model_cache import get_cached_model
from mouthpiece.engine.weights.records import ModelRecords, add_model_hashes, record_models
from mouthpiece.face.crop import make_crop
from mouthpiece.lipsync.film.cache import BlobStore, DubCache
from mouthpiece.lipsync.film.face_scan import FaceTracks, load_face_tracks, save_face_tracks, track_faces
from mouthpiece.lipsync.film.lipsync_job import FaceEdit, prepare_lipsync
from mouthpiece.lipsync.film.mouth_compositor import get_mouth_box
from mouthpiece.lipsync.film.resync import resync
from mouthpiece.lipsync.models import load_models
from mouthpiece.lipsync.motion.speech_to_motion import SILENT_ENERGY, recognize_articulation
from mouthpiece.lipsync.motion.speech_to_mouth import SIL_INDEX, ArticulationTrack, predict_mouth
from mouthpiece.lipsync.options import LipsyncOptions
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.face.track import FaceTrack
    from mouthpiece.lipsync.models import LipsyncModels

MOUTH_PICTURE_PX, MOUTH_PICTURES, PICTURES_PER_LINE = 112, 24, 2  # pictures of mouths on a report's page
CACHE_FILE, FACES_FILE, MODEL_NAMES_SUFFIX = "kept.db", "faces-{}-{}.npz", ".nets.json"
HANDOVER_S = 0.12  # outside of its span, a line hands the mouth over to a neighbour
MARGIN_TICKS = 25  # of the motion clock, before and after a line when it is performed


def lipsync_dub(
    video: Path, sound: Path, output: Path, job: dict[str, Any], progress: Progress, overwrite: bool = False
) -> dict[str, Any] | None:
    """Writes OUTPUT, the film with the new sound and its lips moved; facts for the report, pictures of mouths among
    them.

    video: film.  sound: path of the mix.
    job: dict with lines (dicts of id, speaker, start_s, end_s; tick and articulation (n, 43) from that tick on at 50
    Hz, or None to listen),
    faces {speaker: face}, dialogue (path of what is listened to), options with quality, device, seed and
    on_missing_face, and cache, a folder of ours.
    Raises what resync raises.
    """
    options = job["options"]
    asked = LipsyncOptions(
        seed=options.seed,
        device=options.device,
        on_missing_face=options.on_missing_face,
        quality=options.quality,
        long_sound="cut",
    )
    placement = choose_device(options.device)
    with record_models() as own:
        models = get_cached_model(load_models, placement)
    film = compute_sha256(video)
    shelf, done = BlobStore(job["cache"] / CACHE_FILE), False
    try:
        store = DubCache(shelf, film, f"{sorted(record.sha256 for record in own)}{placement.as_dict()}{version('av')}")
        parts = plan_face_edits(job, lambda lines: make_mouth_predictor(lines, asked, job["dialogue"], store))
        task = prepare_lipsync(video, sound, asked, faces=parts)
        with progress.stage("following the face", task.info.frames) as advance:
            seen = track_faces_if_any(video, tuple(str(part.face) for part in parts), job, advance, film)
        if seen is None:
            return copy_picture(video, sound, output, overwrite)
        facts = resync(task, output, models, placement, progress, tracks=seen, cache=store, overwrite=overwrite)
        done = True
    finally:
        shelf.close(done)
    mouths = (
        []
        if facts["copied"]
        else extract_mouth_pictures(
            output, seen, job["lines"], [str(job["faces"][line["speaker"]]) for line in job["lines"]]
        )
    )
    facts["faces"] = [
        row
        | {
            "speakers": sorted(
                {line["speaker"] for line in job["lines"] if str(job["faces"][line["speaker"]]) == row["face"]}
            )
        }
        for row in facts["faces"]
    ]
    return facts | dict(
        lips="moved",
        frames_source=len(seen.times),
        frames_match=facts["frames"] == len(seen.times),
        used_again=store.counts,
        mouths=mouths,
    )


def track_faces_if_any(
    video: Path, choices: tuple[str], job: dict[str, Any], advance: Callable, film: str
) -> FaceTracks | None:
    """As seen_once; None where nobody is seen in the film, no face was asked for by name and frames without one may
    pass.
    """
    try:
        return track_faces_once(video, choices, job["cache"], advance, film)
    except InvalidInputError as problem:
        if problem.code != "no_face" or job["options"].on_missing_face == "fail" or set(choices) != {"largest"}:
            raise
        return None


def copy_picture(video: Path, sound: Path, output: Path, overwrite: bool) -> dict[str, Any]:
    """Writes the film with its picture copied bit by bit and the new sound; facts for the report. Source:
    mouthpiece.engine.media.mux.
    """
    packets = copy_with_sound(video, output, sound, overwrite)
    return dict(
        lips="picture copied: no face is seen in the film",
        copied=True,
        frames=packets,
        frames_source=packets,
        frames_match=True,
    )


def plan_face_edits(job: dict[str, Any], lips: Callable) -> tuple[FaceEdit]:
    """A Part for every face that speaks, in the order of their first lines. job: as for `relip_dub`.  lips: called with
    the lines of a face.
    """
    by_face = {}
    for line in job["lines"]:
        by_face.setdefault(job["faces"][line["speaker"]], []).append(line)
    return tuple(
        FaceEdit(tuple((line["start_s"], line["end_s"]) for line in own), face, predict=lips(own))
        for face, own in by_face.items()
    )


def make_mouth_predictor(
    lines: list[dict[str, Any]] | tuple, options: LipsyncOptions, dialogue: Path, store: DubCache
) -> Callable:
    """What resync.Part.lips wants: each line performed by itself and kept, so that another word in one leaves the
    others as they were.

    lines: of one face.  options: LipsyncOptions.  dialogue: path of what lines without a plan are heard in.  store:
    patches.Kept.
    Lines next to each other share the frames between them; of lines at one time each has its part.
    """

    def lips(models: LipsyncModels, times_s: np.ndarray) -> np.ndarray:
        total, weight, wave = (
            np.zeros((len(times_s), BLINK_INDEX), np.float32),
            np.zeros(len(times_s), np.float32),
            None,
        )
        for line in lines:
            wide = np.clip(
                1 - np.maximum(line["start_s"] - times_s, times_s - line["end_s"]) / HANDOVER_S, 0, 1
            ).astype(np.float32)
            at = np.flatnonzero(wide > 0)
            if not len(at):
                continue
            if line["articulation"] is None and wave is None:
                wave = read_sound(dialogue, RATE_HZ, mono=True).samples[0]
            told = get_line_articulation(line, models, wave, options)
            own = replace(options, seed=(options.seed + crc32(line["id"].encode())) % 2**31)
            where = times_s[at] - get_line_origin(line) / float(MOTION_HZ)
            name = store.make_key("lips", told.articulation, told.active, where, own.settings())
            total[at] += (
                wide[at, None]
                * store.get_arrays(
                    name,
                    lambda told=told, where=where, own=own: dict(lips=predict_line_mouth(models, told, where, own)),
                )["lips"]
            )
            weight[at] += wide[at]
        return np.where(weight[:, None] > 0, total / np.maximum(weight[:, None], 1e-6), np.nan)

    return lips


def get_line_origin(line: dict[str, Any]) -> int:
    """Tick of the motion clock where a line's own clock begins."""
    return max(0, int(np.floor(line["start_s"] * float(MOTION_HZ))) - MARGIN_TICKS)


def get_line_articulation(
    line: dict[str, Any], models: LipsyncModels, wave: np.ndarray | None, options: LipsyncOptions
) -> ArticulationTrack:
    """Heard of one line alone on its own clock, silence before and after it; what has no plan is listened to."""
    origin = get_line_origin(line)
    ticks = int(np.ceil(line["end_s"] * float(MOTION_HZ))) + MARGIN_TICKS - origin
    if line["articulation"] is None:
        first, unit = origin * RATE_HZ // int(MOTION_HZ), RATE_HZ // int(MOTION_HZ)
        part = np.zeros(ticks * unit, np.float32)
        sound = wave[max(first, round(line["start_s"] * RATE_HZ)) : round(line["end_s"] * RATE_HZ)]
        at = max(0, round(line["start_s"] * RATE_HZ) - first)
        part[at : at + len(sound)] = sound[: len(part) - at]
        return ArticulationTrack(*recognize_articulation(models.phonetic_encoder, part, ticks, options.gate))
    told = np.zeros((2 * ticks, ARTICULATION_WIDTH), np.float32)
    told[:, SIL_INDEX], told[:, -1] = 1, SILENT_ENERGY
    start = line["tick"] - 2 * origin
    given = line["articulation"][max(0, -start) :]
    start = max(0, start)
    told[start : start + len(given)] = given[: max(0, len(told) - start)]
    return ArticulationTrack(told, 1 - told[:, SIL_INDEX])


def predict_line_mouth(
    models: LipsyncModels, told: ArticulationTrack, times_s: np.ndarray, options: LipsyncOptions
) -> np.ndarray:
    """(N, 21) mouth and jaw at times on the line's own clock. Source: mouthpiece.lipsync.motion.speech_to_mouth."""
    reach = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1 / float(MOTION_HZ)
    return predict_mouth(models, told, [(float(times_s[0]), float(times_s[-1]) + reach)], times_s, options)


def track_faces_once(
    video: Path, choices: tuple[str, ...], folder: Path, advance: Callable | type, film: str | None = None
) -> FaceTracks | None:
    """The film.Seen of the faces, those that an earlier run on the same film followed as it left them.

    video: path.  choices: of faces, as words.  folder: Path of ours.  advance: called with frames.  film: SHA-256, None
    reads it.
    Raises what film.see raises; that nobody is seen is kept too.
    """
    film = film or compute_sha256(video)
    keys = [crc32(f"{choice}|{get_code_version()}".encode()) for choice in choices]
    paths = [folder / FACES_FILE.format(film[:16], f"{key:08x}") for key in keys]
    found = [load_face_tracks(path, (choice,)) for path, choice in zip(paths, choices)]
    missing = [k for k, one in enumerate(found) if one is None]
    if missing:
        nobody = paths[missing[0]].with_suffix(".json")
        if nobody.is_file():
            record_model_names(paths[missing[0]])
            raise InvalidInputError(**json.loads(nobody.read_text(encoding="utf-8")))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with record_models() as nets:
                seen = track_faces(video, [choices[k] for k in missing], advance)
        except InvalidInputError as problem:
            if problem.code == "no_face":  # the next run need not look again
                save_model_names(paths[missing[0]], nets)
                with atomic_write(nobody, overwrite=True) as part:
                    part.write_text(
                        json.dumps(dict(message=problem.message, hint=problem.hint, code=problem.code)),
                        encoding="utf-8",
                    )
            raise
        for k, track in zip(missing, seen.tracks):
            found[k] = FaceTracks(seen.times, seen.end, (choices[k],), [track], seen.truncated)
            save_face_tracks(paths[k], found[k])
            save_model_names(paths[k], nets)
    for path in paths:
        record_model_names(path)
    return FaceTracks(
        found[0].times, found[0].end, tuple(choices), [one.tracks[0] for one in found], found[0].truncated
    )


def save_model_names(path: Path, used: ModelRecords) -> None:
    """Writes which nets looked for the faces of a file of `keep`, so that a later run can name them. used: as
    weights.noted gives it.
    """
    with atomic_write(path.with_suffix(MODEL_NAMES_SUFFIX), overwrite=True) as part:
        part.write_text(json.dumps(used.get_hashes()), encoding="utf-8")


def record_model_names(path: Path) -> None:
    """Names for the side-car what `keep_nets` wrote; nothing where it did not."""
    beside = path.with_suffix(MODEL_NAMES_SUFFIX)
    if beside.is_file():
        add_model_hashes(json.loads(beside.read_text(encoding="utf-8")))


def follow_face(video: Path, choice: str, folder: Path, progress: Progress) -> tuple[FaceTrack, np.ndarray] | None:
    """(Track, (F,) starts of frames in seconds) of one face: how the branch that speaks borrows the eyes of this one.

    video: path.  choice: of a face.  folder: Path, the cache of relip_dub.
    Raises what film.see raises.
    """
    with progress.stage("following the face", probe(video).frames) as advance:
        seen = track_faces_once(video, (str(choice),), folder, advance)
    return seen.tracks[0], seen.times_s


def make_box_lookup(video: Path, folder: Path, progress: Progress) -> Callable | None:
    """A callable that gives, for the number of a frame, the boxes (x0, y0, x1, y1) in px in which a dub may change it.

    video: film before the dub.  folder: Path, the cache of relip_dub: the faces that it has followed, or the largest
    one where there is none.
    Raises what film.see raises; Refused, code no_face, where nobody is seen.
    """
    with progress.stage("following the face", None) as advance:
        paths = sorted(folder.glob(FACES_FILE.format(compute_sha256(video)[:16], "*")))
        found = [one for one in (load_face_tracks(path) for path in paths) if one is not None] or [
            track_faces(video, ("largest",), advance)
        ]
    with VideoReader(video) as reader:
        shape = next(iter(reader)).pixels.shape

    def boxes(index: int) -> list[tuple[int, int, int, int]]:
        tracks = (track for one in found for track in one.tracks if index < len(track) and track[index] is not None)
        return [get_mouth_box(track.crop(index, WORK_PX), shape) for track in tracks]

    return boxes


def extract_mouth_pictures(
    video: Path, tracks: FaceTracks, lines: tuple, faces: list[str]
) -> list[tuple[str, float, bytes]]:
    """[(line id, seconds, PNG bytes)] of mouths in the finished film, a few of each line while there is room.

    film: path.  seen: Seen.  lines: as in relip_dub.  faces: choice of each line's face.
    """
    wanted = {}
    for line, face in list(zip(lines, faces))[: MOUTH_PICTURES // PICTURES_PER_LINE]:
        for share in (np.arange(PICTURES_PER_LINE) + 0.5) / PICTURES_PER_LINE:
            index = int(
                np.argmin(np.abs(tracks.times_s - (line["start_s"] + share * (line["end_s"] - line["start_s"]))))
            )
            wanted[index] = (line["id"], tracks.choices.index(face))
    out = []
    with VideoReader(video) as reader:
        for index, time, native in reader.read_native_frames():
            line, face = wanted.get(index, (None, 0))
            points = tracks.tracks[face][index] if line is not None else None
            if points is not None:
                crop = make_crop(points, 2 * MOUTH_PICTURE_PX).take(to_upright_rgb(native))[
                    MOUTH_PICTURE_PX : 2 * MOUTH_PICTURE_PX,
                    MOUTH_PICTURE_PX // 2 : MOUTH_PICTURE_PX // 2 + MOUTH_PICTURE_PX,
                ]
                out.append((line, float(Fraction(time)), cv2.imencode(".png", crop[..., ::-1])[1].tobytes()))
            if index >= max(wanted, default=0):
                break
    return out
