"""MMAudio's log-mel, on which the mel VAE and the vocoders were trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from mouthpiece.voice.mmaudio.sizes import AudioRates

_FLOOR = 1e-5  # of mel magnitudes
# The Slaney scale: linear up to 1 kHz, logarithmic above.
_LINEAR_HZ = 1000.0
_LINEAR_STEP_HZ = 200.0 / 3  # of a mel below
_LOG_STEP = math.log(6.4) / 27  # of a mel above, in log frequency


def convert_hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Convert frequencies to Slaney mels. Source: Auditory Toolbox, Slaney 1998."""
    hz = np.asarray(hz, np.float64)
    above = _LINEAR_HZ / _LINEAR_STEP_HZ + np.log(np.maximum(hz, _LINEAR_HZ) / _LINEAR_HZ) / _LOG_STEP
    return np.where(hz < _LINEAR_HZ, hz / _LINEAR_STEP_HZ, above)


def convert_mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """Convert Slaney mels to frequencies. Source: Auditory Toolbox, Slaney 1998."""
    mel, knee = np.asarray(mel, np.float64), _LINEAR_HZ / _LINEAR_STEP_HZ
    return np.where(mel < knee, mel * _LINEAR_STEP_HZ, _LINEAR_HZ * np.exp(_LOG_STEP * (np.maximum(mel, knee) - knee)))


def make_mel_filterbank(rates: AudioRates) -> torch.Tensor:
    """Make triangular filters of equal area, (bands, n_fft / 2 + 1) float32. Source: Auditory Toolbox, Slaney 1998."""
    edges = convert_mel_to_hz(np.linspace(convert_hz_to_mel(0.0), convert_hz_to_mel(rates.highest_hz), rates.bands + 2))
    hz = np.fft.rfftfreq(rates.n_fft, 1 / rates.rate_hz)
    up = (hz[None] - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - hz[None]) / np.diff(edges)[1:, None]
    area = 2 / (edges[2:] - edges[:-2])
    return torch.tensor(np.maximum(0, np.minimum(up, down)) * area[:, None], dtype=torch.float32)


def compute_log_mel(wave: torch.Tensor, rates: AudioRates) -> torch.Tensor:
    """Compute the log-mel (B, bands, S // hop) of waves (B, S) float32, clamped to [-1, 1].

    Source: MMAudio, 2412.15322 appendix.
    """
    pad = (rates.n_fft - rates.hop_samples) // 2
    wave = F.pad(wave.clamp(-1, 1)[:, None], (pad, pad), "reflect")[:, 0]
    window = torch.hann_window(rates.n_fft, device=wave.device)
    spectrum = torch.stft(wave, rates.n_fft, rates.hop_samples, window=window, center=False, return_complex=True)
    magnitude = torch.view_as_real(spectrum).square().sum(-1).add(1e-9).sqrt()
    mel = (make_mel_filterbank(rates).to(wave.device) @ magnitude).clamp_min(_FLOOR)
    return mel.log10() if rates.log_base == 10 else mel.log()
