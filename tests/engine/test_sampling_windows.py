import weakref
from itertools import pairwise

import pytest
import torch

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling import (
    FlowAdapter,
    KnownValues,
    Window,
    compute_overlap_weights,
    draw_tick_noise,
    make_flow_levels,
    overlap_add,
    plan_windows,
    sample,
    stream_windows,
)

# Total, length, overlap: fitting, moved back, overlapping by more than half, without overlap, one tick.
SHAPES = [(100, 20, 5), (101, 20, 5), (37, 20, 12), (90, 16, 15), (50, 7, 0), (20, 20, 3), (21, 20, 3), (1, 20, 3)]


@pytest.mark.parametrize(("total", "length", "overlap"), SHAPES)
def test_windows_cover_the_span_exactly_and_none_is_short(total, length, overlap):
    windows = plan_windows(total, length, overlap)
    assert windows[0].start == 0
    assert windows[-1].stop == total
    assert all(stop - start == min(total, length) for start, stop in windows)
    assert all(b.start > a.start and a.stop - b.start >= overlap for a, b in pairwise(windows))


def test_the_last_window_is_moved_back_and_short_spans_take_one():
    assert plan_windows(25, 10, 2) == [Window(0, 10), Window(8, 18), Window(15, 25)]
    assert plan_windows(10, 10, 2) == [Window(0, 10)]
    assert plan_windows(4, 10, 2) == [Window(0, 4)]
    assert plan_windows(0, 10, 2) == []


@pytest.mark.parametrize(("total", "length", "overlap"), SHAPES)
def test_overlap_weights_are_positive_and_sum_to_one_everywhere(total, length, overlap):
    windows, sums = plan_windows(total, length, overlap), torch.zeros(total)
    for index, (start, stop) in enumerate(windows):
        weights = compute_overlap_weights(windows, index)
        assert (weights > 0).all()
        sums[start:stop] += weights
    assert torch.allclose(sums, torch.ones(total), atol=1e-6)


def test_overlap_weights_of_two_windows_are_a_raised_cosine():
    windows = plan_windows(28, 16, 4)
    phase = torch.pi * (torch.arange(4) + 0.5) / 4
    assert torch.allclose(compute_overlap_weights(windows, 0)[-4:], (1 + torch.cos(phase)) / 2, atol=1e-6)


@pytest.mark.parametrize(("total", "length", "overlap"), SHAPES)
@pytest.mark.parametrize("how", ["blend", "carry"])
def test_pieces_of_a_whole_join_to_the_whole(total, length, overlap, how):
    whole = torch.randn(2, total, 3, generator=torch.Generator().manual_seed(0))
    windows = plan_windows(total, length, overlap)
    parts = list(stream_windows(windows, lambda window, given: whole[:, window.start : window.stop], how))
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)


def test_overlap_add_mixes_disagreeing_windows_smoothly():
    joined = overlap_add([torch.zeros(1, 16), torch.ones(1, 16)], plan_windows(28, 16, 4))[0]
    assert joined[:12].eq(0).all()
    assert joined[16:].eq(1).all()
    assert (joined[11:17].diff() > 0).all()


@pytest.mark.parametrize("how", ["blend", "carry"])
def test_ticks_come_out_as_soon_as_they_are_final(how):
    made = []

    def make(window, given):
        made.append(window)
        return torch.zeros(1, window.stop - window.start)

    stream = stream_windows(plan_windows(100, 20, 5), make, how)
    assert next(stream).shape[1] == 15
    assert made == [Window(0, 20)]
    assert next(stream).shape[1] == 15
    assert made == [Window(0, 20), Window(15, 35)]


@pytest.mark.parametrize("how", ["blend", "carry"])
def test_memory_does_not_grow_with_the_number_of_windows(how):
    alive, most = weakref.WeakSet(), 0

    def make(window, given):
        nonlocal most
        piece = torch.zeros(1, window.stop - window.start)
        alive.add(piece)
        most = max(most, len(alive))
        return piece

    for _ticks in stream_windows(plan_windows(1000, 20, 5), make, how):
        pass
    assert most <= 2


def test_carry_gives_each_window_what_the_one_before_ended_with_and_keeps_it():
    seen = []

    def make(window, given):
        seen.append(given)
        return torch.full((1, window.stop - window.start), float(window.start))

    windows = plan_windows(25, 10, 2)
    joined = torch.cat(list(stream_windows(windows, make, "carry")), dim=1)[0]
    assert seen[0] is None
    assert seen[1].tolist() == [[0.0] * 2]
    assert seen[2].tolist() == [[8.0] * 3]
    assert joined.tolist() == [0.0] * 10 + [8.0] * 8 + [15.0] * 7


def pointwise(x, time, conditions):
    return torch.sin(3 * x) - time.view(-1, 1, 1) * x


@pytest.mark.parametrize("how", ["blend", "carry"])
def test_a_pointwise_model_samples_the_same_in_windows_as_whole(how):
    def run(window, given):
        noise = draw_tick_noise(*window, (3,), seed=1, items=[0, 1])
        kept = None
        if given is not None:
            values = torch.full_like(noise, float("nan"))
            values[:, : given.shape[1]] = given
            kept = KnownValues(values, torch.arange(noise.shape[1])[:, None] < given.shape[1])
        return sample(FlowAdapter(pointwise), noise, make_flow_levels(4), solver="heun", given=kept)

    whole = run(Window(0, 101), None)
    parts = torch.cat(list(stream_windows(plan_windows(101, 20, 5), run, how)), dim=1)
    assert torch.allclose(parts, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: plan_windows(-1, 10, 2), "-1 ticks"),
        (lambda: plan_windows(10, 0, 0), "windows of 0"),
        (lambda: plan_windows(30, 10, 10), "overlap of 10"),
        (lambda: plan_windows(30, 10, -1), "overlap of -1"),
        (lambda: next(stream_windows(plan_windows(30, 10, 2), lambda window, given: None, "glue")), "'glue'"),
        (lambda: overlap_add([torch.zeros(1, 9)], plan_windows(10, 10, 2)), "came back as"),
        (lambda: overlap_add([torch.zeros(1, 10)], plan_windows(20, 10, 2)), "1 pieces came for 3"),
    ],
)
def test_nonsense_is_refused_in_words(make, words):
    with pytest.raises(UsageError, match=words) as refusal:
        make()
    assert refusal.value.hint
