"""Mapping of written words to the phones that say them, although readers spell out, join and drop words."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.voice.text.text_normalization import UNSPACED_LANGUAGES, WORD_PATTERN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mouthpiece.voice.text.g2p import PhonemizedToken
    from mouthpiece.voice.text.text_normalization import TextSegment

Span = tuple[int, int]
_CHARACTER_PATTERN = re.compile(r"\S")


class MappedWord(NamedTuple):
    """A written word: its place in what was written, and the phones (start, stop) that say it; equal when none do."""

    place: Span
    start: int
    stop: int


class _WordRange(NamedTuple):
    """Neighbouring written words (first to end, exclusive) and the phones that say them."""

    first: int
    end: int
    start: int
    stop: int


def map_words(
    segment: TextSegment, tokens: Sequence[PhonemizedToken], phone_spans: Sequence[Span], language: str
) -> list[MappedWord]:
    """Map every written word of a segment, in order, to the phones that say it.

    segment: the written text, every character of which knows its place.
    tokens: as `phonemize` read it.
    phone_spans: (start, stop) of the phones of every token; equal for a token without sounds.
    language: one of LANGUAGES; those without spaces are mapped character by character.
    """
    spoken, token_spans = _join_tokens(tokens)
    pattern = _CHARACTER_PATTERN if language in UNSPACED_LANGUAGES else WORD_PATTERN
    written_spans, read_spans = ([match.span() for match in pattern.finditer(text)] for text in (segment.text, spoken))
    written = [segment.text[a:b] for a, b in written_spans]
    read = [spoken[a:b] for a, b in read_spans]
    groups = list(zip(read_spans, _align_words(written, read)))
    ranges = _merge_tokens(groups, token_spans, phone_spans, language)
    covered = {k for words in ranges for k in range(words.first, words.end)}
    silent = [_WordRange(k, k + 1, 0, 0) for k in range(len(written)) if k not in covered]
    return [
        MappedWord(segment.locate(written_spans[first][0], written_spans[end - 1][1]), start, stop)
        for first, end, start, stop in sorted(ranges + silent)
    ]


def _join_tokens(tokens: Sequence[PhonemizedToken]) -> tuple[str, list[Span]]:
    """Join tokens to the text that was read; return it and the place of every token in it."""
    text, spans = "", []
    for token in tokens:
        spans.append((len(text), len(text) + len(token.text)))
        text += token.text + (" " if token.followed_by_space else "")
    return text, spans


def _align_words(written: list[str], read: list[str]) -> list[Span | None]:
    """Align two sequences of words: for every word as read the range of written words that it belongs to, or None."""
    groups: list[Span | None] = [None] * len(read)
    for _, a, b, c, d in difflib.SequenceMatcher(None, written, read, autojunk=False).get_opcodes():
        for k in range(c, d):
            if b - a == d - c:
                groups[k] = (a + k - c, a + k - c + 1)
            elif b > a:
                groups[k] = (a, b)
            elif written:  # read, not written: with the word before it
                groups[k] = (max(0, a - 1), max(0, a - 1) + 1)
    return groups


def _merge_tokens(
    groups: list[tuple[Span, Span | None]], token_spans: list[Span], phone_spans: Sequence[Span], language: str
) -> list[_WordRange]:
    """Collect the written words of every token; tokens that share words are merged.

    groups: of every word as read its place in the text that was read, and the written words it belongs to.
    """
    ranges: list[_WordRange] = []
    for (a, b), phones in zip(token_spans, phone_spans):
        inside = [group for (start, stop), group in groups if start < b and stop > a and group is not None]
        if not inside:
            continue
        words = _WordRange(min(first for first, _ in inside), max(end for _, end in inside), *phones)
        if ranges and _share_words(ranges[-1], words, language):
            words = _merge_ranges(ranges.pop(), words)
        ranges.append(words)
    return ranges


def _share_words(before: _WordRange, after: _WordRange, language: str) -> bool:
    same_word = language not in UNSPACED_LANGUAGES and after.first == before.first
    return after.first < before.end or same_word


def _merge_ranges(before: _WordRange, after: _WordRange) -> _WordRange:
    """Merge two ranges of words; phones of a range without sounds do not count."""
    sounding = [(words.start, words.stop) for words in (before, after) if words.start < words.stop]
    start, stop = (sounding[0][0], sounding[-1][1]) if sounding else (after.start, after.stop)
    if len(sounding) == 2:
        start, stop = min(before.start, after.start), max(before.stop, after.stop)
    return _WordRange(before.first, max(before.end, after.end), start, stop)
