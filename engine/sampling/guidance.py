"""Guide a network: make conditions stronger or weaker than it learned them, each by its own scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling.adapters import Adapter, Prediction
from mouthpiece.engine.sampling.schedules import NoiseLevel
from mouthpiece.engine.sampling.solvers import Denoiser

GUIDANCE_MODES = ("batched", "sequential")


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance with several conditions: out = null + sum scale_i (out_i - null).

    Source: 2207.12598 equation 6; several conditions 2206.01714 equation 11; interval 2404.07724.
    """

    scales: tuple[float, ...] = (1.0,)  # one a condition; 1 as learned, 0 ignores it, usual 1 to 7
    interval: tuple[float, float] = (0.0, 1.0)  # flow time, 0 noise to 1 data; outside it no scale exceeds 1
    rescale: float = 0.0  # [0, 1]; how far the deviation is brought back to the one at scales of at most 1
    mode: str = "batched"  # one network call for all; "sequential": one each, less memory, same result

    def __post_init__(self) -> None:
        if not self.scales or not all(math.isfinite(scale) for scale in self.scales):
            raise UsageError(f"guidance scales {self.scales} are not numbers, one a condition.", hint="Try 2.5.")
        if not 0 <= self.interval[0] <= self.interval[1] <= 1:
            raise UsageError(f"guidance interval {self.interval} does not lie in [0, 1].", hint="(0, 1) is always.")
        if not 0 <= self.rescale <= 1:
            raise UsageError(f"guidance rescale {self.rescale:g} is not in [0, 1].", hint="0.7 is usual, 0 is off.")
        if self.mode not in GUIDANCE_MODES:
            raise UsageError(
                f"guidance mode '{self.mode}' is unknown.", hint=f"Choose one of {', '.join(GUIDANCE_MODES)}."
            )

    def compute_weights(self, flow_time: float) -> list[float]:
        """Compute the weight of the null output, then of each condition's, at a flow time; they sum to one."""
        inside = self.interval[0] <= flow_time <= self.interval[1]
        return append_null_weight(self.scales if inside else limit_scales(self.scales))


def make_guided_denoiser(model: Adapter, conditions: Sequence[Any], null: Any, guidance: Guidance) -> Denoiser:
    """Make a guided denoiser; outputs of weight zero are not computed.

    model: adapter around the network; outputs are mixed raw, before the adapter reads them.
    conditions: one tree a scale: tensors (B, ...), dicts, lists, None.
    null: tree without conditions, or with the unwanted ones.
    guidance: scales and their limits.
    Raises UsageError when conditions and scales do not pair up, or trees do not fit together.
    Source: 2207.12598 equation 6; rescale 2305.08891 equations 14 to 16.
    """
    if len(conditions) != len(guidance.scales):
        raise UsageError(
            f"{len(conditions)} conditions came with {len(guidance.scales)} guidance scales.",
            hint="Give each condition one scale.",
        )
    trees = [null, *conditions]

    def denoise(x: Tensor, level: NoiseLevel) -> Prediction:
        weights = guidance.compute_weights(level.flow_time)
        natural = append_null_weight(limit_scales(guidance.scales)) if guidance.rescale else [0.0] * len(weights)
        asked = [n for n, pair in enumerate(zip(weights, natural, strict=True)) if any(abs(w) > 1e-12 for w in pair)]
        outputs = evaluate_branches(model, x, level, [trees[n] for n in asked], guidance.mode)
        mixed = combine_outputs(outputs, [weights[n] for n in asked])
        if guidance.rescale:
            plain = combine_outputs(outputs, [natural[n] for n in asked])
            mixed = rescale_guided(mixed, plain, guidance.rescale)
        return model.split_output(mixed, x, level)

    return denoise


def evaluate_branches(model: Adapter, x: Tensor, level: NoiseLevel, trees: list[Any], mode: str) -> list[Tensor]:
    """Call the network under each tree of conditions, at once or one after the other: raw outputs."""
    if mode == "sequential" or len(trees) == 1:
        return [model.predict_raw(x, level, tree) for tree in trees]
    together = concatenate_trees(trees, x.shape[0])
    return list(model.predict_raw(torch.cat([x] * len(trees)), level, together).chunk(len(trees)))


def concatenate_trees(trees: list[Any], batch: int) -> Any:
    """Concatenate trees of conditions, tensors one after the other along the batch.

    trees: same shape of tree; tensors (batch, ...); anything else must be equal in all.
    batch: items in each.
    Raises UsageError for trees that do not fit together.
    """
    first = trees[0]
    if any(type(tree) is not type(first) for tree in trees):
        kinds = ", ".join(type(tree).__name__ for tree in trees)
        raise UsageError(f"conditions differ in kind ({kinds}).", hint="Give zeros or a mask where one is absent.")
    if isinstance(first, Tensor):
        if any(tree.dim() == 0 or tree.shape[0] != batch for tree in trees):
            raise UsageError(
                f"a condition of shape {tuple(first.shape)} does not begin with the batch of {batch}.",
                hint="Repeat it for each item, or use guidance mode 'sequential'.",
            )
        return torch.cat(trees)
    if isinstance(first, dict):
        if any(tree.keys() != first.keys() for tree in trees):
            raise UsageError("conditions differ in their names.", hint="Give every tree the same keys.")
        return {key: concatenate_trees([tree[key] for tree in trees], batch) for key in first}
    if isinstance(first, list | tuple):
        if any(len(tree) != len(first) for tree in trees):
            raise UsageError("conditions differ in number.", hint="Give every tree the same entries.")
        return [concatenate_trees(list(parts), batch) for parts in zip(*trees, strict=True)]
    if any(tree != first for tree in trees):
        raise UsageError(f"condition {first!r} differs between trees and is not a tensor.", hint="Make it a tensor.")
    return first


def limit_scales(scales: Sequence[float]) -> list[float]:
    """Limit scales to at most 1, the strength that the network learned."""
    return [min(scale, 1.0) for scale in scales]


def append_null_weight(scales: Sequence[float]) -> list[float]:
    """Put the null output's weight before those of the conditions, so that all sum to one. Source: 2207.12598 eq. 6."""
    return [1 - sum(scales), *scales]


def combine_outputs(outputs: list[Tensor], weights: list[float]) -> Tensor:
    """Combine outputs: their weighted sum."""
    return cast("Tensor", sum(weight * output for weight, output in zip(weights, outputs, strict=True)))


def rescale_guided(guided: Tensor, plain: Tensor, share: float) -> Tensor:
    """Rescale a guided output: the deviation of each item goes back by `share` to that of the plain one.

    guided, plain: (B, ...).
    share: [0, 1].
    Source: 2305.08891 equations 15 and 16.
    """
    others = tuple(range(1, guided.dim()))
    deviation = guided.std(others, keepdim=True).clamp(min=1e-12)
    return guided * (1 - share + share * plain.std(others, keepdim=True) / deviation)
