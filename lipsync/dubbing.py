"""Lips for a dub: every spoken line moves the mouth of its speaker, by its own plan; the face is followed once for all runs."""

from fractions import Fraction

import cv2
import numpy as np

from engine.device import choose_device
from engine.files import sha256_of
from engine.media import VideoReader
from engine.warm import warm
from face.crop import crop_of
from lipsync.film import keep, kept, see
from lipsync.options import LipsyncOptions
from lipsync.pipeline import load_models
from lipsync.resync import Part, prepare, resync

SHEET_PX, SHEET_MOUTHS, SHEET_OF_LINE = 112, 24, 2   # pictures of mouths on a report's page


def relip_dub(video, sound, output, job, progress, overwrite=False):
    """Writes OUTPUT, the film with the new sound and its lips moved; facts for the report, pictures of mouths among them.

    video: film.  sound: path of the mix.
    job: dict with spans [(start_s, end_s, speaker, line id)], articulation (T, 43) at 50 Hz over the film, faces {speaker: face},
    options with quality, device, seed and on_missing_face, and cache, a folder of ours.
    Raises what resync raises.
    Source: ours.
    """
    options = job["options"]
    parts = parts_of(job["spans"], job["faces"])
    asked = LipsyncOptions(seed=options.seed, device=options.device, on_missing_face=options.on_missing_face, quality=options.quality, long_sound="cut")
    placement = choose_device(options.device)
    task = prepare(video, sound, asked, articulation=job["articulation"], faces=parts)
    models = warm(load_models, placement)
    with progress.stage("following the face", task.info.frames) as advance:
        seen = seen_once(video, tuple(str(part.face) for part in parts), job["cache"], advance)
    facts = resync(task, output, models, placement, progress, seen=seen, overwrite=overwrite)
    mouths = [] if facts["copied"] else mouths_of(output, seen, parts, job["spans"])
    return facts | dict(lips="moved", frames_source=len(seen.times), frames_match=facts["frames"] == len(seen.times), mouths=mouths)


def parts_of(spans, faces):
    """A Part for every face that speaks, in the order of their first lines. spans, faces: as for `relip_dub`. Source: ours."""
    by_face = {}
    for start, end, speaker, _ in spans:
        by_face.setdefault(faces[speaker], []).append((start, end))
    return tuple(Part(tuple(own), face) for face, own in by_face.items())


def seen_once(video, choices, folder, advance):
    """The film.Seen of the faces, from an earlier run on the same film where there was one. Source: ours."""
    path = folder / f"faces-{sha256_of(video)[:16]}.npz"
    seen = kept(path, choices)
    if seen is None:
        seen = see(video, choices, advance)
        folder.mkdir(parents=True, exist_ok=True)
        keep(path, seen)
    return seen


def mouths_of(film, seen, parts, spans):
    """[(line id, seconds, PNG bytes)] of mouths in the finished film, a few of each line while there is room. Source: ours."""
    number = {(start, end): k for k, part in enumerate(parts) for start, end in part.spans_s}
    wanted = {}
    for start, end, _, line in spans[: SHEET_MOUTHS // SHEET_OF_LINE]:
        for share in (np.arange(SHEET_OF_LINE) + 0.5) / SHEET_OF_LINE:
            index = int(np.argmin(np.abs(seen.times_s - (start + share * (end - start)))))
            wanted[index] = (line, number[(start, end)])
    out = []
    with VideoReader(film) as frames:
        for frame in frames:
            line, face = wanted.get(frame.index, (None, 0))
            points = seen.tracks[face][frame.index] if line is not None else None
            if points is not None:
                crop = crop_of(points, 2 * SHEET_PX).take(frame.pixels)[SHEET_PX : 2 * SHEET_PX, SHEET_PX // 2 : SHEET_PX // 2 + SHEET_PX]
                out.append((line, float(Fraction(frame.time)), cv2.imencode(".png", crop[..., ::-1])[1].tobytes()))
            if frame.index >= max(wanted, default=0):
                break
    return out
