import math
from itertools import pairwise

import pytest
import torch

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling import (
    NoiseLevel,
    draw_training_times,
    make_betas,
    make_cosine_levels,
    make_diffusion_levels,
    make_flow_levels,
    make_karras_levels,
)
from mouthpiece.engine.sampling.schedules import check_levels, make_timesteps

EVERY_SCHEDULE = {
    "flow": make_flow_levels(7),
    "flow towards noise": make_flow_levels(7, shift=3.0),
    "flow towards data": make_flow_levels(7, shift=0.4),
    "cosine": make_cosine_levels(7),
    "karras": make_karras_levels(make_betas("scaled_linear"), 7),
    "leading": make_diffusion_levels(make_betas("linear", first=1e-4, last=0.02), 7, "leading"),
    "linspace": make_diffusion_levels(make_betas("cosine"), 7, "linspace"),
    "trailing, zero SNR": make_diffusion_levels(make_betas("scaled_linear", ends="zero_snr"), 7, "trailing"),
    "ending at training step 0": make_diffusion_levels(
        make_betas("scaled_linear"), 7, "leading", offset=1, final="first"
    ),
}


@pytest.mark.parametrize("name", EVERY_SCHEDULE)
def test_levels_rise_monotonically_from_noise_to_data(name):
    levels = EVERY_SCHEDULE[name]
    check_levels(levels)
    assert len(levels) == 8
    assert all(a.alpha < b.alpha and a.sigma > b.sigma for a, b in pairwise(levels))


@pytest.mark.parametrize("name", [name for name in EVERY_SCHEDULE if not name.startswith("flow")])
def test_diffusion_levels_lie_on_the_circle(name):
    assert all(math.isclose(level.alpha**2 + level.sigma**2, 1, abs_tol=1e-9) for level in EVERY_SCHEDULE[name])


def test_flow_levels_are_even_and_meet_both_ends_exactly():
    assert make_flow_levels(4) == [NoiseLevel(t, t, 1 - t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]


def test_flow_shift_adds_its_logarithm_to_the_logit_of_noise():
    for plain, shifted in zip(make_flow_levels(5)[1:-1], make_flow_levels(5, shift=3.0)[1:-1], strict=True):
        assert math.isclose(
            math.log(shifted.sigma / shifted.alpha), math.log(plain.sigma / plain.alpha) + math.log(3.0)
        )
    assert make_flow_levels(5, shift=3.0)[0] == NoiseLevel(0, 0, 1)
    assert make_flow_levels(5, shift=3.0)[-1] == NoiseLevel(1, 1, 0)


def test_zero_snr_ends_in_pure_noise_and_keeps_the_first_step():
    plain, zero = make_betas("scaled_linear"), make_betas("scaled_linear", ends="zero_snr")
    assert torch.cumprod(1 - zero, 0)[-1] == 0
    assert torch.isclose(zero[0], plain[0])
    assert make_diffusion_levels(zero, 10)[0] == NoiseLevel(999, 0, 1)


def test_karras_levels_are_even_in_the_root_of_sigma():
    levels = make_karras_levels(make_betas("scaled_linear"), 6, rho=7.0)[:-1]
    roots = torch.tensor([(level.sigma / level.alpha) ** (1 / 7) for level in levels])
    assert torch.allclose(roots.diff(), roots.diff().mean().expand(5), rtol=1e-4)
    assert (levels[0].time, levels[-1].time) == pytest.approx((999, 0), abs=1e-9)


def test_karras_times_interpolate_the_training_steps_in_log_sigma():
    bars = torch.cumprod(1 - make_betas("scaled_linear"), 0)
    table = torch.log((1 - bars) / bars) / 2
    for level in make_karras_levels(make_betas("scaled_linear"), 6)[1:-2]:
        before, share = int(level.time), level.time % 1
        between = (1 - share) * table[before] + share * table[before + 1]
        assert math.isclose(math.log(level.sigma / level.alpha), between, abs_tol=1e-9)


def test_trailing_begins_at_the_last_training_step_and_leading_ends_at_the_first():
    assert make_timesteps(1000, 5, "trailing") == [999, 799, 599, 399, 199]
    assert make_timesteps(1000, 5, "leading") == [800, 600, 400, 200, 0]
    assert make_timesteps(1000, 5, "leading", offset=1) == [801, 601, 401, 201, 1]
    assert make_timesteps(1000, 5, "linspace") == [999, 749, 500, 250, 0]


def test_training_times_repeat_and_lean_where_told():
    def times(mean):
        return draw_training_times((4000,), torch.Generator().manual_seed(3), mean=mean, spread=0.7)

    assert torch.equal(times(0.0), times(0.0))
    assert ((times(0.0) > 0) & (times(0.0) < 1)).all()
    assert abs(times(0.0).median().item() - 0.5) < 0.02
    assert abs(times(1.0).median().item() - 1 / (1 + math.exp(-1))) < 0.02
    assert abs(torch.logit(times(0.0)).std().item() - 0.7) < 0.03


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_flow_levels(0), "steps 0"),
        (lambda: make_flow_levels(2.5), "steps 2.5"),
        (lambda: make_flow_levels(4, shift=0.0), "shift 0"),
        (lambda: make_flow_levels(4, shift=math.nan), "shift nan"),
        (lambda: make_cosine_levels(-1), "steps -1"),
        (lambda: make_betas("square"), "'square' is unknown"),
        (lambda: make_betas("linear", ends="loose"), "'loose'"),
        (lambda: make_betas("linear", first=0.1, last=0.01), "from 0.1 to 0.01"),
        (lambda: make_betas("linear", count=1), "1 betas"),
        (lambda: make_timesteps(1000, 5, "middle"), "'middle'"),
        (lambda: make_timesteps(10, 11), "11 steps"),
        (lambda: make_timesteps(1000, 5, "trailing", offset=1), "offset 1"),
        (lambda: make_timesteps(1000, 1000, "leading", offset=1), "offset 1 leaves"),
        (lambda: make_diffusion_levels(make_betas("linear"), 5, final="last"), "'last'"),
        (lambda: make_diffusion_levels(make_betas("linear"), 5, "leading", final="first"), "training step 0"),
        (lambda: make_karras_levels(make_betas("linear", ends="zero_snr"), 5), "finite"),
        (lambda: make_karras_levels(make_betas("linear"), 5, rho=0), "rho 0"),
        (lambda: draw_training_times((2,), torch.Generator(), spread=0.0), "spread 0"),
        (lambda: check_levels([NoiseLevel(0, 0, 1)]), "1 level"),
        (lambda: check_levels(make_flow_levels(3)[::-1]), "do not rise"),
        (lambda: check_levels([NoiseLevel(None, 0, 1), NoiseLevel(1, 1, 0)]), "no time"),
    ],
)
def test_nonsense_is_refused_in_words(make, words):
    with pytest.raises(UsageError, match=words) as refusal:
        make()
    assert refusal.value.hint
