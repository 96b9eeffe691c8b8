"""Voices: which can speak on this machine, and a sample of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mouthpiece.engine.config import Options, option
from mouthpiece.engine.errors import UsageError
from mouthpiece.job import Result
from mouthpiece.request import Argument, Request, UseCase

if TYPE_CHECKING:
    from mouthpiece.job import Job

SAMPLE_BITS = 24  # of the samples of a WAV


@dataclass(frozen=True)
class SampleOptions(Options):
    """How a voice is sampled.

    Raises UsageError naming the flag, the value and what is accepted.
    """

    voice: str | None = option(
        None, "voice, or a mix such as af_heart:0.6+bf_emma:0.4; the best available when not given"
    )
    text: str | None = option(None, "what it says; a line in the voice's language when not given")
    speed: float = option(1.0, "tempo", low=0.5, high=2.0)
    dictionary: Path | None = option(None, "TOML or TSV file: words and how they are said")
    seed: int = option(0, "of voices whose speech differs from time to time", low=0)


@dataclass(frozen=True)
class SampleRequest(Request):
    """A voice to be heard.

    language: whose usual voice speaks where none is given, such as "en-gb".  output: WAV to write.
    """

    command: ClassVar[str] = "voices sample"
    language: str | None
    output: Path | None
    options: SampleOptions

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Paths of the files that are read."""
        return () if self.options.dictionary is None else (self.options.dictionary,)


def list_available_voices(language: str | None = None) -> Result:
    """List voices, those that can speak here and those that are missing.

    language: such as "en" or "en-gb"; None lists all.
    Raises UsageError for a language without voice.
    """
    from mouthpiece.voice.backends.registry import list_voices, load_voice_facts, normalize_language

    facts = load_voice_facts()
    languages = [name for name in facts["languages"] if language is None or language.lower() == name.partition("-")[0]]
    if not languages and language is not None:
        languages = [normalize_language(language)]
    voices = [voice for voice in list_voices() if voice.language in languages]
    lines = []
    for voice in voices:
        state, title = "available" if voice.available else "missing", facts["languages"][voice.language]["name"]
        lines.append(f"{state:9}  {voice.name:14} {title:21} {voice.gender:7} {voice.note}")
    document = {"voices": [voice.as_dict() for voice in voices], "note": facts["note"]}
    return Result("voices", document, "\n".join([*lines, facts["note"]]))


def run_sample(request: SampleRequest, job: Job) -> Result:
    """Let a voice speak a line: check, load the voice, speak, write and mark the WAV.

    Raises UsageError for a voice or language that does not exist, MissingDependencyError for a voice that is not on
    this machine, OutputError for the disk.
    """
    import numpy as np

    from mouthpiece.engine.audio.sound import Sound, write_sound
    from mouthpiece.engine.media.writing import read_delivery_blocks
    from mouthpiece.engine.timeline import DELIVERY_HZ
    from mouthpiece.voice.backends.casting import check_voice_language
    from mouthpiece.voice.backends.registry import (
        get_default_voice,
        load_voice,
        load_voice_facts,
        normalize_language,
        speak_whole_text,
    )

    options, output, language = request.options, request.output, request.language
    if output is None:
        raise UsageError("voices sample: -o is missing.", hint="Give -o OUT.wav.", code="usage")
    if options.voice is not None and language is not None:
        check_voice_language(options.voice, normalize_language(language))
    job.check_output(output, (".wav",))
    job.prepare_marking(output)
    voice = load_voice(get_default_voice(language) if options.voice is None else options.voice)
    text = load_voice_facts()["languages"][voice.language]["sample"] if options.text is None else options.text
    wave, utterances = speak_whole_text(voice, text, options.speed, options.dictionary, options.seed)
    notes = [note for utterance in utterances for note in utterance.notes]
    for note in notes:
        job.progress.note(note)
    sound = Sound(np.concatenate(list(read_delivery_blocks(Sound(wave, voice.rate_hz))), 1), DELIVERY_HZ)
    write_sound(output, sound, SAMPLE_BITS, job.settings.overwrite, job.inputs)
    facts = {
        "voice": voice.name,
        "language": voice.language,
        "timed": voice.timed,
        "text": text,
        "duration_s": float(sound.duration),
        "phones": ["".join(utterance.phones) for utterance in utterances],
        "notes": notes,
        "unsaid": [word for utterance in utterances for word in utterance.omitted_words],
    }
    return job.finalize(output, options, facts, f"{output}: {voice.name}, {facts['duration_s']:.2f} s")


SAMPLE = UseCase(
    SampleRequest,
    run_sample,
    (Argument("language", required=False, kind=str), Argument("output", required=False, writes=True)),
    (SampleOptions,),
    settings=("overwrite", "provenance", "consent", "signing_key", "signing_cert"),
)
