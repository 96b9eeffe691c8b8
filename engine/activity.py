"""When somebody speaks or sings: a smooth 50 Hz mask from Silero's voice detector; noise and music stay at zero."""

import importlib.util
from pathlib import Path

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from engine import weights
from engine.encoders.audio import RATE_HZ, level
from engine.errors import Missing, UsageProblem
from engine.timeline import ARTICULATION_HZ
from engine.warm import kept_warm

HZ = int(ARTICULATION_HZ)
FRAME_SAMPLES, CONTEXT_SAMPLES, BLOCK_FRAMES = 512, 64, 512  # what Silero takes: 32 ms, each told the 4 ms before it
ONSET, OFFSET = 0.5, 0.35  # speech starts above the first and ends below the second
# A held note is music to a detector that remembers it, and a vowel to one that has heard 96 ms only; instruments are neither.
SUNG_MEMORY_FRAMES, SUNG_MEDIAN_FRAMES, SUNG_SHORTEST_FRAMES = 3, 5, 8
SUNG_ONSET, SUNG_OFFSET = 0.3, 0.1
SHORTEST_S, GAP_S, PAD_S, RAMP_S = 0.06, 0.08, 0.04, 0.06
GRID_HZ = 1000  # the mask is built in whole milliseconds


@kept_warm(2)
def _network(name):
    """One of Silero's networks, found inside its package without importing it: the import would change torch's threads."""
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")
    path = Path(spec.submodule_search_locations[0]) / "data" / name if spec else None
    if path is None or not path.is_file():
        raise Missing(f"silero-vad: {name} is not installed.", hint="Install silero-vad 6.2 or later.", code="no_vad")
    weights.record_packaged("silero_vad", (f"data/{name}",))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _one_channel(wave):
    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1:
        raise UsageProblem(f"wave of shape {wave.shape}: need (S,), one channel at 16 kHz.", code="bad_wave")
    return wave


def _windows(wave, before_frames=0):
    """(N + before_frames, 576) views: each frame of 512 samples after the 64 before it; zeros ahead of the sound."""
    wave = _one_channel(wave)
    frames = -(-len(wave) // FRAME_SAMPLES)
    padded = np.pad(wave, (CONTEXT_SAMPLES + before_frames * FRAME_SAMPLES, max(1, frames) * FRAME_SAMPLES - len(wave)))
    views = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT_SAMPLES + FRAME_SAMPLES)[::FRAME_SAMPLES]
    return views[: frames + before_frames]


def voice_probability(wave):
    """(N,) float32 in [0, 1]: Silero's probability of speech in each 32 ms, frame i from sample 512 i.

    wave: (S,) float32 in [-1, 1] at 16 kHz.
    Raises UsageProblem for another shape, Missing when silero-vad is not installed.
    Source: Silero Team 2024, silero-vad 6.
    """
    windows = _windows(wave)
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    parts = [np.zeros(0, np.float32)]
    for start in range(0, len(windows), BLOCK_FRAMES):
        feed = {"input": np.ascontiguousarray(windows[start : start + BLOCK_FRAMES]), "h": hidden, "c": cell}
        values, hidden, cell = _network("silero_vad_16k_sequence.onnx").run(["speech_probs", "hn", "cn"], feed)
        parts.append(values.reshape(-1))
    return np.concatenate(parts)


def vowel_probability(wave):
    """(N,) float32 in [0, 1]: the same by a detector that has heard the last 96 ms only, so that held notes stay vowels.

    wave, raises: as in `voice_probability`.
    Source: ours, on silero-vad 6.
    """
    before = SUNG_MEMORY_FRAMES - 1
    windows = _windows(wave, before)
    parts = [np.zeros(0, np.float32)]
    for start in range(before, len(windows), BLOCK_FRAMES):
        stop = min(len(windows), start + BLOCK_FRAMES)
        state = np.zeros((2, stop - start, 128), np.float32)
        for back in range(before, -1, -1):
            block = np.ascontiguousarray(windows[start - back : stop - back])
            feed = {"input": block, "state": state, "sr": np.array(RATE_HZ)}
            values, state = _network("silero_vad.onnx").run(["output", "stateN"], feed)
        parts.append(values[:, 0])
    return np.concatenate(parts)


def voiced_frames(wave):
    """(N,) bool: frames of 32 ms in which somebody speaks or sings.

    wave, raises: as in `voice_probability`.
    Source: ours.
    """
    wave = level(_one_channel(wave))
    found = hysteresis(voice_probability(wave), ONSET, OFFSET)
    vowels = median_filter(vowel_probability(wave), SUNG_MEDIAN_FRAMES, mode="nearest")
    for a, b in runs(hysteresis(vowels, SUNG_ONSET, SUNG_OFFSET)):
        if b - a >= SUNG_SHORTEST_FRAMES:
            found[a:b] = True
    return found


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
    """(T,) float32 in [0, 1] at 50 Hz: 1 while somebody speaks or sings alone, 0 in silence, noise and music; ramps of 60 ms between.

    wave: (S,) float32 in [-1, 1] at 16 kHz, any level; T covers it completely, tick i is about the 20 ms from i / 50 s.
    Raises UsageProblem for another shape, Missing when silero-vad is not installed.
    Source: ours, on silero-vad.
    """
    found = voiced_frames(wave)
    ticks = -(-len(wave) * HZ // RATE_HZ)
    if ticks == 0:
        return np.zeros(0, np.float32)
    steps, samples = GRID_HZ // HZ, RATE_HZ // GRID_HZ
    frame_of = (np.arange(ticks * steps) * samples + samples // 2) // FRAME_SAMPLES
    mask = tidy(found[np.minimum(frame_of, len(found) - 1)], GRID_HZ)
    smooth = uniform_filter1d(mask.astype(float), round(RAMP_S * GRID_HZ), mode="nearest")
    return smooth.reshape(ticks, steps).mean(1).clip(0, 1).astype(np.float32)
