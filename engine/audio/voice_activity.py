"""Detect speech and singing: a smooth 50 Hz mask from Silero's voice activity detector, zero in noise and music."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from mouthpiece.engine.encoders.phonetic import RATE_HZ, normalize_level
from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.engine.weights.records import record_packaged_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ACTIVITY_HZ = int(ARTICULATION_HZ)  # rate of the mask
FRAME_SAMPLES = 512  # samples of a frame of Silero's, 32 ms at 16 kHz
CONTEXT_SAMPLES = 64  # samples before a frame that Silero takes with it, 4 ms
BLOCK_FRAMES = 512  # frames a call of the network
SPEECH_ONSET = 0.5  # probability above which speech starts
SPEECH_OFFSET = 0.35  # probability below which it ends
# A held note is music to a detector with memory, and a vowel to one that gets 96 ms only; instruments are neither.
SINGING_CONTEXT_FRAMES = 3  # frames that the detector of singing gets
SINGING_MEDIAN_FRAMES = 5  # frames of the median filter over its probability
SINGING_MIN_FRAMES = 8  # frames of the shortest singing
SINGING_ONSET = 0.3  # probability above which singing starts
SINGING_OFFSET = 0.1  # probability below which it ends
MIN_RUN_S = 0.06  # shorter speech is dropped
MAX_GAP_S = 0.08  # shorter gaps are filled
PAD_S = 0.04  # added on each side of speech
RAMP_S = 0.06  # length of the mask's ramps
GRID_HZ = 1000  # rate at which the mask is built, before it is averaged to ACTIVITY_HZ


@cached_model(2)
def _load_network(name: str) -> InferenceSession:
    """Load one of Silero's networks from its package, without an import, which would change torch's threads."""
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / "data" / name if folders else None
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
    """Check that a wave has one channel, and return it as float32."""
    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1:
        raise UsageError(f"wave of shape {wave.shape}: need (S,), one channel at 16 kHz.", code="bad_wave")
    return wave


def _frame_windows(wave: np.ndarray, before_frames: int = 0) -> np.ndarray:
    """Frame a wave, (N + before_frames, 576): each frame with the context before it; zeros ahead of the sound."""
    wave = _check_wave(wave)
    frames = -(-len(wave) // FRAME_SAMPLES)
    padded = np.pad(wave, (CONTEXT_SAMPLES + before_frames * FRAME_SAMPLES, max(1, frames) * FRAME_SAMPLES - len(wave)))
    views = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT_SAMPLES + FRAME_SAMPLES)[::FRAME_SAMPLES]
    return views[: frames + before_frames]


def compute_speech_probability(wave: np.ndarray) -> np.ndarray:
    """Compute Silero's probability of speech in each frame of 32 ms, (N,) float32 in [0, 1].

    wave: (S,) float32 in [-1, 1] at 16 kHz.
    Raises UsageError for another shape, MissingDependencyError when silero-vad is not installed.
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
    """Compute the probability of a vowel in each frame, (N,) float32: a detector of 96 ms keeps held notes vowels.

    wave, raises: as in `compute_speech_probability`.
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
    """Detect the frames of 32 ms in which somebody speaks or sings, (N,) bool.

    wave, raises: as in `compute_speech_probability`.
    """
    wave = normalize_level(_check_wave(wave))
    voiced = apply_hysteresis(compute_speech_probability(wave), SPEECH_ONSET, SPEECH_OFFSET)
    vowels = median_filter(compute_vowel_probability(wave), SINGING_MEDIAN_FRAMES, mode="nearest")
    for a, b in find_runs(apply_hysteresis(vowels, SINGING_ONSET, SINGING_OFFSET)):
        if b - a >= SINGING_MIN_FRAMES:
            voiced[a:b] = True
    return voiced


def find_runs(mask: np.ndarray) -> np.ndarray:
    """Find the runs of True in a mask (T,) bool: start and end (exclusive) of each, (N, 2) int."""
    return np.flatnonzero(np.diff(np.r_[0, np.asarray(mask, np.int8), 0])).reshape(-1, 2)


def apply_hysteresis(values: np.ndarray, onset: float, offset: float) -> np.ndarray:
    """Threshold values (T,) with hysteresis: whole runs above `offset` that reach `onset` somewhere, (T,) bool."""
    out = np.zeros(len(values), bool)
    for a, b in find_runs(np.asarray(values) >= offset):
        out[a:b] = np.max(values[a:b]) >= onset
    return out


def clean_mask(mask: np.ndarray, rate_hz: int) -> np.ndarray:
    """Clean a mask (T,) bool: fill gaps under MAX_GAP_S, drop runs under MIN_RUN_S, pad the rest by PAD_S."""
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
    """Detect speech activity, (T,) float32 in [0, 1] at 50 Hz: 1 while somebody speaks or sings, 0 in noise and music.

    wave: (S,) float32 in [-1, 1] at 16 kHz, any level; T covers it completely, tick i is about the 20 ms from i / 50 s.
    Raises UsageError for another shape, MissingDependencyError when silero-vad is not installed.
    Source: Silero Team 2024, silero-vad 6.
    """
    voiced = detect_voiced_frames(wave)
    ticks = -(-len(wave) * ACTIVITY_HZ // RATE_HZ)
    if ticks == 0:
        return np.zeros(0, np.float32)
    steps, samples = GRID_HZ // ACTIVITY_HZ, RATE_HZ // GRID_HZ
    frame_of = (np.arange(ticks * steps) * samples + samples // 2) // FRAME_SAMPLES
    mask = clean_mask(voiced[np.minimum(frame_of, len(voiced) - 1)], GRID_HZ)
    smooth = uniform_filter1d(mask.astype(float), round(RAMP_S * GRID_HZ), mode="nearest")
    return smooth.reshape(ticks, steps).mean(1).clip(0, 1).astype(np.float32)
