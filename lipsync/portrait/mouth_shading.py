"""Light inside a mouth: how much of the teeth shows between the lips, and how the lips shade them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch.nn import functional as F

Array = TypeVar("Array", np.ndarray, torch.Tensor)

DRAWN_LIP_SHADE = 0.35  # share of light that drawn teeth lose right below the upper lip
OWN_LIP_SHADE = 0.12  # the same of a portrait's own teeth, which were photographed with their shade
DRAWN_SLIT_SHADE = 0.65  # share that drawn teeth lose where the lips hardly part
OWN_SLIT_SHADE = 0.35  # the same of a portrait's own teeth
FLOOR_SHADE = 0.45  # share that the paint loses right above the lower lip
LIP_SHADE_ROWS = 2  # px of the working crop by which the inner mouth is lowered for the upper lip's shade
FLOOR_SHADE_ROWS = -2  # px, the same for the lower lip's
SHADE_BLUR_PX = 1.5  # deviation of the blur of both shades, px of the working crop
SLIT_BLUR_PX = 2.4  # deviation of the blur that tells a slit, px of the working crop


def alpha_composite(
    colours: torch.Tensor, teeth: torch.Tensor, inside: torch.Tensor, black: float = -1.0
) -> torch.Tensor:
    """Lay teeth over the colours of a mouth, (B, 3, h, w).

    colours: (B, 3, h, w) without teeth.
    teeth: (B, 5, h, w): colours in the same unit, cover, and 1 where they are the reference's own.
    inside: (B, 1, h, w) in [0, 1], the inner mouth on the patch.
    black: value of black in the colours' unit.
    """
    share = teeth[:, 3:4] * visibility(inside)
    return colours * (1 - share) + ((teeth[:, :3] - black) * shading(inside, teeth[:, 4:]) + black) * share


def visibility(inside: Array) -> Array:
    """Compute how much of the teeth shows in an inner mouth, both in [0, 1], of any shape, torch or numpy.

    A line along which lips meet has an inner mouth of a half, and shows none.
    """
    return (2 * inside - 1).clip(0, 1)


def shading(inside: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Compute the light on teeth, (B, 1, h, w) in [0, 1]: darker below the upper lip and between lips that hardly part.

    inside: (B, 1, h, w), the inner mouth on the patch of the working crop.
    own: (B, 1, h, w), 1 for the reference's own teeth, which were photographed with their shades and are darkened less.
    """
    lip_shade = DRAWN_LIP_SHADE + (OWN_LIP_SHADE - DRAWN_LIP_SHADE) * own
    slit_shade = DRAWN_SLIT_SHADE + (OWN_SLIT_SHADE - DRAWN_SLIT_SHADE) * own
    below_lip = 1 - lip_shade * (1 - _blur_inner_mouth(inside, LIP_SHADE_ROWS, SHADE_BLUR_PX))
    return below_lip * (1 - slit_shade * (1 - _blur_inner_mouth(inside, 0, SLIT_BLUR_PX)))


def compute_floor_shading(inside: torch.Tensor) -> torch.Tensor:
    """Compute the light on what is painted inside a mouth, (B, 1, h, w) in [0, 1]: darker right above the lower lip.

    inside: (B, 1, h, w), the inner mouth on the patch of the working crop.
    Without it lower teeth, of which the network is least certain, form a grey seam along the lip.
    """
    return 1 - FLOOR_SHADE * (1 - _blur_inner_mouth(inside, FLOOR_SHADE_ROWS, SHADE_BLUR_PX))


def _blur_inner_mouth(inside: torch.Tensor, rows: int, blur_px: float) -> torch.Tensor:
    """Lower the inner mouth (B, 1, h, w) by some rows and blur it, so that it falls from 1 to 0 towards one of the
    lips.
    """
    kernel = torch.exp(-(torch.arange(-4.0, 5.0, device=inside.device) ** 2) / (2 * blur_px**2))
    kernel = kernel / kernel.sum()
    x = F.pad(inside.float(), (4, 4, 4 + rows, 4 - rows))
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
