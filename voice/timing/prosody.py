"""The actor's line under another voice: pauses, phone times, melody and loudness of a recording laid on a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.encoders.phonetic import RATE_HZ as LISTEN_HZ
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
    from mouthpiece.voice.backends.backend import Voice

UNIT_SECONDS = float(UNIT_S)
MAX_LEAD_UNITS = 8  # units of quiet kept before the first and after the last sound, 200 ms
MIN_PAUSE_S = 0.06  # gaps between words longer than this are pauses
# a word starts and stops this much before its edges in the plan (medians, 312 words, four voices)
WORD_LEAD_S = (0.085, 0.04)
MIN_VOICED_HZ = 40.0  # a plan's F0 above this is meant to be heard
F0_LAG_S = -0.003  # a plan's F0 is heard this much before the middle of its 12.5 ms (measured on four voices)
TEMPO_RATIO_RANGE = (0.5, 2.0)  # an actor so much slower or faster than the voice itself needs a look
F0_RANGE_HZ = (55.0, 520.0)  # melody a voice can still carry
MAX_CORRECTION_ST = 4.0  # what the second pass may correct
GAIN_RANGE_DB = (-14.0, 10.0)  # what the loudness may be moved by
GAIN_SMOOTHING_S = 0.03
SPEECH_RANGE_DB = 30.0  # frames this far below the loud ones are no speech


@dataclass(frozen=True, eq=False)
class ProsodyTarget:
    """A plan that carries an actor's prosody, and what a voice needs beside it.

    plan: mouthpiece.voice.plan.speech_plan.SpeechPlan.
    start_s: where in the recording the plan's time zero lies; may be below zero.
    loudness_db: (2 units,) float32, the loudness wanted at the plan's points, relative to any level; None keeps the
    voice's own.
    melody_hz: (2 units,) float32, the F0 wanted; 0 where anything will do; None keeps the plan's own.
    facts: JSON-ready: method, amount, confidence, rate, register_st.
    note: why the recording could not be followed, or what needs a look; empty when all went well.
    gain_db: (2 units,) float32, what is added to the voice's own loudness; None adds nothing.
    """

    plan: SpeechPlan
    start_s: float = 0.0
    loudness_db: np.ndarray | None = field(default=None, repr=False)
    f0_hz: np.ndarray | None = field(default=None, repr=False)
    facts: dict = field(default_factory=dict)
    note: str = ""
    gain_db: np.ndarray | None = field(default=None, repr=False)


def align_own_speech(voice: Voice, plan: SpeechPlan, whisper=None) -> Alignment:
    """Alignment of the voice's own reading of a plan: the other end of the time map."""
    wave = resample(voice.speak(plan)[0], VOICE_RATE_HZ, LISTEN_HZ)
    return align(wave, plan.text, plan.language, whisper)


def transfer_word_prosody(
    plan: SpeechPlan,
    recording: np.ndarray,
    alignment: Alignment,
    spoken: Alignment | None = None,
    amount: float = 1.0,
    register_st: float | None = None,
) -> ProsodyTarget:
    """The plan with the times, melody and loudness of the same words in a recording; unchanged, with a note, where that
    cannot be.

    plan: the voice's natural Plan.
    recording: (S,) float32 at 16 kHz.
    alignment: of the plan's text in it (`mouthpiece.voice.timing.align.align`).
    spoken: alignment of the plan's own speech (`aligned_speech`); None trusts the words' times in the plan, without
    phones.
    amount: 0 leaves the plan as it is, 1 follows the recording.
    register_st: semitones to move the actor's melody by; None keeps the actor's register, `register_of` says what the
    voice's own needs.
    """
    facts = dict(method="same language", amount=amount, aligned_by=alignment.method, confidence=alignment.confidence)
    if amount <= 0:
        return ProsodyTarget(plan, facts=facts)
    own = spoken if spoken is not None and spoken.ok else predict_word_times(plan)
    pairs = match_words(own, alignment) if alignment.ok else []
    if not pairs:
        note = alignment.note or "No word of the line is found in the recording."
        return ProsodyTarget(plan, facts=dict(facts, method="none"), note=f"The actor's prosody is not used. {note}")
    times, pauses = build_time_map(plan, own, alignment, pairs)
    timed, start_s = retime_to_recording(plan, times)
    at_s = start_s + get_curve_times(timed)
    melody = smooth_f0(estimate_f0(recording, LISTEN_HZ))
    shift_st = register_st or 0.0
    wanted = np.clip(melody.at(at_s + F0_LAG_S) * 2 ** (shift_st / 12), *F0_RANGE_HZ) if melody.voiced.any() else None
    full = _set_curves(timed, wanted, at_s, pauses)
    loudness = compute_loudness_contour(recording, LISTEN_HZ, at_s)
    mixed, loudness, wanted = interpolate_prosody(plan, full, loudness, wanted, amount)
    rate = _count_spoken_units(plan) / max(1, _count_spoken_units(timed))
    facts.update(rate=round(rate, 3), register_st=round(shift_st, 2), words=len(pairs), melody=wanted is not None)
    note = (
        ""
        if TEMPO_RATIO_RANGE[0] <= rate <= TEMPO_RATIO_RANGE[1]
        else f"The actor speaks {rate:.2f} times as fast as the voice does; listen to the line."
    )
    heard = None if wanted is None else np.where((mixed.f0 > MIN_VOICED_HZ), wanted, 0).astype(np.float32)
    return ProsodyTarget(mixed, start_s, loudness, heard, facts, note)


def _count_spoken_units(plan: SpeechPlan) -> int:
    return sum(d for p, d in zip(plan.phones, plan.durations) if p not in MARKS)


def compute_register_shift(plan: SpeechPlan, recording: np.ndarray) -> float:
    """Semitones that bring the actor's median F0 to the one the voice has in its natural plan; 0 where one has none.

    plan: natural Plan.  recording: (S,) float32 at 16 kHz.
    """
    median_hz, voiced = estimate_f0(recording, LISTEN_HZ).median_hz, plan.f0[plan.f0 > MIN_VOICED_HZ]
    return float(compute_interval_st(np.median(voiced), median_hz)) if median_hz and len(voiced) else 0.0


# -- times -----------------------------------------------------------------------------------------------------------


def predict_word_times(plan: SpeechPlan) -> Alignment:
    """An Alignment of the words as the plan has them, without phones: where they are heard, which is a little before
    their edges.
    """
    edges, words = plan.edges * UNIT_SECONDS, []
    for w in plan.words:
        start = max(edges[w.start] - WORD_LEAD_S[0], words[-1][2] if words else 0.0)
        words.append((w.text, float(start), float(max(edges[w.stop] - WORD_LEAD_S[1], start + UNIT_SECONDS))))
    return Alignment(tuple(words), (), 1.0, "plan")


def match_words(own: Alignment, other: Alignment) -> list[tuple[int, int]]:
    """Pairs (i, j) of word numbers: the same word in two alignments, in order. Source: longest matching blocks."""
    a, b = ([normalize_word(w[0]) for w in x.words] for x in (own, other))
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return [(block.a + k, block.b + k) for block in blocks for k in range(block.size)]


def build_time_map(
    plan: SpeechPlan, own: Alignment, other: Alignment, pairs: list[tuple[int, int]]
) -> tuple[tuple[np.ndarray, np.ndarray], list[tuple]]:
    """((plan_s, recording_s) of matching instants, each (M,) rising; pauses as (start_s, stop_s) in the recording).

    plan: natural Plan.  own, other: alignments of its speech and of the recording.  pairs: from `paired`.
    Between neighbouring words a pause of either side goes to the plan's mark between them, so that no sound is torn.
    """
    ours, theirs, pauses = [], [], []
    gaps = _find_gaps(plan)
    for n, (i, j) in enumerate(pairs):
        (_, a, b), (_, c, d) = own.words[i], other.words[j]
        inner = _match_phones(own.phones, other.phones, (a, b), (c, d))
        if n and pairs[n - 1] == (i - 1, j - 1):
            own_stop, other_stop = own.words[i - 1][2], other.words[j - 1][2]
            if max(a - own_stop, c - other_stop) > MIN_PAUSE_S:
                between = _place_pause((own_stop, a), (other_stop, c), _find_nearest_gap(gaps, own_stop, a))
                ours += [x for x, _ in between]
                theirs += [y for _, y in between]
            if c - other_stop > MIN_PAUSE_S:
                pauses.append((other_stop, c))
        ours += [a, *(x for x, _ in inner), b]
        theirs += [c, *(y for _, y in inner), d]
    ours, theirs = np.maximum.accumulate(ours), np.maximum.accumulate(theirs)
    keep = np.r_[True, np.diff(ours) > 1e-6]
    return (ours[keep], theirs[keep]), pauses


def _place_pause(
    own: tuple[float, float], other: tuple[float, float], gap: tuple[float, float]
) -> list[tuple[float, float]]:
    """Anchors (own_s, other_s) that put a pause into a mark: what sounds beyond the plan's edges keeps its length.

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
    """(start_s, stop_s) of the marks between words of a plan that have time."""
    edges = plan.edges * UNIT_SECONDS
    spans = [(float(edges[w.stop]), float(edges[v.start])) for w, v in zip(plan.words, plan.words[1:])]
    return [span for span in spans if span[1] - span[0] >= UNIT_SECONDS / 2]


def _find_nearest_gap(gaps: list[tuple[float, float]], start_s: float, stop_s: float) -> tuple[float, float]:
    """The gap whose middle is nearest to that of an interval; None where there is none within 150 ms."""
    middle = (start_s + stop_s) / 2
    best = min(gaps, key=lambda gap: abs(sum(gap) / 2 - middle), default=None)
    return best if best is not None and abs(sum(best) / 2 - middle) < 0.15 + (stop_s - start_s) / 2 else None


def _match_phones(
    ours: tuple[tuple[str, float, float], ...],
    theirs: tuple,
    own_word: tuple[float, float],
    other_word: tuple[float, float],
) -> list[tuple[float, float]]:
    """(own_s, other_s) where phones of one word begin that both alignments have; not the first, which is the word's own
    start.
    """

    def inside(phones: tuple, word: tuple[float, float]) -> list[tuple[str, float, float]]:
        return [p for p in phones if word[0] - 1e-6 <= p[1] < word[1] - 1e-6]

    a, b = inside(ours, own_word), inside(theirs, other_word)
    pairs = []
    for tag, i, k, j, m in SequenceMatcher(None, [p[0] for p in a], [p[0] for p in b], autojunk=False).get_opcodes():
        if tag == "equal" or (tag == "replace" and k - i == m - j):
            pairs += [(a[i + n][1], b[j + n][1]) for n in range(k - i)]
    return [p for p in pairs if p[0] > own_word[0] and p[1] > other_word[0]]


def retime_to_recording(plan: SpeechPlan, times: tuple[np.ndarray, np.ndarray]) -> tuple[SpeechPlan, float]:
    """(plan on the recording's times, second of the recording where it starts).

    times: (plan_s, recording_s) from `time_map`; beyond them the plan keeps its own speed.
    Every sound keeps at least one unit, marks may lose theirs; quiet at both ends is at most `MOST_LEAD` units.
    """
    edges, (ours, theirs) = plan.edges[1:-1] * UNIT_SECONDS, times
    at = np.interp(edges, ours, theirs)
    at = np.where(
        edges < ours[0], theirs[0] + edges - ours[0], np.where(edges > ours[-1], theirs[-1] + edges - ours[-1], at)
    )
    least = [0 if p in MARKS else 1 for p in plan.phones[1:-1]]
    units = round_edges((at - at[0]) / UNIT_SECONDS, least)
    lead, tail = (max(1, min(plan.durations[k], MAX_LEAD_UNITS)) for k in (0, -1))
    return plan.retime((lead, *units, tail)), float(at[0]) - lead * UNIT_SECONDS


def round_edges(edges: np.ndarray, least: list[int] | np.ndarray) -> np.ndarray:
    """Whole durations (N,) whose edges lie nearest to those wanted (N + 1,), none below its least (N,).

    Source: ours; rounding, then one pass forwards that makes room and one backwards that takes it from what can give.
    """
    room = np.concatenate([[0], np.cumsum(least)])
    whole = np.round(np.asarray(edges)).astype(int) - room
    end = max(0, int(whole[-1]))
    whole = np.clip(np.maximum.accumulate(np.maximum(whole, 0)), 0, end)
    return np.diff(whole + room)


# -- curves ----------------------------------------------------------------------------------------------------------


def _set_curves(plan: SpeechPlan, wanted_hz: np.ndarray, at_s: np.ndarray, pauses: list) -> SpeechPlan:
    """The plan with the F0 wanted where its own sounds are voiced, and silence in the recording's pauses."""
    voiced = plan.f0 > MIN_VOICED_HZ
    f0 = plan.f0.copy() if wanted_hz is None else np.where(voiced, wanted_hz, plan.f0)
    energy, marks = plan.energy.copy(), np.repeat([p in MARKS for p in plan.phones], 2 * np.array(plan.durations))
    for start, stop in pauses:
        silent = marks & (at_s > start + UNIT_SECONDS / 2) & (at_s < stop - UNIT_SECONDS / 2)
        f0[silent], energy[silent] = SILENT_F0_HZ, SILENT_PLAN_ENERGY
    return plan.replace_curves(f0=f0, energy=energy)


def interpolate_prosody(
    natural: SpeechPlan, full: SpeechPlan, loudness_db: np.ndarray, wanted_hz: np.ndarray, amount: float
) -> tuple[SpeechPlan, np.ndarray, np.ndarray]:
    """(plan, loudness, F0 wanted) between the natural plan and the one that follows the recording.

    natural, full: Plans of the same phones.  loudness_db, wanted_hz: (2 U,) of full, or None.  amount: over 0 to 1.
    Below 1 the loudness keeps the voice's own but for its share. Source: ours; times in proportion, F0 in semitones.
    """
    if amount >= 1:
        return full, loudness_db, wanted_hz
    edges = (1 - amount) * natural.edges + amount * full.edges
    units = round_edges(edges, [0 if p in MARKS else 1 for p in natural.phones])
    units[0], units[-1] = max(1, units[0]), max(1, units[-1])
    a, b = natural.retime(units), full.retime(units)
    both = (a.f0 > MIN_VOICED_HZ) & (b.f0 > MIN_VOICED_HZ)
    f0 = np.where(both, np.maximum(a.f0, 1) ** (1 - amount) * np.maximum(b.f0, 1) ** amount, b.f0)
    plan = b.replace_curves(f0=f0, energy=(1 - amount) * a.energy + amount * b.energy)
    laid_loudness = None if loudness_db is None else full.replace_curves(energy=loudness_db).retime(units).energy
    return plan, laid_loudness, None if wanted_hz is None else f0.astype(np.float32)


# -- speaking --------------------------------------------------------------------------------------------------------


def speak_with_prosody(voice: Voice, transplanted: ProsodyTarget, passes: int = 2) -> np.ndarray:
    """The plan spoken with its melody and loudness checked on the result: (1, S) float32, S the plan's samples.

    voice: a timed voice.  transplanted: Transplanted.
    passes: 1 speaks once, 2 corrects F0 by what was heard and speaks again; loudness is set at the end either way.
    """
    plan, target = transplanted.plan, transplanted.f0_hz
    wave = voice.speak(plan)
    for _ in range(passes - 1):
        if target is None or not (target > 0).any():
            break
        wave = voice.speak(correct_f0(plan, wave, target))
    if transplanted.gain_db is not None:
        return apply_gain_curve(wave, plan, transplanted.gain_db)
    if transplanted.loudness_db is None:
        return wave
    share = transplanted.facts.get("amount", 1.0)
    return match_loudness(wave, plan, transplanted.loudness_db, share)


def correct_f0(plan: SpeechPlan, wave: np.ndarray, target_hz: np.ndarray) -> SpeechPlan:
    """The plan with its F0 moved against the error of what was heard. wave: (1, S).  target_hz: (2 U,), 0 where free."""
    melody, _ = measure_contours(wave, plan)
    at = get_curve_times(plan) + F0_LAG_S
    known = melody.is_voiced_at(at) & (target_hz > 0) & (plan.f0 > MIN_VOICED_HZ)
    if not known.any():
        return plan
    error = np.zeros(len(at))
    error[known] = np.clip(
        compute_interval_st(target_hz[known], melody.at(at)[known]), -MAX_CORRECTION_ST, MAX_CORRECTION_ST
    )
    weight = gaussian_filter1d(known.astype(float), 1.5)
    step = gaussian_filter1d(error, 1.5) / np.maximum(weight, 0.2)
    return plan.replace_curves(
        f0=np.where(plan.f0 > MIN_VOICED_HZ, np.clip(plan.f0 * 2 ** (step / 12), *F0_RANGE_HZ), plan.f0)
    )


def match_loudness(wave: np.ndarray, plan: SpeechPlan, loudness_db: np.ndarray, share: float = 1.0) -> np.ndarray:
    """The wave with the loudness contour wanted, at its own mean level: (1, S) float32, never beyond full scale.

    wave: (1, S) at 24 kHz.  loudness_db: (2 U,), any level.  share: 0 leaves it, 1 follows.
    Source: ours; a smooth gain of bounded size.
    """
    _, own = measure_contours(wave, plan)
    loud = own > own.max() - SPEECH_RANGE_DB
    wanted = loudness_db - loudness_db[loud].mean() + own[loud].mean()
    return apply_gain_curve(wave, plan, np.clip(share * (wanted - own), *GAIN_RANGE_DB))


def apply_gain_curve(wave: np.ndarray, plan: SpeechPlan, gain_db: np.ndarray) -> np.ndarray:
    """The wave with a gain that moves smoothly, at its own mean level: (1, S) float32, never beyond full scale.

    wave: (1, S) at 24 kHz.  gain_db: (2 U,) at the plan's points.
    """
    gain = gaussian_filter1d(gain_db.astype(float), GAIN_SMOOTHING_S / (UNIT_SECONDS / 2), mode="nearest")
    samples = np.interp(np.arange(wave.shape[1]) / VOICE_RATE_HZ, get_curve_times(plan), gain)
    out = wave * 10 ** (samples / 20)
    out *= np.sqrt((wave**2).mean() / max((out**2).mean(), 1e-12))
    return (out / max(1.0, np.abs(out).max())).astype(np.float32)
