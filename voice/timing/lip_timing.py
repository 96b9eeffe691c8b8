"""Lip timing: the lips of a face are read by the AV core, and a plan is retimed to what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

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
from mouthpiece.voice.plan.articulation import convert_to_arpabet
from mouthpiece.voice.plan.speech_plan import MARKS, UNIT_S, SpeechPlan
from mouthpiece.voice.timing.prosody import round_edges

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mouthpiece.engine.contracts import FaceTrack, FaceTracks
    from mouthpiece.engine.core import AVCore
    from mouthpiece.engine.encoders.motion import MotionEncoder, MotionSpace
    from mouthpiece.voice.plan.slot_fitting import TimeSlot

CONTEXT_S = 0.5  # of film read before and after a slot
FRAME_MARGIN_S = 0.1  # further frames around it, for interpolation
MAX_FRAME_DISTANCE_S = 0.06  # from a tick to the nearest frame with the face
MIN_VISIBLE_SHARE = 0.9  # of a slot's frames, with the face
MAX_YAW_DEG = 40.0  # median turn of the head
HIDDEN_YAW_DEG = 90.0  # of a head that is never seen
MIN_LIP_MOTION = 0.0025  # deviation of the lips' opening in units of the crop, below which nobody speaks
LOG_DURATION_STD = 0.35  # of the logarithm of a phone's duration about the natural plan's
MAX_PHONE_S = 0.6
MIN_VISEME_CONFIDENCE = 0.22  # mean probability of the visemes at their times, below which the lips were not read
BATCH_FRAMES = 16  # crops encoded together
CODE_WIDTH = 26  # of the motion codes of a face
VOWEL_MODIFIERS = "ˈˌːʰ"  # stress, length and aspiration have the time of their neighbour

_VISEME_OF_PHONE = np.array([VISEMES.index(MOUTH_SHAPES[phone].viseme) for phone in PHONES])
# (visemes, phones) float32: 1 where the phone has the viseme
_VISEME_MASKS = (np.arange(len(VISEMES))[:, None] == _VISEME_OF_PHONE).astype(np.float32)
# Log share of each phone in speech, so that rare ones count as much as they should; SIL as a quarter.
_PHONE_SHARES = np.where(np.arange(len(PHONES)) == SILENCE_INDEX, 0.25, 0.75 / (len(PHONES) - 1))
LOG_PHONE_PRIOR = np.log(_PHONE_SHARES).astype(np.float32)


class LipReader(NamedTuple):
    """The networks that read lips: crops to motion codes, codes to phones."""

    core: AVCore
    encoder: MotionEncoder
    space: MotionSpace


@dataclass(frozen=True)
class LipReading:
    """What was read from a face over a stretch of film.

    start_s: seconds of the film at the first tick.
    scores: (2 T, 40) float32 log posteriors of phones at 50 Hz.
    visible: (T,) bool at 25 Hz.  yaw_deg: median turn of the head.
    lip_motion: deviation of the lips' opening in units of the crop.
    """

    start_s: float
    scores: np.ndarray = field(repr=False)
    visible: np.ndarray = field(repr=False)
    yaw_deg: float = 0.0
    lip_motion: float = 0.0


@dataclass(frozen=True)
class LipTiming:
    """A plan retimed to lips.

    plan: None where the lips could not be trusted.  start_s, end_s: of its sound, seconds of the film.
    facts: JSON-ready; "note" says why there is no plan.
    """

    plan: SpeechPlan | None
    start_s: Fraction = Fraction(0)
    end_s: Fraction = Fraction(0)
    facts: dict[str, Any] = field(default_factory=dict)


def load_lip_reader() -> LipReader:
    """Load the embedded lip reader, in eval. Raises MissingDependencyError."""
    return LipReader(build_core(*load_state("core")), *build_motion_encoder(*load_state("motion")))


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
    extended = [(max(0.0, float(a) - CONTEXT_S), float(b) + CONTEXT_S) for a, b in spans]
    needed = np.zeros(len(times), bool)
    for a, b in extended:
        needed |= (times >= a - FRAME_MARGIN_S) & (times <= b + FRAME_MARGIN_S)
    reader = load_lip_reader()
    codes = _encode_frames(video, track, needed & track.present, reader)
    return [_read_span(reader, track, times, codes, span) for span in extended]


def _encode_frames(video: Path, track: FaceTrack, needed: np.ndarray, reader: LipReader) -> np.ndarray:
    """Encode the needed frames as motion codes, (F, 26) float32, NaN elsewhere. needed: (F,) bool."""
    codes = np.full((len(needed), CODE_WIDTH), np.nan, np.float32)
    crops: list[np.ndarray] = []
    frames: list[int] = []
    if not needed.any():
        return codes
    last = int(np.flatnonzero(needed)[-1])
    with VideoReader(video) as video_reader:
        for k, _, native in video_reader.read_native_frames():
            if needed[k]:
                crop = crop_face(track, k, CROP_PX)
                assert crop is not None  # needed frames show the face
                crops.append(crop.extract(to_upright_rgb(native)))
                frames.append(k)
            if crops and (len(crops) == BATCH_FRAMES or k == last):
                codes[frames] = encode_crops(reader.encoder, reader.space, np.stack(crops))
                crops.clear()
                frames.clear()
            if k == last:
                break
    return codes


def _read_span(
    reader: LipReader, track: FaceTrack, times: np.ndarray, codes: np.ndarray, span: tuple[float, float]
) -> LipReading | None:
    """Read the lips of one span; None where too little of it shows the face. times: (F,) seconds.  codes: (F, 26)."""
    ticks = np.arange(int(np.floor(span[0] * MOTION_HZ)), int(np.ceil(min(span[1], times[-1]) * MOTION_HZ)) + 1)
    encoded = np.isfinite(codes[:, 0])
    if not encoded.any() or len(ticks) < 4:
        return None
    at = ticks / float(MOTION_HZ)
    known = times[encoded]
    near = np.searchsorted(known, at).clip(0, len(known) - 1)
    distance_s = np.minimum(np.abs(known[near] - at), np.abs(known[np.maximum(near - 1, 0)] - at))
    visible = distance_s < MAX_FRAME_DISTANCE_S
    if not visible.any():
        return None
    columns = [np.interp(at, known, codes[encoded, k]) for k in range(codes.shape[1])]
    motion = np.stack(columns, 1).astype(np.float32)
    inside = (times >= span[0]) & (times <= span[1]) & track.present
    yaw_deg = float(np.median(np.abs(track.yaw_deg[inside]))) if inside.any() else HIDDEN_YAW_DEG
    lips = reader.space.lips.numpy()
    opening = motion @ lips
    scores = read_lips(reader.core, normalize_motion(motion, lips))
    return LipReading(float(at[0]), scores, visible, yaw_deg, float(opening.std()))


@dataclass(frozen=True)
class _ViterbiStates:
    """The states of a plan for alignment.

    phones: index of each.  expected_ticks: duration; 0 for a pause that may be left out.
    plan_phones: indices of the plan's phones that share the state; None for a pause.
    """

    phones: list[int]
    expected_ticks: list[float]
    plan_phones: list[list[int] | None]

    def add(self, phone: int, ticks: float, plan_phones: list[int] | None) -> None:
        """Append a state."""
        self.phones.append(phone)
        self.expected_ticks.append(ticks)
        self.plan_phones.append(plan_phones)

    def add_pause(self) -> None:
        """Append a pause, unless the last state is one."""
        if not self.phones or self.phones[-1] != SILENCE_INDEX:
            self.add(SILENCE_INDEX, 0.0, None)


def _build_states(plan: SpeechPlan) -> _ViterbiStates:
    """Build the states of a plan: pauses and phones in order; stress and length share the state of their vowel."""
    ticks_per_unit = float(UNIT_S) * float(ARTICULATION_HZ)
    states = _ViterbiStates([], [], [])
    states.add_pause()
    for k, (phone, arpabet) in enumerate(zip(plan.phones, convert_to_arpabet(plan.phones))):
        if phone in MARKS:
            states.add_pause()
            continue
        last = states.plan_phones[-1]
        if last is not None and (phone in VOWEL_MODIFIERS or plan.phones[k - 1] in "ˈˌ"):
            states.expected_ticks[-1] += plan.durations[k] * ticks_per_unit
            last.append(k)
            continue
        for n, index in enumerate(arpabet or (SILENCE_INDEX,)):
            ticks = plan.durations[k] * ticks_per_unit / max(1, len(arpabet))
            states.add(index, ticks, [k] if n == 0 else [])
    states.add_pause()
    return states


def retime_to_lips(plan: SpeechPlan, lips: LipReading, slot: TimeSlot) -> LipTiming:
    """Retime a plan to the times at which the lips make its sounds: explicit-duration Viterbi over the core's
    posteriors, with the natural durations as prior.

    plan: natural plan.  lips: that cover the slot.  slot: near which the line is.
    Where the lips cannot be trusted, the result has no plan, and a note.
    """
    first, stop = (
        int(np.clip(round((float(t) - lips.start_s) * MOTION_HZ), 0, len(lips.visible)))
        for t in (slot.start_s, slot.end_s)
    )
    visible = float(lips.visible[first:stop].mean()) if stop > first else 0.0
    facts = dict(seen=round(visible, 3), turned_deg=round(lips.yaw_deg, 1), moving=round(lips.lip_motion, 5))

    def refuse(reason: str) -> LipTiming:
        return LipTiming(None, facts=facts | dict(note=f"{reason}: the slot tells the time"))

    if visible < MIN_VISIBLE_SHARE:
        return refuse("the face is not seen through the line")
    if lips.yaw_deg > MAX_YAW_DEG:
        return refuse("the face is turned away")
    if lips.lip_motion < MIN_LIP_MOTION:
        return refuse("the lips do not move")
    states = _build_states(plan)
    edges = _align_states(states, lips.scores)
    if edges is None:
        return refuse("the line is longer than the lips are seen")
    confidence = compute_viseme_confidence(lips.scores, states.phones, edges)
    facts["confidence"] = round(confidence, 3)
    if confidence < MIN_VISEME_CONFIDENCE:
        return refuse("the lips could not be read as this line")
    spoken = [k for k, plan_phones in enumerate(states.plan_phones) if plan_phones is not None]
    start_s, end_s = (lips.start_s + edges[k] / float(ARTICULATION_HZ) for k in (spoken[0], spoken[-1] + 1))
    facts |= dict(onset_s=round(start_s, 3), offset_s=round(end_s, 3))
    start, end = Fraction(round(max(0.0, start_s) * 1000), 1000), Fraction(round(end_s * 1000), 1000)
    return LipTiming(_retime_to_edges(plan, states, edges), start, end, facts)


def _align_states(states: _ViterbiStates, scores: np.ndarray) -> np.ndarray | None:
    """Align states to scores (2 T, 40): edges (N + 1,) in ticks, or None where they do not fit."""
    expected = np.array(states.expected_ticks)
    longest = np.maximum(MAX_PHONE_S * float(ARTICULATION_HZ), 2 * expected)
    longest = np.where(expected == 0, len(scores), longest)
    deviations = np.full(len(expected), LOG_DURATION_STD)
    return align_phones_to_scores(scores - LOG_PHONE_PRIOR, np.array(states.phones), expected, deviations, longest)


def compute_viseme_confidence(scores: np.ndarray, phones: Sequence[int], edges: np.ndarray) -> float:
    """Compute the mean probability of the visemes of aligned phones at their times, silence left out.

    scores: (T, 40) log posteriors.  phones: N indices.  edges: (N + 1,) ticks.
    """
    probabilities = np.exp(scores) @ _VISEME_MASKS.T
    means = [
        probabilities[a:b, _VISEME_OF_PHONE[phone]].mean()
        for phone, a, b in zip(phones, edges, edges[1:])
        if phone != SILENCE_INDEX and b > a
    ]
    return float(np.mean(means)) if means else 0.0


def _retime_to_edges(plan: SpeechPlan, states: _ViterbiStates, edges: np.ndarray) -> SpeechPlan:
    """Retime a plan to the edges (ticks) of its states; marks get the pauses between them."""
    begins = np.full(len(plan.phones) + 1, np.nan)
    for k, plan_phones in enumerate(states.plan_phones):
        if not plan_phones:
            continue
        # phones that share a state divide its time as they do in the natural plan
        natural = np.array([plan.durations[i] for i in plan_phones], float)
        later = [e for e in range(k + 1, len(states.plan_phones)) if states.plan_phones[e] != []]
        stop = edges[later[0]] if later else edges[-1]
        shares = np.concatenate([[0], np.cumsum(natural)[:-1]]) / max(natural.sum(), 1e-9)
        begins[plan_phones] = edges[k] + shares * (stop - edges[k])
        begins[plan_phones[-1] + 1] = stop
    known = np.flatnonzero(np.isfinite(begins))
    first, last = int(known[0]), int(known[-1])
    at = np.interp(np.arange(first, last + 1), known, begins[known])
    least = [0 if phone in MARKS else 1 for phone in plan.phones[first:last]]
    units = round_edges((at - at[0]) / float(ARTICULATION_HZ) / float(UNIT_S), least)
    durations = list(plan.durations)
    durations[first:last] = [int(u) for u in units]
    return plan.retime(durations)
