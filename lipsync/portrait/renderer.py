"""The renderer's network, and FaceRenderer, which runs it: a reference face and a wanted lattice become the parts of a
frame.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from mouthpiece.engine.encoders.motion import make_coordinate_grid
from mouthpiece.engine.weights.loading import load_state, load_state_into
from mouthpiece.lipsync.portrait.frame_parts import FrameParts, ReferenceFace
from mouthpiece.lipsync.portrait.lip_line import MouthLogits
from mouthpiece.lipsync.portrait.mouth_patch import FLOW_PX, MOUTH_PATCH, WORK_PX
from mouthpiece.lipsync.portrait.mouth_shading import alpha_composite, compute_floor_shading, shading
from mouthpiece.lipsync.portrait.teeth import build_teeth, to_teeth_tensor
from mouthpiece.lipsync.portrait.unet import ResidualUNet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from mouthpiece.engine.device import Placement

LIP_ROWS = (20, 22)  # lattice rows that carry the upper and the lower lip, the mouth half open
LID_ROW = 10  # lattice row that carries the upper lid, the eye open
SIDE_BIAS = (2.0, 0.0, 0.0)  # at birth: mostly the plain flow, then upper lip, lower lip
FEATURE_CHANNELS = 16  # channels handed from flow to painter
MASK_RANGE = (0.35, 0.80)  # values of the mask that are stretched to 0 and 1


@dataclass(frozen=True)
class Rendering:
    """Hold what the network predicts for a batch of frames, in crop space.

    flow: (B, 2, 96, 96), where each pixel reads the reference, relative, in units of the crop.
    paint: (B, 3, 64, 112), colours of the mouth patch in [-1, 1], without upper teeth.
    mask: (B, 1, 64, 112) in [0, 1], share of the paint.
    """

    flow: torch.Tensor
    paint: torch.Tensor
    mask: torch.Tensor

    def add_teeth(self, teeth: torch.Tensor) -> Rendering:
        """Return the rendering with teeth (B, 5, 64, 112), colours in [-1, 1], laid over its paint."""
        return Rendering(self.flow, alpha_composite(self.paint, teeth, self.mask), self.mask)


def warp(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Warp an image (B, C, H, W) by a flow (B, 2, h, w) in units of the crop, enlarged to the image; edges repeat.

    Source: bilinear sampling, 1506.02025.
    """
    h, w = image.shape[-2:]
    if flow.shape[-2:] != (h, w):
        flow = F.interpolate(flow, size=(h, w), mode="bilinear", align_corners=False)
    at = make_coordinate_grid(h, w, image.device).to(flow.dtype) + 2 * flow
    return F.grid_sample(image, at.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False)


def crop_mouth_patch(x: torch.Tensor) -> torch.Tensor:
    """Cut the mouth patch (B, C, 64, 112) out of a working crop (B, C, 192, 192)."""
    top, bottom, left, right = MOUTH_PATCH
    return x[..., top:bottom, left:right]


def sample_mouth_patch(x: torch.Tensor) -> torch.Tensor:
    """Upsample the mouth patch (B, C, 64, 112) of a field (B, C, n, n) over the whole crop, reading no more than it
    needs.

    n: a divisor of 192 that also divides the edges of the patch.
    """
    step = WORK_PX // x.shape[-1]
    top, bottom, left, right = (edge // step for edge in MOUTH_PATCH)
    near = x[..., top - 1 : bottom + 1, left - 1 : right + 1]
    return F.interpolate(near, scale_factor=float(step), mode="bilinear", align_corners=False)[
        ..., step:-step, step:-step
    ]


def split_lip_sides(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split a change of lattice (B, 2, 32, 32) into one of the upper lip and lid and one of the lower lip.

    Each side's row is held across the gap: a bilinear lattice cannot tear, but lips and lids must.
    """
    upper, lower = change.clone(), change.clone()
    upper[:, :, LIP_ROWS[0] + 1 :] = change[:, :, LIP_ROWS[0] : LIP_ROWS[0] + 1]
    upper[:, :, LID_ROW + 1] = change[:, :, LID_ROW]
    lower[:, :, : LIP_ROWS[1]] = change[:, :, LIP_ROWS[1] : LIP_ROWS[1] + 1]
    return upper, lower


class Renderer(nn.Module):
    """Predict a Rendering from a portrait, the lattice that it shows, the lattice that is wanted, and teeth.

    Three coarse flows come from the difference of the lattices: as it is, with the upper lip's value held downward,
    with
    the lower lip's held upward. The network chooses between them pixel by pixel, so that lips part and meet without
    smearing, and refines. Then it paints what a warp cannot show: the inside of the mouth, but for the upper teeth,
    which
    stand still on the skull and are laid over.
    flow_widths, paint_widths, survey_widths: channels of its three U-Nets, from fine to coarse.
    Source: first-order motion models, 2003.00196; docs/architecture.md, docs/log.md.
    """

    def __init__(
        self,
        flow_widths: Sequence[int] = (32, 64, 96, 128),
        paint_widths: Sequence[int] = (32, 64, 96),
        survey_widths: Sequence[int] = (24, 40, 64),
    ) -> None:
        super().__init__()
        self.config = dict(
            flow_widths=list(flow_widths), paint_widths=list(paint_widths), survey_widths=list(survey_widths)
        )
        self.flow_net = ResidualUNet(4 * 3 + 2 + 2 + 2 + 2, flow_widths)
        self.flow_out = nn.Conv2d(flow_widths[0], 2 + len(SIDE_BIAS), 3, padding=1)
        self.features = nn.Conv2d(flow_widths[0], FEATURE_CHANNELS, 1)
        self.paint_net = ResidualUNet(3 + 3 + 2 + 2 + FEATURE_CHANNELS + 2 + 5, paint_widths)
        self.paint_out = nn.Conv2d(paint_widths[0], 4, 3, padding=1)
        self.survey_net = ResidualUNet(3 + 2, survey_widths)
        self.survey_out = nn.Conv2d(survey_widths[0], 2, 3, padding=1)
        for layer in (self.flow_out, self.paint_out, self.survey_out):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        assert self.paint_out.bias is not None and self.survey_out.bias is not None  # a convolution's default
        self.paint_out.bias.data[3] = -2.0
        self.survey_out.bias.data[:] = -2.0

    def predict_teeth(self, portrait: torch.Tensor) -> torch.Tensor:
        """Predict logits (B, 2, 64, 112) of a portrait (B, 3, 192, 192) in [-1, 1]: its own teeth, and the band of its
        lips.
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
        """Predict the Rendering of a batch.

        portrait: (B, 3, 192, 192) in [-1, 1].
        lattice_is, lattice_wish: (B, 2, 32, 32), as the portrait is and as it is wanted.
        teeth: (B, 5, 64, 112), colours in [-1, 1].
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
    """Warp a portrait (B, 3, 192, 192) in [-1, 1] and blend the painted mouth in, as training compares it.

    rendering: of the same batch.
    """
    warped = warp(portrait, rendering.flow)
    top, bottom, left, right = MOUTH_PATCH
    mask = rendering.mask * make_edge_fade(bottom - top, right - left, device=warped.device)
    out = warped.clone()  # learning reads the warped mouth again: it must not be painted over
    out[..., top:bottom, left:right] = crop_mouth_patch(warped) * (1 - mask) + rendering.paint * mask
    return out


def make_edge_fade(height: int, width: int, margin: int = 8, device: torch.device | None = None) -> torch.Tensor:
    """Make a weight (1, 1, height, width) that falls to zero over a margin at the border of the patch, so that it
    leaves no
    seam.
    """
    down, across = (torch.arange(n, device=device) for n in (height, width))
    down, across = (torch.minimum(at, at.flip(0)).float().div(margin).clamp(0, 1) for at in (down, across))
    return (down[:, None] * across[None])[None, None]


def tighten_mask(rendering: Rendering) -> Rendering:
    """Stretch the mask of a rendering, so that lips keep the reference's own pixels, and shade its paint at the lower
    lip.

    rendering: float32.
    """
    low, high = MASK_RANGE
    mask = ((rendering.mask - low) / (high - low)).clamp(0, 1)
    return Rendering(rendering.flow, (rendering.paint + 1) * compute_floor_shading(mask) - 1, mask)


def to_frame_parts(rendering: Rendering, own_teeth: torch.Tensor | None = None) -> list[FrameParts]:
    """Convert a rendering to the FrameParts of each frame.

    own_teeth: (B or 1, 1, 64, 112), 1 where the teeth to be laid over are the reference's own; None: no teeth_light.
    """
    mask = rendering.mask.float() * make_edge_fade(*rendering.mask.shape[-2:])
    paint = torch.cat([(rendering.paint.float() + 1) * 127.5 * mask, mask], 1).permute(0, 2, 3, 1).numpy()
    flow = rendering.flow.float().permute(0, 2, 3, 1).numpy()
    lights = [None] * len(flow) if own_teeth is None else list(shading(rendering.mask.float(), own_teeth)[:, 0].numpy())
    return [FrameParts(*parts) for parts in zip(flow, paint, lights)]


class FaceRenderer:
    """Run the renderer's network for those who draw frames; outside of training nothing else calls it.

    network: in eval, on the device of placement.  placement: device and precision.
    """

    def __init__(self, network: Renderer, placement: Placement) -> None:
        self.network = network
        self.placement = placement

    @torch.inference_mode()
    def prepare_reference(self, pixels: np.ndarray, precise: bool = False) -> ReferenceFace:
        """Analyse the working crop of a face, once: find its teeth and where its lips meet.

        pixels: (192, 192, 3) uint8.
        precise: compute in float32 whatever the placement says; for a picture that all frames are made of.
        """
        crop = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
        with nullcontext() if precise else self.placement.autocast():
            logits = self.network.predict_teeth(crop[None].to(self.placement.device))[0].cpu().numpy()
        mouth = MouthLogits(*logits)
        return ReferenceFace(crop, to_teeth_tensor(build_teeth(pixels, mouth)), mouth)

    @torch.inference_mode()
    def render(
        self,
        references: ReferenceFace | Sequence[ReferenceFace],
        current: torch.Tensor,
        wanted: torch.Tensor,
        *,
        paint_teeth: bool,
    ) -> list[FrameParts]:
        """Render frames of faces that move from one lattice to another; returns the FrameParts of each.

        references: one for all frames, or a sequence with one for each.
        current: (N or 1, 2, 32, 32) lattices of the references.  wanted: (N, 2, 32, 32) lattices of the frames.
        paint_teeth: put the teeth into the paint; otherwise the caller lays them over, under `teeth_light`.
        """
        count, device = len(wanted), self.placement.device
        if isinstance(references, ReferenceFace):
            crops, teeth = references.crop[None], references.teeth[None]
        else:
            crops, teeth = (torch.stack([getattr(face, name) for face in references]) for name in ("crop", "teeth"))
        crop, now, shown = (x.to(device).expand(count, -1, -1, -1) for x in (crops, current, teeth))
        with self.placement.autocast():
            made = self.network(crop, now, wanted.to(device), shown)
        rendering = tighten_mask(Rendering(*(x.float().cpu() for x in (made.flow, made.paint, made.mask))))
        return to_frame_parts(rendering.add_teeth(teeth)) if paint_teeth else to_frame_parts(rendering, teeth[:, 4:])


def load_face_renderer(placement: Placement) -> FaceRenderer:
    """Load the renderer's embedded weights, placed and in eval.

    Raises MissingDependencyError for weights that are missing, broken or of another version.
    """
    state, config = load_state("renderer")
    network = Renderer(config["flow_widths"], config["paint_widths"], config["survey_widths"])
    network = load_state_into(network, state, "renderer").eval().float()
    return FaceRenderer(network.to(placement.device).to(memory_format=torch.channels_last), placement)
