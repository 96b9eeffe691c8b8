"""Solve the sampling ODE or SDE step by step; no solver knows what kind of network it calls."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling.adapters import Prediction
from mouthpiece.engine.sampling.schedules import NoiseLevel

Denoiser = Callable[[Tensor, NoiseLevel], Prediction]


class SolverHistory(NamedTuple):
    """Level at which the network was called last, and its prediction there."""

    level: NoiseLevel
    prediction: Prediction


# (denoise, x at `here`, here, there, history (None at first)) -> (x at `there`, new history)
Solver = Callable[[Denoiser, Tensor, NoiseLevel, NoiseLevel, SolverHistory | None], tuple[Tensor, SolverHistory]]


def euler(
    denoise: Denoiser, x: Tensor, here: NoiseLevel, there: NoiseLevel, past: SolverHistory | None
) -> tuple[Tensor, SolverHistory]:
    """Take a step of first order in one call: x + dt v on the straight path. Source: Euler."""
    prediction = denoise(x, here)
    return advance_sample(x, here, there, prediction), SolverHistory(here, prediction)


def heun(
    denoise: Denoiser, x: Tensor, here: NoiseLevel, there: NoiseLevel, past: SolverHistory | None
) -> tuple[Tensor, SolverHistory]:
    """Take a step of second order in two calls: predictions at both ends averaged; one call where the far end has none.

    Source: EDM, 2206.00364 algorithm 1, for any path.
    """
    first = denoise(x, here)
    guess = advance_sample(x, here, there, first)
    if there.time is None:
        return guess, SolverHistory(here, first)
    second = denoise(guess, there)
    return advance_sample(x, here, there, extrapolate_prediction(first, second, 0.5)), SolverHistory(here, first)


def ab2(
    denoise: Denoiser, x: Tensor, here: NoiseLevel, there: NoiseLevel, past: SolverHistory | None
) -> tuple[Tensor, SolverHistory]:
    """Take a step of second order in one call: the last two predictions extrapolated to its middle; Euler at first.

    Source: Adams-Bashforth, with steps of any size in flow time.
    """
    prediction = denoise(x, here)
    middle = prediction
    if past is not None:
        ahead = (there.flow_time - here.flow_time) / (here.flow_time - past.level.flow_time) / 2
        middle = extrapolate_prediction(past.prediction, prediction, 1 + ahead)
    return advance_sample(x, here, there, middle), SolverHistory(here, prediction)


def dpm2m(
    denoise: Denoiser, x: Tensor, here: NoiseLevel, there: NoiseLevel, past: SolverHistory | None
) -> tuple[Tensor, SolverHistory]:
    """Take a step of second order in log SNR in one call, of the data alone; first order at either infinite end.

    Source: DPM-Solver++(2M), 2211.01095 algorithm 2.
    """
    prediction = denoise(x, here)
    data = prediction.data
    step = there.log_snr_half - here.log_snr_half
    if past is not None and math.isfinite(step):
        before = here.log_snr_half - past.level.log_snr_half
        data = data + step / before / 2 * (data - past.prediction.data)
    kept = there.sigma / here.sigma
    return kept * x + (there.alpha - here.alpha * kept) * data, SolverHistory(here, prediction)


def make_ddim(eta: float = 0.0, fresh_noise: Iterator[Tensor] | None = None) -> Solver:
    """Make a DDIM solver, of first order in one call; deterministic at eta 0, as random as DDPM at 1.

    eta: share of the posterior's deviation that is drawn anew in each step, [0, 1].
    fresh_noise: tensors like x, one a step, from `draw_step_noise`; needed when eta > 0.
    Raises UsageError for an eta out of range or without noise.
    Source: DDIM, 2010.02502 equations 12 and 16; the deviation written for any path.
    """
    if not 0 <= eta <= 1:
        raise UsageError(f"eta {eta:g} is not in [0, 1].", hint="0 is deterministic, 1 is DDPM.")
    if eta > 0 and fresh_noise is None:
        raise UsageError(f"eta {eta:g} needs fresh noise in each step.", hint="Give fresh_noise=draw_step_noise(...).")

    def ddim(
        denoise: Denoiser, x: Tensor, here: NoiseLevel, there: NoiseLevel, past: SolverHistory | None
    ) -> tuple[Tensor, SolverHistory]:
        data, noise = prediction = denoise(x, here)
        if eta == 0 or fresh_noise is None:
            return there.alpha * data + there.sigma * noise, SolverHistory(here, prediction)
        between = here.sigma**2 - (here.alpha / there.alpha * there.sigma) ** 2
        drawn = eta * there.sigma / here.sigma * math.sqrt(max(between, 0.0))
        kept = math.sqrt(max(there.sigma**2 - drawn**2, 0.0))
        fresh = next(fresh_noise).to(x)
        return there.alpha * data + kept * noise + drawn * fresh, SolverHistory(here, prediction)

    return ddim


def advance_sample(x: Tensor, here: NoiseLevel, there: NoiseLevel, mean: Prediction) -> Tensor:
    """Advance x to `there` with these mean data and noise of the step: x + Δalpha data + Δsigma noise."""
    return x + (there.alpha - here.alpha) * mean.data + (there.sigma - here.sigma) * mean.noise


def extrapolate_prediction(first: Prediction, second: Prediction, share: float) -> Prediction:
    """Extrapolate the line through two predictions to `share`: 0 is the first, 1 the second."""
    return Prediction(*(a + share * (b - a) for a, b in zip(first, second, strict=True)))


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun, "ab2": ab2, "dpm2m": dpm2m, "ddim": make_ddim()}
