"""Whole loops beside the schedulers of diffusers, number by number."""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from mouthpiece.engine.sampling import (
    DataAdapter,
    EpsilonAdapter,
    VelocityAdapter,
    make_betas,
    make_diffusion_levels,
    make_karras_levels,
    sample,
)
from mouthpiece.engine.sampling.guidance import rescale_guided
from mouthpiece.engine.sampling.schedules import make_timesteps

STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PLAIN = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
ADAPTERS = {"epsilon": EpsilonAdapter, "v_prediction": VelocityAdapter, "sample": DataAdapter}


def network(x, time, conditions=None):
    """A toy that reads both x and time, bounded like a trained one."""
    return torch.tanh(0.8 * x.roll(1, -1) - 0.3 * x + (time / 500 - 1).view(-1, 1, 1))


def variances(config, ends="as_is"):
    return make_betas(config["beta_schedule"], first=config["beta_start"], last=config["beta_end"], ends=ends)


def noise():
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def walk(scheduler, x, extra):
    """The loop of diffusers."""
    for time in scheduler.timesteps:
        output = network(x, time.float().expand(x.shape[0]))
        x = scheduler.step(output, time, x, **extra()).prev_sample
    return x


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("config", [STABLE, PLAIN])
@pytest.mark.parametrize(("spacing", "steps"), [("trailing", 20), ("leading", 30), ("trailing", 8)])
def test_ddim_follows_diffusers_through_the_whole_loop(kind, config, spacing, steps):
    scheduler = DDIMScheduler(**config, prediction_type=kind, timestep_spacing=spacing, clip_sample=False)
    scheduler.set_timesteps(steps)
    levels = make_diffusion_levels(variances(config), steps, spacing)
    ours = sample(ADAPTERS[kind](network), noise(), levels, solver="ddim")
    assert torch.allclose(ours, walk(scheduler, noise(), dict), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@pytest.mark.parametrize("steps", [4, 10, 50])
def test_ddim_with_zero_snr_and_trailing_follows_diffusers(kind, steps):
    scheduler = DDIMScheduler(
        **STABLE, prediction_type=kind, timestep_spacing="trailing", clip_sample=False, rescale_betas_zero_snr=True
    )
    scheduler.set_timesteps(steps)
    levels = make_diffusion_levels(variances(STABLE, "zero_snr"), steps, "trailing")
    ours = sample(ADAPTERS[kind](network), noise(), levels, solver="ddim")
    assert torch.allclose(ours, walk(scheduler, noise(), dict), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_stochastic_ddim_follows_diffusers_given_the_same_noise(eta):
    scheduler = DDIMScheduler(
        **STABLE,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        rescale_betas_zero_snr=True,
    )
    scheduler.set_timesteps(10)
    fresh = torch.randn(10, 2, 3, 4, generator=torch.Generator().manual_seed(1))
    theirs = iter(fresh)
    expected = walk(scheduler, noise(), lambda: {"eta": eta, "variance_noise": next(theirs)})
    levels = make_diffusion_levels(variances(STABLE, "zero_snr"), 10)
    ours = sample(VelocityAdapter(network), noise(), levels, solver="ddim", eta=eta, fresh_noise=iter(fresh))
    assert torch.allclose(ours, expected, atol=2e-4, rtol=2e-4)


def test_ddim_with_offset_and_without_a_final_alpha_of_one_follows_diffusers():
    scheduler = DDIMScheduler(
        **STABLE, timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False, clip_sample=False
    )
    scheduler.set_timesteps(25)
    levels = make_diffusion_levels(variances(STABLE), 25, "leading", offset=1, final="first")
    ours = sample(EpsilonAdapter(network), noise(), levels, solver="ddim")
    assert torch.allclose(ours, walk(scheduler, noise(), dict), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("steps", [6, 20])
def test_second_order_multistep_follows_diffusers_through_the_whole_loop(kind, steps):
    scheduler = DPMSolverMultistepScheduler(**STABLE, prediction_type=kind, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    levels = make_diffusion_levels(variances(STABLE), steps, "trailing")
    ours = sample(ADAPTERS[kind](network), noise(), levels, solver="dpm2m")
    assert torch.allclose(ours, walk(scheduler, noise(), dict), atol=5e-4, rtol=5e-4)


def test_karras_levels_and_multistep_follow_diffusers():
    # The cosine schedule is the one for which diffusers does not round the interpolated times.
    scheduler = DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", use_karras_sigmas=True)
    scheduler.set_timesteps(12)
    levels = make_karras_levels(make_betas("cosine"), 12)
    theirs = scheduler.sigmas[:-1].double()
    assert torch.allclose(torch.tensor([lv.sigma / lv.alpha for lv in levels[:-1]]).double(), theirs, rtol=2e-3)
    assert all(abs(lv.time - t) < 1.01 for lv, t in zip(levels, scheduler.timesteps.tolist(), strict=False))


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_visited_timesteps_equal_those_of_diffusers_for_every_number_of_steps(spacing):
    scheduler = DDIMScheduler(timestep_spacing=spacing)
    for steps in range(1, 200):
        scheduler.set_timesteps(steps)
        assert make_timesteps(1000, steps, spacing) == scheduler.timesteps.tolist()[:steps], steps


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize("ends", ["as_is", "zero_snr"])
def test_betas_equal_those_of_diffusers(kind, ends):
    named = "squaredcos_cap_v2" if kind == "cosine" else kind
    scheduler = DDIMScheduler(
        beta_schedule=named, beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=ends == "zero_snr"
    )
    assert torch.allclose(
        torch.cumprod(1 - make_betas(kind, ends=ends), 0).float(), scheduler.alphas_cumprod, atol=2e-5
    )


def test_guidance_rescale_equals_that_of_diffusers():
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    guided, plain = 3 * noise() + 1, noise().roll(1)
    assert torch.allclose(rescale_guided(guided, plain, 0.7), rescale_noise_cfg(guided, plain, 0.7), atol=1e-6)
