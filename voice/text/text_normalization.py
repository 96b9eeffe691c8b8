"""Text normalization: markup, pauses, emoji and foreign scripts taken out of a text that is to be read aloud.

Signs are written out in words, stutters and interjections get phones of their own.
Every character that remains knows where it stood in what was written.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.text.interjections import find_fragments
from mouthpiece.voice.text.lexicon import parse_phones
from mouthpiece.voice.text.verbalization import find_replacements

if TYPE_CHECKING:
    from mouthpiece.voice.text.lexicon import PronunciationDictionary

MIN_PAUSE_S = Fraction(25, 1000)
MAX_PAUSE_S = Fraction(30)
LANGUAGES = ("en-us", "en-gb", "es", "fr", "it", "pt-br", "hi", "ja", "zh")
UNSPACED_LANGUAGES = ("ja", "zh")  # languages written without spaces
UNICODE_SCRIPTS = {  # first words of the names of letters; LATIN alone for languages that are not here
    "hi": ("LATIN", "DEVANAGARI"),
    "ja": ("LATIN", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "zh": ("LATIN", "CJK"),
}
WORD_PATTERN = re.compile(r"[^\s—–…]+")
_BREAKS_S = {
    "none": Fraction(0),
    "x-weak": Fraction(1, 10),
    "weak": Fraction(3, 20),
    "medium": Fraction(3, 10),
    "strong": Fraction(1, 2),
    "x-strong": Fraction(4, 5),
}
_BREAK_PATTERN = r"<break\b(?P<tag>[^<>]*)>"
_PAUSE_PATTERN = r"\[pause\b(?P<asked>[^\[\]]*)\]"
_MARKUP_PATTERN = r"(?P<markup></?[A-Za-z][^<>]*>|<!--.*?-->|<\?.*?\?>)"
_ENTITY_PATTERN = r"(?P<entity>&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,6}|#x[0-9A-Fa-f]{1,5});)"
_CLUSTER_PATTERN = r"(?P<cluster>.[\u0300-\u036f\u3099\u309a]*)"
_PARTS_PATTERN = re.compile(
    "|".join((_BREAK_PATTERN, _PAUSE_PATTERN, _MARKUP_PATTERN, _ENTITY_PATTERN, _CLUSTER_PATTERN)),
    re.IGNORECASE | re.DOTALL,
)
_SEPARATING_TAG = re.compile(r"</?(p|s|br|div|speak)\b", re.IGNORECASE)
_LENGTH_PATTERN = re.compile(r"[+]?(\d+(?:\.\d*)?|\.\d+)\s*(ms|s)", re.IGNORECASE)
_ORDINAL_LETTERS = {"º": "o", "ª": "a"}  # Unicode's compatibility form makes letters of them
_READ_SUPERSCRIPTS = "²³"  # squared, cubed
_DEGREE_SIGNS = "℃℉"
_READ_SYMBOLS = frozenset("°©®™№")  # of the categories that are left out otherwise
_EDGE_PUNCTUATION = (
    "".join(chr(c) for c in range(33, 127) if not chr(c).isalnum() and chr(c) not in "$%&+#@")
    + "।“”‘’«»¿¡…—–、。，．！？：；「」《》（）【】"
)


class _Char(NamedTuple):
    """A character as read aloud, and where it stood in what was written."""

    char: str
    start: int
    stop: int


@dataclass(frozen=True)
class TextSegment:
    """Text between two pauses.

    chars: as read aloud, each with where it stood.
    pause_s: silence wanted after it, seconds; 0 for none.
    """

    chars: tuple[_Char, ...]
    pause_s: Fraction = Fraction(0)

    @property
    def text(self) -> str:
        """The text as read aloud."""
        return "".join(c.char for c in self.chars)

    def locate(self, start: int, stop: int) -> tuple[int, int]:
        """Locate text[start:stop] in what was written: (from, to)."""
        part = self.chars[start:stop]
        return min(c.start for c in part), max(c.stop for c in part)


@dataclass(frozen=True)
class NormalizedText:
    """A text that can be read aloud.

    segments: in order.
    pronunciations: {word of a segment: phones that the user's dictionary gives it}.
    omitted_words: words left out, as written.
    notes: sentences on what was left out or understood.
    """

    segments: tuple[TextSegment, ...]
    pronunciations: dict[str, str]
    omitted_words: tuple[str, ...]
    notes: tuple[str, ...]


def normalize_text(text: str, language: str, dictionary: PronunciationDictionary | None = None) -> NormalizedText:
    """Normalize a text to what can be read aloud in a language.

    text: as the user wrote it.
    language: one of LANGUAGES.
    dictionary: how the user's own words are said.
    Raises InvalidInputError for a pause without a length from MIN_PAUSE_S to MAX_PAUSE_S.
    Source: SSML 1.1 for break.
    """
    notes: list[str] = []
    omitted: list[str] = []
    pronunciations: dict[str, str] = {}
    segments = []
    for chars, pause_s in _split_at_pauses(text, notes):
        chars = _drop_foreign_scripts(chars, language, omitted)
        if dictionary:
            chars = _apply_dictionary(chars, dictionary, pronunciations)
        chars = _say_fragments(_write_out_signs(chars, language), language, pronunciations)
        segments.append(TextSegment(tuple(chars), pause_s))
    if omitted:
        notes.append(f"not said, in a script that {language} is not written in: {' '.join(omitted)[:200]}")
    return NormalizedText(tuple(segments), pronunciations, tuple(omitted), tuple(dict.fromkeys(notes)))


def _split_at_pauses(text: str, notes: list[str]) -> list[tuple[list[_Char], Fraction]]:
    """Split a text into (characters, seconds of the pause after them), without markup and signs.

    notes: takes what was left out or understood.
    """
    parts: list[tuple[list[_Char], Fraction]] = []
    current: list[_Char] = []
    symbols: list[str] = []
    for match in _PARTS_PATTERN.finditer(text):
        kind, part, place = match.lastgroup, match.group(), match.span()
        if kind in ("tag", "asked"):
            length_s = _parse_tag_pause(part, match[kind]) if kind == "tag" else _parse_pause(part, match[kind].strip())
            if kind == "tag":
                notes.append(f"{part}: read as a pause of {float(length_s):g} s.")
            if length_s:
                parts.append((current, length_s))
                current = []
        elif kind == "markup":
            notes.append(f"{part}: markup left out.")
            if _SEPARATING_TAG.match(part):
                current.append(_Char(" ", *place))
        else:
            current += _clean_characters(unescape(part) if kind == "entity" else part, place, symbols)
    if symbols:
        notes.append(f"left out: {' '.join(dict.fromkeys(symbols))}")
    return [*parts, (current, Fraction(0))]


def strip_punctuation(text: str, start: int, stop: int) -> tuple[int, int]:
    """Strip punctuation from the ends of text[start:stop]: (from, to); unchanged when nothing else is in it."""
    a, b = start, stop
    if re.fullmatch(_ENTITY_PATTERN, text[a:b]):
        return a, b
    while a < b and (text[a] in _EDGE_PUNCTUATION or text[a].isspace()):
        a += 1
    while b > a and (text[b - 1] in _EDGE_PUNCTUATION or text[b - 1].isspace()):
        b -= 1
    return (a, b) if a < b else (start, stop)


def _parse_tag_pause(tag: str, attributes: str) -> Fraction:
    """Parse a <break> to the length of its pause in seconds: its time, else its strength."""
    time = re.search(r"""time\s*=\s*["']?([^"'/\s]*)""", attributes)
    if time:
        return _parse_pause(tag, time[1])
    strength = re.search(r"""strength\s*=\s*["']?([a-z-]+)""", attributes, re.IGNORECASE)
    return Fraction(_BREAKS_S.get(strength[1].lower() if strength else "medium", _BREAKS_S["medium"]))


def _parse_pause(markup: str, length: str) -> Fraction:
    """Parse the length of a pause, such as "0.4s" or "300ms", to seconds. Raises InvalidInputError."""
    found = _LENGTH_PATTERN.fullmatch(length)
    length_s = Fraction(found[1].rstrip(".") or 0) / (1000 if found[2].lower() == "ms" else 1) if found else None
    if length_s is None or not MIN_PAUSE_S <= length_s <= MAX_PAUSE_S:
        hint = f"Write [pause 0.4s] or [pause 300ms], {float(MIN_PAUSE_S):g} to {float(MAX_PAUSE_S):g} s."
        raise InvalidInputError(f"{markup}: '{length}' is not the length of a pause.", hint=hint, code="bad_pause")
    return length_s


def _clean_characters(text: str, place: tuple[int, int], symbols: list[str]) -> list[_Char]:
    """Clean a few characters to those that can be read aloud.

    place: where they stood.
    symbols: takes what is left out of them.
    """
    composed = unicodedata.normalize("NFC", text)
    kinds = ("Ll", "Lu", "Lo", "Nd", "Lm")
    if len(composed) == 1 and (unicodedata.category(composed) in kinds or composed in _DEGREE_SIGNS):
        composed = composed if composed in _ORDINAL_LETTERS else unicodedata.normalize("NFKC", composed)
    cleaned = []
    for char in composed:
        kind = unicodedata.category(char)
        if kind in ("Cf", "Sk", "Mn", "Mc") and char not in "^`" and "DEVANAGARI" not in unicodedata.name(char, ""):
            continue  # marks of direction, joiners, variants, accents that found no letter
        if kind == "No" and "SCRIPT" in unicodedata.name(char) and char not in _READ_SUPERSCRIPTS:
            cleaned.append(_Char(" ", *place))
            char = str(unicodedata.digit(char, ""))
        if kind == "Nd":
            char = str(unicodedata.digit(char))
        if kind in ("So", "Co", "Cn", "Cs") and char not in _READ_SYMBOLS:
            symbols.append(char)
            char = " "
        cleaned.append(_Char(" " if kind in ("Cc", "Zs", "Zl", "Zp") else char, *place))
    return cleaned


def _drop_foreign_scripts(chars: list[_Char], language: str, omitted: list[str]) -> list[_Char]:
    """Drop words in a script that the language is not written in. omitted: takes them."""
    scripts, text = UNICODE_SCRIPTS.get(language, ("LATIN",)), "".join(c.char for c in chars)
    kept: list[_Char] = []
    done = 0
    for match in re.finditer(r"[^\W\d_]+" if language in UNSPACED_LANGUAGES else r"\S+", text):
        letters = [c for c in match.group() if c.isalpha() and c not in _ORDINAL_LETTERS]
        foreign = [c for c in letters if unicodedata.name(c, "?").split()[0] not in scripts]
        if not foreign:
            continue
        kept += chars[done : match.start()]
        if language in UNSPACED_LANGUAGES:  # a run may hold both
            kept += [c for c in chars[match.start() : match.end()] if c.char not in foreign]
            omitted.append("".join(c for c in match.group() if c in foreign))
        else:
            omitted.append(match.group())
        done = match.end()
    return kept + chars[done:]


def _apply_dictionary(
    chars: list[_Char], dictionary: PronunciationDictionary, pronunciations: dict[str, str]
) -> list[_Char]:
    """Replace words of the dictionary by their respelling, or by placeholders for their phones.

    pronunciations: takes {placeholder: phones}.
    """
    text = "".join(c.char for c in chars)
    replaced: list[_Char] = []
    done = 0
    for match in WORD_PATTERN.finditer(text):
        a, b = strip_punctuation(text, *match.span())
        spelling = dictionary.find(text[a:b])
        if spelling is None:
            continue
        phones = parse_phones(spelling)
        if phones is not None:
            spelling = _make_placeholder(len(pronunciations))
            pronunciations[spelling] = phones
        place = min(c.start for c in chars[a:b]), max(c.stop for c in chars[a:b])
        replaced += chars[done:a] + [_Char(c, *place) for c in spelling]
        done = b
    return replaced + chars[done:]


def _write_out_signs(chars: list[_Char], language: str) -> list[_Char]:
    """Write out signs in words of the language. Words reach over the sign and the character that it is joined to."""
    text = "".join(c.char for c in chars)
    written: list[_Char] = []
    done = 0
    for start, stop, words in find_replacements(text, language):
        joined = stop < len(text) and not text[stop].isspace() and words.rstrip() != words
        part = chars[start : stop + joined]
        place = min(c.start for c in part), max(c.stop for c in part)
        written += chars[done:start] + [_Char(c, *place) for c in words]
        done = stop
    written += chars[done:]
    return [c._replace(char=_ORDINAL_LETTERS.get(c.char, c.char)) for c in written]


def _say_fragments(chars: list[_Char], language: str, pronunciations: dict[str, str]) -> list[_Char]:
    """Replace stutters and interjections by placeholders for their phones.

    pronunciations: takes {placeholder: phones}.
    """
    text = "".join(c.char for c in chars)
    replaced: list[_Char] = []
    done = 0
    for start, stop, phones in find_fragments(text, language):
        word = _make_placeholder(len(pronunciations))
        pronunciations[word] = phones
        place = min(c.start for c in chars[start:stop]), max(c.stop for c in chars[start:stop])
        replaced += chars[done:start] + [_Char(c, *place) for c in word]
        done = stop
    return replaced + chars[done:]


def _make_placeholder(number: int) -> str:
    """Make a word that no text holds, of letters alone: it passes unchanged through what reads numbers and signs."""
    letters = ""
    while True:
        letters, number = "bcdfghjklmnp"[number % 12] + letters, number // 12
        if not number:
            return f"Qzx{letters}qzx"
