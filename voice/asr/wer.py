"""Word errors of recognised speech: words compared without spelling, numbers and homophones, and what was lost."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.voice.asr.word_normalization import find_number_words, normalize_by_category, normalize_english

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LETTER_LANGUAGES = ("zh", "yue", "ja", "th", "lo", "my", "km")  # written without spaces: compared letter by letter
MIN_SIMILARITY = 0.6  # share of sounds that two words have in common when one is the other, misspelt or misheard
MAX_JOINED_WORDS = 3  # "foot ball" is "football", "c 2 again" never "c2again"
ANCHOR_WORDS = 4  # equal words in a row that belong together when they are nowhere else
_MAX_CELLS = 40_000  # in larger tables anchors are looked for; in longer stretches sounds are not compared
_DIGITS = dict(zip("0123456789", "zero one two three four five six seven eight nine".split()))
_VARIANT = re.compile(r"\(\d+\)$")


class WordErrors(NamedTuple):
    """How far recognised speech is from what was said: Levenshtein distance over words.

    errors: words wrong, missing or too many.
    words: words of the reference.
    rate: errors / max(1, words).
    lost: reference words of which nothing was recognised, not even something that sounds like them.
    added: words recognised that nobody said.
    pairs: (said, heard) in order; None on one side for a word missing or too many.
    """

    errors: int
    words: int
    rate: float
    lost: tuple[str, ...]
    added: tuple[str, ...]
    pairs: tuple[tuple[str | None, str | None], ...]


class _Pair(NamedTuple):
    """Words that belong to each other; None on one side for a word missing or too many. wrong: 1 for an error."""

    said: str | None
    heard: str | None
    wrong: int


def normalize_words(text: str, language: str = "en") -> list[str]:
    """Normalize a text to the words that are compared: lower case, no punctuation, numbers as they are spoken.

    language: code such as "en", "en-gb" or "de". English numbers are digits, those of other languages words; a negative
    one has "minus" before it in either. Fragments of stutters and interjections without vowels are left out.
    """
    base = get_base_language(language)
    if base == "en":
        return normalize_english(str(text))
    return normalize_by_category(str(text), base, base in LETTER_LANGUAGES)


def get_base_language(code: str) -> str:
    """Get the language of a code without its region: "en-GB" -> "en". Source: ISO 639."""
    return re.split(r"[-_]", str(code).strip().lower())[0]


def join_words(words: Iterable[str], language: str = "en") -> str:
    """Join words, with spaces where the language has them."""
    return ("" if get_base_language(language) in LETTER_LANGUAGES else " ").join(words)


def count_word_errors(reference: str, heard: str, language: str = "en") -> WordErrors:
    """Count the word errors of a text heard against the text said, by the least number of edits.

    language: as for `normalize_words`.
    English homophones and split or joined words are not errors.
    """
    said, got = (normalize_words(text, language) for text in (reference, heard))
    english = get_base_language(language) == "en"
    pairs = _align_words(said, got, english)
    numbers = find_number_words((reference, heard), get_base_language(language))
    errors, lost, added = 0, [], []
    for pair in pairs:
        errors += pair.wrong
        if pair.said is None:
            added += [pair.heard] if pair.heard is not None else []
        elif (
            pair.heard is None
            or pair.wrong
            and (
                _are_numbers(pair.said, pair.heard, numbers) or not is_similar_sounding(pair.said, pair.heard, english)
            )
        ):
            lost.append(pair.said)
    rate = errors / max(1, len(said))
    return WordErrors(errors, len(said), rate, tuple(lost), tuple(added), tuple(pair[:2] for pair in pairs))


def _are_numbers(said: str, heard: str, numbers: frozenset[str]) -> bool:
    """Find out whether two words are of numbers: 1984 for 1985 is not the same number misheard by a little."""
    return all(word in numbers or any(char.isdigit() for char in word) for word in (said, heard))


def _align_words(said: list[str], heard: list[str], english: bool) -> list[_Pair]:
    """Align two texts at the least cost; long ones in stretches between their anchors."""
    anchors = _find_anchors(said, heard) if len(said) * len(heard) > _MAX_CELLS else []
    pairs, i, j = [], 0, 0
    for a, b in [*anchors, (len(said), len(heard))]:
        pairs += _align_stretch(said[i:a], heard[j:b], english)
        i, j = a, b
    return pairs


def _find_anchors(said: list[str], heard: list[str]) -> list[tuple[int, int]]:
    """Find places (i, j), rising in both texts, of the same ANCHOR_WORDS words that stand nowhere else in either."""
    places = []
    for words in (said, heard):
        runs = [tuple(words[k : k + ANCHOR_WORDS]) for k in range(len(words) - ANCHOR_WORDS + 1)]
        counts = Counter(runs)
        places.append({run: k for k, run in enumerate(runs) if counts[run] == 1})
    # the longest rising chain, by patience sorting; a chain is (last place, chain before it)
    ends: list[int] = []
    chains: list[tuple] = []
    for i, j in sorted((i, places[1][run]) for run, i in places[0].items() if run in places[1]):
        k = bisect_left(ends, j)
        ends[k : k + 1], chains[k : k + 1] = [j], [((i, j), chains[k - 1] if k else None)]
    chain, anchors = chains[-1] if chains else None, []
    while chain:
        place, chain = chain
        anchors.append(place)
    return anchors[::-1]


# (words said, words heard) that one step takes: equal or wrong, missing, too many; then split or joined
_STEPS = [(1, 1), (1, 0), (0, 1)] + [step for n in range(2, MAX_JOINED_WORDS + 1) for step in ((n, 1), (1, n))]


def _align_stretch(said: list[str], heard: list[str], english: bool) -> list[_Pair]:
    """Align one stretch by dynamic programming: fewest errors, and of those the way that loses fewest words.

    Several words that join to one are one entry with spaces.
    """
    by_sound = len(said) * len(heard) <= _MAX_CELLS
    costs = {(0, 0): (0, 0)}  # (i, j) -> errors, lost words
    ways: dict[tuple[int, int], tuple[tuple[int, int], _Pair]] = {}  # (i, j) -> where from, and the last pair
    for i in range(len(said) + 1):
        for j in range(len(heard) + 1):
            for di, dj in _STEPS:
                if di > i or dj > j:
                    continue
                pair = _compare_words(said[i - di : i], heard[j - dj : j], english)
                if pair is None:
                    continue
                errors, lost = costs[i - di, j - dj]
                cost = errors + pair.wrong, lost + _is_lost(pair, by_sound, english)
                if (i, j) not in costs or cost < costs[i, j]:
                    costs[i, j], ways[i, j] = cost, ((i - di, j - dj), pair)
    pairs, at = [], (len(said), len(heard))
    while at != (0, 0):
        at, pair = ways[at]
        pairs.append(pair)
    return pairs[::-1]


def _compare_words(said: list[str], heard: list[str], english: bool) -> _Pair | None:
    """Compare the words of one step; None for several that do not join to what is on the other side."""
    a, b = " ".join(said), " ".join(heard)
    same = a.replace(" ", "") == b.replace(" ", "")
    if len(said) + len(heard) > 2 and not same:
        return None
    wrong = not same and not (english and bool(a) and bool(b) and is_homophone(a, b))
    return _Pair(a or None, b or None, int(wrong))


def _is_lost(pair: _Pair, by_sound: bool, english: bool) -> bool:
    """Decide whether a word said was lost. by_sound: a word that sounds like it does not lose it."""
    if not pair.wrong or pair.said is None:
        return False
    return not (pair.heard is not None and by_sound and is_similar_sounding(pair.said, pair.heard, english))


@lru_cache(maxsize=1 << 16)
def is_homophone(a: str, b: str) -> bool:
    """Find out whether two English words share a pronunciation: "their" and "there", "2" and "too".

    a, b: as `normalize_words` gives them.
    Source: CMUdict.
    """
    return bool(get_pronunciations(a) & get_pronunciations(b))


@lru_cache(maxsize=1 << 16)
def is_similar_sounding(a: str, b: str, english: bool = True) -> bool:
    """Find out whether one word may be the other, misheard by a little or spelt otherwise.

    a, b: as `normalize_words` gives them; shared length (1 - edits / longer) is MIN_SIMILARITY or more.
    english: compares sounds where both are in the dictionary; else letters.
    """
    spoken = [(p, q) for p in get_pronunciations(a) for q in get_pronunciations(b)] if english else []
    return any(_compute_similarity(p, q) >= MIN_SIMILARITY for p, q in spoken + [(a, b)])


def _compute_similarity(a: Sequence[str], b: Sequence[str]) -> float:
    """Compute 1 - edits / longer of two words or lists of phones."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return 1 - row[-1] / max(1, len(a), len(b))


def get_pronunciations(word: str) -> frozenset[tuple[str, ...]]:
    """Get the pronunciations of an English word as ARPABET phones; none for a word that is not in the dictionary.

    word: lower case; one digit is the word for it.
    Source: CMUdict as shipped with pocketsphinx.
    """
    return _load_cmudict().get(_DIGITS.get(word, word), frozenset())


@lru_cache(maxsize=1)
def _load_cmudict() -> dict[str, frozenset[tuple[str, ...]]]:
    from pocketsphinx import get_model_path

    found: dict[str, set[tuple[str, ...]]] = {}
    for line in Path(get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8").splitlines():
        word, *phones = line.split()
        found.setdefault(_VARIANT.sub("", word), set()).add(tuple(phones))
    return {word: frozenset(ways) for word, ways in found.items()}
