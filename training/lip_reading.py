"""Lip reading as the core learns it: motion codes of clips, phones by forced alignment, faces varied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.encoders.lip_reading import SILENCE_INDEX, align_phones_to_scores, normalize_motion, read_lips
from mouthpiece.engine.encoders.motion import CODE_WIDTH
from mouthpiece.engine.encoders.phonetic import PHONES
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.training.data.forced_alignment import UNKNOWN_PHONE
from mouthpiece.training.data.manifest import is_common_speaker

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.core import AVCore

PUPPET_ODDS, RARE_SPEAKER_ODDS = 3.0, 6.0  # how much oftener than a clip of the common speaker on his own face
# what faces and the encoder's errors do to a code, as deviations
CODE_GAIN_STD, CODE_SHIFT_STD, CODE_NOISE_STD = 0.25, 0.25, 0.12
LABEL_SMOOTHING = 0.05  # of the labels: alignments are not exact


def downsample_phones(phones: np.ndarray, ticks: int) -> np.ndarray:
    """Return the phone ids (ticks,) int64 at 50 Hz from ids at 100 Hz; silence where they end early."""
    ids = np.asarray(phones[::2], np.int64)[:ticks]
    return np.pad(ids, (0, ticks - len(ids)), constant_values=SILENCE_INDEX)


def load_encoded_clips(
    folder: Path, paths: list[Path], labels: dict[str, dict[str, Any]], lips: np.ndarray
) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Return rows (name, face, motion (T, 32), phone ids (2 T,)) of clips that were both read and aligned.

    folder: OUT/reads.  paths: crop files.  labels: {clip name: dict(phones)}.  lips: (26,) of the motion space.
    Source: training/data/encoded_clips.py, training/data/forced_alignment.py.
    """
    rows = []
    for path in paths:
        name, file = path.stem.split("__", 2)[2], Path(folder) / path.name
        if file.exists() and name in labels:
            read = np.load(file)
            for face in read.files:
                motion = normalize_motion(read[face], lips)
                rows.append((path.stem, face, motion, downsample_phones(labels[name]["phones"], 2 * len(motion))))
    return rows


class LipBatches:
    """Items of `load_encoded_clips` under other faces: codes scaled, shifted and scattered."""

    def __init__(self, rows: list[tuple[str, str, np.ndarray, np.ndarray]], ticks: int, seed: int) -> None:
        self.rows, self.ticks, self.rng = rows, ticks, np.random.default_rng(seed)
        odds = np.array(
            [
                (1.0 if face == "own" else PUPPET_ODDS) if is_common_speaker(name) else RARE_SPEAKER_ODDS
                for name, face, *_ in rows
            ]
        )
        self.odds = odds / odds.sum()

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (motion (B, T, 32) float32, phone ids (B, 2 T))."""
        items = [self._sample_item(*self.rows[k][2:]) for k in self.rng.choice(len(self.rows), count, p=self.odds)]
        motion, ids = (torch.from_numpy(np.stack(x)) for x in zip(*items))
        return motion, ids

    def _sample_item(self, motion: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        start = int(self.rng.integers(0, max(1, len(motion) - self.ticks + 1)))
        motion, ids = motion[start : start + self.ticks], ids[2 * start : 2 * (start + self.ticks)]
        short, normal = self.ticks - len(motion), self.rng.normal
        motion = (
            motion * np.exp(normal(0, CODE_GAIN_STD, CODE_WIDTH))
            + normal(0, CODE_SHIFT_STD, CODE_WIDTH)
            + normal(0, CODE_NOISE_STD, motion.shape)
        )
        return np.pad(motion, ((0, short), (0, 0)), mode="edge").astype(np.float32), np.pad(
            ids, (0, 2 * short), constant_values=SILENCE_INDEX
        )


def compute_lip_loss(net: AVCore, motion: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of the phones read from lips; ticks nobody labelled count nothing."""
    logits = net.read_phones(motion).flatten(0, 1)
    known = (ids != UNKNOWN_PHONE).flatten().float()
    error = F.cross_entropy(
        logits, ids.clamp_max(len(PHONES) - 1).flatten(), reduction="none", label_smoothing=LABEL_SMOOTHING
    )
    return (error * known).sum() / known.sum().clamp_min(1)


def find_phone_runs(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (phones (N,), edges (N + 1,)) of phone ids (T,): stretches of one phone."""
    cuts = np.flatnonzero(np.diff(ids)) + 1
    edges = np.concatenate([[0], cuts, [len(ids)]])
    return ids[edges[:-1]], edges


def measure_phone_lengths(
    rows: list[tuple[str, str, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (ticks (40,), deviation of the logarithm (40,), share of ticks (40,)) of each phone in rows of
    `load_encoded_clips`.
    """
    lengths: dict[int, list[int]] = {}
    for *_, ids in rows:
        phones, edges = find_phone_runs(ids)
        for phone, length in zip(phones, np.diff(edges)):
            lengths.setdefault(int(phone), []).append(length)
    usual, spread, share = np.full(len(PHONES), 4.0), np.full(len(PHONES), 0.5), np.ones(len(PHONES))
    for phone, found in lengths.items():
        if phone < len(PHONES) and len(found) >= 5:
            logs = np.log(found)
            usual[phone], spread[phone], share[phone] = (
                np.exp(logs.mean()),
                max(0.25, logs.std()),
                share[phone] + sum(found),
            )
    return usual, spread, share / share.sum()


def score_lips(
    net: AVCore,
    rows: list[tuple[str, str, np.ndarray, np.ndarray]],
    statistics: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> dict[str, Any]:
    """Return the share of speech ticks right, and median boundary errors in seconds: read, and natural lengths squeezed
    between
    the true ends.

    rows: of `load_encoded_clips`, each on its own face.  statistics: of `measure_phone_lengths`.
    onset_within_80_ms, offset_within_80_ms: shares of lines.
    """
    usual, spread, share = statistics
    right, errors, squeezed, ends = [], [], [], []
    for _, face, motion, ids in rows:
        phones, edges = find_phone_runs(ids)
        if face != "own" or UNKNOWN_PHONE in phones or len(phones) < 5:
            continue
        scores = read_lips(net, motion)
        speech = ids != SILENCE_INDEX
        right.append((scores.argmax(1) == ids)[speech].mean())
        lengths = np.where(phones == SILENCE_INDEX, 0, usual[phones])
        made = align_phones_to_scores(
            scores - np.log(share), phones, lengths, spread[phones], np.where(phones == SILENCE_INDEX, len(ids), 30)
        )
        if made is None:
            continue
        spoken = np.flatnonzero(phones != SILENCE_INDEX)
        first, last = spoken[0], spoken[-1] + 1
        inside = slice(first + 1, last)
        plan = np.concatenate([[0], np.cumsum(np.where(phones == SILENCE_INDEX, 0.0, usual[phones])[first:last])])
        plan = edges[first] + plan / plan[-1] * (edges[last] - edges[first])
        errors.append(np.abs(made - edges)[inside] / ARTICULATION_HZ)
        squeezed.append(np.abs(plan[1:-1] - edges[inside]) / ARTICULATION_HZ)
        ends.append(np.abs(made - edges)[[first, last]] / ARTICULATION_HZ)
    if not errors:
        return dict(lines=0)
    end_errors = np.array(ends)
    return dict(
        lines=len(end_errors),
        frames_right=float(np.mean(right)),
        boundary_s=float(np.median(np.concatenate(errors))),
        squeezed_s=float(np.median(np.concatenate(squeezed))),
        onset_s=float(np.median(end_errors[:, 0])),
        offset_s=float(np.median(end_errors[:, 1])),
        onset_within_80_ms=float((end_errors[:, 0] <= 0.08).mean()),
        offset_within_80_ms=float((end_errors[:, 1] <= 0.08).mean()),
    )
