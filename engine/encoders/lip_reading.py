"""Read lips: phone posteriors from motion alone, and a semi-Markov Viterbi alignment of known phones to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mouthpiece.engine.encoders.motion import BLINK_INDEX, CODE_WIDTH, EXPRESSION_WIDTH
from mouthpiece.engine.encoders.phonetic import PHONES

if TYPE_CHECKING:
    from mouthpiece.engine.core import AVCore

TYPICAL_OPENING = 0.012  # deviation of the inner-lip opening in speech, in units of the crop
OPENING_SCALE_LIMITS = (0.5, 2.0)  # how far a quiet or a wide speaker is brought towards it
SILENCE_INDEX = PHONES.index("SIL")


def normalize_motion(codes: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """Normalize motion codes for lip reading, (T, 32) float32: about the clip's median, scaled to a typical opening.

    codes: (T, 26 or 32), from the motion encoder; eyelids and head are left out.
    lips: (26,) of the motion space.
    """
    codes = np.asarray(codes, np.float32)[:, :EXPRESSION_WIDTH]
    opening = codes @ np.asarray(lips, np.float32)
    scale = np.clip(TYPICAL_OPENING / max(float(opening.std()), 1e-6), *OPENING_SCALE_LIMITS)
    out = np.zeros((len(codes), CODE_WIDTH), np.float32)
    out[:, :EXPRESSION_WIDTH] = (codes - np.median(codes, 0)) * scale
    out[:, BLINK_INDEX] = 0
    return out


@torch.inference_mode()
def read_lips(core: AVCore, motion: np.ndarray, window: int = 150, margin: int = 38) -> np.ndarray:
    """Read log posteriors of phones (2 T, 40) float32 off motion (T, 32) from `normalize_motion`.

    window: ticks read at a time, in constant memory.  margin: ticks read beyond it on each side.
    """
    values, parts = torch.as_tensor(motion), []
    for start in range(0, len(values), window):
        stop = min(len(values), start + window)
        a, b = max(0, start - margin), min(len(values), stop + margin)
        logits = core.read_phones(values[None, a:b])[0]
        parts.append(logits[2 * (start - a) : 2 * (stop - a)].log_softmax(-1))
    return torch.cat(parts).numpy()


def align_phones_to_scores(
    scores: np.ndarray, phones: np.ndarray, usual: np.ndarray, spread: np.ndarray, longest: np.ndarray
) -> np.ndarray | None:
    """Align known phones to scores: the likeliest boundaries (N + 1,) in ticks under log-normal durations.

    scores: (T, 40) log likelihood of each phone at each tick.
    phones: N columns of scores, in order.  usual: (N,) likeliest length of each in ticks; 0 for what may be left out.
    spread: (N,) deviation of the logarithm.  longest: (N,) whole ticks at most.
    Returns None where T is too short for them or longer than they may last.
    Source: explicit-duration Viterbi (Ferguson 1980), log-normal after 1307.6023.
    """
    ticks, count = len(scores), len(phones)
    total = np.concatenate([np.zeros((1, scores.shape[1])), np.cumsum(scores, 0)])
    best, back = np.full((count + 1, ticks + 1), -np.inf), np.zeros((count + 1, ticks + 1), np.int32)
    best[0, 0] = 0
    for k in range(count):
        gain = total[:, phones[k]]
        least = 0 if usual[k] == 0 else 1
        for length in range(least, min(int(longest[k]), ticks) + 1):
            cost = _compute_duration_cost(length, usual[k], spread[k])
            ends = best[k, : ticks + 1 - length] + gain[length:] - gain[: ticks + 1 - length] - cost
            better = ends > best[k + 1, length:]
            best[k + 1, length:][better], back[k + 1, length:][better] = ends[better], length
    if not np.isfinite(best[count, ticks]):
        return None
    edges = [ticks]
    for k in range(count, 0, -1):
        edges.append(edges[-1] - back[k, edges[-1]])
    return np.array(edges[::-1])


def _compute_duration_cost(length: int, usual: float, spread: float) -> float:
    """Compute the negative log likelihood of a length in ticks; half a tick stands for none."""
    if usual == 0:  # a pause that may be left out: free to be long
        return 0.0 if length == 0 else 1.5 + 0.3 * np.log(length)
    return 0.5 * (np.log(max(length, 0.5) / usual) / spread) ** 2
