"""Articulation of a plan: phones, voicing, F0 and energy at 50 Hz, computed without recognition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from mouthpiece.engine.contracts import PHONES, SILENCE_COLUMN, Articulation
from mouthpiece.engine.encoders.phonetic import F0_REFERENCE_HZ
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.voice.plan.pauses import SOUNDING_THRESHOLD, compute_relative_loudness
from mouthpiece.voice.plan.phone_durations import VOWELS
from mouthpiece.voice.plan.speech_plan import CURVE_VALUES_PER_UNIT, MARKS, UNIT_S
from mouthpiece.voice.timing.align import ARPABET_OF_PHONE

if TYPE_CHECKING:
    from mouthpiece.voice.plan.speech_plan import SpeechPlan

SUBSTEPS_PER_TICK = 4  # the plan is rasterized at 200 Hz, then averaged
PHONE_LEAD_S = 0.05  # by which a phone is heard before its place in the plan
PHONE_TRANSITION_S = 0.015  # deviation of the Gaussian between phones
MIN_VOICED_HZ = 60.0  # F0 above which a plan is voiced
MIN_VOICED_LOUDNESS = 0.7  # relative loudness above which a plan is voiced
# relative loudness of a plan and the energy that the encoder measures there; medians of 37 lines, 6 voices
LOUDNESS_POINTS = (0.15, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
ENERGY_POINTS = (-1.5, -1.1, -0.75, -0.3, 0.15, 0.48, 0.68, 0.88, 1.0)
UNVOICED_PHONES = [PHONES.index(p) for p in "CH F HH K P S SH T TH".split()]
UNVOICED_DAMPING = 0.8  # of the voicing that a plan has in such phones
# Phones that English lacks: the nearest that looks alike on the lips; two for a diphthong or the like.
NON_ENGLISH_ARPABET = {
    "ø": "ER",
    "œ": "ER",
    "ɘ": "AH",
    "ɞ": "ER",
    "ɤ": "AH",
    "ɯ": "UW",
    "ɵ": "UH",
    "ʉ": "UW",
    "c": "K",
    "q": "K",
    "ɟ": "G",
    "ɖ": "D",
    "ʈ": "T",
    "ɽ": "D",
    "ɣ": "G",
    "ʁ": "HH",
    "χ": "HH",
    "ħ": "HH",
    "ɦ": "HH",
    "ç": "HH",
    "ʝ": "Y",
    "β": "V",
    "ɸ": "F",
    "ʋ": "V",
    "ɰ": "W",
    "ɥ": "W",
    "ɕ": "SH",
    "ʑ": "ZH",
    "ʂ": "SH",
    "ʐ": "ZH",
    "ʨ": "CH",
    "ʥ": "JH",
    "ꭧ": "CH",
    "ɲ": "N Y",
    "ʎ": "L Y",
    "ɳ": "N",
    "ɴ": "NG",
    "ɱ": "M",
    "ɫ": "L",
    "ɭ": "L",
    "ɻ": "R",
    "g": "G",
    "x": "HH",
    "T": "T",
}


def convert_to_arpabet(phones: tuple[str, ...]) -> list[tuple[int, ...]]:
    """Convert phones to indices of PHONES, a tuple each: () for silence and marks; a stress mark has the next phone's,
    a length mark the last one's. A vowel and an r that closes its syllable are one ER.

    phones: symbols of the Kokoro alphabet.
    """
    table = ARPABET_OF_PHONE | NON_ENGLISH_ARPABET
    indices = [tuple(PHONES.index(name) for name in table.get(phone, "").split()) for phone in phones]
    for k, phone in enumerate(phones):
        closes = not (k + 2 < len(phones) and phones[k + 2] in VOWELS - {"ː"})
        if phone in "əɜ" and phones[k + 1 : k + 2] == ("ɹ",) and closes:
            indices[k] = indices[k + 1] = (PHONES.index("ER"),)
    for k in range(len(phones) - 2, -1, -1):
        if phones[k] in "ˈˌ":
            indices[k] = indices[k + 1][:1]
    for k in range(1, len(phones)):
        if not indices[k] and phones[k] not in MARKS:
            indices[k] = indices[k - 1][-1:]
    return indices


def _rasterize_phones(plan: SpeechPlan, steps: int) -> np.ndarray:
    """Rasterize a plan's phones one-hot, (steps, 40) at 200 Hz from its start, when they are heard; SIL where the plan
    is silent at a mark.
    """
    sounds, edges = convert_to_arpabet(plan.phones), plan.edges * float(UNIT_S) - PHONE_LEAD_S
    at = (np.arange(steps) + 0.5) / (SUBSTEPS_PER_TICK * float(ARTICULATION_HZ))
    owner = np.clip(np.searchsorted(edges, at, "right") - 1, 0, len(sounds) - 1)
    silent = np.interp(at, _get_curve_times(plan), compute_relative_loudness(plan)) < SOUNDING_THRESHOLD
    spoken = np.array([bool(s) for s in sounds])
    out = np.zeros((steps, len(PHONES)), np.float32)
    for i, k in enumerate(owner):
        if not spoken[k]:
            if silent[i]:
                out[i, SILENCE_COLUMN] = 1
                continue
            middle = (edges[k] + edges[k + 1]) / 2  # a mark without silence: half to each side
            sides = [np.flatnonzero(spoken[:k])[-1:], k + 1 + np.flatnonzero(spoken[k + 1 :])[:1]]
            near = sides[0] if at[i] < middle and len(sides[0]) or not len(sides[1]) else sides[1]
            out[i, (sounds[near[0]][-1] if near[0] < k else sounds[near[0]][0]) if len(near) else SILENCE_COLUMN] = 1
            continue
        share = (at[i] - edges[k]) / max(edges[k + 1] - edges[k], 1e-6)
        out[i, sounds[k][int(np.clip(share, 0, 0.999) * len(sounds[k]))]] = 1
    return _extend_silence(out, owner, silent, plan.phones)


def _get_curve_times(plan: SpeechPlan) -> np.ndarray:
    """Get the times of a plan's curve values, seconds from its start."""
    return (np.arange(CURVE_VALUES_PER_UNIT * plan.units) + 0.5) * float(UNIT_S) / CURVE_VALUES_PER_UNIT


def _extend_silence(out: np.ndarray, owner: np.ndarray, silent: np.ndarray, phones: tuple[str, ...]) -> np.ndarray:
    """Extend the silence of a mark into the sounds before and after it, as far as these are silent."""
    beside = np.array([p in MARKS for p in phones])[owner] & silent
    for order in (range(1, len(out)), range(len(out) - 2, -1, -1)):
        for i in order:
            if silent[i] and not beside[i] and beside[i - 1 if order.step > 0 else i + 1]:
                beside[i] = True
    out[beside] = 0
    out[beside, SILENCE_COLUMN] = 1
    return out


def articulate_plan(plan: SpeechPlan, offset_s: float = 0.0, ticks: int | None = None) -> Articulation:
    """Compute the articulation that the phonetic encoder would find in a spoken plan; its scales are a regression on
    Kokoro's speech.

    offset_s: when the spoken plan starts, seconds; below 0 its head is cut.
    ticks: length of the result, None for what covers the plan; beyond the plan there is silence.
    Raises UsageError for a length below 1.
    """
    rate = float(ARTICULATION_HZ)
    ticks = int(np.ceil((float(plan.duration) + offset_s) * rate - 1e-9)) if ticks is None else int(ticks)
    if ticks < 1:
        raise UsageError(f"articulation of {ticks} ticks: need at least 1.", code="bad_ticks")
    steps = int(np.ceil(float(plan.duration) * rate * SUBSTEPS_PER_TICK))
    step_s = 1 / (rate * SUBSTEPS_PER_TICK)
    curve_at, at = _get_curve_times(plan), (np.arange(steps) + 0.5) * step_s
    share = np.interp(at, curve_at, compute_relative_loudness(plan))
    pitch = np.interp(at, curve_at, np.log2(np.maximum(plan.f0, MIN_VOICED_HZ / 2) / F0_REFERENCE_HZ))
    phones = _rasterize_phones(plan, steps)
    voiced = (
        (pitch > np.log2(MIN_VOICED_HZ / F0_REFERENCE_HZ))
        * (share > MIN_VOICED_LOUDNESS)
        * (1 - UNVOICED_DAMPING * phones[:, UNVOICED_PHONES].sum(1))
    )
    energy = np.interp(share, LOUDNESS_POINTS, ENERGY_POINTS)
    track = np.concatenate([phones, voiced[:, None], (pitch * voiced)[:, None], energy[:, None]], 1)
    silence = Articulation.silence(1).values[0].astype(float)
    whole, start = np.tile(silence, (ticks * SUBSTEPS_PER_TICK, 1)), round(offset_s / step_s)
    a, b = max(0, start), min(len(whole), start + steps)
    if b > a:
        whole[a:b] = track[a - start : b - start]
    whole = gaussian_filter1d(whole, PHONE_TRANSITION_S / step_s, axis=0, mode="nearest")
    return Articulation(whole.reshape(ticks, SUBSTEPS_PER_TICK, -1).mean(1).astype(np.float32))
