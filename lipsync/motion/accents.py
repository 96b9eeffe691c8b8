"""Stress that is heard becomes motion that is seen: brows that rise and small nods on accents, another posture for
another phrase.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from mouthpiece.engine.audio.voice_activity import find_runs
from mouthpiece.engine.encoders.motion import BLINK_INDEX, BROW_WIDTH, EXPRESSION_WIDTH, POSE_WIDTH
from mouthpiece.engine.encoders.phonetic import PHONES
from mouthpiece.engine.timeline import ARTICULATION_HZ, MOTION_HZ

VOICING, PITCH, ENERGY = (len(PHONES) + k for k in range(3))
SYLLABLE_S, PHRASE_S = 0.06, 0.6  # a syllable stands out against what is said around it
# deviations of energy and of F0 (octaves) so measured, in recorded speech
ENERGY_SPREAD, F0_SPREAD_OCTAVES = 0.17, 0.17
# sum of both from which a syllable is stressed; from twice that on it counts fully
STRESS_THRESHOLD = 1.6
ACCENT_GAP_S = 0.5  # between two accents
# share of accents that the head, and of those that the brows, leave alone
ACCENT_SKIP_SHARE = 0.25
# deviations of the head's pitch; after the accent, rising, falling
NOD_HEIGHT, NOD_SHAPE_S = 1.8, (0.12, 0.09, 0.2)
BROW_RISE, BROW_SHAPE_S = 0.0045, (0.04, 0.12, 0.26)  # of the brows, in units of the crop; the same
NOD_DROP = 0.7  # deviations that the head sinks with a nod
PAUSE_S = 0.3  # silence that parts two phrases
# deviations of the head's numbers from phrase to phrase
POSTURE_DEVIATION = np.array([0.5, 0.2, 0.3, 0.7, 0.8, 0.4])
POSTURE_BLEND_S = 0.35  # how long it takes to turn to the next one
BROW_ROWS, BROW_COLUMNS = slice(6, 10), slice(7, 25)  # of the lattice


class Accents(NamedTuple):
    """Stressed syllables. times_s: (N,).  strengths: (N,) in (0, 1]."""

    times_s: np.ndarray
    strengths: np.ndarray


def compute_prominence(track: np.ndarray, weight: np.ndarray, hz: float) -> np.ndarray:
    """A track (T,) against its surroundings: its mean over a syllable less its mean over a phrase, both under a weight
    (T,).
    """
    near, around = (
        gaussian_filter1d(np.stack([track * weight, weight]), s * hz, mode="constant") for s in (SYLLABLE_S, PHRASE_S)
    )
    return near[0] / np.maximum(near[1], 1e-3) - around[0] / np.maximum(around[1], 1e-3)


def detect_accents(articulation: np.ndarray) -> Accents:
    """Accents of a voice: syllables that are louder and higher than those around them.

    articulation: (T, 43) at 50 Hz, heard or planned.
    Source: ours; energy and F0 as in Terken 1991.
    """
    hz = float(ARTICULATION_HZ)
    voiced = np.clip(articulation[:, VOICING], 0, 1) * (1 - articulation[:, PHONES.index("SIL")])
    f0 = articulation[:, PITCH] / np.maximum(articulation[:, VOICING], 0.3)  # the stream holds it times voicing
    stress = (
        compute_prominence(articulation[:, ENERGY], voiced, hz) / ENERGY_SPREAD
        + compute_prominence(f0, voiced, hz) / F0_SPREAD_OCTAVES
    )
    stress = np.where(gaussian_filter1d(voiced, SYLLABLE_S * hz) > 0.4, stress, 0)
    at = find_track_peaks(stress, STRESS_THRESHOLD, round(ACCENT_GAP_S * hz))
    return Accents(at / hz, np.clip(stress[at] / (2 * STRESS_THRESHOLD), 0, 1))


def find_track_peaks(track: np.ndarray, least: float, apart: int) -> np.ndarray:
    """Where a track (T,) has a summit of some height, rising int64; of two nearer to each other than so many ticks the
    higher one.

    Source: as scipy.signal.find_peaks, whose import takes longer than a start may.
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
    """(ticks,) at 25 Hz: a bump of each height (N,), its summit shape_s[0] after its time, with the two deviations of
    its sides.
    """
    late, rising, falling = shape_s
    gap = np.arange(ticks)[:, None] / float(MOTION_HZ) - np.asarray(times_s)[None] - late
    return (np.exp(-0.5 * (gap / np.where(gap < 0, rising, falling)) ** 2) * heights).sum(1)


def solve_brow_raise(basis: np.ndarray) -> np.ndarray:
    """Four numbers of the code that raise both brows by one unit of the crop and move little else. basis: (26, 2, 32,
    32) of the motion space.

    Source: least squares over the whole lattice, for the brows have no number of their own.
    """
    rows = np.asarray(basis, np.float64)[BLINK_INDEX + 1 : EXPRESSION_WIDTH]
    flat = rows.reshape(BROW_WIDTH, -1)
    wanted = np.zeros(rows.shape[1:])
    wanted[1, BROW_ROWS, BROW_COLUMNS] = -1
    gram = flat @ flat.T
    code = np.linalg.solve(gram + 0.01 * np.trace(gram) / BROW_WIDTH * np.eye(BROW_WIDTH), flat @ wanted.reshape(-1))
    raised = -np.tensordot(code, rows, 1)[1, BROW_ROWS, BROW_COLUMNS].mean()
    return code / raised


def sample_head_postures(active: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where the head is held, (T, 6) in deviations: another place in every phrase, turned to in the pause before.

    active: (T,) voice activity at 25 Hz.  rng: numpy Generator.
    """
    hz = float(MOTION_HZ)
    said = active > 0.5
    for a, b in find_runs(~said):
        if 0 < a and b < len(said) and b - a < PAUSE_S * hz:
            said[a:b] = True
    out, start = np.zeros((len(active), POSE_WIDTH)), 0
    for a, b in find_runs(said):
        out[start:] = rng.normal(size=POSE_WIDTH) * POSTURE_DEVIATION
        out[start:a] = out[start - 1] if start else 0
        start = b
    return gaussian_filter1d(out, POSTURE_BLEND_S * hz, axis=0)


def generate_gestures(
    articulation: np.ndarray, active: np.ndarray, basis: np.ndarray, strength: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(brows (T, 4), head (T, 6)) that a voice moves beside its mouth, on the 25 Hz clock, to be added to codes.

    articulation: (2 T, 43).  active: (T,).  basis: (26, 2, 32, 32) of the motion space.
    strength: 0 gives none.
    Source: ours; brows and nods go with accents (Cavé 1996, Hadar 1983).
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
