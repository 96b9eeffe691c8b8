"""Modulate normalized tokens by a condition (adaLN-zero)."""

from __future__ import annotations

from torch import Tensor, nn


class Modulation(nn.Module):
    """Map a condition to shifts, scales and gates, initialized as zeros, so that a block begins as the identity.

    width: of the tokens and of the condition.
    parts: how many vectors of that width to make.
    Source: DiT, 2212.09748 section 3.2 (adaLN-zero).
    """

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(width, parts * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, e: Tensor) -> tuple[Tensor, ...]:
        """Map e, (B, width) per item or (B, N, width) per token, to `parts` vectors (B, 1 or N, width)."""
        e = e.unsqueeze(1) if e.dim() == 2 else e
        return self.linear(nn.functional.silu(e)).chunk(self.parts, dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift tokens: x (1 + scale) + shift. Source: DiT, 2212.09748 section 3.2."""
    return x * (1 + scale) + shift
