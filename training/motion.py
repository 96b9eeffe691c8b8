"""Training of the motion space and the motion encoder, taught by the mesh on clips and puppets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.encoders.motion import CROP_PX, LATTICE_NODES, MotionEncoder, MotionSpace
from mouthpiece.engine.weights.loading import save_state
from mouthpiece.training.data.manifest import is_common_speaker
from mouthpiece.training.mesh_geometry import POINT_COUNT, extract_motion, measure_mesh_opening
from mouthpiece.training.motion_space import (
    iterate_meshes,
    load_space,
    make_teacher_lattices,
    project_to_lattice,
    split_crop_files,
)
from mouthpiece.training.training_run import TrainingRun, WeightAverage, choose_training_device, fit

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.engine.device import Placement

PEAK_RATE = 1.2e-3  # learning rate
ORIGINAL_POSE_ODDS = 4.0  # how much oftener a portrait is drawn as it is than in one of its poses


def compute_puppet_lattices(d: dict[str, np.ndarray], matrix: np.ndarray) -> np.ndarray:
    """Compute the teacher lattices (P, 2, 32, 32) of a puppet file's poses. d: its arrays. matrix: of `load_space`."""
    displacement = d["points"][:, :POINT_COUNT].astype(float) - d["shut"][None]
    return project_to_lattice(displacement, matrix).astype(np.float32)


def flip_lattice(z: torch.Tensor) -> torch.Tensor:
    """Return displacements (B, 2, n, n) of mirrored faces."""
    return z.flip(-1) * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)


def jitter_colour(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return pictures (B, C, H, W) in [0, 1] under other light and cameras, the same change for every three channels;
    grey now
    and then.

    generator: decides everything.
    """
    n, k = len(x), x.shape[1] // 3
    chance = partial(torch.rand, generator=generator)
    gamma, gain = torch.exp((chance(n, 1, 1, 1) - 0.5) * 0.7), (chance(n, 3, 1, 1) * 0.5 + 0.75).repeat(1, k, 1, 1)
    x = (x.clamp_min(1e-3) ** gamma * gain + (chance(n, 1, 1, 1) - 0.5) * 0.1).clamp(0, 1)
    grey = x.reshape(n, k, 3, *x.shape[2:]).mean(2, keepdim=True).expand(-1, -1, 3, -1, -1).reshape(x.shape)
    return torch.where(chance(n, 1, 1, 1) < 0.08, grey, x)


def jitter_alignment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return pictures (B, C, H, W) under small shifts, scales and turns (each its own): what alignment gets wrong."""
    scale, turn, right, down = (
        (torch.rand(len(x), generator=generator) - 0.5) * 2 * span for span in (0.07, 0.1, 0.06, 0.06)
    )
    c, s = (1 + scale) * turn.cos(), (1 + scale) * turn.sin()
    t = torch.stack([torch.stack([c, -s, right], 1), torch.stack([s, c, down], 1)], 1)
    return F.grid_sample(
        x, F.affine_grid(t, list(x.shape), align_corners=False), padding_mode="border", align_corners=False
    )


def resize_to_encoder(frames: np.ndarray) -> np.ndarray:
    """Return frames uint8 (N, S, S, 3) at the encoder's size (N, 128, 128, 3). Source: area average."""
    return np.stack([cv2.resize(frame, (CROP_PX,) * 2, interpolation=cv2.INTER_AREA) for frame in frames])


class LatticeExamples:
    """Crops with teacher lattices: clips and puppets held in memory as uint8 at the encoder's size.

    matrix: of `load_space`.  clips, puppets: paths of crop and puppet files.
    The speaker there is most of is thinned out.
    """

    def __init__(self, out: Path, matrix: np.ndarray, clips: list[Path], puppets: list[Path]) -> None:
        pictures: list[np.ndarray] = []
        lattices: list[np.ndarray] = []
        odds: list[np.ndarray] = []
        for path, marks in iterate_meshes(clips):
            displacement, closed, _, _, rest = extract_motion(marks)
            z = make_teacher_lattices(displacement, closed, matrix, rest[:, :2]).astype(np.float32)
            step, clip_odds = (3, 0.15) if is_common_speaker(path.name) else (1, 1.0)
            pictures.append(resize_to_encoder(np.load(path)["frames"][::step]))
            lattices.append(z[::step])
            odds.append(np.full(len(lattices[-1]), clip_odds))
        for path in puppets:
            d = np.load(path)
            pictures.append(resize_to_encoder(d["images"]))
            lattices.append(compute_puppet_lattices(d, matrix))
            odds.append(np.where(np.arange(len(d["images"])) == 0, ORIGINAL_POSE_ODDS, 1.0))
        self.pictures, self.lattices = np.concatenate(pictures), np.concatenate(lattices)
        self.odds = np.concatenate(odds)
        self.odds /= self.odds.sum()

    def draw(
        self, count: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pictures (B, 3, 128, 128) in [-1, 1] and their lattices (B, 2, 32, 32), changed in light, place and
        sharpness.
        """
        at = rng.choice(len(self.odds), count, p=self.odds)
        x = torch.from_numpy(self.pictures[at]).permute(0, 3, 1, 2).float() / 255
        z = torch.from_numpy(self.lattices[at])
        mirror = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        x, z = torch.where(mirror, x.flip(-1), x), torch.where(mirror, flip_lattice(z), z)
        x = jitter_alignment(jitter_colour(x, generator), generator)
        if float(torch.rand((), generator=generator)) < 0.3:
            x = F.interpolate(F.avg_pool2d(x, 2), size=CROP_PX, mode="bilinear")
        return x * 2 - 1, z


def make_lattice_weight() -> torch.Tensor:
    """Return where the lattice matters (1, 1, 32, 32): mouth most, eyes next."""
    w = torch.ones(1, 1, LATTICE_NODES, LATTICE_NODES)
    w[..., 18:28, 9:23] = 5
    w[..., 8:14, 7:25] = 2.5
    return w


def compute_lattice_loss(
    net: MotionEncoder, x: torch.Tensor, z: torch.Tensor, weight: torch.Tensor, placement: Placement | None = None
) -> torch.Tensor:
    """Return the weighted error of the lattices seen in pictures x (B, 3, 128, 128); z (B, 2, 32, 32).

    Square for errors below 0.01 of the crop, straight beyond: a plain L1 learned the median, which is an open eye and
    half a smile.
    placement: where all of it lies; None is the CPU.
    Source: Huber 1964, smooth.
    """
    with (placement or choose_device("cpu")).autocast():
        made = net(x.contiguous(memory_format=torch.channels_last))
    off = (made - z).abs()
    return 100 * (off**2 / (off + 0.01) * weight).mean()


@torch.inference_mode()
def score_motion_encoder(encoder: MotionEncoder, space: MotionSpace, paths: list[Path], limit: int = 100) -> float:
    """Return the mean over clips of the correlation of the code's mouth opening with the mesh's; NaN without clips.

    paths: crop files.  limit: frames of each.
    """
    rows = []
    for path, marks in iterate_meshes(paths):
        marks, frames = marks[:limit], np.load(path)["frames"][:limit]
        x = torch.from_numpy(resize_to_encoder(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
        code = F.pad(space.to_code(torch.cat([encoder(q) for q in x.split(32)])), (0, 6))
        rows.append(
            np.corrcoef(space.compute_mouth_opening(code).numpy(), measure_mesh_opening(extract_motion(marks)[0]))[0, 1]
        )
    return float(np.mean(rows)) if rows else float("nan")


def train(
    out: Path,
    minutes: float = 10.0,
    seed: int = 0,
    report: Callable[..., Any] | None = None,
    batch: int = 16,
    weights: Path | None = None,
    *,
    device: str = "auto",
) -> dict[str, float]:
    """Build the motion space and train the encoder on OUT/crops and OUT/puppets; writes the weights, returns their
    scores by part.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `TrainingRun.advance`.  batch: items a step.  weights: file to write; None is OUT/motion.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    Raises UsageError when an earlier stage is missing or for another device, MissingDependencyError for a GPU that is
    not there.
    """
    torch.manual_seed(seed)
    placement = choose_training_device(device)
    (space, matrix), parts = load_space(out), split_crop_files(out)
    puppets = [Path(out) / "puppets" / p.name for p in parts["portraits"]]
    examples = LatticeExamples(out, matrix, parts["clips"], [p for p in puppets if p.exists()])
    net = MotionEncoder().to(placement.device).to(memory_format=torch.channels_last)
    optimizer, average = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=0.01), WeightAverage(net)
    run = TrainingRun(Path(out) / "motion.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    rng, generator = np.random.default_rng(seed + run.step), torch.Generator().manual_seed(seed + run.step)
    weight = make_lattice_weight().to(placement.device)

    def compute_step(step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x, z = (t.to(placement.device) for t in examples.draw(batch, rng, generator))
        loss = compute_lattice_loss(net, x, z, weight, placement)
        return loss, dict(loss=loss, still=100 * (z.abs() * weight).mean())

    encoder = fit(run, average, compute_step, PEAK_RATE, report, every=50)
    facts = {k: score_motion_encoder(encoder, space, parts[k]) for k in ("held_clips", "known_clips", "eval")}
    tensors = dict(encoder.state_dict())
    tensors.update({f"space.{k}": getattr(space, k) for k in MotionSpace.__dataclass_fields__})
    save_state(weights or Path(out) / "motion.safetensors", tensors, dict(encoder.config, facts=facts, steps=run.step))
    return facts
