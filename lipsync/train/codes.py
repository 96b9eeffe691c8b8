"""Talking clips as the core learns them: teacher codes on the 25 Hz clock beside their sound."""
from pathlib import Path

import numpy as np
import torch
from scipy.signal import savgol_filter

from engine.encoders.audio import RATE_HZ, level, log_mel
from engine.encoders.vision import BLINK
from engine.files import replacing
from engine.media import read_sound
from engine.train.disguise import FLOOR
from engine.train.manifest import read_rows
from lipsync.train.mesh import motion_of, opening
from lipsync.train.space import BLINK_UNIT, lattices, meshed, space_of, split_files


def code_of_clip(marks, space, matrix):
    """(teacher codes (N, 32), mesh opening (N,)) of a clip, float32; noise is smoothed over five frames, without lag.

    marks: (N, 468, 3).  space, matrix: of `space_of`.
    Source: Savitzky and Golay 1964; blinks are too short to be smoothed.
    """
    displacement, closed, pose, _, _ = motion_of(marks)
    code = space.code(torch.tensor(lattices(displacement, matrix), dtype=torch.float32)).numpy()
    code[:, BLINK] = closed / BLINK_UNIT
    pose = (pose - np.median(pose, 0)) / space.pose_std.numpy()
    smooth = savgol_filter(np.c_[code, pose], 5, 2, axis=0) if len(code) >= 5 else np.c_[code, pose]
    smooth[:, BLINK] = code[:, BLINK]
    return smooth.astype(np.float32), opening(displacement).astype(np.float32)


def codes(data, out):
    """Write OUT/codes.npz: per clip its part of the split, codes, opening and log-mel; returns counts by part.

    data: folder with manifest.jsonl.  out: working folder with crops.
    Source: ours.
    """
    space, matrix = space_of(out)
    sound = {Path(r["path"]).stem: r["audio"] for r in read_rows(data, ("talk", "talk-eval"))}
    rows, counts = {}, {}
    for part, paths in split_files(out).items():
        for path, marks in meshed(paths if "portraits" not in part else ()):
            name = path.stem.split("__", 2)[2]
            code, wide = code_of_clip(marks, space, matrix)
            wave = read_sound(Path(data) / sound[name], RATE_HZ, mono=True).samples[0]
            mel = log_mel(level(wave)).numpy()[:, : 4 * len(code)]
            mel = np.pad(mel, ((0, 0), (0, 4 * len(code) - mel.shape[1])), constant_values=FLOOR)
            for key, value in (("code", code), ("opening", wide), ("mel", mel.astype(np.float16))):
                rows[f"{part}|{path.stem}|{key}"] = value
            counts[part] = counts.get(part, 0) + 1
    with replacing(Path(out) / "codes.npz", overwrite=True) as done:
        np.savez(done, **rows)
    return counts
