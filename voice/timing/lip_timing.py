"""Timing from visible lips: a face followed through the film, its lips read by the AV core, a plan laid on what they
say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from mouthpiece.engine.core import build_core
from mouthpiece.engine.encoders.articulatory_features import MOUTH_SHAPES, VISEMES
from mouthpiece.engine.encoders.lip_reading import SILENCE_INDEX, align_phones_to_scores, normalize_motion, read_lips
from mouthpiece.engine.encoders.motion import CROP_PX, build_motion_encoder, encode_crops
from mouthpiece.engine.encoders.phonetic import PHONES
from mouthpiece.engine.media.reading import VideoReader, to_upright_rgb
from mouthpiece.engine.timeline import ARTICULATION_HZ, MOTION_HZ
from mouthpiece.engine.weights.loading import load_state
from mouthpiece.face.crop import crop_face
from mouthpiece.face.film_tracks import track_faces
from mouthpiece.voice.plan.articulation import PHONE_LEAD_S, convert_to_arpabet
from mouthpiece.voice.plan.pauses import find_offset, find_onset
from mouthpiece.voice.plan.speech_plan import MARKS, UNIT_S, SpeechPlan
from mouthpiece.voice.timing.prosody import round_edges

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mouthpiece.engine.contracts import FaceTracks

CONTEXT_S = 0.5  # of film read before and after a slot
MIN_VISIBLE_SHARE = 0.9  # share of a slot's frames with the face
MAX_YAW_DEG = 40.0
# deviation of the lips' opening, in units of the crop, below which nobody speaks
MIN_LIP_MOTION = 0.0025
LOG_DURATION_STD = 0.35  # of the logarithm of a phone's length about the natural plan's
MAX_PHONE_S = 0.6
# mean probability of the placed phones' look below which lips were not read
MIN_VISEME_CONFIDENCE = 0.22
BATCH_FRAMES = 16


@dataclass(frozen=True)
class LipReading:
    """What was read from a face over a stretch of film.

    start_s: seconds of the film at the first tick.
    scores: (2 T, 40) float32 log posteriors of phones at 50 Hz.
    seen: (T,) bool at 25 Hz.  turned_deg: median turn of the head.  moving: deviation of the lips' opening, units of
    the crop.
    """

    start_s: float
    scores: np.ndarray = field(repr=False)
    seen: np.ndarray = field(repr=False)
    turned_deg: float = 0.0
    moving: float = 0.0


@dataclass(frozen=True)
class LipTiming:
    """A plan on the lips' times: plan, or None where they could not be read; start_s, end_s: of its sound, Fractions;
    facts: JSON-ready.
    """

    plan: SpeechPlan | None
    start_s: Fraction = Fraction(0)
    end_s: Fraction = Fraction(0)
    facts: dict = field(default_factory=dict)


def load_lip_reader():
    """(AVCore, MotionEncoder, MotionSpace) of the package, in eval. Raises Missing."""
    return build_core(*load_state("core")), *build_motion_encoder(*load_state("motion"))


def read_lip_spans(
    video: Path, spans: Sequence[tuple[float, float]], tracks: FaceTracks | None = None
) -> list[LipReading | None]:
    """Read the lips of a face in each span of a film, in constant memory but for the track; None where it is not seen.

    video: path.  spans: (start_s, end_s), seconds of the film.
    tracks: of the face; None tracks the largest.
    Raises InvalidInputError for a film without picture or a face that is in no frame.
    """
    tracks = tracks or track_faces(video, ("largest",), identify=False)
    track, times = tracks.tracks[0], tracks.times_s
    wanted = [(max(0.0, float(a) - CONTEXT_S), float(b) + CONTEXT_S) for a, b in spans]
    needed = np.zeros(len(times), bool)
    for a, b in wanted:
        needed |= (times >= a - 0.1) & (times <= b + 0.1)
    core, encoder, space = load_lip_reader()
    codes = _encode_frames(video, track, needed & track.present, (encoder, space))
    return [_read_span(core, space, track, times, codes, span) for span in wanted]


def _encode_frames(video, track, needed, models):
    """(F, 26) codes of the frames needed, NaN elsewhere."""
    codes, held, at = np.full((len(needed), 26), np.nan, np.float32), [], []

    def flush():
        if held:
            codes[at] = encode_crops(*models, np.stack(held))
            held.clear()
            at.clear()

    if needed.any():
        last = int(np.flatnonzero(needed)[-1])
        with VideoReader(video) as reader:
            for k, _, native in reader.read_native_frames():
                if needed[k]:
                    held.append(crop_face(track, k, CROP_PX).extract(to_upright_rgb(native)))
                    at.append(k)
                if len(held) == BATCH_FRAMES or k == last:
                    flush()
                if k == last:
                    break
    return codes


def _read_span(core, space, track, times, codes, span):
    """Lips of one span, or None where too little of it shows the face."""
    ticks = np.arange(int(np.floor(span[0] * MOTION_HZ)), int(np.ceil(min(span[1], times[-1]) * MOTION_HZ)) + 1)
    good = np.isfinite(codes[:, 0])
    if not good.any() or len(ticks) < 4:
        return None
    at = ticks / float(MOTION_HZ)
    known = times[good]
    near = np.searchsorted(known, at).clip(0, len(known) - 1)
    seen = np.minimum(np.abs(known[near] - at), np.abs(known[np.maximum(near - 1, 0)] - at)) < 0.06
    if not seen.any():
        return None
    track_codes = np.stack([np.interp(at, known, codes[good, k]) for k in range(codes.shape[1])], 1).astype(np.float32)
    inside = (times >= span[0]) & (times <= span[1]) & track.present
    turned = float(np.median(np.abs(track.yaw_deg[inside]))) if inside.any() else 90.0
    opening = track_codes @ space.lips.numpy()
    scores = read_lips(core, torch.from_numpy(normalize_motion(track_codes, space.lips.numpy())))
    return LipReading(float(at[0]), scores, seen, turned, float(opening.std()))


@dataclass(frozen=True)
class _ViterbiStates:
    """States of a plan for the Viterbi pass: phones, usual lengths in ticks (0 for a pause that may be left out), and
    the plan's phone each belongs to.
    """

    phones: list
    expected_ticks: list
    owner: list


def _build_states(plan):
    """The plan as silences and sounds in order; stress and length go with their vowel."""
    ticks_per_unit = float(UNIT_S) * float(ARTICULATION_HZ)
    sounds, states = convert_to_arpabet(plan.phones), _ViterbiStates([SILENCE_INDEX], [0.0], [None])
    for k, (phone, found) in enumerate(zip(plan.phones, sounds)):
        if phone in MARKS:
            if states.phones[-1] != SILENCE_INDEX:
                states.phones.append(SILENCE_INDEX)
                states.expected_ticks.append(0.0)
                states.owner.append(None)
            continue
        if states.owner[-1] is not None and (phone in "ˈˌːʰ" or plan.phones[k - 1] in "ˈˌ"):
            states.expected_ticks[-1] += plan.durations[k] * ticks_per_unit
            states.owner[-1].append(k)
            continue
        for n, sound in enumerate(found or (SILENCE_INDEX,)):
            states.phones.append(sound)
            states.expected_ticks.append(plan.durations[k] * ticks_per_unit / max(1, len(found)))
            states.owner.append([k] if n == 0 else [])
    if states.phones[-1] != SILENCE_INDEX:
        states.phones.append(SILENCE_INDEX)
        states.expected_ticks.append(0.0)
        states.owner.append(None)
    return states


def retime_to_lips(plan, lips, slot):
    """The plan with its sounds where the lips make them, as Timed; its plan is None, with a reason, where they cannot
    be trusted.

    plan: natural Plan.  lips: Lips that cover the slot.  slot: Slot, near which the line is.
    Source: Viterbi over the core's posteriors, natural lengths as prior; ours.
    """
    span = slice(
        *(
            int(np.clip(round((float(t) - lips.start_s) * MOTION_HZ), 0, len(lips.seen)))
            for t in (slot.start_s, slot.end_s)
        )
    )
    seen = float(lips.seen[span].mean()) if span.stop > span.start else 0.0
    facts = dict(seen=round(seen, 3), turned_deg=round(lips.turned_deg, 1), moving=round(lips.moving, 5))
    if seen < MIN_VISIBLE_SHARE:
        return LipTiming(
            None, facts=facts | dict(note="the face is not seen through the line: the slot tells the time")
        )
    if lips.turned_deg > MAX_YAW_DEG:
        return LipTiming(None, facts=facts | dict(note="the face is turned away: the slot tells the time"))
    if lips.moving < MIN_LIP_MOTION:
        return LipTiming(None, facts=facts | dict(note="the lips do not move: the slot tells the time"))
    states = _build_states(plan)
    usual = np.array(states.expected_ticks)
    longest = np.where(usual == 0, len(lips.scores), np.maximum(MAX_PHONE_S * float(ARTICULATION_HZ), 2 * usual))
    edges = align_phones_to_scores(
        lips.scores - LOG_PHONE_PRIOR, states.phones, usual, np.full(len(usual), LOG_DURATION_STD), longest
    )
    if edges is None:
        return LipTiming(
            None, facts=facts | dict(note="the line is longer than the lips are seen: the slot tells the time")
        )
    trust = compute_viseme_confidence(lips.scores, states.phones, edges)
    facts["confidence"] = round(trust, 3)
    if trust < MIN_VISEME_CONFIDENCE:
        return LipTiming(
            None, facts=facts | dict(note="the lips could not be read as this line: the slot tells the time")
        )
    timed = _retime_to_edges(plan, states, edges)
    spoken = [k for k, owner in enumerate(states.owner) if owner is not None]
    start_s, end_s = (lips.start_s + edges[k] / float(ARTICULATION_HZ) for k in (spoken[0], spoken[-1] + 1))
    facts |= dict(onset_s=round(start_s, 3), offset_s=round(end_s, 3))
    return LipTiming(timed, Fraction(round(max(0.0, start_s) * 1000), 1000), Fraction(round(end_s * 1000), 1000), facts)


def compute_viseme_confidence(scores, phones, edges):
    """Mean probability, over the ticks of sounds, of phones that look like the placed one. scores: (T, 40) log
    posteriors.
    """
    chances = np.exp(scores) @ _VISEME_MASKS.T
    found = [
        chances[a:b, _VISEME_OF_PHONE[p]].mean()
        for p, a, b in zip(phones, edges, edges[1:])
        if p != SILENCE_INDEX and b > a
    ]
    return float(np.mean(found)) if found else 0.0


def _retime_to_edges(plan, states, edges):
    """The plan with its phones at the edges (ticks) of their states; what a mark had becomes the pause that the lips
    show.
    """
    begins = np.full(len(plan.phones) + 1, np.nan)
    for k, owner in enumerate(states.owner):
        if owner:  # a group shares its time as it naturally would
            group = [i for i in owner]
            natural = np.array([plan.durations[i] for i in group], float)
            later = [e for e in range(k + 1, len(states.owner)) if states.owner[e] != []]
            stop = edges[later[0]] if later else edges[-1]
            begins[group] = edges[k] + np.concatenate([[0], np.cumsum(natural)[:-1]]) / max(natural.sum(), 1e-9) * (
                stop - edges[k]
            )
            begins[group[-1] + 1] = stop
    known = np.isfinite(begins)
    inner = slice(int(np.flatnonzero(known)[0]), int(np.flatnonzero(known)[-1]) + 1)
    at = np.interp(np.arange(inner.start, inner.stop), np.flatnonzero(known), begins[known])
    least = [0 if p in MARKS else 1 for p in plan.phones[inner.start : inner.stop - 1]]
    units = round_edges((at - at[0]) / float(ARTICULATION_HZ) / float(UNIT_S), least)
    durations = list(plan.durations)
    durations[inner.start : inner.stop - 1] = [int(u) for u in units]
    return plan.retime(durations)


_VISEME_OF_PHONE = np.array([VISEMES.index(MOUTH_SHAPES[phone].viseme) for phone in PHONES])
# (visemes, phones) float32: 1 where the phone has the viseme
_VISEME_MASKS = (np.arange(len(VISEMES))[:, None] == _VISEME_OF_PHONE).astype(np.float32)
# Log share of each phone in English speech, so that rare ones count as much as they should; SIL as a quarter.
LOG_PHONE_PRIOR = np.log(np.where(np.arange(len(PHONES)) == SILENCE_INDEX, 0.25, 0.75 / (len(PHONES) - 1))).astype(
    np.float32
)
__all__ = [
    "LipReading",
    "LipTiming",
    "compute_viseme_confidence",
    "load_lip_reader",
    "find_offset",
    "find_onset",
    "retime_to_lips",
    "read_lip_spans",
    "PHONE_LEAD_S",
]
