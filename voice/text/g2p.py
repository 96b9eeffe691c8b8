"""Readers: text of one language to pieces with phones. English by hibari-tts, others by espeak-ng and misaki where
installed.
"""

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
    from types import ModuleType
    from typing import Any

    from hibari.g2p import G2P

_ESPEAK = {"es": "es", "fr": "fr", "it": "it", "pt-br": "pt-br", "hi": "hi"}
_PACKAGES = {"ja": "misaki pyopenjtalk-plus sudachipy sudachidict_core", "zh": "misaki[zh]"}
_SYMBOL_OF_IPA = {                        # what espeak writes with a tie is one symbol of the voices
    "a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q", "s^s": "S", "t^s": "ʦ", "t^ʃ": "ʧ", "ɔ^ɪ": "Y",
}  # fmt: skip
_WIDE_MARKS = str.maketrans({"、": ", ", "，": ", ", "。": ". ", "．": ". ", "！": "! ", "：": ": ", "；": "; ", "？": "? ", "「": "“", "」": "”",
                             "《": "“", "》": "”", "（": "(", "）": ")", "«": "“", "»": "”", "–": "—", "।": ".", "¿": "", "¡": ""})  # fmt: skip
_MARKS = ';:,.!?—…"“”()'


class PhonemizedToken(NamedTuple):
    """What was read, its phones, and whether a space follows."""

    text: str
    phones: str
    followed_by_space: bool


def phonemize(text: str, language: str, pronunciations: dict) -> list[PhonemizedToken]:
    """The pieces of a text, words and marks, in order.

    text: as mouthpiece.voice.text.text_normalization gives it.  language: one of
    mouthpiece.voice.text.text_normalization.LANGUAGES.
    said: dict, word -> phones that the user's dictionary gives it.
    Raises Missing with the command that helps when a package is not there.
    Source: hibari-tts (after misaki); espeak-ng; misaki for Japanese and Chinese.
    """
    if language.startswith("en"):
        return _phonemize_english(text, language == "en-gb", pronunciations)
    if language in _ESPEAK:
        return _phonemize_by_espeak(text, _ESPEAK[language], pronunciations)
    return (_phonemize_japanese if language == "ja" else _phonemize_chinese)(text, pronunciations)


@cache
def load_english_g2p(british: bool) -> G2P:
    """Load hibari-tts's grapheme-to-phoneme converter of English."""
    from hibari.g2p import G2P  # reads its lexicons: 0.5 s

    return G2P(british=british)


def _phonemize_english(text: str, british: bool, pronunciations: dict) -> list[PhonemizedToken]:
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


def _fix_case(text: str, lexicon) -> str:
    """The text with words written in capitals in small letters, where they are words: GO is no G. O.; USA and NASA
    stay.

    In a text all in capitals those that the lexicon also has in capitals (IT, US, WHO) are taken for words too.
    """
    words = [w for w in re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", text) if len(w) > 1]
    shouted = sum(w.isupper() for w in words)
    all_caps = shouted > 1 and shouted > 0.6 * len(words)

    def lower(match) -> str:
        word = match.group()
        small = word.lower()
        if not word.isupper() or len(small) != len(word) or len(word) < 2:
            return word
        known = small in lexicon or small.replace("’", "'") in lexicon or "'" in small or "’" in small
        return small if known and (all_caps or word not in lexicon) else word

    return re.sub(r"[^\W\d_]+(?:['’][^\W\d_]+)*", lower, text)


def _phonemize_by_espeak(text: str, voice: str, pronunciations: dict[str, Any]) -> list[PhonemizedToken] | None:
    """Clause by clause, so that words run together as the language has it, and yet every word knows its phones."""
    text = text.translate(_WIDE_MARKS)
    out, clause = [], []

    def close() -> None:
        if clause:
            out.extend(
                PhonemizedToken(w, p, g)
                for (w, g), p in zip(clause, _phonemize_clause([w for w, _ in clause], voice), strict=True)
            )
            clause.clear()

    for match in re.finditer(rf"\s+|[{re.escape(_MARKS)}](?=\D|$)|—|…|(?:(?![{re.escape(_MARKS)}](?:\D|$))\S)+", text):
        part = match.group()
        gap = text[match.end() : match.end() + 1].isspace()
        if part.isspace():
            continue
        if part in _MARKS or part in pronunciations:
            close()
            out.append(PhonemizedToken(part, pronunciations.get(part, part), gap))
        else:
            clause.append((part, gap))
    close()
    return out


def _phonemize_clause(words: list[str], voice: str) -> list[str] | None:
    """The phones of each word of a clause, as said in the clause."""
    whole, alone = _run_espeak(" ".join(words), voice).split(), [_run_espeak(w, voice) for w in words]
    counts = [len(a.split()) for a in alone]
    if len(whole) == len(words):
        return whole
    if len(whole) == sum(counts):
        edges = [sum(counts[:k]) for k in range(len(counts) + 1)]
        return [" ".join(whole[a:b]) for a, b in zip(edges, edges[1:])]
    return _split_phones(" ".join(whole), alone)


def _split_phones(whole, alone):
    """`whole` cut into as many parts as there are words, where the words said alone suggest it."""
    single = " ".join(alone)
    matcher = difflib.SequenceMatcher(None, single, whole, autojunk=False)
    anchors = sorted((b.a + k, b.b + k) for b in matcher.get_matching_blocks() for k in range(b.size))
    edges, at = [0], 0
    for word in alone[:-1]:
        at += len(word) + 1
        edges.append(max(edges[-1], next((b for a, b in anchors if a >= at), len(whole))))
    return [whole[a:b].strip() for a, b in zip(edges, edges[1:] + [len(whole)])]


@cache
def _load_espeak():
    loader = _import_module("espeakng_loader", "pip install espeakng-loader, or: pip install 'mouthpiece[voices]'")
    library = ctypes.CDLL(loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    if library.espeak_Initialize(2, 0, loader.get_data_path().encode(), 0) <= 0:  # 2: sound is fetched, never played
        raise MissingDependencyError(
            "espeak-ng: it does not start.", hint="Run: pip install --force-reinstall espeakng-loader", code="no_espeak"
        )
    return library


def _run_espeak(text: str, voice: str) -> str:
    """A text as espeak-ng says it, in symbols of the voices."""
    library = _load_espeak()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise MissingDependencyError(
            f"espeak-ng: it has no voice '{voice}'.",
            hint="Run: pip install --force-reinstall espeakng-loader",
            code="no_espeak",
        )
    mode, out = 2 | 0x80 | ord("^") << 8, []  # IPA, tied by ^
    rest = ctypes.pointer(ctypes.c_char_p(text.encode()))
    while rest.contents.value is not None:
        out.append((library.espeak_TextToPhonemes(rest, 1, mode) or b"").decode())
    phones = re.sub(r"\([a-z^-]+\)", "", " ".join(out))  # "(en)": another language begins
    for tied, symbol in _SYMBOL_OF_IPA.items():
        phones = phones.replace(tied, symbol)
    return phones.replace("^", "").replace("-", "").strip()


def _phonemize_chinese(text: str, pronunciations: dict) -> list[PhonemizedToken]:
    g2p = _import_module("misaki.zh", _get_install_command("zh")).ZHG2P
    jieba, cn2an = (
        _import_module("jieba", _get_install_command("zh")),
        _import_module("cn2an", _get_install_command("zh")),
    )
    jieba.setLogLevel(60)
    jieba.dt.tmp_dir = str(make_cache_folder("jieba"))
    out = []
    for match in re.finditer(r"[A-Za-z]+|\d+(?:\.\d+)?|[^\W\dA-Za-z_]+|\S", text.translate(_WIDE_MARKS)):
        part = match.group()
        if part in pronunciations or part in _MARKS:
            out.append(PhonemizedToken(part, pronunciations.get(part, part), True))
        elif part[0].isdigit():
            out.append(PhonemizedToken(part, g2p.word2ipa(cn2an.an2cn(part, "low")), True))
        elif part.isascii():
            out += _phonemize_english(part, False, {})[:-1] + [
                _phonemize_english(part, False, {})[-1]._replace(followed_by_space=True)
            ]
        else:
            out += [PhonemizedToken(word, g2p.word2ipa(word), True) for word in jieba.lcut(part)]
    # "no syllable of its own": the voices have no sign for it
    return _drop_spaces_before_marks([p._replace(phones=p.phones.replace("\u032f", "")) for p in out])


def _phonemize_japanese(text, pronunciations):
    g2p = _import_module("misaki.ja", _get_install_command("ja")).JAG2P(version="pyopenjtalk")
    out = []
    for part in re.split(rf"({'|'.join(pronunciations)})", text) if pronunciations else [text]:
        if part in pronunciations:
            out.append(PhonemizedToken(part, pronunciations[part], True))
        elif part.strip():
            out += [PhonemizedToken(t.text, t.phonemes or "", True) for t in g2p(part)[1]]
    return _drop_spaces_before_marks(out)


def _drop_spaces_before_marks(read: list[PhonemizedToken]) -> list[PhonemizedToken]:
    """The pieces without spaces before marks."""
    return [
        p._replace(followed_by_space=p.followed_by_space and not (k + 1 < len(read) and read[k + 1].text in _MARKS))
        for k, p in enumerate(read)
    ]


def _get_install_command(language: str) -> str:
    return f"pip install {_PACKAGES[language]}"


def _import_module(name: str, remedy: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise MissingDependencyError(
            f"reading aloud needs the package {missing}.", hint=f"Run: {remedy}", code="no_reader"
        ) from error
