"""Normalization of words that are compared: case, punctuation, numbers and signs, in every script.

Numbers are compared as they are spoken, with their sign; letters keep their vowel signs.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from mouthpiece.voice.text.interjections import drop_fragments
from mouthpiece.voice.text.number_words import get_minus_word, get_sign_words, parse_number, spell_number
from mouthpiece.voice.text.verbalization import MINUS_PATTERN, NUMBER_PATTERN, verbalize

if TYPE_CHECKING:
    from whisper.normalizers import EnglishTextNormalizer

_REMARK = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+?\)")  # what recognisers write of sounds
_NUMBER = re.compile(NUMBER_PATTERN)
_PERCENT_WORDS = {
    **{"es": "por ciento", "fr": "pour cent", "it": "per cento", "pt": "por cento", "de": "prozent"},
    **{"hi": "प्रतिशत", "nl": "procent", "sv": "procent", "pl": "procent", "ru": "процентов"},
}
_OPTIONAL_MARKS = (  # points of Hebrew, vowel marks of Arabic: seldom written, never by recognisers
    *((first, last) for first, last in ((0x0591, 0x05C7), (0x0610, 0x061A), (0x064B, 0x065F), (0x06D6, 0x06ED))),
    (0x0640, 0x0640),
    (0x0670, 0x0670),
)
_DEVANAGARI_VARIANTS = str.maketrans({"ँ": "ं", "ॅ": "े"})  # two spellings of a nasal vowel, and of a foreign one
_NUKTA = re.compile("(?<=[कखगजफ])\u093c")  # of foreign sounds, as often left out as written
_LARGE_NUMBERS = (*range(101), *range(200, 1000, 100), 1000, 1_000_000, 1_000_000_000)
_MINUS_STAND_IN = (
    "mynus"  # a word that whisper's normalizer leaves alone: it takes the sign off "-5", not off "minus 5"
)
_ENGLISH_SIGNS = (
    (
        re.compile(r"(?<![\w.\-])(\d{1,2}(?=\s?[-–]\s?\d{1,3}\b)|\d{4})\s?[-–]\s?(\d{1,4})(?![\w.\-%])"),
        r"\1 to \2",
    ),  # a range
    (re.compile(r"(?<![\w/.,])1/2(?![\w/])"), "one half"),
    (re.compile(r"(?<![\w/.,])1/4(?![\w/])"), "one quarter"),
    (re.compile(r"(?<![\w/.,])3/4(?![\w/])"), "three quarters"),
    (re.compile(r"(?<![\d.])(\d+) and a half\b", re.IGNORECASE), r"\1.5"),
    (re.compile(r"(?<=\d)\s?°\s?C\b"), " degrees celsius"),
    (re.compile(r"(?<=\d)\s?°\s?F\b"), " degrees fahrenheit"),
    (re.compile(r"(?<=\d)\s?°"), " degrees"),
    (re.compile(r"(?<=\d)\s?km/h\b"), " kilometers per hour"),
    (re.compile(r"(?<=\d)\s?km\b"), " kilometers"),
    (re.compile(r"(?<=\d)\s?cm\b"), " centimeters"),
    (re.compile(r"(?<=\d)\s?kg\b"), " kilograms"),
    (re.compile(r"\b(?:minus|negative)\b(?=\s)", re.IGNORECASE), _MINUS_STAND_IN),
)


def normalize_english(text: str) -> list[str]:
    """Normalize an English text to words; numbers become digits, a negative one "minus" and digits.

    Source: whisper.normalizers, the rules under which word errors are published, but for signs and broken words.
    """
    text = drop_fragments(verbalize(re.sub(r"(?<=\d)\s?½", ".5", text), "en"))
    for pattern, words in _ENGLISH_SIGNS:
        text = pattern.sub(words, text)
    return _load_english_normalizer()(text).replace(_MINUS_STAND_IN, "minus").split()


@lru_cache(maxsize=1)
def _load_english_normalizer() -> EnglishTextNormalizer:
    from whisper.normalizers import EnglishTextNormalizer  # slow to import

    return EnglishTextNormalizer()


def normalize_by_category(text: str, language: str, by_letter: bool) -> list[str]:
    """Normalize a text of any script to words: numbers spelled out, letters with their marks, nothing else.

    language: code without region.
    by_letter: splits words into letters, each with its marks.
    """
    spoken = spell_numbers(verbalize(drop_fragments(_REMARK.sub("", text)), language), language)
    letters = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", spoken).casefold())
    letters = _NUKTA.sub("", letters.translate(_DEVANAGARI_VARIANTS)).replace("〇", "零")
    kept = "".join(_keep_character(char) for char in letters)
    return _split_letters(kept) if by_letter else kept.split()


def _keep_character(char: str) -> str:
    """Keep letters, their marks and digits; joiners and optional marks vanish, anything else parts words."""
    if any(first <= ord(char) <= last for first, last in _OPTIONAL_MARKS):
        return ""
    kind = unicodedata.category(char)
    return char if kind[0] in "LMN" else "" if kind == "Cf" else " "


def _split_letters(text: str) -> list[str]:
    letters: list[str] = []
    for char in text:
        if unicodedata.category(char)[0] == "M" and letters:
            letters[-1] += char
        elif not char.isspace():
            letters.append(char)
    return letters


def spell_numbers(text: str, language: str) -> str:
    """Spell out the numbers of a text, and percent signs behind them, in words of a language that CLDR has."""
    if get_sign_words(language) is None:  # else `verbalize` has done it
        text = MINUS_PATTERN.sub(f"{get_minus_word(language)} ", text)
    if language in _PERCENT_WORDS:
        text = re.sub(r"(?<=\d)\s?%", f" {_PERCENT_WORDS[language]}", text)
    return _NUMBER.sub(lambda match: f" {_spell_written(match[0], language)} ", text)


def _spell_written(written: str, language: str) -> str:
    number = parse_number(written, language)
    spelled = spell_number(number, language) if number is not None else None
    return written if spelled is None else spelled


def find_number_words(texts: tuple[str, ...], language: str) -> frozenset[str]:
    """Find the words of numbers: those of a language up to a hundred and round ones, and those in the texts as digits.

    They are compared without tolerance, since another number is never the same one misspelt.
    """
    written = {match[0] for text in texts for match in _NUMBER.finditer(text)}
    words = {
        word for number in written for word in _spell_written(number, language).casefold().replace("-", " ").split()
    }
    return frozenset(words) | _get_basic_number_words(language)


@lru_cache(maxsize=16)
def _get_basic_number_words(language: str) -> frozenset[str]:
    spelled = [spell_number(Decimal(number), language) or "" for number in _LARGE_NUMBERS]
    return frozenset(word for text in spelled for word in text.casefold().replace("-", " ").split() if len(word) > 1)
