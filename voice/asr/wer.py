"""Words as they are compared: spelling, numbers and homophones put aside; what of a text was lost when it was heard."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

LETTER_LANGUAGES = ("zh", "yue", "ja", "th", "lo", "my", "km")  # written without spaces: compared letter by letter
# share of sounds two words must have in common for one to be a misspelling of the other
MIN_SIMILARITY = 0.6
MAX_JOINED_WORDS = 3  # "foot ball" is "football", "c 2 again" never "c2again"
ANCHOR_WORDS = 4  # equal words in a row that belong together when they are nowhere else
_MAX_CELLS = 40_000  # beyond, anchors are looked for; in longer stretches not what sounds alike
_DIGITS = dict(zip("0123456789", "zero one two three four five six seven eight nine".split()))
_VARIANT = re.compile(r"\(\d+\)$")


class WordErrors(NamedTuple):
    """How far what was heard is from what was said.

    errors: words wrong, missing or too many.  words: words of the reference.  rate: errors / max(1, words).
    lost: tuple of reference words of which nothing was heard, not even something that sounds like them.
    added: tuple of words heard that nobody said.
    pairs: tuple of (said, heard), in order; None on one side for a word missing or too many.
    Source: ours; Levenshtein distance over words.
    """

    errors: int
    words: int
    rate: float
    lost: tuple
    added: tuple
    pairs: tuple


def normalize_words(text: str, language: str = "en") -> list[str]:
    """The words of a text as they are compared: list of str, lower case, no punctuation, English numbers as digits.

    text: str.  language: code such as "en", "en-gb" or "de"; numbers of other languages stay as they are written.
    Source: whisper.normalizers, the rules under which word errors are published.
    """
    return _load_normalizer(get_base_language(language))(str(text)).split()


def get_base_language(code: str) -> str:
    """The two or three letters of a language, without region: "en-GB" -> "en". code: str. Source: ISO 639."""
    return re.split(r"[-_]", str(code).strip().lower())[0]


def join_words(words: Iterator, language: str = "en") -> str:
    """Words written one after another, with spaces where the language has them. words: iterable of str."""
    return ("" if get_base_language(language) in LETTER_LANGUAGES else " ").join(words)


@lru_cache(maxsize=8)
def _load_normalizer(language: str):
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer  # slow to import

    return (
        EnglishTextNormalizer() if language == "en" else BasicTextNormalizer(split_letters=language in LETTER_LANGUAGES)
    )


def count_word_errors(reference: str, heard: str, language: str = "en") -> WordErrors:
    """WordError of a text heard against the text said; English homophones and split or joined words are no errors.

    reference, heard: str.  language: as for `normal_words`.
    Source: ours; the least number of edits, found by dynamic programming.
    """
    said, got = (normalize_words(text, language) for text in (reference, heard))
    english = get_base_language(language) == "en"
    pairs = _align_words(said, got, english)
    errors, lost, added = 0, [], []
    for a, b, wrong in pairs:
        errors += wrong
        if b is None:
            lost.append(a)
        elif a is None:
            added.append(b)
        elif wrong and not is_similar_sounding(a, b, english):
            lost.append(a)
    return WordErrors(
        errors, len(said), errors / max(1, len(said)), tuple(lost), tuple(added), tuple((a, b) for a, b, _ in pairs)
    )


def _align_words(said: list[str], got: list[str], english: bool) -> list:
    """(said, heard, wrong) triples of the cheapest way through; long texts in stretches between their anchors."""
    out, i, j = [], 0, 0
    for a, b in (_find_anchors(said, got) if len(said) * len(got) > _MAX_CELLS else []) + [(len(said), len(got))]:
        out += _align_stretch(said[i:a], got[j:b], english)
        i, j = a, b
    return out


def _find_anchors(said, got):
    """Places (i, j) in rising order where the same ANCHOR_WORDS words stand that stand nowhere else in either text."""
    places = []
    for words in (said, got):
        runs = [tuple(words[k : k + ANCHOR_WORDS]) for k in range(len(words) - ANCHOR_WORDS + 1)]
        often = Counter(runs)
        places.append({run: k for k, run in enumerate(runs) if often[run] == 1})
    ends, chains = [], []  # the longest rising chain: patience sorting
    for i, j in sorted((i, places[1][run]) for run, i in places[0].items() if run in places[1]):
        k = bisect_left(ends, j)
        ends[k : k + 1], chains[k : k + 1] = [j], [((i, j), chains[k - 1] if k else None)]
    chain, out = chains[-1] if chains else None, []
    while chain:
        place, chain = chain
        out.append(place)
    return out[::-1]


def _align_stretch(said: list[str], got: list[str], english: bool) -> list:
    """The triples of one stretch by dynamic programming: fewest errors, and of those the way that loses fewest words.

    Several words that join to one are one entry with spaces.
    """
    best = {(0, 0): (0, 0, None, None)}  # (i, j) -> errors, losses, where from, triple
    patient = len(said) * len(got) <= _MAX_CELLS
    for i in range(len(said) + 1):
        for j in range(len(got) + 1):
            for di, dj in _STEPS:
                if di > i or dj > j:
                    continue
                a, b, before = " ".join(said[i - di : i]), " ".join(got[j - dj : j]), (i - di, j - dj)
                if di + dj > 2 and a.replace(" ", "") != b.replace(" ", ""):
                    continue
                wrong = a.replace(" ", "") != b.replace(" ", "") and not (english and di and dj and is_homophone(a, b))
                lost = wrong and di and not (dj and patient and is_similar_sounding(a, b, english))
                way = (best[before][0] + wrong, best[before][1] + lost)
                if (i, j) not in best or way < best[i, j][:2]:
                    best[i, j] = *way, before, (a or None, b or None, int(wrong))
    out, at = [], (len(said), len(got))
    while at != (0, 0):
        *_, at, triple = best[at]
        out.append(triple)
    return out[::-1]


_STEPS = [(1, 1), (1, 0), (0, 1)] + [step for n in range(2, MAX_JOINED_WORDS + 1) for step in ((n, 1), (1, n))]


@lru_cache(maxsize=1 << 16)
def is_homophone(a: str, b: str) -> bool:
    """Whether two English words share a pronunciation: "their" and "there", "2" and "too". a, b: normal words. Source:
    CMUdict.
    """
    return bool(get_pronunciations(a) & get_pronunciations(b))


@lru_cache(maxsize=1 << 16)
def is_similar_sounding(a: str, b: str, english: bool = True) -> bool:
    """Whether one word may be the other, misheard by a little or spelt otherwise.

    a, b: normal words.  english: bool, compare sounds where both are in the dictionary; else letters.
    Source: ours; shared length (1 - edits / longer) at least ALIKE.
    """
    spoken = [(p, q) for p in get_pronunciations(a) for q in get_pronunciations(b)] if english else []
    return any(_compute_similarity(p, q) >= MIN_SIMILARITY for p, q in spoken + [(a, b)])


def _compute_similarity(a: str | tuple[str, ...], b: str | tuple[str, ...]) -> float:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return 1 - row[-1] / max(1, len(a), len(b))


def get_pronunciations(word: str) -> frozenset:
    """Ways to say an English word: frozenset of tuples of ARPABET phones; empty for a word that is not in the
    dictionary.

    word: str, lower case; one digit is the word for it.
    Source: CMUdict as shipped with pocketsphinx.
    """
    return _load_cmudict().get(_DIGITS.get(word, word), frozenset())


@lru_cache(maxsize=1)
def _load_cmudict() -> dict[str, frozenset]:
    from pocketsphinx import get_model_path

    found = {}
    for line in Path(get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8").splitlines():
        word, *phones = line.split()
        found.setdefault(_VARIANT.sub("", word), set()).add(tuple(phones))
    return {word: frozenset(ways) for word, ways in found.items()}
