"""A text spoken without a film: in the voice's own time, or in a slot."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.writing import read_delivery_blocks
from mouthpiece.engine.timeline import DELIVERY_HZ, round_half_up
from mouthpiece.voice.backends.casting import ANY_SPEAKER, check_voice_language, parse_casting
from mouthpiece.voice.backends.registry import get_default_voice, load_voice, normalize_language
from mouthpiece.voice.line_synthesis import (
    SpokenTake,
    TimeSlot,
    plan_text,
    review_intelligibility,
    speak_at_natural_pace,
    synthesize_line,
)
from mouthpiece.voice.mix.mixdown import PlacedSound

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.voice.backends.backend import Voice
    from mouthpiece.voice.options import SpeakOptions


@dataclass(frozen=True, eq=False)
class SpokenText:
    """A text as it was spoken. text: as given.  spoken: Spoken.  language: of the voice.  samples: length at 48 kHz."""

    text: str
    spoken: SpokenTake
    language: str
    samples: int

    def to_placed_sound(self, watermark: bool = False) -> PlacedSound:
        """The line as mouthpiece.voice.mix.mixdown.PlacedSound at 48 kHz. watermark: whether it shall carry one."""
        from mouthpiece.voice.speech_lines import add_watermark

        sound = Sound(np.concatenate(list(read_delivery_blocks(self.spoken.sound)), 1), DELIVERY_HZ)
        return PlacedSound(
            add_watermark(sound) if watermark else sound, round_half_up(self.spoken.start_s * DELIVERY_HZ)
        )

    def facts(self) -> dict[str, Any]:
        """JSON-ready."""
        s = self.spoken
        return dict(text=self.text, language=self.language, duration_s=self.samples / DELIVERY_HZ, timed_by=s.timed_by, needs_review=["text"] * s.needs_review,
                    why=s.why, plans=[plan.as_dict() | dict(start_s=float(at)) for plan, at in s.plans]) | s.facts  # fmt: skip


def load_text_voice(options: SpeakOptions) -> Voice:
    """The voice of a text: the one for everybody, else the default of the language. Raises UsageProblem."""
    from mouthpiece.engine.errors import UsageError

    casting = parse_casting(options.voice)
    spec = casting.get(ANY_SPEAKER)
    if spec == "match" or (casting and spec is None):
        raise UsageError(
            f"--voice {options.voice}: a text has no speakers and no actor.",
            hint="Give one voice or mix.",
            code="bad_voice",
        )
    language = None if options.language is None else normalize_language(options.language)
    if spec and language:
        check_voice_language(spec, language)
    return load_voice(spec or get_default_voice(language))


def preview_text(text: str, options: SpeakOptions) -> dict[str, Any]:
    """What a text would become: voice, phones, JSON-ready. Raises what speaking it would refuse."""
    from mouthpiece.voice.text.phones import split_into_utterances

    voice = load_text_voice(options)
    parts = split_into_utterances(text, voice.language, options.dictionary)
    return dict(
        voice=voice.name,
        language=voice.language,
        phones=["".join(p.phones) for p in parts],
        notes=[n for p in parts for n in p.notes],
    )


def speak_text(text: str, options: SpeakOptions, index: int = 0, advance: Callable | None = None) -> SpokenText | None:
    """Take `index` of a text as Said.

    text: str.  options: SpeakOptions; its slot, when given, is the length wanted.
    advance: called with 1 when it is done.
    Raises what voices and texts raise.
    """
    from mouthpiece.voice.speech_lines import speak_untimed

    voice = load_text_voice(options)
    slot = None if options.slot is None else TimeSlot(Fraction(0), Fraction(str(options.slot)))
    if voice.timed:
        plans, parts = plan_text(voice, text, options.speed, options.dictionary, index, options.seed)
        spoken = speak_at_natural_pace(voice, plans) if slot is None else synthesize_line(voice, plans, slot)
        unsaid, notes = [w for p in parts for w in p.omitted_words], [n for p in parts for n in p.notes]
        spoken = spoken.add_review(f"not said: {' '.join(unsaid)}" if unsaid else "", notes=notes)
    else:
        spoken = speak_untimed(voice, text, slot, options) if slot else _speak_untimed(voice, text, options)
    spoken = spoken.add_review("", voice=voice.name)
    if options.recognizer != "off":
        from mouthpiece.voice.asr.transcription import open_transcriber

        spoken = review_intelligibility(
            spoken, text, open_transcriber(options.recognizer, voice.language), voice.language
        )
    end = spoken.start_s + spoken.sound.duration
    samples = round_half_up((max(end, slot.end_s) if slot else end) * DELIVERY_HZ)
    if advance:
        advance(1)
    return SpokenText(text, spoken, voice.language, samples)


def _speak_untimed(voice, text, options):
    from mouthpiece.voice.text.phones import split_into_utterances

    wave = np.concatenate(
        [
            voice.speak_utterance(part, options.seed)
            for part in split_into_utterances(text, voice.language, options.dictionary)
        ],
        1,
    )
    return SpokenTake(Sound(wave, voice.rate_hz), Fraction(0), (), "text", False, "", dict(parts=[]))


def synthesize_for_face(text, spec, seed):
    """(Sound, articulation (T, 43) at 50 Hz, facts) of a text for a face that shall speak it: its own plan drives the
    mouth.

    text: str.  spec: voice or mix, None for the default.  seed: int.
    Raises what voices and texts raise; UsageProblem for a voice that is not on our clock.
    """
    from mouthpiece.engine.errors import UsageError
    from mouthpiece.voice.options import SpeakOptions
    from mouthpiece.voice.plan.articulation import articulate_plan

    options = SpeakOptions(voice=spec, seed=seed, recognizer="off")
    if not load_text_voice(options).timed:
        raise UsageError(
            f"--voice {spec}: this voice has no plan that could move a mouth.",
            hint="Speak to a file first and animate that.",
            code="bad_voice",
        )
    said = speak_text(text, options)
    parts = [
        articulate_plan(plan, float(at), int(np.ceil(float(at + plan.duration) * 50))).values
        for plan, at in said.spoken.plans
    ]
    whole = parts[-1].copy()
    for part, (_, at) in zip(parts, said.spoken.plans):
        start = int(float(at) * 50)
        whole[start : len(part)] = part[start:]
    return said.spoken.sound, whole, said.facts()
