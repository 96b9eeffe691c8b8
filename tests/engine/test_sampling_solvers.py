import math
from itertools import pairwise

import pytest
import torch

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling import (
    SOLVERS,
    DataAdapter,
    EpsilonAdapter,
    FlowAdapter,
    NoiseLevel,
    Prediction,
    VelocityAdapter,
    make_betas,
    make_cosine_levels,
    make_ddim,
    make_diffusion_levels,
    make_flow_levels,
    make_karras_levels,
    sample,
)

MEAN, DEVIATION = 0.7, 0.4
PATHS = {"straight": make_flow_levels, "circle": make_cosine_levels}
ORDERS = {"euler": 1, "ddim": 1, "heun": 2, "ab2": 2}


def gaussian(x, level):
    """What a perfect network says of normal data: closed form of the posterior mean."""
    variance = level.alpha**2 * DEVIATION**2 + level.sigma**2
    data = MEAN + level.alpha * DEVIATION**2 / variance * (x - level.alpha * MEAN)
    noise = level.sigma / variance * (x - level.alpha * MEAN)
    return Prediction(data, noise)


def exact(x, here, there):
    """Where the flow of normal data carries x: quantiles stay quantiles."""
    spread = [math.sqrt(level.alpha**2 * DEVIATION**2 + level.sigma**2) for level in (here, there)]
    return there.alpha * MEAN + spread[1] / spread[0] * (x - here.alpha * MEAN)


def solve(solver, levels, x):
    past = None
    for here, there in pairwise(levels):
        x, past = SOLVERS[solver](gaussian, x, here, there, past)
    return x


def error(solver, levels):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    return (solve(solver, levels, x) - exact(x, levels[0], levels[-1])).abs().max().item()


@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize("path", PATHS)
def test_halving_the_step_divides_the_error_by_two_to_the_order(solver, path):
    errors = [error(solver, PATHS[path](steps)) for steps in (40, 80, 160)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(ORDERS[solver] - 0.25 < order < ORDERS[solver] + 0.6 for order in orders), orders


def test_dpm2m_is_of_second_order_between_finite_levels_of_log_snr():
    def levels(steps):
        logits = torch.linspace(-3, 3, steps + 1, dtype=torch.float64)
        return [NoiseLevel(t, t, 1 - t) for t in torch.sigmoid(logits).tolist()]

    errors = [error("dpm2m", levels(steps)) for steps in (40, 80, 160)]
    assert all(1.75 < math.log2(a / b) < 2.6 for a, b in pairwise(errors)), errors


@pytest.mark.parametrize("solver", ["heun", "ab2", "dpm2m"])
def test_second_order_beats_first_on_every_schedule(solver):
    for levels in (
        make_flow_levels(20),
        make_flow_levels(20, shift=3.0),
        make_cosine_levels(20),
        make_karras_levels(make_betas("scaled_linear"), 20),
        make_diffusion_levels(make_betas("scaled_linear", ends="zero_snr"), 20),
    ):
        assert error(solver, levels) < 0.8 * error("euler", levels)


def test_euler_is_ddim_without_new_noise():
    for levels in (make_flow_levels(5, shift=2.0), make_cosine_levels(5)):
        x = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(solve("euler", levels, x), solve("ddim", levels, x), atol=1e-12)


def test_heun_on_the_straight_path_is_the_textbook_step():
    def velocity(x, time, conditions):
        return -x * time.view(-1, 1) + time.view(-1, 1) ** 2

    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    expected = x
    for here, there in pairwise([0.0, 0.5, 1.0]):
        first = velocity(expected, torch.full((3,), here), None)
        second = velocity(expected + 0.5 * first, torch.full((3,), there), None)
        expected = expected + 0.25 * (first + second)
    assert torch.allclose(sample(FlowAdapter(velocity), x, make_flow_levels(2), solver="heun"), expected, atol=1e-6)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_stochastic_ddim_keeps_the_distribution(eta):
    generator = torch.Generator().manual_seed(0)
    levels = make_cosine_levels(150)
    fresh = iter(lambda: torch.randn(5000, generator=generator), None)
    step = make_ddim(eta, fresh)
    x, past = torch.randn(5000, generator=generator), None
    deterministic = solve("ddim", levels, x)
    for here, there in pairwise(levels):
        x, past = step(gaussian, x, here, there, past)
    assert abs(x.mean().item() - MEAN) < 0.02
    assert abs(x.std().item() - DEVIATION) < 0.02
    assert torch.corrcoef(torch.stack([x, deterministic]))[0, 1] < 0.9


@pytest.mark.parametrize("level", [NoiseLevel(3.0, 0.6, 0.8), NoiseLevel(3.0, 0.28, 0.96)])
def test_adapters_of_every_kind_read_the_same_data_and_noise(level):
    data, noise = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    x = level.alpha * data + level.sigma * noise
    outputs = {
        EpsilonAdapter: noise,
        DataAdapter: data,
        VelocityAdapter: level.alpha * noise - level.sigma * data,
        FlowAdapter: data - noise,
    }
    for kind, output in outputs.items():
        prediction = kind(lambda x, time, conditions, output=output: output)(x, level, None)
        assert torch.allclose(prediction.data, data, atol=1e-5), kind
        assert torch.allclose(prediction.noise, noise, atol=1e-5), kind


def test_networks_hear_their_own_count_of_time_and_the_untouched_conditions():
    heard = []

    def network(x, time, conditions):
        heard.append((time.tolist(), conditions))
        return torch.zeros_like(x)

    sample(VelocityAdapter(network), torch.zeros(2, 3), make_diffusion_levels(make_betas("linear"), 2), "words")
    sample(FlowAdapter(network), torch.zeros(2, 3), make_flow_levels(2), "words")
    assert heard == [([t, t], "words") for t in (999.0, 499.0, 0.0, 0.5)]


def test_a_network_in_half_precision_leaves_the_sample_in_float32():
    for kind in (FlowAdapter, EpsilonAdapter, DataAdapter):
        model = kind(lambda x, time, conditions: x.bfloat16())
        prediction = model(torch.ones(1, 2), NoiseLevel(0.5, 0.6, 0.8), None)
        assert prediction.data.dtype == prediction.noise.dtype == torch.float32


def identity(x, time, conditions):
    return x


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_ddim(1.5), "eta 1.5"),
        (lambda: make_ddim(0.5), "fresh noise"),
        (
            lambda: sample(FlowAdapter(identity), torch.zeros(1, 2), make_flow_levels(2), solver="rk4"),
            "'rk4' is unknown",
        ),
        (lambda: sample(FlowAdapter(identity), torch.zeros(1, 2), make_flow_levels(2), eta=0.5), "no meaning"),
        (lambda: sample(VelocityAdapter(identity), torch.zeros(1, 2), make_flow_levels(2)), "off the circle"),
        (lambda: sample(EpsilonAdapter(identity), torch.zeros(1, 2), make_cosine_levels(2)), "zero SNR"),
        (lambda: sample(DataAdapter(identity), torch.zeros(1, 2), make_flow_levels(2), solver="heun"), "last level"),
        (lambda: sample(FlowAdapter(lambda x, t, c: x[:, :1]), torch.zeros(1, 2), make_flow_levels(2)), "shaped like"),
    ],
)
def test_nonsense_is_refused_in_words(make, words):
    with pytest.raises(UsageError, match=words) as refusal:
        make()
    assert refusal.value.hint
