"""Voices by name: single ones, mixes, and what is at hand on this machine."""

import difflib
import math
import tomllib
from functools import cache
from importlib import resources

import numpy as np

from engine.errors import Missing, UsageProblem
from engine.pull import at_hand
from engine.warm import kept_warm
from voice.backends import chatterbox, hibari, kokoro
from voice.phones import utterances

DEFAULT = "af_heart"
VOICES_KEPT = 8    # the parts of a scene; the nets behind them are shared
_HINT = "Run 'mouthpiece voices list' to see them; mixes are written 'af_heart:0.6+bf_emma:0.4'."


@cache
def facts():
    """What is told of voices and languages: a dict with note and languages. Source: configs/voices.toml."""
    return tomllib.loads((resources.files("configs") / "voices.toml").read_text(encoding="utf-8"))


def list_voices():
    """Every voice that this version can speak with: rows with name, language, gender, backend, at_hand, note.

    Source: hibari-tts; Kokoro's names, whose first letter is the language and whose second the gender; chatterbox-tts.
    """
    there = at_hand(kokoro.NAME)
    row = dict(zip(("name", "language", "gender", "backend", "at_hand", "note"), (
        hibari.NAME, hibari.LANGUAGE, "female", hibari.NAME, True, "always there; fast; speaker not named (made after af_heart)")))  # fmt: skip
    rows = [row]
    for name in kokoro.names():
        note = "speaker not named" if there else "speaker not named; needs: mouthpiece models pull kokoro"
        rows.append(row | dict(name=name, language=kokoro.LANGUAGES[name[0]], gender=kokoro.GENDERS[name[1]], backend=kokoro.NAME, at_hand=there, note=note))
    there = chatterbox.installed()
    note = "speaks like a recording: chatterbox:FILE; not on our clock" + ("" if there else "; needs: pip install chatterbox-tts, a GPU")
    rows.append(row | dict(name=chatterbox.NAME, language=chatterbox.LANGUAGE, gender="", backend=chatterbox.NAME, at_hand=there, note=note))
    return rows


def language_code(text):
    """One of our languages for a code as people and files write it: en, en_US, en-AU, fr-FR, pt, zh-Hans, cmn.

    Raises UsageProblem for a language without voice.
    Source: RFC 5646 primary subtags; a region that we do not have falls to the language's first.
    """
    known = list(facts()["languages"])
    code = str(text).strip().lower().replace("_", "-")
    code = {"cmn": "zh", "en-uk": "en-gb", "jp": "ja"}.get(code, code)
    if code in known:
        return code
    found = next((name for name in known if name.partition("-")[0] == code.partition("-")[0]), None)
    if found is None:
        raise UsageProblem(f"language '{text}': there is no voice for it.", hint=f"Languages with a voice: {', '.join(known)}.", code="no_language")
    return found


def default_voice(language=None):
    """The name of the voice that speaks a language when none is named: of Kokoro where it is at hand, else hibari for English.

    language: such as "en-gb" or "fr-FR"; None is American English.
    Raises UsageProblem for a language without voice.
    Source: configs/voices.toml.
    """
    language = "en-us" if language is None else language_code(language)
    if language.startswith("en") and not at_hand(kokoro.NAME):
        return hibari.NAME
    return facts()["languages"][language]["voice"]


def load_voice(spec, threads=None):
    """The voice called `spec`, ready to speak; the same object each time in a process.

    spec: "af_heart", a mix "af_heart:0.6+bf_emma:0.4", "hibari", "chatterbox" or "chatterbox:FILE".
    threads: int, or None for what the machine has.
    Gives an object with name, language, rate_hz and timed; where timed, natural(utterance, speed) -> Plan and
    speak(plan) -> (1, S) float32; else say(utterance, seed) -> (1, S) float32.
    Raises UsageProblem for a name that is not known or a mix that makes no sense, Missing with the command that helps.
    Source: ours.
    """
    spec = str(spec).strip()
    if spec == chatterbox.NAME or spec.startswith(f"{chatterbox.NAME}:"):
        return _cached(chatterbox.NAME, spec.partition(":")[2], threads)
    shares = shares_of(spec)
    if set(shares) == {hibari.NAME}:
        return _cached(hibari.NAME, "", threads)
    return _cached(kokoro.NAME, tuple(sorted(shares.items())), threads)


@kept_warm(VOICES_KEPT)
def _cached(backend, what, threads):
    if backend == chatterbox.NAME:
        return chatterbox.Chatterbox(what or None)
    if backend == hibari.NAME:
        return hibari.Hibari(threads)
    shares = dict(what)
    first = max(shares, key=shares.get)
    name = first if len(shares) == 1 else "+".join(f"{n}:{share:.4g}" for n, share in what)
    try:
        return kokoro.Kokoro(name, kokoro.LANGUAGES[first[0]], kokoro.mixed_style(shares), threads)
    except Missing as error:
        raise Missing(error.message, hint=f"{error.hint} Or use --voice hibari, which is always there.", code=error.code) from error


def shares_of(spec):
    """The voices of a spec and their shares, which sum to one: dict, name -> float.

    spec: "af_heart", "af_heart+bf_emma", "af_heart:0.6+bf_emma:0.4"; a voice without a share counts 1.
    Raises UsageProblem naming what is wrong, and near names for one that is not known.
    Source: ours.
    """
    shares = {}
    for part in str(spec).split("+"):
        name, colon, share = (text.strip() for text in part.partition(":"))
        name = _known(name, spec)
        try:
            value = float(share) if colon else 1.0
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise UsageProblem(f"--voice {spec}: '{share}' is no share of {name}; need a number above 0.", hint=_HINT, code="bad_voice")
        shares[name] = shares.get(name, 0.0) + value
    if hibari.NAME in shares and len(shares) > 1:
        raise UsageProblem(f"--voice {spec}: hibari is one voice and cannot be mixed.", hint="Mix voices of Kokoro.", code="bad_voice")
    total = sum(shares.values())
    return {name: value / total for name, value in shares.items()}


def _known(name, spec):
    names = [hibari.NAME, *kokoro.names()]
    if name.lower() in names:
        return name.lower()
    close = difflib.get_close_matches(name.lower(), names, 3) or [n for n in names if name and name.lower() in n][:3]
    hint = f"Did you mean {' or '.join(close)}?" if close else _HINT
    raise UsageProblem(f"--voice {spec}: there is no voice '{name}'.", hint=hint, code="no_voice")


def read_aloud(voice, text, speed=1.0, dictionary=None, seed=0):
    """A text of any length in the voice's own time: (1, S) float32 at the voice's rate, and the Utterances that were spoken.

    voice: from load_voice.  text, dictionary: as for voice.phones.utterances.
    speed: 0.5 to 2, of a timed voice.  seed: int, of one that is not.
    Raises what utterances and the voice raise.
    Source: ours.
    """
    spoken = utterances(text, voice.language, dictionary)
    waves = [voice.speak(voice.natural(one, speed)) if voice.timed else voice.say(one, seed) for one in spoken]
    return np.concatenate(waves, 1), spoken
