"""Attend over tokens placed in seconds, among themselves or to a context."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.nn.embeddings import Rotary, apply_rotary


class Attention(nn.Module):
    """Attend with several heads; masked sources influence nothing, not even as NaN.

    width: of the tokens.
    heads: divides the width into an even head width.
    context_width: of the tokens looked at; None for self-attention.
    Raises UsageError for a width that the heads do not divide.
    Source: 1706.03762; normalised queries and keys from ViT-22B, 2302.05442 section 2.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        if heads < 1 or width % (2 * heads):
            raise UsageError(
                f"width {width} does not split into {heads} heads of an even width.",
                hint="Choose a width that is a multiple of twice the number of heads.",
            )
        source_width = width if context_width is None else context_width
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(source_width, 2 * width)
        self.query_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, source: Tensor | None = None, mask: Tensor | None = None, angles: Rotary | None = None
    ) -> Tensor:
        """Attend: what each token gathers, (B, N, width); zeros for an item with no source at all.

        x: (B, N, width).
        source: (B, M, context_width) looked at; None looks at x itself.
        mask: (B, M) bool over the source, True for present; None for all.
        angles: rotary tables of the tokens, for self-attention only.
        Raises UsageError for a mask of numbers, or angles given along with a source.
        Source: 1706.03762 equation 1.
        """
        if angles is not None and source is not None:
            raise UsageError("rotary angles were given for attention to a context.", hint="Leave them out.")
        source = x if source is None else source
        present = None
        if mask is not None:
            check_bool_mask(mask)
            source = source.masked_fill(~mask.unsqueeze(-1), 0)
            # A row without any source would divide by zero: let it see the zeros, and drop what it gathers below.
            empty = ~mask.any(dim=-1)
            present = (mask | empty[:, None])[:, None, None, :]
        query = self.query_norm(self._split(self.query(x)))
        key, value = self.key_value(source).chunk(2, dim=-1)
        key, value = self.key_norm(self._split(key)), self._split(value)
        if angles is not None:
            query, key = apply_rotary(query, angles), apply_rotary(key, angles)
        gathered = F.scaled_dot_product_attention(query.to(value.dtype), key.to(value.dtype), value, attn_mask=present)
        out = self.out(gathered.transpose(1, 2).flatten(2))
        return out if mask is None else out.masked_fill(empty[:, None, None], 0)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def check_bool_mask(mask: Tensor) -> None:
    """Check that a mask is bool; raise UsageError otherwise: added as numbers it would bias instead of hide."""
    if mask.dtype is not torch.bool:
        raise UsageError(f"mask is {mask.dtype}, not bool.", hint="Give True for present tokens, False for absent.")
