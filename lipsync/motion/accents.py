"""Gestures on accents: brows that rise and small nods on stressed syllables, another posture of the head in every
phrase.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from mouthpiece.engine.audio.voice_activity import find_runs
from mouthpiece.engine.contracts import ENERGY_COLUMN, F0_COLUMN, SILENCE_COLUMN, VOICING_COLUMN
from mouthpiece.engine.encoders.motion import BLINK_INDEX, BROW_WIDTH, EXPRESSION_WIDTH, POSE_WIDTH
from mouthpiece.engine.timeline import ARTICULATION_HZ, MOTION_HZ

SYLLABLE_S = 0.06  # seconds, deviation of the mean over a syllable
PHRASE_S = 0.6  # seconds, deviation of the mean over a phrase, against which a syllable is compared
ENERGY_SPREAD = 0.17  # deviation of energy so compared, in recorded speech
F0_SPREAD_OCTAVES = 0.17  # deviation of F0 so compared, octaves
STRESS_THRESHOLD = 1.6  # sum of both in deviations from which a syllable is stressed; from twice that on fully
ACCENT_GAP_S = 0.5  # seconds, the least between two accents
ACCENT_SKIP_SHARE = 0.25  # share of accents without a nod, and share of those without raised brows
NOD_HEIGHT = 1.8  # deviations of the head's pitch
NOD_SHAPE_S = (0.12, 0.09, 0.2)  # seconds: delay after the accent, deviations of rise and fall
NOD_DROP = 0.7  # deviations that the head sinks with a nod
BROW_RISE = 0.0045  # of the brows, units of the crop
BROW_SHAPE_S = (0.04, 0.12, 0.26)  # seconds: delay after the accent, deviations of rise and fall
PAUSE_S = 0.3  # seconds of silence that separate two phrases
# deviations of the head's six numbers from phrase to phrase
POSTURE_DEVIATION = np.array([0.5, 0.2, 0.3, 0.7, 0.8, 0.4])
POSTURE_BLEND_S = 0.35  # seconds, deviation of the turn to the next posture
BROW_ROWS = slice(6, 10)  # of the lattice
BROW_COLUMNS = slice(7, 25)  # of the lattice
BROW_RIDGE = 0.01  # regularisation of the least squares for the brows, share of the mean of the Gram matrix's diagonal


class Accents(NamedTuple):
    """List stressed syllables. times_s: (N,).  strengths: (N,) in (0, 1]."""

    times_s: np.ndarray
    strengths: np.ndarray


def compute_prominence(track: np.ndarray, weight: np.ndarray, hz: float) -> np.ndarray:
    """Compare a track (T,) with its surroundings: its mean over a syllable less its mean over a phrase.

    weight: (T,) of both means.  hz: of both tracks.
    """
    near, around = (
        gaussian_filter1d(np.stack([track * weight, weight]), s * hz, mode="constant") for s in (SYLLABLE_S, PHRASE_S)
    )
    return near[0] / np.maximum(near[1], 1e-3) - around[0] / np.maximum(around[1], 1e-3)


def detect_accents(articulation: np.ndarray) -> Accents:
    """Detect the accents of a voice: syllables that are louder and higher than those around them.

    articulation: (T, 43) at 50 Hz, recognised or planned.
    Source: energy and F0 as in Terken 1991.
    """
    hz = float(ARTICULATION_HZ)
    voiced = np.clip(articulation[:, VOICING_COLUMN], 0, 1) * (1 - articulation[:, SILENCE_COLUMN])
    f0 = articulation[:, F0_COLUMN] / np.maximum(
        articulation[:, VOICING_COLUMN], 0.3
    )  # the stream holds it times voicing
    stress = (
        compute_prominence(articulation[:, ENERGY_COLUMN], voiced, hz) / ENERGY_SPREAD
        + compute_prominence(f0, voiced, hz) / F0_SPREAD_OCTAVES
    )
    stress = np.where(gaussian_filter1d(voiced, SYLLABLE_S * hz) > 0.4, stress, 0)
    at = find_track_peaks(stress, STRESS_THRESHOLD, round(ACCENT_GAP_S * hz))
    return Accents(at / hz, np.clip(stress[at] / (2 * STRESS_THRESHOLD), 0, 1))


def find_track_peaks(track: np.ndarray, least: float, apart: int) -> np.ndarray:
    """Find the peaks of a track (T,), rising int64: of two nearer to each other than `apart` ticks the higher one.

    least: height of a peak.
    It does what scipy.signal.find_peaks does, whose import takes longer than a command may take to start.
    """
    inner = track[1:-1]
    at = 1 + np.flatnonzero((inner > track[:-2]) & (inner > track[2:]) & (inner >= least))
    kept = np.ones(len(at), bool)
    for k in np.argsort(track[at])[::-1]:
        if kept[k]:
            kept &= (np.abs(at - at[k]) >= apart) | (at == at[k])
    return at[kept]


def sum_gaussian_bumps(
    ticks: int, times_s: np.ndarray, heights: np.ndarray, shape_s: tuple[float, float, float]
) -> np.ndarray:
    """Sum bumps with unequal sides into a track (ticks,) at 25 Hz.

    times_s, heights: (N,).  shape_s: delay of the summit after its time, and the deviations of rise and fall.
    """
    late, rising, falling = shape_s
    gap = np.arange(ticks)[:, None] / float(MOTION_HZ) - np.asarray(times_s)[None] - late
    return (np.exp(-0.5 * (gap / np.where(gap < 0, rising, falling)) ** 2) * heights).sum(1)


def solve_brow_raise(basis: np.ndarray) -> np.ndarray:
    """Solve for the four brow numbers of the code that raise both brows by one unit of the crop and move little else.

    basis: (26, 2, 32, 32) of the motion space.
    Source: least squares over the whole lattice, for no single number is that of the brows.
    """
    rows = np.asarray(basis, np.float64)[BLINK_INDEX + 1 : EXPRESSION_WIDTH]
    flat = rows.reshape(BROW_WIDTH, -1)
    target = np.zeros(rows.shape[1:])
    target[1, BROW_ROWS, BROW_COLUMNS] = -1
    gram = flat @ flat.T
    ridge = BROW_RIDGE * np.trace(gram) / BROW_WIDTH * np.eye(BROW_WIDTH)
    code = np.linalg.solve(gram + ridge, flat @ target.reshape(-1))
    raised = -np.tensordot(code, rows, 1)[1, BROW_ROWS, BROW_COLUMNS].mean()
    return code / raised


def sample_head_postures(active: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample how the head is held, (T, 6) in deviations: another posture in every phrase, turned to in the pause
    before.

    active: (T,) voice activity at 25 Hz.
    """
    hz = float(MOTION_HZ)
    speaking = active > 0.5
    for a, b in find_runs(~speaking):
        if 0 < a and b < len(speaking) and b - a < PAUSE_S * hz:
            speaking[a:b] = True
    out, start = np.zeros((len(active), POSE_WIDTH)), 0
    for a, b in find_runs(speaking):
        out[start:] = rng.normal(size=POSE_WIDTH) * POSTURE_DEVIATION
        out[start:a] = out[start - 1] if start else 0
        start = b
    return gaussian_filter1d(out, POSTURE_BLEND_S * hz, axis=0)


def generate_gestures(
    articulation: np.ndarray, active: np.ndarray, basis: np.ndarray, strength: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Generate what a voice moves beside its mouth: brows (T, 4) and head (T, 6) at 25 Hz, to be added to codes.

    articulation: (2 T, 43) at 50 Hz.  active: (T,) voice activity.  basis: (26, 2, 32, 32) of the motion space.
    strength: 0: none.
    Source: brows and nods go with accents, Cavé 1996, Hadar 1983.
    """
    ticks, rng = len(active), np.random.default_rng([seed, 0xACC])
    brows, head = np.zeros((ticks, BROW_WIDTH), np.float32), np.zeros((ticks, POSE_WIDTH), np.float32)
    if strength == 0:
        return brows, head
    times_s, strengths = detect_accents(articulation)
    by_head, by_brows = (
        strengths * (rng.random(len(strengths)) >= ACCENT_SKIP_SHARE) * rng.uniform(0.7, 1.1, len(strengths))
        for _ in range(2)
    )
    brows += (BROW_RISE * sum_gaussian_bumps(ticks, times_s, by_brows, BROW_SHAPE_S))[:, None] * solve_brow_raise(basis)
    nod = sum_gaussian_bumps(ticks, times_s, by_head, NOD_SHAPE_S)
    head += sample_head_postures(active, rng)
    head[:, 5] += NOD_HEIGHT * nod
    head[:, 1] += NOD_DROP * nod
    return strength * brows, strength * head
