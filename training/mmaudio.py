"""Training of MMAudio's flow network: one step of flow matching with conditions dropped at random, and a loop around
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from mouthpiece.engine.sampling import draw_training_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from mouthpiece.voice.mmaudio.network import FlowNetwork

DROP_VIDEO = DROP_TEXT = 0.1  # shares of items that learn the null side, independently


class FlowStep(NamedTuple):
    """What one step computed.

    x1: (B, N, C) standardised latents.  xt: (B, N, C) mixed with noise.  v: (B, N, C) the network's flow.
    loss: (B,) mean square of v - (x1 - x0).
    """

    x1: torch.Tensor
    xt: torch.Tensor
    v: torch.Tensor
    loss: torch.Tensor


def compute_flow_step(
    network: FlowNetwork,
    latents: torch.Tensor,
    features: tuple[torch.Tensor, ...],
    noise: torch.Tensor,
    time: torch.Tensor,
    dropped: tuple[torch.Tensor, torch.Tensor],
) -> FlowStep:
    """Return the Step of a batch.

    network: FlowNetwork.
    latents: (B, N, C) of the VAE, raw.  features: (clip, sync, text), as FlowNetwork.conditions takes them.
    noise: (B, N, C) normal.  time: (B,) in [0, 1].
    dropped: two (B,) bool: whose pictures (both kinds together) and whose text are replaced by the empty rows.
    Source: MMAudio, 2412.15322 section 3.1; flow matching, 2210.02747.
    """
    clip, sync, text = features
    no_clip, no_sync, no_text = network.empty(len(latents), clip.shape[1], sync.shape[1])
    without_video, without_text = (rows.to(latents.device)[:, None, None] for rows in dropped)
    clip, sync = torch.where(without_video, no_clip, clip), torch.where(without_video, no_sync, sync)
    text = torch.where(without_text, no_text, text)
    x1 = network.standardize(latents)
    t = time[:, None, None]
    xt = (1 - t) * noise + t * x1
    v = network(xt, time, network.compute_conditions(clip, sync, text, latents.shape[1]))
    return FlowStep(x1, xt, v, (v - (x1 - noise)).square().mean((1, 2)))


def sample_step_inputs(
    batch: int, shape: tuple[int, ...], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Return what a step draws: (noise, times, (without video, without text)), on the CPU from one generator.

    batch: items.  shape: of one item's latents.
    Source: MMAudio: times are sigmoid of a normal number, each side dropped for a tenth of the items.
    """
    noise = torch.randn(batch, *shape, generator=generator)
    time = draw_training_times((batch,), generator)
    chance = torch.rand(2, batch, generator=generator)
    return noise, time, (chance[0] < DROP_VIDEO, chance[1] < DROP_TEXT)


def fit(
    network: FlowNetwork,
    batches: Iterator[tuple],
    steps: int,
    *,
    peak: float = 1e-4,
    seed: int = 0,
    on_step: Callable[..., Any] | None = None,
) -> list[float]:
    """Train a network in place; gives the losses, one a step.

    network: FlowNetwork, where the batches are; its normalisation is set by the caller.
    batches: endless iterator of (latents, (clip, sync, text)).
    steps: how many.  peak: learning rate after the warm-up.  seed: of noise, times and drops.
    on_step: called with (step, loss).
    Source: MMAudio, 2412.15322 appendix: AdamW, betas 0.9 and 0.95, decay 1e-6; gradients held to a norm of 1.
    """
    network.train()
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, peak, betas=(0.9, 0.95), weight_decay=1e-6)
    generator, losses, warmup = torch.Generator().manual_seed(seed), [], max(1, min(1000, steps // 10))
    for step in range(steps):
        latents, features = next(batches)
        noise, time, dropped = sample_step_inputs(len(latents), latents.shape[1:], generator)
        made = compute_flow_step(network, latents, features, noise.to(latents), time.to(latents), dropped)
        loss = made.loss.mean()
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / warmup) * (1.0 if step < 0.8 * steps else 0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if on_step is not None:
            on_step(step, losses[-1])
    network.eval()
    return losses


def initialize_weights(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Return a network with the weights that training starts from: gates closed, so every block is the identity; gives
    it.

    network: FlowNetwork.
    seed: of the linear and convolution weights.
    Source: MMAudio; adaLN-zero, 2212.09748 section 3.2.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad or "norm" in name:
                continue
            if "adaLN_modulation" in name or name.startswith("final_layer") or parameter.dim() < 2:
                parameter.zero_()
            else:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)
    return network
