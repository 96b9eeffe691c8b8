"""The mel VAE: log-mel to latents at half its rate and back, by magnitude-preserving convolutions without bias."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from mouthpiece.engine.errors import MouthpieceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from mouthpiece.voice.mmaudio.sizes import VaeSize

EPSILON = 1e-4
_MP_SUM_WEIGHT = 0.3  # of the branch in a residual sum
_MIN_LOG_VARIANCE = -30.0
_MAX_LOG_VARIANCE = 20.0


def fuse_weight(weight: torch.Tensor) -> torch.Tensor:
    """Fuse a convolution weight to unit gain for each output channel: w / (rms + 1e-4) / sqrt(n).

    weight: (out, in, kernel).
    Not idempotent: a second time changes it by about 1e-4 sqrt(n).
    Source: EDM2, 2312.02696 equations 47 and 66.
    """
    n = weight[0].numel()
    rms = weight.flatten(1).square().mean(1).sqrt()[:, None, None]
    return weight / (rms + EPSILON) / math.sqrt(n)


def normalize_pixels(x: torch.Tensor) -> torch.Tensor:
    """Normalize x (B, C, N) to an rms of one over the channels of each position. Source: EDM2 equation 30."""
    return x / (x.square().mean(1, keepdim=True).sqrt() + EPSILON)


def apply_mp_silu(x: torch.Tensor) -> torch.Tensor:
    """Apply SiLU at unit magnitude. Source: EDM2 equation 81."""
    return F.silu(x) / 0.596


def sum_mp(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Sum with weights at unit magnitude. Source: EDM2 equation 88."""
    return ((1 - _MP_SUM_WEIGHT) * a + _MP_SUM_WEIGHT * b) / math.sqrt((1 - _MP_SUM_WEIGHT) ** 2 + _MP_SUM_WEIGHT**2)


def make_conv(width_in: int, width_out: int, kernel: int) -> nn.Conv1d:
    """Make a convolution without bias, of the same length."""
    return nn.Conv1d(width_in, width_out, kernel, padding=kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    """Two convolutions beside a normalised skip. Source: EDM2 figure 21, in one dimension."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = make_conv(width_in, width_out, 3), make_conv(width_out, width_out, 3)
        if width_in != width_out:
            self.nin_shortcut = make_conv(width_in, width_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = normalize_pixels(x)
        h = self.conv2(apply_mp_silu(self.conv1(apply_mp_silu(x))))
        if hasattr(self, "nin_shortcut"):
            x = self.nin_shortcut(x)
        return sum_mp(x, h)


class AttentionBlock(nn.Module):
    """One head over all channels; rows of qkv are packed (channel, 3), each part normalised. Source: EDM2 figure 21."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj_out = make_conv(width, 3 * width, 1), make_conv(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (normalize_pixels(part).transpose(1, 2) for part in self.qkv(x).unflatten(1, (-1, 3)).unbind(2))
        return sum_mp(x, self.proj_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2)))


class Downsample(nn.Module):
    """Half the frames; an odd last one is dropped. Source: MMAudio."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = make_conv(width, width, 1), make_conv(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.avg_pool1d(self.conv1(x), 2))


class Upsample(nn.Module):
    """Twice the frames. Source: MMAudio."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = make_conv(width, width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.repeat_interleave(2, 2))


class _Middle(nn.Module):
    """The blocks of the lowest level, under the names that they have in the file."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = ResidualBlock(width, width), ResidualBlock(width, width)
        self.attn_1 = AttentionBlock(width)


class VaeTrunk(nn.Module):
    """Base of encoder and decoder: the middle, the clamp, and the last convolution with its learned gain."""

    conv_out: nn.Conv1d

    def __init__(self, size: VaeSize) -> None:
        super().__init__()
        self.limit = size.clip_act
        self.learnable_gain = nn.Parameter(torch.zeros(()))

    def _add_middle(self, width: int) -> None:
        self.mid = _Middle(width)

    def _middle(self, x: torch.Tensor) -> torch.Tensor:
        return self._chain((self.mid.block_1, self.mid.attn_1, self.mid.block_2), x)

    def _chain(self, modules: Iterable[Any], x: torch.Tensor) -> torch.Tensor:
        """Chain modules, with activations clamped after each."""
        for module in modules:
            x = module(x).clamp(-self.limit, self.limit)
        return x

    def _last(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv1d(apply_mp_silu(x), self.conv_out.weight * (self.learnable_gain + 1), padding=1)


def _list_modules(stage: Any, resampling: str) -> list[nn.Module]:
    """List the blocks of a stage, and its resampling module where it has one."""
    return [*stage.block, *([getattr(stage, resampling)] if hasattr(stage, resampling) else [])]


class MelEncoder(VaeTrunk):
    """Standardised log-mel (B, bands, frames) to moments (B, 2 embed, frames // 2). Source: MMAudio, appendix."""

    def __init__(self, size: VaeSize) -> None:
        super().__init__(size)
        widths = [size.hidden_dim * times for times in size.ch_mult]
        self.conv_in = make_conv(size.data_dim, widths[0], 3)
        self.down, width = nn.ModuleList(), widths[0]
        for level, wide in enumerate(widths):
            stage = nn.Module()
            sizes = [width] + [wide] * size.num_res_blocks
            stage.block = nn.ModuleList(ResidualBlock(a, b) for a, b in zip(sizes, sizes[1:]))
            if level == 0:
                stage.downsample = Downsample(wide)
            self.down.append(stage)
            width = wide
        self._add_middle(width)
        self.conv_out = make_conv(width, 2 * size.embed_dim, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for stage in self.down:
            x = self._chain(_list_modules(stage, "downsample"), x)
        return self._last(self._middle(x))


class MelDecoder(VaeTrunk):
    """Latents (B, embed, N) to standardised log-mel (B, bands, 2 N). Source: MMAudio, appendix."""

    def __init__(self, size: VaeSize) -> None:
        super().__init__(size)
        widths = [size.hidden_dim * times for times in size.ch_mult]
        width = widths[-1]
        self.conv_in = make_conv(size.embed_dim, width, 3)
        self._add_middle(width)
        stages: list[nn.Module] = []
        for level in reversed(range(len(widths))):
            stage = nn.Module()
            sizes = [width] + [widths[level]] * (size.num_res_blocks + 1)
            stage.block = nn.ModuleList(ResidualBlock(a, b) for a, b in zip(sizes, sizes[1:]))
            if level == 1:
                stage.upsample = Upsample(widths[level])
            stages.insert(0, stage)
            width = widths[level]
        self.up = nn.ModuleList(stages)
        self.conv_out = make_conv(width, size.data_dim, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._middle(self.conv_in(x))
        for stage in reversed(self.up):
            x = self._chain(_list_modules(stage, "upsample"), x)
        return self._last(x)


class MelVAE(nn.Module):
    """Log-mel (B, bands, frames) to latents (B, embed, frames // 2) and back.

    size: sizes.VaeSize.
    Weights are loaded raw, then `fuse` is called once; nothing runs before it.
    Source: MMAudio, 2412.15322 appendix; EDM2, 2312.02696.
    """

    def __init__(self, size: VaeSize) -> None:
        super().__init__()
        self.size, self.is_fused = size, False
        self.data_mean: torch.Tensor
        self.data_std: torch.Tensor
        self.encoder, self.decoder = MelEncoder(size), MelDecoder(size)
        self.register_buffer("data_mean", torch.zeros(1, size.data_dim, 1))
        self.register_buffer("data_std", torch.ones(1, size.data_dim, 1))

    @torch.no_grad()
    def fuse(self) -> MelVAE:
        """Fuse all convolutions to unit gain, once; the VAE itself. Source: EDM2."""
        if not self.is_fused:
            for module in self.modules():
                if isinstance(module, nn.Conv1d):
                    module.weight.copy_(fuse_weight(module.weight))
            self.is_fused = True
        return self

    def moments(self, standardised: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a standardised log-mel as (mean, log variance), (B, embed, frames // 2) each. Source: MMAudio."""
        self._check()
        return split_moments(self.encoder(standardised))

    def encode(self, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a log-mel as (mean, log variance). Source: MMAudio."""
        return self.moments((mel - self.data_mean) / self.data_std)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents (B, embed, N) to a log-mel (B, bands, 2 N). Source: MMAudio."""
        self._check()
        return self.decoder(latents) * self.data_std + self.data_mean

    def _check(self) -> None:
        if not self.is_fused:
            raise MouthpieceError("the mel VAE was used before its weights were fused; call fuse() after loading.")


def split_moments(moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split moments (B, 2 embed, N) into (mean, log variance), the latter clamped to [-30, 20]. Source: MMAudio."""
    mean, log_variance = moments.chunk(2, 1)
    return mean, log_variance.clamp(_MIN_LOG_VARIANCE, _MAX_LOG_VARIANCE)


def sample_posterior(mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Sample the posterior, given normal noise like it. Source: VAE, 1312.6114 equation 10."""
    return mean + (log_variance / 2).exp() * noise
