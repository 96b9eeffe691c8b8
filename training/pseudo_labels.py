"""A plain teacher for speech without picture: mouth and jaw as a linear map of the articulation around each tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mouthpiece.engine.encoders.articulatory_features import phone_similarity
from mouthpiece.engine.encoders.motion import BLINK_INDEX
from mouthpiece.engine.encoders.phonetic import PHONES, encode_articulation

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.encoders.phonetic import PhoneticEncoder

CONTEXT_TICKS = 10  # 0.4 s to each side
RIDGE_PENALTY = 0.1  # of the variance of the articulation


def stack_context(articulation: np.ndarray) -> np.ndarray:
    """Return the input of the teacher (T, 43 (2 CONTEXT_TICKS + 1)) from an articulation (2 T, 43): phones as
    similarities, and the ticks around.
    """
    articulation = np.asarray(articulation, np.float32)
    alike = np.concatenate(
        [articulation[:, : len(PHONES)] @ phone_similarity().numpy(), articulation[:, len(PHONES) :]], 1
    )
    ticks = alike.reshape(len(alike) // 2, 2, -1).mean(1)
    padded = np.pad(ticks, ((CONTEXT_TICKS, CONTEXT_TICKS), (0, 0)), mode="edge")
    return np.concatenate([padded[k : k + len(ticks)] for k in range(2 * CONTEXT_TICKS + 1)], 1)


class RidgeTeacher:
    """Mouth and jaw (T, 21) float32 that a linear map gives to the sound of a log-mel (80, 4 T); as lively as the clips
    it was fitted to.

    encoder: PhoneticEncoder in eval, on the CPU.  clips: list of (code (T, 32), log-mel (80, 4 T)).  weights: (N,) of
    the clips.
    Source: ridge regression (Hoerl and Kennard 1970).
    """

    def __init__(
        self, encoder: PhoneticEncoder, clips: list[tuple[np.ndarray, np.ndarray]], weights: np.ndarray
    ) -> None:
        self.encoder, total = encoder, float(sum(len(code) * w for (code, _), w in zip(clips, weights)))
        rows = [(stack_context(compute_articulation(encoder, mel)), code[:, :BLINK_INDEX]) for code, mel in clips]
        self.mean = sum(w * x.sum(0) for (x, _), w in zip(rows, weights)) / total
        self.output_mean = sum(w * y.sum(0) for (_, y), w in zip(rows, weights)) / total
        self.spread = np.sqrt(sum(w * ((x - self.mean) ** 2).sum(0) for (x, _), w in zip(rows, weights)) / total) + 1e-3
        # sums over the clips: (F, F), (F, B) and (B,)
        inner: Any = 0.0
        outer: Any = 0.0
        size: Any = 0.0
        for (x, y), w in zip(rows, weights):
            x, y = (x - self.mean) / self.spread, y - self.output_mean
            inner, outer, size = inner + w * x.T @ x, outer + w * x.T @ y, size + w * (y**2).sum(0)
        self.map = np.linalg.solve(inner + RIDGE_PENALTY * total * np.eye(len(inner)), outer)
        made = np.einsum("if,ij,jf->f", self.map, inner, self.map)
        self.map = (self.map * np.sqrt(size / np.maximum(made, 1e-9))).astype(np.float32)

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        return (
            ((stack_context(compute_articulation(self.encoder, mel)) - self.mean) / self.spread) @ self.map
            + self.output_mean
        ).astype(np.float32)


@torch.no_grad()
def compute_articulation(encoder: PhoneticEncoder, mel: np.ndarray) -> np.ndarray:
    """Return the articulation (2 T, 43), numpy, of a log-mel (80, 4 T). Source: `articulation_of`."""
    return encode_articulation(encoder, torch.from_numpy(np.ascontiguousarray(mel, dtype=np.float32))[None])[0].numpy()
