"""What every training here shares: learning rate over a time budget, averaged weights, a checkpoint that resumes."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.weights.loading import read_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.engine.device import Placement


def choose_training_device(device: str) -> Placement | None:
    """Return the Placement a training runs in: as `choose_device`, but float32 where float16 is all there is, for it
    loses
    small gradients.

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
    """Fill modules with earlier weights, if the file is there; what it lacks or has in other shapes stays as at birth.

    path: safetensors file.  name: of the weights.
    A convolution of pictures that has more inputs than it had takes those it had, and begins blind to the others.
    """
    if Path(path).exists():
        state = {k: v.float() for k, v in read_state(path, name)[0].items()}
        for module in modules:
            own = module.state_dict()
            for key, value in ((k, v) for k, v in state.items() if k in own):
                if value.ndim == own[key].ndim == 4 and value.shape[1] < own[key].shape[1]:
                    value = torch.cat(
                        [value, value.new_zeros(len(value), own[key].shape[1] - value.shape[1], *value.shape[2:])], 1
                    )
                if value.shape == own[key].shape:
                    own[key] = value
            module.load_state_dict(own)


class WeightAverage:
    """Exponential moving average of a module's weights, in eval.

    module: to follow.  decay: share that stays in one step, once there have been many.
    Source: Polyak and Juditsky 1992.
    """

    def __init__(self, module: torch.nn.Module, decay: float = 0.998) -> None:
        self.module, self.decay = copy.deepcopy(module).eval(), decay

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        """Move towards the module; early steps count for more."""
        d = min(self.decay, (1 + step) / (10 + step))
        for a, b in zip(self.module.state_dict().values(), module.state_dict().values()):
            a.lerp_(b, 1 - d) if a.is_floating_point() else a.copy_(b)


class TrainingRun:
    """A training with a budget in minutes that continues where it was cut off.

    path: checkpoint file; read when it is there, on whatever device it was written.
    modules, optimizers: name -> what to save and restore.
    minutes: whole budget, earlier parts included.
    Raises UsageError for a budget that is none, and for a checkpoint of another network.
    """

    def __init__(self, path: Path, modules: dict[str, Any], optimizers: dict, minutes: float) -> None:
        if not minutes > 0:
            raise UsageError(f"a budget of {minutes} minutes is none.", hint="Give --minutes above 0.")
        self.path, self.modules, self.optimizers, self.minutes = Path(path), modules, optimizers, minutes
        self.step, self.spent_s, self.started, self.seen = 0, 0.0, time.monotonic(), {}
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
        """Share of the budget spent, 0 to 1 and beyond."""
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
        report: Callable[..., Any] | None = None,
        every: int = 100,
        warmup: int = 200,
    ) -> None:
        """Close a step: set the next rate, save and report now and then.

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
            self.seen.setdefault(k, []).append(float(v))
        if self.step % every == 0:
            if report:
                report(self.step, self.done, {k: sum(v) / len(v) for k, v in self.seen.items()})
            self.seen = {}
        if self.step % (5 * every) == 0:
            self.save()
