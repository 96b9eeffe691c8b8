"""Sampling of standardised latents from MMAudio's flow, by the sampler that all networks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.engine.sampling import FlowAdapter, Guidance, make_flow_levels, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from mouthpiece.engine.sampling import KnownValues
    from mouthpiece.engine.sampling.schedules import NoiseLevel
    from mouthpiece.voice.mmaudio.network import FlowNetwork

DEFAULT_STEPS = 25  # as published
DEFAULT_GUIDANCE = 4.5  # as published


def expand_batch(tree: dict[str, torch.Tensor], batch: int) -> dict[str, torch.Tensor]:
    """Expand the conditions of one item to `batch` items without copying."""
    return {name: tensor.expand(batch, *tensor.shape[1:]) for name, tensor in tree.items()}


def make_guidance(strength: float) -> Guidance | None:
    """Make the guidance of a strength s, s conditional + (1 - s) null; None below 1: the conditional flow alone.

    Source: MMAudio; 2207.12598 equation 6.
    """
    return Guidance((float(strength),)) if strength >= 1 else None


def sample_latents(
    network: FlowNetwork,
    noise: torch.Tensor,
    conditions: dict[str, torch.Tensor],
    null: dict[str, torch.Tensor],
    *,
    strength: float = DEFAULT_GUIDANCE,
    levels: list[NoiseLevel] | None = None,
    given: KnownValues | None = None,
    on_step: Callable[[int, int], None] | None = None,
    solver: str = "euler",
) -> torch.Tensor:
    """Sample standardised latents like the noise.

    noise: (B, N, latent_dim); B takes share the conditions.
    conditions, null: from `FlowNetwork.compute_conditions`, for one item or for B.
    strength: of the guidance.  levels: from `make_flow_levels`; None is DEFAULT_STEPS even ones.
    given: latents to keep.  on_step: called with (done, all).  solver: as for `mouthpiece.engine.sampling.sample`.
    Source: MMAudio, 2412.15322 section 3.1.
    """
    return sample(
        FlowAdapter(network),
        noise,
        levels or make_flow_levels(DEFAULT_STEPS),
        expand_batch(conditions, len(noise)),
        null=expand_batch(null, len(noise)),
        guidance=make_guidance(strength),
        solver=solver,
        given=given,
        on_step=on_step,
    )
