"""Voices by name: single ones, mixes, and what is at hand on this machine."""

from __future__ import annotations

import difflib
import math
import tomllib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.weights.download import is_model_available
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.voice.backends import chatterbox, hibari, kokoro
from mouthpiece.voice.text.phones import split_into_utterances

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mouthpiece.voice.backends.hibari import Hibari

DEFAULT_VOICE = "af_heart"
MAX_CACHED_VOICES = 8  # the parts of a scene; the nets behind them are shared
_HINT = "Run 'mouthpiece voices list' to see them; mixes are written 'af_heart:0.6+bf_emma:0.4'."


@cache
def load_voice_facts() -> dict[str, Any]:
    """What is told of voices and languages: a dict with note and languages. Source: configs/voices.toml."""
    return tomllib.loads((resources.files("mouthpiece.configs") / "voices.toml").read_text(encoding="utf-8"))


def list_voices() -> list[dict[str, str]]:
    """Every voice that this version can speak with: rows with name, language, gender, backend, at_hand, note.

    Source: hibari-tts; Kokoro's names, whose first letter is the language and whose second the gender; chatterbox-tts.
    """
    there = is_model_available(kokoro.NAME)
    row = dict(zip(("name", "language", "gender", "backend", "at_hand", "note"), (
        hibari.NAME, hibari.LANGUAGE, "female", hibari.NAME, True, "always there; fast; speaker not named (made after af_heart)")))  # fmt: skip
    rows = [row]
    for name in kokoro.list_names():
        note = "speaker not named" if there else "speaker not named; needs: mouthpiece models pull kokoro"
        rows.append(
            row
            | dict(
                name=name,
                language=kokoro.LANGUAGE_OF_LETTER[name[0]],
                gender=kokoro.GENDER_OF_LETTER[name[1]],
                backend=kokoro.NAME,
                at_hand=there,
                note=note,
            )
        )
    there = chatterbox.is_installed()
    note = "speaks like a recording: chatterbox:FILE; not on our clock" + (
        "" if there else "; needs: pip install chatterbox-tts, a GPU"
    )
    rows.append(
        row
        | dict(
            name=chatterbox.NAME,
            language=chatterbox.LANGUAGE,
            gender="",
            backend=chatterbox.NAME,
            at_hand=there,
            note=note,
        )
    )
    return rows


def normalize_language(text: str) -> str | None:
    """One of our languages for a code as people and files write it: en, en_US, en-AU, fr-FR, pt, zh-Hans, cmn.

    Raises UsageProblem for a language without voice.
    Source: RFC 5646 primary subtags; a region that we do not have falls to the language's first.
    """
    known = list(load_voice_facts()["languages"])
    code = str(text).strip().lower().replace("_", "-")
    code = {"cmn": "zh", "en-uk": "en-gb", "jp": "ja"}.get(code, code)
    if code in known:
        return code
    found = next((name for name in known if name.partition("-")[0] == code.partition("-")[0]), None)
    if found is None:
        raise UsageError(
            f"language '{text}': there is no voice for it.",
            hint=f"Languages with a voice: {', '.join(known)}.",
            code="no_language",
        )
    return found


def get_default_voice(language: str | None = None) -> str:
    """The name of the voice that speaks a language when none is named: of Kokoro where it is at hand, else hibari for
    English.

    language: such as "en-gb" or "fr-FR"; None is American English.
    Raises UsageProblem for a language without voice.
    Source: configs/voices.toml.
    """
    language = "en-us" if language is None else normalize_language(language)
    if language.startswith("en") and not is_model_available(kokoro.NAME):
        return hibari.NAME
    return load_voice_facts()["languages"][language]["voice"]


def load_voice(spec: str, threads: int | None = None) -> Hibari:
    """The voice called `spec`, ready to speak; the same object each time in a process.

    spec: "af_heart", a mix "af_heart:0.6+bf_emma:0.4", "hibari", "chatterbox" or "chatterbox:FILE".
    threads: int, or None for what the machine has.
    Gives an object with name, language, rate_hz and timed; where timed, natural(utterance, speed) -> Plan and
    speak(plan) -> (1, S) float32; else say(utterance, seed) -> (1, S) float32.
    Raises UsageProblem for a name that is not known or a mix that makes no sense, Missing with the command that helps.
    """
    spec = str(spec).strip()
    if spec == chatterbox.NAME or spec.startswith(f"{chatterbox.NAME}:"):
        return _open_voice(chatterbox.NAME, spec.partition(":")[2], threads)
    shares = parse_voice_mix(spec)
    if set(shares) == {hibari.NAME}:
        return _open_voice(hibari.NAME, "", threads)
    return _open_voice(kokoro.NAME, tuple(sorted(shares.items())), threads)


@cached_model(MAX_CACHED_VOICES)
def _open_voice(backend: str, what: str | tuple[tuple[str, float]], threads: int | None) -> Hibari | None:
    if backend == chatterbox.NAME:
        return chatterbox.Chatterbox(what or None)
    if backend == hibari.NAME:
        return hibari.Hibari(threads)
    shares = dict(what)
    first = max(shares, key=shares.get)
    name = first if len(shares) == 1 else "+".join(f"{n}:{share:.4g}" for n, share in what)
    try:
        return kokoro.Kokoro(name, kokoro.LANGUAGE_OF_LETTER[first[0]], kokoro.mix_styles(shares), threads)
    except MissingDependencyError as error:
        raise MissingDependencyError(
            error.message, hint=f"{error.hint} Or use --voice hibari, which is always there.", code=error.code
        ) from error


def parse_voice_mix(spec: str) -> dict[str, float]:
    """The voices of a spec and their shares, which sum to one: dict, name -> float.

    spec: "af_heart", "af_heart+bf_emma", "af_heart:0.6+bf_emma:0.4"; a voice without a share counts 1.
    Raises UsageProblem naming what is wrong, and near names for one that is not known.
    """
    shares = {}
    for part in str(spec).split("+"):
        name, colon, share = (text.strip() for text in part.partition(":"))
        name = _check_voice_name(name, spec)
        try:
            value = float(share) if colon else 1.0
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise UsageError(
                f"--voice {spec}: '{share}' is no share of {name}; need a number above 0.", hint=_HINT, code="bad_voice"
            )
        shares[name] = shares.get(name, 0.0) + value
    if hibari.NAME in shares and len(shares) > 1:
        raise UsageError(
            f"--voice {spec}: hibari is one voice and cannot be mixed.", hint="Mix voices of Kokoro.", code="bad_voice"
        )
    total = sum(shares.values())
    return {name: value / total for name, value in shares.items()}


def _check_voice_name(name: str, spec: str) -> str:
    names = [hibari.NAME, *kokoro.list_names()]
    if name.lower() in names:
        return name.lower()
    close = difflib.get_close_matches(name.lower(), names, 3) or [n for n in names if name and name.lower() in n][:3]
    hint = f"Did you mean {' or '.join(close)}?" if close else _HINT
    raise UsageError(f"--voice {spec}: there is no voice '{name}'.", hint=hint, code="no_voice")


def speak_whole_text(
    voice: Hibari, text: str, speed: float = 1.0, dictionary: Path | None = None, seed: int = 0
) -> tuple | None:
    """A text of any length in the voice's own time: (1, S) float32 at the voice's rate, and the Utterances that were
    spoken.

    voice: from load_voice.  text, dictionary: as for mouthpiece.voice.text.phones.split_into_utterances.
    speed: 0.5 to 2, of a timed voice.  seed: int, of one that is not.
    Raises what utterances and the voice raise.
    """
    spoken = split_into_utterances(text, voice.language, dictionary)
    waves = [
        voice.speak(voice.predict_plan(one, speed)) if voice.timed else voice.speak_utterance(one, seed)
        for one in spoken
    ]
    return np.concatenate(waves, 1), spoken
