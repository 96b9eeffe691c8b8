"""Speaker embeddings: a recording as 256 numbers, near each other for one person and apart for two."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mouthpiece.engine.audio.voice_activity import detect_voiced_frames
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, UsageError
from mouthpiece.engine.weights.digests import is_verified
from mouthpiece.engine.weights.loading import load_state_into
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.engine.weights.records import record_model

WEIGHTS_PACKAGE = "resemblyzer"
WEIGHTS_FILE = "pretrained.pt"
WEIGHTS_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
MEL_BINS = 40
FFT_SAMPLES = 400
HOP_SAMPLES = 160  # 100 frames a second
WINDOW_FRAMES = 160  # of one embedding, 1.6 s
STEP_FRAMES = 77  # between windows
MIN_WINDOW_COVERAGE = 0.75  # share of the last window that is not padding
TARGET_RMS = 10 ** (-30 / 20)  # level of the speech: the mel is not logarithmic
MIN_REFERENCE_S = 1.0  # of speech
VAD_SAMPLES = 512  # of one frame of the voice activity detector
_HINT = "Run: pip install Resemblyzer==0.1.4 (with --no-deps is enough)."


class SpeakerEncoder(nn.Module):
    """Embed mel frames (B, 160, 40) as (B, 256), not negative, of length one.

    Source: 1710.10467 (generalised end-to-end loss); network and weights of Resemblyzer 0.1.4, Apache-2.0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MEL_BINS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        # used in its training only
        self.similarity_weight, self.similarity_bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.lstm(mel)
        raw = self.linear(hidden[-1]).relu()
        return raw / raw.norm(dim=1, keepdim=True)


@cached_model(1)
def load_speaker_encoder() -> SpeakerEncoder:
    """Load the encoder with the weights of the installed package Resemblyzer, in eval; the package is not imported.

    Raises MissingDependencyError when the package is not there or has another file.
    Source: PyPI Resemblyzer 0.1.4.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / WEIGHTS_FILE if folders else None
    if path is None or not path.is_file():
        raise MissingDependencyError(
            "--voice match compares speakers with the weights of Resemblyzer, which is not installed.",
            hint=_HINT,
            code="no_resemblyzer",
        )
    if not is_verified(path, WEIGHTS_SHA256):
        raise MissingDependencyError(
            f"{path}: this is not the file of Resemblyzer 0.1.4.", hint=_HINT, code="bad_weights"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    except (OSError, pickle.UnpicklingError, RuntimeError, LookupError) as error:
        raise MissingDependencyError(
            f"{path}: cannot be read ({type(error).__name__}).", hint=_HINT, code="bad_weights"
        ) from error
    record_model(WEIGHTS_PACKAGE, path, WEIGHTS_SHA256)
    return load_state_into(SpeakerEncoder(), state, WEIGHTS_PACKAGE).eval()


def make_slaney_filterbank(bins: int = MEL_BINS, fft_samples: int = FFT_SAMPLES, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Make triangular mel filters of equal area, (bins, fft_samples // 2 + 1) float32, as librosa's.

    Source: Slaney, Auditory Toolbox 1998: linear below 1 kHz, logarithmic above.
    """
    step = np.log(6.4) / 27

    def to_hz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))

    top = 15 + np.log(rate_hz / 2 / 1000) / step
    points, f = to_hz(np.linspace(0, top, bins + 2)), np.fft.rfftfreq(fft_samples, 1 / rate_hz)
    up = (f[None] - points[:-2, None]) / np.diff(points)[:-1, None]
    down = (points[2:, None] - f[None]) / np.diff(points)[1:, None]
    return (np.maximum(0, np.minimum(up, down)) * (2 / (points[2:] - points[:-2]))[:, None]).astype(np.float32)


def compute_mel_power(wave: np.ndarray) -> torch.Tensor:
    """Compute the mel power, (T, 40) float32 at 100 Hz, not logarithmic, as librosa's melspectrogram.

    wave: (S,) float32 at 16 kHz.
    """
    spectrum = torch.stft(
        torch.as_tensor(np.ascontiguousarray(wave), dtype=torch.float32),
        FFT_SAMPLES,
        HOP_SAMPLES,
        window=torch.hann_window(FFT_SAMPLES),
        pad_mode="constant",
        return_complex=True,
    )
    return (torch.from_numpy(make_slaney_filterbank()) @ spectrum.abs() ** 2).T


def extract_speech(wave: np.ndarray) -> np.ndarray:
    """Extract the speech of a recording, without silence, at -30 dB: (S,) float32.

    wave: (S,) float32 at 16 kHz.
    Raises UsageError for another shape, InvalidInputError for less than a second of speech.
    Resemblyzer uses another detector and leaves loud speech as it is.
    """
    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1:
        raise UsageError(f"wave of shape {wave.shape}: need (S,), one channel at 16 kHz.", code="bad_wave")
    kept = wave[:0]
    if len(wave) >= VAD_SAMPLES:
        kept = wave[np.repeat(detect_voiced_frames(wave), VAD_SAMPLES)[: len(wave)]]
    if len(kept) < MIN_REFERENCE_S * RATE_HZ:
        lengths = f"({len(wave) / RATE_HZ:.1f} s) holds {len(kept) / RATE_HZ:.1f} s of speech"
        raise InvalidInputError(
            f"the recording {lengths}: too little to know a voice by.",
            hint=f"Give a recording with {MIN_REFERENCE_S:.0f} s of speech or more, better 10 s.",
            code="no_speech",
        )
    rms = float(np.sqrt((kept.astype(np.float64) ** 2).mean()))
    return kept * np.float32(TARGET_RMS / max(rms, 1e-9))


@torch.inference_mode()
def embed_speaker(wave: np.ndarray, encoder: SpeakerEncoder | None = None) -> np.ndarray:
    """Embed the speaker of a recording: (256,) float32 of length one; the cosine of two is their similarity.

    wave: (S,) float32 at 16 kHz, with a second of speech or more.  encoder: None loads it.
    Raises what `extract_speech` and `load_speaker_encoder` raise.
    Source: mean over windows of 1.6 s, as in 1710.10467 section 3.1.
    """
    mel = compute_mel_power(extract_speech(wave))
    starts = list(range(0, max(1, len(mel) - WINDOW_FRAMES + STEP_FRAMES), STEP_FRAMES))
    if len(starts) > 1 and len(mel) - starts[-1] < MIN_WINDOW_COVERAGE * WINDOW_FRAMES:
        starts.pop()
    mel = nn.functional.pad(mel, (0, 0, 0, max(0, starts[-1] + WINDOW_FRAMES - len(mel))))
    parts = (encoder or load_speaker_encoder())(torch.stack([mel[a : a + WINDOW_FRAMES] for a in starts]))
    mean = parts.mean(0)
    return (mean / mean.norm()).numpy()


def compute_speaker_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Compute the cosine of two embeddings, 0 to 1."""
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))
