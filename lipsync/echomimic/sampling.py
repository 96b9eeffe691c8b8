"""Latents of a clip: the published schedule, causal windows in constant memory, and the published closed loop."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from mouthpiece.engine.sampling import (
    SOLVERS,
    Guidance,
    KnownValues,
    NoiseLevel,
    VelocityAdapter,
    draw_tick_noise,
    make_diffusion_levels,
    plan_windows,
    sample,
    stream_windows,
)
from mouthpiece.lipsync.echomimic.config import LATENT_CHANNELS, OVERLAP_FRAMES, WINDOW_FRAMES
from mouthpiece.lipsync.echomimic.networks import Denoiser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from mouthpiece.engine.sampling.solvers import SolverHistory
    from mouthpiece.engine.sampling.windows import Window
    from mouthpiece.lipsync.echomimic.options import EchoMimicOptions

TRAINING_STEPS = 1000
FIRST_BETA = 0.00085
LAST_BETA = 0.012
NOISE_LIMIT = 1.5  # the published pipelines clamp their noise to this
PER_FRAME_CONDITIONS = ("audio", "speed")  # conditions that differ from frame to frame
SHIFT_FRAMES = 2  # how far the closed loop's windows move each step


@cache
def compute_betas() -> Tensor:
    """Compute the betas (1000,) of training, float64: linear, ending in pure noise, rounded like the published float32
    table.

    Source: EchoMimic v1; 2305.08891 algorithm 1, as diffusers computes it; `engine.sampling.make_betas` without
    rounding.
    """
    roots = torch.cumprod(1 - torch.linspace(FIRST_BETA, LAST_BETA, TRAINING_STEPS), 0).sqrt()
    roots = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    squares = roots**2
    rounded = 1 - torch.cat([squares[:1], squares[1:] / squares[:-1]])
    bars = torch.cumprod(1 - rounded, 0).double()
    return 1 - torch.cat([bars[:1], bars[1:] / bars[:-1]])


def make_levels(steps: int) -> list[NoiseLevel]:
    """Make the noise levels that a sampler of some steps visits, trailing. Raises UsageError. Source: EchoMimic v1."""
    return make_diffusion_levels(compute_betas(), steps)


def find_published_level(time: float, steps: int) -> NoiseLevel:
    """Find the level where a published step ends: 1000 // steps below its start, which need not be where the next
    begins.

    time: training step where it begins.  steps: of the schedule.
    Source: diffusers' DDIMScheduler, which EchoMimic was tuned with; at 6 or 30 steps the two differ by one in 1000.
    """
    at = int(time) - TRAINING_STEPS // steps
    if at < 0:
        return NoiseLevel(None, 1.0, 0.0)
    bar = float(torch.cumprod(1 - compute_betas(), 0)[at])
    return NoiseLevel(float(at), bar**0.5, (1 - bar) ** 0.5)


def make_published_ddim(steps: int) -> Callable:
    """Make a DDIM solver whose steps end at `find_published_level`. steps: of the schedule. Source: EchoMimic v1."""

    def step(
        denoise: Callable, x: torch.Tensor, here: NoiseLevel, there: NoiseLevel, past: SolverHistory | None
    ) -> tuple[torch.Tensor, SolverHistory]:
        return SOLVERS["ddim"](denoise, x, here, find_published_level(here.time or 0.0, steps), past)

    return step


# predicts v (B, 4, f, h, w) of latents, times and conditions
LatentNetwork: TypeAlias = "Callable[[Tensor, Tensor, dict], Tensor]"


class PortraitDenoiser:
    """Bind a denoiser to a portrait, as a network for the sampler.

    portrait: of `ReferenceNet`, or of `cache_keys_and_values`.
    """

    def __init__(self, denoiser: Denoiser, portrait: dict) -> None:
        self.denoiser, self.portrait = denoiser, portrait

    def __call__(self, x: Tensor, time: Tensor, condition: dict) -> Tensor:
        """Predict v (B, 4, f, h, w) of x."""
        return self.denoiser(x, time, condition, self.portrait)


class CleanPrefixDenoiser:
    """Show a network its known first frames clean, as at time 0, whatever the level of the rest.

    values: (1, 4, k, h, w), the known frames.
    For weights trained so (`train echomimic`), as EMO's motion frames.
    """

    def __init__(self, network: LatentNetwork, values: Tensor) -> None:
        self.network, self.values = network, values

    def __call__(self, x: Tensor, time: Tensor, condition: dict) -> Tensor:
        """Predict v (B, 4, f, h, w) of x."""
        kept = self.values.shape[2]
        x = torch.cat([self.values.to(x).expand(len(x), -1, -1, -1, -1), x[:, :, kept:]], 2)
        times = time[:, None].repeat(1, x.shape[2])
        times[:, :kept] = 0
        return self.network(x, times, condition)


def make_circular_windows(frames: int, window: int = WINDOW_FRAMES, overlap: int = OVERLAP_FRAMES) -> list[list[int]]:
    """List the frames of each window of the closed loop; the last one continues with the first frames.

    frames: of the clip.  window, overlap: frames, overlap below window.
    Source: EchoMimic v1's context scheduler, stride 1.
    """
    if frames <= window:
        return [list(range(frames))]
    return [[(start + k) % frames for k in range(window)] for start in range(0, frames, window - overlap)]


class ClosedLoopDenoiser:
    """Denoise a whole clip at once: windows around a circle, moved on each step, averaged by visits.

    steps: of the schedule; the windows move by SHIFT_FRAMES each.
    window, overlap: frames.
    on_window: called with (step, window, v) for each window.
    Memory grows with the clip.  Source: EchoMimic v1.
    """

    def __init__(
        self,
        network: LatentNetwork,
        steps: int,
        window: int = WINDOW_FRAMES,
        overlap: int = OVERLAP_FRAMES,
        on_window: Callable[[int, int, Tensor], None] | None = None,
    ) -> None:
        self.network, self.window, self.overlap, self.on_window = network, window, overlap, on_window
        self.step_indices = {level.time: i for i, level in enumerate(make_levels(steps)[:-1])}

    def __call__(self, x: Tensor, time: Tensor, condition: dict) -> Tensor:
        """Predict v (B, 4, F, h, w) of x, all frames of the clip."""
        step, frames = self.step_indices[float(time[0])], x.shape[2]
        total, visits = torch.zeros_like(x), torch.zeros(frames, device=x.device)
        for number, window in enumerate(make_circular_windows(frames, self.window, self.overlap)):
            at = (torch.tensor(window, device=x.device) + SHIFT_FRAMES * step) % frames
            v = self.network(
                x[:, :, at],
                time,
                condition | {key: condition[key][:, at] for key in PER_FRAME_CONDITIONS if key in condition},
            ).to(x.dtype)
            if self.on_window is not None:
                self.on_window(step, number, v)
            total[:, :, at] += v
            visits[at] += 1
        return total / visits[:, None, None]


def make_condition(condition: dict) -> dict:
    """Make the conditions of a clip that is given everything: audio (1, F, N, W) and face (1, C0, h, w)."""
    return condition | {"known": torch.ones(1, dtype=torch.bool)}


def make_null_condition(condition: dict) -> dict:
    """Make the null side of guidance: silence as zeros, no region, no portrait. Source: EchoMimic v1."""
    blank = {name: torch.zeros_like(condition[name]) for name in ("audio", "face")}
    return condition | blank | {"known": torch.zeros(1, dtype=torch.bool)}


def denoise_latents(
    network: LatentNetwork, noise: Tensor, condition: dict, steps: int, guidance: float, **more: Any
) -> Tensor:
    """Denoise latents (1, 4, f, h, w); the null side runs only where guidance is not 1.

    noise: (1, 4, f, h, w), clamped already.
    condition: audio (1, f, N, W) and face (1, C0, h, w).
    more: given and on_step, for `sample`.
    Source: EchoMimic v1: 30 steps at guidance 2.5, or 6 at 1.
    """
    return sample(
        VelocityAdapter(network),
        noise,
        make_levels(steps),
        [make_condition(condition)],
        null=make_null_condition(condition),
        guidance=Guidance((guidance,)),
        solver=make_published_ddim(steps),
        **more,
    )


def draw_published_noise(frames: int, size: Sequence[int], seed: int) -> Tensor:
    """Draw noise (1, 4, F, h, w) as the published pipelines do, unclamped: a frame's noise depends on the
    clip's length.
    """
    return torch.randn((1, LATENT_CHANNELS, frames, *size), generator=torch.Generator().manual_seed(seed))


def denoise_whole_clip(
    network: PortraitDenoiser,
    make_conditions: Callable[[int, int], dict[str, Tensor]],
    face: Tensor,
    frames: int,
    options: EchoMimicOptions,
    on_step: Callable[..., None] | None = None,
) -> Tensor:
    """Denoise the latents (1, 4, F, h, w) of all frames by the published closed loop.

    Parameters as for `stream_latents`.
    Source: EchoMimic v1.
    """
    noise = draw_published_noise(frames, face.shape[-2:], options.seed).clamp(-NOISE_LIMIT, NOISE_LIMIT).to(face.device)
    loop = ClosedLoopDenoiser(network, options.steps, options.window, options.overlap)
    condition = make_conditions(0, frames) | {"face": face}
    return denoise_latents(loop, noise, condition, options.steps, options.guidance, on_step=on_step)


def stream_latents(
    network: PortraitDenoiser,
    make_conditions: Callable[[int, int], dict[str, Tensor]],
    face: Tensor,
    frames: int,
    options: EchoMimicOptions,
) -> Iterator[torch.Tensor]:
    """Yield latents (1, k, 4, h, w) of the next frames as soon as they are final; memory does not grow with the clip.

    make_conditions: (start, stop) -> conditions of these frames: audio (1, stop - start, N, W), perhaps speed
        (1, stop - start).
    face: (1, C0, h, w).  frames: of the clip.
    options: seed, steps, guidance, window, overlap and carry.
    Each window begins with the last frames of the one before: noised to every level on the way, or shown clean.
    Source: carried frames as EMO's motion frames, 2402.17485 section 3.2; noised as in RePaint, 2201.09865.
    """

    def make(window: Window, carried: torch.Tensor | None) -> torch.Tensor:
        start, stop = window
        condition = make_conditions(start, stop) | {"face": face}
        shape = (LATENT_CHANNELS, *face.shape[-2:])
        noise = draw_tick_noise(start, stop, shape, options.seed, ["echomimic"]).transpose(1, 2)
        noise = noise.clamp(-NOISE_LIMIT, NOISE_LIMIT).to(face.device)
        denoiser: LatentNetwork = network
        given = None
        if carried is not None:
            values, mask = torch.zeros_like(noise), torch.zeros(1, 1, stop - start, 1, 1, dtype=torch.bool)
            known = carried.shape[1]
            values[:, :, :known], mask[:, :, :known] = carried.transpose(1, 2), True
            given = KnownValues(values, mask)
            denoiser = CleanPrefixDenoiser(network, values[:, :, :known]) if options.carry == "clean" else network
        return denoise_latents(denoiser, noise, condition, options.steps, options.guidance, given=given).transpose(1, 2)

    yield from stream_windows(plan_windows(frames, options.window, options.overlap), make, "carry")
