"""The table of voice backends, and voices by name: listed, parsed, loaded."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.voice.backends import chatterbox, hibari, kokoro
from mouthpiece.voice.backends.backend import SPEC_HINT, split_mix
from mouthpiece.voice.text.phones import split_into_utterances

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mouthpiece.voice.backends.backend import Voice, VoiceBackend, VoiceInfo, VoiceSpec
    from mouthpiece.voice.text.phones import Utterance

# A new voice backend is one file beside this one and one row here. In the order of lists and of fall-backs.
BACKENDS: dict[str, VoiceBackend] = {
    hibari.NAME: hibari.HibariBackend(),
    kokoro.NAME: kokoro.KokoroBackend(),
    chatterbox.NAME: chatterbox.ChatterboxBackend(),
}
MAX_CACHED_VOICES = 8  # the parts of a scene; their networks are shared


@cache
def load_voice_facts() -> dict[str, Any]:
    """Load the facts on voices and languages: a dict with note and languages. Source: configs/voices.toml."""
    return tomllib.loads((resources.files("mouthpiece.configs") / "voices.toml").read_text(encoding="utf-8"))


def list_voices() -> list[VoiceInfo]:
    """List every voice of every backend, whether available on this machine or not."""
    return [voice for backend in BACKENDS.values() for voice in backend.list_voices()]


def list_castable_voices() -> list[VoiceInfo]:
    """List the available voices that may be given to speakers for whom none was chosen."""
    return [voice for voice in list_voices() if voice.available and BACKENDS[voice.backend].castable]


def normalize_language(text: str) -> str:
    """Normalize a language code as people and files write it: en, en_US, en-AU, fr-FR, pt, zh-Hans, cmn.

    A region without a voice becomes the first region of its language.
    Raises UsageError for a language without voice.
    Source: RFC 5646, primary subtags.
    """
    known = list(load_voice_facts()["languages"])
    code = str(text).strip().lower().replace("_", "-")
    code = {"cmn": "zh", "en-uk": "en-gb", "jp": "ja"}.get(code, code)
    if code in known:
        return code
    same_language = next((name for name in known if name.partition("-")[0] == code.partition("-")[0]), None)
    if same_language is None:
        raise UsageError(
            f"language '{text}': there is no voice for it.",
            hint=f"Languages with a voice: {', '.join(known)}.",
            code="no_language",
        )
    return same_language


def get_default_voice(language: str | None = None) -> str:
    """Get the voice that speaks a language when none is named: that of configs/voices.toml where its backend is
    available, else the first available voice of the language.

    language: such as "en-gb" or "fr-FR"; None is American English.
    Raises UsageError for a language without voice.
    """
    language = "en-us" if language is None else normalize_language(language)
    preferred = load_voice_facts()["languages"][language]["voice"]
    if BACKENDS[parse_voice(preferred).backend].is_available():
        return preferred
    return next((voice.name for voice in list_voices() if voice.available and voice.speaks(language)), preferred)


def parse_voice(text: str) -> VoiceSpec:
    """Parse a voice specification.

    text: "af_heart", a mix "af_heart:0.6+bf_emma:0.4", "hibari", "chatterbox" or "chatterbox:FILE".
    Raises UsageError for a name that is not known, with near names, and for a mix that makes no sense.
    """
    text = str(text).strip()
    for backend in BACKENDS.values():
        if backend.owns(text):
            return backend.parse(text)
    raise _make_voice_error(text)


def _make_voice_error(text: str) -> UsageError:
    """Make the error for a specification that no backend owns: an unknown voice, or voices that cannot be mixed."""
    backends = {voice.name: BACKENDS[voice.backend] for voice in list_voices()}
    for part in text.split("+"):
        name = part.partition(":")[0].strip()
        if name.lower() in backends:
            continue
        close = difflib.get_close_matches(name.lower(), backends, 3)
        close = close or [known for known in backends if name and name.lower() in known][:3]
        hint = f"Did you mean {' or '.join(close)}?" if close else SPEC_HINT
        return UsageError(f"--voice {text}: there is no voice '{name}'.", hint=hint, code="no_voice")
    mixable = " or ".join(backend.name for backend in BACKENDS.values() if backend.mixable)
    single = next((name for name, _ in split_mix(text) if not backends[name].mixable), None)
    message = (
        "voices of two backends cannot be mixed" if single is None else f"{single} is one voice and cannot be mixed"
    )
    return UsageError(f"--voice {text}: {message}.", hint=f"Mix voices of {mixable}.", code="bad_voice")


def get_voice_language(text: str) -> str | None:
    """Get the language of a voice or mix; None for a voice that takes texts of any language. Raises UsageError."""
    spec = parse_voice(text)
    return BACKENDS[spec.backend].get_language(spec)


def load_voice(text: str, threads: int | None = None) -> Voice:
    """Load a voice by its specification; the same object each time in a process.

    text: as for `parse_voice`.  threads: int, or None for what the machine has.
    Raises UsageError as `parse_voice`, MissingDependencyError with the command that helps.
    """
    return _open_voice(parse_voice(text), threads)


@cached_model(MAX_CACHED_VOICES)
def _open_voice(spec: VoiceSpec, threads: int | None) -> Voice:
    return BACKENDS[spec.backend].load(spec, threads)


def speak_whole_text(
    voice: Voice, text: str, speed: float = 1.0, dictionary: Path | None = None, seed: int = 0
) -> tuple[np.ndarray, tuple[Utterance, ...]]:
    """Synthesize a text of any length at the voice's own pace: (1, S) float32 at its rate, and the spoken Utterances.

    text, dictionary: as for mouthpiece.voice.text.phones.split_into_utterances.
    speed: 0.5 to 2, of a timed voice.  seed: of a voice that samples.
    Raises what utterances and the voice raise.
    """
    utterances = split_into_utterances(text, voice.language, dictionary)
    waves = [
        voice.speak(voice.predict_plan(utterance, speed)) if voice.timed else voice.speak_utterance(utterance, seed)
        for utterance in utterances
    ]
    return np.concatenate(waves, 1), utterances
