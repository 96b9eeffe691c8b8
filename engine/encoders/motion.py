"""Encode facial motion: an aligned crop to a lattice of displacements from rest, the lattice to a short code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mouthpiece.engine.weights.loading import load_state_into

LATTICE_NODES = 32  # nodes a side, over the unit square of the crop
CROP_PX = 128  # side of the crop that the encoder takes
LOWER_FACE_WIDTH = 21  # numbers of the code for mouth and jaw
BROW_WIDTH = 4  # numbers for the brows
POSE_WIDTH = 6  # numbers for the head
BLINK_INDEX = LOWER_FACE_WIDTH  # index of the number for the eyelids
EXPRESSION_WIDTH = LOWER_FACE_WIDTH + 1 + BROW_WIDTH  # numbers for the face without the head, 26
CODE_WIDTH = EXPRESSION_WIDTH + POSE_WIDTH  # numbers of the code, 32


class ResBlock(nn.Module):
    """Add a pre-activation residual, initialized as the identity. Source: 1603.05027."""

    def __init__(self, width: int, groups: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.GroupNorm(groups, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(groups, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        for parameter in self.net[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the residual to x (B, width, H, W)."""
        return x + self.net(x)


def make_coordinate_grid(height: int, width: int, device: torch.device | None = None) -> torch.Tensor:
    """Make the pixel centres of the unit square in [-1, 1], (1, 2, height, width): x, then y."""
    y = (torch.arange(height, device=device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=device) + 0.5) / width * 2 - 1
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y])[None]


class MotionEncoder(nn.Module):
    """Encode crops (B, 3, 128, 128) in [-1, 1] to displacements from rest (B, 2, 32, 32) in units of the crop.

    Head motion is left out. Trained on a face mesh of talking clips and puppets; needs no landmarks at inference.
    width: channels at half resolution, a multiple of 8.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.config = dict(width=width)
        w = width
        self.inlet = nn.Sequential(nn.Conv2d(4 * 3 + 2, w, 3, padding=1), ResBlock(w))
        self.high = nn.Sequential(nn.Conv2d(w, 2 * w, 3, 2, 1), ResBlock(2 * w), ResBlock(2 * w))
        self.mid = nn.Sequential(nn.Conv2d(2 * w, 3 * w, 3, 2, 1), ResBlock(3 * w), ResBlock(3 * w))
        self.low = nn.Sequential(nn.Conv2d(3 * w, 4 * w, 3, 2, 1), ResBlock(4 * w), ResBlock(4 * w))
        self.from_low, self.from_mid = nn.Conv2d(4 * w, 3 * w, 1), nn.Conv2d(3 * w, 2 * w, 1)
        self.up_mid, self.up_high = ResBlock(3 * w), ResBlock(2 * w)
        self.out = nn.Sequential(nn.GroupNorm(8, 2 * w), nn.SiLU(), nn.Conv2d(2 * w, 2, 3, padding=1))
        nn.init.zeros_(cast("nn.Conv2d", self.out[-1]).weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode crops to displacements, float32."""
        u = F.pixel_unshuffle(x, 2)
        grid = make_coordinate_grid(u.shape[2], u.shape[3], device=u.device).to(u.dtype)
        a = self.inlet(torch.cat([u, grid.expand(len(u), -1, -1, -1)], 1))
        h = self.high(a)
        m = self.mid(h)
        m = self.up_mid(m + F.interpolate(self.from_low(self.low(m)), scale_factor=2.0))
        h = self.up_high(h + F.interpolate(self.from_mid(m), scale_factor=2.0))
        return self.out(h).float() * 0.1


@dataclass(frozen=True)
class MotionSpace:
    """Convert motion codes to lattices and back: a linear basis (mouth, jaw, eyelids, brows) and six head numbers.

    basis: (26, 2, 32, 32) lattices, unit code each.  projection: (26, 2048) back from a lattice.
    pose_std: (6,) units of the head's numbers.
    lips: (26,) inner-lip opening in units of the crop for a unit code.
    Source: PCA of lattices, training/motion_space.py.
    """

    basis: torch.Tensor
    projection: torch.Tensor
    pose_std: torch.Tensor
    lips: torch.Tensor

    def to_lattice(self, code: torch.Tensor) -> torch.Tensor:
        """Convert the expression part of a code (..., 32) to a displacement (..., 2, 32, 32)."""
        flat = code[..., :EXPRESSION_WIDTH] @ self.basis.reshape(EXPRESSION_WIDTH, -1).to(code)
        return flat.reshape(*code.shape[:-1], 2, LATTICE_NODES, LATTICE_NODES)

    def to_code(self, lattice: torch.Tensor) -> torch.Tensor:
        """Convert a displacement (..., 2, 32, 32) to the expression part (..., 26) of its code."""
        return lattice.reshape(*lattice.shape[:-3], -1) @ self.projection.T.to(lattice)

    def to_pose(self, code: torch.Tensor) -> torch.Tensor:
        """Convert a code to its head pose (..., 6): shift x, y in units of the crop, log scale, roll, yaw, pitch."""
        return code[..., EXPRESSION_WIDTH:] * self.pose_std.to(code)

    def compute_mouth_opening(self, code: torch.Tensor) -> torch.Tensor:
        """Compute the inner-lip opening (...,) in units of the crop, 0 with lips shut."""
        return code[..., :EXPRESSION_WIDTH] @ self.lips.to(code)


@torch.inference_mode()
def encode_crops(encoder: MotionEncoder, space: MotionSpace, crops: np.ndarray, batch: int = 32) -> np.ndarray:
    """Encode crops to expression codes (N, 26) float32, each on its own: batches only save time.

    crops: (N, S, S, 3) uint8, resized to CROP_PX.
    batch: crops a call of the encoder.
    """
    out = []
    for i in range(0, len(crops), batch):
        x = torch.as_tensor(np.ascontiguousarray(crops[i : i + batch])).permute(0, 3, 1, 2).float() / 127.5 - 1
        if x.shape[-1] != CROP_PX:
            x = F.interpolate(x, size=CROP_PX, mode="area" if x.shape[-1] > CROP_PX else "bilinear")
        out.append(space.to_code(encoder(x)).float())
    return torch.cat(out).numpy()


def build_motion_encoder(state: dict[str, torch.Tensor], config: dict[str, int]) -> tuple[MotionEncoder, MotionSpace]:
    """Build the motion encoder, in eval mode and float32, and the motion space of a weights file.

    state: tensors, left as they are.  config: of the header.
    Raises MissingDependencyError when they do not fit.
    """
    weights = {k: v for k, v in state.items() if not k.startswith("space.")}
    space = MotionSpace(**{k: state[f"space.{k}"].float() for k in MotionSpace.__dataclass_fields__})
    return load_state_into(MotionEncoder(config["width"]), weights, "motion").eval().float(), space
