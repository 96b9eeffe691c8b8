"""Text to phones: what is said, in the alphabet of the voices, with a map from every written word to its phones and
characters.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.voice.plan.speech_plan import MARKS, PAUSE, Word
from mouthpiece.voice.text.g2p import phonemize
from mouthpiece.voice.text.lexicon import PronunciationDictionary, load_alphabet, read_dictionary
from mouthpiece.voice.text.text_normalization import (
    LANGUAGES,
    UNSPACED_LANGUAGES,
    WORD_PATTERN,
    normalize_text,
    strip_punctuation,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mouthpiece.voice.text.g2p import PhonemizedToken
    from mouthpiece.voice.text.text_normalization import TextSegment

MAX_UTTERANCE_PHONES = 400  # of one utterance; Kokoro holds 510 and hurries in the longest
__all__ = [
    "MAX_UTTERANCE_PHONES",
    "LANGUAGES",
    "Utterance",
    "load_alphabet",
    "read_dictionary",
    "make_utterance",
    "split_into_utterances",
]
_SENTENCE = re.compile(r"(?<=[.!?…])[\"”’)\]]*\s+|(?<=[。！？])|\n+")
_CLAUSE = re.compile(r"(?<=[,;:—])\s+|(?<=[，、；：])|(?<=—)")
_SPACE = re.compile(r"\s+")
_MAX_CHARS = 100  # of a word that is cut for want of any other place
_ABBREVIATED_TITLES = frozenset(
    "Mr Mrs Ms Dr St Prof Gen Sen Rep Rev Hon Jr Sr vs No Nos Vol Fig Capt Sgt Lt Col Sra Sr Dra Mme Mlle".split()
)


@dataclass(frozen=True)
class Utterance:
    """A text as phones.

    text: as written.  language: such as "en-us".
    phones: symbols of the alphabet; the first and the last are PAUSE.
    words: mouthpiece.voice.plan.speech_plan.Word, in order.
    pauses: pairs of a phone's index, where phones has PAUSE, and the wanted length in seconds (Fraction).
    notes: sentences on what was left out or understood.
    unsaid: words that are not spoken, as written.
    offset: where text begins in the whole that `utterances` was given.
    """

    text: str
    language: str
    phones: tuple[str, ...]
    words: tuple[Word, ...] = ()
    pauses: tuple[tuple[int, Fraction], ...] = ()
    notes: tuple[str, ...] = ()
    omitted_words: tuple[str, ...] = ()
    offset: int = 0


def make_utterance(text: str, language: str, dictionary=None) -> Utterance | None:
    """The text as phones: an Utterance.

    text: str; [pause 0.4s] and <break time="300ms"/> are pauses, other markup is left out with a note.
    language: one of LANGUAGES.
    dictionary: dict, mouthpiece.voice.text.lexicon.PronunciationDictionary, path of a file for `read_dictionary`, or
    None.
    Raises Refused when nothing in it can be spoken, UsageProblem for a language without voice, Missing for a package.
    Source: ours; phones by mouthpiece.voice.text.g2p.
    """
    if language not in LANGUAGES:
        hint = f"Languages with a voice: {', '.join(LANGUAGES)}."
        raise UsageError(f"language '{language}': there is no voice for it.", hint=hint, code="no_language")
    ready = normalize_text(text, language, _to_dictionary(dictionary))
    phones, words, pauses, unsaid, strange = [PAUSE], [], [], list(ready.omitted_words), set()
    for stretch in ready.segments:
        read = phonemize(stretch.text, language, ready.said)
        spans = _append_phones(phones, read, strange)
        for place, start, stop in _map_words(stretch, read, spans, language):
            a, b = strip_punctuation(text, *place)
            if stop > start and words and a < words[-1].chars[1]:  # one written word, said as several
                place = min(a, words[-1].chars[0]), max(b, words[-1].chars[1])
                words[-1] = Word(text[slice(*place)], words[-1].start, stop, place)
            elif stop > start:
                words.append(Word(text[a:b], start, stop, (a, b)))
            elif any(c.isalnum() for c in text[a:b]):
                unsaid.append(text[a:b])
        if stretch.pause_s:
            pauses.append((len(phones), stretch.pause_s))
            phones += [PAUSE, " "]
    while phones[-1] == " ":
        phones.pop()
    if not words:
        raise _make_nothing_error(text, unsaid, language)
    notes = ready.notes + (
        (f"sounds that the voices do not have, left out: {' '.join(sorted(strange))}",) if strange else ()
    )
    return Utterance(text, language, (*phones, PAUSE), tuple(words), tuple(pauses), notes, tuple(unsaid))


def _to_dictionary(source) -> None:
    if source is None or isinstance(source, PronunciationDictionary):
        return source
    return PronunciationDictionary(source) if isinstance(source, dict) else read_dictionary(source)


def _append_phones(phones: list[str], read: list[PhonemizedToken], strange: set) -> list[tuple[int, int]]:
    """Puts the pieces' phones behind `phones`; gives (start, stop) of the sounds in each, equal where it has none."""
    spans = []
    for piece in read:
        start = len(phones)
        for symbol in piece.phones:
            if symbol in load_alphabet():
                if symbol != " " or phones[-1] not in (" ", PAUSE):
                    phones.append(symbol)
            elif not symbol.isspace():
                strange.add(symbol)
        sounding = [k for k in range(start, len(phones)) if phones[k] not in MARKS]
        spans.append((sounding[0], sounding[-1] + 1) if sounding else (start, start))
        if piece.followed_by_space and phones[-1] not in (" ", PAUSE):
            phones.append(" ")
    return spans


def _map_words(
    stretch: TextSegment, read: list[PhonemizedToken], spans: list[tuple[int, int]], language: str
) -> list[tuple[tuple, int, int]]:
    """For every written word, in order: its place in what was written, and the phones (start, stop) that say it."""
    text, spoken, at = stretch.text, "", []
    for piece in read:
        at.append((len(spoken), len(spoken) + len(piece.text)))
        spoken += piece.text + (" " if piece.followed_by_space else "")
    pattern = re.compile(r"\S") if language in UNSPACED_LANGUAGES else WORD_PATTERN
    ours, theirs = ([m.span() for m in pattern.finditer(t)] for t in (text, spoken))
    group = _align_word_groups([text[a:b] for a, b in ours], [spoken[a:b] for a, b in theirs])
    out, last = [], None
    for (a, b), (start, stop) in zip(at, spans):
        inside = [group[k] for k, (c, d) in enumerate(theirs) if c < b and d > a and group[k] is not None]
        if not inside:
            continue
        first, end = min(i[0] for i in inside), max(i[1] for i in inside)
        if out and (first < last or (language not in UNSPACED_LANGUAGES and first == out[-1][0])):
            end = max(end, last)
            first, _, begun, ended = out.pop()
            start, stop = (
                (min(begun, start), max(ended, stop))
                if begun < ended and start < stop
                else (begun, ended)
                if begun < ended
                else (start, stop)
            )
        out.append((first, end, start, stop))
        last = end
    said = set()
    for first, end, _, _ in out:
        said |= set(range(first, end))
    out += [(k, k + 1, 0, 0) for k in range(len(ours)) if k not in said]
    return [(stretch.place(ours[a][0], ours[b - 1][1]), start, stop) for a, b, start, stop in sorted(out)]


def _align_word_groups(ours: list[str], theirs: list[str]) -> list[tuple[int, int]]:
    """For every word as read: the range of written words that it belongs to, or None."""
    out = [None] * len(theirs)
    for _, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        for k in range(c, d):
            if b - a == d - c:
                out[k] = (a + k - c, a + k - c + 1)
            elif b > a:
                out[k] = (a, b)
            elif ours:
                out[k] = (max(0, a - 1), max(0, a - 1) + 1)  # read, not written: with the word before it
    return out


def _make_nothing_error(text: str, unsaid: tuple | list[str], language: str) -> InvalidInputError:
    shown = text.strip()[:40]
    if not shown:
        return InvalidInputError("the text is empty: there is nothing to say.", hint="Give words.", code="no_text")
    if unsaid:
        why = f"its words are in a script that {language} is not written in, or have no reading"
        hint = f"Choose the language of the text (--voice decides it): {', '.join(LANGUAGES)}."
    else:
        why, hint = "it has no words, only signs or pauses", "Give words."
    return InvalidInputError(f"'{shown}' cannot be spoken: {why}.", hint=hint, code="no_speech")


def split_into_utterances(
    text: str, language: str, dictionary=None, max_phones: int = MAX_UTTERANCE_PHONES
) -> tuple[Utterance, ...] | None:
    """The text in Utterances of at most `most` phones, cut between sentences, else clauses, else words: a tuple.

    Parts without anything to say, such as a line of emoji, are left out; their signs are in the notes of the part
    before or after.
    text, language, dictionary: as for `utter`.
    Raises what `utter` raises, Refused when no part can be spoken.
    """
    dictionary, done = _to_dictionary(dictionary), []
    held, notes, trouble = None, [], None
    for start, stop in _split_at_patterns(text, (_SENTENCE, _CLAUSE, _SPACE), 0, len(text)):
        try:
            pieces_ = _split_to_length(text, start, stop, (language, dictionary, max_phones), 0)
        except InvalidInputError as error:
            if error.code not in ("no_text", "no_speech"):
                raise
            trouble = trouble or (error if error.code != "no_text" else None)
            notes += [] if error.code == "no_text" else [f"not said: {text[start:stop].strip()[:40]}"]
            continue
        for one in pieces_:
            if held is not None and len(held.phones) + len(one.phones) - 1 <= max_phones + 2:
                held = _join_utterances(text, held, one)
            else:
                done += [] if held is None else [held]
                held = one
    if held is None:
        raise trouble or _make_nothing_error(text, (), language)
    done.append(held)
    return (*done[:-1], replace(done[-1], notes=(*done[-1].notes, *dict.fromkeys(notes))))


def _split_at_patterns(text: str, patterns: tuple, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Where the parts of text[start:stop] lie, cut by the first of the patterns."""
    at = start
    for match in patterns[0].finditer(text, start, stop):
        if patterns[0] is _SENTENCE and not _ends_sentence(text, match):
            continue
        if match.end() > at:
            yield at, match.end()
        at = match.end()
    if stop > at:
        yield at, stop


def _ends_sentence(text: str, match) -> bool:
    before = re.search(r"(\w+)\.$", text[max(0, match.start() - 20) : match.start()])
    after = text[match.end() : match.end() + 1]
    return "\n" in match.group() or not (
        after.islower()
        or (before and (before[1] in _ABBREVIATED_TITLES or (len(before[1]) == 1 and before[1].isupper())))
    )


def _split_to_length(
    text: str, start: int, stop: int, how: tuple[str, None, int], level: int
) -> list[Utterance] | None:
    """Utterances of text[start:stop], none longer than wanted."""
    language, dictionary, most = how
    if stop - start <= 12 * most:  # else it is too long without asking
        one = replace(make_utterance(text[start:stop], language, dictionary), offset=start)
        if len(one.phones) - 2 <= most:
            return [one]
    patterns, out = (_SENTENCE, _CLAUSE, _SPACE), []
    if level < len(patterns):
        parts = list(_split_at_patterns(text, patterns[level:], start, stop))
        if level == 2:  # a few words together, not one by one
            parts = _halve(parts)
    else:
        parts = [(a, min(a + _MAX_CHARS, stop)) for a in range(start, stop, _MAX_CHARS)]
    for a, b in parts:
        try:
            out += _split_to_length(text, a, b, how, level + (len(parts) == 1 or level != 2))
        except InvalidInputError as error:
            if error.code not in ("no_text", "no_speech"):
                raise
    if not out:
        raise _make_nothing_error(text[start:stop], (text[start:stop],), language)
    return out


def _halve(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    middle = len(parts) // 2
    return [(parts[0][0], parts[middle - 1][1]), (parts[middle][0], parts[-1][1])] if middle else parts


def _join_utterances(text: str, a: Utterance, b: Utterance) -> Utterance:
    """Two utterances that follow each other as one."""
    shift, moved = len(a.phones) - 1 + (a.phones[-2] != " "), b.offset - a.offset
    middle = () if a.phones[-2] == " " else (" ",)
    words = tuple(
        Word(w.text, w.start + shift - 1, w.stop + shift - 1, (w.chars[0] + moved, w.chars[1] + moved)) for w in b.words
    )
    return Utterance(
        text[a.offset : b.offset + len(b.text)], a.language, a.phones[:-1] + middle + b.phones[1:], a.words + words,
        a.pauses + tuple((k + shift - 1, s) for k, s in b.pauses), tuple(dict.fromkeys(a.notes + b.notes)), a.omitted_words + b.omitted_words, a.offset,
    )  # fmt: skip
