"""A planned line fitted to its slot: pauses give first, then vowels, consonants last; every step is recorded."""

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
    find_audible_edges,
    find_offset,
    find_onset,
    move_silence_to_marks,
    trim_plan_silence,
)
from mouthpiece.voice.plan.phone_durations import (
    classify_phones,
    compute_spoken_duration,
    get_duration_bounds,
    retime_to_duration,
)
from mouthpiece.voice.plan.speech_plan import UNIT_S, VOICE_RATE_HZ, SpeechPlan
from mouthpiece.voice.plan.time_stretch import stretch_wave

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SAFETY_MARGIN_S = 0.009  # planned so much shorter than the slot: time left over is silence, too much would be cut
MAX_OVERRUN_S = 0.004  # a line that lasts so much longer than its slot is spoken once more
MAX_SHORTFALL_S = 0.028  # a line that lasts so much shorter is spoken once more
MAX_SPEAKING_ATTEMPTS = 2  # of one line
MAX_FINAL_STRETCH = 0.04  # what still misses then is stretched by no more than this share
TEMPO_MARGIN = 0.02  # of tempo, since durations are whole units
FADE_IN_S = 0.002  # where the head of a wave is cut
FADE_OUT_S = 0.008  # where its tail is cut


@dataclass(frozen=True)
class FitLimits(Options):
    """Limits of fitting a line to its slot; tempo is natural duration over spoken duration."""

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
    """The time in which a line should be heard, and what it may borrow; seconds of the programme.

    start_s, end_s: of the first and last sound.
    gap_before_s, gap_after_s: silence until the neighbouring lines; 0 lends nothing.
    same_speaker_before, same_speaker_after: whether the neighbour is the same speaker.
    shot_cuts_s: times of shot cuts.  on_screen: whether the speaker's mouth is seen; then no cut is crossed.
    Raises InvalidInputError for a slot that does not end after its start.
    """

    start_s: float | Fraction
    end_s: float | Fraction
    gap_before_s: float = 0.0
    gap_after_s: float = 0.0
    same_speaker_before: bool = False
    same_speaker_after: bool = False
    shot_cuts_s: tuple[float, ...] = ()
    on_screen: bool = False

    def __post_init__(self) -> None:
        times = (self.start_s, self.end_s, self.gap_before_s, self.gap_after_s)
        if (
            not all(isinstance(t, int | float | Fraction) and math.isfinite(t) for t in times)
            or self.start_s < 0
            or self.end_s <= self.start_s
        ):
            raise InvalidInputError(
                f"slot from {self.start_s} to {self.end_s} s: a line needs a slot that starts at 0 or later and ends "
                "after it starts.",
                hint="Correct the times of this line in the script.",
                code="bad_slot",
            )

    @property
    def length_s(self) -> Fraction:
        """Duration in seconds."""
        return Fraction(self.end_s) - Fraction(self.start_s)


class FitStep(NamedTuple):
    """One step of fitting. name: natural, borrow, retime, stretch, silence or review.  amount: tempo, seconds or
    factor.  note: for people.
    """

    name: str
    amount: float
    note: str = ""


@dataclass(frozen=True)
class FittedLine:
    """A line fitted to its slot.

    plan: what the voice speaks.  start_s, end_s: the slot with what was borrowed, seconds of the programme.
    length_s: seconds of the delivered sound from start_s; end_s - start_s unless the line outlasts its slot.
    lead_s: seconds of silence before the spoken (and stretched) wave; below 0, so much of its silent head is cut.
    stretch: factor on the duration of the spoken wave.  tempo: natural over spoken duration.
    rungs: what was done, in order.  needs_review: whether a person should listen.  why: the reason, else "".
    start_error_s, end_error_s: of the first and last sound against the slot; predicted from the plan, or measured by
    `correct_placement`.
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

    def as_dict(self) -> dict[str, Any]:
        """Convert to JSON-ready facts for reports, without the plan."""
        numbers = {
            name: round(float(getattr(self, name)), 4)
            for name in ("start_s", "end_s", "length_s", "stretch", "tempo", "start_error_s", "end_error_s")
        }
        return numbers | dict(rungs=[r._asdict() for r in self.rungs], needs_review=self.needs_review, why=self.why)


def borrow_silence(slot: TimeSlot, wanted_s: float, limits: FitLimits) -> tuple[Fraction, Fraction, float]:
    """Extend a slot towards wanted_s by the silence beside it, the end first: (start_s, end_s, taken_s)."""
    missing = wanted_s - float(slot.length_s)

    def lend(gap_s: float, same_speaker: bool) -> float:
        kept_s = limits.keep_same_s if same_speaker else limits.keep_other_s
        return max(0.0, min(limits.borrow_share * gap_s, gap_s - kept_s))

    after = lend(slot.gap_after_s, slot.same_speaker_after)
    before = min(lend(slot.gap_before_s, slot.same_speaker_before), float(slot.start_s))
    if slot.on_screen:
        after = min([after, *(float(c) - float(slot.end_s) for c in slot.shot_cuts_s if c >= slot.end_s)])
        before = min([before, *(float(slot.start_s) - float(c) for c in slot.shot_cuts_s if c <= slot.start_s)])
    after = min(after, max(0.0, missing))
    before = min(before, max(0.0, missing - after))
    # borrowed time is whole milliseconds
    after_s, before_s = (Fraction(math.floor(t * 1000 + 1e-6), 1000) for t in (after, before))
    return Fraction(slot.start_s) - before_s, Fraction(slot.end_s) + after_s, float(after_s + before_s)


def _judge_tempo(tempo: float, limits: FitLimits) -> tuple[str, bool]:
    """Judge a tempo: (note, whether it needs review)."""
    if limits.tempo_silent_slow <= tempo <= limits.tempo_silent_fast:
        return "", False
    if 1 / limits.tempo_noted <= tempo <= limits.tempo_noted:
        return f"spoken at {tempo:.2f} of its natural tempo", False
    return f"spoken at {tempo:.2f} of its natural tempo, beyond {limits.tempo_noted:.2f}", True


def fit_to_slot(plan: SpeechPlan, slot: TimeSlot, limits: FitLimits | None = None) -> FittedLine:
    """Fit a line to its slot; this never fails for a slot too short or too long, and never cuts speech.

    plan: natural plan.  limits: the defaults when None.
    A slot too short: the plan is retimed up to tempo_noted, then silence is borrowed, then it is retimed further within
    the elasticity of its phones, then the wave will be sped up to stretch_most; what still does not fit outlasts its
    slot.  A slot too long: the plan is retimed; beyond the limits it is spoken slowly, then there is silence.
    """
    limits, plan = limits or FitLimits(), trim_plan_silence(move_silence_to_marks(plan))
    natural_s, steps, reasons = compute_spoken_duration(plan), [FitStep("natural", 1.0)], []
    start, end, taken = borrow_silence(slot, natural_s / (limits.tempo_noted - TEMPO_MARGIN), limits)
    if taken:
        steps.append(FitStep("borrow", round(taken, 3), f"takes {1000 * taken:.0f} ms of the silence beside it"))
    wanted_s, half = float(end - start), float(UNIT_S) / 2
    aim_s = _choose_duration(plan, natural_s, wanted_s, limits)
    spoken, stretch = retime_to_duration(plan, aim_s), 1.0
    tempo = natural_s / compute_spoken_duration(spoken)
    note, review = _judge_tempo(tempo, limits)
    if spoken.durations != plan.durations:
        steps.append(FitStep("retime", round(tempo, 4), note))
    if compute_spoken_duration(spoken) > aim_s + half and tempo < limits.tempo_most:
        stretch = max(aim_s / compute_spoken_duration(spoken), 1 / limits.stretch_most)
        tempo /= stretch
        note, review = _judge_tempo(tempo, limits)
        stretch_note = f"its phones cannot be shorter: the wave is sped up by {1 / stretch:.2f}"
        steps.append(FitStep("stretch", round(stretch, 4), stretch_note))
    reasons += [note] * review
    lasts_s, slot_s = compute_spoken_duration(spoken) * stretch, float(slot.length_s)
    if lasts_s > wanted_s + half:
        reasons.append(f"needs {lasts_s:.2f} s at its fastest, the slot has {slot_s:.2f} s; nothing was cut")
    elif lasts_s < wanted_s - 4 * half:
        steps.append(FitStep("silence", round(wanted_s - lasts_s, 3), "the rest of the slot is silent"))
        reasons.append(f"lasts {lasts_s:.2f} s at its slowest, the slot {slot_s:.2f} s; the rest is silence")
    if reasons:
        steps.append(FitStep("review", 1.0, reasons[-1]))
    fitted = FittedLine(
        plan=spoken,
        start_s=start,
        end_s=end,
        length_s=end - start,
        lead_s=Fraction(0),
        stretch=stretch,
        tempo=tempo,
        rungs=tuple(steps),
        needs_review=bool(reasons),
        why="; ".join(reasons),
        start_error_s=0.0,
        end_error_s=0.0,
    )
    return _place_in_slot(fitted, find_onset(spoken) * stretch, find_offset(spoken) * stretch)


def _choose_duration(plan: SpeechPlan, natural_s: float, wanted_s: float, limits: FitLimits) -> float:
    """Choose the seconds from first to last sound at which a line is planned for a slot of wanted_s."""
    _, _, high = get_duration_bounds(plan, classify_phones(plan))
    slowest_s = min(natural_s + (high - np.array(plan.durations)).sum() * float(UNIT_S), natural_s / limits.tempo_least)
    fits = wanted_s <= slowest_s + float(UNIT_S) / 2
    aim_s = wanted_s - SAFETY_MARGIN_S if fits else natural_s * limits.tempo_noted
    return max(aim_s, natural_s / limits.tempo_most)


def _place_in_slot(fitted: FittedLine, first_s: float, last_s: float) -> FittedLine:
    """Place a line's wave so that time left over is shared by both ends. first_s, last_s: its sounds in the wave."""
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
    """Place a line by what is audible in its spoken wave, and measure its errors; silence needs review.

    wave: (1, S) or (S,) float32, as the voice spoke the plan, stretched already where asked.
    """
    heard = find_audible_edges(np.asarray(wave).reshape(-1), rate_hz)
    if heard is None:
        why = "; ".join(filter(None, [fitted.why, "the voice spoke nothing that can be heard"]))
        return replace(fitted, needs_review=True, why=why, rungs=(*fitted.rungs, FitStep("review", 1.0, "silent")))
    return _place_in_slot(fitted, *heard)


def render_into_slot(fitted: FittedLine, wave: np.ndarray, rate_hz: int = VOICE_RATE_HZ) -> np.ndarray:
    """Render a fitted line: (1, S) float32 of exactly round(length_s * rate_hz) samples, starting at fitted.start_s.

    wave: (1, S) or (S,) float32, what the voice spoke, stretched already where asked.  rate_hz: of wave and result.
    Cuts are faded.
    """
    wave = np.asarray(wave, np.float32).reshape(-1).copy()
    total, lead = round_half_up(fitted.length_s * rate_hz), round_half_up(fitted.lead_s * rate_hz)
    if lead < 0:
        wave, lead = wave[-lead:], 0
    wave = wave[: max(0, total - lead)].copy()
    for fade_s, part in ((FADE_IN_S, slice(None)), (FADE_OUT_S, slice(None, None, -1))):
        n = min(len(wave), max(1, round(fade_s * rate_hz)))
        wave[part][:n] *= np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
    out = np.zeros((1, total), np.float32)
    out[0, lead : lead + len(wave)] = wave
    return out


def speak_into_slot(
    speak: Callable[[SpeechPlan], np.ndarray],
    plan: SpeechPlan,
    slot: TimeSlot,
    limits: FitLimits | None = None,
    rate_hz: int = VOICE_RATE_HZ,
) -> tuple[FittedLine, np.ndarray]:
    """Speak a line into its slot: fitted, spoken, measured, and spoken again where its edges miss.

    speak: gives (1, S) float32 for a plan, S its samples.  plan: natural plan.
    Gives the fitted line and its sound (1, S) float32.
    """
    fitted = fit_to_slot(plan, slot, limits)
    fills_slot = not any(step.name == "silence" for step in fitted.rungs) and fitted.end_error_s < 0.1
    reachable = fitted.stretch == 1.0 and fills_slot
    attempts: list[tuple[FittedLine, np.ndarray]] = []
    now = fitted.plan
    while len(attempts) < MAX_SPEAKING_ATTEMPTS and now.durations not in [a.plan.durations for a, _ in attempts]:
        wave = np.asarray(speak(now), np.float32).reshape(-1)
        wave = stretch_wave(wave, rate_hz, fitted.stretch) if fitted.stretch != 1.0 else wave
        attempts.append((correct_placement(replace(fitted, plan=now), wave, rate_hz), wave))
        overrun_s = _get_overrun_s(attempts[-1][0])
        if not reachable or -MAX_SHORTFALL_S <= overrun_s <= MAX_OVERRUN_S:
            break
        settled = trim_plan_silence(move_silence_to_marks(plan))
        now = retime_to_duration(settled, compute_spoken_duration(now) - overrun_s - SAFETY_MARGIN_S)
    best = min(attempts, key=lambda attempt: _compute_slot_error(attempt[0]))
    if reachable and not -MAX_SHORTFALL_S <= _get_overrun_s(best[0]) <= MAX_OVERRUN_S:
        stretched = _stretch_to_slot(*best, rate_hz)
        best = min(best, stretched, key=lambda attempt: _compute_slot_error(attempt[0]))
    line, wave = best
    return line, render_into_slot(line, wave, rate_hz)


def _compute_slot_error(fitted: FittedLine) -> float:
    """Compute how far a spoken line misses its slot, seconds; too long would be cut and counts three times."""
    return max(3 * _get_overrun_s(fitted), -_get_overrun_s(fitted))


def _stretch_to_slot(fitted: FittedLine, wave: np.ndarray, rate_hz: int) -> tuple[FittedLine, np.ndarray]:
    """Stretch a spoken line by the few per cent that planning in 25 ms units could not meet."""
    window_s = float(fitted.end_s - fitted.start_s)
    factor = (window_s - SAFETY_MARGIN_S) / (window_s + _get_overrun_s(fitted))
    factor = float(np.clip(factor, 1 - MAX_FINAL_STRETCH, 1 + MAX_FINAL_STRETCH))
    step = FitStep("stretch", round(factor, 4), "the wave is made to end with its slot")
    wave = stretch_wave(wave, rate_hz, factor)
    stretched = replace(fitted, stretch=fitted.stretch * factor, rungs=(*fitted.rungs, step))
    return correct_placement(stretched, wave, rate_hz), wave


def _get_overrun_s(fitted: FittedLine) -> float:
    """Get how much longer than its slot a spoken line lasts, seconds; below 0 it is shorter."""
    return fitted.end_error_s - fitted.start_error_s
