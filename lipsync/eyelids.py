"""Blinks: when, how long and how deep."""
import numpy as np

from engine.timeline import MOTION_HZ

BLINK_SHUT = 2.5                       # code of a shut eye
BLINK_SHAPE = np.array([0.25, 0.8, 1.0, 0.85, 0.5, 0.22, 0.08])   # 40 ms ticks: fast down, slow up; mean of the blinks in GRID
SHARPENED = 1.25
PEAK = 2                               # where it is shut
BLINK_APART_TICKS = 15                 # 0.6 s
FIRST_TICKS = 8                        # 0.3 s: the portrait is seen with its eyes open first
SLOWEST, QUICKEST = 1.35, 0.8          # lengths of blinks against the mean
SHALLOWEST = 0.9                       # depth; the deepest is 1
DOUBLE_ODDS, DOUBLE_TICKS = 0.06, 9    # a second blink right after the first


def blink(length, depth):
    """Eyelids (N,) of one blink that begins at once: the mean shape, `length` times as long and `depth` as deep, shut for a while.

    Source: GRID's mean, made SHARPENED as deep and cut at shut: a mean over blinks is blurred, and its lids are shut for one frame only.
    """
    before = int(np.ceil((PEAK + 1) * length)) - 1
    at = (np.arange(-before, int(np.ceil((len(BLINK_SHAPE) - PEAK) * length))) / length) + PEAK
    shape = np.minimum(1, SHARPENED * BLINK_SHAPE)
    return (depth * np.interp(at, np.arange(-1, len(shape) + 1), np.r_[0, shape, 0])).astype(np.float32)


def blinks(ticks, rate_per_minute, active, seed):
    """Eyelids (ticks,) in [0, 1]: blinks of slightly different length and depth at a mean rate, likelier where speech pauses.

    rate_per_minute: 0 keeps the eyes open.  active: (ticks,) voice activity.
    None begins in the first 0.3 s, none within 0.6 s of another but for the second of a pair.
    Source: ours; blinks fall into pauses (Nakano and Kitazawa 2010), three times as often here.
    """
    rng = np.random.default_rng([seed, 0xB11])
    lids = np.zeros(ticks, np.float32)
    if rate_per_minute <= 0 or ticks <= FIRST_TICKS:
        return lids
    odds = np.where(active < 0.5, 3.0, 1.0)
    odds[:FIRST_TICKS] = 0
    odds *= rate_per_minute / (1 + DOUBLE_ODDS) / 60 / MOTION_HZ * ticks / odds.sum()
    odds /= np.maximum(1 - (BLINK_APART_TICKS + DOUBLE_ODDS * DOUBLE_TICKS - 1) * odds, 0.1)   # makes up for the ticks in which none may start
    free = 0
    for t in np.nonzero(rng.random(ticks) < odds)[0]:
        if t < free:
            continue
        starts = (t, t + DOUBLE_TICKS) if rng.random() < DOUBLE_ODDS else (t,)
        for start in starts:
            shape = blink(rng.uniform(QUICKEST, SLOWEST), rng.uniform(SHALLOWEST, 1.0))[: max(0, ticks - start)]
            lids[start : start + len(shape)] = np.maximum(lids[start : start + len(shape)], shape)
        free = starts[-1] + BLINK_APART_TICKS
    return lids
