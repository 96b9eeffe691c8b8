"""A text spoken without a film: in the voice's own time, or in a slot."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from engine.media import DELIVERY_HZ, delivery_blocks
from engine.sound import Sound
from engine.timeline import nearest
from voice.casting import EVERYBODY, check_language, parse_casting
from voice.mix import Placed
from voice.speech import Slot, Spoken, heard, planned, speak_free, speak_line
from voice.voices import default_voice, language_code, load_voice


@dataclass(frozen=True, eq=False)
class Said:
    """A text as it was spoken. text: as given.  spoken: Spoken.  language: of the voice.  samples: length at 48 kHz. Source: ours."""

    text: str
    spoken: Spoken
    language: str
    samples: int

    def line_placed(self, watermark=False):
        """The line as voice.mix.Placed at 48 kHz. watermark: whether it shall carry one. Source: ours."""
        from voice.pipeline import marked

        sound = Sound(np.concatenate(list(delivery_blocks(self.spoken.sound)), 1), DELIVERY_HZ)
        return Placed(marked(sound) if watermark else sound, nearest(self.spoken.start_s * DELIVERY_HZ))

    def facts(self):
        """JSON-ready. Source: ours."""
        s = self.spoken
        return dict(text=self.text, language=self.language, duration_s=self.samples / DELIVERY_HZ, timed_by=s.timed_by, needs_review=["text"] * s.needs_review,
                    why=s.why, plans=[plan.as_dict() | dict(start_s=float(at)) for plan, at in s.plans]) | s.facts  # fmt: skip


def voice_for(options):
    """The voice of a text: the one for everybody, else the default of the language. Raises UsageProblem. Source: ours."""
    from engine.errors import UsageProblem

    casting = parse_casting(options.voice)
    spec = casting.get(EVERYBODY)
    if spec == "match" or (casting and spec is None):
        raise UsageProblem(f"--voice {options.voice}: a text has no speakers and no actor.", hint="Give one voice or mix.", code="bad_voice")
    language = None if options.language is None else language_code(options.language)
    if spec and language:
        check_language(spec, language)
    return load_voice(spec or default_voice(language))


def check_text(text, options):
    """What a text would become: voice, phones, JSON-ready. Raises what speaking it would refuse. Source: ours."""
    from voice.phones import utterances

    voice = voice_for(options)
    parts = utterances(text, voice.language, options.dictionary)
    return dict(voice=voice.name, language=voice.language, phones=["".join(p.phones) for p in parts], notes=[n for p in parts for n in p.notes])


def say_text(text, options, index=0, advance=None):
    """Take `index` of a text as Said.

    text: str.  options: SpeakOptions; its slot, when given, is the length wanted.
    advance: called with 1 when it is done.
    Raises what voices and texts raise.
    Source: ours.
    """
    from voice.pipeline import untimed

    voice = voice_for(options)
    slot = None if options.slot is None else Slot(Fraction(0), Fraction(str(options.slot)))
    if voice.timed:
        plans, parts = planned(voice, text, options.speed, options.dictionary, index, options.seed)
        spoken = speak_free(voice, plans) if slot is None else speak_line(voice, plans, slot)
        unsaid, notes = [w for p in parts for w in p.unsaid], [n for p in parts for n in p.notes]
        spoken = spoken.reviewed(f"not said: {' '.join(unsaid)}" if unsaid else "", notes=notes)
    else:
        spoken = untimed(voice, text, slot, options) if slot else _as_it_comes(voice, text, options)
    spoken = spoken.reviewed("", voice=voice.name)
    if options.listen != "off":
        from voice.listen import recogniser

        spoken = heard(spoken, text, recogniser(options.listen, voice.language), voice.language)
    end = spoken.start_s + spoken.sound.duration
    samples = nearest((max(end, slot.end_s) if slot else end) * DELIVERY_HZ)
    if advance:
        advance(1)
    return Said(text, spoken, voice.language, samples)


def _as_it_comes(voice, text, options):
    from voice.phones import utterances

    wave = np.concatenate([voice.say(part, options.seed) for part in utterances(text, voice.language, options.dictionary)], 1)
    return Spoken(Sound(wave, voice.rate_hz), Fraction(0), (), "text", False, "", dict(parts=[]))


def speech_for_face(text, spec, seed):
    """(Sound, articulation (T, 43) at 50 Hz, facts) of a text for a face that shall speak it: its own plan drives the mouth.

    text: str.  spec: voice or mix, None for the default.  seed: int.
    Raises what voices and texts raise; UsageProblem for a voice that is not on our clock.
    Source: ours.
    """
    from engine.errors import UsageProblem
    from voice.articulate import articulation_of_plan
    from voice.options import SpeakOptions

    options = SpeakOptions(voice=spec, seed=seed, listen="off")
    if not voice_for(options).timed:
        raise UsageProblem(f"--voice {spec}: this voice has no plan that could move a mouth.", hint="Speak to a file first and animate that.", code="bad_voice")
    said = say_text(text, options)
    parts = [articulation_of_plan(plan, float(at), int(np.ceil(float(at + plan.duration) * 50))).values for plan, at in said.spoken.plans]
    whole = parts[-1].copy()
    for part, (_, at) in zip(parts, said.spoken.plans):
        start = int(float(at) * 50)
        whole[start : len(part)] = part[start:]
    return said.spoken.sound, whole, said.facts()
