"""Text to phones: what is said, in the alphabet of the voices, with a map from every written word to its phones and characters."""

import difflib
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from engine.errors import Refused, UsageProblem
from voice.lexicon import Dictionary, alphabet, read_dictionary
from voice.plan import MARKS, PAUSE, Word
from voice.readers import pieces
from voice.written import LANGUAGES, UNSPACED, WORD, bare, written

MOST_PHONES = 400                      # of one utterance; Kokoro holds 510 and hurries in the longest
__all__ = ["MOST_PHONES", "LANGUAGES", "Utterance", "alphabet", "read_dictionary", "utter", "utterances"]
_SENTENCE = re.compile(r"(?<=[.!?…])[\"”’)\]]*\s+|(?<=[。！？])|\n+")
_CLAUSE = re.compile(r"(?<=[,;:—])\s+|(?<=[，、；：])|(?<=—)")
_SPACE = re.compile(r"\s+")
_MOST_CHARS = 100                      # of a word that is cut for want of any other place
_TITLES = frozenset("Mr Mrs Ms Dr St Prof Gen Sen Rep Rev Hon Jr Sr vs No Nos Vol Fig Capt Sgt Lt Col Sra Sr Dra Mme Mlle".split())


@dataclass(frozen=True)
class Utterance:
    """A text as phones.

    text: as written.  language: such as "en-us".
    phones: symbols of the alphabet; the first and the last are PAUSE.
    words: voice.plan.Word, in order.
    pauses: pairs of a phone's index, where phones has PAUSE, and the wanted length in seconds (Fraction).
    notes: sentences on what was left out or understood.
    unsaid: words that are not spoken, as written.
    offset: where text begins in the whole that `utterances` was given.
    Source: ours.
    """

    text: str
    language: str
    phones: tuple[str, ...]
    words: tuple[Word, ...] = ()
    pauses: tuple[tuple[int, Fraction], ...] = ()
    notes: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    offset: int = 0


def utter(text, language, dictionary=None):
    """The text as phones: an Utterance.

    text: str; [pause 0.4s] and <break time="300ms"/> are pauses, other markup is left out with a note.
    language: one of LANGUAGES.
    dictionary: dict, voice.lexicon.Dictionary, path of a file for `read_dictionary`, or None.
    Raises Refused when nothing in it can be spoken, UsageProblem for a language without voice, Missing for a package.
    Source: ours; phones by voice.readers.
    """
    if language not in LANGUAGES:
        hint = f"Languages with a voice: {', '.join(LANGUAGES)}."
        raise UsageProblem(f"language '{language}': there is no voice for it.", hint=hint, code="no_language")
    ready = written(text, language, _dictionary(dictionary))
    phones, words, pauses, unsaid, strange = [PAUSE], [], [], list(ready.unsaid), set()
    for stretch in ready.stretches:
        read = pieces(stretch.text, language, ready.said)
        spans = _append(phones, read, strange)
        for place, start, stop in _mapped(stretch, read, spans, language):
            a, b = bare(text, *place)
            if stop > start and words and a < words[-1].chars[1]:      # one written word, said as several
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
        raise _nothing(text, unsaid, language)
    notes = ready.notes + ((f"sounds that the voices do not have, left out: {' '.join(sorted(strange))}",) if strange else ())
    return Utterance(text, language, (*phones, PAUSE), tuple(words), tuple(pauses), notes, tuple(unsaid))


def _dictionary(given):
    if given is None or isinstance(given, Dictionary):
        return given
    return Dictionary(given) if isinstance(given, dict) else read_dictionary(given)


def _append(phones, read, strange):
    """Puts the pieces' phones behind `phones`; gives (start, stop) of the sounds in each, equal where it has none."""
    spans = []
    for piece in read:
        start = len(phones)
        for symbol in piece.phones:
            if symbol in alphabet():
                if symbol != " " or phones[-1] not in (" ", PAUSE):
                    phones.append(symbol)
            elif not symbol.isspace():
                strange.add(symbol)
        sounding = [k for k in range(start, len(phones)) if phones[k] not in MARKS]
        spans.append((sounding[0], sounding[-1] + 1) if sounding else (start, start))
        if piece.gap and phones[-1] not in (" ", PAUSE):
            phones.append(" ")
    return spans


def _mapped(stretch, read, spans, language):
    """For every written word, in order: its place in what was written, and the phones (start, stop) that say it."""
    text, spoken, at = stretch.text, "", []
    for piece in read:
        at.append((len(spoken), len(spoken) + len(piece.text)))
        spoken += piece.text + (" " if piece.gap else "")
    pattern = re.compile(r"\S") if language in UNSPACED else WORD
    ours, theirs = ([m.span() for m in pattern.finditer(t)] for t in (text, spoken))
    group = _groups([text[a:b] for a, b in ours], [spoken[a:b] for a, b in theirs])
    out, last = [], None
    for (a, b), (start, stop) in zip(at, spans):
        inside = [group[k] for k, (c, d) in enumerate(theirs) if c < b and d > a and group[k] is not None]
        if not inside:
            continue
        first, end = min(i[0] for i in inside), max(i[1] for i in inside)
        if out and (first < last or (language not in UNSPACED and first == out[-1][0])):
            end = max(end, last)
            first, _, begun, ended = out.pop()
            start, stop = (min(begun, start), max(ended, stop)) if begun < ended and start < stop else (begun, ended) if begun < ended else (start, stop)
        out.append((first, end, start, stop))
        last = end
    said = set()
    for first, end, _, _ in out:
        said |= set(range(first, end))
    out += [(k, k + 1, 0, 0) for k in range(len(ours)) if k not in said]
    return [(stretch.place(ours[a][0], ours[b - 1][1]), start, stop) for a, b, start, stop in sorted(out)]


def _groups(ours, theirs):
    """For every word as read: the range of written words that it belongs to, or None."""
    out = [None] * len(theirs)
    for _, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        for k in range(c, d):
            if b - a == d - c:
                out[k] = (a + k - c, a + k - c + 1)
            elif b > a:
                out[k] = (a, b)
            elif ours:
                out[k] = (max(0, a - 1), max(0, a - 1) + 1)            # read, not written: with the word before it
    return out


def _nothing(text, unsaid, language):
    shown = text.strip()[:40]
    if not shown:
        return Refused("the text is empty: there is nothing to say.", hint="Give words.", code="no_text")
    if unsaid:
        why = f"its words are in a script that {language} is not written in, or have no reading"
        hint = f"Choose the language of the text (--voice decides it): {', '.join(LANGUAGES)}."
    else:
        why, hint = "it has no words, only signs or pauses", "Give words."
    return Refused(f"'{shown}' cannot be spoken: {why}.", hint=hint, code="no_speech")


def utterances(text, language, dictionary=None, most=MOST_PHONES):
    """The text in Utterances of at most `most` phones, cut between sentences, else clauses, else words: a tuple.

    Parts without anything to say, such as a line of emoji, are left out; their signs are in the notes of the part before or after.
    text, language, dictionary: as for `utter`.
    Raises what `utter` raises, Refused when no part can be spoken.
    Source: ours.
    """
    dictionary, done = _dictionary(dictionary), []
    held, notes, trouble = None, [], None
    for start, stop in _parts(text, (_SENTENCE, _CLAUSE, _SPACE), 0, len(text)):
        try:
            pieces_ = _short(text, start, stop, (language, dictionary, most), 0)
        except Refused as error:
            if error.code not in ("no_text", "no_speech"):
                raise
            trouble = trouble or (error if error.code != "no_text" else None)
            notes += [] if error.code == "no_text" else [f"not said: {text[start:stop].strip()[:40]}"]
            continue
        for one in pieces_:
            if held is not None and len(held.phones) + len(one.phones) - 1 <= most + 2:
                held = _together(text, held, one)
            else:
                done += [] if held is None else [held]
                held = one
    if held is None:
        raise trouble or _nothing(text, (), language)
    done.append(held)
    return (*done[:-1], replace(done[-1], notes=(*done[-1].notes, *dict.fromkeys(notes))))


def _parts(text, patterns, start, stop):
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


def _ends_sentence(text, match):
    before = re.search(r"(\w+)\.$", text[max(0, match.start() - 20) : match.start()])
    after = text[match.end() : match.end() + 1]
    return "\n" in match.group() or not (after.islower() or (before and (before[1] in _TITLES or (len(before[1]) == 1 and before[1].isupper()))))


def _short(text, start, stop, how, level):
    """Utterances of text[start:stop], none longer than wanted."""
    language, dictionary, most = how
    if stop - start <= 12 * most:      # else it is too long without asking
        one = replace(utter(text[start:stop], language, dictionary), offset=start)
        if len(one.phones) - 2 <= most:
            return [one]
    patterns, out = (_SENTENCE, _CLAUSE, _SPACE), []
    if level < len(patterns):
        parts = list(_parts(text, patterns[level:], start, stop))
        if level == 2:                 # a few words together, not one by one
            parts = _halves(parts)
    else:
        parts = [(a, min(a + _MOST_CHARS, stop)) for a in range(start, stop, _MOST_CHARS)]
    for a, b in parts:
        try:
            out += _short(text, a, b, how, level + (len(parts) == 1 or level != 2))
        except Refused as error:
            if error.code not in ("no_text", "no_speech"):
                raise
    if not out:
        raise _nothing(text[start:stop], (text[start:stop],), language)
    return out


def _halves(parts):
    middle = len(parts) // 2
    return [(parts[0][0], parts[middle - 1][1]), (parts[middle][0], parts[-1][1])] if middle else parts


def _together(text, a, b):
    """Two utterances that follow each other as one."""
    shift, moved = len(a.phones) - 1 + (a.phones[-2] != " "), b.offset - a.offset
    middle = () if a.phones[-2] == " " else (" ",)
    words = tuple(Word(w.text, w.start + shift - 1, w.stop + shift - 1, (w.chars[0] + moved, w.chars[1] + moved)) for w in b.words)
    return Utterance(
        text[a.offset : b.offset + len(b.text)], a.language, a.phones[:-1] + middle + b.phones[1:], a.words + words,
        a.pauses + tuple((k + shift - 1, s) for k, s in b.pauses), tuple(dict.fromkeys(a.notes + b.notes)), a.unsaid + b.unsaid, a.offset,
    )  # fmt: skip
