"""Variations of a planned line: another tempo, intonation, stress and pauses, as a person would say it again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.plan.pauses import move_silence_to_marks
from mouthpiece.voice.plan.phone_durations import (
    classify_phones,
    distribute_durations,
    get_duration_bounds,
    round_cumulatively,
)
from mouthpiece.voice.plan.speech_plan import CURVE_VALUES_PER_UNIT, SpeechPlan

MIN_VOICED_HZ = 50.0  # below it F0 is not heard
TEMPO_RANGE = (0.90, 1.10)  # natural length over spoken length
PITCH_RANGE_FACTORS = (0.75, 1.30)  # factor on the distance from the median, in semitones
MAX_TILT_ST = 1.2  # by which a line's end is raised or lowered against its start
MAX_REGISTER_ST = 0.6  # by which the whole line is raised or lowered
ACCENT_RANGE_ST = (0.8, 1.8)  # by which the accented word is raised
ACCENT_DURATION_FACTOR = 1.12  # on the phones of the accented word
ACCENT_ENERGY_SHARE = 0.03  # share of the energy's span by which the accented word is louder
PAUSE_FACTORS = (0.65, 1.5)  # factor on each pause
MIN_F0_HZ = 60.0
MAX_F0_HZ = 500.0
MAX_VARIATIONS = 1000  # of a line


@dataclass(frozen=True)
class Style:
    """How a variation differs. tempo, range, pause: factors.  tilt_st, register_st, accent_st: semitones.
    word: index of the accented word, or None.
    """

    tempo: float
    range: float
    pause: float
    tilt_st: float
    register_st: float
    accent_st: float
    word: int | None


def sample_style(index: int, seed: int, words: int) -> Style:
    """Sample the style of variation `index` (1 or more), the same on every machine; neighbours differ in direction:
    faster then slower, livelier then calmer.

    words: number of words in the line.
    """
    rng = np.random.default_rng([int(seed), int(index), 0x7A4E])
    spans = np.log([TEMPO_RANGE, PITCH_RANGE_FACTORS, PAUSE_FACTORS])
    signs = np.array([[1, 1, -1], [-1, -1, 1], [1, -1, -1], [-1, 1, 1]][(index - 1) % 4])
    share = rng.uniform(0.45, 1.0, 3)
    tempo, pitch_range, pause = np.exp(np.where(signs > 0, spans[:, 1], spans[:, 0]) * share)
    tilt, register = rng.uniform(-MAX_TILT_ST, MAX_TILT_ST), rng.uniform(-MAX_REGISTER_ST, MAX_REGISTER_ST)
    accent, word = rng.uniform(*ACCENT_RANGE_ST), int(rng.integers(words)) if words else None
    return Style(float(tempo), float(pitch_range), float(pause), float(tilt), float(register), float(accent), word)


def vary_plan(plan: SpeechPlan, index: int, seed: int = 0) -> SpeechPlan:
    """Vary a plan in tempo, intonation, stress and pauses, within what stays speech of the same person; variation 0 is
    the plan itself.

    plan: natural plan, before it is fitted to a slot.  index: 0 to 1000.  seed: 0 or more.
    Raises UsageError for another index or seed.
    """
    if not 0 <= index <= MAX_VARIATIONS or seed < 0:
        raise UsageError(
            f"take {index} with seed {seed}: need a take from 0 to {MAX_VARIATIONS} and a seed of 0 or more.",
            code="bad_take",
        )
    if index == 0:
        return plan
    plan = move_silence_to_marks(plan)
    style = sample_style(index, seed, len(plan.words))
    return _shift_intonation(_apply_tempo(plan, style), style)


def _find_accented_phones(plan: SpeechPlan, style: Style) -> np.ndarray:
    """Find the phones of the accented word: (N,) bool."""
    inside = np.zeros(len(plan.phones), bool)
    if style.word is not None:
        inside[plan.words[style.word].start : plan.words[style.word].stop] = True
    return inside


def _apply_tempo(plan: SpeechPlan, style: Style) -> SpeechPlan:
    """Apply the tempo, the pauses and the longer word of a style."""
    kinds = classify_phones(plan)
    give, low, high = get_duration_bounds(plan, kinds)
    natural, inner = np.array(plan.durations, float), np.array([bool(k) for k in kinds])
    pauses = np.array([k in ("pause", "asked pause") for k in kinds])
    lengths = natural.copy()
    speech = inner & ~pauses
    if speech.any():
        lengths[speech] = distribute_durations(
            natural[speech], give[speech], low[speech], high[speech], natural[speech].sum() / style.tempo
        )
    lengths[pauses] = np.clip(natural[pauses] * style.pause, low[pauses], high[pauses])
    longer = _find_accented_phones(plan, style) & speech
    lengths[longer] *= ACCENT_DURATION_FACTOR
    return plan.retime(round_cumulatively(lengths))


def _shift_intonation(plan: SpeechPlan, style: Style) -> SpeechPlan:
    """Apply the intonation and the loudness of a style; unvoiced sounds keep their F0."""
    voiced = plan.f0 > MIN_VOICED_HZ
    if not voiced.any():
        return plan
    edges, accent = CURVE_VALUES_PER_UNIT * plan.edges, np.zeros(len(plan.f0))
    word = np.flatnonzero(_find_accented_phones(plan, style))
    if len(word):
        a, b = edges[word[0]], edges[word[-1] + 1]
        accent[a:b] = np.hanning(b - a + 2)[1:-1]
    pitch = 12 * np.log2(np.maximum(plan.f0, 1e-3))
    middle, where = np.median(pitch[voiced]), np.linspace(-0.5, 0.5, len(pitch))
    new = (
        middle
        + (pitch - middle) * style.range
        + 2 * style.tilt_st * where
        + style.register_st
        + style.accent_st * accent
    )
    f0 = np.where(
        voiced, np.clip(2 ** (new / 12), np.minimum(plan.f0, MIN_F0_HZ), np.maximum(plan.f0, MAX_F0_HZ)), plan.f0
    )
    span = float(np.ptp(plan.energy))
    return replace(
        plan, f0=f0.astype(np.float32), energy=(plan.energy + ACCENT_ENERGY_SHARE * span * accent).astype(np.float32)
    )


def make_variations(plan: SpeechPlan, count: int, seed: int = 0) -> tuple[SpeechPlan, ...]:
    """Make the first `count` variations of a plan. count: 1 to 1000. Raises UsageError."""
    if not 1 <= count <= MAX_VARIATIONS:
        raise UsageError(f"--takes {count}: need 1 to {MAX_VARIATIONS}.", code="bad_takes")
    return tuple(vary_plan(plan, index, seed) for index in range(count))
