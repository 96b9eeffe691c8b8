"""One line of dialogue spoken: planned, given the actor's prosody or the mouth's times, fitted to its slot, and heard
back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.timeline import round_half_up
from mouthpiece.voice.plan.pauses import find_offset, find_onset
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
    from typing import Any

    from mouthpiece.voice.asr.transcription import Transcriber
    from mouthpiece.voice.backends.backend import Voice
    from mouthpiece.voice.plan.speech_plan import SpeechPlan

# the actor's onset and offset may lie so far outside a slot that follows his line
MAX_SLOT_OVERRUN_S = Fraction(1, 20)


@dataclass(frozen=True)
class GuideTrack:
    """What tells a line its times beside the slot.

    recording: (S,) float32 at 16 kHz of the actor's line, or None.  recording_s: when it begins, seconds of the
    programme.
    said: language of the recording where it is another one's words; None where the actor says this very line.
    prosody: actor.ProsodyOptions.  whisper: model that aligns other languages than English, or None.
    lips: mouthpiece.voice.timing.lip_timing.LipReading of the speaker, or None.
    """

    recording: np.ndarray | None = field(default=None, repr=False)
    recording_s: float = 0.0
    said: str | None = None
    prosody: ProsodyOptions = ProsodyOptions()
    whisper: object = field(default=None, repr=False)
    lips: object = field(default=None, repr=False)


@dataclass(frozen=True)
class SpokenTake:
    """A line as it was spoken.

    sound: Sound at 24 kHz, one channel.  start_s: Fraction, second of the programme where it begins.
    plans: the Plans of its parts, each with the second where its time zero lies.
    timed_by: "slot", "source", "mouth" or "text".
    needs_review, why: whether and why a person should listen.
    facts: JSON-ready: fit of every part, prosody, mouth, notes, what was heard.
    """

    sound: Sound
    start_s: Fraction
    plans: tuple
    timed_by: str
    needs_review: bool
    why: str
    facts: dict = field(repr=False)

    def add_review(self, why: str, **facts) -> SpokenTake:
        """The same with more facts, and a reason for a person to listen unless it is empty."""
        whys = "; ".join(filter(None, (self.why, why)))
        return replace(self, needs_review=bool(whys), why=whys, facts=self.facts | facts)


def plan_text(
    voice: Voice, text: str, speed: float = 1.0, dictionary=None, index: int = 0, seed: int = 0
) -> tuple | None:
    """(natural Plans of a text's parts, Utterances): take `index` of them. Raises what utterances and the voice raise."""
    parts = split_into_utterances(text, voice.language, dictionary)
    return [vary_plan(voice.predict_plan(part, speed), index, seed) for part in parts], parts


def speak_at_natural_pace(voice: Voice, plans: list[SpeechPlan]) -> SpokenTake:
    """Spoken of Plans one after another in the voice's own time, from second 0; a pause as the plans have it at their
    ends.
    """
    waves, at, placed = [], Fraction(0), []
    for plan in plans:
        waves.append(voice.speak(plan))
        placed.append((plan, at))
        at += plan.duration
    return SpokenTake(
        Sound(np.concatenate(waves, 1), VOICE_RATE_HZ), Fraction(0), tuple(placed), "text", False, "", dict(parts=[])
    )


def synthesize_line(
    voice: Voice, plans: list[SpeechPlan], slot: TimeSlot, guide: GuideTrack | None = None, limits=None
) -> SpokenTake:
    """A line in its slot as Spoken; never cut, never refused for its length.

    voice: timed voice.  plans: natural Plans of its parts, of `planned`.  slot: Slot.  guide: Guide, or None.
    What tells the time, in this order: the actor's own line, lips that can be read, the slot.
    limits: Limits, the defaults when None.
    """
    guide, facts = guide or GuideTrack(), {}
    if len(plans) == 1 and guide.recording is not None and parse_prosody_amount(guide.prosody.prosody) > 0:
        spoken = _follow_recording(voice, plans[0], slot, guide, facts)
        if spoken is not None:
            return spoken
    if len(plans) == 1 and guide.lips is not None:
        spoken = _follow_lips(voice, plans[0], slot, guide, facts, limits)
        if spoken is not None:
            return spoken
    return _fit_parts(voice, plans, slot, facts, limits)


def _follow_recording(voice: Voice, plan: SpeechPlan, slot: TimeSlot, guide: GuideTrack, facts: dict) -> None:
    """Spoken with the prosody of the recording, or None with the reason in facts."""
    made = transfer_prosody(voice, plan, guide.recording, guide.prosody, guide.said, guide.whisper)
    facts["prosody"] = made.facts | dict(note=made.note)
    if made.facts.get("method") == "none":
        return None
    if made.facts["method"] != "same language":
        return _fit_with_prosody(voice, replace(made, plan=shorten_borrowed_pauses(plan, made.plan, slot)), slot, facts)
    wave = speak_with_prosody(voice, made)
    start = round_half_up((guide.recording_s + made.start_s) * VOICE_RATE_HZ)
    aimed_s = [round(start / VOICE_RATE_HZ + at, 4) for at in (find_onset(made.plan), find_offset(made.plan))]
    if start < 0:
        wave, start = wave[:, -start:], 0
    why = made.note
    start_s = Fraction(start, VOICE_RATE_HZ)
    over = float(start_s) + wave.shape[1] / VOICE_RATE_HZ - float(slot.end_s + slot.gap_after_s)
    if over > float(MAX_SLOT_OVERRUN_S) + plan.durations[-1] * float(UNIT_S):
        facts["prosody"]["note"] = f"the actor's line lasts {over:.2f} s beyond its slot: fitted to the slot instead"
        return _fit_with_prosody(voice, replace(made, plan=shorten_borrowed_pauses(plan, made.plan, slot)), slot, facts)
    return SpokenTake(
        Sound(wave, VOICE_RATE_HZ),
        start_s,
        ((made.plan, start_s),),
        "source",
        bool(why),
        why,
        facts | dict(parts=[_measure_edges(wave, start_s, slot)], aimed_s=aimed_s),
    )


def _measure_edges(wave, start_s, slot):
    """Facts of a line that was not fitted: how far its first and last sound are from the slot's edges."""
    from mouthpiece.voice.plan.pauses import find_audible_edges

    heard = find_audible_edges(wave.reshape(-1), VOICE_RATE_HZ)
    if heard is None:
        return dict(start_error_s=None, end_error_s=None, rungs=[])
    return dict(
        start_error_s=round(float(start_s) + heard[0] - float(slot.start_s), 4),
        end_error_s=round(float(start_s) + heard[1] - float(slot.end_s), 4),
        rungs=[],
    )


def shorten_borrowed_pauses(plan, made, slot):
    """The plan `made` with what it lent from an actor's pauses given back, as far as the slot is too short for it.

    plan: natural Plan.  made: Plan of the same phones.  slot: Slot.
    Source: ours; a line keeps to its slot before it keeps another line's pauses.
    """
    over = int(np.ceil((compute_spoken_duration(made) - float(slot.length_s)) / float(UNIT_S)))
    lent = [max(0, b - a) if phone in MARKS else 0 for phone, a, b in zip(plan.phones, plan.durations, made.durations)]
    lent[0] = lent[-1] = 0  # nothing is heard there
    if over <= 0 or not sum(lent):
        return made
    share, back, durations = min(1.0, over / sum(lent)), 0, list(made.durations)
    for k, units in enumerate(lent):
        given = min(units, round(share * sum(lent[: k + 1])) - back)
        durations[k], back = durations[k] - given, back + given
    return made.retime(durations)


def _fit_with_prosody(voice, made, slot, facts):
    """Spoken of a Transplanted whose melody and pauses count while the slot tells the times."""
    return _join_parts([speak_into_slot(voice.speak, made.plan, slot)], "slot", facts)


def _follow_lips(voice, plan, slot, guide, facts, limits):
    """Spoken at the times that the lips show, or None with the reason in facts."""
    from mouthpiece.voice.timing.lip_timing import retime_to_lips

    timed = retime_to_lips(plan, guide.lips, slot)
    facts["mouth"] = timed.facts
    if timed.plan is None:
        return None
    own = TimeSlot(timed.start_s, timed.end_s, on_screen=True)
    fitted = fit_to_slot(timed.plan, own, limits)
    wave = np.asarray(voice.speak(fitted.plan), np.float32).reshape(-1)
    if fitted.stretch != 1.0:
        wave = stretch_wave(wave, VOICE_RATE_HZ, fitted.stretch)
    fitted = correct_placement(fitted, wave)
    tempo = compute_spoken_duration(plan) / max(compute_spoken_duration(fitted.plan), 1e-3)
    facts["mouth"] |= dict(tempo=round(tempo, 3))
    return _join_parts(
        [(fitted, render_into_slot(fitted, wave))],
        "mouth",
        facts | dict(aimed_s=[round(float(at), 4) for at in (own.start_s, own.end_s)]),
    )


def _fit_parts(voice: Voice, plans: list[SpeechPlan], slot: TimeSlot, facts: dict[str, Any], limits) -> SpokenTake:
    """Spoken with every part in its share of the slot, by natural length."""
    lengths = [max(compute_spoken_duration(plan), 0.05) for plan in plans]
    total, at, done = sum(lengths), Fraction(slot.start_s), []
    for k, (plan, length) in enumerate(zip(plans, lengths)):
        last = k == len(plans) - 1
        end = (
            Fraction(slot.end_s)
            if last
            else at + Fraction(slot.length_s) * Fraction(round(length * 1000), round(total * 1000))
        )
        part = TimeSlot(at, end, slot.gap_before_s if k == 0 else 0.0, slot.gap_after_s if last else 0.0, slot.same_speaker_before, slot.same_speaker_after,
                    slot.shot_cuts_s, slot.on_screen)  # fmt: skip
        done.append(speak_into_slot(voice.speak, plan, part, limits))
        at = end
    return _join_parts(done, "slot", facts)


def _join_parts(parts: list[tuple[FittedLine, np.ndarray]], timed_by: str, facts: dict[str, Any]) -> SpokenTake:
    """Spoken of fitted parts and their sounds; where one outlasts its share the next is heard beside it."""
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
        facts | dict(parts=[f.as_dict() for f, _ in parts]),
    )


def review_intelligibility(spoken: SpokenTake, text: str, recogniser: Transcriber, language: str) -> SpokenTake:
    """The Spoken with what was heard in it; lost words are a reason to listen."""
    from mouthpiece.voice.asr.transcription import check_intelligibility

    hearing = check_intelligibility(recogniser, spoken.sound, text, language)
    why = "" if hearing.ok else f"not heard: {' '.join(hearing.lost_words)} ({recogniser.name})"
    return spoken.add_review(why, hearing=hearing.as_dict() | dict(recogniser=recogniser.name))


__all__ = [
    "GuideTrack",
    "FitLimits",
    "TimeSlot",
    "SpokenTake",
    "review_intelligibility",
    "plan_text",
    "speak_at_natural_pace",
    "synthesize_line",
]
