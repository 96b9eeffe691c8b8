"""A first script from what was heard: lines cut at ends of sentences and pauses, short enough to speak and to read."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.voice.asr.wer import join_words
from mouthpiece.voice.scripts.script import Line, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mouthpiece.voice.asr.recognizer import RecognizedWord
    from mouthpiece.voice.asr.transcription import TranscribedPhrase

DEFAULT_SPEAKER = "S1"  # voices are not told apart
MAX_LINE_S, MAX_LINE_CHARACTERS = 7.0, 84
MIN_SENTENCE_S, PAUSE_S = 0.8, 0.3  # a sentence this short stays with the next one unless there is a pause between them
COMMA_PAUSE_S = 0.5  # a comma is as good a place to cut as a pause of this length
IMBALANCE_PENALTY_S = 0.8  # and a cut at the very edge as bad as a pause shorter by this
_ENDS, _COMMAS = ".?!…。？！", ",;:–—、，；："
_ABBREVIATIONS = {"mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "vs.", "no.", "hr.", "fr.", "sr.", "jr.", "m.", "mme."}


def draft_script(
    phrases: list[TranscribedPhrase], max_line_s: float = MAX_LINE_S, max_line_characters: int = MAX_LINE_CHARACTERS
) -> Script:
    """Script of what was heard, all by one speaker; times are those of the words, to the millisecond.

    phrases: list of listen.Phrase.
    longest_s: seconds a line lasts at most.  most_characters: in a line, at most; one word alone may be longer.
    """
    lines, languages = [], []
    for phrase in phrases:
        languages.append(phrase.language)
        for words in _split_lines(list(phrase.words), phrase.language, max_line_s, max_line_characters):
            start, end = (Fraction(round(1000 * time), 1000) for time in (words[0].start_s, words[-1].stop_s))
            text = join_words((word.text for word in words), phrase.language)
            lines.append(Line(str(len(lines) + 1), DEFAULT_SPEAKER, start, end, text, phrase.language))
    return Script(tuple(lines), language=max(languages, key=languages.count) if languages else "")


def _split_lines(
    words: list[RecognizedWord], language: str, longest_s: float, most_characters: int
) -> Iterator[list[RecognizedWord]]:
    """Words of a phrase in lines: sentences, and parts of those that are too long."""
    sentences = [[]]
    for k, word in enumerate(words):
        sentences[-1].append(word)
        if k + 1 < len(words) and _is_sentence_end(word.text):
            short = word.stop_s - sentences[-1][0].start_s < MIN_SENTENCE_S
            if not short or words[k + 1].start_s - word.stop_s >= PAUSE_S:
                sentences.append([])
    for sentence in sentences:
        yield from _split_to_fit(sentence, language, longest_s, most_characters)


def _is_sentence_end(text: str) -> bool:
    bare = text.rstrip("\"'”’»)").lower()
    return bare[-1:] in tuple(_ENDS) and bare not in _ABBREVIATIONS and not (len(bare) == 2 and bare[0].isalpha())


def _split_to_fit(
    words: list[RecognizedWord], language: str, longest_s: float, most_characters: int
) -> list[list[RecognizedWord]]:
    """The words as they are when they fit into a line; else cut at the best place, and again."""
    length_s = words[-1].stop_s - words[0].start_s
    fits = length_s <= longest_s and len(join_words((w.text for w in words), language)) <= most_characters
    if fits or len(words) == 1:
        return [words]

    def worth(k: int) -> float:
        pause_s = words[k].start_s - words[k - 1].stop_s
        comma_s = COMMA_PAUSE_S if words[k - 1].text[-1] in _COMMAS + _ENDS else 0
        return pause_s + comma_s - IMBALANCE_PENALTY_S * abs(2 * k / len(words) - 1)

    k = max(range(1, len(words)), key=worth)
    return [
        line for part in (words[:k], words[k:]) for line in _split_to_fit(part, language, longest_s, most_characters)
    ]
