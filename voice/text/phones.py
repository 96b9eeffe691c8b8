"""Text to phones: what is said, in the alphabet of the voices, and which phones say every written word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.voice.plan.speech_plan import MARKS, PAUSE, Word
from mouthpiece.voice.text.g2p import phonemize
from mouthpiece.voice.text.lexicon import PronunciationDictionary, load_alphabet, read_dictionary
from mouthpiece.voice.text.text_normalization import LANGUAGES, normalize_text, strip_punctuation
from mouthpiece.voice.text.word_mapping import map_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mouthpiece.voice.text.g2p import PhonemizedToken
    from mouthpiece.voice.text.word_mapping import MappedWord, Span

    DictionarySource = PronunciationDictionary | Mapping[str, str] | str | Path | None

MAX_UTTERANCE_PHONES = 400  # of one utterance; Kokoro holds 510 and hurries in the longest
_SENTENCE = re.compile(r"(?<=[.!?…])[\"”’)\]]*\s+|(?<=[。！？])|\n+")
_CLAUSE = re.compile(r"(?<=[,;:—])\s+|(?<=[，、；：])|(?<=—)")
_SPACE = re.compile(r"\s+")
_CUTS = (_SENTENCE, _CLAUSE, _SPACE)  # where a text is cut, the first that helps
_SPACE_LEVEL = _CUTS.index(_SPACE)
_MAX_CHARACTERS = 100  # of a word that is cut for want of any other place
_MAX_CHARACTERS_PER_PHONE = 12  # a text with more is too long without asking
_MAX_SHOWN_CHARACTERS = 40  # of a text in errors and notes
_UNSPEAKABLE = ("no_text", "no_speech")  # codes of errors on parts that are left out
_ABBREVIATED_TITLES = frozenset(
    (
        "Mr Mrs Ms Dr St Prof Gen Sen Rep Rev Hon Jr Sr vs No Nos Vol Fig Capt Sgt Lt Col "
        "Sra Sr Dra Srta Mme Mlle MM Sig Dott"
    ).split()
)


@dataclass(frozen=True)
class Utterance:
    """A text as phones.

    text: as written.
    language: such as "en-us".
    phones: symbols of the alphabet; the first and the last are PAUSE.
    words: Words in order.
    pauses: (index of a PAUSE in phones, wanted length in seconds).
    notes: sentences on what was left out or understood.
    omitted_words: words that are not spoken, as written.
    offset: where text begins in the whole that `split_into_utterances` was given.
    """

    text: str
    language: str
    phones: tuple[str, ...]
    words: tuple[Word, ...] = ()
    pauses: tuple[tuple[int, Fraction], ...] = ()
    notes: tuple[str, ...] = ()
    omitted_words: tuple[str, ...] = ()
    offset: int = 0


def make_utterance(text: str, language: str, dictionary: DictionarySource = None) -> Utterance:
    """Convert a text to phones.

    text: [pause 0.4s] and <break time="300ms"/> are pauses, other markup is left out with a note.
    language: one of LANGUAGES.
    dictionary: PronunciationDictionary, dict for one, or path of a file for `read_dictionary`; None for none.
    Raises InvalidInputError when nothing in it can be spoken, UsageError for a language without voice,
    MissingDependencyError for a package.
    """
    if language not in LANGUAGES:
        hint = f"Languages with a voice: {', '.join(LANGUAGES)}."
        raise UsageError(f"language '{language}': there is no voice for it.", hint=hint, code="no_language")
    normalized = normalize_text(text, language, _to_dictionary(dictionary))
    phones: list[str] = [PAUSE]
    words: list[Word] = []
    pauses: list[tuple[int, Fraction]] = []
    omitted = list(normalized.omitted_words)
    unknown: set[str] = set()
    for segment in normalized.segments:
        tokens = phonemize(segment.text, language, normalized.pronunciations)
        spans = _append_phones(phones, tokens, unknown)
        for mapped in map_words(segment, tokens, spans, language):
            _append_word(words, mapped, text, omitted)
        if segment.pause_s:
            pauses.append((len(phones), segment.pause_s))
            phones += [PAUSE, " "]
    while phones[-1] == " ":
        phones.pop()
    if not words or _is_mostly_foreign(words, normalized.omitted_words):
        raise _make_nothing_error(text, omitted, language)
    notes = normalized.notes
    if unknown:
        notes += (f"sounds that the voices do not have, left out: {' '.join(sorted(unknown))}",)
    return Utterance(text, language, (*phones, PAUSE), tuple(words), tuple(pauses), notes, tuple(omitted))


def _is_mostly_foreign(words: Sequence[Word], foreign: Sequence[str]) -> bool:
    """Find out whether more letters are left unsaid, in foreign scripts, than are said: digits and signs do not count.

    words: that are said.
    foreign: words in scripts that the language is not written in.
    """
    return _count_letters(foreign) > _count_letters(word.text for word in words)


def _count_letters(words: Iterable[str]) -> int:
    return sum(char.isalpha() for word in words for char in word)


def _to_dictionary(source: DictionarySource) -> PronunciationDictionary | None:
    if source is None or isinstance(source, PronunciationDictionary):
        return source
    return PronunciationDictionary(source) if isinstance(source, Mapping) else read_dictionary(source)


def _append_phones(phones: list[str], tokens: Sequence[PhonemizedToken], unknown: set[str]) -> list[Span]:
    """Append the phones of tokens; return (start, stop) of the sounds of each, equal where it has none.

    phones: extended.
    unknown: takes symbols that the alphabet does not have.
    """
    spans = []
    for token in tokens:
        start = len(phones)
        for symbol in token.phones:
            if symbol in load_alphabet():
                if symbol != " " or phones[-1] not in (" ", PAUSE):
                    phones.append(symbol)
            elif not symbol.isspace():
                unknown.add(symbol)
        sounding = [k for k in range(start, len(phones)) if phones[k] not in MARKS]
        spans.append((sounding[0], sounding[-1] + 1) if sounding else (start, start))
        if token.followed_by_space and phones[-1] not in (" ", PAUSE):
            phones.append(" ")
    return spans


def _append_word(words: list[Word], mapped: MappedWord, text: str, omitted: list[str]) -> None:
    """Append a word, or extend the last one where several are said for one written word.

    words: changed.
    omitted: takes words without phones.
    """
    a, b = strip_punctuation(text, *mapped.place)
    if mapped.stop <= mapped.start:
        omitted += [text[a:b]] if any(c.isalnum() for c in text[a:b]) else []
    elif words and a < words[-1].chars[1]:
        place = min(a, words[-1].chars[0]), max(b, words[-1].chars[1])
        words[-1] = Word(text[slice(*place)], words[-1].start, mapped.stop, place)
    else:
        words.append(Word(text[a:b], mapped.start, mapped.stop, (a, b)))


def _make_nothing_error(text: str, omitted: Sequence[str], language: str) -> InvalidInputError:
    """Make the error for a text in which nothing can be spoken. omitted: its words."""
    shown = text.strip()[:_MAX_SHOWN_CHARACTERS]
    if not shown:
        return InvalidInputError("the text is empty: there is nothing to say.", hint="Give words.", code="no_text")
    if omitted:
        why = f"its words are in a script that {language} is not written in, or have no reading"
        hint = f"Choose the language of the text (--voice decides it): {', '.join(LANGUAGES)}."
    else:
        why, hint = "it has no words, only signs or pauses", "Give words."
    return InvalidInputError(f"'{shown}' cannot be spoken: {why}.", hint=hint, code="no_speech")


@dataclass(frozen=True)
class _SplitSettings:
    """How utterances of a text are made, and how long they may be.

    unsaid: takes the parts of the text that cannot be spoken.
    """

    language: str
    dictionary: PronunciationDictionary | None
    max_phones: int
    unsaid: list[str]


def split_into_utterances(
    text: str, language: str, dictionary: DictionarySource = None, max_phones: int = MAX_UTTERANCE_PHONES
) -> tuple[Utterance, ...]:
    """Split a text into Utterances of at most `max_phones`, cut between sentences, else clauses, else words.

    text, language, dictionary: as for `make_utterance`.
    Parts without anything to say, such as a line of emoji, are left out; their signs are in the notes of the part
    before or after, their words among the omitted ones of the last.
    Raises what `make_utterance` raises, InvalidInputError when no part can be spoken, or nothing but numbers of a text
    whose words are in another script.
    """
    settings = _SplitSettings(language, _to_dictionary(dictionary), max_phones, [])
    utterances: list[Utterance] = []
    notes: list[str] = []
    unspeakable: InvalidInputError | None = None
    for start, stop in _split_at(text, _SENTENCE, start=0, stop=len(text)):
        try:
            parts = _split_to_length(text, start, stop, settings)
        except InvalidInputError as error:
            if error.code not in _UNSPEAKABLE:
                raise
            if error.code != "no_text":
                unspeakable = unspeakable or error
                notes.append(f"not said: {text[start:stop].strip()[:_MAX_SHOWN_CHARACTERS]}")
                settings.unsaid.append(text[start:stop])
            continue
        for part in parts:
            if utterances and len(utterances[-1].phones) + len(part.phones) - 1 <= max_phones + 2:
                utterances[-1] = _join_utterances(text, utterances[-1], part)
            else:
                utterances.append(part)
    if not utterances:
        raise unspeakable or _make_nothing_error(text, (), language)
    unsaid = tuple(word for part in settings.unsaid for word in part.split() if any(c.isalnum() for c in word))
    if _count_letters(unsaid) and not _count_letters(word.text for one in utterances for word in one.words):
        raise _make_nothing_error(text, unsaid, language)
    last = utterances[-1]
    all_notes, omitted_words = (*last.notes, *dict.fromkeys(notes)), (*last.omitted_words, *unsaid)
    return (*utterances[:-1], replace(last, notes=all_notes, omitted_words=omitted_words))


def _split_at(text: str, pattern: re.Pattern[str], start: int, stop: int) -> Iterator[Span]:
    """Split text[start:stop] after every match of a pattern; yield the places of the parts."""
    at = start
    for match in pattern.finditer(text, start, stop):
        if pattern is _SENTENCE and not _ends_sentence(text, match):
            continue
        if match.end() > at:
            yield at, match.end()
        at = match.end()
    if stop > at:
        yield at, stop


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    """Tell the end of a sentence from a full stop after an abbreviation or an initial."""
    if "\n" in match.group():
        return True
    word = re.search(r"(\w+)\.$", text[max(0, match.start() - 20) : match.start()])
    initial = word is not None and len(word[1]) == 1 and word[1].isupper()
    abbreviated = word is not None and (word[1] in _ABBREVIATED_TITLES or initial)
    return not (text[match.end() : match.end() + 1].islower() or abbreviated)


def _split_to_length(text: str, start: int, stop: int, settings: _SplitSettings, level: int = 0) -> list[Utterance]:
    """Split text[start:stop] into utterances that are not too long. level: index of the first of _CUTS to try."""
    if stop - start <= _MAX_CHARACTERS_PER_PHONE * settings.max_phones:
        whole = replace(make_utterance(text[start:stop], settings.language, settings.dictionary), offset=start)
        if len(whole.phones) - 2 <= settings.max_phones:
            return [whole]
    if level < len(_CUTS):
        parts = list(_split_at(text, _CUTS[level], start, stop))
        if level == _SPACE_LEVEL:  # a few words together, not one by one
            parts = _halve(parts)
    else:
        parts = [(a, min(a + _MAX_CHARACTERS, stop)) for a in range(start, stop, _MAX_CHARACTERS)]
    next_level = level + (len(parts) == 1 or level != _SPACE_LEVEL)
    utterances: list[Utterance] = []
    dropped: list[str] = []
    for a, b in parts:
        try:
            utterances += _split_to_length(text, a, b, settings, next_level)
        except InvalidInputError as error:
            if error.code not in _UNSPEAKABLE:
                raise
            dropped.append(text[a:b])
    if not utterances:
        raise _make_nothing_error(text[start:stop], (text[start:stop],), settings.language)
    settings.unsaid.extend(dropped)
    return utterances


def _halve(parts: list[Span]) -> list[Span]:
    """Join neighbouring parts to two halves."""
    middle = len(parts) // 2
    return [(parts[0][0], parts[middle - 1][1]), (parts[middle][0], parts[-1][1])] if middle else parts


def _join_utterances(text: str, a: Utterance, b: Utterance) -> Utterance:
    """Join two utterances of a text that follow each other."""
    space = () if a.phones[-2] == " " else (" ",)
    shift = len(a.phones) - 2 + len(space)  # of the phones of b
    moved = b.offset - a.offset  # of its characters
    words = tuple(
        Word(word.text, word.start + shift, word.stop + shift, (word.chars[0] + moved, word.chars[1] + moved))
        for word in b.words
    )
    return Utterance(
        text[a.offset : b.offset + len(b.text)],
        a.language,
        a.phones[:-1] + space + b.phones[1:],
        words=a.words + words,
        pauses=a.pauses + tuple((k + shift, length_s) for k, length_s in b.pauses),
        notes=tuple(dict.fromkeys(a.notes + b.notes)),
        omitted_words=a.omitted_words + b.omitted_words,
        offset=a.offset,
    )
