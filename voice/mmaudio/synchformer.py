"""Synchformer's visual branch: frames at 25 Hz to 24 features a second that tell when something moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from mouthpiece.voice.mmaudio.sizes import SYNC_STEP, SYNC_WINDOW

if TYPE_CHECKING:
    from mouthpiece.voice.mmaudio.sizes import SyncSize

_EPSILON = 1e-6  # of layer norms
STATE_PREFIX = "vfeat_extractor."


class DividedAttention(nn.Module):
    """Attention of one CLS token to all, and of every other token to CLS and its own group.

    Source: MotionFormer, 2106.05392; TimeSformer, 2102.05095.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, frames: int, over: str) -> torch.Tensor:
        """Attend among tokens (B, 1 + frames * places, width), in (frame, place) order behind CLS.

        over: "time", a group is one place in all frames; "space", it is one frame.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        all_seen = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        q, k, v = self._grouped(q, frames, over, False), *(self._grouped(part, frames, over, True) for part in (k, v))
        seen = F.scaled_dot_product_attention(q, k, v)
        seen = seen.transpose(2, 3) if over == "time" else seen
        return self.proj(torch.cat([all_seen, seen.flatten(2, 3)], 2).transpose(1, 2).flatten(2))

    def _grouped(self, part: torch.Tensor, frames: int, over: str, with_cls: bool) -> torch.Tensor:
        """Group tokens as (B, H, groups, members, D), each group with the CLS token in front where asked."""
        cls, rest = part[:, :, :1], part[:, :, 1:].unflatten(2, (frames, -1))
        rest = rest.transpose(2, 3) if over == "time" else rest
        if not with_cls:
            return rest
        return torch.cat([cls[:, :, None].expand(-1, -1, rest.shape[2], -1, -1), rest], 3)


class Mlp(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DividedBlock(nn.Module):
    """Attention over time, then over space, then a small network; CLS takes part in all. Source: MotionFormer."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=_EPSILON) for _ in range(3))
        self.attn, self.timeattn = DividedAttention(width, heads), DividedAttention(width, heads)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        x = x + self.timeattn(self.norm3(x), frames, "time")
        x = x + self.attn(self.norm1(x), frames, "space")
        return x + self.mlp(self.norm2(x))


class _PatchEmbedding(nn.Module):
    """A strided convolution, under the name that it has in the file."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.proj = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x)


class PackedAttention(nn.Module):
    """Attention of the first token to all, (B, 1, width), under the parameter names of torch's MultiheadAttention.

    Source: 1706.03762 equation 1; nothing else is read of the layer that uses it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            F.linear(x, self.in_proj_weight, self.in_proj_bias)
            .unflatten(-1, (3, self.heads, -1))
            .permute(2, 0, 3, 1, 4)
        )
        return self.out_proj(F.scaled_dot_product_attention(q[:, :, :1], k, v).transpose(1, 2).flatten(2))


class SpatialAggregator(nn.Module):
    """One encoder layer whose own CLS token sums up the tokens of a frame pair. Source: Synchformer, 2401.16423."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=_EPSILON) for _ in range(2))
        self.self_attn = PackedAttention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, int(width * mlp_ratio)), nn.Linear(int(width * mlp_ratio), width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Aggregate tokens (B, N, width) to (B, width)."""
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = x[:, :1] + self.self_attn(self.norm1(x))
        return (x + self.linear2(F.gelu(self.linear1(self.norm2(x)))))[:, 0]


class SyncEncoder(nn.Module):
    """Frames (B, T, 3, 224, 224) in [-1, 1] at 25 Hz to sync features (B, windows * 8, width).

    size: sizes.SyncSize.
    Source: Synchformer, 2401.16423 section 3.1.
    """

    def __init__(self, size: SyncSize) -> None:
        super().__init__()
        self.size = size
        width, patch, deep = size.embed_dim, size.patch_size, size.patch_size_temporal
        places = (size.img_size // patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + places, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, size.temporal_resolution, width))
        self.patch_embed = _PatchEmbedding(nn.Conv2d(3, width, patch, patch))  # in the file, never used
        self.patch_embed_3d = _PatchEmbedding(nn.Conv3d(3, width, (deep, patch, patch), (deep, patch, patch)))
        self.blocks = nn.ModuleList(DividedBlock(width, size.num_heads, size.mlp_ratio) for _ in range(size.depth))
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.spatial_attn_agg = SpatialAggregator(width, size.num_heads, size.mlp_ratio)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Encode all windows of 16 frames, 8 apart; a remainder is dropped.

        frames: (B, T, 3, H, W) float in [-1, 1], T at least 16.
        """
        windows = frames.unfold(1, SYNC_WINDOW, SYNC_STEP).movedim(-1, 2)  # (B, W, 16, 3, H, W)
        return torch.cat([self.window(windows[:, i]) for i in range(windows.shape[1])], 1)

    def window(self, frames: torch.Tensor) -> torch.Tensor:
        """Encode windows of 16 frames (B, 16, 3, H, W) as (B, 8, width)."""
        tokens = self.patch_embed_3d(frames.transpose(1, 2)).flatten(3)  # (B, D, t, places)
        steps = tokens.shape[2]
        tokens = tokens.permute(0, 2, 3, 1) + self.pos_embed[:, None, 1:] + self.temp_embed[:, :steps, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(frames), -1, -1)
        x = torch.cat([cls, tokens.flatten(1, 2)], 1)
        for block in self.blocks:
            x = block(x, steps)
        x = self.norm(x[:, 1:]).unflatten(1, (steps, -1))
        return self.spatial_attn_agg(x.flatten(0, 1)).unflatten(0, (-1, steps))
