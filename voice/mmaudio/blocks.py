"""Blocks of MMAudio's flow network; parameter names are those of the published files."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterable

ROTARY_THETA = 10000.0  # base of the rotary and sinusoidal frequencies


class TimeConv(nn.Conv1d):
    """Convolution along time of tokens (B, N, C), same length.

    Source: MMAudio, 2412.15322 section 3.3.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int, bias: bool = True) -> None:
        super().__init__(width_in, width_out, kernel, padding=kernel // 2, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def make_linear(width_in: int, width_out: int, kernel: int | None, bias: bool = True) -> nn.Module:
    """Make a TimeConv, or a Linear where the kernel is None."""
    return nn.Linear(width_in, width_out, bias) if kernel is None else TimeConv(width_in, width_out, kernel, bias)


class GatedLayer(nn.Module):
    """w2(silu(w1 x) * w3 x) without biases, on tokens (B, N, width); convolutions when a kernel is given.

    Source: GLU variants, 2002.05202; MMAudio for the convolutions.
    """

    def __init__(self, width: int, inner: int, kernel: int | None = None) -> None:
        super().__init__()
        self.w1 = make_linear(width, inner, kernel, bias=False)
        self.w2 = make_linear(inner, width, kernel, bias=False)
        self.w3 = make_linear(width, inner, kernel, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


def compute_rotary_angles(
    count: int, head_dim: int, speed: float = 1.0, device: torch.device | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute (cos, sin) of each position's rotary angles, (count, head_dim / 2) float32 each.

    count: positions, from 0.  speed: factor on the frequencies.
    Source: RoFormer, 2104.09864 section 3.2.
    """
    pairs = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device)
    rates = 1.0 / ROTARY_THETA ** (pairs / head_dim) * speed
    angles = torch.arange(count, dtype=torch.float32, device=device)[:, None] * rates
    return angles.cos(), angles.sin()


def apply_rotary(x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
    """Rotate neighbouring pairs of x (B, H, N, D), in float32; None rotates nothing. Source: as above."""
    if angles is None:
        return x
    cos, sin = angles
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], -1)
    return turned.flatten(-2).to(x.dtype)


class QKVProjection(nn.Module):
    """Queries, keys and values of one stream, (B, H, N, D) each; rows of qkv are packed (head, D, 3).

    Source: MMAudio; normalised queries and keys from 2302.05442.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // heads)
        self.k_norm = nn.RMSNorm(width // heads)

    def forward(
        self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        q, k, v = self.qkv(x).unflatten(-1, (self.heads, -1, 3)).permute(4, 0, 2, 1, 3)
        return apply_rotary(self.q_norm(q).to(v.dtype), angles), apply_rotary(self.k_norm(k).to(v.dtype), angles), v


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attend: (B, N, width) gathered by queries, keys and values (B, H, N, D). Source: 1706.03762 equation 1."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Modulate x: layer norm without parameters, then x (1 + scale) + shift. Source: DiT, 2212.09748 section 3.2."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class StreamBlock(nn.Module):
    """One stream's part of a block: modulated projection before the attention, gated residuals after it.

    width, heads, inner: sizes.  kernel: of its convolutions; None makes linear layers, for text.
    ends_here: whether nothing reads the stream after this attention; it then has no part after it.
    Source: MMAudio, 2412.15322 section 3.2; adaLN-zero from 2212.09748.
    """

    def __init__(self, width: int, heads: int, inner: int, kernel: int | None, ends_here: bool = False) -> None:
        super().__init__()
        self.attn = QKVProjection(width, heads)
        self.ends_here = ends_here
        if not ends_here:
            self.linear1 = make_linear(width, width, kernel)
            self.ffn = GatedLayer(width, inner, kernel)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, (2 if ends_here else 6) * width))

    def before(self, x: torch.Tensor, e: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor] | None) -> tuple:
        """Project tokens x (B, N, width), modulated by e (B, 1 or N, width): (q, k, v), and what `after` needs."""
        shift, scale, *rest = self.adaLN_modulation(e).chunk(2 if self.ends_here else 6, -1)
        return self.attn(modulate(x, shift, scale), angles), rest

    def after(self, x: torch.Tensor, gathered: torch.Tensor, rest: list[torch.Tensor]) -> torch.Tensor:
        """Update the tokens by what the attention gathered. rest: of `before`."""
        gate_a, shift, scale, gate_f = rest
        x = x + gate_a * self.linear1(gathered)
        return x + gate_f * self.ffn(modulate(x, shift, scale))

    def forward(self, x: torch.Tensor, e: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Run the block on one stream alone, (B, N, width)."""
        qkv, rest = self.before(x, e, angles)
        return self.after(x, attend(*qkv), rest)


class JointBlock(nn.Module):
    """Latents, CLIP images and text in one attention, each with its own weights.

    last: whether only latents go on after the block.
    Source: MMAudio, 2412.15322 section 3.2; MM-DiT, 2403.03206.
    """

    def __init__(self, width: int, heads: int, inner: int, last: bool = False) -> None:
        super().__init__()
        self.latent_block = StreamBlock(width, heads, inner, 3)
        self.clip_block = StreamBlock(width, heads, inner, 3, last)
        self.text_block = StreamBlock(width, heads, inner, None, last)
        self.last = last

    def forward(
        self,
        streams: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        each: torch.Tensor,
        shared: torch.Tensor,
        angles: tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run the block on (latent, clip, text), (B, N, width) each.

        each: (B, N latents, width), modulates latents.  shared: (B, 1, width), modulates the others.
        angles: (latent, clip) rotary tables; text has none.
        """
        blocks = (self.latent_block, self.clip_block, self.text_block)
        steering = (each, shared, shared)
        made = [b.before(x, e, a) for b, x, e, a in zip(blocks, streams, steering, (*angles, None))]
        queries = [qkv[0] for qkv, _ in made][: 1 if self.last else 3]
        keys, values = (torch.cat([qkv[part] for qkv, _ in made], 2) for part in (1, 2))
        gathered = attend(torch.cat(queries, 2), keys, values).split([q.shape[2] for q in queries], 1)
        done = [b.after(x, g, rest) for b, x, g, (_, rest) in zip(blocks, streams, gathered, made)]
        latent, clip, text = [*done, *streams[len(done) :]]
        return latent, clip, text


class FlowTimeEmbedding(nn.Module):
    """Flow times (B,) as vectors (B, width), in float32 whatever the precision around it.

    sinusoids: numbers a time.  speed: factor on the frequencies; with 10000, angles reach 10000 rad, which half
    precision cannot hold.
    Source: MMAudio; sinusoids as 1706.03762 section 3.5.
    """

    def __init__(self, width: int, sinusoids: int, speed: float) -> None:
        super().__init__()
        self.sinusoids, self.speed = sinusoids, speed
        self.mlp = nn.Sequential(nn.Linear(sinusoids, width), nn.SiLU(), nn.Linear(width, width))

    def frequencies(self, device: torch.device | None = None) -> torch.Tensor:
        """Compute the frequencies, (sinusoids / 2,) float32, radians a unit of flow time."""
        pairs = torch.arange(0, self.sinusoids, 2, dtype=torch.float32, device=device)
        return 1.0 / ROTARY_THETA ** (pairs / self.sinusoids) * self.speed

    def sinusoid(self, time: torch.Tensor) -> torch.Tensor:
        """Compute the sinusoids of times (B,), (B, sinusoids) float32."""
        angles = time.float()[:, None] * self.frequencies(time.device)
        return torch.cat([angles.cos(), angles.sin()], -1)

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        with torch.autocast(time.device.type, enabled=False):
            first, _, last = cast("Iterable[nn.Linear]", self.mlp)
            hidden = F.linear(self.sinusoid(time), first.weight.float(), first.bias.float())
            return F.linear(F.silu(hidden), last.weight.float(), last.bias.float())


class FinalLayer(nn.Module):
    """Tokens to flow, steered by the shared vector alone. Source: MMAudio."""

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.conv = TimeConv(width, width_out, 7)

    def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return self.conv(modulate(x, *self.adaLN_modulation(e).chunk(2, -1)))
