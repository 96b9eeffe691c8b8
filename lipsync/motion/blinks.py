"""Blinks: when, how long and how deep."""

from __future__ import annotations

import numpy as np

from mouthpiece.engine.timeline import MOTION_HZ

BLINK_SHUT = 2.5  # code of a shut eye
# 40 ms ticks: fast down, slow up; mean of the blinks in GRID
BLINK_SHAPE = np.array([0.25, 0.8, 1.0, 0.85, 0.5, 0.22, 0.08])
DEPTH_GAIN = 1.25
PEAK_TICK = 2  # where it is shut
BLINK_GAP_TICKS = 15  # 0.6 s
LEAD_IN_TICKS = 8  # 0.3 s: the portrait is seen with its eyes open first
LONGEST_RATIO, SHORTEST_RATIO = 1.35, 0.8  # lengths of blinks against the mean
SMALLEST_DEPTH = 0.9  # depth; the deepest is 1
DOUBLE_BLINK_PROBABILITY, DOUBLE_BLINK_TICKS = 0.06, 9  # a second blink right after the first


def make_blink(length: float, depth: float) -> np.ndarray:
    """Eyelids (N,) of one blink that begins at once: the mean shape, `length` times as long and `depth` as deep, shut
    for a while.

    Source: GRID's mean, made SHARPENED as deep and cut at shut: a mean over blinks is blurred, and its lids are shut
    for one frame only.
    """
    before = int(np.ceil((PEAK_TICK + 1) * length)) - 1
    at = (np.arange(-before, int(np.ceil((len(BLINK_SHAPE) - PEAK_TICK) * length))) / length) + PEAK_TICK
    shape = np.minimum(1, DEPTH_GAIN * BLINK_SHAPE)
    return (depth * np.interp(at, np.arange(-1, len(shape) + 1), np.r_[0, shape, 0])).astype(np.float32)


def sample_blinks(ticks: int, rate_per_minute: float, active: np.ndarray, seed: int) -> np.ndarray:
    """Eyelids (ticks,) in [0, 1]: blinks of slightly different length and depth at a mean rate, likelier where speech
    pauses.

    rate_per_minute: 0 keeps the eyes open.  active: (ticks,) voice activity.
    None begins in the first 0.3 s, none within 0.6 s of another but for the second of a pair.
    Source: ours; blinks fall into pauses (Nakano and Kitazawa 2010), three times as often here.
    """
    rng = np.random.default_rng([seed, 0xB11])
    lids = np.zeros(ticks, np.float32)
    if rate_per_minute <= 0 or ticks <= LEAD_IN_TICKS:
        return lids
    odds = np.where(active < 0.5, 3.0, 1.0)
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
