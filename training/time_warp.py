"""Speech at another pace, and as if it were sung: vowels held, everything else as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.encoders.articulatory_features import VOWEL_INDICES
from mouthpiece.training.augment import draw_uniform

if TYPE_CHECKING:
    import torch

VOWEL_STRETCH_RANGE = (1.5, 3.5)  # how much longer a vowel lasts in song


def make_tempo_warp(frames: int, tempo: float) -> np.ndarray:
    """Return where a sound of so many frames is read when it is played at a tempo: (N,) float frames."""
    return np.arange(max(1, int(frames / tempo))) * tempo


def make_singing_warp(phones: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Return where speech is read when its vowels are held, each for its own time: (N,) float frames.

    phones: (T,) ids a frame.
    Singers lengthen vowels and hardly anything else.
    """
    phones = np.asarray(phones)
    slow, vowel = np.ones(len(phones)), np.isin(phones, VOWEL_INDICES)
    edges = np.flatnonzero(np.diff(phones.astype(np.int64), prepend=-1))
    for start, stop in zip(edges, [*edges[1:], len(phones)]):
        if vowel[start]:
            slow[start:stop] = draw_uniform(*VOWEL_STRETCH_RANGE, generator)
    ends = np.cumsum(slow)
    return np.interp(np.arange(int(ends[-1])), np.concatenate([[0], ends[:-1]]), np.arange(len(phones)))
