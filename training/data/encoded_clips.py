"""Talking clips as the motion encoder reads them, on their own faces and on portraits that speak in their place: what
lips look like to the core.
"""

from __future__ import annotations

import multiprocessing
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mouthpiece.engine.encoders.motion import build_motion_encoder, encode_crops
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.weights.loading import read_state
from mouthpiece.lipsync.portrait.teeth import draw_teeth
from mouthpiece.training.data.manifest import is_common_speaker, require_stage
from mouthpiece.training.data.puppets import load_driving_clip, load_portrait, locate_lip_line, warp_portrait
from mouthpiece.training.motion_space import split_crop_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.training.data.puppets import DrivingClip, SourcePortrait

PARTS = ("clips", "held_clips", "known_clips", "eval")
REENACTED_PARTS = ("clips",)  # people kept out are read on their own faces alone
# how widely a portrait opens its mouth, of what the clip's speaker does
OPENING_GAIN_RANGE = (0.75, 1.3)
PORTRAITS_PER_RARE_CLIP = 3  # that speak in place of a clip of a rare speaker
COMMON_CLIPS_PER_PORTRAIT = 4  # one portrait for every so many clips of the common one


def reenact_portrait(who: SourcePortrait, actor: DrivingClip, strength: float) -> np.ndarray:
    """Return crops (N, 192, 192, 3) uint8 of a Portrait that says what an Actor says, with drawn teeth; its eyelids
    stay.
    Source: `warp_portrait`.
    """
    teeth = draw_teeth(locate_lip_line(who.shut), who.image)
    return np.stack([warp_portrait(who, displacement * strength, 0.0, teeth)[0] for displacement in actor.displacement])


def encode_clip_motion(path: Path, portraits: list[Path], models: Any) -> dict[str, np.ndarray]:
    """Return {name: codes (N, 26) float16}: "own" as the encoder reads the clip, "0", "1", … as it reads portraits in
    its
    place.

    path: crop file of the clip.  portraits: crop files.  models: (MotionEncoder, MotionSpace).
    """
    rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
    out = {"own": _encode_crops(models, np.load(path)["frames"])}
    actor = load_driving_clip(path) if portraits else None
    if actor is not None:
        for k, portrait in enumerate(portraits):
            crops = reenact_portrait(load_portrait(portrait), actor, rng.uniform(*OPENING_GAIN_RANGE))
            out[str(k)] = _encode_crops(models, crops)
    return {name: code.astype(np.float16) for name, code in out.items()}


def _encode_crops(models: Any, crops: np.ndarray) -> np.ndarray:
    encoder, space = models
    with torch.autocast("cpu", torch.bfloat16):
        return encode_crops(encoder, space, crops)


def _encode_part(job: tuple) -> int:
    out, paths, weights = job
    torch.set_num_threads(1)
    models = build_motion_encoder(*read_state(weights, "motion"))
    for path, portraits in paths:
        target = Path(out) / "reads" / path.name
        if not target.exists():
            with atomic_write(target) as part:
                np.savez(part, **encode_clip_motion(path, portraits, models))
    return len(paths)


def write_encoded_clips(out: Path, workers: int = 2, progress: Callable[..., Any] | None = None) -> int:
    """Write OUT/reads/*.npz, one for each talking clip; resumes. Returns their number.

    out: working folder with crops and motion.safetensors.  workers: processes.
    progress: called with (done, all).
    Raises UsageError when an earlier stage is missing.
    """
    out = Path(out)
    parts, weights = split_crop_files(out), require_stage("motion", out / "motion.safetensors")
    (out / "reads").mkdir(parents=True, exist_ok=True)
    rng, jobs = np.random.default_rng(0), []
    for part in PARTS:
        for k, path in enumerate(parts[part]):
            count = (
                (int(k % COMMON_CLIPS_PER_PORTRAIT == 0) if is_common_speaker(path.name) else PORTRAITS_PER_RARE_CLIP)
                if part in REENACTED_PARTS
                else 0
            )
            jobs.append((path, [parts["portraits"][i] for i in rng.integers(len(parts["portraits"]), size=count)]))
    done = 0
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for n in pool.imap_unordered(_encode_part, [(out, jobs[i::64], weights) for i in range(64)]):
            done += n
            if progress:
                progress(done, len(jobs))
    return done
