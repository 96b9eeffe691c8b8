"""The actor's line under another voice: pauses, phone times, melody and loudness of a recording laid on a plan."""

from dataclasses import dataclass, field
from difflib import SequenceMatcher

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

from engine.encoders.audio import RATE_HZ as LISTEN_HZ
from voice.align import Alignment, align, plain
from voice.contour import loudness_of, measured, melody_of, points_s, semitones, smooth_melody
from voice.plan import MARKS, RATE_HZ, UNIT_S, Plan

UNIT = float(UNIT_S)
MOST_LEAD = 8                # units of quiet kept before the first and after the last sound, 200 ms
PAUSE_S = 0.06               # gaps between words longer than this are pauses
SILENT_HZ, SILENT_ENERGY = 0.0, -10.0
HEARD_BEFORE_S = (0.085, 0.04)  # a word starts and stops this much before its edges in the plan (medians, 312 words, four voices)
VOICED_HZ = 40.0             # a plan's F0 above this is meant to be heard
F0_LAG_S = -0.003            # a plan's F0 is heard this much before the middle of its 12.5 ms (measured on four voices)
RATES = (0.5, 2.0)           # an actor so much slower or faster than the voice itself needs a look
LIMITS_HZ = (55.0, 520.0)    # melody a voice can still carry
MOST_STEP_ST = 4.0           # what the second pass may correct
GAIN_DB = (-14.0, 10.0)      # what the loudness may be moved by
GAIN_SMOOTH_S = 0.03
STEADY_DB = 30.0             # frames this far below the loud ones are no speech


@dataclass(frozen=True, eq=False)
class Transplanted:
    """A plan that carries an actor's prosody, and what a voice needs beside it.

    plan: voice.plan.Plan.
    start_s: where in the recording the plan's time zero lies; may be below zero.
    loudness_db: (2 units,) float32, the loudness wanted at the plan's points, relative to any level; None keeps the voice's own.
    melody_hz: (2 units,) float32, the F0 wanted; 0 where anything will do; None keeps the plan's own.
    facts: JSON-ready: method, amount, confidence, rate, register_st.
    note: why the recording could not be followed, or what needs a look; empty when all went well.
    gain_db: (2 units,) float32, what is added to the voice's own loudness; None adds nothing.
    Source: ours.
    """

    plan: Plan
    start_s: float = 0.0
    loudness_db: np.ndarray | None = field(default=None, repr=False)
    melody_hz: np.ndarray | None = field(default=None, repr=False)
    facts: dict = field(default_factory=dict)
    note: str = ""
    gain_db: np.ndarray | None = field(default=None, repr=False)


def aligned_speech(voice, plan, whisper=None):
    """Alignment of the voice's own reading of a plan: the other end of the time map. Source: ours."""
    wave = resample_poly(voice.speak(plan)[0], LISTEN_HZ // 8000, RATE_HZ // 8000).astype(np.float32)
    return align(wave, plan.text, plan.language, whisper)


def transplant(plan, recording, alignment, spoken=None, amount=1.0, register_st=None):
    """The plan with the times, melody and loudness of the same words in a recording; unchanged, with a note, where that cannot be.

    plan: the voice's natural Plan.
    recording: (S,) float32 at 16 kHz.
    alignment: of the plan's text in it (`voice.align.align`).
    spoken: alignment of the plan's own speech (`aligned_speech`); None trusts the words' times in the plan, without phones.
    amount: 0 leaves the plan as it is, 1 follows the recording.
    register_st: semitones to move the actor's melody by; None keeps the actor's register, `register_of` says what the voice's own needs.
    Source: ours.
    """
    facts = dict(method="same language", amount=amount, aligned_by=alignment.method, confidence=alignment.confidence)
    if amount <= 0:
        return Transplanted(plan, facts=facts)
    own = spoken if spoken is not None and spoken.ok else word_times(plan)
    pairs = paired(own, alignment) if alignment.ok else []
    if not pairs:
        note = alignment.note or "No word of the line is found in the recording."
        return Transplanted(plan, facts=dict(facts, method="none"), note=f"The actor's prosody is not used. {note}")
    times, pauses = time_map(plan, own, alignment, pairs)
    timed, start_s = laid(plan, times)
    at_s = start_s + points_s(timed)
    melody = smooth_melody(melody_of(recording, LISTEN_HZ))
    shift_st = register_st or 0.0
    wanted = np.clip(melody.at(at_s + F0_LAG_S) * 2 ** (shift_st / 12), *LIMITS_HZ) if melody.voiced.any() else None
    full = _with_curves(timed, wanted, at_s, pauses)
    loudness = loudness_of(recording, LISTEN_HZ, at_s)
    mixed, loudness, wanted = blended(plan, full, loudness, wanted, amount)
    rate = _spoken_units(plan) / max(1, _spoken_units(timed))
    facts.update(rate=round(rate, 3), register_st=round(shift_st, 2), words=len(pairs), melody=wanted is not None)
    note = "" if RATES[0] <= rate <= RATES[1] else f"The actor speaks {rate:.2f} times as fast as the voice does; listen to the line."
    heard = None if wanted is None else np.where((mixed.f0 > VOICED_HZ), wanted, 0).astype(np.float32)
    return Transplanted(mixed, start_s, loudness, heard, facts, note)


def _spoken_units(plan):
    return sum(d for p, d in zip(plan.phones, plan.durations) if p not in MARKS)


def register_of(plan, recording):
    """Semitones that bring the actor's median F0 to the one the voice has in its natural plan; 0 where one has none.

    plan: natural Plan.  recording: (S,) float32 at 16 kHz.
    Source: ours.
    """
    median_hz, voiced = melody_of(recording, LISTEN_HZ).median_hz, plan.f0[plan.f0 > VOICED_HZ]
    return float(semitones(np.median(voiced), median_hz)) if median_hz and len(voiced) else 0.0


# -- times -----------------------------------------------------------------------------------------------------------


def word_times(plan):
    """An Alignment of the words as the plan has them, without phones: where they are heard, which is a little before their edges. Source: ours."""
    edges, words = plan.edges * UNIT, []
    for w in plan.words:
        start = max(edges[w.start] - HEARD_BEFORE_S[0], words[-1][2] if words else 0.0)
        words.append((w.text, float(start), float(max(edges[w.stop] - HEARD_BEFORE_S[1], start + UNIT))))
    return Alignment(tuple(words), (), 1.0, "plan")


def paired(own, other):
    """Pairs (i, j) of word numbers: the same word in two alignments, in order. Source: longest matching blocks."""
    a, b = ([plain(w[0]) for w in x.words] for x in (own, other))
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return [(block.a + k, block.b + k) for block in blocks for k in range(block.size)]


def time_map(plan, own, other, pairs):
    """((plan_s, recording_s) of matching instants, each (M,) rising; pauses as (start_s, stop_s) in the recording).

    plan: natural Plan.  own, other: alignments of its speech and of the recording.  pairs: from `paired`.
    Between neighbouring words a pause of either side goes to the plan's mark between them, so that no sound is torn.
    Source: ours.
    """
    ours, theirs, pauses = [], [], []
    gaps = _gaps(plan)
    for n, (i, j) in enumerate(pairs):
        (_, a, b), (_, c, d) = own.words[i], other.words[j]
        inner = _phones_paired(own.phones, other.phones, (a, b), (c, d))
        if n and pairs[n - 1] == (i - 1, j - 1):
            own_stop, other_stop = own.words[i - 1][2], other.words[j - 1][2]
            if max(a - own_stop, c - other_stop) > PAUSE_S:
                between = _pause_between((own_stop, a), (other_stop, c), _gap_near(gaps, own_stop, a))
                ours += [x for x, _ in between]
                theirs += [y for _, y in between]
            if c - other_stop > PAUSE_S:
                pauses.append((other_stop, c))
        ours += [a, *(x for x, _ in inner), b]
        theirs += [c, *(y for _, y in inner), d]
    ours, theirs = np.maximum.accumulate(ours), np.maximum.accumulate(theirs)
    keep = np.r_[True, np.diff(ours) > 1e-6]
    return (ours[keep], theirs[keep]), pauses


def _pause_between(own, other, gap):
    """Anchors (own_s, other_s) that put a pause into a mark: what sounds beyond the plan's edges keeps its length.

    own, other: (stop of a word, start of the next) as heard.  gap: (start_s, stop_s) of the mark in the plan, or None.
    """
    if gap is None:
        return []
    low, high = max(gap[0], own[0]), min(gap[1], own[1])
    if high - low < UNIT / 4:          # the voice makes no pause here: all of the mark may stretch
        low, high = max(own[0], gap[0] + UNIT / 4), max(own[0], gap[0]) + UNIT / 2
    left, right = max(0.0, low - own[0]), max(0.0, own[1] - high)
    share = min(1.0, (other[1] - other[0]) / max(left + right, 1e-9))
    return [(low, other[0] + share * left), (high, other[1] - share * right)]


def _gaps(plan):
    """(start_s, stop_s) of the marks between words of a plan that have time."""
    edges = plan.edges * UNIT
    spans = [(float(edges[w.stop]), float(edges[v.start])) for w, v in zip(plan.words, plan.words[1:])]
    return [span for span in spans if span[1] - span[0] >= UNIT / 2]


def _gap_near(gaps, start_s, stop_s):
    """The gap whose middle is nearest to that of an interval; None where there is none within 150 ms."""
    middle = (start_s + stop_s) / 2
    best = min(gaps, key=lambda gap: abs(sum(gap) / 2 - middle), default=None)
    return best if best is not None and abs(sum(best) / 2 - middle) < 0.15 + (stop_s - start_s) / 2 else None


def _phones_paired(ours, theirs, own_word, other_word):
    """(own_s, other_s) where phones of one word begin that both alignments have; not the first, which is the word's own start."""
    def inside(phones, word):
        return [p for p in phones if word[0] - 1e-6 <= p[1] < word[1] - 1e-6]

    a, b = inside(ours, own_word), inside(theirs, other_word)
    pairs = []
    for tag, i, k, j, m in SequenceMatcher(None, [p[0] for p in a], [p[0] for p in b], autojunk=False).get_opcodes():
        if tag == "equal" or (tag == "replace" and k - i == m - j):
            pairs += [(a[i + n][1], b[j + n][1]) for n in range(k - i)]
    return [p for p in pairs if p[0] > own_word[0] and p[1] > other_word[0]]


def laid(plan, times):
    """(plan on the recording's times, second of the recording where it starts).

    times: (plan_s, recording_s) from `time_map`; beyond them the plan keeps its own speed.
    Every sound keeps at least one unit, marks may lose theirs; quiet at both ends is at most `MOST_LEAD` units.
    Source: ours.
    """
    edges, (ours, theirs) = plan.edges[1:-1] * UNIT, times
    at = np.interp(edges, ours, theirs)
    at = np.where(edges < ours[0], theirs[0] + edges - ours[0], np.where(edges > ours[-1], theirs[-1] + edges - ours[-1], at))
    least = [0 if p in MARKS else 1 for p in plan.phones[1:-1]]
    units = whole_units((at - at[0]) / UNIT, least)
    lead, tail = (max(1, min(plan.durations[k], MOST_LEAD)) for k in (0, -1))
    return plan.retimed((lead, *units, tail)), float(at[0]) - lead * UNIT


def whole_units(edges, least):
    """Whole durations (N,) whose edges lie nearest to those wanted (N + 1,), none below its least (N,).

    Source: ours; rounding, then one pass forwards that makes room and one backwards that takes it from what can give.
    """
    room = np.concatenate([[0], np.cumsum(least)])
    whole = np.round(np.asarray(edges)).astype(int) - room
    end = max(0, int(whole[-1]))
    whole = np.clip(np.maximum.accumulate(np.maximum(whole, 0)), 0, end)
    return np.diff(whole + room)


# -- curves ----------------------------------------------------------------------------------------------------------


def _with_curves(plan, wanted_hz, at_s, pauses):
    """The plan with the F0 wanted where its own sounds are voiced, and silence in the recording's pauses."""
    voiced = plan.f0 > VOICED_HZ
    f0 = plan.f0.copy() if wanted_hz is None else np.where(voiced, wanted_hz, plan.f0)
    energy, marks = plan.energy.copy(), np.repeat([p in MARKS for p in plan.phones], 2 * np.array(plan.durations))
    for start, stop in pauses:
        silent = marks & (at_s > start + UNIT / 2) & (at_s < stop - UNIT / 2)
        f0[silent], energy[silent] = SILENT_HZ, SILENT_ENERGY
    return plan.voiced_as(f0=f0, energy=energy)


def blended(natural, full, loudness_db, wanted_hz, amount):
    """(plan, loudness, F0 wanted) between the natural plan and the one that follows the recording.

    natural, full: Plans of the same phones.  loudness_db, wanted_hz: (2 U,) of full, or None.  amount: over 0 to 1.
    Below 1 the loudness keeps the voice's own but for its share. Source: ours; times in proportion, F0 in semitones.
    """
    if amount >= 1:
        return full, loudness_db, wanted_hz
    edges = (1 - amount) * natural.edges + amount * full.edges
    units = whole_units(edges, [0 if p in MARKS else 1 for p in natural.phones])
    units[0], units[-1] = max(1, units[0]), max(1, units[-1])
    a, b = natural.retimed(units), full.retimed(units)
    both = (a.f0 > VOICED_HZ) & (b.f0 > VOICED_HZ)
    f0 = np.where(both, np.maximum(a.f0, 1) ** (1 - amount) * np.maximum(b.f0, 1) ** amount, b.f0)
    plan = b.voiced_as(f0=f0, energy=(1 - amount) * a.energy + amount * b.energy)
    laid_loudness = None if loudness_db is None else full.voiced_as(energy=loudness_db).retimed(units).energy
    return plan, laid_loudness, None if wanted_hz is None else f0.astype(np.float32)


# -- speaking --------------------------------------------------------------------------------------------------------


def speak_as(voice, transplanted, passes=2):
    """The plan spoken with its melody and loudness checked on the result: (1, S) float32, S the plan's samples.

    voice: a timed voice.  transplanted: Transplanted.
    passes: 1 speaks once, 2 corrects F0 by what was heard and speaks again; loudness is set at the end either way.
    Source: ours.
    """
    plan, target = transplanted.plan, transplanted.melody_hz
    wave = voice.speak(plan)
    for _ in range(passes - 1):
        if target is None or not (target > 0).any():
            break
        wave = voice.speak(corrected(plan, wave, target))
    if transplanted.gain_db is not None:
        return gained(wave, plan, transplanted.gain_db)
    if transplanted.loudness_db is None:
        return wave
    share = transplanted.facts.get("amount", 1.0)
    return levelled(wave, plan, transplanted.loudness_db, share)


def corrected(plan, wave, target_hz):
    """The plan with its F0 moved against the error of what was heard. wave: (1, S).  target_hz: (2 U,), 0 where free. Source: ours."""
    melody, _ = measured(wave, plan)
    at = points_s(plan) + F0_LAG_S
    known = melody.voiced_at(at) & (target_hz > 0) & (plan.f0 > VOICED_HZ)
    if not known.any():
        return plan
    error = np.zeros(len(at))
    error[known] = np.clip(semitones(target_hz[known], melody.at(at)[known]), -MOST_STEP_ST, MOST_STEP_ST)
    weight = gaussian_filter1d(known.astype(float), 1.5)
    step = gaussian_filter1d(error, 1.5) / np.maximum(weight, 0.2)
    return plan.voiced_as(f0=np.where(plan.f0 > VOICED_HZ, np.clip(plan.f0 * 2 ** (step / 12), *LIMITS_HZ), plan.f0))


def levelled(wave, plan, loudness_db, share=1.0):
    """The wave with the loudness contour wanted, at its own mean level: (1, S) float32, never beyond full scale.

    wave: (1, S) at 24 kHz.  loudness_db: (2 U,), any level.  share: 0 leaves it, 1 follows.
    Source: ours; a smooth gain of bounded size.
    """
    _, own = measured(wave, plan)
    loud = own > own.max() - STEADY_DB
    wanted = loudness_db - loudness_db[loud].mean() + own[loud].mean()
    return gained(wave, plan, np.clip(share * (wanted - own), *GAIN_DB))


def gained(wave, plan, gain_db):
    """The wave with a gain that moves smoothly, at its own mean level: (1, S) float32, never beyond full scale.

    wave: (1, S) at 24 kHz.  gain_db: (2 U,) at the plan's points.
    Source: ours.
    """
    gain = gaussian_filter1d(gain_db.astype(float), GAIN_SMOOTH_S / (UNIT / 2), mode="nearest")
    samples = np.interp(np.arange(wave.shape[1]) / RATE_HZ, points_s(plan), gain)
    out = wave * 10 ** (samples / 20)
    out *= np.sqrt((wave**2).mean() / max((out**2).mean(), 1e-12))
    return (out / max(1.0, np.abs(out).max())).astype(np.float32)
