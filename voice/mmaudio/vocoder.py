"""BigVGAN, both versions: log-mel to wave, with antialiased snake activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mouthpiece.voice.mmaudio.sizes import VocoderSize

_TAPS = 12  # of the filters; they are stored with the weights


class Snake(nn.Module):
    """x + sin(x e^alpha)^2 / e^beta for each channel. Source: BigVGAN, 2206.04658 section 3.1; 2006.08195."""

    def __init__(self, width: int, logscale: bool) -> None:
        super().__init__()
        self.logscale = logscale
        self.alpha = nn.Parameter(torch.zeros(width) if logscale else torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width) if logscale else torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha, beta = self.alpha[:, None], self.beta[:, None]
        if self.logscale:
            alpha, beta = alpha.exp(), beta.exp()
        return x + torch.sin(x * alpha).square() / (beta + 1e-9)


class _Filter(nn.Module):
    """The 12 taps of one filter, stored in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.filter: torch.Tensor
        self.register_buffer("filter", torch.zeros(1, 1, _TAPS))


class _Downsample(nn.Module):
    """The filter before the lower rate, under the name that it has in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = _Filter()


class AntialiasedSnake(nn.Module):
    """Snake at twice the rate, with a low-pass before and after. Source: BigVGAN section 3.2; 2106.12423."""

    def __init__(self, width: int, logscale: bool) -> None:
        super().__init__()
        self.act = Snake(width, logscale)
        self.upsample = _Filter()
        self.downsample = _Downsample()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = x.shape[1]
        up, down = (taps.filter.expand(width, -1, -1) for taps in (self.upsample, self.downsample.lowpass))
        x = 2 * F.conv_transpose1d(F.pad(x, (5, 5), "replicate"), up, stride=2, groups=width)[..., 15:-15]
        return F.conv1d(F.pad(self.act(x), (5, 6), "replicate"), down, stride=2, groups=width)


class ResidualStack(nn.Module):
    """Rounds of activation, dilated convolution, activation, convolution (AMP block). Source: BigVGAN figure 2."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...], logscale: bool) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=(kernel - 1) * d // 2, dilation=d) for d in dilations
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in dilations)
        self.activations = nn.ModuleList(AntialiasedSnake(width, logscale) for _ in range(2 * len(dilations)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for first, second, a, b in zip(self.convs1, self.convs2, self.activations[::2], self.activations[1::2]):
            x = x + second(b(first(a(x))))
        return x


class Vocoder(nn.Module):
    """Log-mel (B, bands, frames) to wave (B, 1, frames * hop) in [-1, 1].

    size: sizes.VocoderSize.
    Its weights have no weight norm: see `fold_weight_norm`.
    Source: BigVGAN, 2206.04658.
    """

    def __init__(self, size: VocoderSize) -> None:
        super().__init__()
        self.size = size
        width, logscale = size.upsample_initial_channel, size.snake_logscale
        self.conv_pre = nn.Conv1d(size.num_mels, width, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(size.upsample_rates, size.upsample_kernel_sizes):
            self.ups.append(nn.ModuleList([nn.ConvTranspose1d(width, width // 2, kernel, rate, (kernel - rate) // 2)]))
            width //= 2
            for taps, dilations in zip(size.resblock_kernel_sizes, size.resblock_dilation_sizes):
                self.resblocks.append(ResidualStack(width, taps, dilations, logscale))
        self.activation_post = AntialiasedSnake(width, logscale)
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3, bias=size.use_bias_at_final)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        x, stacks = self.conv_pre(mel), len(self.size.resblock_kernel_sizes)
        for index, (up,) in enumerate(cast("Iterable[Iterable[nn.Module]]", self.ups)):
            x = up(x)
            x = sum(stack(x) for stack in self.resblocks[index * stacks : (index + 1) * stacks]) / stacks
        x = self.conv_post(self.activation_post(x))
        return torch.tanh(x) if self.size.use_tanh_at_final else x.clamp(-1, 1)


_WEIGHT_NORM_KEYS = (
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    (".weight_g", ".weight_v"),
)


def fold_weight_norm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Fold each pair of magnitude and direction of a vocoder's tensors into one weight, g v / |v| per first axis.

    state: with either names of weight norm, or weights already folded.
    Source: weight normalisation, 1602.07868 equation 2.
    """
    plain = dict(state)
    for magnitude, direction in _WEIGHT_NORM_KEYS:
        for key in [key for key in state if key.endswith(magnitude)]:
            layer = key.removesuffix(magnitude)
            if layer + direction in state:
                g, v = plain.pop(key), plain.pop(layer + direction)
                plain[layer + ".weight"] = g * v / v.flatten(1).norm(dim=1).view(-1, *[1] * (v.dim() - 1))
    return plain
