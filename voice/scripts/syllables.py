"""Syllables of a text, counted without a dictionary, and slots shared by them."""

from __future__ import annotations

import re
from fractions import Fraction

from mouthpiece.engine.timeline import round_half_up

_VOWEL_GROUP = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøœùúûüýÿаеёиоуыэюяіїєαεηιουωάέήίόύώ]+", re.IGNORECASE)
_SYLLABIC_SIGN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0900-\u0939]")
_WORD = re.compile(r"[\w'’]+")
_SILENT_E = re.compile(r"[^aeiouy\W]e[ds]?$", re.IGNORECASE)
_SPOKEN_E = re.compile(r"[td]ed$|[sxzc]es$|[^aeiou]les?$")
_SYLLABLES_PER_DIGIT = 2
_S_PER_SYLLABLE = Fraction(1, 4)


def count_syllables(text: str, language: str = "en") -> int:
    """Estimate how many syllables it takes to say a text; at least 1 for a word.

    text: in any writing: groups of vowels are counted, or signs where a sign is a syllable.
    language: such as "en"; English words lose a silent "e" at their end.
    """
    total = 0
    for word in _WORD.findall(text):
        signs = len(_SYLLABIC_SIGN.findall(word))
        groups = len(_VOWEL_GROUP.findall(word))
        silent = language.startswith("en") and _SILENT_E.search(word) and not _SPOKEN_E.search(word)
        if groups > 1 and silent:
            groups -= 1
        total += max(1, signs + groups + _SYLLABLES_PER_DIGIT * sum(c.isdigit() for c in word))
    return total


def estimate_duration(text: str) -> Fraction:
    """Estimate how long it takes to say a text without haste, seconds; at least one."""
    return max(Fraction(1), count_syllables(text) * _S_PER_SYLLABLE)


def split_slot(start: Fraction, end: Fraction, texts: list[str]) -> list[tuple[Fraction, Fraction]]:
    """Share a slot among texts in proportion to their syllables; return (start, end) of each, seconds.

    start, end: of the slot, seconds; inner edges are whole milliseconds.
    texts: at least one.
    """
    weights = [max(1, count_syllables(text)) for text in texts]
    edges, before = [start], 0
    for weight in weights[:-1]:
        before += weight
        edges.append(Fraction(round_half_up((start + (end - start) * before / sum(weights)) * 1000), 1000))
    edges.append(end)
    return list(zip(edges, edges[1:]))
