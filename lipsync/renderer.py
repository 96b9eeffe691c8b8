"""The renderer: a portrait and two lattices (how the face is, how it shall be) become flow, painted mouth and mask."""
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from engine.encoders.vision import ResBlock, coordinates
from lipsync.patch import FLOW_PX, PATCH, WORK_PX
from lipsync.teeth import laid_over

LIP_ROWS = (20, 22)                    # lattice rows that carry the upper and the lower lip, the mouth half open
LID_ROW = 10                           # lattice row that carries the upper lid, the eye open
SIDES = (2.0, 0.0, 0.0)                # at birth: mostly the plain flow, then upper lip, lower lip
FEATURES = 16                          # channels handed from flow to painter


@dataclass(frozen=True)
class Rendering:
    """What one frame needs, in crop space.

    flow: (B, 2, 96, 96) where each pixel reads the portrait, relative, in units of the crop.
    paint: (B, 3, 64, 112) colours of the mouth patch in [-1, 1], without upper teeth.  mask: (B, 1, 64, 112) share of the paint in [0, 1].
    Source: ours.
    """
    flow: torch.Tensor
    paint: torch.Tensor
    mask: torch.Tensor

    def filled(self, teeth):
        """The same with teeth (B, 5, 64, 112) in the paint; colours in [-1, 1]."""
        return Rendering(self.flow, laid_over(self.paint, teeth, self.mask), self.mask)


def warp(image, flow):
    """Image (B, C, H, W) read at flow (B, 2, h, w) in units of the crop, enlarged to the image; edges repeat.

    Source: bilinear sampling, 1506.02025.
    """
    h, w = image.shape[-2:]
    if flow.shape[-2:] != (h, w):
        flow = F.interpolate(flow, size=(h, w), mode="bilinear", align_corners=False)
    at = coordinates(h, w, image.device).to(flow.dtype) + 2 * flow
    return F.grid_sample(image, at.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False)


def patch(x):
    """The mouth patch (B, C, 64, 112) of a working crop. Source: ours."""
    top, bottom, left, right = PATCH
    return x[..., top:bottom, left:right]


def patch_of_field(x):
    """The mouth patch (B, C, 64, 112) of a field (B, C, n, n) over the whole crop, n a divisor of 192 and of its edges. Source: ours; no more is read."""
    step = WORK_PX // x.shape[-1]
    top, bottom, left, right = (edge // step for edge in PATCH)
    near = x[..., top - 1 : bottom + 1, left - 1 : right + 1]
    return F.interpolate(near, scale_factor=float(step), mode="bilinear", align_corners=False)[..., step:-step, step:-step]


def lip_sides(change):
    """A change of lattice as the upper lip and lid make it, and as the lower lip does: each one's row held across the gap.

    change: (B, 2, 32, 32).
    Source: ours; a bilinear lattice cannot tear, lips and lids must.
    """
    upper, lower = change.clone(), change.clone()
    upper[:, :, LIP_ROWS[0] + 1 :] = change[:, :, LIP_ROWS[0] : LIP_ROWS[0] + 1]
    upper[:, :, LID_ROW + 1] = change[:, :, LID_ROW]
    lower[:, :, : LIP_ROWS[1]] = change[:, :, LIP_ROWS[1] : LIP_ROWS[1] + 1]
    return upper, lower


class UNet(nn.Module):
    """Small U-Net over a picture (B, channels_in, H, W); H and W divide by two as often as there are further widths.

    channels_in: of the picture.  widths: channels from fine to coarse.  depth: residual blocks a step down.
    Source: 1505.04597 with pre-activation residual blocks.
    """

    def __init__(self, channels_in, widths, depth=2):
        super().__init__()
        steps = list(zip(widths, widths[1:]))
        self.inlet = nn.Conv2d(channels_in, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), *(ResBlock(b) for _ in range(depth))) for a, b in steps)
        self.first = ResBlock(widths[0])
        self.lift = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.up = nn.ModuleList(ResBlock(a) for a in widths[:-1])

    def forward(self, x):
        skips = [self.first(self.inlet(x))]
        for down in self.down:
            skips.append(down(skips[-1]))
        h = skips.pop()
        for lift, up, skip in zip(reversed(self.lift), reversed(self.up), reversed(skips)):
            h = up(skip + F.interpolate(lift(h), scale_factor=2.0))
        return h


class Renderer(nn.Module):
    """Portrait crop (B, 3, 192, 192) in [-1, 1], lattices (B, 2, 32, 32) of it and of the wish, teeth (B, 5, 64, 112) -> `Rendering`.

    Three coarse flows come from the difference of the lattices: as it is, with the upper lip's value held downward, with the lower lip's held
    upward. The network chooses between them pixel by pixel, so that lips part and meet without smearing, refines, then paints what
    a warp cannot show: the inside of the mouth, but for the upper teeth, which stand still on the skull and are laid over (lipsync/teeth.py).
    `survey` looks at the portrait, once a clip: its own teeth, and where its lips meet.
    Source: ours, after first-order motion models (2003.00196); why: docs/architecture.md, docs/log.md.
    """

    def __init__(self, flow_widths=(32, 64, 96, 128), paint_widths=(32, 64, 96), survey_widths=(24, 40, 64)):
        super().__init__()
        self.config = dict(flow_widths=list(flow_widths), paint_widths=list(paint_widths), survey_widths=list(survey_widths))
        self.flow_net = UNet(4 * 3 + 2 + 2 + 2 + 2, flow_widths)
        self.flow_out = nn.Conv2d(flow_widths[0], 2 + len(SIDES), 3, padding=1)
        self.features = nn.Conv2d(flow_widths[0], FEATURES, 1)
        self.paint_net = UNet(3 + 3 + 2 + 2 + FEATURES + 2 + 5, paint_widths)
        self.paint_out = nn.Conv2d(paint_widths[0], 4, 3, padding=1)
        self.survey_net = UNet(3 + 2, survey_widths)
        self.survey_out = nn.Conv2d(survey_widths[0], 2, 3, padding=1)
        for layer in (self.flow_out, self.paint_out, self.survey_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.paint_out.bias.data[3] = -2.0
        self.survey_out.bias.data[:] = -2.0

    def survey(self, portrait):
        """Logits (B, 2, 64, 112) of a portrait (B, 3, 192, 192) in [-1, 1]: cover of its own teeth, and `teeth.lip_band` of its lips."""
        place = coordinates(WORK_PX, WORK_PX, portrait.device).to(portrait.dtype).expand(len(portrait), -1, -1, -1)
        x = torch.cat([patch(portrait), patch(place)], 1).contiguous(memory_format=torch.channels_last)
        return self.survey_out(self.survey_net(x)).float()

    def forward(self, portrait, lattice_is, lattice_wish, teeth):
        """Rendering of a portrait (B, 3, 192, 192) in [-1, 1]: how it is, how it shall be, lattices (B, 2, 32, 32); its teeth (B, 5, 64, 112)."""
        small = F.interpolate(portrait, size=FLOW_PX, mode="area")
        change = lattice_is - lattice_wish
        own, wish, coarse, upper, lower = (F.interpolate(z, size=FLOW_PX, mode="bilinear", align_corners=False)
                                           for z in (lattice_is, lattice_wish, change, *lip_sides(change)))
        place = coordinates(FLOW_PX, FLOW_PX, portrait.device).to(portrait.dtype).expand(len(portrait), -1, -1, -1)
        seen = [warp(small, f) for f in (coarse, upper, lower)]
        x = torch.cat([small, *seen, 20 * coarse, 20 * own, 20 * wish, place], 1)
        h = self.flow_net(x.contiguous(memory_format=torch.channels_last))
        out = self.flow_out(h).float()
        share = (out[:, 2:] + out.new_tensor(SIDES)[:, None, None]).softmax(1)
        flow = coarse * share[:, :1] + upper * share[:, 1:2] + lower * share[:, 2:] + out[:, :2] * 0.05
        at = patch_of_field(place)
        there = patch(coordinates(WORK_PX, WORK_PX, portrait.device).to(flow.dtype)) + 2 * patch_of_field(flow)
        moved = F.grid_sample(portrait.to(flow.dtype), there.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False)
        y = torch.cat([moved, patch(portrait), 20 * patch_of_field(flow), 20 * patch_of_field(wish),
                       patch_of_field(self.features(h).float()), at, teeth], 1)
        out = self.paint_out(self.paint_net(y.contiguous(memory_format=torch.channels_last))).float()
        return Rendering(flow, torch.tanh(out[:, :3]), torch.sigmoid(out[:, 3:]))


def compose(portrait, rendering):
    """The rendered working crop (B, 3, 192, 192) in [-1, 1]: warped portrait with the painted mouth blended in.

    portrait: (B, 3, 192, 192) in [-1, 1].  rendering: of the same batch.
    Source: ours.
    """
    warped = warp(portrait, rendering.flow)
    top, bottom, left, right = PATCH
    mask = rendering.mask * edge_fade(bottom - top, right - left, device=warped.device)
    out = warped.clone()                # learning reads the warped mouth again: it must not be painted over
    out[..., top:bottom, left:right] = patch(warped) * (1 - mask) + rendering.paint * mask
    return out


def edge_fade(height, width, margin=8, device=None):
    """Weight (1, 1, height, width) that falls to zero at the border of the patch, so that it leaves no seam. Source: ours."""
    down, across = (torch.arange(n, device=device) for n in (height, width))
    down, across = (torch.minimum(at, at.flip(0)).float().div(margin).clamp(0, 1) for at in (down, across))
    return (down[:, None] * across[None])[None, None]
