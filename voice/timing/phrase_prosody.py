"""Another language's actor: pauses, the melody of whole phrases and the range of loudness, for words that are not the
same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from mouthpiece.engine.audio.voice_activity import detect_speech_activity, find_runs
from mouthpiece.engine.encoders.phonetic import RATE_HZ as LISTEN_HZ
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.voice.plan.speech_plan import CURVE_VALUES_PER_UNIT, MARKS, SILENT_F0_HZ, SILENT_PLAN_ENERGY, UNIT_S
from mouthpiece.voice.timing.pitch import HOP_S, compute_loudness_contour, estimate_f0, get_curve_times, smooth_f0
from mouthpiece.voice.timing.prosody import F0_RANGE_HZ, MIN_VOICED_HZ, ProsodyTarget

if TYPE_CHECKING:
    from mouthpiece.voice.plan.speech_plan import SpeechPlan
    from mouthpiece.voice.timing.pitch import F0Contour

UNIT_SECONDS = float(UNIT_S)
MIN_PAUSE_S = 0.15
MAX_PAUSE_S = 3.0
# share of the line that a pause rather moves than tear two words apart without punctuation
UNPUNCTUATED_GAP_COST = 0.06
KEPT_PAUSE_UNITS = 4  # what the voice's own pauses keep where the actor makes none
PITCH_RANGE_FACTORS = (0.6, 1.8)  # the voice's range of melody is widened or narrowed by no more
BOUNDARY_TONE_S, MAX_BOUNDARY_TONE_ST = 0.25, 5.0
MAX_DECLINATION_ST = 8.0  # over a phrase
MAX_LOUDNESS_DB = 6.0  # between a phrase and the mean of the line
MIN_VOICED_FRAMES = 8


@dataclass(frozen=True)
class ProsodicPhrase:
    """What is kept of a phrase: its mean and spread, its fall, how its end moves, how loud it is.

    start_s, stop_s: in the recording.  mean_st: above 1 Hz.  spread_st: without the fall.  fall_st: from start to end,
    mostly negative.
    final_st: the last quarter second above the line of the fall.  loudness_db: of its speech. None: nothing voiced
    there.
    Source: ours; declination and boundary tones as in Ladd, Intonational Phonology.
    """

    start_s: float
    stop_s: float
    mean_st: float | None = None
    std_st: float = 0.0
    declination_st: float = 0.0
    boundary_tone_st: float = 0.0
    loudness_db: float = 0.0


def find_phrases(recording: np.ndarray) -> list[ProsodicPhrase]:
    """The phrases of a recording: stretches of speech between pauses of 150 ms or more.

    recording: (S,) float32 at 16 kHz.
    Source: ours, on silero-vad and Praat.
    """
    hz = int(ARTICULATION_HZ)
    spans = [(a / hz, b / hz) for a, b in find_runs(detect_speech_activity(recording) > 0.5)]
    joined = []
    for start, stop in spans:
        if joined and start - joined[-1][1] < MIN_PAUSE_S:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    melody = smooth_f0(estimate_f0(recording, LISTEN_HZ)) if joined else None
    return [_measure_phrase(melody, recording, start, stop) for start, stop in joined]


def _measure_phrase(melody: F0Contour, recording: np.ndarray, start: float, stop: float) -> ProsodicPhrase:
    at = np.arange(start, stop, HOP_S)
    loudness = compute_loudness_contour(recording, LISTEN_HZ, at)
    loud = float(loudness[loudness > loudness.max() - 25].mean())
    voiced = melody.is_voiced_at(at)
    if voiced.sum() < MIN_VOICED_FRAMES:
        return ProsodicPhrase(start, stop, loudness_db=loud)
    shape = measure_intonation(at[voiced], 12 * np.log2(melody.at(at)[voiced]))
    return ProsodicPhrase(start, stop, *shape, loud)


def measure_intonation(times_s: np.ndarray, st: np.ndarray) -> tuple[float, float, float, float]:
    """(mean, spread, fall, final) in semitones of a phrase's voiced points (N,). Source: straight line, and what its
    end adds.
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
    """The plan with the pauses, the phrase melody and the loudness range of a recording in another language.

    plan: natural Plan.  recording: (S,) float32 at 16 kHz.  amount: 0 to 1.
    register_st: semitones to move the actor's melody by; None keeps the actor's register.
    A recording without speech leaves the plan as it is, with a note.
    """
    facts = dict(method="other language", amount=amount)
    if amount <= 0:
        return ProsodyTarget(plan, facts=facts)
    phrases = find_phrases(recording)
    if not phrases:
        note = f"The actor's prosody is not used. The recording ({len(recording) / LISTEN_HZ:.1f} s) holds no speech: silence, noise or music."
        return ProsodyTarget(plan, facts=dict(facts, method="none"), note=note)
    timed, cuts = transfer_pauses(
        plan,
        [min(b.start_s - a.stop_s, MAX_PAUSE_S) for a, b in zip(phrases, phrases[1:])],
        [a.stop_s - phrases[0].start_s for a in phrases[:-1]],
        phrases[-1].stop_s - phrases[0].start_s,
        amount,
    )
    phrases = _merge_phrases(phrases, len(cuts) + 1)
    melody, gain = transfer_intonation(timed, cuts, phrases, amount, register_st or 0.0)
    melody = _match_register(timed.f0, melody, estimate_f0(recording, LISTEN_HZ).median_hz, amount, register_st or 0.0)
    start_s = phrases[0].start_s - timed.durations[0] * UNIT_SECONDS
    facts.update(phrases=len(phrases), pauses=len(cuts), register_st=round(register_st or 0.0, 2))
    target = np.where(timed.f0 > MIN_VOICED_HZ, melody, 0).astype(np.float32)
    return ProsodyTarget(timed.replace_curves(f0=melody), start_s, None, target, facts, gain_db=gain)


def _match_register(
    own_hz: np.ndarray, melody_hz: np.ndarray, actor_hz: float, amount: float, register_st: float
) -> np.ndarray:
    """The melody with its median where the actor's lies: phrases are moved together, so that none stands out."""
    voiced = own_hz > MIN_VOICED_HZ
    if actor_hz is None or not voiced.any():
        return melody_hz
    wanted = (1 - amount) * np.log(np.median(own_hz[voiced])) + amount * np.log(actor_hz * 2 ** (register_st / 12))
    moved = melody_hz * np.exp(wanted - np.log(np.median(melody_hz[voiced])))
    return np.where(voiced, np.clip(moved, *F0_RANGE_HZ), melody_hz).astype(np.float32)


def _merge_phrases(phrases: list[ProsodicPhrase], wanted: int) -> list[ProsodicPhrase]:
    """As many phrases as the plan has: those with the shortest pause between them become one."""
    phrases = list(phrases)
    while len(phrases) > wanted:
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
) -> tuple:
    """(plan with the recording's pauses, numbers of the phones where a new phrase begins).

    lengths_s, at_s: pauses of the recording, and where in its speech they come.  whole_s: length of that speech with
    pauses.
    Each goes to the mark nearest in proportion, rather one with punctuation. Other marks keep 100 ms at most.
    Source: ours; Hungarian assignment.
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
    """(F0 (2 U,) in Hz with the phrases' melody, gain (2 U,) in dB with their loudness).

    plan: Plan.  cuts: phones where a phrase begins, without the first.  phrases: one more than cuts.
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
