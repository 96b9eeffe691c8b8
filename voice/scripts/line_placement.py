"""Lines put on the times of speech: how long a text takes, and where it belongs."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import SequenceMatcher
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.timeline import round_half_up
from mouthpiece.voice.scripts.script import Remark
from mouthpiece.voice.scripts.syllables import count_syllables, split_slot

if TYPE_CHECKING:
    from mouthpiece.voice.scripts.script import Line, Script

_WORD = re.compile(r"[\w'’]+")
# how far a cut may go from where syllables alone would put it: seconds, share of all speech
_REACH_S, _REACH_SHARE = 5.0, 0.05
_MAX_CUTS = 40  # silences looked at for one cut
_CUT_INSIDE_COST = 0.15  # what it costs to cut inside a stretch of speech, in squared logarithms of a length


def place_lines(script: Script, spans: list) -> Script | None:
    """The script with times for the lines that have none, on speech found in the film; other lines stay.

    script: Script.
    spans: (start, stop, text or None) in order: speech in seconds, and what was recognised in it.
    Where words were recognised, lines go where their words are; elsewhere speech is dealt out by syllables, cut between
    spans if it can be.
    Raises Refused when there is no speech.
    Source: ours; words by difflib, cuts by dynamic programming.
    """
    spans = [(Fraction(a), Fraction(b), text) for a, b, text in spans if b > a]
    bare = [line for line in script.lines if line.start is None]
    if not bare:
        return script
    if not spans:
        hint = "Give a script with times, or a film with speech."
        raise InvalidInputError(
            f"{script.source}: no speech found to place its {len(bare)} lines on.", hint=hint, code="no_speech"
        )
    slots = _place_by_words(bare, spans) if all(text for *_, text in spans) else None
    slots = slots or _place_by_syllables([count_syllables(line.text) for line in bare], [(a, b) for a, b, _ in spans])
    slots = iter(_round_slots(slots))
    lines = tuple(
        replace(line, **dict(zip(("start", "end"), next(slots)))) if line.start is None else line
        for line in script.lines
    )
    said = f"{script.source}: {len(bare)} lines without times placed on {len(spans)} stretches of speech."
    return replace(script, lines=lines, remarks=script.remarks + (Remark("placed", said),))


def _round_slots(slots: list[tuple[Fraction, Fraction]]) -> list[tuple[Fraction, Fraction]]:
    """Whole milliseconds, none before the one in front ended."""
    tidy, last = [], Fraction(0)
    for start, end in slots:
        start, end = (max(last, Fraction(round_half_up(t * 1000), 1000)) for t in (start, end))
        tidy.append((start, max(start, end)))
        last = tidy[-1][1]
    return tidy


def _place_by_words(lines: list[Line], spans: list[tuple[Fraction, Fraction, str]]) -> list[tuple[Fraction, Fraction]]:
    """Slots of lines from recognised words; None when under a quarter of the lines have a word in it."""
    heard = [
        (_fold_word(word), *slot, k)
        for k, (a, b, text) in enumerate(spans)
        for word, slot in _estimate_word_times(a, b, text)
    ]
    said = [(_fold_word(word), k) for k, line in enumerate(lines) for word in _WORD.findall(line.text)]
    matcher = SequenceMatcher(None, [w for w, *_ in said], [w for w, *_ in heard], autojunk=False)
    slots = [None] * len(lines)
    for block in matcher.get_matching_blocks():
        for a, b in zip(range(block.a, block.a + block.size), range(block.b, block.b + block.size)):
            line, (_, start, end, _) = said[a][1], heard[b]
            slots[line] = (min(start, slots[line][0]), max(end, slots[line][1])) if slots[line] else (start, end)
    if 4 * sum(slot is not None for slot in slots) < len(lines):
        return None
    return _fill_gaps(slots, [count_syllables(line.text) for line in lines], spans)


def _fold_word(word: str) -> str:
    return re.sub(r"[^\w]", "", word).casefold()


def _estimate_word_times(start: Fraction, end: Fraction, text: str):
    words = _WORD.findall(text)
    return zip(words, split_slot(start, end, words)) if words else ()


def _fill_gaps(
    slots: list[tuple[Fraction, Fraction]], weights: list[int], spans: list[tuple[Fraction, Fraction, str]]
) -> list[tuple[Fraction, Fraction]]:
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
        slots[k:stop] = _place_by_syllables(weights[k:stop], free)
        k = stop
    return slots


def _place_by_syllables(weights: list[int], spans: list[tuple[Fraction, Fraction]]) -> list[tuple[Fraction, Fraction]]:
    """A slot for every weight: speech dealt out so that durations follow the weights, cuts where silences are if that
    costs little.
    """
    lengths = [float(b - a) for a, b in spans]
    total, share = sum(lengths), sum(weights)
    joints = np.concatenate([[0.0], np.cumsum(lengths)])
    if total <= 0:
        return [(spans[0][0], spans[0][0])] * len(weights)
    wanted = np.cumsum(weights)[:-1] * total / share
    reach = max(_REACH_S, _REACH_SHARE * total)
    choices = [(np.array([0.0]), np.zeros(1))]
    for cut in wanted:
        near = joints[1:-1][slice(*np.searchsorted(joints[1:-1], (cut - reach, cut + reach)))]
        near = near[np.argsort(np.abs(near - cut))[:_MAX_CUTS]]
        price = _CUT_INSIDE_COST if not len(near) or np.abs(near - cut).min() > 1e-9 else 0.0
        choices.append((np.append(near, cut), np.append(np.zeros(len(near)), price)))
    choices.append((np.array([total]), np.zeros(1)))
    cuts = _find_cheapest_cuts(choices, np.array(weights) * total / share)
    return [
        (_find_film_time(a, spans, joints, "right"), _find_film_time(b, spans, joints, "left"))
        for a, b in zip(cuts, cuts[1:])
    ]


def _find_cheapest_cuts(choices: list[tuple[np.ndarray, np.ndarray]], wanted: np.ndarray) -> np.ndarray:
    """One cut of every (cuts, prices), so that pieces have the lengths wanted at the lowest price: (N + 1,) seconds of
    speech.
    """
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


def _find_film_time(spoken: float, spans: list[tuple[Fraction, Fraction]], joints: np.ndarray, side: str) -> Fraction:
    """Film time of so many seconds of speech; at a joint the start of the next span ("right") or the end of the last
    ("left").
    """
    where = np.searchsorted(joints, spoken + (1e-9 if side == "right" else -1e-9), side="right") - 1
    where = int(np.clip(where, 0, len(spans) - 1))
    return min(
        spans[where][1], spans[where][0] + Fraction(max(0.0, float(spoken - joints[where]))).limit_denominator(10**6)
    )
