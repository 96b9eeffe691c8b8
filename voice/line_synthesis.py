"""Synthesize one line of dialogue, timed by the actor's voice, his lips or its slot; check it by speech recognition."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.timeline import round_half_up
from mouthpiece.voice.plan.pauses import find_audible_edges, find_offset, find_onset
from mouthpiece.voice.plan.slot_fitting import (
    FitLimits,
    FittedLine,
    TimeSlot,
    compute_spoken_duration,
    correct_placement,
    fit_to_slot,
    render_into_slot,
    speak_into_slot,
)
from mouthpiece.voice.plan.speech_plan import MARKS, UNIT_S, VOICE_RATE_HZ
from mouthpiece.voice.plan.time_stretch import stretch_wave
from mouthpiece.voice.plan.variations import vary_plan
from mouthpiece.voice.text.phones import split_into_utterances
from mouthpiece.voice.timing.prosody import speak_with_prosody
from mouthpiece.voice.timing.prosody_transfer import ProsodyOptions, parse_prosody_amount, transfer_prosody

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from mouthpiece.voice.asr.transcription import Transcriber
    from mouthpiece.voice.backends.backend import Voice
    from mouthpiece.voice.options import DialogueOptions
    from mouthpiece.voice.plan.speech_plan import SpeechPlan
    from mouthpiece.voice.text.phones import Utterance
    from mouthpiece.voice.timing.lip_timing import LipReading
    from mouthpiece.voice.timing.prosody import ProsodyTarget

# seconds by which a line that follows the actor may end outside of its slot
MAX_SLOT_OVERRUN_S = Fraction(1, 20)
UNTIMED_TOLERANCE_S = 0.05  # by which a voice without plans may miss the length of its slot


@dataclass(frozen=True)
class GuideTrack:
    """Hold what sets the times of a line beside its slot.

    recording: (S,) float32 at 16 kHz of the actor's line, or None.
    recording_s: second of the programme at which it begins.
    recorded_language: language of the recording where it has other words; None where the actor says this very line.
    prosody: how much of the recording's prosody is used.  whisper: model that aligns other languages than English.
    lips: what was read from the speaker's lips, or None.
    """

    recording: np.ndarray | None = field(default=None, repr=False)
    recording_s: float = 0.0
    recorded_language: str | None = None
    prosody: ProsodyOptions = ProsodyOptions()
    whisper: Any = field(default=None, repr=False)
    lips: LipReading | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SpokenTake:
    """Hold a spoken take of a line.

    sound: at the voice's rate, one channel.  start_s: second of the programme at which it begins, exact.
    plans: the plans of its parts, each with the second of the programme at which its time zero lies.
    timed_by: "source" (the actor's line), "mouth" (his lips), "slot" or "text".
    needs_review, why: whether and why a person should listen.
    facts: JSON-ready: fit of every part, prosody, mouth, notes, what a recognizer heard.
    """

    sound: Sound
    start_s: Fraction
    plans: tuple[tuple[SpeechPlan, Fraction], ...]
    timed_by: str
    needs_review: bool
    why: str
    facts: dict[str, Any] = field(repr=False)

    def add_review(self, why: str, **facts: Any) -> SpokenTake:
        """Add facts, and a reason for a person to listen unless it is empty."""
        whys = "; ".join(filter(None, (self.why, why)))
        return replace(self, needs_review=bool(whys), why=whys, facts=self.facts | facts)

    @property
    def plan_records(self) -> list[dict[str, Any]]:
        """Get the plans with their times, JSON-ready, as mouthpiece.voice.plan.speech_plan.read_plan reads them."""
        return [plan.as_dict() | {"start_s": float(at)} for plan, at in self.plans]

    def as_dict(self) -> dict[str, Any]:
        """Describe the take, JSON-ready."""
        return {
            "start_s": round(float(self.start_s), 4),
            "duration_s": round(float(self.sound.duration), 4),
            "timed_by": self.timed_by,
            "needs_review": self.needs_review,
            "why": self.why,
            "plans": self.plan_records,
        } | self.facts


def plan_text(
    voice: Voice, text: str, speed: float = 1.0, dictionary: Path | None = None, index: int = 0, seed: int = 0
) -> tuple[list[SpeechPlan], Sequence[Utterance]]:
    """Plan take `index` of a text at its natural pace: the plans and the utterances of its parts.

    Raises what split_into_utterances and the voice raise.
    """
    utterances = split_into_utterances(text, voice.language, dictionary)
    return [vary_plan(voice.predict_plan(utterance, speed), index, seed) for utterance in utterances], utterances


def speak_at_natural_pace(voice: Voice, plans: Sequence[SpeechPlan]) -> SpokenTake:
    """Speak plans one after another from second 0 in the voice's own time, with the pauses at their ends."""
    waves, at, placed = [], Fraction(0), []
    for plan in plans:
        waves.append(voice.speak(plan))
        placed.append((plan, at))
        at += plan.duration
    sound = Sound(np.concatenate(waves, 1), VOICE_RATE_HZ)
    return SpokenTake(sound, Fraction(0), tuple(placed), "text", False, "", {"parts": []})


def speak_untimed(voice: Voice, text: str, options: DialogueOptions) -> SpokenTake:
    """Speak a text by a voice without plans, in the voice's own time from second 0."""
    utterances = split_into_utterances(text, voice.language, options.dictionary)
    wave = np.concatenate([voice.speak_utterance(utterance, options.seed) for utterance in utterances], 1)
    return SpokenTake(Sound(wave, voice.rate_hz), Fraction(0), (), "text", False, "", {"parts": []})


def speak_untimed_in_slot(voice: Voice, text: str, slot: TimeSlot, options: DialogueOptions) -> SpokenTake:
    """Speak a text by a voice without plans and stretch its sound into a slot, as far as FitLimits allow."""
    wave = speak_untimed(voice, text, options).sound.samples[0]
    limits, length_s = FitLimits(), float(slot.length_s)
    factor = float(np.clip(length_s / (len(wave) / voice.rate_hz), 1 / limits.stretch_most, limits.stretch_most))
    stretched = stretch_wave(wave, voice.rate_hz, factor)
    over_s = len(stretched) / voice.rate_hz - length_s
    why = ""
    if abs(over_s) >= UNTIMED_TOLERANCE_S:
        why = f"lasts {abs(over_s):.2f} s {'longer' if over_s > 0 else 'shorter'} than its slot after stretching"
    sound, facts = Sound(stretched[None], voice.rate_hz), {"parts": [{"stretch": round(factor, 4)}]}
    return SpokenTake(sound, Fraction(slot.start_s), (), "slot", bool(why), why, facts)


def synthesize_line(
    voice: Voice,
    plans: Sequence[SpeechPlan],
    slot: TimeSlot,
    guide: GuideTrack | None = None,
    limits: FitLimits | None = None,
) -> SpokenTake:
    """Synthesize a line for its slot by a voice with plans; it is never cut, nor refused for its length.

    Its times come from the first of these that can be trusted: the actor's own line, his lips, the slot.
    plans: of the line's parts at their natural pace.  limits: of the fit to the slot, None for the defaults.
    """
    guide = guide or GuideTrack()
    facts: dict[str, Any] = {}
    if len(plans) == 1 and guide.recording is not None and parse_prosody_amount(guide.prosody.prosody) > 0:
        take = _follow_recording(voice, plans[0], slot, guide, facts)
        if take is not None:
            return take
    if len(plans) == 1 and guide.lips is not None:
        take = _follow_lips(voice, plans[0], slot, guide.lips, facts, limits)
        if take is not None:
            return take
    return _fit_parts(voice, plans, slot, facts, limits)


def _follow_recording(
    voice: Voice, plan: SpeechPlan, slot: TimeSlot, guide: GuideTrack, facts: dict[str, Any]
) -> SpokenTake | None:
    """Speak with the prosody of the recording; None, with the reason in facts, where it cannot be transferred."""
    made = transfer_prosody(voice, plan, guide.recording, guide.prosody, guide.recorded_language, guide.whisper)
    facts["prosody"] = made.facts | {"note": made.note}
    if made.facts.get("method") == "none":
        return None
    if made.facts["method"] != "same language":
        return _fit_with_prosody(voice, replace(made, plan=shorten_borrowed_pauses(plan, made.plan, slot)), slot, facts)
    wave = speak_with_prosody(voice, made)
    start = round_half_up((guide.recording_s + made.start_s) * VOICE_RATE_HZ)
    aimed_s = [round(start / VOICE_RATE_HZ + at, 4) for at in (find_onset(made.plan), find_offset(made.plan))]
    if start < 0:
        wave, start = wave[:, -start:], 0
    start_s = Fraction(start, VOICE_RATE_HZ)
    over = float(start_s) + wave.shape[1] / VOICE_RATE_HZ - float(slot.end_s + slot.gap_after_s)
    if over > float(MAX_SLOT_OVERRUN_S) + plan.durations[-1] * float(UNIT_S):
        facts["prosody"]["note"] = f"the actor's line lasts {over:.2f} s beyond its slot: fitted to the slot instead"
        return _fit_with_prosody(voice, replace(made, plan=shorten_borrowed_pauses(plan, made.plan, slot)), slot, facts)
    measured = {"parts": [_measure_edges(wave, start_s, slot)], "aimed_s": aimed_s}
    sound, placed = Sound(wave, VOICE_RATE_HZ), ((made.plan, start_s),)
    return SpokenTake(sound, start_s, placed, "source", bool(made.note), made.note, facts | measured)


def _measure_edges(wave: np.ndarray, start_s: Fraction, slot: TimeSlot) -> dict[str, Any]:
    """Measure how far the first and last sound of a line that was not fitted are from the edges of its slot."""
    edges = find_audible_edges(wave.reshape(-1), VOICE_RATE_HZ)
    if edges is None:
        return {"start_error_s": None, "end_error_s": None, "rungs": []}
    return {
        "start_error_s": round(float(start_s) + edges[0] - float(slot.start_s), 4),
        "end_error_s": round(float(start_s) + edges[1] - float(slot.end_s), 4),
        "rungs": [],
    }


def shorten_borrowed_pauses(plan: SpeechPlan, made: SpeechPlan, slot: TimeSlot) -> SpeechPlan:
    """Shorten the pauses that a plan took over from an actor, as far as its slot is too short for them.

    plan: at its natural pace.  made: the same phones with the actor's pauses.
    """
    over = int(np.ceil((compute_spoken_duration(made) - float(slot.length_s)) / float(UNIT_S)))
    borrowed = [
        max(0, b - a) if phone in MARKS else 0 for phone, a, b in zip(plan.phones, plan.durations, made.durations)
    ]
    borrowed[0] = borrowed[-1] = 0  # silence at the ends is not heard
    if over <= 0 or not sum(borrowed):
        return made
    share, returned, durations = min(1.0, over / sum(borrowed)), 0, list(made.durations)
    for k, units in enumerate(borrowed):
        cut = min(units, round(share * sum(borrowed[: k + 1])) - returned)
        durations[k], returned = durations[k] - cut, returned + cut
    return made.retime(durations)


def _fit_with_prosody(voice: Voice, made: ProsodyTarget, slot: TimeSlot, facts: dict[str, Any]) -> SpokenTake:
    """Speak with transferred melody and pauses, at the times of the slot."""
    return _join_parts([speak_into_slot(voice.speak, made.plan, slot)], "slot", facts)


def _follow_lips(
    voice: Voice,
    plan: SpeechPlan,
    slot: TimeSlot,
    lips: LipReading,
    facts: dict[str, Any],
    limits: FitLimits | None,
) -> SpokenTake | None:
    """Speak at the times that the lips show; None, with the reason in facts, where they cannot be trusted."""
    from mouthpiece.voice.timing.lip_timing import retime_to_lips

    timed = retime_to_lips(plan, lips, slot)
    facts["mouth"] = timed.facts
    if timed.plan is None:
        return None
    lip_slot = TimeSlot(timed.start_s, timed.end_s, on_screen=True)
    fitted = fit_to_slot(timed.plan, lip_slot, limits)
    wave = np.asarray(voice.speak(fitted.plan), np.float32).reshape(-1)
    if fitted.stretch != 1.0:
        wave = stretch_wave(wave, VOICE_RATE_HZ, fitted.stretch)
    fitted = correct_placement(fitted, wave)
    tempo = compute_spoken_duration(plan) / max(compute_spoken_duration(fitted.plan), 1e-3)
    facts["mouth"] |= {"tempo": round(tempo, 3)}
    aimed_s = [round(float(at), 4) for at in (lip_slot.start_s, lip_slot.end_s)]
    return _join_parts([(fitted, render_into_slot(fitted, wave))], "mouth", facts | {"aimed_s": aimed_s})


def _fit_parts(
    voice: Voice, plans: Sequence[SpeechPlan], slot: TimeSlot, facts: dict[str, Any], limits: FitLimits | None
) -> SpokenTake:
    """Fit every part into its share of the slot, by natural length."""
    lengths = [max(compute_spoken_duration(plan), 0.05) for plan in plans]
    total, start, fitted = sum(lengths), Fraction(slot.start_s), []
    for k, (plan, length) in enumerate(zip(plans, lengths)):
        last = k == len(plans) - 1
        share = Fraction(round(length * 1000), round(total * 1000))
        end = Fraction(slot.end_s) if last else start + Fraction(slot.length_s) * share
        part = replace(
            slot,
            start_s=start,
            end_s=end,
            gap_before_s=slot.gap_before_s if k == 0 else 0.0,
            gap_after_s=slot.gap_after_s if last else 0.0,
        )
        fitted.append(speak_into_slot(voice.speak, plan, part, limits))
        start = end
    return _join_parts(fitted, "slot", facts)


def _join_parts(parts: list[tuple[FittedLine, np.ndarray]], timed_by: str, facts: dict[str, Any]) -> SpokenTake:
    """Join fitted parts and their sounds into a take; where one outlasts its share the next sounds beside it."""
    first = min(fitted.start_s for fitted, _ in parts)
    starts = [round_half_up((fitted.start_s - first) * VOICE_RATE_HZ) for fitted, _ in parts]
    whole = np.zeros((1, max(start + wave.shape[-1] for start, (_, wave) in zip(starts, parts))), np.float32)
    for start, (_, wave) in zip(starts, parts):
        whole[0, start : start + wave.shape[-1]] += wave.reshape(-1)
    whys = "; ".join(dict.fromkeys(fitted.why for fitted, _ in parts if fitted.why))
    plans = tuple((fitted.plan, fitted.start_s + fitted.lead_s) for fitted, _ in parts)
    return SpokenTake(
        Sound(np.clip(whole, -1, 1), VOICE_RATE_HZ),
        first,
        plans,
        timed_by,
        bool(whys),
        whys,
        facts | {"parts": [fitted.as_dict() for fitted, _ in parts]},
    )


def review_intelligibility(take: SpokenTake, text: str, transcriber: Transcriber, language: str) -> SpokenTake:
    """Check by speech recognition that a take is intelligible; words that are lost are a reason to listen."""
    from mouthpiece.voice.asr.transcription import check_intelligibility

    hearing = check_intelligibility(transcriber, take.sound, text, language)
    why = "" if hearing.ok else f"not heard: {' '.join(hearing.lost_words)} ({transcriber.name})"
    return take.add_review(why, hearing=hearing.as_dict() | {"recogniser": transcriber.name})
