"""Placement of lines without times on the speech of a film: by recognised words, else by syllables."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import SequenceMatcher
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.timeline import round_half_up
from mouthpiece.voice.scripts.script import Remark
from mouthpiece.voice.scripts.syllables import count_syllables, split_slot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mouthpiece.voice.scripts.script import Line, Script

_WORD = re.compile(r"[\w'’]+")
_REACH_S = 5.0  # how far a cut may go from where syllables alone would put it: this long,
_REACH_SHARE = 0.05  # or this share of all speech
_MAX_CUTS = 40  # silences looked at for one cut
_CUT_INSIDE_COST = 0.15  # of a cut inside a stretch of speech, in squared logarithms of a length
_MIN_PLACED_SHARE = 4  # one line of so many has a recognised word, or words are not trusted
_SHORTEST_S = 1e-9

Slot: TypeAlias = tuple[Fraction, Fraction]  # (start, end), seconds
Cuts: TypeAlias = tuple[np.ndarray, np.ndarray]  # (places in seconds of speech, prices) to choose one from


class SpeechSpan(NamedTuple):
    """A stretch of speech in a film: its start and end in seconds, and what was recognised in it or None."""

    start: Fraction
    end: Fraction
    text: str | None


def place_lines(script: Script, spans: Iterable[tuple[float, float, str | None]]) -> Script:
    """Give times to the lines that have none, on speech found in the film; other lines stay.

    script: Script.
    spans: (start, stop, text or None) in order: speech in seconds, and what was recognised in it.
    Lines go where their recognised words are (difflib); elsewhere speech is dealt out by syllables, cut between spans
    where that costs little (dynamic programming).
    Raises InvalidInputError when there is no speech.
    """
    speech = [SpeechSpan(Fraction(start), Fraction(stop), text) for start, stop, text in spans if stop > start]
    untimed = [line for line in script.lines if line.start is None]
    if not untimed:
        return script
    if not speech:
        raise InvalidInputError(
            f"{script.source}: no speech found to place its {len(untimed)} lines on.",
            hint="Give a script with times, or a film with speech.",
            code="no_speech",
        )
    found = _place_by_words(untimed, speech) if all(span.text for span in speech) else None
    if found is None:
        found = _place_by_syllables([count_syllables(line.text) for line in untimed], [span[:2] for span in speech])
    slots = iter(_round_slots(found))
    lines = tuple(_set_slot(line, next(slots)) if line.start is None else line for line in script.lines)
    note = f"{script.source}: {len(untimed)} lines without times placed on {len(speech)} stretches of speech."
    return replace(script, lines=lines, remarks=(*script.remarks, Remark("placed", note)))


def _set_slot(line: Line, slot: Slot) -> Line:
    return replace(line, start=slot[0], end=slot[1])


def _round_slots(slots: Iterable[Slot]) -> list[Slot]:
    """Round slots to whole milliseconds, none before the end of the one in front."""
    rounded, last = [], Fraction(0)
    for slot in slots:
        start, end = (max(last, Fraction(round_half_up(time * 1000), 1000)) for time in slot)
        last = max(start, end)
        rounded.append((start, last))
    return rounded


def _place_by_words(lines: Sequence[Line], spans: Sequence[SpeechSpan]) -> list[Slot] | None:
    """Place lines on recognised words; None when under a quarter of the lines have a word in them."""
    heard = [(_fold_word(word), slot) for span in spans for word, slot in _estimate_word_times(span)]
    said = [(_fold_word(word), k) for k, line in enumerate(lines) for word in _WORD.findall(line.text)]
    matcher = SequenceMatcher(None, [word for word, _ in said], [word for word, _ in heard], autojunk=False)
    slots: list[Slot | None] = [None] * len(lines)
    for block in matcher.get_matching_blocks():
        for a, b in zip(range(block.a, block.a + block.size), range(block.b, block.b + block.size)):
            line, (start, end) = said[a][1], heard[b][1]
            known = slots[line]
            slots[line] = (min(start, known[0]), max(end, known[1])) if known else (start, end)
    if _MIN_PLACED_SHARE * sum(slot is not None for slot in slots) < len(lines):
        return None
    return _fill_gaps(slots, [count_syllables(line.text) for line in lines], [span[:2] for span in spans])


def _fold_word(word: str) -> str:
    return re.sub(r"[^\w]", "", word).casefold()


def _estimate_word_times(span: SpeechSpan) -> Iterable[tuple[str, Slot]]:
    """Estimate (word, slot) of the words recognised in a span, by syllables."""
    words = _WORD.findall(span.text or "")
    return zip(words, split_slot(span.start, span.end, words)) if words else ()


def _fill_gaps(slots: list[Slot | None], weights: list[int], spans: list[Slot]) -> list[Slot]:
    """Give the lines between those that have a slot the speech that is left there, by syllables.

    weights: syllables of all lines.
    spans: of speech.
    """
    filled: list[Slot] = []
    k = 0
    while k < len(slots):
        slot = slots[k]
        if slot is not None:
            filled.append(slot)
            k += 1
            continue
        stop = next((j for j in range(k, len(slots)) if slots[j] is not None), len(slots))
        since = filled[-1][1] if filled else spans[0][0]
        following = slots[stop] if stop < len(slots) else None
        until = following[0] if following else spans[-1][1]
        free = [(max(a, since), min(b, until)) for a, b in spans if min(b, until) > max(a, since)]
        filled += _place_by_syllables(weights[k:stop], free or [(since, max(since, until))])
        k = stop
    return filled


def _place_by_syllables(weights: list[int], spans: list[Slot]) -> list[Slot]:
    """Deal speech out so that durations follow the syllables of lines, cut in silences where that costs little.

    weights: syllables of every line.
    spans: of speech.
    """
    lengths = [float(b - a) for a, b in spans]
    total, share = sum(lengths), sum(weights)
    joints = np.concatenate([[0.0], np.cumsum(lengths)])  # of the spans, in seconds of speech
    if total <= 0:
        return [(spans[0][0], spans[0][0])] * len(weights)
    reach = max(_REACH_S, _REACH_SHARE * total)
    choices = [(np.array([0.0]), np.zeros(1))]
    for cut in np.cumsum(weights)[:-1] * total / share:
        choices.append(_list_cuts(cut, joints[1:-1], reach))
    choices.append((np.array([total]), np.zeros(1)))
    cuts = _find_cheapest_cuts(choices, np.array(weights) * total / share)
    return [
        (_find_film_time(a, spans, joints, "right"), _find_film_time(b, spans, joints, "left"))
        for a, b in zip(cuts, cuts[1:])
    ]


def _list_cuts(cut: float, silences: np.ndarray, reach: float) -> Cuts:
    """List the places for a cut: silences within reach of where syllables put it, and that place itself."""
    near = silences[slice(*np.searchsorted(silences, (cut - reach, cut + reach)))]
    near = near[np.argsort(np.abs(near - cut))[:_MAX_CUTS]]
    inside = not len(near) or np.abs(near - cut).min() > _SHORTEST_S
    return np.append(near, cut), np.append(np.zeros(len(near)), _CUT_INSIDE_COST if inside else 0.0)


def _find_cheapest_cuts(choices: list[Cuts], wanted: np.ndarray) -> np.ndarray:
    """Find one cut of every choice, so that pieces have the lengths wanted at the lowest price.

    wanted: (N,) seconds.
    Returns (N + 1,) seconds of speech.
    """
    cost, back = np.zeros(1), []
    for (before, _), (after, prices), length in zip(choices, choices[1:], wanted):
        piece = after[None] - before[:, None]
        step = np.where(piece > _SHORTEST_S, np.log(np.maximum(piece, _SHORTEST_S) / length) ** 2, np.inf)
        sums = cost[:, None] + step + prices[None]
        back.append(np.argmin(sums, 0))
        cost = sums.min(0)
    if not np.isfinite(cost[0]):
        return np.concatenate([[0.0], np.cumsum(wanted)])
    picks = [0]
    for choice in reversed(back):
        picks.append(int(choice[picks[-1]]))
    return np.array([cuts[k] for (cuts, _), k in zip(choices, reversed(picks))])


def _find_film_time(spoken: float, spans: list[Slot], joints: np.ndarray, side: str) -> Fraction:
    """Find the film time of so many seconds of speech.

    side: at a joint "right" is the start of the next span, "left" the end of the last.
    """
    nudge = _SHORTEST_S if side == "right" else -_SHORTEST_S
    k = int(np.clip(np.searchsorted(joints, spoken + nudge, side="right") - 1, 0, len(spans) - 1))
    into = Fraction(max(0.0, float(spoken - joints[k]))).limit_denominator(10**6)
    return min(spans[k][1], spans[k][0] + into)
