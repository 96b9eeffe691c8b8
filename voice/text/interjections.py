"""Stutters and interjections: what is written as broken words or without vowels, and the phones that say it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.voice.text.g2p import phonemize

if TYPE_CHECKING:
    from collections.abc import Iterator

_STUTTER = re.compile(r"(?<![\w'’-])(?P<fragments>(?:[^\W\d_]{1,3}[-–]\s?){1,4})(?P<word>[^\W\d_][\w'’]*)(?!-)")
_FRAGMENT = re.compile(r"[^\W\d_]+")
_VOWEL_LETTERS = frozenset("aeiouyáàâãéèêëíîïóòôõöúùûü")
_COMPOUNDS = frozenset(
    "b-ball b-boy b-boys b-box c-class d-day k-king s-shape s-shaped t-test t-tests t-top t-tops".split()
)
_WORD_PREFIXES = ("e", "i")  # e-economy is no stutter, I-I'm is read as it stands
_VOWEL_PHONES = frozenset("aeiouyæøœɐɑɒɔɘəɚɛɜɝɞɤɨɪɯɵʉʊʌʏɶAIOQWYᵊᵻãẽĩõũ")
_NEUTRAL_VOWEL = "ə"
_STRESS_MARKS = "ˈˌ"
_INTERJECTIONS = (  # patterns of whole words; short ones that also abbreviate something need a mark or small letters
    (r"[Ss]h(?=[!,.…—-])|[Ss][Hh]{2,}", "ʃː"),
    (r"[Pp]st|[Pp][Ss]{2,}[Tt]+", "pst"),
    (r"[Pp]f+t*|PF{2,}T*", "pft"),
    (r"[Bb][Rr]{2,}", "bɹː"),
    (r"[Gg][Rr]{2,}", "ɡɹː"),
    (r"[Tt]sk", "tˈɪsk"),
    (r"[Zz]{3,}", "zː"),
)
_WORD_START, _WORD_END = r"(?<![\w'’-])", r"(?![\w'’]|-\w)"
_SAID_AS = [(re.compile(f"{_WORD_START}(?:{pattern}){_WORD_END}"), phones) for pattern, phones in _INTERJECTIONS]
_HUMMED = re.compile(rf"{_WORD_START}(?<!\d )(?:h+m+|m{{2,}}){_WORD_END}", re.IGNORECASE)


class SpokenFragment(NamedTuple):
    """Phones that say text[start:stop]."""

    start: int
    stop: int
    phones: str


def find_fragments(text: str, language: str) -> list[SpokenFragment]:
    """Find stutters ("W-what") and interjections without vowels ("Shh") and the phones that say them, in order.

    language: one of LANGUAGES; interjections are found in English alone.
    Raises what `phonemize` raises.
    """
    found = [
        SpokenFragment(*match.span(), _say_stutter(match["fragments"], match["word"], language))
        for match in _iterate_stutters(text)
    ]
    if language.startswith("en"):
        for pattern, phones in _SAID_AS:
            found += [SpokenFragment(*match.span(), phones) for match in pattern.finditer(text)]
    return sorted(found)


def drop_fragments(text: str) -> str:
    """Drop what recognisers do not write down: the fragments of stutters, interjections without vowels."""
    parts, done = [], 0
    for match in _iterate_stutters(text):
        parts.append(text[done : match.start()])
        done = match.start("word")
    text = "".join([*parts, text[done:]])
    for pattern in (*(pattern for pattern, _ in _SAID_AS), _HUMMED):
        text = pattern.sub(" ", text)
    return text


def _iterate_stutters(text: str) -> Iterator[re.Match[str]]:
    for match in _STUTTER.finditer(text):
        word = match["word"].lower()
        fragments = [fragment.lower() for fragment in _FRAGMENT.findall(match["fragments"])]
        compound = len(fragments) == 1 and f"{fragments[0]}-{word}" in _COMPOUNDS
        if not compound and all(_is_fragment(fragment, word) for fragment in fragments):
            yield match


def _is_fragment(fragment: str, word: str) -> bool:
    """Find out whether letters are the broken beginning of a word, not a syllable or word of their own."""
    broken = len(fragment) == 1 or not _VOWEL_LETTERS & set(fragment)
    return broken and fragment not in _WORD_PREFIXES and word != fragment and word.startswith(fragment)


def _say_stutter(fragments: str, word: str, language: str) -> str:
    """Say the beginning of a word, once for each fragment, and then the word.

    A beginning is its consonants and a neutral vowel, or its vowel where it begins with one.
    """
    phones = " ".join(token.phones for token in phonemize(word, language, {})).strip()
    sounds = [phone for phone in phones if phone not in _STRESS_MARKS]
    first_vowel = next((k for k, phone in enumerate(sounds) if phone in _VOWEL_PHONES), len(sounds))
    said = []
    for fragment in _FRAGMENT.findall(fragments):
        consonants = "".join(sounds[: min(first_vowel, len(fragment))])
        said.append(consonants + _NEUTRAL_VOWEL if consonants else "".join(sounds[:1]))
    return " ".join([*said, phones])
