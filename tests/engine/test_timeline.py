from fractions import Fraction

import numpy as np
import pytest

from mouthpiece.engine import timeline
from mouthpiece.engine.errors import UsageError

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    "text, rate",
    [
        ("25", Fraction(25)),
        (" 30000/1001 ", NTSC),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("23.97", Fraction(24000, 1001)),
        ("29.97", NTSC),
        ("29.970", NTSC),
        ("59.94", Fraction(60000, 1001)),
        ("119.88", Fraction(120000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("24.00", Fraction(24)),
        ("29.9", Fraction(299, 10)),
        ("1000", Fraction(1000)),
    ],
)
def test_a_rate_is_read_as_the_fraction_that_was_meant(text, rate):
    assert timeline.parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["0", "-25", "1001", "25/0", "0/25", "fast", "", "nan", "inf", "1e3", "25 fps", "2/3/4", None]
)
def test_a_rate_that_makes_no_sense_is_refused_with_what_is_accepted(text):
    with pytest.raises(UsageError, match="30000/1001") as caught:
        timeline.parse_rate(text)
    assert str(text) in caught.value.message


def test_rates_near_a_standard_one_snap_and_others_stay():
    assert timeline.snap_to_standard_rate(Fraction(29970030, 1000000)) == NTSC
    assert timeline.snap_to_standard_rate(Fraction(30)) == 30
    assert timeline.snap_to_standard_rate(Fraction(2999, 100)) == Fraction(2999, 100)


def test_the_frames_cover_the_sound_and_never_by_a_whole_frame_more():
    for rate in (Fraction(24000, 1001), Fraction(25), NTSC, Fraction(60)):
        for duration in (Fraction(1, 3), Fraction(7, 5), Fraction(48001, 48000), Fraction(10)):
            frames = timeline.count_frames(duration, rate)
            assert frames / rate >= duration > (frames - 1) / rate
    assert timeline.count_frames(Fraction(0), Fraction(25)) == 1
    assert timeline.count_frames(Fraction(2), Fraction(25)) == 50


def test_time_does_not_drift_in_ten_hours():
    last = 10 * 3600 * 30000 // 1001
    start = timeline.get_frame_time(last, NTSC)
    assert timeline.count_frames(start, NTSC) == last
    assert abs(timeline.make_frame_times(last + 1, NTSC)[-1] - float(start)) < 1e-11
    sample = timeline.count_samples(start, 48_000)
    assert abs(Fraction(sample, 48_000) - start) <= Fraction(1, 96_000)


def test_nearest_sends_halves_up_so_that_steps_stay_even():
    halves = [timeline.round_half_up(Fraction(n, 2)) for n in (-3, -1, 1, 3, 5)]
    assert halves == [-1, 0, 1, 2, 3]


def test_frame_starts_are_float64_and_equal_to_the_fractions():
    times = timeline.make_frame_times(500, NTSC)
    assert times.dtype == np.float64 and times.shape == (500,)
    assert times[499] == float(timeline.get_frame_time(499, NTSC))


@pytest.mark.parametrize("rate", [Fraction(25), NTSC, Fraction(60), Fraction(24000, 1001)])
def test_a_track_is_read_at_the_instants_of_frames_between_its_ticks(rate):
    track = np.stack([np.arange(50.0), 3 - 2 * np.arange(50.0)], 1)
    ticks = np.minimum([float(i / rate) * 25 for i in range(int(2.2 * rate))], 49)
    out = timeline.interpolate_track(track, ticks)
    assert out.dtype == np.float32 and np.abs(out - np.stack([ticks, 3 - 2 * ticks], 1)).max() < 1e-5


def test_a_track_holds_its_first_and_last_value_beyond_its_ends():
    track = np.arange(12, dtype=np.float16).reshape(6, 2)
    assert timeline.interpolate_track(track, np.array([-1.0, 2.25, 99.0])).tolist() == [[0, 1], [4.5, 5.5], [10, 11]]
    assert timeline.interpolate_track(track[:1], np.array([0.0, 3.0])).tolist() == [[0, 1], [0, 1]]
    assert timeline.interpolate_track(np.arange(4), np.array([0.5])).tolist() == [0.5]


def test_spans_that_touch_or_lie_near_are_merged_in_any_unit():
    spans = [(5, 9), (1, 3), (8, 12), (4, 4)]
    assert timeline.merge_spans(spans) == [(1, 3), (5, 12)] and timeline.merge_spans(spans, 2) == [(1, 12)]
    assert all(isinstance(edge, int) for span in timeline.merge_spans(spans) for edge in span)
    assert timeline.merge_spans([(0.5, 1.0), (0.0, 0.5)]) == [(0.0, 1.0)] and timeline.merge_spans([]) == []
    assert timeline.merge_spans([(0, 10), (2, 3)]) == [(0, 10)]
