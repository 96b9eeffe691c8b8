"""Lips for a dub: every line moves the mouth of its speaker by itself, by its own plan; what earlier runs made of a line is used again."""

import json
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import version
from zlib import crc32

import cv2
import numpy as np

from engine import weights
from engine.device import choose_device
from engine.encoders.audio import ARTICULATION_WIDTH, RATE_HZ
from engine.encoders.vision import BLINK
from engine.errors import Refused
from engine.files import replacing, sha256_of
from engine.media import VideoReader, probe, read_sound, upright_rgb
from engine.mux import copy_with_sound
from engine.timeline import MOTION_HZ
from engine.warm import warm
from face.crop import crop_of
from lipsync.film import Seen, keep, kept, see
from lipsync.lips import SILENCE, Heard, lips_at
from lipsync.motion import SILENT_ENERGY, hear
from lipsync.mouth import box_of
from lipsync.options import LipsyncOptions
from lipsync.patch import WORK_PX
from lipsync.patches import Kept, Shelf
from lipsync.pipeline import load_models
from lipsync.resync import Part, prepare, resync

SHEET_PX, SHEET_MOUTHS, SHEET_OF_LINE = 112, 24, 2   # pictures of mouths on a report's page
SHELF, FACES, NETS = "kept.db", "faces-{}-{}.npz", ".nets.json"
MEET_S = 0.12                          # outside of its span, a line hands the mouth over to a neighbour
BESIDE_TICKS = 25                      # of the motion clock, before and after a line when it is performed


def relip_dub(video, sound, output, job, progress, overwrite=False):
    """Writes OUTPUT, the film with the new sound and its lips moved; facts for the report, pictures of mouths among them.

    video: film.  sound: path of the mix.
    job: dict with lines (dicts of id, speaker, start_s, end_s; tick and articulation (n, 43) from that tick on at 50 Hz, or None to listen),
    faces {speaker: face}, dialogue (path of what is listened to), options with quality, device, seed and on_missing_face, and cache, a folder of ours.
    Raises what resync raises.
    Source: ours.
    """
    options = job["options"]
    asked = LipsyncOptions(seed=options.seed, device=options.device, on_missing_face=options.on_missing_face, quality=options.quality, long_sound="cut")
    placement = choose_device(options.device)
    with weights.noted() as own:
        models = warm(load_models, placement)
    film = sha256_of(video)
    shelf, done = Shelf(job["cache"] / SHELF), False
    try:
        store = Kept(shelf, film, f"{sorted(own.values())}{placement.as_dict()}{version('av')}")
        parts = parts_of(job, lambda lines: lips_for(lines, asked, job["dialogue"], store))
        task = prepare(video, sound, asked, faces=parts)
        with progress.stage("following the face", task.info.frames) as advance:
            seen = seen_or_nobody(video, tuple(str(part.face) for part in parts), job, advance, film)
        if seen is None:
            return untouched(video, sound, output, overwrite)
        facts = resync(task, output, models, placement, progress, seen=seen, kept=store, overwrite=overwrite)
        done = True
    finally:
        shelf.close(done)
    mouths = [] if facts["copied"] else mouths_of(output, seen, job["lines"], [str(job["faces"][line["speaker"]]) for line in job["lines"]])
    facts["faces"] = [row | {"speakers": sorted({line["speaker"] for line in job["lines"] if str(job["faces"][line["speaker"]]) == row["face"]})} for row in facts["faces"]]
    return facts | dict(lips="moved", frames_source=len(seen.times), frames_match=facts["frames"] == len(seen.times), used_again=store.counts, mouths=mouths)


def seen_or_nobody(video, choices, job, advance, film):
    """As seen_once; None where nobody is seen in the film, no face was asked for by name and frames without one may pass. Source: ours."""
    try:
        return seen_once(video, choices, job["cache"], advance, film)
    except Refused as problem:
        if problem.code != "no_face" or job["options"].on_missing_face == "fail" or set(choices) != {"largest"}:
            raise
        return None


def untouched(video, sound, output, overwrite):
    """Writes the film with its picture copied bit by bit and the new sound; facts for the report. Source: engine.mux."""
    packets = copy_with_sound(video, output, sound, overwrite)
    return dict(lips="picture copied: no face is seen in the film", copied=True, frames=packets, frames_source=packets, frames_match=True)


def parts_of(job, lips):
    """A Part for every face that speaks, in the order of their first lines. job: as for `relip_dub`.  lips: called with the lines of a face. Source: ours."""
    by_face = {}
    for line in job["lines"]:
        by_face.setdefault(job["faces"][line["speaker"]], []).append(line)
    return tuple(Part(tuple((line["start_s"], line["end_s"]) for line in own), face, lips=lips(own)) for face, own in by_face.items())


def lips_for(lines, options, dialogue, store):
    """What resync.Part.lips wants: each line performed by itself and kept, so that another word in one leaves the others as they were.

    lines: of one face.  options: LipsyncOptions.  dialogue: path of what lines without a plan are heard in.  store: patches.Kept.
    Lines next to each other share the frames between them; of lines at one time each has its part.
    Source: ours.
    """
    def lips(models, times_s):
        total, weight, wave = np.zeros((len(times_s), BLINK), np.float32), np.zeros(len(times_s), np.float32), None
        for line in lines:
            wide = np.clip(1 - np.maximum(line["start_s"] - times_s, times_s - line["end_s"]) / MEET_S, 0, 1).astype(np.float32)
            at = np.flatnonzero(wide > 0)
            if not len(at):
                continue
            if line["articulation"] is None and wave is None:
                wave = read_sound(dialogue, RATE_HZ, mono=True).samples[0]
            told = told_in(line, models, wave, options)
            own = replace(options, seed=(options.seed + crc32(line["id"].encode())) % 2**31)
            where = times_s[at] - origin_of(line) / float(MOTION_HZ)
            name = store.name("lips", told.articulation, told.active, where, own.settings())
            total[at] += wide[at, None] * store.arrays(name, lambda told=told, where=where, own=own: dict(lips=performed(models, told, where, own)))["lips"]
            weight[at] += wide[at]
        return np.where(weight[:, None] > 0, total / np.maximum(weight[:, None], 1e-6), np.nan)

    return lips


def origin_of(line):
    """Tick of the motion clock where a line's own clock begins. Source: ours."""
    return max(0, int(np.floor(line["start_s"] * float(MOTION_HZ))) - BESIDE_TICKS)


def told_in(line, models, wave, options):
    """Heard of one line alone on its own clock, silence before and after it; what has no plan is listened to. Source: ours."""
    origin = origin_of(line)
    ticks = int(np.ceil(line["end_s"] * float(MOTION_HZ))) + BESIDE_TICKS - origin
    if line["articulation"] is None:
        first, unit = origin * RATE_HZ // int(MOTION_HZ), RATE_HZ // int(MOTION_HZ)
        part = np.zeros(ticks * unit, np.float32)
        sound = wave[max(first, round(line["start_s"] * RATE_HZ)) : round(line["end_s"] * RATE_HZ)]
        at = max(0, round(line["start_s"] * RATE_HZ) - first)
        part[at : at + len(sound)] = sound[: len(part) - at]
        return Heard(*hear(models.listener, part, ticks, options.gate))
    told = np.zeros((2 * ticks, ARTICULATION_WIDTH), np.float32)
    told[:, SILENCE], told[:, -1] = 1, SILENT_ENERGY
    start = line["tick"] - 2 * origin
    given = line["articulation"][max(0, -start) :]
    start = max(0, start)
    told[start : start + len(given)] = given[: max(0, len(told) - start)]
    return Heard(told, 1 - told[:, SILENCE])


def performed(models, told, times_s, options):
    """(N, 21) mouth and jaw at times on the line's own clock. Source: lipsync.lips."""
    reach = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1 / float(MOTION_HZ)
    return lips_at(models, told, [(float(times_s[0]), float(times_s[-1]) + reach)], times_s, options)


def seen_once(video, choices, folder, advance, film=None):
    """The film.Seen of the faces, those that an earlier run on the same film followed as it left them.

    video: path.  choices: of faces, as words.  folder: Path of ours.  advance: called with frames.  film: SHA-256, None reads it.
    Raises what film.see raises; that nobody is seen is kept too.
    Source: ours.
    """
    film = film or sha256_of(video)
    paths = [folder / FACES.format(film[:16], f"{crc32(choice.encode()):08x}") for choice in choices]
    found = [kept(path, (choice,)) for path, choice in zip(paths, choices)]
    missing = [k for k, one in enumerate(found) if one is None]
    if missing:
        nobody = paths[missing[0]].with_suffix(".json")
        if nobody.is_file():
            name_nets(paths[missing[0]])
            raise Refused(**json.loads(nobody.read_text(encoding="utf-8")))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with weights.noted() as nets:
                seen = see(video, [choices[k] for k in missing], advance)
        except Refused as problem:
            if problem.code == "no_face":                         # the next run need not look again
                keep_nets(paths[missing[0]], nets)
                with replacing(nobody, overwrite=True) as part:
                    part.write_text(json.dumps(dict(message=problem.message, hint=problem.hint, code=problem.code)), encoding="utf-8")
            raise
        for k, track in zip(missing, seen.tracks):
            found[k] = Seen(seen.times, seen.end, (choices[k],), [track], seen.truncated)
            keep(paths[k], found[k])
            keep_nets(paths[k], nets)
    for path in paths:
        name_nets(path)
    return Seen(found[0].times, found[0].end, tuple(choices), [one.tracks[0] for one in found], found[0].truncated)


def keep_nets(path, used):
    """Writes which nets looked for the faces of a file of `keep`, so that a later run can name them. used: as weights.noted gives it. Source: ours."""
    with replacing(path.with_suffix(NETS), overwrite=True) as part:
        part.write_text(json.dumps({name: digest for (name, _), digest in used.items()}), encoding="utf-8")


def name_nets(path):
    """Names for the side-car what `keep_nets` wrote; nothing where it did not. Source: ours."""
    beside = path.with_suffix(NETS)
    if beside.is_file():
        weights.name_again(json.loads(beside.read_text(encoding="utf-8")))


def follow_dub(video, choice, folder, progress):
    """(Track, (F,) starts of frames in seconds) of one face: how the branch that speaks borrows the eyes of this one.

    video: path.  choice: of a face.  folder: Path, the cache of relip_dub.
    Raises what film.see raises.
    Source: ours.
    """
    with progress.stage("following the face", probe(video).frames) as advance:
        seen = seen_once(video, (str(choice),), folder, advance)
    return seen.tracks[0], seen.times_s


def boxes_of(video, folder, progress):
    """A callable that gives, for the number of a frame, the boxes (x0, y0, x1, y1) in px in which a dub may change it.

    video: film before the dub.  folder: Path, the cache of relip_dub: the faces that it has followed, or the largest one where there is none.
    Raises what film.see raises; Refused, code no_face, where nobody is seen.
    Source: ours.
    """
    with progress.stage("following the face", None) as advance:
        paths = sorted(folder.glob(FACES.format(sha256_of(video)[:16], "*")))
        found = [one for one in (kept(path) for path in paths) if one is not None] or [see(video, ("largest",), advance)]
    with VideoReader(video) as reader:
        shape = next(iter(reader)).pixels.shape

    def boxes(index):
        tracks = (track for one in found for track in one.tracks if index < len(track) and track[index] is not None)
        return [box_of(track.crop(index, WORK_PX), shape) for track in tracks]

    return boxes


def mouths_of(film, seen, lines, faces):
    """[(line id, seconds, PNG bytes)] of mouths in the finished film, a few of each line while there is room.

    film: path.  seen: Seen.  lines: as in relip_dub.  faces: choice of each line's face.
    Source: ours.
    """
    wanted = {}
    for line, face in list(zip(lines, faces))[: SHEET_MOUTHS // SHEET_OF_LINE]:
        for share in (np.arange(SHEET_OF_LINE) + 0.5) / SHEET_OF_LINE:
            index = int(np.argmin(np.abs(seen.times_s - (line["start_s"] + share * (line["end_s"] - line["start_s"])))))
            wanted[index] = (line["id"], seen.choices.index(face))
    out = []
    with VideoReader(film) as reader:
        for index, time, native in reader.natives():
            line, face = wanted.get(index, (None, 0))
            points = seen.tracks[face][index] if line is not None else None
            if points is not None:
                crop = crop_of(points, 2 * SHEET_PX).take(upright_rgb(native))[SHEET_PX : 2 * SHEET_PX, SHEET_PX // 2 : SHEET_PX // 2 + SHEET_PX]
                out.append((line, float(Fraction(time)), cv2.imencode(".png", crop[..., ::-1])[1].tobytes()))
            if index >= max(wanted, default=0):
                break
    return out
