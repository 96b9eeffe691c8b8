"""What is done to each face of a film, frame by frame: how far it changes, to which code, from which
reference mouths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.curves import smoothstep
from mouthpiece.engine.encoders.motion import BLINK_INDEX
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.timeline import MOTION_HZ, count_frames
from mouthpiece.face.crop import crop_face
from mouthpiece.face.track import hold_last_position
from mouthpiece.lipsync.film.mouth_scan import SKIP_REASONS, scan_mouths, smooth_codes
from mouthpiece.lipsync.film.reference_mouths import assign_references
from mouthpiece.lipsync.film.spans import compute_crossfade, flag_frames, merge_spans, to_spans
from mouthpiece.lipsync.motion.speech_to_mouth import estimate_articulation, predict_mouth

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.contracts import FaceTracks
    from mouthpiece.engine.encoders.motion import MotionSpace
    from mouthpiece.engine.progress import Progress
    from mouthpiece.face.crop import Crop
    from mouthpiece.face.track import FaceTrack
    from mouthpiece.lipsync.film.cache import DubCache
    from mouthpiece.lipsync.film.lipsync_job import FaceEdit, LipsyncJob
    from mouthpiece.lipsync.film.mouth_scan import MouthScan
    from mouthpiece.lipsync.film.reference_mouths import ReferenceMouth, WeightedReferences
    from mouthpiece.lipsync.models import LipsyncModels

REFERENCE_MARGIN_S = 2.0  # seconds of film before and after a span in which reference mouths are looked for
INSIDE_OPENING = (0.012, 0.04)  # openings in units of the crop between which the inside of an open mouth fades in
INSIDE_SHARE = 0.9  # the most of it that is shown, in [0, 1]


@dataclass(frozen=True, eq=False)
class MouthSources:
    """Name the reference mouths that a frame's mouth is rendered from.

    lips: closed mouths and their shares, which sum to 1.
    inside: open mouth whose inside is shown between the lips; None: the lips hardly part.
    inside_share: how much of that inside is shown, in [0, 1].
    """

    lips: WeightedReferences
    inside: ReferenceMouth | None = None
    inside_share: float = 0.0

    @property
    def mouths(self) -> list[ReferenceMouth]:
        """List the reference mouths in the order in which they are rendered: lips, then the inside."""
        return [mouth for mouth, _ in self.lips] + ([] if self.inside is None else [self.inside])


@dataclass(frozen=True, eq=False)
class FaceEditPlan:
    """Hold what is done to one face, frame by frame.

    weight: (F,) float32 in [0, 1], how far a frame is changed; 0 leaves it alone.
    source_codes: (F, 26) float32 codes of the film, NaN where nothing changes.
    target_codes: (F, 26) float32 codes of the new speech, NaN where nothing changes.
    skip_reasons: (F,) int8, as in `MouthScan`, of the requested frames.
    requested: (F,) bool, whether a frame was asked to change.
    closed_references: frame -> weighted reference mouths that its lips are made of.
    open_references: frame -> those whose inside open lips show.
    """

    track: FaceTrack
    weight: np.ndarray
    source_codes: np.ndarray
    target_codes: np.ndarray
    skip_reasons: np.ndarray
    requested: np.ndarray
    closed_references: dict[int, WeightedReferences]
    open_references: dict[int, WeightedReferences]

    def crop_face(self, index: int, size_px: int) -> Crop:
        """Return the aligned crop of a frame in which the face is seen. Raises ValueError for another frame."""
        crop = crop_face(self.track, index, size_px)
        if crop is None:
            raise ValueError(f"frame {index}: the face is not seen")
        return crop

    def interpolate_code(self, index: int) -> np.ndarray:
        """Compute the code (26,) of a frame between the film's and the target, a smoothstep of its weight."""
        share = float(smoothstep(self.weight[index]))
        return self.source_codes[index] + share * (self.target_codes[index] - self.source_codes[index])

    def select_sources(self, index: int, space: MotionSpace) -> MouthSources:
        """Select the reference mouths of a frame; the inside fades in over INSIDE_OPENING of the wanted opening."""
        lips, opened = self.closed_references[index], self.open_references.get(index)
        low, high = INSIDE_OPENING
        amount = float(smoothstep((self.interpolate_code(index) @ space.lips.numpy() - low) / (high - low)))
        if amount == 0 or not opened:
            return MouthSources(lips)
        return MouthSources(lips, opened[0][0], INSIDE_SHARE * amount)


def plan_edits(
    job: LipsyncJob, tracks: FaceTracks, models: LipsyncModels, progress: Progress, cache: DubCache | None = None
) -> list[FaceEditPlan]:
    """Plan every edit of a job.

    tracks: of the edits' faces.  cache: results of earlier runs on the film, or None.
    Raises InvalidInputError where a face is missing and --on-missing-face is fail.
    """
    times_s = tracks.times_s
    if job.options.on_missing_face == "hold":
        tracks = replace(tracks, tracks=[hold_last_position(track) for track in tracks.tracks])
    everything = [(0.0, float(tracks.end))]
    requested = [flag_frames(times_s, everything if edit.spans_s is None else edit.spans_s) for edit in job.edits]
    if job.options.on_missing_face == "fail":
        _check_faces_present(job, tracks, requested)
    near = [
        flag_frames(
            times_s, [(a - REFERENCE_MARGIN_S, b + REFERENCE_MARGIN_S) for a, b in to_spans(times_s, tracks.end, flags)]
        )
        for flags in requested
    ]
    with progress.stage("looking at the mouth", len(times_s)) as advance:
        scan = scan_mouths if cache is None else cache.scan_mouths
        scans = scan(job.video, tracks, near, models, advance)
    plans = []
    with progress.stage("listening", len(job.edits), "faces") as advance:
        for edit, track, flags, mouth in zip(job.edits, tracks.tracks, requested, scans):
            weight = compute_crossfade(times_s, flags & (mouth.skip_reasons == 0), track.shot, job.options.crossfade)
            source = smooth_codes(mouth.codes, track.shot, times_s)
            target = np.full_like(mouth.codes, np.nan)
            if weight.any():
                target[:] = source
                target[:, :BLINK_INDEX] = _predict_edit(job, edit, tracks, weight, models)
            closed, opened = assign_shot_references(mouth, weight, track.shot, times_s)
            weight[[index for index in np.flatnonzero(weight) if index not in closed]] = 0
            plans.append(FaceEditPlan(track, weight, source, target, mouth.skip_reasons, flags, closed, opened))
            advance(1)
    return plans


def _check_faces_present(job: LipsyncJob, tracks: FaceTracks, requested: list[np.ndarray]) -> None:
    """Check that each face is found in all of its requested frames. Raises InvalidInputError."""
    for track, flags in zip(tracks.tracks, requested):
        missing = np.flatnonzero(flags & ~track.present)
        if len(missing):
            time_s = tracks.times_s[missing[0]]
            raise InvalidInputError(
                f"{job.video}: no face is seen at {time_s:.2f} s, and in {len(missing)} of {flags.sum()} frames "
                "to change.",
                hint="Use --on-missing-face pass to leave such frames as they are, or hold to keep the face's last "
                "place.",
                code="face_missing",
            )


def _predict_edit(
    job: LipsyncJob, edit: FaceEdit, tracks: FaceTracks, weight: np.ndarray, models: LipsyncModels
) -> np.ndarray:
    """Predict the mouth and jaw codes (F, 21) of an edit, NaN outside of the frames that change."""
    if edit.predict is not None:
        return edit.predict(models, tracks.times_s)
    duration = max(tracks.end, Fraction(len(job.wave), RATE_HZ))
    ticks = max(2, count_frames(duration, MOTION_HZ) + 1)
    planned = job.articulation if edit.articulation is None else edit.articulation
    articulation = estimate_articulation(models.phonetic_encoder, job.wave, ticks, job.options.gate, planned)
    spans = to_spans(tracks.times_s, tracks.end, weight > 0)
    return predict_mouth(models, articulation, spans, tracks.times_s, job.options)


def assign_shot_references(
    mouth: MouthScan, weight: np.ndarray, shot: np.ndarray, times_s: np.ndarray
) -> tuple[dict[int, WeightedReferences], dict[int, WeightedReferences]]:
    """Assign reference mouths of the same shot to every frame that changes.

    weight, shot: (F,).  times_s: (F,) starts of the frames.
    Returns closed and open ones, frame -> weighted references; frames of a shot without any are left out.
    """
    closed: dict[int, WeightedReferences] = {}
    opened: dict[int, WeightedReferences] = {}
    for number in np.unique(shot[weight > 0]).tolist():
        frames = np.flatnonzero((weight > 0) & (shot == number))
        for assigned, mouths in (
            (closed, mouth.collector.select_closed(number)),
            (opened, mouth.collector.select_open(number)),
        ):
            if mouths:
                assigned |= assign_references(mouths, times_s, mouth.head_descriptors, frames)
    return closed, opened


def summarize_edits(job: LipsyncJob, tracks: FaceTracks | None, plans: list[FaceEditPlan]) -> dict[str, Any]:
    """Summarize what was changed and what was not, JSON-ready; changed_s: the seconds of all faces together."""
    facts, changed, rows, notes = job.plan(), [], [], []
    edited = [] if tracks is None else [to_spans(tracks.times_s, tracks.end, plan.weight > 0) for plan in plans]
    for edit, plan, spans in zip(job.edits, plans, edited):
        changed += spans
        requested = int(plan.requested.sum())
        counts = {
            text: int((plan.requested & (plan.skip_reasons == number)).sum())
            for number, text in enumerate(SKIP_REASONS, 1)
        }
        skipped = {text: count for text, count in counts.items() if count}
        rows.append(
            {
                "face": str(edit.face),
                "spans_s": spans,
                "frames_asked": requested,
                "frames_changed": int((plan.weight > 0).sum()),
                "frames_passed": skipped,
            }
        )
        notes += [f"{n} of {requested} frames to change were left as they are: {text}" for text, n in skipped.items()]
    facts |= {
        "faces": rows or facts["faces"],
        "changed_s": merge_spans(changed),
        "needs_review": bool(notes),
        "notes": notes,
    }
    if tracks is not None:
        facts |= {"duration_s": float(tracks.end), "frames": len(tracks.times), "truncated": tracks.truncated}
        over = float(tracks.end) - len(job.wave) / RATE_HZ
        if over > 1 / float(job.info.rate or 25):
            facts["notes"].append(f"the sound ends {over:.2f} s before the film; the rest is silence")
    return facts
