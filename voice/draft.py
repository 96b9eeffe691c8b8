"""A first script from what was heard: lines cut at ends of sentences and pauses, short enough to speak and to read."""

from fractions import Fraction

from voice.scripts.line import Line, Script
from voice.words import text_of

SPEAKER = "S1"           # voices are not told apart
LONGEST_S, MOST_CHARACTERS = 7.0, 84
SHORTEST_S, PAUSE_S = 0.8, 0.3  # a sentence this short stays with the next one unless there is a pause between them
COMMA_S = 0.5            # a comma is as good a place to cut as a pause of this length
UNEVEN_S = 0.8           # and a cut at the very edge as bad as a pause shorter by this
_ENDS, _COMMAS = ".?!…。？！", ",;:–—、，；："
_SHORT_FORMS = {"mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "vs.", "no.", "hr.", "fr.", "sr.", "jr.", "m.", "mme."}


def draft(phrases, longest_s=LONGEST_S, most_characters=MOST_CHARACTERS):
    """Script of what was heard, all by one speaker; times are those of the words, to the millisecond.

    phrases: list of listen.Phrase.
    longest_s: seconds a line lasts at most.  most_characters: in a line, at most; one word alone may be longer.
    Source: ours.
    """
    lines, languages = [], []
    for phrase in phrases:
        languages.append(phrase.language)
        for words in _lines(list(phrase.words), phrase.language, longest_s, most_characters):
            start, end = (Fraction(round(1000 * time), 1000) for time in (words[0].start_s, words[-1].stop_s))
            text = text_of((word.text for word in words), phrase.language)
            lines.append(Line(str(len(lines) + 1), SPEAKER, start, end, text, phrase.language))
    return Script(tuple(lines), language=max(languages, key=languages.count) if languages else "")


def _lines(words, language, longest_s, most_characters):
    """Words of a phrase in lines: sentences, and parts of those that are too long."""
    sentences = [[]]
    for k, word in enumerate(words):
        sentences[-1].append(word)
        if k + 1 < len(words) and _ends_sentence(word.text):
            short = word.stop_s - sentences[-1][0].start_s < SHORTEST_S
            if not short or words[k + 1].start_s - word.stop_s >= PAUSE_S:
                sentences.append([])
    for sentence in sentences:
        yield from _cut(sentence, language, longest_s, most_characters)


def _ends_sentence(text):
    bare = text.rstrip("\"'”’»)").lower()
    return bare[-1:] in tuple(_ENDS) and bare not in _SHORT_FORMS and not (len(bare) == 2 and bare[0].isalpha())


def _cut(words, language, longest_s, most_characters):
    """The words as they are when they fit into a line; else cut at the best place, and again."""
    length_s = words[-1].stop_s - words[0].start_s
    fits = length_s <= longest_s and len(text_of((w.text for w in words), language)) <= most_characters
    if fits or len(words) == 1:
        return [words]

    def worth(k):
        pause_s = words[k].start_s - words[k - 1].stop_s
        comma_s = COMMA_S if words[k - 1].text[-1] in _COMMAS + _ENDS else 0
        return pause_s + comma_s - UNEVEN_S * abs(2 * k / len(words) - 1)

    k = max(range(1, len(words)), key=worth)
    return [line for part in (words[:k], words[k:]) for line in _cut(part, language, longest_s, most_characters)]
