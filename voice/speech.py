"""One line of dialogue spoken: planned, given the actor's prosody or the mouth's times, fitted to its slot, and heard back."""

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from engine.sound import Sound
from engine.timeline import nearest
from voice.actor import ProsodyOptions, amount_of, follow
from voice.fit import Fitted, Limits, Slot, corrected, delivered, fit, heard_s, speak_fitted
from voice.pauses import offset_s, onset_s
from voice.phones import utterances
from voice.plan import MARKS, RATE_HZ, UNIT_S
from voice.prosody import speak_as
from voice.stretch import stretched_wave
from voice.takes import take

EDGE_S = Fraction(1, 20)               # the actor's onset and offset may lie so far outside a slot that follows his line


@dataclass(frozen=True)
class Guide:
    """What tells a line its times beside the slot.

    recording: (S,) float32 at 16 kHz of the actor's line, or None.  recording_s: when it begins, seconds of the programme.
    said: language of the recording where it is another one's words; None where the actor says this very line.
    prosody: actor.ProsodyOptions.  whisper: model that aligns other languages than English, or None.
    lips: voice.mouth.Lips of the speaker, or None.
    Source: ours.
    """

    recording: np.ndarray | None = field(default=None, repr=False)
    recording_s: float = 0.0
    said: str | None = None
    prosody: ProsodyOptions = ProsodyOptions()
    whisper: object = field(default=None, repr=False)
    lips: object = field(default=None, repr=False)


@dataclass(frozen=True)
class Spoken:
    """A line as it was spoken.

    sound: Sound at 24 kHz, one channel.  start_s: Fraction, second of the programme where it begins.
    plans: the Plans of its parts, each with the second where its time zero lies.
    timed_by: "slot", "source", "mouth" or "text".
    needs_review, why: whether and why a person should listen.
    facts: JSON-ready: fit of every part, prosody, mouth, notes, what was heard.
    Source: ours.
    """

    sound: Sound
    start_s: Fraction
    plans: tuple
    timed_by: str
    needs_review: bool
    why: str
    facts: dict = field(repr=False)

    def reviewed(self, why, **facts):
        """The same with more facts, and a reason for a person to listen unless it is empty. Source: ours."""
        whys = "; ".join(filter(None, (self.why, why)))
        return replace(self, needs_review=bool(whys), why=whys, facts=self.facts | facts)


def planned(voice, text, speed=1.0, dictionary=None, index=0, seed=0):
    """(natural Plans of a text's parts, Utterances): take `index` of them. Raises what utterances and the voice raise. Source: ours."""
    parts = utterances(text, voice.language, dictionary)
    return [take(voice.natural(part, speed), index, seed) for part in parts], parts


def speak_free(voice, plans):
    """Spoken of Plans one after another in the voice's own time, from second 0; a pause as the plans have it at their ends. Source: ours."""
    waves, at, placed = [], Fraction(0), []
    for plan in plans:
        waves.append(voice.speak(plan))
        placed.append((plan, at))
        at += plan.duration
    return Spoken(Sound(np.concatenate(waves, 1), RATE_HZ), Fraction(0), tuple(placed), "text", False, "", dict(parts=[]))


def speak_line(voice, plans, slot, guide=None, limits=None):
    """A line in its slot as Spoken; never cut, never refused for its length.

    voice: timed voice.  plans: natural Plans of its parts, of `planned`.  slot: Slot.  guide: Guide, or None.
    What tells the time, in this order: the actor's own line, lips that can be read, the slot.
    limits: Limits, the defaults when None.
    Source: ours.
    """
    guide, facts = guide or Guide(), {}
    if len(plans) == 1 and guide.recording is not None and amount_of(guide.prosody.prosody) > 0:
        spoken = _as_the_actor(voice, plans[0], slot, guide, facts)
        if spoken is not None:
            return spoken
    if len(plans) == 1 and guide.lips is not None:
        spoken = _as_the_mouth(voice, plans[0], slot, guide, facts, limits)
        if spoken is not None:
            return spoken
    return _in_the_slot(voice, plans, slot, facts, limits)


def _as_the_actor(voice, plan, slot, guide, facts):
    """Spoken with the prosody of the recording, or None with the reason in facts."""
    made = follow(voice, plan, guide.recording, guide.prosody, guide.said, guide.whisper)
    facts["prosody"] = made.facts | dict(note=made.note)
    if made.facts.get("method") == "none":
        return None
    if made.facts["method"] != "same language":
        return _fitted_as(voice, replace(made, plan=within(plan, made.plan, slot)), slot, facts)
    wave = speak_as(voice, made)
    start = nearest((guide.recording_s + made.start_s) * RATE_HZ)
    aimed_s = [round(start / RATE_HZ + at, 4) for at in (onset_s(made.plan), offset_s(made.plan))]
    if start < 0:
        wave, start = wave[:, -start:], 0
    why = made.note
    start_s = Fraction(start, RATE_HZ)
    over = float(start_s) + wave.shape[1] / RATE_HZ - float(slot.end_s + slot.gap_after_s)
    if over > float(EDGE_S) + plan.durations[-1] * float(UNIT_S):
        facts["prosody"]["note"] = f"the actor's line lasts {over:.2f} s beyond its slot: fitted to the slot instead"
        return _fitted_as(voice, replace(made, plan=within(plan, made.plan, slot)), slot, facts)
    return Spoken(Sound(wave, RATE_HZ), start_s, ((made.plan, start_s),), "source", bool(why), why, facts | dict(parts=[_edges(wave, start_s, slot)], aimed_s=aimed_s))


def _edges(wave, start_s, slot):
    """Facts of a line that was not fitted: how far its first and last sound are from the slot's edges."""
    from voice.pauses import heard_edges

    heard = heard_edges(wave.reshape(-1), RATE_HZ)
    if heard is None:
        return dict(start_error_s=None, end_error_s=None, rungs=[])
    return dict(start_error_s=round(float(start_s) + heard[0] - float(slot.start_s), 4), end_error_s=round(float(start_s) + heard[1] - float(slot.end_s), 4),
                rungs=[])


def within(plan, made, slot):
    """The plan `made` with what it lent from an actor's pauses given back, as far as the slot is too short for it.

    plan: natural Plan.  made: Plan of the same phones.  slot: Slot.
    Source: ours; a line keeps to its slot before it keeps another line's pauses.
    """
    over = int(np.ceil((heard_s(made) - float(slot.length_s)) / float(UNIT_S)))
    lent = [max(0, b - a) if phone in MARKS else 0 for phone, a, b in zip(plan.phones, plan.durations, made.durations)]
    lent[0] = lent[-1] = 0                                       # nothing is heard there
    if over <= 0 or not sum(lent):
        return made
    share, back, durations = min(1.0, over / sum(lent)), 0, list(made.durations)
    for k, units in enumerate(lent):
        given = min(units, round(share * sum(lent[: k + 1])) - back)
        durations[k], back = durations[k] - given, back + given
    return made.retimed(durations)


def _fitted_as(voice, made, slot, facts):
    """Spoken of a Transplanted whose melody and pauses count while the slot tells the times."""
    return _from_fitted([speak_fitted(voice.speak, made.plan, slot)], "slot", facts)


def _as_the_mouth(voice, plan, slot, guide, facts, limits):
    """Spoken at the times that the lips show, or None with the reason in facts."""
    from voice.mouth import retimed_by

    timed = retimed_by(plan, guide.lips, slot)
    facts["mouth"] = timed.facts
    if timed.plan is None:
        return None
    own = Slot(timed.start_s, timed.end_s, on_screen=True)
    fitted = fit(timed.plan, own, limits)
    wave = np.asarray(voice.speak(fitted.plan), np.float32).reshape(-1)
    if fitted.stretch != 1.0:
        wave = stretched_wave(wave, RATE_HZ, fitted.stretch)
    fitted = corrected(fitted, wave)
    tempo = heard_s(plan) / max(heard_s(fitted.plan), 1e-3)
    facts["mouth"] |= dict(tempo=round(tempo, 3))
    return _from_fitted([(fitted, delivered(fitted, wave))], "mouth", facts | dict(aimed_s=[round(float(at), 4) for at in (own.start_s, own.end_s)]))


def _in_the_slot(voice, plans, slot, facts, limits):
    """Spoken with every part in its share of the slot, by natural length."""
    lengths = [max(heard_s(plan), 0.05) for plan in plans]
    total, at, done = sum(lengths), Fraction(slot.start_s), []
    for k, (plan, length) in enumerate(zip(plans, lengths)):
        last = k == len(plans) - 1
        end = Fraction(slot.end_s) if last else at + Fraction(slot.length_s) * Fraction(round(length * 1000), round(total * 1000))
        part = Slot(at, end, slot.gap_before_s if k == 0 else 0.0, slot.gap_after_s if last else 0.0, slot.same_before, slot.same_after,
                    slot.cuts_s, slot.on_screen)  # fmt: skip
        done.append(speak_fitted(voice.speak, plan, part, limits))
        at = end
    return _from_fitted(done, "slot", facts)


def _from_fitted(parts: list[tuple[Fitted, np.ndarray]], timed_by, facts):
    """Spoken of fitted parts and their sounds; where one outlasts its share the next is heard beside it."""
    first = min(fitted.start_s for fitted, _ in parts)
    starts = [nearest((fitted.start_s - first) * RATE_HZ) for fitted, _ in parts]
    whole = np.zeros((1, max(start + wave.shape[-1] for start, (_, wave) in zip(starts, parts))), np.float32)
    for start, (_, wave) in zip(starts, parts):
        whole[0, start : start + wave.shape[-1]] += wave.reshape(-1)
    whys = "; ".join(dict.fromkeys(fitted.why for fitted, _ in parts if fitted.why))
    plans = tuple((fitted.plan, fitted.start_s + fitted.lead_s) for fitted, _ in parts)
    return Spoken(Sound(np.clip(whole, -1, 1), RATE_HZ), first, plans, timed_by, bool(whys), whys, facts | dict(parts=[f.as_dict() for f, _ in parts]))


def heard(spoken, text, recogniser, language):
    """The Spoken with what was heard in it; lost words are a reason to listen. Source: ours."""
    from voice.listen import heard_back

    hearing = heard_back(recogniser, spoken.sound, text, language)
    why = "" if hearing.ok else f"not heard: {' '.join(hearing.lost_words)} ({recogniser.name})"
    return spoken.reviewed(why, hearing=hearing.as_dict() | dict(recogniser=recogniser.name))


__all__ = ["Guide", "Limits", "Slot", "Spoken", "heard", "planned", "speak_free", "speak_line"]
