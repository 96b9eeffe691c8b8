"""lipsync: the lips of a film moved to new sound, only in the spans that change, only at the mouth; everything else stays as it is."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from engine.curves import smoothstep
from engine.encoders.audio import RATE_HZ
from engine.encoders.vision import BLINK, POSE
from engine.errors import MouthpieceError, Refused
from engine.film import SEGMENT_FRAMES, FilmWriter
from engine.media import VideoReader, probe, read_sound, sound_duration, upright_rgb
from engine.mux import copy_with_sound
from engine.timeline import MOTION_HZ, frame_count
from face.detect import parse_choice
from lipsync.canvas import parts_of, tightened
from lipsync.film import WHY, held, look, see, steadied
from lipsync.lips import lips_at, listen_to
from lipsync.mouth import Sight, box_of, jaw_flow
from lipsync.options import LipsyncOptions
from lipsync.patch import WORK_PX
from lipsync.renderer import Rendering
from lipsync.rests import sharing
from lipsync.spans import differing, frame_spans, inside, joined, parse_spans, weights
from lipsync.teeth import as_tensor, teeth_of

CHUNK_FRAMES = 8
BESIDE_S = 2.0                         # of film before and after a span in which a resting mouth may be found
INSIDE_FROM, INSIDE = (0.012, 0.04), 0.9   # opening in units of the crop from which, and in full, the inside of an open mouth of the shot is shown; how far
SILENT = 1e-3                          # peak below which a sound that outlasts the film may be cut without asking
RESTS_HELD = 16                        # about as many as a frame may be made of
MEETING_SHARE = 2.0                    # the change is shown in full when the lips are this much less than half on their way


class Part(NamedTuple):
    """One face of a film and the seconds in which it is to speak.

    spans_s: pairs of seconds, or None for all of the film.  face: as for face.detect.choose_face.
    articulation: as Job.articulation, for this face alone; None: the job's.
    lips: called with (Models, starts of frames (F,) in seconds), gives the mouth and jaw wanted in each, (F, 21); None listens.
    Source: ours.
    """

    spans_s: tuple | None
    face: object = "largest"
    articulation: np.ndarray | None = None
    lips: object = None


@dataclass(frozen=True, eq=False)
class Job:
    """A change of lips known to be possible: inputs read and checked; no frame has been looked at.

    video: path.  sound: path, what is to be heard.
    options: LipsyncOptions.  parts: Parts.  info: MediaInfo of the video.
    wave: (S,) float32 at RATE_HZ, what the lips follow.
    articulation: (N, 43) at 50 Hz from time zero, which replaces listening where it is not NaN; None: all is heard.
    Source: ours.
    """

    video: Path
    sound: Path
    options: LipsyncOptions
    parts: tuple
    info: object
    wave: np.ndarray = field(repr=False)
    articulation: np.ndarray | None = field(default=None, repr=False)

    def plan(self):
        """What will be written, JSON-ready: rate, width_px, height_px, spans_s of each face, duration_s as the header has it."""
        info = self.info
        facts = {"rate": str(info.rate), "width_px": info.width_px, "height_px": info.height_px, "variable_rate": info.variable_rate}
        facts["duration_s"] = None if info.duration is None else float(info.duration)
        facts["faces"] = [{"face": str(p.face), "spans_s": None if p.spans_s is None else [list(s) for s in p.spans_s]} for p in self.parts]
        return facts


def prepare(video, sound, options, spans=None, articulation=None, *, faces=None, lips=None):
    """The Job of a film and its new sound, after every check that needs no look at the frames.

    video: path with a moving picture.  sound: sound or video file, what is to be heard.
    options: LipsyncOptions; its face and spans are for jobs with one face.
    spans: pairs of seconds to change; None: those of the options, else wherever the sound is not the film's own.
    articulation: as in Job.
    faces: Parts, or plain (spans_s, face) pairs, for several faces; None: the face of the options in `spans`.
    lips: path of a recording that the lips follow instead of the sound, such as the dialogue of a mix.
    Raises Refused for a film without picture, no sound, sound longer than the film; UsageProblem for spans beyond its end.
    Source: ours.
    """
    info = probe(video)
    if not info.has_video:
        raise Refused(f"{video}: no moving picture in it.", hint="Give a video; for a still picture use animate.", code="no_video")
    wave = read_sound(sound if lips is None else lips, RATE_HZ, mono=True).samples[0]
    if info.duration is not None:
        check_length(sound, info.duration, info.rate, options)
    if faces is None:
        spans = parse_spans(options.spans) if spans is None else spans
        if spans is None and articulation is None and info.has_audio:
            own = read_sound(video, RATE_HZ, mono=True).samples[0]
            spans = differing(own, read_sound(sound, RATE_HZ, mono=True).samples[0])
        faces = [Part(spans, options.face)]
    parts = tuple(Part(part[0] if part[0] is None else tuple(joined(part[0])), *part[1:]) for part in faces)
    for part in parts:
        parse_choice(part.face)
        check_spans(part.spans_s, info, video)
    return Job(Path(video), Path(sound), options, parts, info, wave, articulation)


def check_spans(spans, info, video):
    """Refuses spans that begin after the film has ended. Source: ours."""
    if spans and info.duration is not None and spans[-1][0] >= info.duration:
        start, stop = spans[-1]
        raise Refused(
            f"{video}: ends at {float(info.duration):.2f} s, a span to change is {start:g}-{stop:g} s.",
            hint="Give spans within the film; is this the right one?",
            code="span_outside",
        )


def check_length(sound, duration, rate, options):
    """Refuses sound that goes on after the film by more than a frame, unless that rest is silent or may be cut. Source: ours."""
    over, frame_s = sound_duration(sound) - duration, 1 / (rate or Fraction(25))
    if over <= frame_s or options.long_sound == "cut":
        return
    rest = read_sound(sound, RATE_HZ, mono=True).samples[0][int((duration + frame_s) * RATE_HZ) :]
    if np.abs(rest).max(initial=0) > SILENT:
        raise Refused(
            f"{sound}: goes on for {float(over):.2f} s after the film has ended ({float(duration):.2f} s).",
            hint="Shorten it, or give --long-sound cut; the film's frames set the length.",
            code="sound_too_long",
        )


@dataclass(frozen=True, eq=False)
class Change:
    """What is done to one face, frame by frame.

    track: Track.  weight: (F,) float32, 0 where nothing changes.
    own, wanted: (F, 26) float32 codes, NaN where nothing changes.
    why: (F,) int8 as in film.Looks, of the frames asked for; asked: (F,) bool.
    rests, opened: {frame: [(Rest, share)]}, what its lips, and the inside of open ones, are made of.
    Source: ours.
    """

    track: object
    weight: np.ndarray
    own: np.ndarray
    wanted: np.ndarray
    why: np.ndarray
    asked: np.ndarray
    rests: dict
    opened: dict


def planned(job, seen, models, progress, kept=None):
    """A Change for every part of a job.

    seen: film.Seen of the parts' faces.  models: pipeline.Models.  kept: patches.Kept, or None.
    Raises Refused where --on-missing-face fail says so.
    Source: ours.
    """
    times_s, options = seen.times_s, job.options
    if options.on_missing_face == "hold":
        seen = replace(seen, tracks=[held(track) for track in seen.tracks])
    asked = [inside(times_s, [(0, float(seen.end))] if part.spans_s is None else part.spans_s) for part in job.parts]
    for track, flags in zip(seen.tracks, asked):
        missing = np.flatnonzero(flags & ~track.present)
        if options.on_missing_face == "fail" and len(missing):
            raise Refused(
                f"{job.video}: no face is seen at {times_s[missing[0]]:.2f} s, and in {len(missing)} of {flags.sum()} frames to change.",
                hint="Use --on-missing-face pass to leave such frames as they are, or hold to keep the face's last place.",
                code="face_missing",
            )
    near = [inside(times_s, [(a - BESIDE_S, b + BESIDE_S) for a, b in frame_spans(times_s, seen.end, flags)]) for flags in asked]
    with progress.stage("looking at the mouth", len(times_s)) as advance:
        looks = (look if kept is None else kept.look)(job.video, seen, near, (models.encoder, models.space, models.finder), advance)
    ticks = max(2, frame_count(max(seen.end, Fraction(len(job.wave), RATE_HZ)), MOTION_HZ) + 1)
    changes = []
    with progress.stage("listening", len(job.parts), "faces") as advance:
        for part, track, flags, seen_mouth in zip(job.parts, seen.tracks, asked, looks):
            told = job.articulation if part.articulation is None else part.articulation
            weight = weights(times_s, flags & (seen_mouth.why == 0), track.shot, options.ease)
            own, wanted = steadied(seen_mouth.codes, track.shot, times_s), np.full_like(seen_mouth.codes, np.nan)
            if weight.any() and part.lips is not None:
                wanted[:] = own
                wanted[:, :BLINK] = part.lips(models, times_s)
            elif weight.any():
                heard = listen_to(models.listener, job.wave, ticks, options.gate, told)
                wanted[:] = own
                wanted[:, :BLINK] = lips_at(models, heard, frame_spans(times_s, seen.end, weight > 0), times_s, options)
            rests, opened = shared(seen_mouth, weight, track.shot, times_s)
            weight[[index for index in np.flatnonzero(weight) if index not in rests]] = 0
            changes.append(Change(track, weight, own, wanted, seen_mouth.why, flags, rests, opened))
            advance(1)
    return changes


def shared(mouth, weight, shot, times_s):
    """Change.rests and Change.opened. mouth: film.Looks.  weight, shot: (F,).  times_s: (F,) starts of frames. Source: ours."""
    rests, opened = {}, {}
    for number in np.unique(shot[weight > 0]).tolist():
        frames = np.flatnonzero((weight > 0) & (shot == number))
        for out, found in ((rests, mouth.rests.rests(number)), (opened, mouth.rests.opened(number))):
            if found:
                out |= sharing(found, times_s, mouth.noses, frames)
    return rests, opened


def sitting(models, placement):
    """A callable that gives a Rest as `rendered` takes it: crop (3, 192, 192) float32 in [-1, 1], and teeth (5, 64, 112); found out once each.

    Source: ours; remembers RESTS_HELD of them for as long as it lives.
    """
    @lru_cache(RESTS_HELD)
    @torch.inference_mode()
    def sit(rest):
        taken = rest.taken()
        pixels = torch.from_numpy(taken).permute(2, 0, 1).float() / 127.5 - 1
        with placement.autocast():
            looked = models.renderer.survey(pixels[None].to(placement.device))[0].cpu().numpy()
        return pixels, as_tensor(teeth_of(taken, looked))

    return sit


@torch.inference_mode()
def rendered(models, mouths, codes, placement):
    """FrameParts of mouths at rest that are to change.

    mouths: pairs as `sitting` has them.  codes: (N, 2, 26) float32, as they are and as they shall be.
    Source: ours.
    """
    pixels, teeth = (torch.stack(parts) for parts in zip(*mouths))
    lattices = models.space.lattice(F.pad(torch.from_numpy(codes), (0, POSE)))
    with placement.autocast():
        made = models.renderer(*(x.to(placement.device) for x in (pixels, lattices[:, 0], lattices[:, 1], teeth)))
    return parts_of(tightened(Rendering(*(x.float().cpu() for x in (made.flow, made.paint, made.mask)))).filled(teeth))


class _Mouth:
    """One mouth of one frame: seen, then given its lips rest by rest, then a Patch."""

    def __init__(self, pixels, change, index, rests, name):
        self.change, self.index, self.rests, self.name = change, index, rests, name
        crop = change.track.crop(index, WORK_PX)
        self.sight, self.lips, self.cover, self.inside = Sight(pixels, crop), 0.0, 0.0, None
        self.code = eased(change, index)

    def put_in(self, number, parts, grain):
        rest, share = self.rests[number]
        put, cover = self.sight.put_in((rest.pixels(), rest.crop), parts, grain)
        if share < 0:
            self.inside = put
        else:
            self.lips, self.cover = self.lips + share * put, self.cover + share * cover

    def patch(self, space):
        if self.inside is not None:
            self.lips = self.lips - self.rests[-1][1] * self.cover * (self.inside - self.lips)
        lattices = space.lattice(F.pad(torch.from_numpy(np.stack([self.change.own[self.index], self.code])), (0, POSE))).numpy()
        moved, still = self.sight.moved(jaw_flow(*lattices))
        return self.sight.patch(moved, still, self.lips, min(1.0, MEETING_SHARE * float(self.change.weight[self.index])))


def redrawn(frames, changes, models, options, placement, *, kept=None):
    """Triples of native frame, time and Patches, in order and in constant memory.

    frames: triples as VideoReader.natives gives them.  changes: Changes.
    kept: patches.Kept with Patches of earlier runs, or None.
    Source: ours; in chunks that change nothing.
    """
    sit = sitting(models, placement)
    while chunk := list(islice(frames, CHUNK_FRAMES)):
        mouths, patches = ({index: [] for index, _, _ in chunk} for _ in range(2))
        for index, _, native in chunk:
            pixels = None
            for change in (change for change in changes if change.weight[index] > 0):
                rests = donors(change, index, models.space)
                name = "" if kept is None else kept.patch_name(change, index, eased(change, index), rests, options)
                known = kept.patch(name) if name else None
                if known is not None:
                    patches[index].append(known)
                    continue
                pixels = upright_rgb(native) if pixels is None else pixels
                x0, y0, x1, y1 = box_of(change.track.crop(index, WORK_PX), pixels.shape)
                if x1 > x0 and y1 > y0:
                    mouths[index].append(_Mouth(pixels, change, index, rests, name))
        jobs = [(mouth, number) for row in mouths.values() for mouth in row for number in range(len(mouth.rests))]
        for start in range(0, len(jobs), options.batch):
            batch = jobs[start : start + options.batch]
            rests = [mouth.rests[number][0] for mouth, number in batch]
            codes = np.stack([np.stack([rest.code, mouth.code]) for rest, (mouth, _) in zip(rests, batch)])
            for (mouth, number), parts in zip(batch, rendered(models, [sit(rest) for rest in rests], codes, placement)):
                mouth.put_in(number, parts, np.random.default_rng([options.seed, mouth.index]) if options.grain else None)
        for index, time, native in chunk:
            for mouth in mouths[index]:
                patches[index].append(mouth.patch(models.space))
                if mouth.name:
                    kept.keep_patch(mouth.name, patches[index][-1])
            yield native, time, patches[index]


def segment_names(job, seen, changes, models, kept):
    """Names of the film's segments, each of every change in its frames and of how it is encoded. kept: patches.Kept. Source: ours."""
    def told(index):
        for change in (change for change in changes if change.weight[index] > 0):
            yield kept.patch_name(change, index, eased(change, index), donors(change, index, models.space), job.options)

    starts = range(0, len(seen.times), SEGMENT_FRAMES)
    return [kept.name("segment", a, job.options.quality, *(name for k in range(a, min(a + SEGMENT_FRAMES, len(seen.times))) for name in (k, *told(k)))) for a in starts]


def donors(change, index, space):
    """[(Rest, share)] for a frame: what its lips are made of; and last, where they open, whose inside they show, with a share below 0.

    Source: ours; smoothstep of the opening wanted over INSIDE_FROM.
    """
    rests, opened = change.rests[index], change.opened.get(index)
    low, high = INSIDE_FROM
    amount = float(smoothstep((eased(change, index) @ space.lips.numpy() - low) / (high - low)))
    if amount == 0 or not opened:
        return rests
    return [*rests, (opened[0][0], -INSIDE * amount)]


def eased(change, index):
    """(26,) the code wanted in a frame, between the film's own and ours by the frame's weight. Source: ours; smoothstep."""
    return change.own[index] + float(smoothstep(change.weight[index])) * (change.wanted[index] - change.own[index])


def resync(job, output, models, placement, progress, *, seen=None, kept=None, overwrite=False):
    """Writes OUTPUT, the film with its new sound and the lips moved to it; gives the facts for the side-car.

    job: Job, from prepare.
    output: path ending in one of media.VIDEO_SUFFIXES.
    models, placement: from pipeline.load_models and device.choose_device.
    progress: Progress.
    seen: film.Seen of the parts' faces, from an earlier look at the same film; None looks.
    kept: patches.Kept, what earlier runs on the same film left; None makes everything anew.
    overwrite: True lets an existing file be replaced.
    The picture is copied packet by packet where no frame changes.
    Raises Refused for a face that is in no frame and what the options refuse, UsageProblem for the name, WriteFailed for the disk.
    Source: ours; docs/models/lipsync.md.
    """
    with progress.stage("following the face", job.info.frames) as advance:
        if seen is None and any(part.spans_s is None or part.spans_s for part in job.parts):
            seen = see(job.video, [part.face for part in job.parts], advance)
    changes = [] if seen is None else planned(job, seen, models, progress, kept)
    inputs = (job.video, job.sound)
    if not any(change.weight.any() for change in changes):
        duration = job.info.duration if seen is None else seen.end
        packets = copy_with_sound(job.video, output, job.sound, overwrite, (job.sound,), duration)
        return facts_of(job, seen, changes) | {"copied": True, "frames": packets}
    check_length(job.sound, seen.end, job.info.rate, job.options)
    with (
        VideoReader(job.video) as reader,
        FilmWriter(output, job.info, job.sound, seen.end, crf=job.options.quality, overwrite=overwrite, inputs=inputs) as writer,
        progress.stage("moving the lips", len(seen.times)) as advance,
    ):
        frames = reader.natives() if kept is None else kept.segments(reader.natives(), writer, seen.times, advance, segment_names(job, seen, changes, models, kept))
        for native, time, patches in redrawn(frames, changes, models, job.options, placement, kept=kept):
            writer.write(native, time, patches)
            advance(1)
        if writer.frames != len(seen.times):
            raise MouthpieceError(f"{job.video}: {len(seen.times)} frames at the first look, {writer.frames} at the last.")
    return facts_of(job, seen, changes) | {"copied": False, "frames": len(seen.times), "placement": placement.as_dict()}


def facts_of(job, seen, changes):
    """What was changed and what was not, JSON-ready; changed_s: the seconds of all faces together. Source: ours."""
    facts, every, rows, notes = job.plan(), [], [], []
    for part, change in zip(job.parts, changes):
        spans = frame_spans(seen.times_s, seen.end, change.weight > 0)
        every += spans
        asked = int(change.asked.sum())
        why = {text: int((change.asked & (change.why == number + 1)).sum()) for number, text in enumerate(WHY)}
        why = {text: count for text, count in why.items() if count}
        rows.append({"face": str(part.face), "spans_s": spans, "frames_asked": asked, "frames_changed": int((change.weight > 0).sum()), "frames_passed": why})
        notes += [f"{count} of {asked} frames to change were left as they are: {text}" for text, count in why.items()]
    facts |= {"faces": rows or facts["faces"], "changed_s": joined(every), "needs_review": bool(notes), "notes": notes}
    if seen is not None:
        facts |= {"duration_s": float(seen.end), "frames": len(seen.times), "truncated": seen.truncated}
        over = float(seen.end) - len(job.wave) / RATE_HZ
        if over > 1 / float(job.info.rate or 25):
            facts["notes"].append(f"the sound ends {over:.2f} s before the film; the rest is silence")
    return facts
