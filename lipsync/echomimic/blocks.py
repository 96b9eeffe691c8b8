"""Building blocks of the three networks. Frames lie on the batch axis everywhere except inside the motion modules.

Names of modules are those of the published files; the order of operations is EchoMimic's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.lipsync.echomimic.config import NetworkConfig

RESNET_EPS = 1e-5  # of the group norms in resnets
ATTENTION_EPS = 1e-6  # of those in spatial and motion transformers
SPEED_WIDTH = 64  # of the tokens of the head's speed


class KeyValue(NamedTuple):
    """Hold the key and value of a portrait for one attention, (1, N, C) each."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True, eq=False)
class BlockContext:
    """Hold what all blocks of one pass are conditioned on.

    time: (B f, 4 C0) vectors of the noise level, one a row.
    frames: f, how many rows belong to one item.
    tokens: (B f, N, audio_width) audio tokens of each row; None in the reference network.
    portrait: name of a block -> (1, N, C) features of the reference network there, or their KeyValue; empty for none.
    unconditional_rows: how many rows, the first ones, do without the portrait.
    captured: where the reference network puts its features; None elsewhere.
    speed: (B, f, W) the head's speed in each frame for the speed layers; None without.
    use_motion: whether the motion modules take part; not where single pictures are learned.
    """

    time: Tensor
    frames: int = 1
    tokens: Tensor | None = None
    portrait: dict[str, Any] = field(default_factory=dict)
    unconditional_rows: int = 0
    captured: dict[str, Tensor] | None = None
    speed: Tensor | None = None
    use_motion: bool = True


class MultiHeadAttention(nn.Module):
    """Hold the projections of an attention with several heads, without biases on the way in.

    width: of the queries.  heads: divides it.  source_width: of what is attended to; None: the same.
    Source: 1706.03762; names of diffusers.
    """

    def __init__(self, width: int, heads: int, source_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(source_width or width, width, bias=False)
        self.to_v = nn.Linear(source_width or width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def project(self, source: Tensor) -> KeyValue:
        """Compute keys and values of a source (B, N, source_width); of a portrait once a clip."""
        return KeyValue(self.to_k(source), self.to_v(source))

    def attend(self, x: Tensor, source: Tensor | None = None, beside: Tensor | KeyValue | None = None) -> Tensor:
        """Attend from each token, (B, N, width).

        x: (B, N, width).
        source: (B, M, source_width) attended to; None: x.
        beside: (1, K, width), or its KeyValue, attended to by every item in the same softmax.
        Source: EchoMimic's reference attention.
        """
        key, value = self.project(x if source is None else source)
        if beside is not None:
            more = beside if isinstance(beside, KeyValue) else self.project(beside)
            key, value = (torch.cat([a, b.expand(len(a), -1, -1)], 1) for a, b in zip((key, value), more))
        split = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(x), key, value))
        return self.to_out[0](F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


class CrossAttention(MultiHeadAttention):
    """Attend to a source, or to the tokens themselves. Source: 1706.03762; names of diffusers."""

    def forward(self, x: Tensor, source: Tensor | None = None, beside: Tensor | KeyValue | None = None) -> Tensor:
        """Attend from each token, (B, N, width). Parameters as of `attend`."""
        return self.attend(x, source, beside)


class GEGLU(nn.Module):
    """Map linearly to twice the width, one half gating the other by the exact GELU. Source: 2002.05202."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., width) to (..., hidden)."""
        kept, gate = self.proj(x).chunk(2, dim=-1)
        return kept * F.gelu(gate)


class FeedForward(nn.Module):
    """Map by a GEGLU to four times the width and back. Source: names of diffusers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., width) to the same shape."""
        return self.net[2](self.net[0](x))


class SpatialBlock(nn.Module):
    """Attend among the places of a frame and of the portrait, then to the sound, then feed forward.

    width, heads: of the attention.  audio_width: of the audio tokens; None: no attention to sound (reference network).
    gain: factor on the audio attention.
    Source: EMO 2402.17485 section 3.2; EchoMimic's gain.
    """

    def __init__(self, width: int, heads: int, audio_width: int | None, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.norm1, self.attn1 = nn.LayerNorm(width), CrossAttention(width, heads)
        self.attn2 = None
        if audio_width is not None:
            self.norm2, self.attn2 = nn.LayerNorm(width), CrossAttention(width, heads, audio_width)
        self.norm3, self.ff = nn.LayerNorm(width), FeedForward(width)

    def forward(self, y: Tensor, context: BlockContext, portrait: Tensor | KeyValue | None) -> Tensor:
        """Run y (B f, N, width) through the block. portrait: features of the reference network here; None for none."""
        z = self.norm1(y)
        if portrait is None or context.unconditional_rows == 0 or context.unconditional_rows == len(y):
            gathered = self.attn1(z, beside=portrait if context.unconditional_rows < len(y) else None)
        else:
            plain, conditioned = z[: context.unconditional_rows], z[context.unconditional_rows :]
            gathered = torch.cat([self.attn1(plain), self.attn1(conditioned, beside=portrait)])
        y = y + gathered
        if self.attn2 is not None:
            y = y + self.gain * self.attn2(self.norm2(y), context.tokens)
        return y + self.ff(self.norm3(y))


class SpatialTransformer(nn.Module):
    """Run a SpatialBlock over the places of a feature map.

    name: path in the network, the same in reference and denoising network.
    width, shape, audio_width: sizes.
    Source: LDM, 2112.10752 section 3.3.
    """

    def __init__(self, name: str, width: int, shape: NetworkConfig, audio_width: int | None) -> None:
        super().__init__()
        self.name, self.last = name, False
        self.norm = nn.GroupNorm(shape.groups, width, eps=ATTENTION_EPS)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(width, shape.heads, audio_width, shape.audio_gain)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        """Map x (B f, width, h, w) to the same shape; features are captured where the pass asks for it."""
        block: Any = self.transformer_blocks[0]  # the only one; the published files number it
        y = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        if context.captured is not None:
            context.captured[self.name] = block.norm1(y)
            if self.last:  # nothing after it is read by anyone
                return x
        y = block(y, context, context.portrait.get(self.name))
        return x + self.proj_out(y.transpose(1, 2).unflatten(2, x.shape[2:]))


class PositionTable(nn.Module):
    """Hold the table of sinusoids for the frames of a window, (1, places, width). Source: 1706.03762."""

    pe: Tensor

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.register_buffer("pe", make_position_table(width, places))


def make_position_table(width: int, places: int) -> Tensor:
    """Make (1, places, width) float32: interleaved sine and cosine of place * 10000^(-2 i / width). Source:
    1706.03762.
    """
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(places)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[None]


class TemporalAttention(MultiHeadAttention):
    """Attend among the frames at each place; the table enters queries, keys and values. Source: AnimateDiff,
    2307.04725.
    """

    def __init__(self, width: int, shape: NetworkConfig) -> None:
        super().__init__(width, shape.heads)
        self.pos_encoder = PositionTable(width, shape.places)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Map x (B f, N, width), items of f frames, to the same shape."""
        places = x.shape[1]
        y = x.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)
        y = self.attend(y + self.pos_encoder.pe[:, :frames])
        return y.unflatten(0, (-1, places)).transpose(1, 2).flatten(0, 1)


class TemporalBlock(nn.Module):
    """Attend among frames twice, then to the head's speed where the sizes have it, then feed forward.

    Source: AnimateDiff; speed layers: EMO, 2402.17485 section 3.2, initialised to zero.
    """

    def __init__(self, width: int, shape: NetworkConfig) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList(TemporalAttention(width, shape) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.ff, self.ff_norm = FeedForward(width), nn.LayerNorm(width)
        self.speed_attention = None
        if shape.speed_buckets:
            self.speed_norm = nn.LayerNorm(width)
            self.speed_attention = CrossAttention(width, shape.heads, SPEED_WIDTH)
            for parameter in self.speed_attention.to_out.parameters():
                nn.init.zeros_(parameter)

    def forward(self, y: Tensor, context: BlockContext) -> Tensor:
        """Map y (B f, N, width) to the same shape."""
        for norm, attention in zip(self.norms, self.attention_blocks):
            y = y + attention(norm(y), context.frames)
        if self.speed_attention is not None and context.speed is not None:
            y = y + self.follow(y, context)
        return y + self.ff(self.ff_norm(y))

    def follow(self, y: Tensor, context: BlockContext) -> Tensor:
        """Attend from each frame's places to all frames' speeds, (B f, N, width). Source: EMO, 2402.17485
        section 3.2.
        """
        assert self.speed_attention is not None  # forward has asked
        attention: Any = self.attention_blocks[0]
        table = attention.pos_encoder.pe[0, : context.frames, None]
        queries = self.speed_norm(y).unflatten(0, (-1, context.frames)) + table
        gathered = self.speed_attention(queries.flatten(1, 2), context.speed)
        return gathered.unflatten(1, queries.shape[1:3]).flatten(0, 1)


class TemporalTransformer(nn.Module):
    """Run a TemporalBlock between group norm and linear maps. Source: AnimateDiff, 2307.04725 section 4.2."""

    def __init__(self, width: int, shape: NetworkConfig) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(shape.groups, width, eps=ATTENTION_EPS)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(width, shape)])
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        """Map x (B f, width, h, w) to what is added to it."""
        y = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        y = self.proj_out(self.transformer_blocks[0](y, context))
        return y.transpose(1, 2).unflatten(2, x.shape[2:])


class MotionModule(nn.Module):
    """Add a TemporalTransformer's output. Source: AnimateDiff v2's names."""

    def __init__(self, width: int, shape: NetworkConfig) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(width, shape)

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        """Map x (B f, width, h, w) to the same shape."""
        return x + self.temporal_transformer(x, context)


class ResnetBlock(nn.Module):
    """Convolve twice, with the noise level added between. Source: DDPM; names of diffusers."""

    def __init__(self, width_in: int, width: int, time_width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, eps=RESNET_EPS)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, width)
        self.norm2 = nn.GroupNorm(groups, width, eps=RESNET_EPS)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(width_in, width, 1) if width_in != width else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map x (B f, width_in, h, w) and time (B f, time_width) to (B f, width, h, w)."""
        y = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(time))[:, :, None, None]
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsampler(nn.Module):
    """Halve the size by a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B f, width, h, w) to half of h and w, rounded up."""
        return self.conv(x)


class Upsampler(nn.Module):
    """Repeat nearest pixels up to a size, then convolve."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map x (B f, width, h, w) to (B f, width, *size)."""
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
