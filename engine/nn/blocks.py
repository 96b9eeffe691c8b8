"""Define blocks that networks are stacked from: a modulated transformer block and a convolutional mixer."""

from __future__ import annotations

from torch import Tensor, nn

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.nn.attention import Attention, check_bool_mask
from mouthpiece.engine.nn.embeddings import Rotary, make_rotary
from mouthpiece.engine.nn.norms import Modulation, modulate


class DiTBlock(nn.Module):
    """Run a transformer block modulated per item or token, initialized as the identity; absent tokens become zeros.

    width: of tokens and condition.
    heads: attention heads; width is a multiple of twice that.
    mlp_ratio: hidden width of the feed-forward part over the width.
    context_width: of the tokens that cross-attention looks at; None builds none.
    Raises UsageError for a width that the heads do not divide.
    Source: DiT, 2212.09748 figure 3; cross-attention without a gate from PixArt, 2310.00426 section 2.3.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, context_width: int | None = None) -> None:
        super().__init__()
        hidden = round(width * mlp_ratio)
        self.head_width = width // heads if heads else 0
        self.modulation = Modulation(width, parts=6)
        self.attention_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.cross: Attention | None = None
        if context_width is not None:
            self.cross_norm = nn.LayerNorm(width, eps=1e-6)
            self.cross = Attention(width, heads, context_width)
            nn.init.zeros_(self.cross.out.weight)
            nn.init.zeros_(self.cross.out.bias)

    def forward(
        self,
        x: Tensor,
        e: Tensor,
        positions_s: Tensor | Rotary,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Run the block on tokens, (B, N, width).

        x: (B, N, width).
        e: (B, width) per item or (B, N, width) per token: level and whatever else modulates.
        positions_s: (N,) or (B, N) seconds; or `make_rotary(times_s, width / heads)`, made once for many blocks.
        mask: (B, N) bool, True for present; absent tokens influence nothing and come out as zeros.
        context: (B, M, context_width) for cross-attention; None leaves it out.
        context_mask: (B, M) bool, True for present.
        Raises UsageError for a context where none was built, or a mask of numbers.
        Source: DiT, 2212.09748 figure 3.
        """
        if context is not None and self.cross is None:
            raise UsageError("this block has no cross-attention.", hint="Build it with context_width=....")
        angles = positions_s if isinstance(positions_s, Rotary) else make_rotary(positions_s, self.head_width)
        x = mask_tokens(x, mask)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(e)
        steered = modulate(self.attention_norm(x), shift_a, scale_a)
        x = x + gate_a * self.attention(steered, mask=mask, angles=angles)
        if context is not None and self.cross is not None:
            x = x + self.cross(self.cross_norm(x), context, context_mask)
        x = x + gate_m * self.mlp(modulate(self.mlp_norm(x), shift_m, scale_m))
        return mask_tokens(x, mask)


class ModulatedHead(nn.Module):
    """Map tokens to outputs: a modulated norm and a linear layer, initialized as zeros.

    width: of tokens and condition.
    out_width: numbers per token that come out.
    Source: DiT, 2212.09748 section 3.2 (transformer decoder).
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.modulation = Modulation(width, parts=2)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(width, out_width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Map tokens x (B, N, width), modulated by e (B, width) or (B, N, width), to (B, N, out_width)."""
        return self.linear(modulate(self.norm(x), *self.modulation(e)))


class MixBlock(nn.Module):
    """Mix by a convolution along time in each channel and a network in each tick, initialized as the identity.

    width: channels.
    kernel: ticks that the convolution spans, odd.
    dilation: ticks between its taps.
    dropout: share of hidden numbers dropped in training, [0, 1).
    Raises UsageError for an even kernel or numbers out of range.
    Source: ConvNeXt, 2201.03545 figure 4, in one dimension with a 3-fold hidden width.
    """

    def __init__(self, width: int, kernel: int = 9, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0 or dilation < 1:
            raise UsageError(
                f"kernel {kernel} with dilation {dilation} has no middle tap.",
                hint="Choose an odd kernel and a dilation of 1 or more.",
            )
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout {dropout:g} is not in [0, 1).", hint="0.1 is a common choice.")
        padding = dilation * (kernel // 2)
        self.mix = nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(3 * width, width)
        )
        for parameter in self.mlp[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the block on ticks (B, N, width); absent ones (mask (B, N) bool False) count as and become zeros."""
        x = mask_tokens(x, mask)
        mixed = self.mix(x.transpose(1, 2)).transpose(1, 2)
        return mask_tokens(x + self.mlp(self.norm(mixed)), mask)


def mask_tokens(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zero tokens x (B, N, C) where mask (B, N) is False; without a mask none."""
    if mask is None:
        return x
    check_bool_mask(mask)
    return x.masked_fill(~mask.unsqueeze(-1), 0)
