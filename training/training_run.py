"""The training loop of all recipes: learning rate over a time budget, averaged weights, a checkpoint that resumes."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.weights.loading import read_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.engine.device import Placement

    Report = Callable[[int, float, dict[str, float]], object]
    Losses = dict[str, torch.Tensor]

Network = TypeVar("Network", bound=torch.nn.Module)

MAX_GRADIENT_NORM = 1.0


def choose_training_device(device: str) -> Placement:
    """Choose the Placement of a training: as `choose_device`, but float32 in place of float16, which underflows small
    gradients.

    device: one of DEVICE_CHOICES.
    Raises UsageError for another word, MissingDependencyError for a GPU that is not there.
    Source: 1710.03740 section 3.2.
    """
    placement = choose_device(device)
    if placement.dtype != torch.float16:
        return placement
    return replace(placement, dtype=torch.float32, reason=f"{placement.reason}; float32 in training")


def compute_learning_rate(
    peak: float, done: float, step: int, warmup: int = 200, final: float = 0.03, decay_from: float = 0.5
) -> float:
    """Return the learning rate: linear warm-up over steps, linear decay over the last part of the budget.

    peak: highest rate.  done: share of the budget spent, [0, 1].  step: from 0.  warmup: steps.
    final: share of the peak that remains.  decay_from: share of the budget after which it falls.
    """
    return peak * min(1.0, (step + 1) / warmup) * min(1.0, max(final, (1 - done) / (1 - decay_from)))


def load_earlier_weights(path: Path, name: str, *modules) -> None:
    """Load earlier weights into modules, if the file exists; tensors it lacks or has in other shapes keep their
    initialization.

    path: safetensors file.  name: of the weights.
    A 2-D convolution with more input channels than in the file takes the weights of those; the others start at zero.
    """
    if Path(path).exists():
        state = {k: v.float() for k, v in read_state(path, name)[0].items()}
        for module in modules:
            initial = module.state_dict()
            for key, value in ((k, v) for k, v in state.items() if k in initial):
                if value.ndim == initial[key].ndim == 4 and value.shape[1] < initial[key].shape[1]:
                    added = initial[key].shape[1] - value.shape[1]
                    value = torch.cat([value, value.new_zeros(len(value), added, *value.shape[2:])], 1)
                if value.shape == initial[key].shape:
                    initial[key] = value
            module.load_state_dict(initial)


class WeightAverage(Generic[Network]):
    """Keep the exponential moving average of a module's weights, in evaluation mode.

    module: to follow.  decay: share that stays in one step, once there have been many.
    Source: Polyak and Juditsky 1992.
    """

    def __init__(self, module: Network, decay: float = 0.998) -> None:
        self.module: Network = copy.deepcopy(module).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        """Move towards the module; early steps count for more."""
        d = min(self.decay, (1 + step) / (10 + step))
        for a, b in zip(self.module.state_dict().values(), module.state_dict().values()):
            a.lerp_(b, 1 - d) if a.is_floating_point() else a.copy_(b)


class TrainingRun:
    """Count the steps and minutes of a training that resumes from its checkpoint after an interruption.

    path: checkpoint file; read when it exists, on whatever device it was written.
    modules, optimizers: name -> what to save and restore.
    minutes: whole budget, earlier parts included.
    Raises UsageError for a budget that is not above 0, and for a checkpoint of another network.
    """

    def __init__(
        self,
        path: Path,
        modules: dict[str, torch.nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        minutes: float,
    ) -> None:
        if not minutes > 0:
            raise UsageError(f"a budget of {minutes} minutes is none.", hint="Give --minutes above 0.")
        self.path = Path(path)
        self.modules = modules
        self.optimizers = optimizers
        self.minutes = minutes
        self.step = 0
        self.spent_s = 0.0
        self.started = time.monotonic()
        self.recent_losses: dict[str, list[float]] = {}  # since the last report
        if self.path.exists():
            self._restore(torch.load(self.path, map_location="cpu", weights_only=True))

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            for name, module in self.modules.items():
                module.load_state_dict(saved["modules"][name])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(saved["optimizers"][name])
            self.step, self.spent_s = saved["step"], saved["spent_s"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"{self.path}: a checkpoint of another network.", hint="Delete it, or choose another --out."
            ) from error

    @property
    def done(self) -> float:
        """Return the share of the budget spent, 0 to 1 and beyond."""
        return (self.spent_s + time.monotonic() - self.started) / (60 * self.minutes)

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        spent_s = self.spent_s + time.monotonic() - self.started
        states = {
            kind: {name: thing.state_dict() for name, thing in getattr(self, kind).items()}
            for kind in ("modules", "optimizers")
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path, overwrite=True) as part:
            torch.save(dict(states, step=self.step, spent_s=spent_s), part)

    def advance(
        self,
        losses: dict[str, float],
        peak: float,
        report: Report | None = None,
        every: int = 100,
        warmup: int = 200,
    ) -> None:
        """Finish a step: set the next learning rate; report every so many steps, save every five times as many.

        losses: name -> float.  peak: highest rate, or name of optimizer -> rate.
        report: called with (step, share done, mean losses) every so many steps.  warmup: steps.
        """
        self.step += 1
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = compute_learning_rate(
                    peak[name] if isinstance(peak, dict) else peak, self.done, self.step, warmup
                )
        for k, v in losses.items():
            self.recent_losses.setdefault(k, []).append(float(v))
        if self.step % every == 0:
            if report:
                report(self.step, self.done, {k: sum(v) / len(v) for k, v in self.recent_losses.items()})
            self.recent_losses = {}
        if self.step % (5 * every) == 0:
            self.save()


def fit(
    run: TrainingRun,
    average: WeightAverage[Network],
    compute_losses: Callable[[int], tuple[torch.Tensor, Losses]],
    peak_rate: float,
    report: Report | None = None,
    *,
    every: int = 100,
) -> Network:
    """Train the network of a run until its budget is spent: the one training loop of the recipes.

    run: with one network and one optimizer, both named "net"; saved at the end.  average: of that network's weights.
    compute_losses: step from 0 -> (loss to minimize, loss terms to report by name); draws its own batch.
    peak_rate: highest learning rate.  report, every: as for `TrainingRun.advance`.
    Gradients are clipped to norm 1.  Returns the averaged network on the CPU.
    """
    net, optimizer = run.modules["net"], run.optimizers["net"]
    net.train()
    while run.done < 1:
        loss, terms = compute_losses(run.step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        average.update(net, run.step)
        run.advance({name: term.item() for name, term in terms.items()}, peak_rate, report, every)
    run.save()
    return average.module.cpu()
