"""Talking clips as the motion encoder reads them, on their own faces and on portraits that speak in their place: what lips look like to the core."""
import multiprocessing
import zlib
from pathlib import Path

import numpy as np
import torch

from engine.encoders.vision import codes_of, motion_parts
from engine.files import replacing
from engine.train.manifest import is_common, made_by
from engine.weights import read_state
from lipsync.teeth import drawn_teeth
from lipsync.train.puppets import lip_line, load_actor, load_portrait, puppet
from lipsync.train.space import split_files

PARTS = ("clips", "held_clips", "known_clips", "eval")
PUPPETED = ("clips",)                  # people kept out are read on their own faces alone
STRENGTH = (0.75, 1.3)                 # how widely a portrait opens its mouth, of what the clip's speaker does
PORTRAITS_OF_RARE = 3                  # that speak in place of a clip of a rare speaker
COMMON_EVERY = 4                       # one portrait for every so many clips of the common one


def spoken_by(who, actor, strength):
    """Crops (N, 192, 192, 3) uint8 of a Portrait that says what an Actor says, with drawn teeth; its eyelids stay. Source: `puppet`."""
    teeth = drawn_teeth(lip_line(who.shut), who.image)
    return np.stack([puppet(who, displacement * strength, 0.0, teeth)[0] for displacement in actor.displacement])


def read_clip(path, portraits, models):
    """{name: codes (N, 26) float16}: "own" as the encoder reads the clip, "0", "1", … as it reads portraits in its place.

    path: crop file of the clip.  portraits: crop files.  models: (MotionEncoder, MotionSpace).
    Source: ours.
    """
    rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
    out = {"own": _read(models, np.load(path)["frames"])}
    actor = load_actor(path) if portraits else None
    for k, portrait in enumerate(portraits if actor else ()):
        out[str(k)] = _read(models, spoken_by(load_portrait(portrait), actor, rng.uniform(*STRENGTH)))
    return {name: code.astype(np.float16) for name, code in out.items()}


def _read(models, crops):
    with torch.autocast("cpu", torch.bfloat16):
        return codes_of(*models, crops)


def _read_some(job):
    out, paths, weights = job
    torch.set_num_threads(1)
    models = motion_parts(*read_state(weights, "motion"))
    for path, portraits in paths:
        target = Path(out) / "reads" / path.name
        if not target.exists():
            with replacing(target) as part:
                np.savez(part, **read_clip(path, portraits, models))
    return len(paths)


def reads(out, workers=2, progress=None):
    """Write OUT/reads/*.npz, one for each talking clip; resumes. Returns their number.

    out: working folder with crops and motion.safetensors.  workers: processes.
    progress: called with (done, all).
    Raises UsageProblem when an earlier stage is missing.
    Source: ours.
    """
    out = Path(out)
    parts, weights = split_files(out), made_by("motion", out / "motion.safetensors")
    (out / "reads").mkdir(parents=True, exist_ok=True)
    rng, jobs = np.random.default_rng(0), []
    for part in PARTS:
        for k, path in enumerate(parts[part]):
            count = (int(k % COMMON_EVERY == 0) if is_common(path.name) else PORTRAITS_OF_RARE) if part in PUPPETED else 0
            jobs.append((path, [parts["portraits"][i] for i in rng.integers(len(parts["portraits"]), size=count)]))
    done = 0
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for n in pool.imap_unordered(_read_some, [(out, jobs[i::64], weights) for i in range(64)]):
            done += n
            if progress:
                progress(done, len(jobs))
    return done
