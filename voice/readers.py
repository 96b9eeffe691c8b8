"""Readers: text of one language to pieces with phones. English by hibari-tts, others by espeak-ng and misaki where installed."""

import ctypes
import difflib
import importlib
import re
from functools import cache
from typing import NamedTuple

from engine.cache import cache_folder
from engine.errors import Missing

_ESPEAK = {"es": "es", "fr": "fr", "it": "it", "pt-br": "pt-br", "hi": "hi"}
_EXTRAS = {"ja": "misaki pyopenjtalk-plus sudachipy sudachidict_core", "zh": "misaki[zh]"}
_AS_SYMBOLS = {                        # what espeak writes with a tie is one symbol of the voices
    "a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q", "s^s": "S", "t^s": "ʦ", "t^ʃ": "ʧ", "ɔ^ɪ": "Y",
}  # fmt: skip
_WIDE_MARKS = str.maketrans({"、": ", ", "，": ", ", "。": ". ", "．": ". ", "！": "! ", "：": ": ", "；": "; ", "？": "? ", "「": "“", "」": "”",
                             "《": "“", "》": "”", "（": "(", "）": ")", "«": "“", "»": "”", "–": "—", "।": ".", "¿": "", "¡": ""})  # fmt: skip
_MARKS = ';:,.!?—…"“”()'


class Piece(NamedTuple):
    """What was read, its phones, and whether a space follows.

    Source: ours.
    """

    text: str
    phones: str
    gap: bool


def pieces(text, language, said):
    """The pieces of a text, words and marks, in order.

    text: as voice.written gives it.  language: one of voice.written.LANGUAGES.
    said: dict, word -> phones that the user's dictionary gives it.
    Raises Missing with the command that helps when a package is not there.
    Source: hibari-tts (after misaki); espeak-ng; misaki for Japanese and Chinese.
    """
    if language.startswith("en"):
        return _english(text, language == "en-gb", said)
    if language in _ESPEAK:
        return _by_espeak(text, _ESPEAK[language], said)
    return (_japanese if language == "ja" else _chinese)(text, said)


@cache
def _g2p(british):
    from hibari.g2p import G2P  # reads its lexicons: 0.5 s

    return G2P(british=british)


def _english(text, british, said):
    from hibari.g2p import normalize

    g2p = _g2p(british)
    tokens = g2p.tokenize(normalize(_lowered(text, g2p.lexicon.golds)))
    for token in tokens:
        if token.text in said:
            token.phonemes, token.rating = said[token.text], 5
    read = g2p.phonemize_tokens(tokens)
    return [Piece(token.text, said.get(token.text, token.phonemes) or "", bool(token.whitespace)) for token in read]


def _lowered(text, lexicon):
    """The text with words written in capitals in small letters, where they are words: GO is no G. O.; USA and NASA stay.

    In a text all in capitals those that the lexicon also has in capitals (IT, US, WHO) are taken for words too.
    """
    words = [w for w in re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", text) if len(w) > 1]
    shouted = sum(w.isupper() for w in words)
    all_caps = shouted > 1 and shouted > 0.6 * len(words)

    def lower(match):
        word = match.group()
        small = word.lower()
        if not word.isupper() or len(small) != len(word) or len(word) < 2:
            return word
        known = small in lexicon or small.replace("’", "'") in lexicon or "'" in small or "’" in small
        return small if known and (all_caps or word not in lexicon) else word

    return re.sub(r"[^\W\d_]+(?:['’][^\W\d_]+)*", lower, text)


def _by_espeak(text, voice, said):
    """Clause by clause, so that words run together as the language has it, and yet every word knows its phones."""
    text = text.translate(_WIDE_MARKS)
    out, clause = [], []

    def close():
        if clause:
            out.extend(Piece(w, p, g) for (w, g), p in zip(clause, _clause_phones([w for w, _ in clause], voice), strict=True))
            clause.clear()

    for match in re.finditer(rf"\s+|[{re.escape(_MARKS)}](?=\D|$)|—|…|(?:(?![{re.escape(_MARKS)}](?:\D|$))\S)+", text):
        part = match.group()
        gap = text[match.end() : match.end() + 1].isspace()
        if part.isspace():
            continue
        if part in _MARKS or part in said:
            close()
            out.append(Piece(part, said.get(part, part), gap))
        else:
            clause.append((part, gap))
    close()
    return out


def _clause_phones(words, voice):
    """The phones of each word of a clause, as said in the clause."""
    whole, alone = _espoken(" ".join(words), voice).split(), [_espoken(w, voice) for w in words]
    counts = [len(a.split()) for a in alone]
    if len(whole) == len(words):
        return whole
    if len(whole) == sum(counts):
        edges = [sum(counts[:k]) for k in range(len(counts) + 1)]
        return [" ".join(whole[a:b]) for a, b in zip(edges, edges[1:])]
    return _shared(" ".join(whole), alone)


def _shared(whole, alone):
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
def _espeak():
    loader = _module("espeakng_loader", "pip install espeakng-loader, or: pip install 'mouthpiece[voices]'")
    library = ctypes.CDLL(loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    if library.espeak_Initialize(2, 0, loader.get_data_path().encode(), 0) <= 0:  # 2: sound is fetched, never played
        raise Missing("espeak-ng: it does not start.", hint="Run: pip install --force-reinstall espeakng-loader", code="no_espeak")
    return library


def _espoken(text, voice):
    """A text as espeak-ng says it, in symbols of the voices."""
    library = _espeak()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise Missing(f"espeak-ng: it has no voice '{voice}'.", hint="Run: pip install --force-reinstall espeakng-loader", code="no_espeak")
    mode, out = 2 | 0x80 | ord("^") << 8, []                           # IPA, tied by ^
    rest = ctypes.pointer(ctypes.c_char_p(text.encode()))
    while rest.contents.value is not None:
        out.append((library.espeak_TextToPhonemes(rest, 1, mode) or b"").decode())
    phones = re.sub(r"\([a-z^-]+\)", "", " ".join(out))                # "(en)": another language begins
    for tied, symbol in _AS_SYMBOLS.items():
        phones = phones.replace(tied, symbol)
    return phones.replace("^", "").replace("-", "").strip()


def _chinese(text, said):
    g2p = _module("misaki.zh", _pip("zh")).ZHG2P
    jieba, cn2an = _module("jieba", _pip("zh")), _module("cn2an", _pip("zh"))
    jieba.setLogLevel(60)
    jieba.dt.tmp_dir = str(cache_folder("jieba"))
    out = []
    for match in re.finditer(r"[A-Za-z]+|\d+(?:\.\d+)?|[^\W\dA-Za-z_]+|\S", text.translate(_WIDE_MARKS)):
        part = match.group()
        if part in said or part in _MARKS:
            out.append(Piece(part, said.get(part, part), True))
        elif part[0].isdigit():
            out.append(Piece(part, g2p.word2ipa(cn2an.an2cn(part, "low")), True))
        elif part.isascii():
            out += _english(part, False, {})[:-1] + [_english(part, False, {})[-1]._replace(gap=True)]
        else:
            out += [Piece(word, g2p.word2ipa(word), True) for word in jieba.lcut(part)]
    return _tightened([p._replace(phones=p.phones.replace("\u032f", "")) for p in out])   # "no syllable of its own": the voices have no sign for it


def _japanese(text, said):
    g2p = _module("misaki.ja", _pip("ja")).JAG2P(version="pyopenjtalk")
    out = []
    for part in re.split(rf"({'|'.join(said)})", text) if said else [text]:
        if part in said:
            out.append(Piece(part, said[part], True))
        elif part.strip():
            out += [Piece(t.text, t.phonemes or "", True) for t in g2p(part)[1]]
    return _tightened(out)


def _tightened(read):
    """The pieces without spaces before marks."""
    return [p._replace(gap=p.gap and not (k + 1 < len(read) and read[k + 1].text in _MARKS)) for k, p in enumerate(read)]


def _pip(language):
    return f"pip install {_EXTRAS[language]}"


def _module(name, remedy):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise Missing(f"reading aloud needs the package {missing}.", hint=f"Run: {remedy}", code="no_reader") from error


