"""Make schedules: the noise levels that a sampler visits, from noise to data."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mouthpiece.engine.errors import UsageError

SPACINGS = ("leading", "linspace", "trailing")
BETA_KINDS = ("linear", "scaled_linear", "cosine")


class NoiseLevel(NamedTuple):
    """One level of a schedule: x = alpha data + sigma noise.

    time: the network's own time input at this level; None at a level where no network may be called.
    alpha: share of the data, 0 or more.
    sigma: share of the noise, 0 or more.
    Source: score SDEs, 2011.13456; k-diffusion's contract of one denoiser.
    """

    time: float | None
    alpha: float
    sigma: float

    @property
    def flow_time(self) -> float:
        """Return the flow time of the level, 0 noise to 1 data, on whatever path it lies."""
        return self.alpha / (self.alpha + self.sigma)

    @property
    def log_snr_half(self) -> float:
        """Return half the log SNR, log(alpha / sigma), infinite at either end. Source: DPM-Solver, 2206.00927."""
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf


def make_flow_levels(steps: int, shift: float = 1.0) -> list[NoiseLevel]:
    """Make the steps + 1 levels of the straight path x = t data + (1 - t) noise of flow matching.

    steps: network steps, 1 or more.
    shift: 1 spaces them evenly; above 1 moves them towards noise by log(shift) in the logit, below 1 towards data.
    Raises UsageError for numbers out of range.
    Source: Rectified flow, 2209.03003; shift from SD3, 2403.03206 section 5.3.2.
    """
    check_steps(steps)
    if not 0 < shift < math.inf:
        raise UsageError(f"flow shift {shift:g} is not above 0.", hint="1 is even spacing; 3 suits long sequences.")
    even = [step / steps for step in range(steps + 1)]
    times = [t / (t + shift * (1 - t)) for t in even]
    return [NoiseLevel(t, t, 1 - t) for t in times]


def make_cosine_levels(steps: int) -> list[NoiseLevel]:
    """Make the steps + 1 levels of the path x = sin(t pi/2) data + cos(t pi/2) noise, evenly spaced in t.

    steps: network steps, 1 or more.
    Raises UsageError for fewer.
    Source: 2202.00512 section 4 (cosine schedule as angles).
    """
    check_steps(steps)
    angles = [math.pi / 2 * step / steps for step in range(steps)]
    return [NoiseLevel(step / steps, math.sin(a), math.cos(a)) for step, a in enumerate(angles)] + [
        NoiseLevel(None, 1.0, 0.0)
    ]


def draw_training_times(
    shape: tuple[int, ...], generator: torch.Generator, mean: float = 0.0, spread: float = 1.0
) -> Tensor:
    """Draw training times in (0, 1), logit-normal: most where the prediction is hardest.

    shape: of the tensor, float32 on the CPU.
    generator: of the CPU, so the draw repeats.
    mean: of the logit; above 0 leans to data, below 0 to noise.
    spread: deviation of the logit, above 0.
    Raises UsageError for a spread of 0 or less.
    Source: SD3, 2403.03206 section 3.1.
    """
    if not spread > 0:
        raise UsageError(f"logit spread {spread:g} is not above 0.", hint="1 is the usual choice.")
    return torch.sigmoid(mean + spread * torch.randn(shape, generator=generator))


def make_betas(
    kind: str, count: int = 1000, first: float = 0.00085, last: float = 0.012, ends: str = "as_is"
) -> Tensor:
    """Make the betas of a diffusion network, the variances of its training steps, (count,) float64.

    kind: linear, scaled_linear (linear in the root) or cosine (which reads neither first nor last).
    count: training steps, 2 or more.
    first, last: variance of the first and last step, 0 < first <= last < 1.
    ends: as_is, or zero_snr: rescaled so that the last step is pure noise.
    Raises UsageError for a kind, end or number that makes no sense.
    Source: DDPM 2006.11239 section 4; LDM 2112.10752; cosine 2102.09672 eq. 17; zero SNR 2305.08891 algorithm 1.
    """
    if kind not in BETA_KINDS:
        raise UsageError(f"beta kind '{kind}' is unknown.", hint=f"Choose one of {', '.join(BETA_KINDS)}.")
    if ends not in ("as_is", "zero_snr"):
        raise UsageError(f"beta ends '{ends}' are unknown.", hint="Choose as_is or zero_snr.")
    if count < 2 or not 0 < first <= last < 1:
        raise UsageError(
            f"{count} betas from {first:g} to {last:g} make no schedule.",
            hint="Give 2 or more steps and 0 < first <= last < 1.",
        )
    if kind == "linear":
        variances = torch.linspace(first, last, count, dtype=torch.float64)
    elif kind == "scaled_linear":
        variances = torch.linspace(first**0.5, last**0.5, count, dtype=torch.float64) ** 2
    else:
        u = torch.arange(count + 1, dtype=torch.float64) / count
        bars = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
        variances = (1 - bars[1:] / bars[:-1]).clamp(max=0.999)
    return variances if ends == "as_is" else rescale_to_zero_snr(variances)


def rescale_to_zero_snr(variances: Tensor) -> Tensor:
    """Rescale betas to zero terminal SNR: the last step holds no data, (count,) float64. Source: 2305.08891 alg. 1."""
    roots = torch.cumprod(1 - variances, 0).sqrt()
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    bars = roots**2
    return 1 - torch.cat([bars[:1], bars[1:] / bars[:-1]])


def make_timesteps(count: int, steps: int, spacing: str = "trailing", offset: int = 0) -> list[int]:
    """Choose the training steps that a sampler visits, falling.

    count: training steps.
    steps: network steps, 1 to count.
    spacing: leading (includes 0), linspace (both ends) or trailing (includes count - 1).
    offset: added to the leading ones; Stable Diffusion's 1.
    Raises UsageError for a spacing or number that makes no sense.
    Source: 2305.08891 table 2.
    """
    if spacing not in SPACINGS:
        raise UsageError(f"spacing '{spacing}' is unknown.", hint=f"Choose one of {', '.join(SPACINGS)}.")
    check_steps(steps)
    if steps > count:
        raise UsageError(
            f"{steps} steps were asked of a network trained on {count}.", hint=f"Use {count} steps or fewer."
        )
    if offset and spacing != "leading":
        raise UsageError(f"offset {offset} has no meaning with {spacing} spacing.", hint="Use it with leading.")
    visited: np.ndarray
    if spacing == "leading":
        visited = np.arange(steps)[::-1] * (count // steps) + offset
    elif spacing == "linspace":
        visited = np.linspace(0, count - 1, steps).round()[::-1]
    else:
        visited = np.round(np.arange(count, 0, -count / steps)[:steps]) - 1
    if visited[0] > count - 1 or visited[-1] < 0:
        raise UsageError(f"offset {offset} leaves the {count} training steps.", hint="Stable Diffusion's offset is 1.")
    return [int(t) for t in visited]


def make_diffusion_levels(
    variances: Tensor, steps: int, spacing: str = "trailing", offset: int = 0, final: str = "data"
) -> list[NoiseLevel]:
    """Make the steps + 1 levels of a network trained on discrete steps; each step leads to the next one visited.

    variances: betas, (count,).
    steps, spacing, offset: as `make_timesteps` takes them.
    final: data ends at sigma 0; first ends at the level of training step 0.
    Raises UsageError for what makes no sense.
    Source: DDIM 2010.02502 eq. 12; spacing 2305.08891 table 2.
    """
    if final not in ("data", "first"):
        raise UsageError(f"final level '{final}' is unknown.", hint="Choose data or first.")
    bars = torch.cumprod(1 - variances.double(), 0).tolist()
    visited = make_timesteps(len(bars), steps, spacing, offset)
    if final == "first" and visited[-1] == 0:
        raise UsageError(
            "the last step starts and ends at training step 0.",
            hint="Choose final data, or leading spacing with offset 1.",
        )
    end = NoiseLevel(None, 1.0, 0.0) if final == "data" else NoiseLevel(None, bars[0] ** 0.5, (1 - bars[0]) ** 0.5)
    return [NoiseLevel(float(t), bars[t] ** 0.5, (1 - bars[t]) ** 0.5) for t in visited] + [end]


def make_karras_levels(variances: Tensor, steps: int, rho: float = 7.0) -> list[NoiseLevel]:
    """Make Karras levels, even in sigma^(1/rho), on the path and in the count of a network trained on discrete steps.

    variances: betas, (count,), without a zero-SNR end.
    steps: network steps, 1 or more.
    rho: 1 is even in sigma; 7 crowds the levels near the data.
    Raises UsageError for numbers out of range.
    Source: EDM, 2206.00364 equation 5; time by interpolation in log sigma.
    """
    check_steps(steps)
    if not 0 < rho < math.inf:
        raise UsageError(f"Karras rho {rho:g} is not above 0.", hint="7 is the paper's choice.")
    bars = torch.cumprod(1 - variances.double(), 0).numpy()
    if bars[-1] <= 0:
        raise UsageError("Karras levels need a finite largest sigma.", hint="Use betas whose ends are as_is.")
    table = np.sqrt((1 - bars) / bars)
    most, least = table[-1] ** (1 / rho), table[0] ** (1 / rho)
    sigmas = (most + np.linspace(0, 1, steps) * (least - most)) ** rho
    times = np.interp(np.log(sigmas), np.log(table), np.arange(len(table)))
    alphas = 1 / np.sqrt(1 + sigmas**2)
    levels = [NoiseLevel(float(t), float(a), float(a * s)) for t, a, s in zip(times, alphas, sigmas, strict=True)]
    return [*levels, NoiseLevel(None, 1.0, 0.0)]


def check_steps(steps: int) -> None:
    """Check that a number of steps is a whole number above 0; raise UsageError otherwise."""
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise UsageError(f"steps {steps} is not a whole number of 1 or more.", hint="8 to 50 are usual.")


def check_levels(levels: list[NoiseLevel]) -> None:
    """Check that levels rise from noise to data, one after the other; raise UsageError otherwise."""
    if len(levels) < 2:
        raise UsageError(f"{len(levels)} level makes no step.", hint="Make levels with make_flow_levels(steps).")
    flow_times = [level.flow_time for level in levels]
    if not all(early < late for early, late in pairwise(flow_times)):
        raise UsageError("levels do not rise from noise to data.", hint="Time runs from 0, noise, to 1, data.")
    if any(level.time is None for level in levels[:-1]):
        raise UsageError("a level before the last has no time for the network.", hint="Give every level its time.")
