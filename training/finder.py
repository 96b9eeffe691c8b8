"""Training of the finder of open eyes and mouths, taught by the mesh on portraits and clips."""

from __future__ import annotations

import operator
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.weights.loading import save_state
from mouthpiece.lipsync.portrait.opening_segmenter import (
    EYE_WINDOW,
    HEIGHT_PX,
    MOUTH_WINDOW,
    WIDTH_PX,
    NetworkWindow,
    OpeningSegmenter,
    measure_opening,
)
from mouthpiece.training.data.manifest import is_common_speaker
from mouthpiece.training.mesh_geometry import (
    INNER_LIP_RING,
    LID_LOWER,
    LID_UPPER,
    measure_eye_aperture,
    measure_mesh_opening,
)
from mouthpiece.training.motion import jitter_colour
from mouthpiece.training.motion_space import iterate_meshes, split_crop_files
from mouthpiece.training.training_run import (
    TrainingRun,
    WeightAverage,
    choose_training_device,
    fit,
    load_earlier_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PEAK_RATE = 2e-3  # learning rate
EYE_CORNERS = ((33, 133), (263, 362))  # outer and inner, of the eye at the left of the picture and the other
# a clip shows its eye, and its mouth, so often; and where it is most shut
EYE_EVERY_TICKS, MOUTH_EVERY_TICKS = 25, 6
CLIP_ODDS = dict(eyes=0.25, mouth=0.08)  # a clip's picture is drawn so much less often than a portrait's
COMMON_SPEAKER_ODDS = 0.1  # the speaker there is most of, less often again
OCCLUDED_SHARE = 0.04  # share of eyes behind something dark
SUPERSAMPLING = 4  # the target share is drawn so much larger
# area that both sides of the overlap are given, so that something shut counts too
DICE_SMOOTHING_PX = 8.0


def get_eye_outline(marks: np.ndarray, eye: int) -> np.ndarray:
    """Return (16, 2) outline of an open eye on the unit square. marks: (468 or more, 2).  eye: 0 at the left of the
    picture,
    1.
    """
    outer, inner = EYE_CORNERS[eye]
    return marks[[outer, *LID_UPPER[eye], inner, *LID_LOWER[eye][::-1]]]


def mirror_crop(frame: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a crop (S, S, 3) and its marks (N, 2) the other way round, of the same memory."""
    return frame[:, ::-1], marks * [-1, 1] + [1, 0]


def list_eye_items(frame: np.ndarray, marks: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return items (crop, outline) of both eyes, the second of the mirrored crop."""
    other, turned = mirror_crop(frame, marks)
    return [(frame, get_eye_outline(marks, 0)), (other, get_eye_outline(turned, 1))]


def list_mouth_items(frame: np.ndarray, marks: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return items (crop, outline) of the inner mouth, as it is and mirrored."""
    other, turned = mirror_crop(frame, marks)
    return [(frame, marks[INNER_LIP_RING]), (other, turned[INNER_LIP_RING])]


class OutlineExamples:
    """Crops with outlines of one kind.

    kind: "eyes" or "mouth".  clips, portraits: paths of crop files.
    """

    def __init__(self, kind: str, clips: list[Path], portraits: list[Path]) -> None:
        self.view, self.occludes = (EYE_WINDOW, True) if kind == "eyes" else (MOUTH_WINDOW, False)
        items_in, every, wide = (
            (list_eye_items, EYE_EVERY_TICKS, measure_eye_aperture)
            if kind == "eyes"
            else (list_mouth_items, MOUTH_EVERY_TICKS, measure_mesh_opening)
        )
        self.items: list[tuple[np.ndarray, np.ndarray]] = []  # crop and outline
        odds: list[float] = []
        for path, marks in iterate_meshes(clips):
            frames = np.load(path)["frames"]
            for t in sorted({*range(0, len(marks), every), int(np.argmin(wide(marks[..., :2])))}):
                self.items += items_in(frames[t].copy(), marks[t, :, :2].astype(np.float32))
                odds += [CLIP_ODDS[kind] * (COMMON_SPEAKER_ODDS if is_common_speaker(path.name) else 1.0)] * 2
        for path in portraits:
            d = np.load(path)
            self.items += items_in(d["frames"], d["marks"][:, :2].astype(np.float32))
            odds += [1.0] * 2
        self.odds = torch.tensor(odds)

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pictures (B, 3, 64, 96) in [0, 1] and the target shares of them (B, 1, 64, 96)."""
        drawn = torch.multinomial(self.odds, count, replacement=True, generator=generator).tolist()
        items = (self.items[k] for k in drawn)
        pictures, shares = zip(
            *(render_example(frame, points, self.view, sample_placement(generator)) for frame, points in items)
        )
        x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        y = torch.from_numpy(np.stack(shares))[:, None]
        x = degrade(jitter_colour(x, generator), generator)
        return occlude(x, y, generator) if self.occludes else (x, y)


class CutPlacement(NamedTuple):
    """Say where a training picture is cut, against where it is cut at inference.

    scale: factor.  turn: rad.  right, down: shift in units of the crop.
    """

    scale: float = 1.0
    turn: float = 0.0
    right: float = 0.0
    down: float = 0.0


def sample_placement(generator: torch.Generator) -> CutPlacement:
    """Sample where a training picture is cut. generator: decides everything."""
    a, b, c, d = (2 * torch.rand(4, generator=generator) - 1).tolist()
    return CutPlacement(1.2**a, 0.25 * b, 0.02 * c, 0.015 * d)


def render_example(
    frame: np.ndarray, points: np.ndarray, view: NetworkWindow, placement: CutPlacement = CutPlacement()
) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture uint8 (64, 96, 3) and share (64, 96) float32 of what an outline holds.

    frame: (S, S, 3) crop.  points: (N, 2) outline.  view: window of the network.
    placement: where the picture is cut.
    """
    scale, turn, right, down = placement
    # picture from unit square
    m = view.crop_px * scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    t = np.array([WIDTH_PX, HEIGHT_PX]) / 2 - m @ (np.array(view.at) + [right, down])
    side = len(frame)
    to_picture = np.c_[m / side, m @ np.full(2, 0.5 / side) + t - 0.5]
    picture = cv2.warpAffine(
        np.ascontiguousarray(frame),
        to_picture,
        (WIDTH_PX, HEIGHT_PX),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    large = np.zeros((HEIGHT_PX * SUPERSAMPLING, WIDTH_PX * SUPERSAMPLING), np.uint8)
    corners = np.round(((points @ m.T + t) * SUPERSAMPLING - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(large, [corners], (255,), shift=4)
    return picture, cv2.resize(large, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def degrade(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return pictures (B, 3, 64, 96) in [0, 1] from worse cameras and by painters: blurred, small, flat in colour,
    noisy.
    """
    n = len(x)
    chance = torch.rand(n, 4, generator=generator)
    for k in range(n):
        if chance[k, 0] < 0.25:
            small = F.interpolate(x[k : k + 1], scale_factor=0.25 + 0.6 * float(chance[k, 1]), mode="area")
            x[k] = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)[0]
        if chance[k, 2] < 0.08:
            levels = 4 + 6 * float(chance[k, 1])
            x[k] = (x[k] * levels).round() / levels
    noise = torch.randn(x.shape, generator=generator) * 0.05 * chance[:, 3, None, None, None] ** 2
    return (x + noise).clamp(0, 1)


def occlude(x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures (B, 3, 64, 96) of which a few show dark glass and nothing behind. y: (B, 1, 64, 96)."""
    covered = (torch.rand(len(x), generator=generator) < OCCLUDED_SHARE).view(-1, 1, 1, 1)
    glass = torch.rand(len(x), 3, 1, 1, generator=generator) * 0.25 + 0.1 * x.mean(1, keepdim=True)
    return torch.where(covered, glass, x), torch.where(covered, torch.zeros_like(y), y)


def compute_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy, with the overlap besides, for eyes are small. logits, target: (B, 1, 64, 96). Source:
    V-Net's
    dice, 1606.04797.
    """
    share = logits.sigmoid()
    both = (share * target).sum((1, 2, 3))
    dice = 1 - (2 * both + DICE_SMOOTHING_PX) / (share.sum((1, 2, 3)) + target.sum((1, 2, 3)) + DICE_SMOOTHING_PX)
    return 4 * F.binary_cross_entropy_with_logits(logits, target) + dice.mean()


@torch.inference_mode()
def score_finder(network: Callable[[torch.Tensor], torch.Tensor], examples: OutlineExamples) -> dict[str, float | None]:
    """Return the overlap over union in plain pictures, and of the greatest opening its error and its correlation with
    the mesh's;
    in units of the crop.
    """
    unions, openings = [], []
    for frame, points in examples.items:
        picture, target = render_example(frame, points, examples.view)
        share = network(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1).sigmoid()[0, 0].numpy()
        unions.append(
            (np.minimum(share, target).sum() + DICE_SMOOTHING_PX)
            / (np.maximum(share, target).sum() + DICE_SMOOTHING_PX)
        )
        openings.append([measure_opening(s) * MOUTH_WINDOW.crop_px / examples.view.crop_px for s in (share, target)])
    found, true = np.array(openings).T
    alike = float(np.corrcoef(found, true)[0, 1]) if min(found.std(), true.std()) > 0 else None
    return dict(
        pictures=len(unions),
        overlap=float(np.mean(unions)),
        height_error=float(abs(found - true).mean()),
        height_correlation=alike,
    )


def train(
    out: Path,
    minutes: float = 20.0,
    seed: int = 0,
    report: Callable[..., Any] | None = None,
    batch: int = 16,
    weights: Path | None = None,
    *,
    device: str = "auto",
) -> dict[str, dict[str, float | None] | None]:
    """Train on OUT/crops; writes the weights and returns their scores on portraits and clips kept out.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `TrainingRun.advance`.  batch: eyes, and mouths, a step.  weights: file to write; None is
    OUT/finder.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    A finder.safetensors that is there without a checkpoint is trained on.
    Raises UsageError when an earlier stage is missing or for another device, MissingDependencyError for a GPU that is
    not there.
    """
    torch.manual_seed(seed)
    placement, out = choose_training_device(device), Path(out)
    parts = split_crop_files(out)
    examples = {kind: OutlineExamples(kind, parts["clips"], parts["portraits"]) for kind in CLIP_ODDS}
    net = OpeningSegmenter().to(placement.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=0.02)
    average = WeightAverage(net)
    load_earlier_weights(out / "finder.safetensors", "finder", net, average.module)
    run = TrainingRun(out / "finder.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    generator = torch.Generator().manual_seed(seed + run.step)

    def compute_step(step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        losses = {}
        for kind, drawn in examples.items():
            x, y = (v.to(placement.device) for v in drawn.draw(batch, generator))
            with placement.autocast():
                logits = getattr(net, f"segment_{kind}")(2 * x - 1)
            losses[kind] = compute_loss(logits, y)
        return reduce(operator.add, losses.values()), losses

    segmenter = fit(run, average, compute_step, PEAK_RATE, report)
    facts: dict[str, dict[str, float | None] | None] = {}
    for kind in CLIP_ODDS:
        for name in ("held_portraits", "held_clips"):
            kept = OutlineExamples(kind, *([], parts[name]) if name == "held_portraits" else (parts[name], []))
            facts[f"{kind}_{name}"] = score_finder(getattr(segmenter, f"segment_{kind}"), kept) if kept.items else None
    save_state(
        weights or out / "finder.safetensors", segmenter.state_dict(), dict(net.config, facts=facts, steps=run.step)
    )
    return facts
