"""When somebody speaks: a smooth 50 Hz mask from Silero's voice detector; noise and music stay at zero."""

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np

from engine.errors import Missing, UsageProblem
from engine.timeline import ARTICULATION_HZ

RATE_HZ = 16_000
HZ = int(ARTICULATION_HZ)
FRAME_SAMPLES, CONTEXT_SAMPLES, BLOCK_FRAMES = 512, 64, 512  # what Silero takes: 32 ms, each told the 4 ms before it
ONSET, OFFSET = 0.5, 0.25  # voice starts above the first and ends below the second
SHORTEST_S, GAP_S, PAD_S, RAMP_S = 0.06, 0.08, 0.04, 0.06
GRID_HZ = 1000  # the mask is built in whole milliseconds


@lru_cache(maxsize=1)
def _detector():
    """Silero's network, found inside its package without importing it: the import would change torch's threads."""
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")
    path = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad_16k_sequence.onnx" if spec else None
    if path is None or not path.is_file():
        raise Missing("silero-vad: its network is not installed.", hint="Install silero-vad 6.2 or later.", code="no_vad")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def voice_probability(wave):
    """(N,) float32 in [0, 1]: Silero's probability of speech in each 32 ms, frame i from sample 512 i.

    wave: (S,) float32 in [-1, 1] at 16 kHz.
    Raises UsageProblem for another shape, Missing when silero-vad is not installed.
    Source: Silero Team 2024, silero-vad 6.
    """
    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1:
        raise UsageProblem(f"wave of shape {wave.shape}: need (S,), one channel at 16 kHz.", code="bad_wave")
    frames = -(-len(wave) // FRAME_SAMPLES)
    padded = np.pad(wave, (CONTEXT_SAMPLES, frames * FRAME_SAMPLES - len(wave)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT_SAMPLES + FRAME_SAMPLES)[::FRAME_SAMPLES] if frames else []
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    parts = [np.zeros(0, np.float32)]
    for start in range(0, frames, BLOCK_FRAMES):
        block = np.ascontiguousarray(windows[start : start + BLOCK_FRAMES])
        values, hidden, cell = _detector().run(["speech_probs", "hn", "cn"], {"input": block, "h": hidden, "c": cell})
        parts.append(values.reshape(-1))
    return np.concatenate(parts)


def runs(mask):
    """(N, 2) int: start and end (exclusive) of each run of True. mask: (T,) bool."""
    return np.flatnonzero(np.diff(np.r_[0, np.asarray(mask, np.int8), 0])).reshape(-1, 2)


def hysteresis(values, onset, offset):
    """(T,) bool: the runs above `offset` that reach `onset` somewhere, whole. values: (T,)."""
    out = np.zeros(len(values), bool)
    for a, b in runs(np.asarray(values) >= offset):
        out[a:b] = np.max(values[a:b]) >= onset
    return out


def tidy(mask, rate_hz):
    """(T,) bool: gaps under GAP_S filled, then runs under SHORTEST_S dropped, then the rest padded by PAD_S. mask: (T,) bool."""
    out = np.array(mask, bool)
    for a, b in runs(~out):
        if 0 < a and b < len(out) and b - a < GAP_S * rate_hz:
            out[a:b] = True
    kept, pad = np.zeros_like(out), round(PAD_S * rate_hz)
    for a, b in runs(out):
        if b - a >= SHORTEST_S * rate_hz:
            kept[max(0, a - pad) : b + pad] = True
    return kept


def speech_activity(wave):
    """(T,) float32 in [0, 1] at 50 Hz: 1 while somebody speaks, 0 in silence, noise and music, straight ramps of 60 ms between.

    wave: (S,) float32 in [-1, 1] at 16 kHz; T covers it completely, tick i is about the 20 ms from i / 50 s.
    Raises UsageProblem for another shape, Missing when silero-vad is not installed.
    Source: ours, on silero-vad.
    """
    found = hysteresis(voice_probability(wave), ONSET, OFFSET)
    ticks = -(-len(wave) // (RATE_HZ // HZ))
    grid_samples = RATE_HZ // GRID_HZ
    centres = np.arange(ticks * GRID_HZ // HZ) * grid_samples + grid_samples // 2
    mask = tidy(found[np.minimum(centres // FRAME_SAMPLES, max(0, len(found) - 1))], GRID_HZ) if len(found) else centres > 0
    width = round(RAMP_S * GRID_HZ)
    total = np.cumsum(np.pad(mask.astype(np.float32), (width // 2, width // 2), mode="edge") if len(mask) else mask, dtype=float)
    smooth = np.diff(np.r_[0.0, total])[: len(mask)] if not len(mask) else (total[width:] - total[:-width]) / width
    return smooth.reshape(ticks, GRID_HZ // HZ).mean(1).astype(np.float32)
