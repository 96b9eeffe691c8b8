"""Grapheme to phoneme: English by hibari-tts, other languages by espeak-ng and misaki where these are installed."""

from __future__ import annotations

import ctypes
import difflib
import importlib
import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.folders import make_cache_folder

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from types import ModuleType

    from hibari.g2p import G2P
    from misaki.zh import ZHG2P

_ESPEAK_VOICES = {"es": "es", "fr": "fr", "it": "it", "pt-br": "pt-br", "hi": "hi"}
_PACKAGES = {"ja": "misaki pyopenjtalk-plus sudachipy sudachidict_core", "zh": "misaki[zh]"}
_REINSTALL_ESPEAK = "Run: pip install --force-reinstall espeakng-loader"
_SYMBOLS_OF_TIES = {  # what espeak writes with a tie is one symbol of the voices
    **{"a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q"},
    **{"s^s": "S", "t^s": "ʦ", "t^ʃ": "ʧ", "ɔ^ɪ": "Y"},
}
_NARROW_MARKS = str.maketrans(  # for marks of other scripts
    {
        **{"、": ", ", "，": ", ", "。": ". ", "．": ". ", "！": "! ", "：": ": ", "；": "; ", "？": "? "},
        **{"「": "“", "」": "”", "《": "“", "》": "”", "«": "“", "»": "”", "（": "(", "）": ")"},
        **{"–": "—", "।": ".", "¿": "", "¡": ""},
    }
)
_MARKS = ';:,.!?—…"“”()'
_LETTER_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ESPEAK_PARTS = re.compile(rf"\s+|[{re.escape(_MARKS)}](?=\D|$)|—|…|(?:(?![{re.escape(_MARKS)}](?:\D|$))\S)+")
_CHINESE_PARTS = re.compile(r"[A-Za-z]+|\d+(?:\.\d+)?|[^\W\dA-Za-z_]+|\S")
_ALL_CAPS_SHARE = 0.6  # a text with more of its words in capitals is written in capitals
_NON_SYLLABIC = "\u032f"  # "no syllable of its own": the voices have no sign for it
_ESPEAK_RETRIEVAL = 2  # espeak fetches sound and never plays it
_ESPEAK_IPA_TIED = 2 | 0x80 | ord("^") << 8  # IPA, tied by ^


class PhonemizedToken(NamedTuple):
    """A word or mark as it was read, its phones, and whether a space follows."""

    text: str
    phones: str
    followed_by_space: bool


def phonemize(text: str, language: str, pronunciations: Mapping[str, str]) -> list[PhonemizedToken]:
    """Convert a normalized text to words and marks with their phones, in order.

    text: of a TextSegment.
    language: one of mouthpiece.voice.text.text_normalization.LANGUAGES.
    pronunciations: {word of the text: phones that the user's dictionary gives it}.
    Raises MissingDependencyError with the command that helps when a package is not installed.
    Source: hibari-tts (after misaki); espeak-ng; misaki for Japanese and Chinese.
    """
    if language.startswith("en"):
        return _phonemize_english(text, language == "en-gb", pronunciations)
    if language in _ESPEAK_VOICES:
        return _phonemize_by_espeak(text, _ESPEAK_VOICES[language], pronunciations)
    return (_phonemize_japanese if language == "ja" else _phonemize_chinese)(text, pronunciations)


@cache
def load_english_g2p(british: bool) -> G2P:
    """Load hibari-tts's grapheme-to-phoneme converter of English."""
    from hibari.g2p import G2P  # reads its lexicons: 0.5 s

    return G2P(british=british)


def _phonemize_english(text: str, british: bool, pronunciations: Mapping[str, str]) -> list[PhonemizedToken]:
    from hibari.g2p import normalize

    g2p = load_english_g2p(british)
    tokens = g2p.tokenize(normalize(_fix_case(text, g2p.lexicon.golds)))
    for token in tokens:
        if token.text in pronunciations:
            token.phonemes, token.rating = pronunciations[token.text], 5
    read = g2p.phonemize_tokens(tokens)
    return [
        PhonemizedToken(token.text, pronunciations.get(token.text, token.phonemes) or "", bool(token.whitespace))
        for token in read
    ]


def _fix_case(text: str, lexicon: Container[str]) -> str:
    """Write words in capitals in small letters where the lexicon has them: GO is not G. O.; USA and NASA stay.

    In a text all in capitals those that the lexicon also has in capitals (IT, US, WHO) are taken for words too.
    """
    words = [word for word in _LETTER_WORD.findall(text) if len(word) > 1]
    capitals = sum(word.isupper() for word in words)
    all_caps = capitals > 1 and capitals > _ALL_CAPS_SHARE * len(words)

    def lower_word(match: re.Match[str]) -> str:
        word = match.group()
        small = word.lower()
        if not word.isupper() or len(small) != len(word) or len(word) < 2:
            return word
        known = small in lexicon or small.replace("’", "'") in lexicon or "'" in small or "’" in small
        return small if known and (all_caps or word not in lexicon) else word

    return _LETTER_WORD.sub(lower_word, text)


def _phonemize_by_espeak(text: str, voice: str, pronunciations: Mapping[str, str]) -> list[PhonemizedToken]:
    """Read clause by clause, so that words run together as the language has it, and yet every word knows its phones."""
    text = text.translate(_NARROW_MARKS)
    tokens: list[PhonemizedToken] = []
    clause: list[tuple[str, bool]] = []  # words, and whether a space follows
    for match in _ESPEAK_PARTS.finditer(text):
        part = match.group()
        if part.isspace():
            continue
        spaced = text[match.end() : match.end() + 1].isspace()
        if part in _MARKS or part in pronunciations:
            tokens += _phonemize_clause(clause, voice)
            clause = []
            tokens.append(PhonemizedToken(part, pronunciations.get(part, part), spaced))
        else:
            clause.append((part, spaced))
    return tokens + _phonemize_clause(clause, voice)


def _phonemize_clause(clause: list[tuple[str, bool]], voice: str) -> list[PhonemizedToken]:
    """Read the words of a clause. clause: (word, whether a space follows)."""
    if not clause:
        return []
    phones = _read_together([word for word, _ in clause], voice)
    return [PhonemizedToken(word, said, spaced) for (word, spaced), said in zip(clause, phones, strict=True)]


def _read_together(words: list[str], voice: str) -> list[str]:
    """Get the phones of each word of a clause, as said in the clause."""
    whole, alone = _run_espeak(" ".join(words), voice).split(), [_run_espeak(word, voice) for word in words]
    counts = [len(phones.split()) for phones in alone]
    if len(whole) == len(words):
        return whole
    if len(whole) == sum(counts):
        edges = [sum(counts[:k]) for k in range(len(counts) + 1)]
        return [" ".join(whole[a:b]) for a, b in zip(edges, edges[1:])]
    return _split_phones(" ".join(whole), alone)


def _split_phones(whole: str, alone: list[str]) -> list[str]:
    """Split the phones of a clause into as many parts as there are words, where the words said alone suggest it."""
    single = " ".join(alone)
    matcher = difflib.SequenceMatcher(None, single, whole, autojunk=False)
    anchors = sorted((b.a + k, b.b + k) for b in matcher.get_matching_blocks() for k in range(b.size))
    edges, at = [0], 0
    for word in alone[:-1]:
        at += len(word) + 1
        edges.append(max(edges[-1], next((b for a, b in anchors if a >= at), len(whole))))
    return [whole[a:b].strip() for a, b in zip(edges, edges[1:] + [len(whole)])]


@cache
def _load_espeak() -> ctypes.CDLL:
    """Load and start the library of espeak-ng. Raises MissingDependencyError."""
    loader = _import_module("espeakng_loader", "pip install espeakng-loader, or: pip install 'mouthpiece[voices]'")
    library = ctypes.CDLL(loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    if library.espeak_Initialize(_ESPEAK_RETRIEVAL, 0, loader.get_data_path().encode(), 0) <= 0:
        raise MissingDependencyError("espeak-ng: it does not start.", hint=_REINSTALL_ESPEAK, code="no_espeak")
    return library


def _run_espeak(text: str, voice: str) -> str:
    """Read a text with espeak-ng; return its phones in symbols of the voices. Raises MissingDependencyError."""
    library = _load_espeak()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise MissingDependencyError(f"espeak-ng: it has no voice '{voice}'.", hint=_REINSTALL_ESPEAK, code="no_espeak")
    clauses = []
    rest = ctypes.pointer(ctypes.c_char_p(text.encode()))
    while rest.contents.value is not None:
        clauses.append((library.espeak_TextToPhonemes(rest, 1, _ESPEAK_IPA_TIED) or b"").decode())
    phones = re.sub(r"\([a-z^-]+\)", "", " ".join(clauses))  # "(en)": another language begins
    for tied, symbol in _SYMBOLS_OF_TIES.items():
        phones = phones.replace(tied, symbol)
    return phones.replace("^", "").replace("-", "").strip()


def _phonemize_chinese(text: str, pronunciations: Mapping[str, str]) -> list[PhonemizedToken]:
    g2p = _import_module("misaki.zh", _get_install_command("zh")).ZHG2P
    jieba = _import_module("jieba", _get_install_command("zh"))
    cn2an = _import_module("cn2an", _get_install_command("zh"))
    jieba.setLogLevel(60)
    jieba.dt.tmp_dir = str(make_cache_folder("jieba"))
    tokens: list[PhonemizedToken] = []
    for match in _CHINESE_PARTS.finditer(text.translate(_NARROW_MARKS)):
        part = match.group()
        if part in pronunciations or part in _MARKS:
            tokens.append(PhonemizedToken(part, pronunciations.get(part, part), True))
        elif part[0].isdigit():
            tokens.append(PhonemizedToken(part, g2p.word2ipa(cn2an.an2cn(part, "low")), True))
        elif part.isascii():
            *before, last = _phonemize_english(part, False, {})
            tokens += [*before, last._replace(followed_by_space=True)]
        else:
            tokens += [PhonemizedToken(word, _read_chinese_word(g2p, word), True) for word in jieba.lcut(part)]
    syllabic = [token._replace(phones=token.phones.replace(_NON_SYLLABIC, "")) for token in tokens]
    return _drop_spaces_before_marks(syllabic)


def _read_chinese_word(g2p: type[ZHG2P], word: str) -> str:
    """Read a word with misaki, without the characters that it has no reading for: they raise a bare ValueError."""
    try:
        return g2p.word2ipa(word)
    except ValueError:
        return "".join(_read_chinese_word(g2p, char) for char in word) if len(word) > 1 else ""


def _phonemize_japanese(text: str, pronunciations: Mapping[str, str]) -> list[PhonemizedToken]:
    g2p = _import_module("misaki.ja", _get_install_command("ja")).JAG2P(version="pyopenjtalk")
    tokens: list[PhonemizedToken] = []
    for part in re.split(rf"({'|'.join(pronunciations)})", text) if pronunciations else [text]:
        if part in pronunciations:
            tokens.append(PhonemizedToken(part, pronunciations[part], True))
        elif part.strip():
            tokens += [PhonemizedToken(token.text, token.phonemes or "", True) for token in g2p(part)[1]]
    return _drop_spaces_before_marks(tokens)


def _drop_spaces_before_marks(tokens: list[PhonemizedToken]) -> list[PhonemizedToken]:
    before_mark = [following.text in _MARKS for following in tokens[1:]] + [False]
    return [
        token._replace(followed_by_space=token.followed_by_space and not mark)
        for token, mark in zip(tokens, before_mark)
    ]


def _get_install_command(language: str) -> str:
    return f"pip install {_PACKAGES[language]}"


def _import_module(name: str, remedy: str) -> ModuleType:
    """Import a module of an optional package. Raises MissingDependencyError with the remedy."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise MissingDependencyError(
            f"reading aloud needs the package {missing}.", hint=f"Run: {remedy}", code="no_reader"
        ) from error
