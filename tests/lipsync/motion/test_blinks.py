import numpy as np
import pytest

from mouthpiece.lipsync.motion.blinks import (
    BLINK_GAP_TICKS,
    BLINK_SHAPE,
    DEPTH_GAIN,
    DOUBLE_BLINK_TICKS,
    LEAD_IN_TICKS,
    LONGEST_RATIO,
    SHORTEST_RATIO,
    make_blink,
    sample_blinks,
)


def starts_of(lids):
    """Ticks before which the eyes were open and at which they are not."""
    return np.flatnonzero((lids > 0) & (np.r_[0, lids[:-1]] == 0))


def summits_of(lids):
    """Ticks at which the eyes begin to be shut furthest."""
    return np.flatnonzero((lids > 0.85) & (lids > np.r_[0, lids[:-1]]) & (lids >= np.r_[lids[1:], 0]))


@pytest.mark.parametrize("rate", [6, 14, 25])
def test_blinks_come_as_often_as_asked_and_oftener_in_pauses(rate):
    minutes = 240
    active = (np.arange(minutes * 1500) // 100 % 4 > 0).astype(np.float32)
    at = summits_of(sample_blinks(len(active), rate, active, 3))
    assert len(at) / minutes == pytest.approx(rate, rel=0.06)
    paused = (active[at] < 0.5).sum() / (active < 0.5).sum()
    talking = (active[at] > 0.5).sum() / (active > 0.5).sum()
    assert paused > 1.4 * talking


def test_blinks_do_not_crowd_but_for_a_few_pairs():
    gaps = np.diff(summits_of(sample_blinks(200_000, 20, np.ones(200_000), 0)))
    near = gaps < BLINK_GAP_TICKS - 2
    assert 0.02 < near.mean() < 0.12
    assert gaps.min() >= DOUBLE_BLINK_TICKS - 2


def test_no_blink_begins_in_the_first_three_tenths_of_a_second():
    begun = [starts_of(sample_blinks(40, 60, np.zeros(40), seed)) for seed in range(300)]
    assert min(b[0] for b in begun if len(b)) >= LEAD_IN_TICKS
    assert not sample_blinks(LEAD_IN_TICKS, 60, np.zeros(LEAD_IN_TICKS), 0).any()


def test_a_blink_of_mean_length_is_the_mean_blink_made_deeper_and_cut_where_it_is_shut():
    lids = make_blink(1.0, 1.0)
    assert (lids == 1).sum() >= 3 and np.allclose(lids[lids < 1], DEPTH_GAIN * BLINK_SHAPE[lids < 1], atol=1e-6)


@pytest.mark.parametrize("length", [SHORTEST_RATIO, 1.0, LONGEST_RATIO])
def test_a_blink_shuts_wholly_at_some_tick_faster_than_it_opens_and_is_over(length):
    lids = make_blink(length, 0.95)
    assert lids.max() == pytest.approx(0.95) and lids[0] < 0.5 and lids[-1] < 0.2
    assert np.argmax(lids) < len(lids) / 2
    assert 0.75 * length <= len(lids) / len(BLINK_SHAPE) <= 1.35 * length


def test_blinks_differ_a_little_in_length_and_depth():
    lids = sample_blinks(100_000, 14, np.ones(100_000), 0)
    depths = lids[summits_of(lids)]
    lengths = np.diff(np.flatnonzero(np.diff(np.r_[0, lids > 0, 0])))[::2]
    assert depths.std() > 0.01 and depths.min() >= 0.9 - 1e-6 and len(set(lengths)) > 2


def test_blinks_depend_on_the_seed_alone_and_a_rate_of_zero_has_none():
    active = np.ones(5000, np.float32)
    assert np.array_equal(sample_blinks(5000, 14, active, 1), sample_blinks(5000, 14, active, 1))
    assert not np.array_equal(sample_blinks(5000, 14, active, 1), sample_blinks(5000, 14, active, 2))
    assert not sample_blinks(5000, 0, active, 1).any()
