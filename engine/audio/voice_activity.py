"""When somebody speaks or sings: a smooth 50 Hz mask from Silero's voice detector; noise and music stay at zero."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from mouthpiece.engine.encoders.phonetic import RATE_HZ, normalize_level
from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.engine.weights.records import record_packaged_model

ACTIVITY_HZ = int(ARTICULATION_HZ)
FRAME_SAMPLES, CONTEXT_SAMPLES, BLOCK_FRAMES = 512, 64, 512  # what Silero takes: 32 ms, each told the 4 ms before it
SPEECH_ONSET, SPEECH_OFFSET = 0.5, 0.35  # speech starts above the first and ends below the second
# A held note is music to a detector that remembers it, and a vowel to one that has heard 96 ms only; instruments are
# neither.
SINGING_CONTEXT_FRAMES, SINGING_MEDIAN_FRAMES, SINGING_MIN_FRAMES = 3, 5, 8
SINGING_ONSET, SINGING_OFFSET = 0.3, 0.1
MIN_RUN_S, MAX_GAP_S, PAD_S, RAMP_S = 0.06, 0.08, 0.04, 0.06
GRID_HZ = 1000  # the mask is built in whole milliseconds


@cached_model(2)
def _load_network(name: str):
    """One of Silero's networks, found inside its package without importing it: the import would change torch's threads."""
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")
    path = Path(spec.submodule_search_locations[0]) / "data" / name if spec else None
    if path is None or not path.is_file():
        raise MissingDependencyError(
            f"silero-vad: {name} is not installed.", hint="Install silero-vad 6.2 or later.", code="no_vad"
        )
    record_packaged_model("silero_vad", (f"data/{name}",))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _check_wave(wave: np.ndarray) -> np.ndarray:
    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1:
        raise UsageError(f"wave of shape {wave.shape}: need (S,), one channel at 16 kHz.", code="bad_wave")
    return wave


def _frame_windows(wave: np.ndarray, before_frames: int = 0) -> np.ndarray:
    """(N + before_frames, 576) views: each frame of 512 samples after the 64 before it; zeros ahead of the sound."""
    wave = _check_wave(wave)
    frames = -(-len(wave) // FRAME_SAMPLES)
    padded = np.pad(wave, (CONTEXT_SAMPLES + before_frames * FRAME_SAMPLES, max(1, frames) * FRAME_SAMPLES - len(wave)))
    views = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT_SAMPLES + FRAME_SAMPLES)[::FRAME_SAMPLES]
    return views[: frames + before_frames]


def compute_speech_probability(wave: np.ndarray) -> np.ndarray:
    """(N,) float32 in [0, 1]: Silero's probability of speech in each 32 ms, frame i from sample 512 i.

    wave: (S,) float32 in [-1, 1] at 16 kHz.
    Raises UsageProblem for another shape, Missing when silero-vad is not installed.
    Source: Silero Team 2024, silero-vad 6.
    """
    windows = _frame_windows(wave)
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    parts = [np.zeros(0, np.float32)]
    for start in range(0, len(windows), BLOCK_FRAMES):
        feed = {"input": np.ascontiguousarray(windows[start : start + BLOCK_FRAMES]), "h": hidden, "c": cell}
        values, hidden, cell = _load_network("silero_vad_16k_sequence.onnx").run(["speech_probs", "hn", "cn"], feed)
        parts.append(values.reshape(-1))
    return np.concatenate(parts)


def compute_vowel_probability(wave: np.ndarray) -> np.ndarray:
    """(N,) float32 in [0, 1]: the same by a detector that has heard the last 96 ms only, so that held notes stay
    vowels.

    wave, raises: as in `voice_probability`.
    Source: ours, on silero-vad 6.
    """
    before = SINGING_CONTEXT_FRAMES - 1
    windows = _frame_windows(wave, before)
    parts = [np.zeros(0, np.float32)]
    for start in range(before, len(windows), BLOCK_FRAMES):
        stop = min(len(windows), start + BLOCK_FRAMES)
        state = np.zeros((2, stop - start, 128), np.float32)
        for back in range(before, -1, -1):
            block = np.ascontiguousarray(windows[start - back : stop - back])
            feed = {"input": block, "state": state, "sr": np.array(RATE_HZ)}
            values, state = _load_network("silero_vad.onnx").run(["output", "stateN"], feed)
        parts.append(values[:, 0])
    return np.concatenate(parts)


def detect_voiced_frames(wave: np.ndarray) -> np.ndarray:
    """(N,) bool: frames of 32 ms in which somebody speaks or sings.

    wave, raises: as in `voice_probability`.
    """
    wave = normalize_level(_check_wave(wave))
    found = apply_hysteresis(compute_speech_probability(wave), SPEECH_ONSET, SPEECH_OFFSET)
    vowels = median_filter(compute_vowel_probability(wave), SINGING_MEDIAN_FRAMES, mode="nearest")
    for a, b in find_runs(apply_hysteresis(vowels, SINGING_ONSET, SINGING_OFFSET)):
        if b - a >= SINGING_MIN_FRAMES:
            found[a:b] = True
    return found


def find_runs(mask: np.ndarray) -> np.ndarray:
    """(N, 2) int: start and end (exclusive) of each run of True. mask: (T,) bool."""
    return np.flatnonzero(np.diff(np.r_[0, np.asarray(mask, np.int8), 0])).reshape(-1, 2)


def apply_hysteresis(values: np.ndarray, onset: float, offset: float) -> np.ndarray:
    """(T,) bool: the runs above `offset` that reach `onset` somewhere, whole. values: (T,)."""
    out = np.zeros(len(values), bool)
    for a, b in find_runs(np.asarray(values) >= offset):
        out[a:b] = np.max(values[a:b]) >= onset
    return out


def clean_mask(mask: np.ndarray, rate_hz: int) -> np.ndarray:
    """(T,) bool: gaps under GAP_S filled, then runs under SHORTEST_S dropped, then the rest padded by PAD_S. mask: (T,)
    bool.
    """
    out = np.array(mask, bool)
    for a, b in find_runs(~out):
        if 0 < a and b < len(out) and b - a < MAX_GAP_S * rate_hz:
            out[a:b] = True
    kept, pad = np.zeros_like(out), round(PAD_S * rate_hz)
    for a, b in find_runs(out):
        if b - a >= MIN_RUN_S * rate_hz:
            kept[max(0, a - pad) : b + pad] = True
    return kept


def detect_speech_activity(wave: np.ndarray) -> np.ndarray:
    """(T,) float32 in [0, 1] at 50 Hz: 1 while somebody speaks or sings alone, 0 in silence, noise and music; ramps of
    60 ms between.

    wave: (S,) float32 in [-1, 1] at 16 kHz, any level; T covers it completely, tick i is about the 20 ms from i / 50 s.
    Raises UsageProblem for another shape, Missing when silero-vad is not installed.
    Source: ours, on silero-vad.
    """
    found = detect_voiced_frames(wave)
    ticks = -(-len(wave) * ACTIVITY_HZ // RATE_HZ)
    if ticks == 0:
        return np.zeros(0, np.float32)
    steps, samples = GRID_HZ // ACTIVITY_HZ, RATE_HZ // GRID_HZ
    frame_of = (np.arange(ticks * steps) * samples + samples // 2) // FRAME_SAMPLES
    mask = clean_mask(found[np.minimum(frame_of, len(found) - 1)], GRID_HZ)
    smooth = uniform_filter1d(mask.astype(float), round(RAMP_S * GRID_HZ), mode="nearest")
    return smooth.reshape(ticks, steps).mean(1).clip(0, 1).astype(np.float32)
