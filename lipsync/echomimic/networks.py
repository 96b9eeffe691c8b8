"""The three networks: features of the portrait, features of the face region, and the denoiser."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mouthpiece.engine.errors import UsageError
from mouthpiece.lipsync.echomimic.blocks import (
    RESNET_EPS,
    SPEED_WIDTH,
    BlockContext,
    CrossAttention,
    Downsampler,
    KeyValue,
    MotionModule,
    ResnetBlock,
    SpatialTransformer,
    Upsampler,
    make_position_table,
)
from mouthpiece.lipsync.echomimic.config import LATENT_CHANNELS, SPATIAL_LEVELS, NetworkConfig

if TYPE_CHECKING:
    from typing import Any

SPEED_CONTEXT_FRAMES = 2  # frames on each side whose speed a frame is conditioned on


class TimeProjection(nn.Module):
    """Embed times (...) in cosines, then sines at `width` / 2 rates, (..., width). Source: DDPM; flipped as in SD."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, time: Tensor) -> Tensor:
        """Embed times (...) in training steps; float32."""
        half = self.width // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=time.device) / half)
        angles = time.float()[..., None] * rates
        return torch.cat([angles.cos(), angles.sin()], -1)


class TimestepEmbedding(nn.Module):
    """Map by two linear layers with SiLU between. Source: names of diffusers."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, out_width), nn.Linear(out_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., width) to (..., out_width)."""
        return self.linear_2(F.silu(self.linear_1(x)))


class UNetLevel(nn.Module):
    """Hold the resnets of one size, each followed by attention and motion where the network has them.

    name: path in the network.
    ins, width: channels into each resnet, and out of it.
    shape, audio_width: sizes; an audio_width of None is the reference network: no sound, no motion.
    spatial: whether there is attention.
    Source: SD 1.5's U-Net as AnimateDiff and EchoMimic extend it.
    """

    def __init__(
        self, name: str, ins: list[int], width: int, shape: NetworkConfig, *, audio_width: int | None, spatial: bool
    ) -> None:
        super().__init__()
        time_width = 4 * shape.widths[0]
        self.resnets = nn.ModuleList(ResnetBlock(n, width, time_width, shape.groups) for n in ins)
        self.attentions = nn.ModuleList(
            SpatialTransformer(f"{name}.attentions.{j}", width, shape, audio_width) for j in range(len(ins) * spatial)
        )
        motions = len(ins) if audio_width is not None else 0
        self.motion_modules = nn.ModuleList(MotionModule(width, shape) for _ in range(motions))

    def run_layer(self, j: int, x: Tensor, context: BlockContext) -> Tensor:
        """Run layer j: resnet, attention, motion. Source: EchoMimic's order."""
        x = self.resnets[j](x, context.time)
        if self.attentions:
            x = self.attentions[j](x, context)
        return self.motion_modules[j](x, context) if self.motion_modules and context.use_motion else x


class DownBlock(UNetLevel):
    """Run a level on the way down; `last`: no halving at its end."""

    def __init__(self, *sizes, last: bool, **more) -> None:
        super().__init__(*sizes, **more)
        self.downsamplers = nn.ModuleList([] if last else [Downsampler(sizes[2])])

    def forward(self, x: Tensor, context: BlockContext) -> tuple[Tensor, list[Tensor]]:
        """Map x (B f, C, h, w) to the block's output and the features for the way up."""
        kept = []
        for j in range(len(self.resnets)):
            x = self.run_layer(j, x, context)
            kept.append(x)
        for down in self.downsamplers:
            x = down(x)
            kept.append(x)
        return x, kept


class UpBlock(UNetLevel):
    """Run a level on the way up; `last`: no doubling at its end."""

    def __init__(self, *sizes, last: bool, **more) -> None:
        super().__init__(*sizes, **more)
        self.upsamplers = nn.ModuleList([] if last else [Upsampler(sizes[2])])

    def forward(self, x: Tensor, context: BlockContext, kept: list[Tensor]) -> Tensor:
        """Map x (B f, C, h, w) with the way down's features, of which it takes its own off the end."""
        for j in range(len(self.resnets)):
            x = self.run_layer(j, torch.cat([x, kept.pop()], 1), context)
        for up in self.upsamplers:
            x = up(x, kept[-1].shape[2:])
        return x


class MidBlock(nn.Module):
    """Run resnet, attention, motion, resnet at the smallest size."""

    def __init__(self, width: int, shape: NetworkConfig, audio_width: int | None) -> None:
        super().__init__()
        time_width = 4 * shape.widths[0]
        self.resnets = nn.ModuleList(ResnetBlock(width, width, time_width, shape.groups) for _ in range(2))
        self.attentions = nn.ModuleList([SpatialTransformer("mid_block.attentions.0", width, shape, audio_width)])
        self.motion_modules = nn.ModuleList([MotionModule(width, shape)] if audio_width is not None else [])

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        """Map x (B f, C, h, w) to the same shape."""
        x = self.attentions[0](self.resnets[0](x, context.time), context)
        if self.motion_modules and context.use_motion:
            x = self.motion_modules[0](x, context)
        return self.resnets[1](x, context.time)


class EchoMimicUNet(nn.Module):
    """Build the U-Net that reference and denoising network share.

    audio_width: None for the reference network.
    Source: SD 1.5, 2112.10752.
    """

    def __init__(self, shape: NetworkConfig, audio_width: int | None) -> None:
        super().__init__()
        self.shape = shape
        widths, count = shape.widths, len(shape.widths)
        self.conv_in = nn.Conv2d(LATENT_CHANNELS, widths[0], 3, padding=1)
        self.time_proj = TimeProjection(widths[0])
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0])
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        kept = [widths[0]]
        for i, width in enumerate(widths):
            last, ins = i == count - 1, [widths[max(i - 1, 0)]] + [width] * (shape.layers - 1)
            spatial = i in SPATIAL_LEVELS
            name = f"down_blocks.{i}"
            self.down_blocks.append(
                DownBlock(name, ins, width, shape, last=last, spatial=spatial, audio_width=audio_width)
            )
            kept += [width] * (shape.layers + (not last))
        self.mid_block = MidBlock(widths[-1], shape, audio_width)
        before = widths[-1]
        for i, width in enumerate(reversed(widths)):
            ins = []
            for _ in range(shape.layers + 1):
                ins.append(before + kept.pop())
                before = width
            last, spatial = i == count - 1, count - 1 - i in SPATIAL_LEVELS
            name = f"up_blocks.{i}"
            self.up_blocks.append(UpBlock(name, ins, width, shape, last=last, spatial=spatial, audio_width=audio_width))

    @property
    def dtype(self) -> torch.dtype:
        """Return the precision of the weights."""
        return self.conv_in.weight.dtype

    def embed(self, time: Tensor) -> Tensor:
        """Embed times (...) in training steps, (..., 4 C0). Source: DDPM."""
        return self.time_embedding(self.time_proj(time).to(self.dtype))

    def run_blocks(self, x: Tensor, context: BlockContext) -> Tensor:
        """Run the first convolution's output down and up again; returns (B f, C0, h, w). Source: 1505.04597."""
        kept = [x]
        for block in self.down_blocks:
            x, more = block(x, context)
            kept += more
        x = self.mid_block(x, context)
        for block in self.up_blocks:
            x = block(x, context, kept)
        return x


class ReferenceNet(EchoMimicUNet):
    """Extract features of the portrait, once a clip. Source: EMO, 2402.17485 section 3.2."""

    def __init__(self, shape: NetworkConfig) -> None:
        super().__init__(shape, None)
        last_block: Any = self.up_blocks[-1]
        last_block.attentions[-1].last = True

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        """Extract the input of each attention, name of the block -> (B, N, C).

        latents: (B, 4, h, w), the picture's VAE mean * 0.18215.
        Source: EchoMimic; one pass at time 0, norm1 of every block's input.
        """
        captured: dict[str, Tensor] = {}
        time = self.embed(torch.zeros(len(latents), device=latents.device))
        self.run_blocks(self.conv_in(latents.to(self.dtype)), BlockContext(time, captured=captured))
        return captured


class FaceLocator(nn.Module):
    """Encode where the face may be, as features added to the first convolution's output.

    Source: EMO section 3.2; EchoMimic's eight convolutions.
    """

    def __init__(self, shape: NetworkConfig) -> None:
        super().__init__()
        widths = shape.locator_widths
        self.conv_in = nn.Conv2d(1, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in zip(widths, widths[1:]):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(widths[-1], shape.widths[0], 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, mask: Tensor) -> Tensor:
        """Encode masks (B, 1, 8 h, 8 w) in [0, 1], 1 where the face may be, to (B, C0, h, w)."""
        x = F.silu(self.conv_in(mask.to(self.conv_in.weight.dtype)))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class SpeedLayers(nn.Module):
    """Encode how fast the head turns, as tokens for the temporal blocks.

    buckets: speeds told apart, evenly spread over 0 to FASTEST.
    Source: EMO, 2402.17485 section 3.2: s_i = tanh(3 (w - c_i) / r_i); its centres are not published, these are not
    EMO's.
    """

    FASTEST = 2.0  # highest speed told apart, rad a second

    centres: Tensor

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.buckets, self.radius = buckets, self.FASTEST / (2 * buckets)
        self.reset_constants()
        inner = (2 * SPEED_CONTEXT_FRAMES + 1) * buckets
        self.mlp = nn.Sequential(nn.Linear(inner, SPEED_WIDTH), nn.SiLU(), nn.Linear(SPEED_WIDTH, SPEED_WIDTH))

    def reset_constants(self) -> None:
        """Compute the centres, which are not among the weights."""
        centres = torch.linspace(self.radius, self.FASTEST - self.radius, self.buckets)
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, speed: Tensor) -> Tensor:
        """Encode speeds (B, f), each with its place in the window, to (B, f, SPEED_WIDTH)."""
        near = F.pad(speed[:, None], (SPEED_CONTEXT_FRAMES,) * 2, mode="replicate")[:, 0]
        near = near.unfold(1, 2 * SPEED_CONTEXT_FRAMES + 1, 1)
        codes = torch.tanh(3 * (near[..., None] - self.centres) / self.radius)
        tokens = self.mlp(codes.flatten(2).to(next(self.mlp.parameters()).dtype))
        return tokens + make_position_table(SPEED_WIDTH, speed.shape[1]).to(tokens)


class Denoiser(EchoMimicUNet):
    """Denoise a window of frames, conditioned on portrait, sound, face region and, where built, head speed.

    Source: EMO, 2402.17485 section 3.2; EchoMimic v1.
    """

    def __init__(self, shape: NetworkConfig) -> None:
        super().__init__(shape, shape.audio_width)
        self.conv_norm_out = nn.GroupNorm(shape.groups, shape.widths[0], eps=RESNET_EPS)
        self.conv_out = nn.Conv2d(shape.widths[0], LATENT_CHANNELS, 3, padding=1)
        self.use_motion = True  # False where single pictures are learned
        self.speed_layers = SpeedLayers(shape.speed_buckets) if shape.speed_buckets else None

    def compile_blocks(self) -> None:
        """Let torch compile each block at its first call; what is read off the conditions stays outside."""
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            block.compile()

    def forward(self, x: Tensor, time: Tensor, condition: dict, portrait: dict) -> Tensor:
        """Predict v (B, 4, f, h, w).

        x: (B, 4, f, h, w) noisy latents.
        time: (B,) or (B, f) training steps, 0 to 999.
        condition: audio (B, f, N, audio_width); face (B, C0, h, w); known (B,) bool on the CPU, False for the items
        without
            the portrait, which come first; speed (B, f), only where the speed layers are to be used.
        portrait: name of a block -> features of the reference network, (1, N, C), or their KeyValue.
        Raises UsageError for more frames than places, or items out of order.
        Source: EchoMimic v1, but for a time for each frame.
        """
        items, _, frames, height, width = x.shape
        known = condition["known"]
        if not 1 <= frames <= self.shape.places or len(known) != items or (known[:-1] & ~known[1:]).any():
            raise UsageError(
                f"{frames} frames, conditioned items {known.tolist()}: need 1 to {self.shape.places} frames, "
                "unconditioned items first.",
                hint="Make windows shorter.",
            )
        rows = x.transpose(1, 2).flatten(0, 1).to(self.dtype)
        time = (time[:, None].expand(-1, frames) if time.dim() == 1 else time).flatten()
        speed = (
            self.speed_layers(condition["speed"]) if self.speed_layers is not None and "speed" in condition else None
        )
        context = BlockContext(
            self.embed(time),
            frames,
            condition["audio"].flatten(0, 1).to(self.dtype),
            portrait,
            frames * int((~known).sum()),
            speed=speed,
            use_motion=self.use_motion,
        )
        face = condition["face"].to(self.dtype)
        y = self.conv_in(rows) + face.repeat_interleave(frames, 0)
        y = self.conv_out(F.silu(self.conv_norm_out(self.run_blocks(y, context))))
        return y.unflatten(0, (items, frames)).transpose(1, 2)


def cache_keys_and_values(denoiser: Denoiser, features: dict[str, Tensor]) -> dict[str, KeyValue]:
    """Compute the portrait's keys and values for every attention, once a clip instead of once a step.

    denoiser: whose attentions will use them.  features: of ReferenceNet, (1, N, C) each.
    """
    cached: dict[str, KeyValue] = {}
    for module in denoiser.modules():
        if isinstance(module, SpatialTransformer):
            block: Any = module.transformer_blocks[0]
            cached[module.name] = block.attn1.project(features[module.name])
    return cached


__all__ = [
    "CrossAttention",
    "Denoiser",
    "FaceLocator",
    "KeyValue",
    "ReferenceNet",
    "SpeedLayers",
    "cache_keys_and_values",
]
