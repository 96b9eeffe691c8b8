"""Prosody transfer between the same words: pauses, phone times, F0 and loudness of a recording set in a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.voice.plan.speech_plan import MARKS, SILENT_F0_HZ, SILENT_PLAN_ENERGY, UNIT_S, VOICE_RATE_HZ, SpeechPlan
from mouthpiece.voice.timing.align import Alignment, align, normalize_word
from mouthpiece.voice.timing.pitch import (
    compute_interval_st,
    compute_loudness_contour,
    estimate_f0,
    get_curve_times,
    measure_contours,
    smooth_f0,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from whisper.model import Whisper

    from mouthpiece.voice.backends.backend import Voice
    from mouthpiece.voice.timing.align import TimedName

UNIT_SECONDS = float(UNIT_S)
MAX_LEAD_UNITS = 8  # of silence kept before the first and after the last sound, 200 ms
MIN_PAUSE_S = 0.06  # longer gaps between words are pauses
# a word starts and stops so much before its edges in the plan (medians, 312 words, four voices)
WORD_LEAD_S = (0.085, 0.04)
MIN_VOICED_HZ = 40.0  # a plan's F0 below this is unvoiced
F0_LAG_S = -0.003  # of the heard F0 behind the middle of its 12.5 ms in the plan (four voices)
TEMPO_RATIO_RANGE = (0.5, 2.0)  # of the actor's tempo to the voice's; beyond it a person should listen
F0_RANGE_HZ = (55.0, 520.0)  # that a voice can carry
MAX_CORRECTION_ST = 4.0  # of F0 in the second pass
GAIN_RANGE_DB = (-14.0, 10.0)  # of the loudness correction
GAIN_SMOOTHING_S = 0.03  # deviation of the Gaussian over a gain curve
SPEECH_RANGE_DB = 30.0  # frames further below the loudest are not speech


@dataclass(frozen=True, eq=False)
class ProsodyTarget:
    """A plan with an actor's prosody, and the contours that a voice should reach when it speaks it.

    start_s: second of the recording at which the plan starts; may be below zero.
    loudness_db: (2 units,) float32, target at the plan's curve values, relative to any level; None keeps the voice's.
    f0_hz: (2 units,) float32, target; 0 where there is none; None keeps the plan's own.
    facts: JSON-ready: method, amount, confidence, rate, register_st.
    note: why the recording could not be followed, or what needs review; empty when all went well.
    gain_db: (2 units,) float32, added to the voice's own loudness; None adds nothing.
    """

    plan: SpeechPlan
    start_s: float = 0.0
    loudness_db: np.ndarray | None = field(default=None, repr=False)
    f0_hz: np.ndarray | None = field(default=None, repr=False)
    facts: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    gain_db: np.ndarray | None = field(default=None, repr=False)


def align_own_speech(voice: Voice, plan: SpeechPlan, whisper: Whisper | None = None) -> Alignment:
    """Align the voice's own reading of a plan: the other end of the time map."""
    wave = resample(voice.speak(plan)[0], VOICE_RATE_HZ, RATE_HZ)
    return align(wave, plan.text, plan.language, whisper)


def transfer_word_prosody(
    plan: SpeechPlan,
    recording: np.ndarray,
    alignment: Alignment,
    own_speech: Alignment | None = None,
    amount: float = 1.0,
    register_st: float | None = None,
) -> ProsodyTarget:
    """Transfer the times, F0 and loudness of the same words in a recording to a plan; where that cannot be, the plan is
    unchanged and has a note.

    plan: the voice's natural plan.  recording: (S,) float32 at 16 kHz.  alignment: of the plan's text in it (`align`).
    own_speech: alignment of the plan as spoken (`align_own_speech`); None takes the words' times in the plan.
    amount: 0 leaves the plan as it is, 1 follows the recording.
    register_st: semitones by which the actor's F0 is moved (`compute_register_shift`); None keeps the actor's register.
    """
    facts = dict(method="same language", amount=amount, aligned_by=alignment.method, confidence=alignment.confidence)
    if amount <= 0:
        return ProsodyTarget(plan, facts=facts)
    own = own_speech if own_speech is not None and own_speech.ok else predict_word_times(plan)
    pairs = match_words(own, alignment) if alignment.ok else []
    if not pairs:
        note = alignment.note or "No word of the line is found in the recording."
        return ProsodyTarget(plan, facts=dict(facts, method="none"), note=f"The actor's prosody is not used. {note}")
    times, pauses = build_time_map(plan, own, alignment, pairs)
    timed, start_s = retime_to_recording(plan, times)
    at_s = start_s + get_curve_times(timed)
    contour, f0_hz = smooth_f0(estimate_f0(recording, RATE_HZ)), None
    shift_st = register_st or 0.0
    if contour.voiced.any():
        f0_hz = np.clip(contour.at(at_s + F0_LAG_S) * 2 ** (shift_st / 12), *F0_RANGE_HZ)
    full = _set_curves(timed, f0_hz, at_s, pauses)
    recorded_db = compute_loudness_contour(recording, RATE_HZ, at_s)
    mixed, loudness, f0_hz = interpolate_prosody(plan, full, recorded_db, f0_hz, amount)
    rate = _count_spoken_units(plan) / max(1, _count_spoken_units(timed))
    facts.update(rate=round(rate, 3), register_st=round(shift_st, 2), words=len(pairs), melody=f0_hz is not None)
    note = ""
    if not TEMPO_RATIO_RANGE[0] <= rate <= TEMPO_RATIO_RANGE[1]:
        note = f"The actor speaks {rate:.2f} times as fast as the voice does; listen to the line."
    if f0_hz is not None:
        f0_hz = np.where((mixed.f0 > MIN_VOICED_HZ), f0_hz, 0).astype(np.float32)
    return ProsodyTarget(mixed, start_s, loudness, f0_hz, facts, note)


def _count_spoken_units(plan: SpeechPlan) -> int:
    return sum(d for p, d in zip(plan.phones, plan.durations) if p not in MARKS)


def compute_register_shift(plan: SpeechPlan, recording: np.ndarray) -> float:
    """Compute the semitones from the actor's median F0 to that of the voice's natural plan; 0 where one has none.

    recording: (S,) float32 at 16 kHz.
    """
    median_hz, voiced = estimate_f0(recording, RATE_HZ).median_hz, plan.f0[plan.f0 > MIN_VOICED_HZ]
    return float(compute_interval_st(np.median(voiced), median_hz)) if median_hz and len(voiced) else 0.0


# -- times -----------------------------------------------------------------------------------------------------------


def predict_word_times(plan: SpeechPlan) -> Alignment:
    """Predict when the words of a plan are heard, without phones: a little before their edges."""
    edges = plan.edges * UNIT_SECONDS
    words: list[TimedName] = []
    for w in plan.words:
        start = max(edges[w.start] - WORD_LEAD_S[0], words[-1][2] if words else 0.0)
        words.append((w.text, float(start), float(max(edges[w.stop] - WORD_LEAD_S[1], start + UNIT_SECONDS))))
    return Alignment(tuple(words), (), 1.0, "plan")


def match_words(own: Alignment, other: Alignment) -> list[tuple[int, int]]:
    """Match the words of two alignments by longest common blocks: pairs (i, j) of word indices, in order."""
    a, b = ([normalize_word(w[0]) for w in x.words] for x in (own, other))
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return [(block.a + k, block.b + k) for block in blocks for k in range(block.size)]


def build_time_map(
    plan: SpeechPlan, own: Alignment, other: Alignment, pairs: list[tuple[int, int]]
) -> tuple[tuple[np.ndarray, np.ndarray], list[tuple[float, float]]]:
    """Build the time map from a plan to a recording: ((plan_s, recording_s) of matching instants, each (M,) and rising;
    pauses as (start_s, stop_s) in the recording).

    plan: natural plan.  own, other: alignments of its speech and of the recording.  pairs: from `match_words`.
    A pause between neighbouring words on either side goes to the plan's mark between them, so that no sound is split.
    """
    own_s, other_s, pauses = [], [], []
    gaps = _find_gaps(plan)
    for n, (i, j) in enumerate(pairs):
        (_, a, b), (_, c, d) = own.words[i], other.words[j]
        inner = _match_phones(own.phones, other.phones, (a, b), (c, d))
        if n and pairs[n - 1] == (i - 1, j - 1):
            own_stop, other_stop = own.words[i - 1][2], other.words[j - 1][2]
            if max(a - own_stop, c - other_stop) > MIN_PAUSE_S:
                between = _place_pause((own_stop, a), (other_stop, c), _find_nearest_gap(gaps, own_stop, a))
                own_s += [x for x, _ in between]
                other_s += [y for _, y in between]
            if c - other_stop > MIN_PAUSE_S:
                pauses.append((other_stop, c))
        own_s += [a, *(x for x, _ in inner), b]
        other_s += [c, *(y for _, y in inner), d]
    plan_s, recording_s = np.maximum.accumulate(own_s), np.maximum.accumulate(other_s)
    keep = np.r_[True, np.diff(plan_s) > 1e-6]
    return (plan_s[keep], recording_s[keep]), pauses


def _place_pause(
    own: tuple[float, float], other: tuple[float, float], gap: tuple[float, float] | None
) -> list[tuple[float, float]]:
    """Place a pause in a mark: anchors (own_s, other_s) that keep the duration of what sounds beyond the plan's edges.

    own, other: (stop of a word, start of the next) as heard.  gap: (start_s, stop_s) of the mark in the plan, or None.
    """
    if gap is None:
        return []
    low, high = max(gap[0], own[0]), min(gap[1], own[1])
    if high - low < UNIT_SECONDS / 4:  # the voice makes no pause here: all of the mark may stretch
        low, high = max(own[0], gap[0] + UNIT_SECONDS / 4), max(own[0], gap[0]) + UNIT_SECONDS / 2
    left, right = max(0.0, low - own[0]), max(0.0, own[1] - high)
    share = min(1.0, (other[1] - other[0]) / max(left + right, 1e-9))
    return [(low, other[0] + share * left), (high, other[1] - share * right)]


def _find_gaps(plan: SpeechPlan) -> list[tuple[float, float]]:
    """Find the marks between words of a plan that have time: [(start_s, stop_s)]."""
    edges = plan.edges * UNIT_SECONDS
    spans = [(float(edges[w.stop]), float(edges[v.start])) for w, v in zip(plan.words, plan.words[1:])]
    return [span for span in spans if span[1] - span[0] >= UNIT_SECONDS / 2]


def _find_nearest_gap(gaps: list[tuple[float, float]], start_s: float, stop_s: float) -> tuple[float, float] | None:
    """Find the gap whose middle is nearest to that of an interval; None where there is none within 150 ms."""
    middle = (start_s + stop_s) / 2
    best = min(gaps, key=lambda gap: abs(sum(gap) / 2 - middle), default=None)
    return best if best is not None and abs(sum(best) / 2 - middle) < 0.15 + (stop_s - start_s) / 2 else None


def _match_phones(
    own: Sequence[TimedName],
    other: Sequence[TimedName],
    own_word: tuple[float, float],
    other_word: tuple[float, float],
) -> list[tuple[float, float]]:
    """Match the phones of one word in two alignments: (own_s, other_s) where they begin, without the word's start.

    own, other: phones.  own_word, other_word: (start_s, stop_s) of the word.
    """

    def select(phones: Sequence[TimedName], word: tuple[float, float]) -> list[TimedName]:
        return [p for p in phones if word[0] - 1e-6 <= p[1] < word[1] - 1e-6]

    a, b = select(own, own_word), select(other, other_word)
    pairs = []
    for tag, i, k, j, m in SequenceMatcher(None, [p[0] for p in a], [p[0] for p in b], autojunk=False).get_opcodes():
        if tag == "equal" or (tag == "replace" and k - i == m - j):
            pairs += [(a[i + n][1], b[j + n][1]) for n in range(k - i)]
    return [p for p in pairs if p[0] > own_word[0] and p[1] > other_word[0]]


def retime_to_recording(plan: SpeechPlan, times: tuple[np.ndarray, np.ndarray]) -> tuple[SpeechPlan, float]:
    """Retime a plan to a recording: (plan, second of the recording at which it starts).

    times: (plan_s, recording_s) from `build_time_map`; beyond them the plan keeps its own speed.
    Every sound keeps at least one unit, marks may lose theirs; silence at both ends is at most MAX_LEAD_UNITS.
    """
    edges, (plan_s, recording_s) = plan.edges[1:-1] * UNIT_SECONDS, times
    at = np.interp(edges, plan_s, recording_s)
    at = np.where(edges > plan_s[-1], recording_s[-1] + edges - plan_s[-1], at)
    at = np.where(edges < plan_s[0], recording_s[0] + edges - plan_s[0], at)
    least = [0 if p in MARKS else 1 for p in plan.phones[1:-1]]
    units = round_edges((at - at[0]) / UNIT_SECONDS, least)
    lead, tail = (max(1, min(plan.durations[k], MAX_LEAD_UNITS)) for k in (0, -1))
    return plan.retime((lead, *units, tail)), float(at[0]) - lead * UNIT_SECONDS


def round_edges(edges: np.ndarray, least: list[int] | np.ndarray) -> np.ndarray:
    """Round edges (N + 1,) to whole units: durations (N,), none below its least (N,).

    Rounds, then makes room in one pass forwards and takes it in one backwards from what is longer than its least.
    """
    room = np.concatenate([[0], np.cumsum(least)])
    whole = np.round(np.asarray(edges)).astype(int) - room
    end = max(0, int(whole[-1]))
    whole = np.clip(np.maximum.accumulate(np.maximum(whole, 0)), 0, end)
    return np.diff(whole + room)


# -- curves ----------------------------------------------------------------------------------------------------------


def _set_curves(
    plan: SpeechPlan, f0_hz: np.ndarray | None, at_s: np.ndarray, pauses: list[tuple[float, float]]
) -> SpeechPlan:
    """Set the F0 of a plan's voiced sounds, and silence in the recording's pauses. at_s: times of its curve values."""
    voiced = plan.f0 > MIN_VOICED_HZ
    f0 = plan.f0.copy() if f0_hz is None else np.where(voiced, f0_hz, plan.f0)
    energy, marks = plan.energy.copy(), np.repeat([p in MARKS for p in plan.phones], 2 * np.array(plan.durations))
    for start, stop in pauses:
        silent = marks & (at_s > start + UNIT_SECONDS / 2) & (at_s < stop - UNIT_SECONDS / 2)
        f0[silent], energy[silent] = SILENT_F0_HZ, SILENT_PLAN_ENERGY
    return plan.replace_curves(f0=f0, energy=energy)


def interpolate_prosody(
    natural: SpeechPlan,
    full: SpeechPlan,
    loudness_db: np.ndarray | None,
    f0_hz: np.ndarray | None,
    amount: float,
) -> tuple[SpeechPlan, np.ndarray | None, np.ndarray | None]:
    """Interpolate between the natural plan and the one that follows the recording, times linearly, F0 in semitones:
    (plan, loudness target, F0 target).

    natural, full: plans of the same phones.  loudness_db, f0_hz: (2 U,) targets of full, or None.
    amount: above 0, up to 1.
    """
    if amount >= 1:
        return full, loudness_db, f0_hz
    edges = (1 - amount) * natural.edges + amount * full.edges
    units = round_edges(edges, [0 if p in MARKS else 1 for p in natural.phones])
    units[0], units[-1] = max(1, units[0]), max(1, units[-1])
    a, b = natural.retime(units), full.retime(units)
    both = (a.f0 > MIN_VOICED_HZ) & (b.f0 > MIN_VOICED_HZ)
    f0 = np.where(both, np.maximum(a.f0, 1) ** (1 - amount) * np.maximum(b.f0, 1) ** amount, b.f0)
    plan = b.replace_curves(f0=f0, energy=(1 - amount) * a.energy + amount * b.energy)
    retimed_db = None if loudness_db is None else full.replace_curves(energy=loudness_db).retime(units).energy
    return plan, retimed_db, None if f0_hz is None else f0.astype(np.float32)


# -- speaking --------------------------------------------------------------------------------------------------------


def speak_with_prosody(voice: Voice, target: ProsodyTarget, passes: int = 2) -> np.ndarray:
    """Speak a plan towards its target contours: (1, S) float32, S the plan's samples.

    voice: a timed voice.
    passes: 1 speaks once, 2 corrects F0 by its measured error and speaks again; loudness is set at the end either way.
    """
    plan, f0_hz = target.plan, target.f0_hz
    wave = voice.speak(plan)
    for _ in range(passes - 1):
        if f0_hz is None or not (f0_hz > 0).any():
            break
        wave = voice.speak(correct_f0(plan, wave, f0_hz))
    if target.gain_db is not None:
        return apply_gain_curve(wave, plan, target.gain_db)
    if target.loudness_db is None:
        return wave
    return match_loudness(wave, plan, target.loudness_db, target.facts.get("amount", 1.0))


def correct_f0(plan: SpeechPlan, wave: np.ndarray, target_hz: np.ndarray) -> SpeechPlan:
    """Correct a plan's F0 by the error that its spoken wave (1, S) has against a target (2 U,) in Hz, 0 where free."""
    contour, _ = measure_contours(wave, plan)
    at = get_curve_times(plan) + F0_LAG_S
    known = contour.is_voiced_at(at) & (target_hz > 0) & (plan.f0 > MIN_VOICED_HZ)
    if not known.any():
        return plan
    error = np.zeros(len(at))
    error_st = compute_interval_st(target_hz[known], contour.at(at)[known])
    error[known] = np.clip(error_st, -MAX_CORRECTION_ST, MAX_CORRECTION_ST)
    weight = gaussian_filter1d(known.astype(float), 1.5)
    step = gaussian_filter1d(error, 1.5) / np.maximum(weight, 0.2)
    corrected = np.clip(plan.f0 * 2 ** (step / 12), *F0_RANGE_HZ)
    return plan.replace_curves(f0=np.where(plan.f0 > MIN_VOICED_HZ, corrected, plan.f0))


def match_loudness(wave: np.ndarray, plan: SpeechPlan, loudness_db: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Match the loudness contour of a wave to a target by a smooth, bounded gain, at its own mean level: (1, S) float32
    within full scale.

    wave: (1, S) at 24 kHz.  loudness_db: (2 U,), any level.  share: 0 leaves it, 1 follows.
    """
    _, own = measure_contours(wave, plan)
    loud = own > own.max() - SPEECH_RANGE_DB
    wanted = loudness_db - loudness_db[loud].mean() + own[loud].mean()
    return apply_gain_curve(wave, plan, np.clip(share * (wanted - own), *GAIN_RANGE_DB))


def apply_gain_curve(wave: np.ndarray, plan: SpeechPlan, gain_db: np.ndarray) -> np.ndarray:
    """Apply a smoothed gain curve to a wave, at its own mean level: (1, S) float32 within full scale.

    wave: (1, S) at 24 kHz.  gain_db: (2 U,) at the plan's points.
    """
    gain = gaussian_filter1d(gain_db.astype(float), GAIN_SMOOTHING_S / (UNIT_SECONDS / 2), mode="nearest")
    samples = np.interp(np.arange(wave.shape[1]) / VOICE_RATE_HZ, get_curve_times(plan), gain)
    out = wave * 10 ** (samples / 20)
    out *= np.sqrt((wave**2).mean() / max((out**2).mean(), 1e-12))
    return (out / max(1.0, np.abs(out).max())).astype(np.float32)
