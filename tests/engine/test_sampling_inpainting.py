import pytest
import torch

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling import FlowAdapter, KnownValues, draw_item_noise, make_flow_levels, sample

NOISE = draw_item_noise((6, 2), seed=0, items=[0, 1])
MASK = torch.tensor([True, True, False, False, True, False])[:, None]


def smoothing(x, time, conditions):
    """A network whose ticks hear their neighbours."""
    return x.roll(1, 1) + x.roll(-1, 1) - x


def run(given=None, solver="euler", on_step=None):
    return sample(FlowAdapter(smoothing), NOISE, make_flow_levels(4), solver=solver, given=given, on_step=on_step)


@pytest.mark.parametrize("solver", ["euler", "heun", "ab2", "dpm2m", "ddim"])
def test_given_ticks_come_out_exactly_and_move_their_neighbours(solver):
    values = torch.full_like(NOISE, 3.0)
    kept, free = run(KnownValues(values, MASK), solver), run(None, solver)
    where = MASK.expand_as(NOISE)
    assert torch.equal(kept[where], values[where])
    assert not torch.allclose(kept[~where], free[~where])


def test_given_values_outside_the_mask_are_never_read():
    values = torch.full_like(NOISE, 3.0)
    poisoned = values.masked_fill(~MASK, float("nan"))
    assert torch.equal(run(KnownValues(values, MASK)), run(KnownValues(poisoned, MASK)))


def test_the_network_sees_given_ticks_at_the_level_of_the_step():
    seen = []

    def network(x, time, conditions):
        seen.append((time[0].item(), x))
        return torch.zeros_like(x)

    values, where = torch.full_like(NOISE, 3.0), MASK.expand_as(NOISE)
    sample(FlowAdapter(network), NOISE, make_flow_levels(4), given=KnownValues(values, MASK))
    for time, x in seen:
        assert torch.allclose(x[where], (time * values + (1 - time) * NOISE)[where])


def test_a_sample_is_the_same_alone_and_in_a_batch():
    alone = sample(FlowAdapter(smoothing), draw_item_noise((6, 2), 0, [1]), make_flow_levels(4), solver="heun")
    assert torch.allclose(run(solver="heun")[1:], alone, atol=1e-6)


def test_steps_are_reported_and_no_gradient_is_kept():
    told = []
    weight = torch.ones((), requires_grad=True)
    out = sample(FlowAdapter(lambda x, t, c: weight * x), NOISE, make_flow_levels(3), on_step=lambda *a: told.append(a))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert not out.requires_grad


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (KnownValues(torch.zeros(2, 5, 2), MASK), "do not fit"),
        (KnownValues(torch.zeros(2, 6, 2), MASK.float()), "float32 mask"),
    ],
)
def test_given_values_that_do_not_fit_are_refused_in_words(given, words):
    with pytest.raises(UsageError, match=words) as refusal:
        run(given)
    assert refusal.value.hint
