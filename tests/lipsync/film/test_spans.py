"""Which seconds of a film change: as asked for, or where the new sound is another; how changed and unchanged frames
meet.
"""

import numpy as np
import pytest

from mouthpiece.engine.errors import UsageError
from mouthpiece.lipsync.film.spans import (
    compute_crossfade,
    find_changed_spans,
    flag_frames,
    merge_spans,
    parse_spans,
    to_spans,
)

RATE_HZ = 16_000
TIMES = np.arange(100) / 25
ONE_SHOT = np.zeros(100, int)


def talk(seconds=4.0, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE_HZ)).astype(np.float32)


def test_spans_are_parsed_sorted_and_merged():
    assert parse_spans(None) is None
    assert parse_spans("3-4, 0.5-1.25,3.5-5") == [(0.5, 1.25), (3.0, 5.0)]
    assert merge_spans([(0, 1), (1.3, 2)], 0.5) == [(0.0, 2.0)] and merge_spans([(0, 1), (1.3, 2)], 0.2) == [
        (0.0, 1.0),
        (1.3, 2.0),
    ]


@pytest.mark.parametrize("text", ["", "2-1", "1-1", "a-b", "1.2", "1-2;3-4", "-1-2", "nan-3"])
def test_text_that_is_not_a_span_is_refused(text):
    with pytest.raises(UsageError, match="is not a span of time") as caught:
        parse_spans(text)
    assert "START-END" in caught.value.hint


def test_the_same_sound_differs_nowhere_not_even_after_coding():
    own = talk()
    assert find_changed_spans(own, own) == []
    assert find_changed_spans(own, own + 0.01 * talk(seed=1)) == []
    assert find_changed_spans(own, np.r_[own, np.zeros(8000, np.float32)]) == []


def test_only_the_replaced_line_differs():
    own = talk()
    new = own.copy()
    new[RATE_HZ : 2 * RATE_HZ] = talk(1.0, 5)
    ((start, stop),) = find_changed_spans(own, new)
    assert 0.7 <= start <= 0.85 and 2.15 <= stop <= 2.3
    quiet = own.copy()
    quiet[RATE_HZ : 2 * RATE_HZ] = 0
    assert len(find_changed_spans(own, quiet)) == 1 and len(find_changed_spans(quiet, own)) == 1


def test_a_sound_that_goes_on_or_ends_early_differs_there():
    own = talk()
    ((start, stop),) = find_changed_spans(own, own[: 3 * RATE_HZ])
    assert 2.7 < start < 2.9 and stop == 4.0


def test_frames_within_a_span_are_those_that_start_in_it():
    flags = flag_frames(TIMES, [(0.4, 0.6), (3.96, 9)])
    assert np.flatnonzero(flags).tolist() == [10, 11, 12, 13, 14, 99]
    assert to_spans(TIMES, 4.0, flags) == [(0.4, 0.6), (3.96, 4.0)]


def test_changes_rise_and_fall_within_their_span_and_not_at_the_ends_of_the_film():
    changed = np.zeros(100, bool)
    changed[20:60] = True
    ramp = compute_crossfade(TIMES, changed, ONE_SHOT, 0.08)
    assert (ramp[changed] > 0).all() and not ramp[~changed].any()
    assert (np.diff(ramp[20:25]) >= 0).all() and ramp[20] < 0.5 and ramp[19 + 4] == 1 == ramp[56] and ramp[59] < 0.5
    assert np.array_equal(compute_crossfade(TIMES, np.ones(100, bool), ONE_SHOT, 0.08), np.ones(100))
    assert (compute_crossfade(TIMES, changed, ONE_SHOT, 0.0)[20:60] == 1).all()


def test_a_cut_needs_no_ramp_and_a_lone_frame_is_left_alone():
    changed = np.zeros(100, bool)
    changed[20:60] = True
    shot = np.r_[np.zeros(20), np.ones(20), np.full(60, 2)].astype(int)
    ramp = compute_crossfade(TIMES, changed, shot, 0.08)
    assert ramp[20] == 1 == ramp[39] == ramp[40] and ramp[59] < 1
    changed[:] = False
    changed[70] = True
    assert not compute_crossfade(TIMES, changed, ONE_SHOT, 0.08).any()
