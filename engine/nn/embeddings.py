"""Embed numbers as vectors: instants in seconds (rotary) and noise levels (sinusoids)."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mouthpiece.engine.errors import UsageError

# fastest rotary frequency: one radian per 20 ms, the articulation tick, so that neighbours at 50 Hz stay apart
MAX_RAD_PER_S = 50.0
# levels lie in [0, 1]; diffusion networks count to 1000, and the sinusoids are laid out for that
LEVEL_SCALE = 1000.0


class Rotary(NamedTuple):
    """Cosines and sines of the rotary angles of each token, (..., N, dim / 2) float32."""

    cos: Tensor
    sin: Tensor


def make_rotary(times_s: Tensor, dim: int, base: float = 10000.0) -> Rotary:
    """Make rotary angles that depend on the instant of a token alone, so streams of any rate share one clock.

    times_s: (..., N) seconds; angles are taken in float64, so an hour keeps its milliseconds.
    dim: head width, even.
    base: ratio of the fastest frequency (50 rad/s) to the slowest, > 1.
    Raises UsageError for an odd width or a base that orders nothing.
    Source: RoFormer, 2104.09864 section 3.2; seconds instead of indices.
    """
    if dim < 2 or dim % 2:
        raise UsageError(f"rotary width {dim} cannot be split in pairs.", hint="Choose an even head width.")
    if base <= 1:
        raise UsageError(f"rotary base {base:g} must exceed 1.", hint="10000 suits windows of seconds to minutes.")
    pairs = torch.arange(dim // 2, dtype=torch.float64, device=times_s.device)
    rad_per_s = MAX_RAD_PER_S * base ** (-2 * pairs / dim)
    angles = times_s.double().unsqueeze(-1) * rad_per_s
    return Rotary(angles.cos().float(), angles.sin().float())


def apply_rotary(x: Tensor, angles: Rotary) -> Tensor:
    """Rotate queries or keys by their angles; lengths stay, products depend on time differences alone.

    x: (B, heads, N, dim).
    angles: tables of (N, dim / 2) or (B, N, dim / 2).
    Source: RoFormer, 2104.09864 equation 34, halves instead of neighbours.
    """
    cos, sin = (table.unsqueeze(-3) for table in angles)
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def embed_sinusoidal(levels: Tensor, width: int, longest_period: float = 10000.0) -> Tensor:
    """Embed noise levels as sinusoids, always float32: half precision cannot tell 0.998 from 0.999.

    levels: (...) in [0, 1].
    width: numbers per level, even.
    longest_period: of the slowest sinusoid, in thousandths of the level range.
    Returns (..., width). Raises UsageError for an odd width.
    Source: Attention is all you need, 1706.03762 section 3.5.
    """
    if width < 2 or width % 2:
        raise UsageError(f"sinusoid width {width} is not even.", hint="Sines and cosines come in pairs.")
    pairs = torch.arange(width // 2, dtype=torch.float32, device=levels.device)
    rates = torch.exp(-math.log(longest_period) * pairs / (width // 2))
    angles = levels.float().unsqueeze(-1) * LEVEL_SCALE * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class LevelEmbedding(nn.Module):
    """Embed noise levels of any shape: sinusoids in float32, then a two-layer network.

    width: numbers per vector that comes out.
    sinusoids: numbers per level that go in, even.
    Source: DiT, 2212.09748 section 3.2.
    """

    def __init__(self, width: int, sinusoids: int = 256) -> None:
        super().__init__()
        self.sinusoids = sinusoids
        self.mlp = nn.Sequential(nn.Linear(sinusoids, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, levels: Tensor) -> Tensor:
        """Embed levels (...) in [0, 1] as (..., width), in the dtype of the weights."""
        first = cast("nn.Linear", self.mlp[0])
        return self.mlp(embed_sinusoidal(levels, self.sinusoids).to(first.weight.dtype))
