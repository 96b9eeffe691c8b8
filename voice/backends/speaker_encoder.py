"""Who speaks: a recording becomes 256 numbers that lie near each other for one person and apart for two."""

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

WEIGHTS_PACKAGE, WEIGHTS_FILE = "resemblyzer", "pretrained.pt"
WEIGHTS_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
MEL_BINS, FFT_SAMPLES, HOP_SAMPLES = 40, 400, 160
WINDOW_FRAMES, STEP_FRAMES, MIN_WINDOW_COVERAGE = 160, 77, 0.75  # heard 1.6 s at a time
# speech is heard at -30 dB: the mel is not logarithmic, so level matters
TARGET_RMS = 10 ** (-30 / 20)
MIN_REFERENCE_S = 1.0
VAD_SAMPLES = 512
_HINT = "Run: pip install Resemblyzer==0.1.4 (with --no-deps is enough)."


class SpeakerEncoder(nn.Module):
    """Mel frames (B, 160, 40) -> embeddings (B, 256), not negative, of length one.

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
def load_speaker_encoder() -> None:
    """The encoder with the weights that lie in the installed package `Resemblyzer`, in eval; the package is not
    imported.

    Raises Missing when the package is not there or its file is another.
    Source: PyPI Resemblyzer 0.1.4.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    path = Path(spec.submodule_search_locations[0]) / WEIGHTS_FILE if spec else None
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
    """Triangular mel filters of equal area (bins, fft_samples // 2 + 1) float32, as librosa makes them.

    Source: Slaney, Auditory Toolbox 1998: linear below 1 kHz, logarithmic above.
    """
    step = np.log(6.4) / 27

    def hz_of(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))

    top = 15 + np.log(rate_hz / 2 / 1000) / step
    points, f = hz_of(np.linspace(0, top, bins + 2)), np.fft.rfftfreq(fft_samples, 1 / rate_hz)
    up = (f[None] - points[:-2, None]) / np.diff(points)[:-1, None]
    down = (points[2:, None] - f[None]) / np.diff(points)[1:, None]
    return (np.maximum(0, np.minimum(up, down)) * (2 / (points[2:] - points[:-2]))[:, None]).astype(np.float32)


def compute_mel_power(wave: np.ndarray) -> torch.Tensor:
    """Mel power (T, 40) float32 at 100 Hz, not logarithmic. wave: (S,) float32 at 16 kHz. Source: librosa's
    melspectrogram.
    """
    wave = torch.as_tensor(np.ascontiguousarray(wave), dtype=torch.float32)
    spectrum = torch.stft(
        wave, FFT_SAMPLES, HOP_SAMPLES, window=torch.hann_window(FFT_SAMPLES), pad_mode="constant", return_complex=True
    )
    return (torch.from_numpy(make_slaney_filterbank()) @ spectrum.abs() ** 2).T


def extract_speech(wave: np.ndarray) -> None:
    """The speech in a recording, silence cut out, at -30 dB: (S,) float32.

    wave: (S,) float32 at 16 kHz.
    Raises UsageProblem for another shape, Refused for less than a second of speech.
    Source: ours; Resemblyzer uses another detector and leaves loud speech as it is.
    """
    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1:
        raise UsageError(f"wave of shape {wave.shape}: need (S,), one channel at 16 kHz.", code="bad_wave")
    kept = (
        wave[np.repeat(detect_voiced_frames(wave), VAD_SAMPLES)[: len(wave)]] if len(wave) >= VAD_SAMPLES else wave[:0]
    )
    if len(kept) < MIN_REFERENCE_S * RATE_HZ:
        hint = f"Give a recording with {MIN_REFERENCE_S:.0f} s of speech or more, better 10 s."
        raise InvalidInputError(
            f"the recording ({len(wave) / RATE_HZ:.1f} s) holds {len(kept) / RATE_HZ:.1f} s of speech: too little to know a voice by.",
            hint=hint,
            code="no_speech",
        )
    rms = float(np.sqrt((kept.astype(np.float64) ** 2).mean()))
    return kept * np.float32(TARGET_RMS / max(rms, 1e-9))


@torch.inference_mode()
def embed_speaker(wave, encoder=None):
    """The speaker of a recording as (256,) float32 of length one; the cosine of two is their similarity.

    wave: (S,) float32 at 16 kHz, with a second of speech or more.
    encoder: SpeakerEncoder; None loads it.
    Raises what `speech_of` and `load_speaker_encoder` raise.
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
    """Cosine of two embeddings, 0 to 1. Source: 1710.10467."""
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))
