"""Speak a text without a film: in the voice's own time, in a slot, or for a face that is to be animated."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mouthpiece.engine.contracts import Articulation
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.timeline import DELIVERY_HZ, round_half_up
from mouthpiece.voice.backends.casting import ANY_SPEAKER, check_voice_language, parse_casting
from mouthpiece.voice.backends.registry import get_default_voice, load_voice, normalize_language
from mouthpiece.voice.delivery import place_sound
from mouthpiece.voice.line_synthesis import (
    SpokenTake,
    TimeSlot,
    plan_text,
    review_intelligibility,
    speak_at_natural_pace,
    speak_untimed,
    speak_untimed_in_slot,
    synthesize_line,
)
from mouthpiece.voice.options import SpeakOptions
from mouthpiece.voice.text.phones import split_into_utterances

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.engine.audio.sound import Sound
    from mouthpiece.voice.backends.backend import Voice
    from mouthpiece.voice.mix.mixdown import PlacedSound


@dataclass(frozen=True, eq=False)
class SpokenText:
    """Hold a text as it was spoken.

    text: as given.  take: the speech.  language: of the voice.  samples: length at 48 kHz, of the slot if it is longer.
    """

    text: str
    take: SpokenTake
    language: str
    samples: int

    def to_placed_sound(self, watermark: bool = False) -> PlacedSound:
        """Place the speech in the programme at 48 kHz; watermark: embed one, where its package is installed."""
        return place_sound(self.take.sound, self.take.start_s, watermark)

    def facts(self) -> dict[str, Any]:
        """Describe the speech, JSON-ready."""
        take = self.take
        return {
            "text": self.text,
            "language": self.language,
            "duration_s": self.samples / DELIVERY_HZ,
            "timed_by": take.timed_by,
            "needs_review": ["text"] * take.needs_review,
            "why": take.why,
            "plans": take.plan_records,
        } | take.facts


class FaceSpeech(NamedTuple):
    """Hold speech for a face that is to be animated.

    sound: one channel at the voice's rate.  articulation: of its plans, from the start of the sound.
    facts: JSON-ready, of the spoken text.
    """

    sound: Sound
    articulation: Articulation
    facts: dict[str, Any]


def load_text_voice(options: SpeakOptions) -> Voice:
    """Load the voice of a text: the one for every speaker, else the default of the language.

    Raises UsageError for a voice that needs speakers or does not speak the language.
    """
    casting = parse_casting(options.voice)
    spec = casting.get(ANY_SPEAKER)
    if spec == "match" or (casting and spec is None):
        message = f"--voice {options.voice}: a text has no speakers and no actor."
        raise UsageError(message, hint="Give one voice or mix.", code="bad_voice")
    language = None if options.language is None else normalize_language(options.language)
    if spec and language:
        check_voice_language(spec, language)
    return load_voice(spec or get_default_voice(language))


def preview_text(text: str, options: SpeakOptions) -> dict[str, Any]:
    """Describe what a text would become: voice, phones, notes, JSON-ready; refuse what speaking it would refuse."""
    voice = load_text_voice(options)
    utterances = split_into_utterances(text, voice.language, options.dictionary)
    return {
        "voice": voice.name,
        "language": voice.language,
        "phones": ["".join(utterance.phones) for utterance in utterances],
        "notes": [note for utterance in utterances for note in utterance.notes],
    }


def speak_text(
    text: str, options: SpeakOptions, index: int = 0, advance: Callable[[int], object] | None = None
) -> SpokenText:
    """Speak take `index` of a text, in the slot of the options where they have one.

    advance: called with 1 when it is done.
    Raises what voices and texts raise.
    """
    voice = load_text_voice(options)
    slot = None if options.slot is None else TimeSlot(Fraction(0), Fraction(str(options.slot)))
    if voice.timed:
        plans, utterances = plan_text(voice, text, options.speed, options.dictionary, index, options.seed)
        take = speak_at_natural_pace(voice, plans) if slot is None else synthesize_line(voice, plans, slot)
        omitted = [word for utterance in utterances for word in utterance.omitted_words]
        notes = [note for utterance in utterances for note in utterance.notes]
        take = take.add_review(f"not said: {' '.join(omitted)}" if omitted else "", notes=notes)
    elif slot is None:
        take = speak_untimed(voice, text, options)
    else:
        take = speak_untimed_in_slot(voice, text, slot, options)
    take = take.add_review("", voice=voice.name)
    if options.recognizer != "off":
        from mouthpiece.voice.asr.transcription import open_transcriber

        take = review_intelligibility(take, text, open_transcriber(options.recognizer, voice.language), voice.language)
    end = take.start_s + take.sound.duration
    samples = round_half_up((max(end, slot.end_s) if slot else end) * DELIVERY_HZ)
    if advance:
        advance(1)
    return SpokenText(text, take, voice.language, samples)


def synthesize_for_face(text: str, spec: str | None, seed: int) -> FaceSpeech:
    """Speak a text for a face whose mouth follows the plan of the speech, so that nothing has to be recognized.

    spec: voice or mix, None for the default.
    Raises what voices and texts raise; UsageError for a voice without plans.
    """
    from mouthpiece.voice.plan.articulation import articulate_plan

    options = SpeakOptions(voice=spec, seed=seed, recognizer="off")
    if not load_text_voice(options).timed:
        message = f"--voice {spec}: this voice has no plan that could move a mouth."
        raise UsageError(message, hint="Speak to a file first and animate that.", code="bad_voice")
    spoken = speak_text(text, options)
    plans = spoken.take.plans
    parts = [
        articulate_plan(plan, float(at), int(np.ceil(float(at + plan.duration) * 50))).values for plan, at in plans
    ]
    whole = parts[-1].copy()
    for part, (_, at) in zip(parts, plans):
        start = int(float(at) * 50)
        whole[start : len(part)] = part[start:]
    return FaceSpeech(spoken.take.sound, Articulation(whole), spoken.facts())
