"""A U-Net of residual blocks, shared by the renderer and the segmenter of openings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from mouthpiece.engine.encoders.motion import ResBlock

if TYPE_CHECKING:
    from collections.abc import Sequence


class ResidualUNet(nn.Module):
    """Map a picture (B, channels_in, H, W) to features (B, widths[0], H, W) with a small U-Net.

    H and W must be divisible by two as often as there are widths after the first.
    widths: channels from fine to coarse.  depth: residual blocks after each halving.
    Source: U-Net, 1505.04597, with pre-activation residual blocks.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], depth: int = 2) -> None:
        super().__init__()
        steps = list(zip(widths, widths[1:]))
        self.inlet = nn.Conv2d(channels_in, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), *(ResBlock(b) for _ in range(depth))) for a, b in steps
        )
        self.first = ResBlock(widths[0])
        self.lift = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.up = nn.ModuleList(ResBlock(a) for a in widths[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = [self.first(self.inlet(x))]
        for down in self.down:
            skips.append(down(skips[-1]))
        h = skips.pop()
        for lift, up, skip in zip(reversed(self.lift), reversed(self.up), reversed(skips)):
            h = up(skip + F.interpolate(lift(h), scale_factor=2.0))
        return h
