"""Speech at another pace, and as if it were sung: vowels held, everything else as it was."""
import numpy as np

from engine.encoders.articulators import VOWELS
from engine.train.disguise import uniform

HELD = (1.5, 3.5)                      # how much longer a vowel lasts in song


def paced(frames, tempo):
    """Where a sound of so many frames is read when it is played at a tempo: (N,) float frames. Source: ours."""
    return np.arange(max(1, int(frames / tempo))) * tempo


def sung(phones, generator):
    """Where speech is read when its vowels are held, each for its own time: (N,) float frames.

    phones: (T,) ids a frame.
    Source: ours; singers lengthen vowels and hardly anything else.
    """
    phones = np.asarray(phones)
    slow, vowel = np.ones(len(phones)), np.isin(phones, VOWELS)
    edges = np.flatnonzero(np.diff(phones.astype(np.int64), prepend=-1))
    for start, stop in zip(edges, [*edges[1:], len(phones)]):
        if vowel[start]:
            slow[start:stop] = uniform(*HELD, generator)
    ends = np.cumsum(slow)
    return np.interp(np.arange(int(ends[-1])), np.concatenate([[0], ends[:-1]]), np.arange(len(phones)))
