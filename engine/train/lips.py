"""Lip reading as the core learns it: clips as the motion encoder reads them, phones by forced alignment, faces varied."""
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from engine.encoders.audio import PHONES
from engine.encoders.lips import SILENCE, place_phones, read_lips, steady
from engine.encoders.vision import CODE_WIDTH
from engine.timeline import ARTICULATION_HZ
from engine.train.align import MISSING
from engine.train.manifest import is_common

ODDS_OF_PUPPETS, ODDS_OF_RARE = 3.0, 6.0   # how much oftener than a clip of the common speaker on his own face
GAIN, SHIFT, SCATTER = 0.25, 0.25, 0.12    # what faces and the encoder's errors do to a code, as deviations
SMOOTHING = 0.05                       # of the labels: alignments are not exact


def ticked(phones, ticks):
    """Phone ids (ticks,) int64 at 50 Hz from ids at 100 Hz; silence where they end early. Source: ours."""
    ids = np.asarray(phones[::2], np.int64)[:ticks]
    return np.pad(ids, (0, ticks - len(ids)), constant_values=SILENCE)


def load_reads(folder, paths, labels, lips):
    """Rows (name, face, motion (T, 32), phone ids (2 T,)) of clips that were both read and aligned.

    folder: OUT/reads.  paths: crop files.  labels: {clip name: dict(phones)}.  lips: (26,) of the motion space.
    Source: lipsync/train/reads.py, engine/train/align.py.
    """
    rows = []
    for path in paths:
        name, file = path.stem.split("__", 2)[2], Path(folder) / path.name
        if file.exists() and name in labels:
            read = np.load(file)
            for face in read.files:
                motion = steady(read[face], lips)
                rows.append((path.stem, face, motion, ticked(labels[name]["phones"], 2 * len(motion))))
    return rows


class LipBatches:
    """Items of `load_reads` under other faces: codes scaled, shifted and scattered. Source: ours."""

    def __init__(self, rows, ticks, seed):
        self.rows, self.ticks, self.rng = rows, ticks, np.random.default_rng(seed)
        odds = np.array([(1.0 if face == "own" else ODDS_OF_PUPPETS) if is_common(name) else ODDS_OF_RARE for name, face, *_ in rows])
        self.odds = odds / odds.sum()

    def draw(self, count):
        """(motion (B, T, 32) float32, phone ids (B, 2 T))."""
        items = [self._item(*self.rows[k][2:]) for k in self.rng.choice(len(self.rows), count, p=self.odds)]
        return tuple(torch.from_numpy(np.stack(x)) for x in zip(*items))

    def _item(self, motion, ids):
        start = int(self.rng.integers(0, max(1, len(motion) - self.ticks + 1)))
        motion, ids = motion[start : start + self.ticks], ids[2 * start : 2 * (start + self.ticks)]
        short, normal = self.ticks - len(motion), self.rng.normal
        motion = motion * np.exp(normal(0, GAIN, CODE_WIDTH)) + normal(0, SHIFT, CODE_WIDTH) + normal(0, SCATTER, motion.shape)
        return np.pad(motion, ((0, short), (0, 0)), mode="edge").astype(np.float32), np.pad(ids, (0, 2 * short), constant_values=SILENCE)


def lip_loss(net, motion, ids):
    """Cross entropy of the phones read from lips; ticks nobody labelled count nothing. Source: ours."""
    logits = net.read(motion).flatten(0, 1)
    known = (ids != MISSING).flatten().float()
    error = F.cross_entropy(logits, ids.clamp_max(len(PHONES) - 1).flatten(), reduction="none", label_smoothing=SMOOTHING)
    return (error * known).sum() / known.sum().clamp_min(1)


def runs_of(ids):
    """(phones (N,), edges (N + 1,)) of phone ids (T,): stretches of one phone. Source: ours."""
    cuts = np.flatnonzero(np.diff(ids)) + 1
    edges = np.concatenate([[0], cuts, [len(ids)]])
    return ids[edges[:-1]], edges


def usual_lengths(rows):
    """(ticks (40,), deviation of the logarithm (40,), share of ticks (40,)) of each phone in rows of `load_reads`. Source: ours."""
    lengths = {}
    for *_, ids in rows:
        phones, edges = runs_of(ids)
        for phone, length in zip(phones, np.diff(edges)):
            lengths.setdefault(int(phone), []).append(length)
    usual, spread, share = np.full(len(PHONES), 4.0), np.full(len(PHONES), 0.5), np.ones(len(PHONES))
    for phone, found in lengths.items():
        if phone < len(PHONES) and len(found) >= 5:
            logs = np.log(found)
            usual[phone], spread[phone], share[phone] = np.exp(logs.mean()), max(0.25, logs.std()), share[phone] + sum(found)
    return usual, spread, share / share.sum()


def score_lips(net, rows, statistics):
    """Share of speech ticks right, and median boundary errors in seconds: read, and natural lengths squeezed between the true ends.

    rows: of `load_reads`, each on its own face.  statistics: of `usual_lengths`.
    onset_within_80_ms, offset_within_80_ms: shares of lines.
    Source: ours.
    """
    usual, spread, share = statistics
    right, errors, squeezed, ends = [], [], [], []
    for _, face, motion, ids in rows:
        phones, edges = runs_of(ids)
        if face != "own" or MISSING in phones or len(phones) < 5:
            continue
        scores = read_lips(net, motion)
        speech = ids != SILENCE
        right.append((scores.argmax(1) == ids)[speech].mean())
        lengths = np.where(phones == SILENCE, 0, usual[phones])
        made = place_phones(scores - np.log(share), phones, lengths, spread[phones], np.where(phones == SILENCE, len(ids), 30))
        if made is None:
            continue
        spoken = np.flatnonzero(phones != SILENCE)
        first, last = spoken[0], spoken[-1] + 1
        inside = slice(first + 1, last)
        plan = np.concatenate([[0], np.cumsum(np.where(phones == SILENCE, 0.0, usual[phones])[first:last])])
        plan = edges[first] + plan / plan[-1] * (edges[last] - edges[first])
        errors.append(np.abs(made - edges)[inside] / ARTICULATION_HZ)
        squeezed.append(np.abs(plan[1:-1] - edges[inside]) / ARTICULATION_HZ)
        ends.append(np.abs(made - edges)[[first, last]] / ARTICULATION_HZ)
    if not errors:
        return dict(lines=0)
    ends = np.array(ends)
    return dict(lines=len(ends), frames_right=float(np.mean(right)), boundary_s=float(np.median(np.concatenate(errors))),
                squeezed_s=float(np.median(np.concatenate(squeezed))), onset_s=float(np.median(ends[:, 0])), offset_s=float(np.median(ends[:, 1])),
                onset_within_80_ms=float((ends[:, 0] <= 0.08).mean()), offset_within_80_ms=float((ends[:, 1] <= 0.08).mean()))
