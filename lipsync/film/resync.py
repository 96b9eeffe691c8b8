"""lipsync: the lips of a film moved to new sound, only in the spans that change, only at the mouth; everything else
stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.curves import smoothstep
from mouthpiece.engine.encoders.motion import BLINK_INDEX, POSE_WIDTH
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import InvalidInputError, MouthpieceError
from mouthpiece.engine.media.mux import copy_with_sound
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, measure_sound_duration, read_sound, to_upright_rgb
from mouthpiece.engine.media.rewrite import SEGMENT_FRAMES, VideoRewriter
from mouthpiece.engine.timeline import MOTION_HZ, count_frames
from mouthpiece.face.crop import crop_face
from mouthpiece.face.detect import parse_face_choice
from mouthpiece.face.film_tracks import track_faces
from mouthpiece.lipsync.film.face_scan import SKIP_REASONS, hold_last_position, scan_mouths, smooth_codes
from mouthpiece.lipsync.film.mouth_compositor import MouthCompositor, compute_jaw_flow, get_mouth_box
from mouthpiece.lipsync.film.reference_mouths import assign_references
from mouthpiece.lipsync.film.spans import (
    compute_crossfade,
    find_changed_spans,
    flag_frames,
    merge_spans,
    parse_spans,
    to_spans,
)
from mouthpiece.lipsync.motion.speech_to_mouth import estimate_articulation, predict_mouth
from mouthpiece.lipsync.options import LipsyncOptions
from mouthpiece.lipsync.portrait.canvas import tighten_mask, to_frame_parts
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX
from mouthpiece.lipsync.portrait.renderer import Rendering
from mouthpiece.lipsync.portrait.teeth import build_teeth, to_teeth_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from mouthpiece.engine.contracts import Articulation, FaceTracks
    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.encoders.motion import MotionSpace
    from mouthpiece.engine.media.patches import FramePatch
    from mouthpiece.engine.progress import Progress
    from mouthpiece.engine.types import MediaInfo
    from mouthpiece.lipsync.film.cache import DubCache
    from mouthpiece.lipsync.film.face_scan import MouthScan
    from mouthpiece.lipsync.film.reference_mouths import ReferenceMouth
    from mouthpiece.lipsync.portrait.canvas import FrameParts
    from mouthpiece.lipsync.portrait.pipeline import PortraitModels

CHUNK_FRAMES = 8
REFERENCE_MARGIN_S = 2.0  # of film before and after a span in which a resting mouth may be found
# opening in units of the crop from which, and in full, the inside of an open mouth of the shot is shown; how far
INSIDE_OPENING, INSIDE_SHARE = (0.012, 0.04), 0.9
SILENT_PEAK = 1e-3  # peak below which a sound that outlasts the film may be cut without asking
CACHED_REFERENCES = 16  # about as many as a frame may be made of
# the change is shown in full when the lips are this much less than half on their way
FULL_CHANGE_FACTOR = 2.0


class FaceEdit(NamedTuple):
    """One face of a film and the seconds in which it is to speak.

    spans_s: pairs of seconds, or None for all of the film.  face: as for mouthpiece.face.detect.choose_face.
    articulation: as Job.articulation, for this face alone; None: the job's.
    lips: called with (Models, starts of frames (F,) in seconds), gives the mouth and jaw wanted in each, (F, 21); None
    listens.
    """

    spans_s: tuple | None
    face: object = "largest"
    articulation: Articulation | None = None
    lips: object = None


@dataclass(frozen=True, eq=False)
class LipsyncJob:
    """A change of lips known to be possible: inputs read and checked; no frame has been looked at.

    video: path.  sound: path, what is to be heard.
    options: LipsyncOptions.  parts: Parts.  info: MediaInfo of the video.
    wave: (S,) float32 at RATE_HZ, what the lips follow.
    articulation: from time zero, which replaces what is recognized in the ticks that it knows; None: all is recognized.
    """

    video: Path
    sound: Path
    options: LipsyncOptions
    parts: tuple
    info: object
    wave: np.ndarray = field(repr=False)
    articulation: Articulation | None = field(default=None, repr=False)

    def plan(self) -> dict[str, Any]:
        """What will be written, JSON-ready: rate, width_px, height_px, spans_s of each face, duration_s as the header
        has it.
        """
        info = self.info
        facts = {
            "rate": str(info.rate),
            "width_px": info.width_px,
            "height_px": info.height_px,
            "variable_rate": info.variable_rate,
        }
        facts["duration_s"] = None if info.duration is None else float(info.duration)
        facts["faces"] = [
            {"face": str(p.face), "spans_s": None if p.spans_s is None else [list(s) for s in p.spans_s]}
            for p in self.parts
        ]
        return facts


def prepare_lipsync(
    video: Path,
    sound: Path,
    options: LipsyncOptions,
    spans: list[tuple[int, int]] | None = None,
    articulation: Articulation | None = None,
    *,
    faces: tuple[FaceEdit] | list | None = None,
    lips_from: Path | None = None,
) -> LipsyncJob:
    """The Job of a film and its new sound, after every check that needs no look at the frames.

    video: path with a moving picture.  sound: sound or video file, what is to be heard.
    options: LipsyncOptions; its face and spans are for jobs with one face.
    spans: pairs of seconds to change; None: those of the options, else wherever the sound is not the film's own.
    articulation: as in Job.
    faces: Parts, or plain (spans_s, face) pairs, for several faces; None: the face of the options in `spans`.
    lips: path of a recording that the lips follow instead of the sound, such as the dialogue of a mix.
    Raises Refused for a film without picture, no sound, sound longer than the film; UsageProblem for spans beyond its
    end.
    """
    info = probe(video)
    if not info.has_video:
        raise InvalidInputError(
            f"{video}: no moving picture in it.", hint="Give a video; for a still picture use animate.", code="no_video"
        )
    wave = read_sound(sound if lips_from is None else lips_from, RATE_HZ, mono=True).samples[0]
    if info.duration is not None:
        check_length(sound, info.duration, info.rate, options)
    if faces is None:
        spans = parse_spans(options.spans) if spans is None else spans
        if spans is None and articulation is None and info.has_audio:
            own = read_sound(video, RATE_HZ, mono=True).samples[0]
            spans = find_changed_spans(own, read_sound(sound, RATE_HZ, mono=True).samples[0])
        faces = [FaceEdit(spans, options.face)]
    parts = tuple(FaceEdit(part[0] if part[0] is None else tuple(merge_spans(part[0])), *part[1:]) for part in faces)
    for part in parts:
        parse_face_choice(part.face)
        check_spans(part.spans_s, info, video)
    return LipsyncJob(Path(video), Path(sound), options, parts, info, wave, articulation)


def check_spans(spans: tuple | None, info: MediaInfo, video: Path) -> None:
    """Refuses spans that begin after the film has ended."""
    if spans and info.duration is not None and spans[-1][0] >= info.duration:
        start, stop = spans[-1]
        raise InvalidInputError(
            f"{video}: ends at {float(info.duration):.2f} s, a span to change is {start:g}-{stop:g} s.",
            hint="Give spans within the film; is this the right one?",
            code="span_outside",
        )


def check_length(sound: Path, duration: Fraction, rate: Fraction, options: LipsyncOptions) -> None:
    """Refuses sound that goes on after the film by more than a frame, unless that rest is silent or may be cut."""
    over, frame_s = measure_sound_duration(sound) - duration, 1 / (rate or Fraction(25))
    if over <= frame_s or options.long_sound == "cut":
        return
    rest = read_sound(sound, RATE_HZ, mono=True).samples[0][int((duration + frame_s) * RATE_HZ) :]
    if np.abs(rest).max(initial=0) > SILENT_PEAK:
        raise InvalidInputError(
            f"{sound}: goes on for {float(over):.2f} s after the film has ended ({float(duration):.2f} s).",
            hint="Shorten it, or give --long-sound cut; the film's frames set the length.",
            code="sound_too_long",
        )


@dataclass(frozen=True, eq=False)
class FaceEditPlan:
    """What is done to one face, frame by frame.

    track: Track.  weight: (F,) float32, 0 where nothing changes.
    source_codes, target_codes: (F, 26) float32 codes, NaN where nothing changes.
    skip_reasons: (F,) int8 as in film.Looks, of the frames asked for; requested: (F,) bool.
    closed_references, open_references: {frame: [(Rest, share)]}, what its lips, and the inside of open ones, are made
    of.
    """

    track: object
    weight: np.ndarray
    source_codes: np.ndarray
    target_codes: np.ndarray
    skip_reasons: np.ndarray
    requested: np.ndarray
    closed_references: dict
    open_references: dict


def plan_edits(
    job: LipsyncJob, tracks: FaceTracks, models: PortraitModels, progress: Progress, cache: DubCache | None = None
) -> list[FaceEditPlan] | None:
    """A Change for every part of a job.

    seen: film.Seen of the parts' faces.  models: pipeline.Models.  kept: patches.Kept, or None.
    Raises Refused where --on-missing-face fail says so.
    """
    times_s, options = tracks.times_s, job.options
    if options.on_missing_face == "hold":
        tracks = replace(tracks, tracks=[hold_last_position(track) for track in tracks.tracks])
    asked = [
        flag_frames(times_s, [(0, float(tracks.end))] if part.spans_s is None else part.spans_s) for part in job.parts
    ]
    for track, flags in zip(tracks.tracks, asked):
        missing = np.flatnonzero(flags & ~track.present)
        if options.on_missing_face == "fail" and len(missing):
            raise InvalidInputError(
                f"{job.video}: no face is seen at {times_s[missing[0]]:.2f} s, and in {len(missing)} of {flags.sum()} frames to change.",
                hint="Use --on-missing-face pass to leave such frames as they are, or hold to keep the face's last place.",
                code="face_missing",
            )
    near = [
        flag_frames(
            times_s, [(a - REFERENCE_MARGIN_S, b + REFERENCE_MARGIN_S) for a, b in to_spans(times_s, tracks.end, flags)]
        )
        for flags in asked
    ]
    with progress.stage("looking at the mouth", len(times_s)) as advance:
        looks = (scan_mouths if cache is None else cache.scan_mouths)(
            job.video, tracks, near, (models.encoder, models.space, models.opening_segmenter), advance
        )
    ticks = max(2, count_frames(max(tracks.end, Fraction(len(job.wave), RATE_HZ)), MOTION_HZ) + 1)
    changes = []
    with progress.stage("listening", len(job.parts), "faces") as advance:
        for part, track, flags, seen_mouth in zip(job.parts, tracks.tracks, asked, looks):
            told = job.articulation if part.articulation is None else part.articulation
            weight = compute_crossfade(times_s, flags & (seen_mouth.skip_reasons == 0), track.shot, options.crossfade)
            own, wanted = smooth_codes(seen_mouth.codes, track.shot, times_s), np.full_like(seen_mouth.codes, np.nan)
            if weight.any() and part.lips is not None:
                wanted[:] = own
                wanted[:, :BLINK_INDEX] = part.lips(models, times_s)
            elif weight.any():
                heard = estimate_articulation(models.phonetic_encoder, job.wave, ticks, options.gate, told)
                wanted[:] = own
                wanted[:, :BLINK_INDEX] = predict_mouth(
                    models, heard, to_spans(times_s, tracks.end, weight > 0), times_s, options
                )
            rests, opened = transition_weights(seen_mouth, weight, track.shot, times_s)
            weight[[index for index in np.flatnonzero(weight) if index not in rests]] = 0
            changes.append(FaceEditPlan(track, weight, own, wanted, seen_mouth.skip_reasons, flags, rests, opened))
            advance(1)
    return changes


def transition_weights(mouth: MouthScan, weight: np.ndarray, shot: np.ndarray, times_s: np.ndarray) -> tuple:
    """Change.closed_references and Change.open_references. mouth: film.Looks.  weight, shot: (F,).  times_s: (F,)
    starts of frames.
    """
    rests, opened = {}, {}
    for number in np.unique(shot[weight > 0]).tolist():
        frames = np.flatnonzero((weight > 0) & (shot == number))
        for out, found in (
            (rests, mouth.collector.select_closed(number)),
            (opened, mouth.collector.select_open(number)),
        ):
            if found:
                out |= assign_references(found, times_s, mouth.head_descriptors, frames)
    return rests, opened


def reference_preparer(models: PortraitModels, placement: Placement):
    """A callable that gives a Rest as `rendered` takes it: crop (3, 192, 192) float32 in [-1, 1], and teeth (5, 64,
    112); found out once each.

    Source: ours; remembers RESTS_HELD of them for as long as it lives.
    """

    @lru_cache(CACHED_REFERENCES)
    @torch.inference_mode()
    def sit(rest: ReferenceMouth) -> tuple[torch.Tensor, torch.Tensor]:
        taken = rest.decode_crop()
        pixels = torch.from_numpy(taken).permute(2, 0, 1).float() / 127.5 - 1
        with placement.autocast():
            looked = models.renderer.predict_teeth(pixels[None].to(placement.device))[0].cpu().numpy()
        return pixels, to_teeth_tensor(build_teeth(taken, looked))

    return sit


@torch.inference_mode()
def render_references(
    models: PortraitModels, mouths: list[tuple[torch.Tensor, torch.Tensor]], codes: np.ndarray, placement: Placement
) -> list[FrameParts]:
    """FrameParts of mouths at rest that are to change.

    mouths: pairs as `sitting` has them.  codes: (N, 2, 26) float32, as they are and as they shall be.
    """
    pixels, teeth = (torch.stack(parts) for parts in zip(*mouths))
    lattices = models.space.lattice(F.pad(torch.from_numpy(codes), (0, POSE_WIDTH)))
    with placement.autocast():
        made = models.renderer(*(x.to(placement.device) for x in (pixels, lattices[:, 0], lattices[:, 1], teeth)))
    return to_frame_parts(
        tighten_mask(Rendering(*(x.float().cpu() for x in (made.flow, made.paint, made.mask)))).add_teeth(teeth)
    )


class _MouthRender:
    """One mouth of one frame: seen, then given its lips rest by rest, then a Patch."""

    def __init__(
        self, pixels: np.ndarray, change: FaceEditPlan, index: int, rests: list[tuple[ReferenceMouth, float]], name: str
    ) -> None:
        self.plan, self.index, self.references, self.key = change, index, rests, name
        crop = crop_face(change.track, index, WORK_PX)
        self.compositor, self.lips, self.cover, self.inside = MouthCompositor(pixels, crop), 0.0, 0.0, None
        self.code = interpolate_code(change, index)

    def blend(self, number: int, parts: FrameParts, grain: np.random.Generator) -> None:
        rest, share = self.references[number]
        put, cover = self.compositor.blend((rest.decode_picture(), rest.crop), parts, grain)
        if share < 0:
            self.inside = put
        else:
            self.lips, self.cover = self.lips + share * put, self.cover + share * cover

    def make_patch(self, space: MotionSpace) -> FramePatch:
        if self.inside is not None:
            self.lips = self.lips - self.references[-1][1] * self.cover * (self.inside - self.lips)
        lattices = space.lattice(
            F.pad(torch.from_numpy(np.stack([self.plan.source_codes[self.index], self.code])), (0, POSE_WIDTH))
        ).numpy()
        moved, still = self.compositor.warp_jaw(compute_jaw_flow(*lattices))
        return self.compositor.make_patch(
            moved, still, self.lips, min(1.0, FULL_CHANGE_FACTOR * float(self.plan.weight[self.index]))
        )


def render_patches(
    frames: Iterator,
    changes: list[FaceEditPlan],
    models: PortraitModels,
    options: LipsyncOptions,
    placement: Placement,
    *,
    cache: DubCache | None = None,
) -> Iterator[tuple]:
    """Triples of native frame, time and Patches, in order and in constant memory.

    frames: triples as VideoReader.natives gives them.  changes: Changes.
    kept: patches.Kept with Patches of earlier runs, or None.
    Source: ours; in chunks that change nothing.
    """
    sit = reference_preparer(models, placement)
    while chunk := list(islice(frames, CHUNK_FRAMES)):
        mouths, patches = ({index: [] for index, _, _ in chunk} for _ in range(2))
        for index, _, native in chunk:
            pixels = None
            for change in (change for change in changes if change.weight[index] > 0):
                rests = reference_weights(change, index, models.space)
                name = (
                    ""
                    if cache is None
                    else cache.make_patch_key(change, index, interpolate_code(change, index), rests, options)
                )
                known = cache.load_patch(name) if name else None
                if known is not None:
                    patches[index].append(known)
                    continue
                pixels = to_upright_rgb(native) if pixels is None else pixels
                x0, y0, x1, y1 = get_mouth_box(crop_face(change.track, index, WORK_PX), pixels.shape)
                if x1 > x0 and y1 > y0:
                    mouths[index].append(_MouthRender(pixels, change, index, rests, name))
        jobs = [(mouth, number) for row in mouths.values() for mouth in row for number in range(len(mouth.references))]
        for start in range(0, len(jobs), options.batch):
            batch = jobs[start : start + options.batch]
            rests = [mouth.references[number][0] for mouth, number in batch]
            codes = np.stack([np.stack([rest.code, mouth.code]) for rest, (mouth, _) in zip(rests, batch)])
            for (mouth, number), parts in zip(
                batch, render_references(models, [sit(rest) for rest in rests], codes, placement)
            ):
                mouth.blend(
                    number, parts, np.random.default_rng([options.seed, mouth.index]) if options.grain else None
                )
        for index, time, native in chunk:
            for mouth in mouths[index]:
                patches[index].append(mouth.make_patch(models.space))
                if mouth.key:
                    cache.save_patch(mouth.key, patches[index][-1])
            yield native, time, patches[index]


def make_segment_keys(
    job: LipsyncJob, tracks: FaceTracks, changes: list[FaceEditPlan], models: PortraitModels, cache: DubCache
) -> list[str]:
    """Names of the film's segments, each of every change in its frames and of how it is encoded. kept: patches.Kept."""

    def told(index: int) -> Iterator[str]:
        for change in (change for change in changes if change.weight[index] > 0):
            yield cache.make_patch_key(
                change,
                index,
                interpolate_code(change, index),
                reference_weights(change, index, models.space),
                job.options,
            )

    starts = range(0, len(tracks.times), SEGMENT_FRAMES)
    return [
        cache.make_key(
            "segment",
            a,
            job.options.quality,
            *(name for k in range(a, min(a + SEGMENT_FRAMES, len(tracks.times))) for name in (k, *told(k))),
        )
        for a in starts
    ]


def reference_weights(change: FaceEditPlan, index: int, space: MotionSpace) -> list[tuple[ReferenceMouth, float]]:
    """[(Rest, share)] for a frame: what its lips are made of; and last, where they open, whose inside they show, with a
    share below 0.

    Source: ours; smoothstep of the opening wanted over INSIDE_FROM.
    """
    rests, opened = change.closed_references[index], change.open_references.get(index)
    low, high = INSIDE_OPENING
    amount = float(smoothstep((interpolate_code(change, index) @ space.lips.numpy() - low) / (high - low)))
    if amount == 0 or not opened:
        return rests
    return [*rests, (opened[0][0], -INSIDE_SHARE * amount)]


def interpolate_code(change: FaceEditPlan, index: int) -> np.ndarray:
    """(26,) the code wanted in a frame, between the film's own and ours by the frame's weight. Source: ours;
    smoothstep.
    """
    return change.source_codes[index] + float(smoothstep(change.weight[index])) * (
        change.target_codes[index] - change.source_codes[index]
    )


def resync(
    job: LipsyncJob,
    output: Path,
    models: PortraitModels,
    placement: Placement,
    progress: Progress,
    *,
    tracks: FaceTracks | None = None,
    cache: DubCache | None = None,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Writes OUTPUT, the film with its new sound and the lips moved to it; gives the facts for the side-car.

    job: Job, from prepare.
    output: path ending in one of media.VIDEO_SUFFIXES.
    models, placement: from pipeline.load_models and device.choose_device.
    progress: Progress.
    seen: film.Seen of the parts' faces, from an earlier look at the same film; None looks.
    kept: patches.Kept, what earlier runs on the same film left; None makes everything anew.
    overwrite: True lets an existing file be replaced.
    The picture is copied packet by packet where no frame changes.
    Raises Refused for a face that is in no frame and what the options refuse, UsageProblem for the name, WriteFailed
    for the disk.
    Source: ours; docs/models/lipsync.md.
    """
    with progress.stage("following the face", job.info.frames) as advance:
        if tracks is None and any(part.spans_s is None or part.spans_s for part in job.parts):
            tracks = track_faces(job.video, [part.face for part in job.parts], advance)
    changes = [] if tracks is None else plan_edits(job, tracks, models, progress, cache)
    inputs = (job.video, job.sound)
    if not any(change.weight.any() for change in changes):
        duration = job.info.duration if tracks is None else tracks.end
        packets = copy_with_sound(job.video, output, job.sound, overwrite, (job.sound,), duration)
        return summarize_edits(job, tracks, changes) | {"copied": True, "frames": packets}
    check_length(job.sound, tracks.end, job.info.rate, job.options)
    with (
        VideoReader(job.video) as reader,
        VideoRewriter(
            output, job.info, job.sound, tracks.end, crf=job.options.quality, overwrite=overwrite, inputs=inputs
        ) as writer,
        progress.stage("moving the lips", len(tracks.times)) as advance,
    ):
        frames = (
            reader.read_native_frames()
            if cache is None
            else cache.reuse_segments(
                reader.read_native_frames(),
                writer,
                tracks.times,
                advance,
                make_segment_keys(job, tracks, changes, models, cache),
            )
        )
        for native, time, patches in render_patches(frames, changes, models, job.options, placement, cache=cache):
            writer.write(native, time, patches)
            advance(1)
        if writer.frames != len(tracks.times):
            raise MouthpieceError(
                f"{job.video}: {len(tracks.times)} frames at the first look, {writer.frames} at the last."
            )
    return summarize_edits(job, tracks, changes) | {
        "copied": False,
        "frames": len(tracks.times),
        "placement": placement.as_dict(),
    }


def summarize_edits(job: LipsyncJob, tracks: FaceTracks, changes: list[FaceEditPlan]) -> dict[str, Any]:
    """What was changed and what was not, JSON-ready; changed_s: the seconds of all faces together."""
    facts, every, rows, notes = job.plan(), [], [], []
    for part, change in zip(job.parts, changes):
        spans = to_spans(tracks.times_s, tracks.end, change.weight > 0)
        every += spans
        asked = int(change.requested.sum())
        why = {
            text: int((change.requested & (change.skip_reasons == number + 1)).sum())
            for number, text in enumerate(SKIP_REASONS)
        }
        why = {text: count for text, count in why.items() if count}
        rows.append(
            {
                "face": str(part.face),
                "spans_s": spans,
                "frames_asked": asked,
                "frames_changed": int((change.weight > 0).sum()),
                "frames_passed": why,
            }
        )
        notes += [f"{count} of {asked} frames to change were left as they are: {text}" for text, count in why.items()]
    facts |= {
        "faces": rows or facts["faces"],
        "changed_s": merge_spans(every),
        "needs_review": bool(notes),
        "notes": notes,
    }
    if tracks is not None:
        facts |= {"duration_s": float(tracks.end), "frames": len(tracks.times), "truncated": tracks.truncated}
        over = float(tracks.end) - len(job.wave) / RATE_HZ
        if over > 1 / float(job.info.rate or 25):
            facts["notes"].append(f"the sound ends {over:.2f} s before the film; the rest is silence")
    return facts
