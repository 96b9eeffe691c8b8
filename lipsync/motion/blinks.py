"""Blinks: when they come, how long and how deep they are."""

from __future__ import annotations

import numpy as np

from mouthpiece.engine.timeline import MOTION_HZ

BLINK_SHUT = 2.5  # eyelid code of a shut eye
# mean closure of recorded blinks in ticks of 40 ms: fast down, slow up
BLINK_SHAPE = np.array([0.25, 0.8, 1.0, 0.85, 0.5, 0.22, 0.08])
DEPTH_GAIN = 1.25  # factor on that shape, cut at 1: the mean over blinks is blurred, shut for one frame only
PEAK_TICK = 2  # index of the shape's summit
BLINK_GAP_TICKS = 15  # of 40 ms, 0.6 s: the least between two blinks
LEAD_IN_TICKS = 8  # of 40 ms, 0.3 s: a clip begins with open eyes
LONGEST_RATIO = 1.35  # length of the longest blink over that of the mean
SHORTEST_RATIO = 0.8  # length of the shortest
SMALLEST_DEPTH = 0.9  # closure of the least deep blink; the deepest is 1
DOUBLE_BLINK_PROBABILITY = 0.06  # of a second blink right after the first
DOUBLE_BLINK_TICKS = 9  # of 40 ms, between the starts of the two
PAUSE_ODDS = 3.0  # how much likelier a blink is in a pause than in speech


def make_blink(length: float, depth: float) -> np.ndarray:
    """Make the eyelid track (N,) of one blink that begins at once.

    length: factor on the mean's length.  depth: closure at the summit, 1 is shut.
    Source: mean of the blinks in the GRID corpus.
    """
    before = int(np.ceil((PEAK_TICK + 1) * length)) - 1
    at = (np.arange(-before, int(np.ceil((len(BLINK_SHAPE) - PEAK_TICK) * length))) / length) + PEAK_TICK
    shape = np.minimum(1, DEPTH_GAIN * BLINK_SHAPE)
    return (depth * np.interp(at, np.arange(-1, len(shape) + 1), np.r_[0, shape, 0])).astype(np.float32)


def sample_blinks(ticks: int, rate_per_minute: float, active: np.ndarray, seed: int) -> np.ndarray:
    """Sample an eyelid track (ticks,) in [0, 1]: blinks of varying length and depth at a mean rate, likelier in pauses.

    rate_per_minute: 0 keeps the eyes open.  active: (ticks,) voice activity at 25 Hz.
    No blink begins in the first 0.3 s, and none within 0.6 s of another but the second of a pair.
    Source: blinks fall into pauses, Nakano and Kitazawa 2010.
    """
    rng = np.random.default_rng([seed, 0xB11])
    lids = np.zeros(ticks, np.float32)
    if rate_per_minute <= 0 or ticks <= LEAD_IN_TICKS:
        return lids
    odds = np.where(active < 0.5, PAUSE_ODDS, 1.0)
    odds[:LEAD_IN_TICKS] = 0
    odds *= rate_per_minute / (1 + DOUBLE_BLINK_PROBABILITY) / 60 / MOTION_HZ * ticks / odds.sum()
    # makes up for the ticks in which none may start
    odds /= np.maximum(1 - (BLINK_GAP_TICKS + DOUBLE_BLINK_PROBABILITY * DOUBLE_BLINK_TICKS - 1) * odds, 0.1)
    free = 0
    for t in np.nonzero(rng.random(ticks) < odds)[0]:
        if t < free:
            continue
        starts = (t, t + DOUBLE_BLINK_TICKS) if rng.random() < DOUBLE_BLINK_PROBABILITY else (t,)
        for start in starts:
            shape = make_blink(rng.uniform(SHORTEST_RATIO, LONGEST_RATIO), rng.uniform(SMALLEST_DEPTH, 1.0))[
                : max(0, ticks - start)
            ]
            lids[start : start + len(shape)] = np.maximum(lids[start : start + len(shape)], shape)
        free = starts[-1] + BLINK_GAP_TICKS
    return lids
