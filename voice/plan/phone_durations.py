"""Durations of a plan's phones: how far each kind may be bent, and a plan retimed to a wanted duration."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mouthpiece.voice.plan.pauses import count_silent_units, find_offset, find_onset
from mouthpiece.voice.plan.speech_plan import MARKS, PAUSE, UNIT_S

if TYPE_CHECKING:
    from mouthpiece.voice.plan.speech_plan import SpeechPlan

VOWELS = frozenset("AIOQWYaeiouyæɐɑɒɔəɚɛɘɜɞɤɨɪɯɵøœʉʊʌᵊᵻːˈˌ\u0303")  # stress and length belong to their vowel
PLOSIVES = frozenset("pbtdkɡgqcɟʔʈɖTɾɽʣʥʦʨʧʤꭧ")
MAX_PLANNING_ROUNDS = 4  # of planning against the onset and offset read from the plan


class Elasticity(NamedTuple):
    """How far the duration of one kind of phone may be bent.

    give: willingness; of two kinds, the change is shared in this proportion.
    shortest, longest: factors of the natural duration.  floor_ms, ceiling_ms: never beyond, whatever the factors say.
    """

    give: float
    shortest: float
    longest: float
    floor_ms: float
    ceiling_ms: float


PHONE_ELASTICITY = {
    "pause": Elasticity(8.0, 0.35, 2.2, 60, 900),
    "asked pause": Elasticity(3.0, 0.6, 1.5, 50, 3000),
    "vowel": Elasticity(1.0, 0.5, 1.8, 25, 350),
    "link": Elasticity(0.8, 0.5, 1.6, 25, 100),
    "consonant": Elasticity(0.6, 0.55, 1.6, 25, 240),
    "stop": Elasticity(0.35, 0.65, 1.35, 25, 160),
}


def classify_phones(plan: SpeechPlan) -> list[str]:
    """Classify each phone by elasticity: a key of PHONE_ELASTICITY, or "" outside the first and the last sound."""
    sounds = [k for k, p in enumerate(plan.phones) if p not in MARKS]
    quiet, kinds = count_silent_units(plan), []
    for k, phone in enumerate(plan.phones):
        if not sounds or not sounds[0] <= k <= sounds[-1]:
            kinds.append("")
        elif phone == PAUSE:
            kinds.append("asked pause")
        elif phone in MARKS:
            kinds.append("pause" if plan.durations[k] >= 2 and quiet[k] * 2 >= plan.durations[k] else "link")
        else:
            kinds.append("vowel" if phone in VOWELS else "stop" if phone in PLOSIVES else "consonant")
    return kinds


def get_duration_bounds(plan: SpeechPlan, kinds: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Get (give, shortest, longest) of each phone, three (N,) arrays in units; what gives nothing has its natural
    duration. kinds: of `classify_phones`.
    """
    natural, unit_ms = np.array(plan.durations, float), float(UNIT_S) * 1000
    give, low, high = np.zeros(len(natural)), natural.copy(), natural.copy()
    for k, kind in enumerate(kinds):
        if kind and natural[k]:
            give[k], shortest, longest, floor_ms, ceiling_ms = PHONE_ELASTICITY[kind]
            low[k] = min(natural[k], max(1, natural[k] * shortest, floor_ms / unit_ms))
            high[k] = max(natural[k], min(natural[k] * longest, ceiling_ms / unit_ms))
    return give, low, high


def distribute_durations(
    natural: np.ndarray, give: np.ndarray, low: np.ndarray, high: np.ndarray, wanted: float
) -> np.ndarray:
    """Distribute a total over phones: (N,) durations that sum to `wanted` as far as the bounds allow.

    natural, give, low, high: (N,) of the phones, in the unit of `wanted`.
    They minimize the sum of natural (x / natural - 1)^2 / give; in closed form x = clip(natural (1 + l give)), with l
    found by bisection.
    """
    below, above = -1 / max(give.max(initial=0), 1e-9) - 60, 60.0
    for _ in range(80):
        middle = (below + above) / 2
        durations = np.clip(natural * (1 + middle * give), low, high)
        below, above = (middle, above) if durations.sum() < wanted else (below, middle)
    return durations


def round_cumulatively(lengths: np.ndarray) -> np.ndarray:
    """Round to whole units (N,) by error diffusion: the running sum is never off by more than a half, and a length of
    1 or more stays at least 1.
    """
    return np.diff(np.floor(np.concatenate([[0], np.cumsum(lengths)]) + 0.5 + 1e-9)).astype(int)


def compute_spoken_duration(plan: SpeechPlan) -> float:
    """Compute the seconds from the first to the last sound of a plan."""
    return find_offset(plan) - find_onset(plan)


def retime_to_duration(plan: SpeechPlan, wanted_s: float) -> SpeechPlan:
    """Retime a plan so that its first to last sound last wanted_s, as near as whole units and elasticity allow.

    plan: with its silence on its marks (`move_silence_to_marks`).
    """
    kinds = classify_phones(plan)
    give, low, high = get_duration_bounds(plan, kinds)
    natural, inner = np.array(plan.durations, float), np.array([bool(k) for k in kinds])
    best, aim = plan, natural[inner].sum() + (wanted_s - compute_spoken_duration(plan)) / float(UNIT_S)
    for _ in range(MAX_PLANNING_ROUNDS):
        durations = natural.copy()
        durations[inner] = distribute_durations(natural[inner], give[inner], low[inner], high[inner], round(aim))
        retimed = plan.retime(round_cumulatively(durations))
        missing_s = wanted_s - compute_spoken_duration(retimed)
        best = min(best, retimed, key=lambda p: abs(wanted_s - compute_spoken_duration(p)))
        if abs(missing_s) <= float(UNIT_S) / 2:
            break
        aim = np.clip(aim + missing_s / float(UNIT_S), low[inner].sum(), high[inner].sum())
    return best
