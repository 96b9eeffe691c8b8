"""A planned line laid into its slot: pauses give first, then vowels, consonants last; every rung of the ladder is
recorded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mouthpiece.engine.config import Options, option
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.timeline import round_half_up
from mouthpiece.voice.plan.pauses import (
    TAIL_UNITS,
    count_silent_units,
    find_audible_edges,
    find_offset,
    find_onset,
    move_silence_to_marks,
    trim_plan_silence,
)
from mouthpiece.voice.plan.speech_plan import MARKS, PAUSE, UNIT_S, VOICE_RATE_HZ, SpeechPlan
from mouthpiece.voice.plan.time_stretch import stretch_wave

if TYPE_CHECKING:
    from collections.abc import Callable

VOWELS = frozenset("AIOQWYaeiouyæɐɑɒɔəɚɛɘɜɞɤɨɪɯɵøœʉʊʌᵊᵻːˈˌ\u0303")  # stress and length belong to their vowel
PLOSIVES = frozenset("pbtdkɡgqcɟʔʈɖTɾɽʣʥʦʨʧʤꭧ")
# Willingness to give, shortest and longest as a factor of the natural length, floor and ceiling in ms.
PHONE_ELASTICITY = {
    "pause": (8.0, 0.35, 2.2, 60, 900),
    "asked pause": (3.0, 0.6, 1.5, 50, 3000),
    "vowel": (1.0, 0.5, 1.8, 25, 350),
    "link": (0.8, 0.5, 1.6, 25, 100),
    "consonant": (0.6, 0.55, 1.6, 25, 240),
    "stop": (0.35, 0.65, 1.35, 25, 160),
}
MAX_PLANNING_ROUNDS = 4  # of planning against the onset and offset read from the plan
# planned this much short: what is left over is silence, what is too much would be cut
SAFETY_MARGIN_S = 0.009
# a line that lasts so much too long or too short is spoken once more
MAX_OVERRUN_S, MAX_SHORTFALL_S = 0.004, 0.028
MAX_SPEAKING_ATTEMPTS = 2  # of speaking a line
MAX_FINAL_STRETCH = 0.04  # what still misses then is stretched by no more than this
TEMPO_MARGIN = 0.02  # of tempo: units are whole
FADE_S = (0.002, 0.008)  # at cut ends


@dataclass(frozen=True)
class FitLimits(Options):
    """How far a line may be bent to its slot; tempo is natural length over spoken length."""

    tempo_silent_slow: float = option(0.92, "slowest tempo that needs no note", low=0.5, high=1.0)
    tempo_silent_fast: float = option(1.12, "fastest tempo that needs no note", low=1.0, high=2.0)
    tempo_noted: float = option(
        1.20, "tempo, or its inverse, up to which a note is enough; beyond it a person should listen", low=1.0, high=2.0
    )
    tempo_most: float = option(
        1.45, "fastest tempo at all; a line that needs more outlasts its slot", low=1.0, high=3.0
    )
    tempo_least: float = option(0.65, "slowest tempo at all; a line that needs less leaves silence", low=0.3, high=1.0)
    stretch_most: float = option(1.30, "most that a finished wave is sped up, the last rung", low=1.0, high=2.0)
    borrow_share: float = option(0.6, "share of the silence beside a line that it may take", low=0.0, high=1.0)
    keep_other_s: float = option(0.12, "silence kept before another speaker", unit="s", low=0.0, high=10.0)
    keep_same_s: float = option(0.08, "silence kept before the same speaker", unit="s", low=0.0, high=10.0)


@dataclass(frozen=True)
class TimeSlot:
    """When a line shall be heard, and what it may borrow; seconds of the programme.

    start_s, end_s: first and last sound.
    gap_before_s, gap_after_s: silence until the neighbouring lines; 0 lends nothing.
    same_before, same_after: True where the neighbour is the same speaker.
    cuts_s: shot cuts; on_screen: True where the speaker's mouth is seen: then no cut is crossed.
    Raises Refused for a slot that ends before it starts, or is no time at all.
    """

    start_s: float | Fraction
    end_s: float | Fraction
    gap_before_s: float = 0.0
    gap_after_s: float = 0.0
    same_speaker_before: bool = False
    same_speaker_after: bool = False
    shot_cuts_s: tuple = ()
    on_screen: bool = False

    def __post_init__(self) -> None:
        times = (self.start_s, self.end_s, self.gap_before_s, self.gap_after_s)
        if (
            not all(isinstance(t, int | float | Fraction) and math.isfinite(t) for t in times)
            or self.start_s < 0
            or self.end_s <= self.start_s
        ):
            text = f"slot from {self.start_s} to {self.end_s} s: a line needs a slot that starts at 0 or later and ends after it starts."
            raise InvalidInputError(text, hint="Correct the times of this line in the script.", code="bad_slot")

    @property
    def length_s(self) -> Fraction:
        """Length as Fraction, seconds."""
        return Fraction(self.end_s) - Fraction(self.start_s)


class FitStep(NamedTuple):
    """A step of the ladder. name: natural, borrow, retime, stretch, silence or review.  amount: tempo, seconds or
    factor.  note: for people.
    """

    name: str
    amount: float
    note: str = ""


@dataclass(frozen=True)
class FittedLine:
    """A line in its slot.

    plan: what the voice speaks.  start_s, end_s: Fractions, the slot with what was borrowed.
    length_s: Fraction, how long the delivered sound is, from start_s; end_s - start_s unless the line outlasts its
    slot.
    lead_s: Fraction, silence put before the spoken (and stretched) wave; below 0 so much of its silent head is cut.
    stretch: factor on the duration of the spoken wave.  tempo: natural length over spoken length.
    rungs: what was done, in order.  needs_review: True when a person should listen; why: the reason, else "".
    start_error_s, end_error_s: of the first and last sound against the slot; foreseen from the plan, or measured once
    `corrected`.
    """

    plan: SpeechPlan
    start_s: Fraction
    end_s: Fraction
    length_s: Fraction
    lead_s: Fraction
    stretch: float
    tempo: float
    rungs: tuple[FitStep, ...]
    needs_review: bool
    why: str
    start_error_s: float
    end_error_s: float

    @property
    def tail_s(self):
        """Silence after the spoken wave, Fraction; below 0 so much of its silent tail is cut."""
        return self.length_s - self.lead_s - Fraction(self.plan.duration) * Fraction(self.stretch)

    def as_dict(self) -> dict[str, float]:
        """JSON-ready facts for reports, without the plan."""
        numbers = {
            name: round(float(getattr(self, name)), 4)
            for name in ("start_s", "end_s", "length_s", "stretch", "tempo", "start_error_s", "end_error_s")
        }
        return numbers | dict(rungs=[r._asdict() for r in self.rungs], needs_review=self.needs_review, why=self.why)


def classify_phones(plan: SpeechPlan) -> list[str]:
    """What each phone is to the fit: a key of GIVE, or "" outside the first and the last sound."""
    sounds = [k for k, p in enumerate(plan.phones) if p not in MARKS]
    quiet, out = count_silent_units(plan), []
    for k, phone in enumerate(plan.phones):
        if not sounds or not sounds[0] <= k <= sounds[-1]:
            out.append("")
        elif phone == PAUSE:
            out.append("asked pause")
        elif phone in MARKS:
            out.append("pause" if plan.durations[k] >= 2 and quiet[k] * 2 >= plan.durations[k] else "link")
        else:
            out.append("vowel" if phone in VOWELS else "stop" if phone in PLOSIVES else "consonant")
    return out


def get_duration_bounds(plan: SpeechPlan, kinds: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(willingness, shortest, longest) of each phone, three (N,) arrays in units; what gives nothing has its natural
    length.
    """
    natural, unit_ms = np.array(plan.durations, float), float(UNIT_S) * 1000
    give, low, high = np.zeros(len(natural)), natural.copy(), natural.copy()
    for k, kind in enumerate(kinds):
        if kind and natural[k]:
            give[k], shortest, longest, floor_ms, ceiling_ms = PHONE_ELASTICITY[kind]
            low[k] = min(natural[k], max(1, natural[k] * shortest, floor_ms / unit_ms))
            high[k] = max(natural[k], min(natural[k] * longest, ceiling_ms / unit_ms))
    return give, low, high


def distribute_durations(
    natural: np.ndarray, give: np.ndarray, low: np.ndarray, high: np.ndarray, wanted: float
) -> np.ndarray:
    """Lengths (N,) that sum to `wanted` as far as the bounds allow: minimum of sum of natural (x / natural - 1)^2 /
    give.

    natural, give, low, high: (N,) of the phones, same unit as wanted.
    Source: closed form of a separable quadratic: x = clip(natural (1 + l give)), l by bisection.
    """
    below, above = -1 / max(give.max(initial=0), 1e-9) - 60, 60.0
    for _ in range(80):
        middle = (below + above) / 2
        lengths = np.clip(natural * (1 + middle * give), low, high)
        below, above = (middle, above) if lengths.sum() < wanted else (below, middle)
    return lengths


def round_cumulatively(lengths: np.ndarray) -> np.ndarray:
    """Whole units (N,) int with the running sum never off by more than a half; a length of 1 or more stays at least 1.
    Source: error diffusion.
    """
    return np.diff(np.floor(np.concatenate([[0], np.cumsum(lengths)]) + 0.5 + 1e-9)).astype(int)


def compute_spoken_duration(plan: SpeechPlan) -> float:
    """Seconds from the first to the last sound of a plan."""
    return find_offset(plan) - find_onset(plan)


def retime_to_duration(plan: SpeechPlan, wanted_s: float) -> SpeechPlan:
    """The plan with its first-to-last sound lasting wanted_s as near as whole units and the limits of its phones allow.

    plan: Plan, settled.  wanted_s: seconds.
    """
    kinds = classify_phones(plan)
    give, low, high = get_duration_bounds(plan, kinds)
    natural, inner = np.array(plan.durations, float), np.array([bool(k) for k in kinds])
    best, aim = plan, natural[inner].sum() + (wanted_s - compute_spoken_duration(plan)) / float(UNIT_S)
    for _ in range(MAX_PLANNING_ROUNDS):
        lengths = natural.copy()
        lengths[inner] = distribute_durations(natural[inner], give[inner], low[inner], high[inner], round(aim))
        now = plan.retime(round_cumulatively(lengths))
        left = wanted_s - compute_spoken_duration(now)
        best = min(best, now, key=lambda p: abs(wanted_s - compute_spoken_duration(p)))
        if abs(left) <= float(UNIT_S) / 2:
            break
        aim = np.clip(aim + left / float(UNIT_S), low[inner].sum(), high[inner].sum())
    return best


def borrow_silence(slot: TimeSlot, wanted_s: float, limits: FitLimits) -> tuple[Fraction, Fraction, float]:
    """(start_s, end_s, taken_s) of a slot widened towards wanted_s by the silence beside it, the end first. Source:
    docs, ladder.
    """
    missing = wanted_s - float(slot.length_s)

    def lent(gap_s: float, same: bool) -> float:
        return max(0.0, min(limits.borrow_share * gap_s, gap_s - (limits.keep_same_s if same else limits.keep_other_s)))

    after, before = (
        lent(slot.gap_after_s, slot.same_speaker_after),
        min(lent(slot.gap_before_s, slot.same_speaker_before), float(slot.start_s)),
    )
    if slot.on_screen:
        after = min([after, *(float(c) - float(slot.end_s) for c in slot.shot_cuts_s if c >= slot.end_s)])
        before = min([before, *(float(slot.start_s) - float(c) for c in slot.shot_cuts_s if c <= slot.start_s)])
    after = min(after, max(0.0, missing))
    before = min(before, max(0.0, missing - after))
    milli = Fraction(1, 1000)  # borrowed time is whole milliseconds
    after, before = (Fraction(math.floor(t * 1000 + 1e-6)) * milli for t in (after, before))
    return Fraction(slot.start_s) - before, Fraction(slot.end_s) + after, float(after + before)


def _judge_tempo(tempo: float, limits: FitLimits) -> tuple[str, bool]:
    """(note, review) of a tempo."""
    if limits.tempo_silent_slow <= tempo <= limits.tempo_silent_fast:
        return "", False
    if 1 / limits.tempo_noted <= tempo <= limits.tempo_noted:
        return f"spoken at {tempo:.2f} of its natural tempo", False
    return f"spoken at {tempo:.2f} of its natural tempo, beyond {limits.tempo_noted:.2f}", True


def fit_to_slot(plan: SpeechPlan, slot: TimeSlot, limits: FitLimits | None = None) -> FittedLine:
    """The line fitted to its slot, as a Fitted; it never fails for a slot too short or too long, and never cuts speech.

    plan: natural Plan.  slot: Slot.  limits: Limits, the defaults when None.
    Too short: the plan is re-timed up to tempo_noted, then silence is borrowed, then it is re-timed further within the
    limits of its phones,
    then the wave will be sped up to stretch_most; what still does not fit outlasts its slot.  Too long: re-timed;
    beyond the limits it is spoken slowly, then silence.
    Source: docs, "Dubbing behaviour".
    """
    limits, plan = limits or FitLimits(), trim_plan_silence(move_silence_to_marks(plan))
    natural_s, rungs, reasons = compute_spoken_duration(plan), [FitStep("natural", 1.0)], []
    start, end, taken = borrow_silence(slot, natural_s / (limits.tempo_noted - TEMPO_MARGIN), limits)
    if taken:
        rungs.append(FitStep("borrow", round(taken, 3), f"takes {1000 * taken:.0f} ms of the silence beside it"))
    wanted_s, half = float(end - start), float(UNIT_S) / 2
    _, _, high = get_duration_bounds(plan, classify_phones(plan))
    slowest_s = min(natural_s + (high - np.array(plan.durations)).sum() * float(UNIT_S), natural_s / limits.tempo_least)
    aim_s = wanted_s - SAFETY_MARGIN_S if wanted_s <= slowest_s + half else natural_s * limits.tempo_noted
    aim_s = max(aim_s, natural_s / limits.tempo_most)
    spoken, stretch = retime_to_duration(plan, aim_s), 1.0
    tempo = natural_s / compute_spoken_duration(spoken)
    note, review = _judge_tempo(tempo, limits)
    if spoken.durations != plan.durations:
        rungs.append(FitStep("retime", round(tempo, 4), note))
    if compute_spoken_duration(spoken) > aim_s + half and tempo < limits.tempo_most:
        stretch = max(aim_s / compute_spoken_duration(spoken), 1 / limits.stretch_most)
        tempo /= stretch
        note, review = _judge_tempo(tempo, limits)
        rungs.append(
            FitStep(
                "stretch", round(stretch, 4), f"its phones cannot be shorter: the wave is sped up by {1 / stretch:.2f}"
            )
        )
    reasons += [note] * review
    lasts_s = compute_spoken_duration(spoken) * stretch
    if lasts_s > wanted_s + half:
        reasons.append(
            f"needs {lasts_s:.2f} s at its fastest, the slot has {float(slot.length_s):.2f} s; nothing was cut"
        )
    elif lasts_s < wanted_s - 4 * half:
        rungs.append(FitStep("silence", round(wanted_s - lasts_s, 3), "the rest of the slot is silent"))
        reasons.append(
            f"lasts {lasts_s:.2f} s at its slowest, the slot {float(slot.length_s):.2f} s; the rest is silence"
        )
    if reasons:
        rungs.append(FitStep("review", 1.0, reasons[-1]))
    fitted = FittedLine(
        spoken,
        start,
        end,
        end - start,
        Fraction(0),
        stretch,
        tempo,
        tuple(rungs),
        bool(reasons),
        "; ".join(reasons),
        0.0,
        0.0,
    )
    return _place_in_slot(fitted, find_onset(spoken) * stretch, find_offset(spoken) * stretch)


def _place_in_slot(fitted: FittedLine, first_s: float, last_s: float) -> FittedLine:
    """The Fitted with its wave laid so that time left over is shared by start and end; first_s, last_s: its sounds, in
    the wave.
    """
    first, last = (Fraction(round(t * 1_000_000), 1_000_000) for t in (first_s, last_s))
    window, lasts = fitted.end_s - fitted.start_s, last - first
    spare = window - lasts
    early = spare / 2 if 0 < spare <= 2 * UNIT_S else Fraction(0)
    # what outlasts its slot keeps its last sound and decay
    length = window if spare >= -UNIT_S else lasts + TAIL_UNITS * UNIT_S
    return replace(
        fitted, lead_s=early - first, length_s=length, start_error_s=float(early), end_error_s=float(early - spare)
    )


def correct_placement(fitted: FittedLine, wave: np.ndarray, rate_hz: int = VOICE_RATE_HZ) -> FittedLine:
    """The Fitted placed by what is heard in the spoken wave, errors measured; needs_review when nothing is heard.

    fitted: Fitted.  wave: (1, S) or (S,) float32, as the voice spoke the plan, stretched already where asked.
    """
    heard = find_audible_edges(np.asarray(wave).reshape(-1), rate_hz)
    if heard is None:
        why = "; ".join(filter(None, [fitted.why, "the voice spoke nothing that can be heard"]))
        return replace(fitted, needs_review=True, why=why, rungs=(*fitted.rungs, FitStep("review", 1.0, "silent")))
    return _place_in_slot(fitted, *heard)


def render_into_slot(fitted: FittedLine, wave: np.ndarray, rate_hz: int = VOICE_RATE_HZ) -> np.ndarray:
    """The sound of a fitted line, (1, S) float32 of exactly nearest(length_s * rate_hz) samples, starting at
    fitted.start_s.

    wave: (1, S) or (S,) float32, what the voice spoke, stretched already where asked.  rate_hz: of wave and result.
    Source: ours; short fades where the wave is cut.
    """
    wave = np.asarray(wave, np.float32).reshape(-1).copy()
    total, lead = round_half_up(fitted.length_s * rate_hz), round_half_up(fitted.lead_s * rate_hz)
    if lead < 0:
        wave, lead = wave[-lead:], 0
    wave = wave[: max(0, total - lead)].copy()
    for fade_s, part in ((FADE_S[0], slice(None)), (FADE_S[1], slice(None, None, -1))):
        n = min(len(wave), max(1, round(fade_s * rate_hz)))
        wave[part][:n] *= np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
    out = np.zeros((1, total), np.float32)
    out[0, lead : lead + len(wave)] = wave
    return out


def speak_into_slot(
    speak: Callable, plan: SpeechPlan, slot: TimeSlot, limits=None, rate_hz: int = VOICE_RATE_HZ
) -> tuple[FittedLine, np.ndarray]:
    """(Fitted, sound (1, S) float32) of a line spoken into its slot: spoken, listened to, and spoken again where its
    edges miss.

    speak: gives (1, S) float32 for a Plan, S its samples.  plan: natural Plan.  slot: Slot.  limits: Limits.
    """
    fitted = fit_to_slot(plan, slot, limits)
    reachable = (
        fitted.stretch == 1.0 and not any(rung.name == "silence" for rung in fitted.rungs) and fitted.end_error_s < 0.1
    )
    tried, now = [], fitted.plan
    while len(tried) < MAX_SPEAKING_ATTEMPTS and now.durations not in [found.plan.durations for found, _ in tried]:
        wave = np.asarray(speak(now), np.float32).reshape(-1)
        wave = stretch_wave(wave, rate_hz, fitted.stretch) if fitted.stretch != 1.0 else wave
        tried.append((correct_placement(replace(fitted, plan=now), wave, rate_hz), wave))
        if not reachable or -MAX_SHORTFALL_S <= _get_overrun_s(tried[-1][0]) <= MAX_OVERRUN_S:
            break
        now = retime_to_duration(
            trim_plan_silence(move_silence_to_marks(plan)),
            compute_spoken_duration(now) - _get_overrun_s(tried[-1][0]) - SAFETY_MARGIN_S,
        )
    found, wave = min(tried, key=lambda pair: _compute_slot_error(pair[0]))
    if reachable and not -MAX_SHORTFALL_S <= _get_overrun_s(found) <= MAX_OVERRUN_S:
        found, wave = min(
            (found, wave), _stretch_to_slot(found, wave, rate_hz), key=lambda pair: _compute_slot_error(pair[0])
        )
    return found, render_into_slot(found, wave, rate_hz)


def _compute_slot_error(fitted: FittedLine) -> float:
    """How far a spoken line misses its slot; too long would be cut: three times as bad."""
    return max(3 * _get_overrun_s(fitted), -_get_overrun_s(fitted))


def _stretch_to_slot(found, wave, rate_hz):
    """(Fitted, wave) stretched by the few per cent that planning in 25 ms units could not meet: ends that fade jump by
    more.
    """
    window_s = float(found.end_s - found.start_s)
    factor = float(
        np.clip(
            (window_s - SAFETY_MARGIN_S) / (window_s + _get_overrun_s(found)),
            1 - MAX_FINAL_STRETCH,
            1 + MAX_FINAL_STRETCH,
        )
    )
    rung = FitStep("stretch", round(factor, 4), "the wave is made to end with its slot")
    wave = stretch_wave(wave, rate_hz, factor)
    return correct_placement(
        replace(found, stretch=found.stretch * factor, rungs=(*found.rungs, rung)), wave, rate_hz
    ), wave


def _get_overrun_s(fitted: FittedLine) -> float:
    """How much longer than its slot a spoken line lasts, seconds; below 0 shorter."""
    return fitted.end_error_s - fitted.start_error_s
