"""Training of the renderer on puppets, whose flow is known."""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.encoders.motion import POSE_WIDTH, build_motion_encoder, encode_crops
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.weights.loading import read_state, save_state
from mouthpiece.lipsync.portrait.dentition import draw_dentition
from mouthpiece.lipsync.portrait.lip_line import draw_lip_band
from mouthpiece.lipsync.portrait.mouth_patch import FLOW_PX, MOUTH_PATCH, WORK_PX
from mouthpiece.lipsync.portrait.renderer import Renderer, composite_mouth, crop_mouth_patch, warp
from mouthpiece.lipsync.portrait.teeth import draw_teeth, extract_own_teeth, shows_enough_teeth
from mouthpiece.training.data.manifest import require_stage
from mouthpiece.training.data.puppets import add_teeth, locate_lip_line
from mouthpiece.training.mesh_geometry import POINT_COUNT, measure_mesh_opening
from mouthpiece.training.motion import compute_puppet_lattices, flip_lattice, jitter_colour
from mouthpiece.training.motion_space import split_crop_files
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

    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.encoders.motion import MotionEncoder, MotionSpace

COARSE_SHARE = 0.35  # of batches show pictures of half the detail: small films
PEAK_RATE, FLOW_WEIGHT = 1e-3, 120.0
# of puppets' targets have lips that meet: p, b and m of a smiling portrait
CLOSED_LIPS_SHARE = 0.3
CLOSED_LIPS_OPENING = 0.002  # opening below which lips meet, in units of the crop
# lips that meet may be wished pressed so far, in the same units: it looks no different
MAX_LIP_PRESS = 0.012
# what the motion encoder reads is scaled by this: of strangers it sees less, and the picture must tell
CODE_GAIN_RANGE = (0.35, 1.1)
DRAWN_TEETH_COUNT = 48  # sets of teeth that puppets wear


def load_motion_encoder(path: Path) -> tuple[MotionEncoder, MotionSpace]:
    """Return (MotionEncoder in eval, MotionSpace) of a weights file. Source: `train motion`."""
    return build_motion_encoder(*read_state(path, "motion"))


class PuppetPairs:
    """Puppet files in memory; any pose of a portrait is a reference for any other, with the exact flow between them.

    paths: puppet files.  encoder, space: of `load_motion_encoder`.  matrix: of `load_space`.
    """

    def __init__(self, paths: list[Path], encoder: MotionEncoder, space: MotionSpace, matrix: np.ndarray) -> None:
        rng = np.random.default_rng(11)
        # of an opening of one crop
        self.opening_lattice = space.to_lattice(
            F.pad(space.lips / (space.lips @ space.lips).clamp_min(1e-9), (0, POSE_WIDTH))
        )
        self.portraits, self.drawn_teeth = (
            [],
            [draw_dentition(rng if k else None) for k in range(DRAWN_TEETH_COUNT if len(paths) else 0)],
        )
        for path in paths:
            d = dict(np.load(path))
            teacher = space.to_code(torch.from_numpy(compute_puppet_lattices(d, matrix)))
            seen = torch.from_numpy(encode_puppet(path, d["images"], encoder, space))
            lattices: dict[str, Any] = dict(
                teacher=space.to_lattice(F.pad(teacher, (0, POSE_WIDTH))),
                seen=space.to_lattice(F.pad(seen, (0, POSE_WIDTH))),
            )
            lattices["line"] = locate_lip_line(d["shut"])
            lattices["meet"] = 1 + np.flatnonzero(
                measure_mesh_opening(d["points"][1:, :POINT_COUNT]) < CLOSED_LIPS_OPENING
            )
            self.portraits.append(
                lattices | {k: d[k] for k in ("images", "ids", "weights", "points", "mouths", "teeth", "tris")}
            )

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Return a pair of poses as dict: ref, target uint8 (192, 192, 3); is, wish (2, 32, 32), their lattices; teeth
        (64,
        112, 5) in both;
        flow (96, 96, 2) where the target reads the reference, units of the crop; known (96, 96), where that is known;
        inside
        (64, 112), the target's inner mouth; cover (64, 112), teeth that the reference shows; band (64, 112), where lips
        meet.
        """
        p = self.portraits[rng.integers(len(self.portraits))]
        count = len(p["images"])
        i, j = (0 if rng.random() < 0.65 else rng.integers(count)), rng.integers(count)
        if rng.random() < CLOSED_LIPS_SHARE and len(p["meet"]):
            j = rng.choice(p["meet"])
        wish = p["teacher"][j] - (rng.uniform(0, MAX_LIP_PRESS) * self.opening_lattice if j in p["meet"] else 0)
        cover = p["teeth"].astype(np.float32) / 255
        if shows_enough_teeth(cover) and (j == 0 or rng.random() < 0.8):
            top, bottom, left, right = MOUTH_PATCH
            teeth = extract_own_teeth(p["images"][0][top:bottom, left:right], cover)
        else:
            near = replace(
                p["line"],
                x=p["line"].x + rng.normal() * 0.006,
                y=p["line"].y + rng.normal() * 0.006,
                tilt_rad=p["line"].tilt_rad + rng.normal() * 0.02,
            )
            teeth = draw_teeth(
                near,
                p["images"][0],
                picture=self.drawn_teeth[rng.integers(len(self.drawn_teeth))],
                light=rng.uniform(0.7, 1.05),
            )
        ref, target = (self._apply_teeth(p, k, teeth) for k in (i, j))
        if i:
            cover = teeth[..., 3] * (p["mouths"][i].astype(np.float32) / 255)
        ids, w = p["ids"][j], p["weights"][j].astype(np.float32)
        corners = p["points"][i][p["tris"]][ids]
        source = (
            corners[..., 0, :] * w[..., :1]
            + corners[..., 1, :] * w[..., 1:]
            + corners[..., 2, :] * (1 - w.sum(-1, keepdims=True))
        )
        y, x = np.mgrid[0:FLOW_PX, 0:FLOW_PX]
        flow = source - (np.stack([x, y], -1) + 0.5) / FLOW_PX
        inside = p["mouths"][j].astype(np.float32) / 255
        known = (ids >= 0) * (downsample_mouth(inside) < 0.05) * (abs(flow).max(-1) < 0.2)
        is_ = p["seen"][i] * np.float32(rng.uniform(*CODE_GAIN_RANGE)) if rng.random() < 0.8 else p["teacher"][i]
        return dict(
            ref=ref,
            target=target,
            is_=is_,
            wish=wish,
            teeth=teeth,
            flow=flow.astype(np.float32),
            known=known.astype(np.float32),
            inside=inside,
            cover=cover,
            band=draw_lip_band(p["line"]),
        )

    @staticmethod
    def _apply_teeth(p: dict[str, Any], k: int, teeth: np.ndarray) -> np.ndarray:
        """Return the pose k of a portrait with these teeth in its mouth; the portrait itself has its own."""
        if k == 0:
            return p["images"][0]
        top, bottom, left, right = MOUTH_PATCH
        out = p["images"][k].copy()
        out[top:bottom, left:right] = add_teeth(
            out[top:bottom, left:right], teeth, p["mouths"][k].astype(np.float32) / 255
        )
        return out


def downsample_mouth(inside: np.ndarray) -> np.ndarray:
    """Return an inner mouth (64, 112) of the patch on the flow's grid (96, 96). Source: mean of four."""
    top, bottom, left, right = (v // 2 for v in MOUTH_PATCH)
    out = np.zeros((FLOW_PX, FLOW_PX), np.float32)
    out[top:bottom, left:right] = inside.reshape(bottom - top, 2, right - left, 2).mean((1, 3))
    return out


def encode_puppet(path: Path, images: np.ndarray, encoder: MotionEncoder, space: MotionSpace) -> np.ndarray:
    """Encode the pictures of a puppet file as motion codes (P, 26); kept beside the file for the next run."""
    mark = float(sum(p.detach().double().abs().sum() for p in encoder.parameters()))
    kept = Path(path).with_suffix(".seen.npy")
    if kept.exists() and (saved := np.load(kept))[0, 0] == mark:
        return saved[1:].astype(np.float32)
    codes = encode_crops(encoder, space, images)
    np.save(kept, np.concatenate([np.full((1, codes.shape[1]), mark), codes]))
    return codes


def collate(items: list[dict[str, Any]], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Collate drawn items into tensors by name as `PuppetPairs.draw` has them, channels first.

    Mirror and light are the same for all that belongs to one item.

    items: dicts of `draw`.  generator: decides mirror and light.
    """
    out = {k: torch.stack([torch.as_tensor(i[k]) for i in items]).float() for k in items[0]}
    out |= {k: out[k].permute(0, 3, 1, 2) for k in ("ref", "target", "teeth", "flow")}
    out |= {k: out[k][:, None] for k in ("known", "inside", "cover", "band")}
    mirror = torch.rand(len(items), 1, 1, 1, generator=generator) < 0.5
    top, bottom, left, right = MOUTH_PATCH
    teeth = F.pad(out["teeth"][:, :3], (left, WORK_PX - right, top, WORK_PX - bottom))
    light = jitter_colour(torch.cat([out["ref"], out["target"], teeth], 1) / 255, generator) * 2 - 1
    if float(torch.rand((), generator=generator)) < COARSE_SHARE:
        light = F.interpolate(F.avg_pool2d(light, 2), size=WORK_PX, mode="bilinear", align_corners=False)
    out |= dict(
        ref=light[:, :3],
        target=light[:, 3:6],
        teeth=torch.cat([crop_mouth_patch(light[:, 6:]), out["teeth"][:, 3:]], 1),
    )
    flat, fields = ("ref", "target", "teeth", "known", "inside", "cover", "band"), ("is_", "wish", "flow")
    return (
        out
        | {k: torch.where(mirror, out[k].flip(-1), out[k]) for k in flat}
        | {k: torch.where(mirror, flip_lattice(out[k]), out[k]) for k in fields}
    )


def make_weight_map() -> torch.Tensor:
    """Return where pixels matter (1, 1, 192, 192): mouth most, eyes next."""
    w = torch.ones(1, 1, WORK_PX, WORK_PX)
    w[..., 106:150, 54:138] = 8
    w[..., 54:80, 44:148] = 7
    return w / w.mean()


def compute_gradients(x: torch.Tensor) -> torch.Tensor:
    """Return differences downward, then to the right, (B, 2 C, H - 1, W - 1). Source: first differences."""
    return torch.cat([x[..., 1:, :-1] - x[..., :-1, :-1], x[..., :-1, 1:] - x[..., :-1, :-1]], 1)


def compute_render_losses(
    net: Renderer, batch: dict[str, torch.Tensor], weight: torch.Tensor, placement: Placement | None = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the loss parts of a batch by name, and the composed picture (B, 3, 192, 192).

    batch: of `collate`.  weight: of `make_weight_map`.  placement: where all of it lies; None is the CPU.
    """
    ref, target, inside, known = (batch[k] for k in ("ref", "target", "inside", "known"))
    with (placement or choose_device("cpu")).autocast():
        made, seen = net(ref, batch["is_"], batch["wish"], batch["teeth"]), net.predict_teeth(ref)
    picture, warped = composite_mouth(ref, made.add_teeth(batch["teeth"])), warp(ref, made.flow)
    focus = weight[..., ::2, ::2]
    top, bottom, left, right = MOUTH_PATCH
    hole = F.pad(inside, (left, WORK_PX - right, top, WORK_PX - bottom))
    mask = made.mask.clamp(1e-4, 1 - 1e-4)
    off = (picture - target).abs()
    parts = dict(
        flow=FLOW_WEIGHT * ((made.flow - batch["flow"]).abs() * known * focus).sum() / (known.sum() + 1) / 2,
        pixel=(off * weight).mean(),
        warped=((warped - target).abs() * weight * (1 - hole)).mean(),
        slope=2 * ((compute_gradients(picture) - compute_gradients(target)).abs() * weight[..., 1:, 1:]).mean(),
        inner=0.3 * (crop_mouth_patch(off) * inside).sum() / (3 * inside.sum() + 100),
        mask=2 * F.binary_cross_entropy(mask, inside, weight=0.5 + inside),
        survey=F.binary_cross_entropy_with_logits(seen, torch.cat([batch["cover"], batch["band"]], 1)),
    )
    return parts, picture


def train(
    out: Path,
    minutes: float = 40.0,
    seed: int = 0,
    report: Callable | None = None,
    batch: int = 8,
    weights: Path | None = None,
    *,
    device: str = "auto",
    limit: int | None = None,
) -> dict[str, float]:
    """Train on OUT/puppets with OUT/motion.safetensors; writes the weights, returns errors on people kept out.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `TrainingRun.advance`.  batch: items a step.
    weights: file to write; None is OUT/renderer.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    limit: portraits to use; None uses all.
    A renderer.safetensors that is there without a checkpoint is trained on.
    Raises UsageError when an earlier stage is missing or for another device, MissingDependencyError for a GPU that is
    not there.
    """
    torch.manual_seed(seed)
    out, placement = Path(out), choose_training_device(device)
    puppets, held = load_puppet_pairs(out, limit)
    net = Renderer().to(placement.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=0.01)
    load_earlier_weights(out / "renderer.safetensors", "renderer", net)  # one that saw no teeth will do
    average = WeightAverage(net)
    run = TrainingRun(out / "renderer.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    rng, generator = np.random.default_rng(seed + run.step), torch.Generator().manual_seed(seed + run.step)
    weight = make_weight_map().to(placement.device)

    def compute_step(step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        items = [puppets.draw(rng) for _ in range(batch)]
        data = {k: x.to(placement.device) for k, x in collate(items, generator).items()}
        losses, _ = compute_render_losses(net, data, weight, placement)
        return reduce(operator.add, losses.values()), losses

    renderer = fit(run, average, compute_step, PEAK_RATE, report, every=50)
    facts = score_renderer(renderer, held, weight.cpu()) if held.portraits else {}
    save_state(
        weights or out / "renderer.safetensors", renderer.state_dict(), dict(net.config, facts=facts, steps=run.step)
    )
    return facts


def load_puppet_pairs(out: Path, limit: int | None) -> tuple[PuppetPairs, PuppetPairs]:
    """Load the pairs to learn from and the pairs kept out of a working folder.

    limit: portraits of each; None uses all.
    Raises UsageError when an earlier stage is missing.
    """
    encoder, space = load_motion_encoder(require_stage("motion", out / "motion.safetensors"))
    matrix, parts, made = (
        np.load(out / "space.npz")["matrix"],
        split_crop_files(out),
        require_stage("puppets", out / "puppets"),
    )
    puppets, held = (
        PuppetPairs([made / p.name for p in parts[k][:limit] if (made / p.name).exists()], encoder, space, matrix)
        for k in ("portraits", "held_portraits")
    )
    if not puppets.portraits:
        raise UsageError(
            f"{out}: no puppets of portraits to learn from.",
            hint="Run 'mouthpiece train puppets' with the same --out first.",
            code="stage_missing",
        )
    return puppets, held


@torch.inference_mode()
def score_renderer(net: Renderer, people: PuppetPairs, weight: torch.Tensor, count: int = 160) -> dict[str, float]:
    """Return the weighted pixel error of the result, of the untouched reference, and flow error in units of the crop.

    people: pairs of people kept out.  count: how many are drawn.
    """
    rng, g, rows = np.random.default_rng(7), torch.Generator().manual_seed(7), []
    for _ in range(count // 8):
        data = collate([people.draw(rng) for _ in range(8)], g)
        parts, _ = compute_render_losses(net, data, weight)
        rows.append(
            (
                float(parts["pixel"]),
                float(((data["ref"] - data["target"]).abs() * weight).mean()),
                float(parts["flow"]) / FLOW_WEIGHT,
            )
        )
    r = np.mean(rows, 0)
    return dict(error=float(r[0]), still=float(r[1]), flow=float(r[2]))
