"""What every training here shares: learning rate over a time budget, averaged weights, a checkpoint that resumes."""
import copy
import time
from pathlib import Path

import torch


def rate(peak, done, step, warmup=200, final=0.03, decay_from=0.5):
    """Learning rate: linear warm-up over steps, then linear decay over the last part of the budget; done in [0, 1]."""
    return peak * min(1.0, (step + 1) / warmup) * min(1.0, max(final, (1 - done) / (1 - decay_from)))


class Average:
    """Exponential moving average of a module's parameters. Source: Polyak and Juditsky 1992."""

    def __init__(self, module, decay=0.998):
        self.module, self.decay = copy.deepcopy(module).eval(), decay

    @torch.no_grad()
    def update(self, module, step):
        d = min(self.decay, (1 + step) / (10 + step))
        for a, b in zip(self.module.state_dict().values(), module.state_dict().values()):
            a.lerp_(b, 1 - d) if a.is_floating_point() else a.copy_(b)


class Run:
    """A training with a budget in minutes that continues where it was cut off.

    path: checkpoint file.  modules: name -> module with optimizer state beside it.  minutes: whole budget, earlier parts included.
    """

    def __init__(self, path, modules, optimizers, minutes):
        self.path, self.modules, self.optimizers, self.minutes = Path(path), modules, optimizers, minutes
        self.step, self.spent_s, self.started = 0, 0.0, time.monotonic()
        if self.path.exists():
            saved = torch.load(self.path, weights_only=True)
            for name, module in modules.items():
                module.load_state_dict(saved["modules"][name])
            for name, optimizer in optimizers.items():
                optimizer.load_state_dict(saved["optimizers"][name])
            self.step, self.spent_s = saved["step"], saved["spent_s"]

    @property
    def done(self):
        """Share of the budget spent, 0 to 1 and beyond."""
        return (self.spent_s + time.monotonic() - self.started) / (60 * self.minutes)

    def save(self):
        """Write the checkpoint whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        torch.save(dict(modules={k: m.state_dict() for k, m in self.modules.items()}, optimizers={k: o.state_dict() for k, o in self.optimizers.items()},
                        step=self.step, spent_s=self.spent_s + time.monotonic() - self.started), part)
        part.replace(self.path)

    def advance(self, losses, peak, report=None, every=100, warmup=200):
        """Close a step: set the next rate, save and report now and then; losses: dict of floats."""
        self.step += 1
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rate(peak[name] if isinstance(peak, dict) else peak, self.done, self.step, warmup)
        self.seen = getattr(self, "seen", {})
        for k, v in losses.items():
            self.seen.setdefault(k, []).append(float(v))
        if self.step % every == 0:
            if report:
                report(self.step, self.done, {k: sum(v) / len(v) for k, v in self.seen.items()})
            self.seen = {}
        if self.step % (5 * every) == 0:
            self.save()
