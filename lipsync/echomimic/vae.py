"""Stable Diffusion's variational autoencoder, built by diffusers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy as np

LATENT_SCALE = 0.18215  # factor from the encoder's mean to latents
LEGACY_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Vae(nn.Module):
    """Convert pictures to latents and back: diffusers' AutoencoderKL.

    sizes: widths, channels of each level, and layers, resnets of a level; None: the published size.
    Source: LDM, 2112.10752; diffusers.
    """

    net: Any  # diffusers' AutoencoderKL, of which a type checker sees the placeholder for a missing torch

    def __init__(self, sizes: dict[str, Any] | None = None) -> None:
        from diffusers import AutoencoderKL  # slow to import

        super().__init__()
        sizes = sizes or {"widths": (128, 256, 512, 512), "layers": 2}
        count = len(sizes["widths"])
        self.net = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * count,
            up_block_types=("UpDecoderBlock2D",) * count,
            block_out_channels=tuple(sizes["widths"]),
            layers_per_block=sizes["layers"],
            latent_channels=4,
            norm_num_groups=min(32, *sizes["widths"]),
            scaling_factor=LATENT_SCALE,
        )

    def state_dict(self, *args: Any, **settings: Any) -> Any:
        """Return the tensors under the published names, without a prefix."""
        return self.net.state_dict(*args, **settings)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors of the published names. strict, assign: as for every Module."""
        return self.net.load_state_dict(state_dict, strict, assign)

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode pictures (B, 3, 8 h, 8 w) in [-1, 1] to the means of their latents (B, 4, h, w). Source:
        EchoMimic v1.
        """
        return self.net.encode(pixels.to(self.net.dtype)).latent_dist.mean.float() * LATENT_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, 4, h, w) to pictures (B, 3, 8 h, 8 w), about [-1, 1]. Source: EchoMimic v1."""
        return self.net.decode((latents / LATENT_SCALE).to(self.net.dtype)).sample.float()


def infer_vae_sizes(state: dict[str, torch.Tensor]) -> dict[str, Any] | None:
    """Infer the sizes of a Vae from the shapes of its tensors; None where there are none of its kind."""
    widths: list[int] = []
    while (weight := state.get(f"encoder.down_blocks.{len(widths)}.resnets.0.conv2.weight")) is not None:
        widths.append(weight.shape[0])
    layers = sum(bool(re.fullmatch(r"encoder\.down_blocks\.0\.resnets\.\d+\.conv2\.weight", key)) for key in state)
    return {"widths": tuple(widths), "layers": layers} if widths else None


def rename_legacy_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename tensors of the published file, which has names of 2022, to those of today's diffusers.

    Source: diffusers' own renaming.
    """
    out = {}
    for key, tensor in state.items():
        name = re.sub(
            r"(mid_block\.attentions\.0)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{LEGACY_NAMES[m[2]]}.", key
        )
        linear = name != key and name.endswith("weight") and tensor.dim() == 4
        out[name] = tensor[:, :, 0, 0] if linear else tensor
    return out


def to_pixels(pictures: Tensor) -> np.ndarray:
    """Convert pictures (B, 3, H, W) in [-1, 1] to (B, H, W, 3) uint8 numpy."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
