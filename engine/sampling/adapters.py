"""Adapt networks of every kind to one contract: at a level, predict the data and the noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from torch import Tensor

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling.schedules import NoiseLevel

# (x (B, ...), time (B,) in the network's own count, conditions) -> a tensor like x
NetworkFunction = Callable[[Tensor, Tensor, Any], Tensor]


class Prediction(NamedTuple):
    """Data and noise that the network predicts of x = alpha data + sigma noise; both like x."""

    data: Tensor
    noise: Tensor


class Adapter(ABC):
    """Adapt a network to the contract of the solvers; subclasses split its output into data and noise.

    network: callable (x, time (B,), conditions) -> output like x.
    Source: k-diffusion's external wrappers.
    """

    def __init__(self, network: NetworkFunction) -> None:
        self.network = network

    def predict_raw(self, x: Tensor, level: NoiseLevel, conditions: Any) -> Tensor:
        """Call the network: its raw output, in the dtype of x.

        x: (B, ...) at the level.
        level: where x is; its time must not be None.
        conditions: passed on untouched.
        Raises UsageError for an output of another shape.
        """
        time = x.new_full((x.shape[0],), cast("float", level.time), dtype=x.dtype)
        output = self.network(x, time, conditions)
        if output.shape != x.shape:
            raise UsageError(
                f"the network turned {tuple(x.shape)} into {tuple(output.shape)}.",
                hint="A sampler needs an output shaped like its input; split learned variances off first.",
            )
        return output.to(x.dtype)

    @abstractmethod
    def split_output(self, output: Tensor, x: Tensor, level: NoiseLevel) -> Prediction:
        """Split the output of x at the level into data and noise."""

    def __call__(self, x: Tensor, level: NoiseLevel, conditions: Any) -> Prediction:
        """Predict data and noise of x at the level under the conditions."""
        return self.split_output(self.predict_raw(x, level, conditions), x, level)


class FlowAdapter(Adapter):
    """Network that gives dx/dt = data - noise on any path; on the straight one, flow matching's velocity.

    Source: 2209.03003; on other paths x = alpha data + sigma noise is solved together with it.
    """

    def split_output(self, output: Tensor, x: Tensor, level: NoiseLevel) -> Prediction:
        """Split by sum and difference; defined at every level."""
        whole = level.alpha + level.sigma
        return Prediction((x + level.sigma * output) / whole, (x - level.alpha * output) / whole)


class EpsilonAdapter(Adapter):
    """Network that gives the noise. Source: DDPM, 2006.11239 section 3.2."""

    def split_output(self, output: Tensor, x: Tensor, level: NoiseLevel) -> Prediction:
        """Take the noise off x; raise UsageError at zero SNR, where no data is left. Source: 2010.02502 eq. 9."""
        if level.alpha == 0:
            raise UsageError(
                "a network that predicts noise says nothing about data at zero SNR.",
                hint="Use betas whose ends are as_is, or a v-predicting network.",
            )
        return Prediction((x - level.sigma * output) / level.alpha, output)


class DataAdapter(Adapter):
    """Network that gives the clean data. Source: 2010.02502 section 4.1."""

    def split_output(self, output: Tensor, x: Tensor, level: NoiseLevel) -> Prediction:
        """Take the data off x; raise UsageError at the last level, where no noise is left. Source: 2010.02502 eq. 9."""
        if level.sigma == 0:
            raise UsageError(
                "a network that predicts data says nothing about noise at the last level.",
                hint="Use a solver that does not ask there: euler, ddim, ab2 or dpm2m.",
            )
        return Prediction(output, (x - level.alpha * output) / level.sigma)


class VelocityAdapter(Adapter):
    """Network that gives v = alpha noise - sigma data on the circle alpha² + sigma² = 1 (diffusion's v-prediction).

    Source: 2202.00512 appendix D.
    """

    def split_output(self, output: Tensor, x: Tensor, level: NoiseLevel) -> Prediction:
        """Rotate (x, v) back; raise UsageError off the circle. Source: 2202.00512 appendix D."""
        if abs(level.alpha**2 + level.sigma**2 - 1) > 1e-6:
            raise UsageError(
                f"v-prediction was asked at alpha {level.alpha:g}, sigma {level.sigma:g}, off the circle.",
                hint="Use make_diffusion_levels, make_karras_levels or make_cosine_levels; flow networks take "
                "FlowAdapter.",
            )
        return Prediction(
            level.alpha * x - level.sigma * output,
            level.sigma * x + level.alpha * output,
        )
