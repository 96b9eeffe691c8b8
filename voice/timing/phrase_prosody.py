"""Prosody transfer between different words: pauses, intonation and loudness of whole phrases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from mouthpiece.engine.audio.voice_activity import detect_speech_activity, find_runs
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.voice.plan.speech_plan import CURVE_VALUES_PER_UNIT, MARKS, SILENT_F0_HZ, SILENT_PLAN_ENERGY, UNIT_S
from mouthpiece.voice.timing.pitch import HOP_S, compute_loudness_contour, estimate_f0, get_curve_times, smooth_f0
from mouthpiece.voice.timing.prosody import F0_RANGE_HZ, MIN_VOICED_HZ, ProsodyTarget

if TYPE_CHECKING:
    from mouthpiece.voice.plan.speech_plan import SpeechPlan
    from mouthpiece.voice.timing.pitch import F0Contour

UNIT_SECONDS = float(UNIT_S)
MIN_PAUSE_S = 0.15  # between phrases
MAX_PAUSE_S = 3.0  # that is transferred
# of a pause between words without punctuation, as a share of the line by which the pause is misplaced
UNPUNCTUATED_GAP_COST = 0.06
KEPT_PAUSE_UNITS = 4  # of the voice's own pauses where the actor makes none
PITCH_RANGE_FACTORS = (0.6, 1.8)  # by which the voice's pitch range is scaled
BOUNDARY_TONE_S = 0.25  # end of a phrase that carries its boundary tone
MAX_BOUNDARY_TONE_ST = 5.0
MAX_DECLINATION_ST = 8.0  # over a phrase
MAX_LOUDNESS_DB = 6.0  # of a phrase against the mean of the line
MIN_VOICED_FRAMES = 8  # from which a phrase's intonation is measured


@dataclass(frozen=True)
class ProsodicPhrase:
    """Intonation and loudness of a phrase of a recording.

    start_s, stop_s: in the recording.  mean_st: mean F0 above 1 Hz; None without voiced frames.
    std_st: standard deviation of F0 about its declination.  declination_st: from start to end, mostly negative.
    boundary_tone_st: mean of the last quarter second above the declination line.  loudness_db: of its speech.
    Source: declination and boundary tones as in Ladd, Intonational Phonology.
    """

    start_s: float
    stop_s: float
    mean_st: float | None = None
    std_st: float = 0.0
    declination_st: float = 0.0
    boundary_tone_st: float = 0.0
    loudness_db: float = 0.0


def find_phrases(recording: np.ndarray) -> list[ProsodicPhrase]:
    """Find the phrases of a recording, (S,) float32 at 16 kHz: speech between pauses of 150 ms or more."""
    hz = int(ARTICULATION_HZ)
    spans = [(a / hz, b / hz) for a, b in find_runs(detect_speech_activity(recording) > 0.5)]
    phrases: list[tuple[float, float]] = []
    for start, stop in spans:
        if phrases and start - phrases[-1][1] < MIN_PAUSE_S:
            phrases[-1] = (phrases[-1][0], stop)
        else:
            phrases.append((start, stop))
    if not phrases:
        return []
    contour = smooth_f0(estimate_f0(recording, RATE_HZ))
    return [_measure_phrase(contour, recording, start, stop) for start, stop in phrases]


def _measure_phrase(contour: F0Contour, recording: np.ndarray, start: float, stop: float) -> ProsodicPhrase:
    """Measure the phrase from start to stop, seconds of the recording."""
    at = np.arange(start, stop, HOP_S)
    loudness = compute_loudness_contour(recording, RATE_HZ, at)
    loud = float(loudness[loudness > loudness.max() - 25].mean())
    voiced = contour.is_voiced_at(at)
    if voiced.sum() < MIN_VOICED_FRAMES:
        return ProsodicPhrase(start, stop, loudness_db=loud)
    shape = measure_intonation(at[voiced], 12 * np.log2(contour.at(at)[voiced]))
    return ProsodicPhrase(start, stop, *shape, loud)


def measure_intonation(times_s: np.ndarray, st: np.ndarray) -> tuple[float, float, float, float]:
    """Measure a phrase's (mean, deviation, declination, boundary tone) in semitones from its voiced points (N,): a
    straight line, and what its end adds to it.
    """
    x = (times_s - times_s[0]) / max(times_s[-1] - times_s[0], 1e-3) - 0.5
    body = times_s < times_s[-1] - BOUNDARY_TONE_S
    slope = np.polyfit(x[body], st[body], 1)[0] if body.sum() >= MIN_VOICED_FRAMES else 0.0
    fall = float(np.clip(slope, -MAX_DECLINATION_ST, MAX_DECLINATION_ST))
    mean = float((st - fall * x)[body].mean() if body.any() else st.mean())
    rest = st - mean - fall * x
    final = float(np.clip(rest[~body].mean(), -MAX_BOUNDARY_TONE_ST, MAX_BOUNDARY_TONE_ST)) if body.any() else 0.0
    return mean, float(rest[body].std() if body.any() else rest.std()), fall, final


def transfer_phrase_prosody(
    plan: SpeechPlan, recording: np.ndarray, amount: float = 1.0, register_st: float | None = None
) -> ProsodyTarget:
    """Transfer the pauses, phrase intonation and loudness of a recording with other words to a plan; a recording
    without speech leaves the plan as it is, with a note.

    plan: natural plan.  recording: (S,) float32 at 16 kHz.  amount: 0 to 1.
    register_st: semitones by which the actor's F0 is moved; None keeps the actor's register.
    """
    facts = dict(method="other language", amount=amount)
    if amount <= 0:
        return ProsodyTarget(plan, facts=facts)
    phrases = find_phrases(recording)
    if not phrases:
        holds = f"The recording ({len(recording) / RATE_HZ:.1f} s) holds no speech: silence, noise or music."
        note = f"The actor's prosody is not used. {holds}"
        return ProsodyTarget(plan, facts=dict(facts, method="none"), note=note)
    timed, cuts = transfer_pauses(
        plan,
        [min(b.start_s - a.stop_s, MAX_PAUSE_S) for a, b in zip(phrases, phrases[1:])],
        [a.stop_s - phrases[0].start_s for a in phrases[:-1]],
        phrases[-1].stop_s - phrases[0].start_s,
        amount,
    )
    phrases = _merge_phrases(phrases, len(cuts) + 1)
    f0_hz, gain = transfer_intonation(timed, cuts, phrases, amount, register_st or 0.0)
    f0_hz = _match_register(timed.f0, f0_hz, estimate_f0(recording, RATE_HZ).median_hz, amount, register_st or 0.0)
    start_s = phrases[0].start_s - timed.durations[0] * UNIT_SECONDS
    facts.update(phrases=len(phrases), pauses=len(cuts), register_st=round(register_st or 0.0, 2))
    target = np.where(timed.f0 > MIN_VOICED_HZ, f0_hz, 0).astype(np.float32)
    return ProsodyTarget(timed.replace_curves(f0=f0_hz), start_s, None, target, facts, gain_db=gain)


def _match_register(
    own_hz: np.ndarray, f0_hz: np.ndarray, actor_hz: float | None, amount: float, register_st: float
) -> np.ndarray:
    """Move F0 (2 U,) to the actor's median, all phrases together, so that none stands out. own_hz: of the voice."""
    voiced = own_hz > MIN_VOICED_HZ
    if actor_hz is None or not voiced.any():
        return f0_hz
    wanted = (1 - amount) * np.log(np.median(own_hz[voiced])) + amount * np.log(actor_hz * 2 ** (register_st / 12))
    moved = f0_hz * np.exp(wanted - np.log(np.median(f0_hz[voiced])))
    return np.where(voiced, np.clip(moved, *F0_RANGE_HZ), f0_hz).astype(np.float32)


def _merge_phrases(phrases: list[ProsodicPhrase], count: int) -> list[ProsodicPhrase]:
    """Merge phrases across the shortest pauses until there are `count`."""
    phrases = list(phrases)
    while len(phrases) > count:
        n = min(range(len(phrases) - 1), key=lambda k: phrases[k + 1].start_s - phrases[k].stop_s)
        a, b = phrases[n], phrases[n + 1]
        longer = max((a, b), key=lambda p: (p.mean_st is not None, p.stop_s - p.start_s))
        loud = (a.loudness_db + b.loudness_db) / 2
        phrases[n : n + 2] = [
            ProsodicPhrase(
                a.start_s, b.stop_s, longer.mean_st, longer.std_st, longer.declination_st, b.boundary_tone_st, loud
            )
        ]
    return phrases


def transfer_pauses(
    plan: SpeechPlan, lengths_s: list[float], at_s: list[float], whole_s: float, amount: float
) -> tuple[SpeechPlan, list[int]]:
    """Transfer the pauses of a recording to a plan: (plan, indices of the phones at which a new phrase begins).

    lengths_s, at_s: pauses of the recording, and when they come.  whole_s: duration of the speech with its pauses.
    Each goes to the mark nearest in proportion, preferably one with punctuation (Hungarian assignment); other marks
    keep 100 ms at most.
    """
    gaps = [(w.stop, v.start) for w, v in zip(plan.words, plan.words[1:]) if v.start > w.stop]
    durations, edges = list(plan.durations), plan.edges
    order = sorted(np.argsort(lengths_s)[::-1][: len(gaps)])
    chosen, spoken = {}, max(1, edges[-2] - edges[1])
    if order:
        share = np.array([(edges[a] - edges[1]) / spoken for a, _ in gaps])
        plain = np.array([not any(p in MARKS and p.strip() for p in plan.phones[a:b]) for a, b in gaps])
        cost = (
            np.abs(share[None] - np.array([at_s[k] / whole_s for k in order])[:, None])
            + UNPUNCTUATED_GAP_COST * plain[None]
        )
        taken = sorted(linear_sum_assignment(cost)[1])
        chosen = {int(g): lengths_s[k] for g, k in zip(taken, order)}
    f0, energy, silent = plan.f0, plan.energy, []
    for n, (a, b) in enumerate(gaps):
        own = sum(durations[a:b])
        wanted = round(chosen[n] / UNIT_SECONDS) if n in chosen else min(own, KEPT_PAUSE_UNITS)
        units = round(own + amount * (wanted - own))
        for k in range(a, b - 1):
            durations[k] = min(durations[k], max(0, units))
            units -= durations[k]
        durations[b - 1] = max(0, units)
        if n in chosen:
            silent.append(b - 1)
    timed = plan.retime(durations)
    f0, energy, edges = timed.f0.copy(), timed.energy.copy(), CURVE_VALUES_PER_UNIT * timed.edges
    for k in silent:
        inner = slice(edges[k] + 1, max(edges[k] + 1, edges[k + 1] - 1))
        f0[inner], energy[inner] = SILENT_F0_HZ, SILENT_PLAN_ENERGY
    return timed.replace_curves(f0=f0, energy=energy), [gaps[n][1] for n in sorted(chosen)]


def transfer_intonation(
    plan: SpeechPlan, cuts: list[int], phrases: list[ProsodicPhrase], amount: float, register_st: float
) -> tuple[np.ndarray, np.ndarray]:
    """Transfer the intonation and loudness of phrases to a plan: (F0 (2 U,) in Hz, gain (2 U,) in dB).

    cuts: indices of the phones at which a phrase begins, without the first.  phrases: one more than cuts.
    """
    st = 12 * np.log2(np.maximum(plan.f0, 1))
    out, gain, at = st.copy(), np.zeros(len(st)), get_curve_times(plan)
    edges = CURVE_VALUES_PER_UNIT * plan.edges[[0, *cuts, len(plan.phones)]]
    level = np.average([p.loudness_db for p in phrases], weights=[p.stop_s - p.start_s for p in phrases])
    for phrase, a, b in zip(phrases, edges, edges[1:]):
        gain[a:b] = amount * np.clip(phrase.loudness_db - level, -MAX_LOUDNESS_DB, MAX_LOUDNESS_DB)
        where = a + np.flatnonzero(plan.f0[a:b] > MIN_VOICED_HZ)
        if phrase.mean_st is None or len(where) < MIN_VOICED_FRAMES:
            continue
        mean, spread, fall, final = measure_intonation(at[where], st[where])
        x = (at[where] - at[where[0]]) / max(at[where[-1]] - at[where[0]], 1e-3) - 0.5
        end = np.clip(1 - (at[where[-1]] - at[where]) / BOUNDARY_TONE_S, 0, 1)
        wide = np.clip(phrase.std_st / max(spread, 0.3), *PITCH_RANGE_FACTORS)
        inner = st[where] - mean - fall * x - final * end
        wanted = phrase.mean_st + register_st + wide * inner + phrase.declination_st * x + phrase.boundary_tone_st * end
        out[where] += amount * (wanted - st[where])
    f0 = np.where(plan.f0 > MIN_VOICED_HZ, np.clip(2 ** (out / 12), *F0_RANGE_HZ), plan.f0)
    return f0.astype(np.float32), gain.astype(np.float32)
