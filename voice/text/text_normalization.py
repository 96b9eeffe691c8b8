"""Written text made ready to be read aloud: markup, pauses, emoji and foreign scripts taken out, every character knows
where it stood.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.text.lexicon import parse_phones

if TYPE_CHECKING:
    from mouthpiece.voice.text.lexicon import PronunciationDictionary

PAUSE_RANGE_S = Fraction(25, 1000), Fraction(30)
LANGUAGES = ("en-us", "en-gb", "es", "fr", "it", "pt-br", "hi", "ja", "zh")
UNSPACED_LANGUAGES = ("ja", "zh")  # languages written without spaces
UNICODE_SCRIPTS = {
    "hi": ("LATIN", "DEVANAGARI"),
    "ja": ("LATIN", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "zh": ("LATIN", "CJK"),
}
WORD_PATTERN = re.compile(r"[^\s—–…]+")
_BREAKS_S = {
    "none": 0,
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
_LENGTH_PATTERN = re.compile(r"[+]?(\d+(?:\.\d*)?|\.\d+)\s*(ms|s)", re.IGNORECASE)
_READ_SYMBOLS = frozenset("°©®™№")  # of the categories that are left out otherwise
_EDGE_PUNCTUATION = (
    "".join(chr(c) for c in range(33, 127) if not chr(c).isalnum() and chr(c) not in "$%&+#@")
    + "।“”‘’«»¿¡…—–、。，．！？：；「」《》（）【】"
)


class _Char(NamedTuple):
    char: str
    start: int
    stop: int


@dataclass(frozen=True)
class TextSegment:
    """Text between two pauses.

    chars: as read aloud, each with where it stood.  pause_s: Fraction of silence wanted after it; 0 for none.
    """

    chars: tuple[_Char, ...]
    pause_s: Fraction = Fraction(0)

    @property
    def text(self) -> str:
        """As read aloud."""
        return "".join(c.char for c in self.chars)

    def place(self, start: int, stop: int) -> tuple[int, int]:
        """Where text[start:stop] stood in what was written: (from, to)."""
        part = self.chars[start:stop]
        return min(c.start for c in part), max(c.stop for c in part)


@dataclass(frozen=True)
class NormalizedText:
    """A text ready to be read aloud.

    stretches: tuple of Stretch.  said: dict, word in a stretch -> phones that the user's dictionary gives it.
    unsaid: words left out, as written.  notes: sentences on what was left out or understood.
    """

    segments: tuple[TextSegment, ...]
    said: dict
    omitted_words: tuple[str, ...]
    notes: tuple[str, ...]


def normalize_text(text: str, language: str, dictionary=None) -> NormalizedText | None:
    """What of a text can be read aloud in a language.

    text: str, as the user wrote it.  language: one of LANGUAGES.
    dictionary: mouthpiece.voice.text.lexicon.PronunciationDictionary or None.
    Raises Refused for a pause without a length between 0.025 and 30 s.
    Source: ours; SSML 1.1 for break.
    """
    parts, notes, symbols, current = [], [], [], []
    for match in _PARTS_PATTERN.finditer(text):
        kind, piece, at = match.lastgroup, match.group(), (match.start(), match.end())
        if kind in ("tag", "asked"):
            length_s = _parse_pause_s(piece, match[kind], kind)
            if kind == "tag":
                notes.append(f"{piece}: read as a pause of {float(length_s):g} s.")
            if length_s:
                parts.append((current, length_s))
                current = []
        elif kind == "markup":
            notes.append(f"{piece}: markup left out.")
            if re.match(r"</?(p|s|br|div|speak)\b", piece, re.IGNORECASE):
                current.append(_Char(" ", *at))
        else:
            current += _clean_characters(unescape(piece) if kind == "entity" else piece, at, symbols)
    parts.append((current, Fraction(0)))
    if symbols:
        notes.append(f"left out: {' '.join(dict.fromkeys(symbols))}")
    said, unsaid, stretches = {}, [], []
    for chars, pause_s in parts:
        chars = _drop_foreign_scripts(chars, language, unsaid)
        stretches.append(
            TextSegment(tuple(_apply_dictionary(chars, dictionary, said) if dictionary else chars), pause_s)
        )
    if unsaid:
        notes.append(f"not said, in a script that {language} is not written in: {' '.join(unsaid)[:200]}")
    return NormalizedText(tuple(stretches), said, tuple(unsaid), tuple(dict.fromkeys(notes)))


def strip_punctuation(text: str, start: int, stop: int) -> tuple[int, int]:
    """text[start:stop] without the punctuation at its ends: (from, to); the same when nothing else is in it."""
    a, b = start, stop
    if re.fullmatch(_ENTITY_PATTERN, text[a:b]):
        return a, b
    while a < b and (text[a] in _EDGE_PUNCTUATION or text[a].isspace()):
        a += 1
    while b > a and (text[b - 1] in _EDGE_PUNCTUATION or text[b - 1].isspace()):
        b -= 1
    return (a, b) if a < b else (start, stop)


def _parse_pause_s(piece: str, value: str, kind: str) -> Fraction | None:
    """The length of a pause in seconds."""
    named = re.search(r"""time\s*=\s*["']?([^"'/\s]*)""", value) if kind == "tag" else None
    strength = re.search(r"""strength\s*=\s*["']?([a-z-]+)""", value, re.IGNORECASE)
    length = value.strip() if kind == "asked" else named[1] if named else ""
    found = _LENGTH_PATTERN.fullmatch(length)
    if kind == "tag" and not named:
        return Fraction(_BREAKS_S.get(strength[1].lower() if strength else "medium", Fraction(3, 10)))
    length_s = Fraction(found[1].rstrip(".") or 0) / (1000 if found[2].lower() == "ms" else 1) if found else None
    if length_s is None or not PAUSE_RANGE_S[0] <= length_s <= PAUSE_RANGE_S[1]:
        hint = f"Write [pause 0.4s] or [pause 300ms], {float(PAUSE_RANGE_S[0]):g} to {float(PAUSE_RANGE_S[1]):g} s."
        raise InvalidInputError(f"{piece}: '{length}' is no length of a pause.", hint=hint, code="bad_pause")
    return length_s


def _clean_characters(piece: str, at: tuple[int, int], symbols: list) -> list[_Char]:
    """The characters of a piece that can be read aloud; what is left out of them goes to `symbols`."""
    composed = unicodedata.normalize("NFC", piece)
    if len(composed) == 1 and unicodedata.category(composed) in ("Ll", "Lu", "Lo", "Nd", "Lm"):
        composed = unicodedata.normalize("NFKC", composed)
    out = []
    for char in composed:
        kind = unicodedata.category(char)
        if kind in ("Cf", "Sk", "Mn", "Mc") and char not in "^`" and "DEVANAGARI" not in unicodedata.name(char, ""):
            continue  # marks of direction, joiners, variants, accents that found no letter
        if kind == "Nd":
            char = str(unicodedata.digit(char))
        if kind in ("So", "Co", "Cn", "Cs") and char not in _READ_SYMBOLS:
            symbols.append(char)
            char = " "
        out.append(_Char(" " if kind in ("Cc", "Zs", "Zl", "Zp") else char, *at))
    return out


def _drop_foreign_scripts(chars: list[_Char], language: str, unsaid: list) -> list[_Char]:
    """The characters without words in a script that the language is not written in."""
    scripts, text, out, kept = UNICODE_SCRIPTS.get(language, ("LATIN",)), "".join(c.char for c in chars), [], 0
    for match in re.finditer(r"[^\W\d_]+" if language in UNSPACED_LANGUAGES else r"\S+", text):
        letters = [c for c in match.group() if c.isalpha()]
        foreign = [c for c in letters if unicodedata.name(c, "?").split()[0] not in scripts]
        if not foreign:
            continue
        out += chars[kept : match.start()]
        if language in UNSPACED_LANGUAGES:  # a run may hold both
            out += [c for c in chars[match.start() : match.end()] if c.char not in foreign]
            unsaid.append("".join(c for c in match.group() if c in foreign))
        else:
            unsaid.append(match.group())
        kept = match.end()
    return out + chars[kept:]


def _apply_dictionary(chars: list[_Char], dictionary: PronunciationDictionary, pronunciations: dict) -> list[_Char]:
    """The characters with the words of the dictionary in their other spelling, or as stand-ins noted in `said`."""
    text, out, kept = "".join(c.char for c in chars), [], 0
    for match in WORD_PATTERN.finditer(text):
        a, b = strip_punctuation(text, *match.span())
        how = dictionary.find(text[a:b])
        if how is None:
            continue
        phones = parse_phones(how)
        if phones is not None:
            how = _make_placeholder(len(pronunciations))
            pronunciations[how] = phones
        place = min(c.start for c in chars[a:b]), max(c.stop for c in chars[a:b])
        out += chars[kept:a] + [_Char(c, *place) for c in how]
        kept = b
    return out + chars[kept:]


def _make_placeholder(number: int) -> str:
    """A word that no text holds, of letters alone, so that it passes unchanged through what reads numbers and signs."""
    letters = ""
    while True:
        letters, number = "bcdfghjklmnp"[number % 12] + letters, number // 12
        if not number:
            return f"Qzx{letters}qzx"
