"""The renderer: a portrait and two lattices (how the face is, how it shall be) become flow, painted mouth and mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mouthpiece.engine.encoders.motion import ResBlock, make_coordinate_grid
from mouthpiece.lipsync.portrait.mouth_patch import FLOW_PX, MOUTH_PATCH, WORK_PX
from mouthpiece.lipsync.portrait.teeth import alpha_composite

LIP_ROWS = (20, 22)  # lattice rows that carry the upper and the lower lip, the mouth half open
LID_ROW = 10  # lattice row that carries the upper lid, the eye open
SIDE_BIAS = (2.0, 0.0, 0.0)  # at birth: mostly the plain flow, then upper lip, lower lip
FEATURE_CHANNELS = 16  # channels handed from flow to painter


@dataclass(frozen=True)
class Rendering:
    """What one frame needs, in crop space.

    flow: (B, 2, 96, 96) where each pixel reads the portrait, relative, in units of the crop.
    paint: (B, 3, 64, 112) colours of the mouth patch in [-1, 1], without upper teeth.  mask: (B, 1, 64, 112) share of
    the paint in [0, 1].
    """

    flow: torch.Tensor
    paint: torch.Tensor
    mask: torch.Tensor

    def add_teeth(self, teeth: torch.Tensor) -> Rendering:
        """The same with teeth (B, 5, 64, 112) in the paint; colours in [-1, 1]."""
        return Rendering(self.flow, alpha_composite(self.paint, teeth, self.mask), self.mask)


def warp(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Image (B, C, H, W) read at flow (B, 2, h, w) in units of the crop, enlarged to the image; edges repeat.

    Source: bilinear sampling, 1506.02025.
    """
    h, w = image.shape[-2:]
    if flow.shape[-2:] != (h, w):
        flow = F.interpolate(flow, size=(h, w), mode="bilinear", align_corners=False)
    at = make_coordinate_grid(h, w, image.device).to(flow.dtype) + 2 * flow
    return F.grid_sample(image, at.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False)


def crop_mouth_patch(x: torch.Tensor) -> torch.Tensor:
    """The mouth patch (B, C, 64, 112) of a working crop."""
    top, bottom, left, right = MOUTH_PATCH
    return x[..., top:bottom, left:right]


def sample_mouth_patch(x: torch.Tensor) -> torch.Tensor:
    """The mouth patch (B, C, 64, 112) of a field (B, C, n, n) over the whole crop, n a divisor of 192 and of its edges.
    Source: ours; no more is read.
    """
    step = WORK_PX // x.shape[-1]
    top, bottom, left, right = (edge // step for edge in MOUTH_PATCH)
    near = x[..., top - 1 : bottom + 1, left - 1 : right + 1]
    return F.interpolate(near, scale_factor=float(step), mode="bilinear", align_corners=False)[
        ..., step:-step, step:-step
    ]


def split_lip_sides(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A change of lattice as the upper lip and lid make it, and as the lower lip does: each one's row held across the
    gap.

    change: (B, 2, 32, 32).
    Source: ours; a bilinear lattice cannot tear, lips and lids must.
    """
    upper, lower = change.clone(), change.clone()
    upper[:, :, LIP_ROWS[0] + 1 :] = change[:, :, LIP_ROWS[0] : LIP_ROWS[0] + 1]
    upper[:, :, LID_ROW + 1] = change[:, :, LID_ROW]
    lower[:, :, : LIP_ROWS[1]] = change[:, :, LIP_ROWS[1] : LIP_ROWS[1] + 1]
    return upper, lower


class RendererUNet(nn.Module):
    """Small U-Net over a picture (B, channels_in, H, W); H and W divide by two as often as there are further widths.

    channels_in: of the picture.  widths: channels from fine to coarse.  depth: residual blocks a step down.
    Source: 1505.04597 with pre-activation residual blocks.
    """

    def __init__(self, channels_in: int, widths: list[int] | tuple[int, ...], depth: int = 2) -> None:
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


class Renderer(nn.Module):
    """Portrait crop (B, 3, 192, 192) in [-1, 1], lattices (B, 2, 32, 32) of it and of the wish, teeth (B, 5, 64, 112)
    -> `Rendering`.

    Three coarse flows come from the difference of the lattices: as it is, with the upper lip's value held downward,
    with the lower lip's held
    upward. The network chooses between them pixel by pixel, so that lips part and meet without smearing, refines, then
    paints what
    a warp cannot show: the inside of the mouth, but for the upper teeth, which stand still on the skull and are laid
    over (lipsync/portrait/teeth.py).
    `predict_teeth` looks at the portrait, once a clip: its own teeth, and where its lips meet.
    Source: ours, after first-order motion models (2003.00196); why: docs/architecture.md, docs/log.md.
    """

    def __init__(
        self,
        flow_widths: tuple[int, int, int] | list[int] = (32, 64, 96, 128),
        paint_widths: tuple[int, int, int] | list[int] = (32, 64, 96),
        survey_widths: tuple[int, int] | list[int] = (24, 40, 64),
    ) -> None:
        super().__init__()
        self.config = dict(
            flow_widths=list(flow_widths), paint_widths=list(paint_widths), survey_widths=list(survey_widths)
        )
        self.flow_net = RendererUNet(4 * 3 + 2 + 2 + 2 + 2, flow_widths)
        self.flow_out = nn.Conv2d(flow_widths[0], 2 + len(SIDE_BIAS), 3, padding=1)
        self.features = nn.Conv2d(flow_widths[0], FEATURE_CHANNELS, 1)
        self.paint_net = RendererUNet(3 + 3 + 2 + 2 + FEATURE_CHANNELS + 2 + 5, paint_widths)
        self.paint_out = nn.Conv2d(paint_widths[0], 4, 3, padding=1)
        self.survey_net = RendererUNet(3 + 2, survey_widths)
        self.survey_out = nn.Conv2d(survey_widths[0], 2, 3, padding=1)
        for layer in (self.flow_out, self.paint_out, self.survey_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.paint_out.bias.data[3] = -2.0
        self.survey_out.bias.data[:] = -2.0

    def predict_teeth(self, portrait: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2, 64, 112) of a portrait (B, 3, 192, 192) in [-1, 1]: cover of its own teeth, and
        `teeth.lip_band` of its lips.
        """
        place = (
            make_coordinate_grid(WORK_PX, WORK_PX, portrait.device).to(portrait.dtype).expand(len(portrait), -1, -1, -1)
        )
        x = torch.cat([crop_mouth_patch(portrait), crop_mouth_patch(place)], 1).contiguous(
            memory_format=torch.channels_last
        )
        return self.survey_out(self.survey_net(x)).float()

    def forward(
        self, portrait: torch.Tensor, lattice_is: torch.Tensor, lattice_wish: torch.Tensor, teeth: torch.Tensor
    ) -> Rendering:
        """Rendering of a portrait (B, 3, 192, 192) in [-1, 1]: how it is, how it shall be, lattices (B, 2, 32, 32); its
        teeth (B, 5, 64, 112).
        """
        small = F.interpolate(portrait, size=FLOW_PX, mode="area")
        change = lattice_is - lattice_wish
        own, wish, coarse, upper, lower = (
            F.interpolate(z, size=FLOW_PX, mode="bilinear", align_corners=False)
            for z in (lattice_is, lattice_wish, change, *split_lip_sides(change))
        )
        place = (
            make_coordinate_grid(FLOW_PX, FLOW_PX, portrait.device).to(portrait.dtype).expand(len(portrait), -1, -1, -1)
        )
        seen = [warp(small, f) for f in (coarse, upper, lower)]
        x = torch.cat([small, *seen, 20 * coarse, 20 * own, 20 * wish, place], 1)
        h = self.flow_net(x.contiguous(memory_format=torch.channels_last))
        out = self.flow_out(h).float()
        share = (out[:, 2:] + out.new_tensor(SIDE_BIAS)[:, None, None]).softmax(1)
        flow = coarse * share[:, :1] + upper * share[:, 1:2] + lower * share[:, 2:] + out[:, :2] * 0.05
        at = sample_mouth_patch(place)
        there = crop_mouth_patch(
            make_coordinate_grid(WORK_PX, WORK_PX, portrait.device).to(flow.dtype)
        ) + 2 * sample_mouth_patch(flow)
        moved = F.grid_sample(
            portrait.to(flow.dtype),
            there.permute(0, 2, 3, 1),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        y = torch.cat(
            [
                moved,
                crop_mouth_patch(portrait),
                20 * sample_mouth_patch(flow),
                20 * sample_mouth_patch(wish),
                sample_mouth_patch(self.features(h).float()),
                at,
                teeth,
            ],
            1,
        )
        out = self.paint_out(self.paint_net(y.contiguous(memory_format=torch.channels_last))).float()
        return Rendering(flow, torch.tanh(out[:, :3]), torch.sigmoid(out[:, 3:]))


def composite_mouth(portrait: torch.Tensor, rendering: Rendering) -> torch.Tensor:
    """The rendered working crop (B, 3, 192, 192) in [-1, 1]: warped portrait with the painted mouth blended in.

    portrait: (B, 3, 192, 192) in [-1, 1].  rendering: of the same batch.
    """
    warped = warp(portrait, rendering.flow)
    top, bottom, left, right = MOUTH_PATCH
    mask = rendering.mask * make_edge_fade(bottom - top, right - left, device=warped.device)
    out = warped.clone()  # learning reads the warped mouth again: it must not be painted over
    out[..., top:bottom, left:right] = crop_mouth_patch(warped) * (1 - mask) + rendering.paint * mask
    return out


def make_edge_fade(height: int, width: int, margin: int = 8, device: torch.device | None = None) -> torch.Tensor:
    """Weight (1, 1, height, width) that falls to zero at the border of the patch, so that it leaves no seam."""
    down, across = (torch.arange(n, device=device) for n in (height, width))
    down, across = (torch.minimum(at, at.flip(0)).float().div(margin).clamp(0, 1) for at in (down, across))
    return (down[:, None] * across[None])[None, None]
