"""Other takes of a planned line: another tempo, melody, stress and pauses, as a person would say it again."""

from dataclasses import dataclass, replace

import numpy as np

from engine.errors import UsageProblem
from voice.fit import bounds_of, kinds_of, spread, whole
from voice.pauses import settled
from voice.plan import CURVE_PER_UNIT, Plan

VOICED_HZ = 50.0                       # below it F0 is not heard
TEMPO = (0.90, 1.10)                   # natural length over spoken length
RANGE = (0.75, 1.30)                   # factor on the distance from the median, in semitones
TILT_ST = 1.2                          # most that a line's end is raised or lowered against its start
REGISTER_ST = 0.6                      # most that the whole line is
ACCENT_ST, ACCENT_LONGER, ACCENT_LOUDER = (0.8, 1.8), 1.12, 0.03   # on one word; louder is a share of the energy's span
PAUSE = (0.65, 1.5)                    # factor on each pause
LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
MOST = 1000                            # takes of a line


@dataclass(frozen=True)
class Manner:
    """How a take differs. tempo, range, pause: factors.  tilt_st, register_st, accent_st: semitones.  word: of the plan, or None."""

    tempo: float
    range: float
    pause: float
    tilt_st: float
    register_st: float
    accent_st: float
    word: int | None


def manner(index, seed, words):
    """The Manner of take `index` (1 or more); neighbours differ in direction: faster then slower, livelier then calmer.

    index: int.  seed: int.  words: number of words in the line.
    Source: ours; seeded, the same on every machine.
    """
    rng = np.random.default_rng([int(seed), int(index), 0x7A4E])
    spans = np.log([TEMPO, RANGE, PAUSE])
    signs = np.array([[1, 1, -1], [-1, -1, 1], [1, -1, -1], [-1, 1, 1]][(index - 1) % 4])
    share = rng.uniform(0.45, 1.0, 3)
    tempo, spread_, pause = np.exp(np.where(signs > 0, spans[:, 1], spans[:, 0]) * share)
    tilt, register = rng.uniform(-TILT_ST, TILT_ST), rng.uniform(-REGISTER_ST, REGISTER_ST)
    accent, word = rng.uniform(*ACCENT_ST), int(rng.integers(words)) if words else None
    return Manner(float(tempo), float(spread_), float(pause), float(tilt), float(register), float(accent), word)


def take(plan, index, seed=0):
    """Take `index` of a line, a Plan: 0 is the plan itself, each other one differs in tempo, melody, stress and pauses.

    plan: natural Plan, of which takes are made before it is fitted to a slot.  index: 0 to 1000.  seed: 0 or more.
    Same plan, index and seed: same take; bounded so that it stays speech of the same person.
    Raises UsageProblem for another index or seed.
    Source: ours.
    """
    if not 0 <= index <= MOST or seed < 0:
        raise UsageProblem(f"take {index} with seed {seed}: need a take from 0 to {MOST} and a seed of 0 or more.", code="bad_take")
    if index == 0:
        return plan
    plan = settled(plan)
    how = manner(index, seed, len(plan.words))
    return _sung(_timed(plan, how), how)


def _accented(plan, how):
    """(N,) bool: phones of the accented word."""
    inside = np.zeros(len(plan.phones), bool)
    if how.word is not None:
        inside[plan.words[how.word].start : plan.words[how.word].stop] = True
    return inside


def _timed(plan, how):
    """The plan at the tempo, with the pauses and the longer word of the manner."""
    kinds = kinds_of(plan)
    give, low, high = bounds_of(plan, kinds)
    natural, inner = np.array(plan.durations, float), np.array([bool(k) for k in kinds])
    pauses = np.array([k in ("pause", "asked pause") for k in kinds])
    lengths = natural.copy()
    speech = inner & ~pauses
    if speech.any():
        lengths[speech] = spread(natural[speech], give[speech], low[speech], high[speech], natural[speech].sum() / how.tempo)
    lengths[pauses] = np.clip(natural[pauses] * how.pause, low[pauses], high[pauses])
    longer = _accented(plan, how) & speech
    lengths[longer] *= ACCENT_LONGER
    return plan.retimed(whole(lengths))


def _sung(plan, how):
    """The plan with the melody and the loudness of the manner; what is unvoiced stays as it is."""
    voiced = plan.f0 > VOICED_HZ
    if not voiced.any():
        return plan
    edges, accent = CURVE_PER_UNIT * plan.edges, np.zeros(len(plan.f0))
    word = np.flatnonzero(_accented(plan, how))
    if len(word):
        a, b = edges[word[0]], edges[word[-1] + 1]
        accent[a:b] = np.hanning(b - a + 2)[1:-1]
    pitch = 12 * np.log2(np.maximum(plan.f0, 1e-3))
    middle, where = np.median(pitch[voiced]), np.linspace(-0.5, 0.5, len(pitch))
    new = middle + (pitch - middle) * how.range + 2 * how.tilt_st * where + how.register_st + how.accent_st * accent
    f0 = np.where(voiced, np.clip(2 ** (new / 12), np.minimum(plan.f0, LOWEST_HZ), np.maximum(plan.f0, HIGHEST_HZ)), plan.f0)
    span = float(np.ptp(plan.energy))
    return replace(plan, f0=f0.astype(np.float32), energy=(plan.energy + ACCENT_LOUDER * span * accent).astype(np.float32))


def takes(plan, count, seed=0):
    """The first `count` takes, a tuple of Plan. count: 1 to 1000. Raises UsageProblem. Source: ours."""
    if not 1 <= count <= MOST:
        raise UsageProblem(f"--takes {count}: need 1 to {MOST}.", code="bad_takes")
    made: tuple[Plan, ...] = tuple(take(plan, k, seed) for k in range(count))
    return made
