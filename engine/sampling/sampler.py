"""Sample: run a network from noise to data under a schedule, a solver and guidance."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling.adapters import Adapter
from mouthpiece.engine.sampling.guidance import Guidance, make_guided_denoiser
from mouthpiece.engine.sampling.schedules import NoiseLevel, check_levels
from mouthpiece.engine.sampling.solvers import SOLVERS, Denoiser, Solver, make_ddim


class KnownValues(NamedTuple):
    """Values that the sample must have: like the noise, read where mask (bool, broadcast to it) is True."""

    values: Tensor
    mask: Tensor


@torch.no_grad()
def sample(
    model: Adapter,
    noise: Tensor,
    levels: list[NoiseLevel],
    conditions: Any = None,
    *,
    null: Any = None,
    guidance: Guidance | None = None,
    solver: str | Solver = "euler",
    eta: float = 0.0,
    fresh_noise: Iterator[Tensor] | None = None,
    given: KnownValues | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Sample data from noise, shaped like the noise.

    model: FlowAdapter, EpsilonAdapter, VelocityAdapter or DataAdapter around a network.
    noise: (B, ...) normal, from `draw_item_noise` or `draw_tick_noise`; its dtype and device are kept throughout.
    levels: from noise to data, of `make_flow_levels`, `make_diffusion_levels`, ...
    conditions: handed to the network; with guidance, a list holds one tree for each scale.
    null: conditions of the guidance's null side.
    guidance: None leaves conditions as learned.
    solver: euler, heun, ab2, dpm2m, ddim, or a function of that kind.
    eta: randomness of ddim, [0, 1], with fresh_noise of `draw_step_noise`.
    given: ticks to keep: noised to each level on the way, exact at the end.
    on_step: called with (steps done, steps in all).
    Raises UsageError for options that do not go together.
    """
    check_levels(levels)
    step = choose_solver(solver, eta, fresh_noise)
    denoise = choose_denoiser(model, conditions, null, guidance)
    denoise, finish = make_inpainting_denoiser(denoise, given, noise)
    x = noise * (levels[0].alpha ** 2 + levels[0].sigma ** 2) ** 0.5
    past = None
    for done, (here, there) in enumerate(pairwise(levels), start=1):
        x, past = step(denoise, x, here, there, past)
        if on_step is not None:
            on_step(done, len(levels) - 1)
    return finish(x, levels[-1])


def choose_solver(solver: str | Solver, eta: float, fresh_noise: Iterator[Tensor] | None) -> Solver:
    """Choose a solver by name; raise UsageError for an unknown one, or an eta that it would ignore."""
    if solver == "ddim":
        return make_ddim(eta, fresh_noise)
    if eta:
        raise UsageError(f"eta {eta:g} has no meaning for solver {solver}.", hint="Use it with solver ddim.")
    if callable(solver):
        return solver
    if solver not in SOLVERS:
        raise UsageError(f"solver '{solver}' is unknown.", hint=f"Choose one of {', '.join(SOLVERS)}.")
    return SOLVERS[solver]


def choose_denoiser(model: Adapter, conditions: Any, null: Any, guidance: Guidance | None) -> Denoiser:
    """Bind a model to its conditions, guided where there is guidance."""
    if guidance is None:
        return lambda x, level: model(x, level, conditions)
    return make_guided_denoiser(model, conditions if isinstance(conditions, list) else [conditions], null, guidance)


def make_inpainting_denoiser(
    denoise: Denoiser, given: KnownValues | None, noise: Tensor
) -> tuple[Denoiser, Callable[[Tensor, NoiseLevel], Tensor]]:
    """Make an inpainting denoiser: (denoiser that gets the given ticks at its noise level, function that inserts them).

    denoise: as it is without them.
    given: values and mask; None changes nothing.
    noise: (B, ...) that the given values are mixed with on the way.
    Raises UsageError for values or a mask that do not fit the noise.
    Source: RePaint, 2201.09865 equation 8, with one noise for all levels.
    """
    if given is None:
        return denoise, lambda x, level: x
    if given.values.shape != noise.shape or given.mask.dtype is not torch.bool:
        raise UsageError(
            f"given values {tuple(given.values.shape)} with a {given.mask.dtype} mask do not fit "
            f"noise {tuple(noise.shape)}.",
            hint="Values are shaped like the noise; the mask is bool, True where a value is given.",
        )
    # values outside the mask may be anything, NaN too: `where` never reads them
    values, mask = given.values.to(noise), given.mask.to(noise.device)

    def insert(x: Tensor, level: NoiseLevel) -> Tensor:
        return torch.where(mask, level.alpha * values + level.sigma * noise, x)

    return lambda x, level: denoise(insert(x, level), level), insert
