"""Talking clips as the core learns them: teacher codes on the 25 Hz clock beside their sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.signal import savgol_filter

from mouthpiece.engine.encoders.motion import BLINK_INDEX
from mouthpiece.engine.encoders.phonetic import RATE_HZ, compute_log_mel, normalize_level
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.training.augment import SILENCE_LOG_MEL
from mouthpiece.training.data.manifest import read_rows
from mouthpiece.training.mesh_geometry import extract_motion, measure_mesh_opening
from mouthpiece.training.motion_space import (
    BLINK_UNIT,
    iterate_meshes,
    load_space,
    project_to_lattice,
    split_crop_files,
)

if TYPE_CHECKING:
    from mouthpiece.engine.encoders.motion import MotionSpace


def compute_motion_code(marks: np.ndarray, space: MotionSpace, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (teacher codes (N, 32), mesh opening (N,)) of a clip, float32; noise is smoothed over five frames, without
    lag.

    marks: (N, 468, 3).  space, matrix: of `load_space`.
    Source: Savitzky and Golay 1964; blinks are too short to be smoothed.
    """
    displacement, closed, pose, _, _ = extract_motion(marks)
    code = space.to_code(torch.tensor(project_to_lattice(displacement, matrix), dtype=torch.float32)).numpy()
    code[:, BLINK_INDEX] = closed / BLINK_UNIT
    pose = (pose - np.median(pose, 0)) / space.pose_std.numpy()
    smooth = savgol_filter(np.c_[code, pose], 5, 2, axis=0) if len(code) >= 5 else np.c_[code, pose]
    smooth[:, BLINK_INDEX] = code[:, BLINK_INDEX]
    return smooth.astype(np.float32), measure_mesh_opening(displacement).astype(np.float32)


def write_motion_codes(data: Path, out: Path) -> dict[str, int]:
    """Write OUT/codes.npz: per clip its part of the split, codes, opening and log-mel; returns counts by part.

    data: folder with manifest.jsonl.  out: working folder with crops.
    """
    space, matrix = load_space(out)
    sound = {Path(r["path"]).stem: r["audio"] for r in read_rows(data, ("talk", "talk-eval"))}
    rows = {}
    counts: dict[str, int] = {}
    for part, paths in split_crop_files(out).items():
        for path, marks in iterate_meshes(paths if "portraits" not in part else ()):
            name = path.stem.split("__", 2)[2]
            code, wide = compute_motion_code(marks, space, matrix)
            wave = read_sound(Path(data) / sound[name], RATE_HZ, mono=True).samples[0]
            mel = compute_log_mel(normalize_level(wave)).numpy()[:, : 4 * len(code)]
            mel = np.pad(mel, ((0, 0), (0, 4 * len(code) - mel.shape[1])), constant_values=SILENCE_LOG_MEL)
            for key, value in (("code", code), ("opening", wide), ("mel", mel.astype(np.float16))):
                rows[f"{part}|{path.stem}|{key}"] = value
            counts[part] = counts.get(part, 0) + 1
    with atomic_write(Path(out) / "codes.npz", overwrite=True) as done:
        np.savez(done, **rows)
    return counts
