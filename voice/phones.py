"""Text to phones: what is said, in the alphabet of the voices, with a map from every written word to its phones."""

import importlib.util
import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

from engine.errors import Refused
from voice.plan import PAUSE, Word


@dataclass(frozen=True)
class Utterance:
    """A text as phones.

    text: as written.  language: such as "en-us".
    phones: symbols of the alphabet; the first and the last are PAUSE.
    words: voice.plan.Word, in order.
    pauses: pairs of a phone's index, where phones has PAUSE, and the wanted length in seconds (Fraction).
    notes: sentences on what was left out or changed.
    Source: ours.
    """

    text: str
    language: str
    phones: tuple[str, ...]
    words: tuple[Word, ...] = ()
    pauses: tuple[tuple[int, Fraction], ...] = ()
    notes: tuple[str, ...] = ()


@cache
def alphabet():
    """Symbol -> number, of Kokoro and of all voices made after it; PAUSE is 0.

    Source: hibari-tts, assets/vocab.json.
    """
    folder = Path(importlib.util.find_spec("hibari").submodule_search_locations[0])
    return {PAUSE: 0} | json.loads((folder / "assets" / "vocab.json").read_text(encoding="utf-8"))


@cache
def _english(british):
    from hibari.g2p import G2P

    return G2P(british=british)


def utter(text, language, dictionary=None):
    """The text as phones: an Utterance."""
    g2p = _english(language == "en-gb")
    tokens = g2p.phonemize_tokens(g2p.tokenize(text))
    phones, words, at = [PAUSE], [], 0
    for token in tokens:
        start = len(phones)
        phones += [p for p in token.phonemes or "" if p in alphabet()]
        at = text.find(token.text, at)
        if any(c.isalnum() for c in token.text) and len(phones) > start:
            words.append(Word(token.text, start, len(phones), (at, at + len(token.text))))
        at += len(token.text)
        if token.whitespace:
            phones.append(" ")
    while phones and phones[-1] == " ":
        phones.pop()
    if not words:
        raise Refused("nothing to say.", hint="Give words.", code="no_speech")
    return Utterance(text, language, tuple(phones) + (PAUSE,), tuple(words))
