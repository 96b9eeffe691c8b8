"""Onset, offset and pauses of a plan, and its silence moved to the marks, out of the phones beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mouthpiece.voice.plan.speech_plan import CURVE_VALUES_PER_UNIT, MARKS, UNIT_S

if TYPE_CHECKING:
    from mouthpiece.voice.plan.speech_plan import SpeechPlan

# share of the way from a plan's quietest to its loud energy: above it the wave is heard (-35 dB)
SOUNDING_THRESHOLD = 0.55
# the wave's onset behind that of the energy; median of 37 lines, 6 voices
ONSET_CORRECTION_S = 0.003
# the wave's offset behind that of the energy; median of 37 lines, 6 voices
OFFSET_CORRECTION_S = -0.0098
MIN_ENERGY_SPAN = 1e-3  # energies that span less carry no information
HEAD_UNITS = 5  # of silence kept before the first sound, for breath
TAIL_UNITS = 5  # of silence kept after the last sound, for decay
LEVEL_WINDOW_S = 0.02  # window of the RMS by which edges are audible
AUDIBLE_RANGE_DB = -35.0  # below the loud parts of a wave: inaudible


class Pause(NamedTuple):
    """A silence inside a line. start_s, stop_s: seconds from its start.  phone: index of the mark that holds it."""

    start_s: float
    stop_s: float
    phone: int


def compute_relative_loudness(plan: SpeechPlan) -> np.ndarray:
    """Compute the relative loudness of each half unit, (2 U,) float32: 0 the plan's quietest, 1 its loud parts; 0 or 1
    by phone where the energy is flat. (Kokoro's energy falls from about 9 to -9.6 in silence, linearly in dB.)
    """
    low, high = float(plan.energy.min()), float(np.quantile(plan.energy, 0.95))
    if high - low < MIN_ENERGY_SPAN:
        sounds = [float(p not in MARKS) for p in plan.phones]
        return np.repeat(sounds, CURVE_VALUES_PER_UNIT * np.array(plan.durations)).astype(np.float32)
    return ((plan.energy - low) / (high - low)).astype(np.float32)


def _find_edges(share: np.ndarray) -> tuple[float, float]:
    """Find the (first, last) crossing of the threshold in half units, interpolated; the whole where nothing sounds."""
    above = np.flatnonzero(share >= SOUNDING_THRESHOLD)
    if not len(above):
        return 0.0, float(len(share))
    a, b = above[0], above[-1]
    first = a - (share[a] - SOUNDING_THRESHOLD) / max(share[a] - share[a - 1], MIN_ENERGY_SPAN) if a else -0.5
    last = (
        b + (share[b] - SOUNDING_THRESHOLD) / max(share[b] - share[b + 1], MIN_ENERGY_SPAN)
        if b + 1 < len(share)
        else b + 0.5
    )
    return first + 0.5, last + 0.5


def find_onset(plan: SpeechPlan) -> float:
    """Find when the first sound of a plan is heard, seconds from its start; the first phone begins a breath earlier."""
    return max(
        0.0,
        _find_edges(compute_relative_loudness(plan))[0] * float(UNIT_S) / CURVE_VALUES_PER_UNIT + ONSET_CORRECTION_S,
    )


def find_offset(plan: SpeechPlan) -> float:
    """Find when the last sound of a plan has ended, seconds from its start."""
    return min(
        float(plan.duration),
        _find_edges(compute_relative_loudness(plan))[1] * float(UNIT_S) / CURVE_VALUES_PER_UNIT + OFFSET_CORRECTION_S,
    )


def count_silent_units(plan: SpeechPlan) -> np.ndarray:
    """Count the silent units of each phone: (N,) float."""
    quiet = (
        np.concatenate([[0], np.cumsum(compute_relative_loudness(plan) < SOUNDING_THRESHOLD)]) / CURVE_VALUES_PER_UNIT
    )
    at = CURVE_VALUES_PER_UNIT * plan.edges
    return quiet[at[1:]] - quiet[at[:-1]]


def find_pauses(plan: SpeechPlan, shortest_s: float = 0.1) -> list[Pause]:
    """Find the pauses of a plan, in order: silences of at least shortest_s between its first and last sound that touch
    a mark. A closure inside a word is not a pause.
    """
    share, owner = (
        compute_relative_loudness(plan),
        np.repeat(np.arange(len(plan.phones)), CURVE_VALUES_PER_UNIT * np.array(plan.durations)),
    )
    silent = np.concatenate([[0], (share < SOUNDING_THRESHOLD).astype(np.int8), [0]])
    bounds, step, found = np.flatnonzero(np.diff(silent)).reshape(-1, 2), float(UNIT_S) / CURVE_VALUES_PER_UNIT, []
    for a, b in bounds:
        marks = [k for k in dict.fromkeys(owner[a : min(b + 1, len(owner))]) if plan.phones[k] in MARKS]
        if marks and 0 < a and b < len(share) and (b - a) * step >= shortest_s:
            found.append(Pause(a * step, b * step, int(next((k for k in marks if plan.phones[k] != " "), marks[0]))))
    return found


def move_silence_to_marks(plan: SpeechPlan) -> SpeechPlan:
    """Move the silence inside a phone before a mark to that mark; the plan sounds the same.

    In "noon," Kokoro's last n has 300 ms, of which 250 are silence.
    """
    durations, quiet, share = list(plan.durations), count_silent_units(plan), compute_relative_loudness(plan)
    for k in range(1, len(durations) - 1):
        if plan.phones[k] in MARKS or plan.phones[k + 1] not in MARKS - {" "} or quiet[k] < 1:
            continue
        part = (
            share[CURVE_VALUES_PER_UNIT * plan.edges[k] : CURVE_VALUES_PER_UNIT * plan.edges[k + 1]]
            >= SOUNDING_THRESHOLD
        )
        sounding = int(np.flatnonzero(part)[-1]) // CURVE_VALUES_PER_UNIT + 1 if part.any() else 0
        moved = durations[k] - max(2, sounding + 1)
        if moved > 0:
            durations[k] -= moved
            durations[k + 1] += moved
    return replace(plan, durations=tuple(durations))


def trim_plan_silence(plan: SpeechPlan, head_units: int = HEAD_UNITS, tail_units: int = TAIL_UNITS) -> SpeechPlan:
    """Trim the silence before the first and after the last sound to so many units; only marks are shortened.

    plan: with its silence on its marks (`move_silence_to_marks`).
    """
    edges = plan.edges
    first = next((k for k, p in enumerate(plan.phones) if p not in MARKS), 1)
    last = max((k for k, p in enumerate(plan.phones) if p not in MARKS), default=len(plan.phones) - 2)
    durations, keep = list(plan.durations), np.ones(plan.units, bool)
    heard_from = int(find_onset(plan) / float(UNIT_S))
    heard_to = int(np.ceil(find_offset(plan) / float(UNIT_S)))
    spare = min(heard_from - head_units, edges[first] - 1)
    keep[: max(0, spare)] = False
    spare = min(plan.units - heard_to - tail_units, plan.units - edges[last + 1] - 1)
    if spare > 0:
        keep[plan.units - spare :] = False
        if not keep[edges[-2] :].any():  # the closing PAUSE stays
            keep[edges[-2]], keep[plan.units - spare - 1] = True, False
    for k in [*range(first), *range(last + 1, len(durations))]:
        durations[k] = int(keep[edges[k] : edges[k + 1]].sum())
    values = np.repeat(keep, CURVE_VALUES_PER_UNIT)
    return replace(plan, durations=tuple(durations), f0=plan.f0[values], energy=plan.energy[values])


def find_audible_edges(wave: np.ndarray, rate_hz: int) -> tuple[float, float] | None:
    """Find the audible (onset, offset) of a wave, seconds: its first and last RMS of 20 ms within 35 dB of its loud
    parts; None in silence.

    wave: (S,) float32.
    Windows of 20 ms join the pulses of a creaky end; loud is the 95 % quantile of what lies within 40 dB of the peak.
    """
    width, step = max(1, round(LEVEL_WINDOW_S * rate_hz)), max(1, rate_hz // 1000)
    power = np.concatenate(
        [[0.0], np.cumsum(np.pad(np.asarray(wave, np.float64), (width // 2, width - width // 2)) ** 2)]
    )
    level = np.sqrt(np.maximum(power[width:] - power[:-width], 0)[::step] / width)
    peak = float(level.max(initial=0.0))
    loud = float(np.quantile(level[level >= peak * 0.01], 0.95)) if peak > 1e-5 else 0.0
    audible = np.flatnonzero(level > loud * 10 ** (AUDIBLE_RANGE_DB / 20)) if loud else np.zeros(0, int)
    if not len(audible):
        return None
    return audible[0] * step / rate_hz, min(len(wave), (audible[-1] + 1) * step) / rate_hz
