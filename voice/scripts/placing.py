"""Lines put on the times of speech: how long a text takes, and where it belongs."""

import re
from dataclasses import replace
from difflib import SequenceMatcher
from fractions import Fraction

import numpy as np

from engine.errors import Refused
from engine.timeline import nearest
from voice.scripts.line import Remark

_GROUP = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøœùúûüýÿаеёиоуыэюяіїєαεηιουωάέήίόύώ]+", re.IGNORECASE)
_ONE_EACH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0900-\u0939]")
_WORD = re.compile(r"[\w'’]+")
_SILENT_E = re.compile(r"[^aeiouy\W]e[ds]?$", re.IGNORECASE)
_PER_DIGIT = 2
_REACH_S, _REACH = 5.0, 0.05  # how far a cut may go from where syllables alone would put it: seconds, share of all speech
_MOST_CUTS = 40  # silences looked at for one cut
_CUT_INSIDE = 0.15  # what it costs to cut inside a stretch of speech, in squared logarithms of a length


def syllable_count(text, language="en"):
    """About how many syllables it takes to say a text; at least 1 for a word.

    text: str, any writing.
    language: such as "en"; English words lose a silent "e" at their end.
    Source: ours; groups of vowels, or signs where a sign is a syllable.
    """
    total = 0
    for word in _WORD.findall(text):
        signs = len(_ONE_EACH.findall(word))
        groups = len(_GROUP.findall(word))
        if language.startswith("en") and groups > 1 and _SILENT_E.search(word) and not re.search(r"[td]ed$|[sxzc]es$|[^aeiou]les?$", word):
            groups -= 1
        total += max(1, signs + groups + _PER_DIGIT * sum(c.isdigit() for c in word))
    return total


def split_slot(start, end, texts):
    """A slot shared by texts in proportion to their syllables: [(start, end)], whole milliseconds between.

    start, end: Fraction, seconds.
    texts: list of str.
    Source: ours.
    """
    weights = [max(1, syllable_count(text)) for text in texts]
    edges, done = [start], 0
    for weight in weights[:-1]:
        done += weight
        edges.append(Fraction(nearest((start + (end - start) * done / sum(weights)) * 1000), 1000))
    edges.append(end)
    return list(zip(edges, edges[1:]))


def place(script, spans):
    """The script with times for the lines that have none, on speech found in the film; other lines stay.

    script: Script.
    spans: (start, stop, text or None) in order: speech in seconds, and what was recognised in it.
    Where words were recognised, lines go where their words are; elsewhere speech is dealt out by syllables, cut between spans if it can be.
    Raises Refused when there is no speech.
    Source: ours; words by difflib, cuts by dynamic programming.
    """
    spans = [(Fraction(a), Fraction(b), text) for a, b, text in spans if b > a]
    bare = [line for line in script.lines if line.start is None]
    if not bare:
        return script
    if not spans:
        hint = "Give a script with times, or a film with speech."
        raise Refused(f"{script.source}: no speech found to place its {len(bare)} lines on.", hint=hint, code="no_speech")
    slots = _by_words(bare, spans) if all(text for *_, text in spans) else None
    slots = slots or _by_syllables([syllable_count(line.text) for line in bare], [(a, b) for a, b, _ in spans])
    slots = iter(_tidy(slots))
    lines = tuple(replace(line, **dict(zip(("start", "end"), next(slots)))) if line.start is None else line for line in script.lines)
    said = f"{script.source}: {len(bare)} lines without times placed on {len(spans)} stretches of speech."
    return replace(script, lines=lines, remarks=script.remarks + (Remark("placed", said),))


def _tidy(slots):
    """Whole milliseconds, none before the one in front ended."""
    tidy, last = [], Fraction(0)
    for start, end in slots:
        start, end = (max(last, Fraction(nearest(t * 1000), 1000)) for t in (start, end))
        tidy.append((start, max(start, end)))
        last = tidy[-1][1]
    return tidy


def _by_words(lines, spans):
    """Slots of lines from recognised words; None when under a quarter of the lines have a word in it."""
    heard = [(_plain(word), *slot, k) for k, (a, b, text) in enumerate(spans) for word, slot in _word_times(a, b, text)]
    said = [(_plain(word), k) for k, line in enumerate(lines) for word in _WORD.findall(line.text)]
    matcher = SequenceMatcher(None, [w for w, *_ in said], [w for w, *_ in heard], autojunk=False)
    slots = [None] * len(lines)
    for block in matcher.get_matching_blocks():
        for a, b in zip(range(block.a, block.a + block.size), range(block.b, block.b + block.size)):
            line, (_, start, end, _) = said[a][1], heard[b]
            slots[line] = (min(start, slots[line][0]), max(end, slots[line][1])) if slots[line] else (start, end)
    if 4 * sum(slot is not None for slot in slots) < len(lines):
        return None
    return _filled(slots, [syllable_count(line.text) for line in lines], spans)


def _plain(word):
    return re.sub(r"[^\w]", "", word).casefold()


def _word_times(start, end, text):
    words = _WORD.findall(text)
    return zip(words, split_slot(start, end, words)) if words else ()


def _filled(slots, weights, spans):
    """Slots for the lines between those that have one: the speech that is left there, by syllables."""
    k = 0
    while k < len(slots):
        if slots[k] is not None:
            k += 1
            continue
        stop = next((j for j in range(k, len(slots)) if slots[j] is not None), len(slots))
        since = slots[k - 1][1] if k else spans[0][0]
        until = slots[stop][0] if stop < len(slots) else spans[-1][1]
        free = [(max(a, since), min(b, until)) for a, b, _ in spans if min(b, until) > max(a, since)]
        free = free or [(since, max(since, until))]
        slots[k:stop] = _by_syllables(weights[k:stop], free)
        k = stop
    return slots


def _by_syllables(weights, spans):
    """A slot for every weight: speech dealt out so that durations follow the weights, cuts where silences are if that costs little."""
    lengths = [float(b - a) for a, b in spans]
    total, share = sum(lengths), sum(weights)
    joints = np.concatenate([[0.0], np.cumsum(lengths)])
    if total <= 0:
        return [(spans[0][0], spans[0][0])] * len(weights)
    wanted = np.cumsum(weights)[:-1] * total / share
    reach = max(_REACH_S, _REACH * total)
    choices = [(np.array([0.0]), np.zeros(1))]
    for cut in wanted:
        near = joints[1:-1][slice(*np.searchsorted(joints[1:-1], (cut - reach, cut + reach)))]
        near = near[np.argsort(np.abs(near - cut))[:_MOST_CUTS]]
        price = _CUT_INSIDE if not len(near) or np.abs(near - cut).min() > 1e-9 else 0.0
        choices.append((np.append(near, cut), np.append(np.zeros(len(near)), price)))
    choices.append((np.array([total]), np.zeros(1)))
    cuts = _cheapest(choices, np.array(weights) * total / share)
    return [(_time_at(a, spans, joints, "right"), _time_at(b, spans, joints, "left")) for a, b in zip(cuts, cuts[1:])]


def _cheapest(choices, wanted):
    """One cut of every (cuts, prices), so that pieces have the lengths wanted at the lowest price: (N + 1,) seconds of speech."""
    cost, back = np.zeros(1), []
    for (before, _), (after, prices), length in zip(choices, choices[1:], wanted):
        piece = after[None] - before[:, None]
        step = np.where(piece > 1e-9, np.log(np.maximum(piece, 1e-9) / length) ** 2, np.inf)
        sums = cost[:, None] + step + prices[None]
        back.append(np.argmin(sums, 0))
        cost = sums.min(0)
    if not np.isfinite(cost[0]):
        return np.concatenate([[0.0], np.cumsum(wanted)])
    picks = [0]
    for choice in reversed(back):
        picks.append(int(choice[picks[-1]]))
    return np.array([cuts[k] for (cuts, _), k in zip(choices, reversed(picks))])


def _time_at(spoken, spans, joints, side):
    """Film time of so many seconds of speech; at a joint the start of the next span ("right") or the end of the last ("left")."""
    where = np.searchsorted(joints, spoken + (1e-9 if side == "right" else -1e-9), side="right") - 1
    where = int(np.clip(where, 0, len(spans) - 1))
    return min(spans[where][1], spans[where][0] + Fraction(max(0.0, float(spoken - joints[where]))).limit_denominator(10**6))
