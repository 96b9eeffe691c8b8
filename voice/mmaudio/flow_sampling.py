"""Noise to standardised latents by MMAudio's flow, through the sampler that all networks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.engine.sampling import FlowAdapter, Guidance, make_flow_levels, sample
from mouthpiece.engine.sampling.guidance import make_guided_denoiser
from mouthpiece.engine.sampling.schedules import NoiseLevel

if TYPE_CHECKING:
    import torch

    from mouthpiece.engine.sampling import KnownValues
    from mouthpiece.voice.mmaudio.network import FlowNetwork

DEFAULT_STEPS, DEFAULT_GUIDANCE = 25, 4.5  # what the publisher uses


def expand_batch(tree: dict[str, torch.Tensor], batch: int) -> dict[str, torch.Tensor]:
    """Conditions of one item given to `batch` items without copying."""
    return {name: tensor.expand(batch, *tensor.shape[1:]) for name, tensor in tree.items()}


def make_guidance(strength: float) -> Guidance | None:
    """The Guidance of a strength s: s conditional + (1 - s) null; below 1 the conditional side alone, unguided (None).

    Source: MMAudio; 2207.12598 equation 6.
    """
    return Guidance((float(strength),)) if strength >= 1 else None


def compute_guided_flow(network, x, time, conditions, null, strength):
    """The guided flow at one time, (B, N, C); for comparisons."""
    guidance, level = make_guidance(strength), NoiseLevel(time, time, 1 - time)
    model = FlowAdapter(network)
    if guidance is None:
        return model.predict_raw(x, level, conditions)
    prediction = make_guided_denoiser(model, [conditions], null, guidance)(x, level)
    return prediction.data - prediction.noise


def sample_latents(
    network: FlowNetwork,
    noise: torch.Tensor,
    conditions: dict[str, torch.Tensor],
    null: dict[str, torch.Tensor],
    *,
    strength: float = DEFAULT_GUIDANCE,
    levels: list[NoiseLevel] | None = None,
    given: KnownValues | None = None,
    on_step=None,
    solver: str = "euler",
) -> torch.Tensor:
    """Standardised latents like the noise.

    network: FlowNetwork, or what answers like it.
    noise: (B, N, latent_dim); B takes share the conditions.
    conditions, null: trees from FlowNetwork.conditions, for one item or for B.
    strength: of the guidance.  levels: from flow_levels; None is STEPS even ones.
    given: sampling.Given, latents to keep.  on_step: called with (done, all).  solver: as for sampling.sample.
    Source: MMAudio, 2412.15322 section 3.1.
    """
    return sample(
        FlowAdapter(network), noise, levels or make_flow_levels(DEFAULT_STEPS), expand_batch(conditions, len(noise)),
        null=expand_batch(null, len(noise)), guidance=make_guidance(strength), solver=solver, given=given, on_step=on_step,
    )  # fmt: skip
