"""Draft of a script from recognised speech: lines cut at ends of sentences and pauses, short enough to speak."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.voice.asr.wer import join_words
from mouthpiece.voice.scripts.script import Line, Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mouthpiece.voice.asr.recognizer import RecognizedWord
    from mouthpiece.voice.asr.transcription import TranscribedPhrase

    Words = list[RecognizedWord]

DEFAULT_SPEAKER = "S1"  # voices are not told apart
MAX_LINE_S = 7.0
MAX_LINE_CHARACTERS = 84
MIN_SENTENCE_S = 0.8  # a shorter sentence stays with the next one, unless there is a pause between them
MIN_PAUSE_S = 0.3  # of that pause
COMMA_PAUSE_S = 0.5  # a comma is as good a place to cut as a pause of this length
IMBALANCE_PENALTY_S = 0.8  # and a cut at the very edge as bad as a pause shorter by this
_SENTENCE_ENDS = ".?!…。？！"
_COMMAS = ",;:–—、，；："
_CLOSING_QUOTES = "\"'”’»)"
_ABBREVIATIONS = {"mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "vs.", "no.", "hr.", "fr.", "sr.", "jr.", "m.", "mme."}


@dataclass(frozen=True)
class _LineLimits:
    """How long a line may be: seconds, and characters in a language."""

    max_s: float
    max_characters: int
    language: str

    def allow(self, words: Words) -> bool:
        """Decide whether words fit into a line."""
        fits_time = words[-1].stop_s - words[0].start_s <= self.max_s
        return fits_time and len(join_words((word.text for word in words), self.language)) <= self.max_characters


def draft_script(
    phrases: Sequence[TranscribedPhrase],
    max_line_s: float = MAX_LINE_S,
    max_line_characters: int = MAX_LINE_CHARACTERS,
) -> Script:
    """Draft the Script of a transcription, all by one speaker; times are those of the words, to the millisecond.

    phrases: in order.
    max_line_s: seconds that a line lasts at most.
    max_line_characters: in a line, at most; one word alone may be longer.
    """
    lines: list[Line] = []
    languages = [phrase.language for phrase in phrases]
    for phrase in phrases:
        for words in _split_lines(list(phrase.words), _LineLimits(max_line_s, max_line_characters, phrase.language)):
            start, end = (Fraction(round(1000 * time), 1000) for time in (words[0].start_s, words[-1].stop_s))
            text = join_words((word.text for word in words), phrase.language)
            lines.append(Line(str(len(lines) + 1), DEFAULT_SPEAKER, start, end, text, phrase.language))
    return Script(tuple(lines), language=max(languages, key=languages.count) if languages else "")


def _split_lines(words: Words, limits: _LineLimits) -> Iterator[Words]:
    """Split the words of a phrase into lines: sentences, and parts of those that are too long."""
    sentences: list[Words] = [[]]
    for k, word in enumerate(words):
        sentences[-1].append(word)
        if k + 1 < len(words) and _ends_sentence(word.text):
            short = word.stop_s - sentences[-1][0].start_s < MIN_SENTENCE_S
            if not short or words[k + 1].start_s - word.stop_s >= MIN_PAUSE_S:
                sentences.append([])
    for sentence in sentences:
        yield from _split_to_fit(sentence, limits)


def _ends_sentence(text: str) -> bool:
    """Tell the end of a sentence from an abbreviation or an initial."""
    word = text.rstrip(_CLOSING_QUOTES).lower()
    initial = len(word) == 2 and word[0].isalpha()
    return word[-1:] in tuple(_SENTENCE_ENDS) and word not in _ABBREVIATIONS and not initial


def _split_to_fit(words: Words, limits: _LineLimits) -> list[Words]:
    """Split words at the best place, and again, until they fit into lines."""
    if len(words) == 1 or limits.allow(words):
        return [words]

    def rate_cut(k: int) -> float:
        pause_s = words[k].start_s - words[k - 1].stop_s
        comma_s = COMMA_PAUSE_S if words[k - 1].text[-1] in _COMMAS + _SENTENCE_ENDS else 0
        return pause_s + comma_s - IMBALANCE_PENALTY_S * abs(2 * k / len(words) - 1)

    k = max(range(1, len(words)), key=rate_cut)
    return [*_split_to_fit(words[:k], limits), *_split_to_fit(words[k:], limits)]
