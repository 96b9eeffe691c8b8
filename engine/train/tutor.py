"""A plain teacher for speech without picture: mouth and jaw as a linear map of what is heard around each tick."""
import numpy as np
import torch

from engine.encoders.articulators import likeness
from engine.encoders.audio import PHONES, articulation_of
from engine.encoders.vision import BLINK

REACH_TICKS = 10                       # 0.4 s to each side
RIDGE = 0.1                            # of the variance of what is heard


def seen(heard):
    """What the teacher sees (T, 43 (2 REACH_TICKS + 1)) of articulation (2 T, 43): phones as likenesses, and the ticks around. Source: ours."""
    heard = np.asarray(heard, np.float32)
    alike = np.concatenate([heard[:, : len(PHONES)] @ likeness().numpy(), heard[:, len(PHONES) :]], 1)
    ticks = alike.reshape(len(alike) // 2, 2, -1).mean(1)
    padded = np.pad(ticks, ((REACH_TICKS, REACH_TICKS), (0, 0)), mode="edge")
    return np.concatenate([padded[k : k + len(ticks)] for k in range(2 * REACH_TICKS + 1)], 1)


class Tutor:
    """Mouth and jaw (T, 21) float32 that a linear map gives to the sound of a log-mel (80, 4 T); as lively as the clips it was fitted to.

    encoder: PhoneticEncoder in eval, on the CPU.  clips: list of (code (T, 32), log-mel (80, 4 T)).  weights: (N,) of the clips.
    Source: ridge regression (Hoerl and Kennard 1970).
    """

    def __init__(self, encoder, clips, weights):
        self.encoder, total = encoder, float(sum(len(code) * w for (code, _), w in zip(clips, weights)))
        rows = [(seen(heard_by(encoder, mel)), code[:, :BLINK]) for code, mel in clips]
        self.mean = sum(w * x.sum(0) for (x, _), w in zip(rows, weights)) / total
        self.middle = sum(w * y.sum(0) for (_, y), w in zip(rows, weights)) / total
        self.spread = np.sqrt(sum(w * ((x - self.mean) ** 2).sum(0) for (x, _), w in zip(rows, weights)) / total) + 1e-3
        inner, outer, size = 0.0, 0.0, 0.0
        for (x, y), w in zip(rows, weights):
            x, y = (x - self.mean) / self.spread, y - self.middle
            inner, outer, size = inner + w * x.T @ x, outer + w * x.T @ y, size + w * (y**2).sum(0)
        self.map = np.linalg.solve(inner + RIDGE * total * np.eye(len(inner)), outer)
        made = np.einsum("if,ij,jf->f", self.map, inner, self.map)
        self.map = (self.map * np.sqrt(size / np.maximum(made, 1e-9))).astype(np.float32)

    def __call__(self, mel):
        return (((seen(heard_by(self.encoder, mel)) - self.mean) / self.spread) @ self.map + self.middle).astype(np.float32)


@torch.no_grad()
def heard_by(encoder, mel):
    """Articulation (2 T, 43), numpy, of a log-mel (80, 4 T). Source: `articulation_of`."""
    return articulation_of(encoder, torch.from_numpy(np.ascontiguousarray(mel, dtype=np.float32))[None])[0].numpy()
