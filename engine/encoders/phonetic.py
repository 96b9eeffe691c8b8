"""Encode sound to articulation: log-mel at 100 Hz, then phones, voicing, F0 and energy at 50 Hz by a small network."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mouthpiece.engine.contracts import PHONES, SILENT_ENERGY, Articulation
from mouthpiece.engine.nn.blocks import MixBlock
from mouthpiece.engine.weights.loading import load_state, load_state_into
from mouthpiece.engine.weights.model_cache import cached_model

RATE_HZ = 16000  # sample rate of what is encoded
HOP_SAMPLES = 160  # samples of a log-mel frame, of which there are 100 a second
MEL_BINS = 80  # bands of a frame
TICK_HOPS = 2  # frames of an articulation tick, 20 ms
SPEECH_RMS = 0.08  # level at which speech enters the network
F0_REFERENCE_HZ = 150.0  # octave 0 of the F0 track


def make_mel_filters(
    bins: int = MEL_BINS, n_fft: int = 512, rate_hz: int = RATE_HZ, low_hz: int = 50, high_hz: float = 7600
) -> torch.Tensor:
    """Make triangular mel filters (bins, n_fft // 2 + 1), HTK scale. Source: HTK book 5.6."""
    mel, hz = (lambda f: 2595 * np.log10(1 + f / 700)), (lambda m: 700 * (10 ** (m / 2595) - 1))
    p, f = hz(np.linspace(mel(low_hz), mel(high_hz), bins + 2)), np.fft.rfftfreq(n_fft, 1 / rate_hz)
    up = (f[None] - p[:-2, None]) / (p[1:-1] - p[:-2])[:, None]
    down = (p[2:, None] - f[None]) / (p[2:] - p[1:-1])[:, None]
    return torch.tensor(np.maximum(0, np.minimum(up, down)), dtype=torch.float32)


_MEL_FILTERS = make_mel_filters()


def normalize_level(wave: np.ndarray) -> np.ndarray:
    """Normalize the level of speech: the RMS of its loud frames becomes SPEECH_RMS; digital silence stays silence.

    wave: (S,) float32 at 16 kHz.
    """
    n = len(wave) // HOP_SAMPLES
    if n == 0:
        return wave
    power = (wave[: n * HOP_SAMPLES].reshape(n, HOP_SAMPLES) ** 2).mean(1)
    loud = power[power >= np.quantile(power, 0.95) * 0.01].mean()
    return wave * (SPEECH_RMS / np.sqrt(loud)) if loud > 1e-9 else wave


def compute_log_mel(wave: np.ndarray) -> torch.Tensor:
    """Compute the log-mel spectrogram (80, T) at 100 Hz, frame k centred on k / 100 s, one a whole hop, at least one.

    wave: (S,) float32 at 16 kHz, from `normalize_level`.
    """
    samples = torch.as_tensor(np.ascontiguousarray(wave), dtype=torch.float32)
    window = torch.hann_window(400)
    s = torch.stft(samples, 512, HOP_SAMPLES, 400, window, pad_mode="constant", return_complex=True).abs()
    frames = max(1, len(wave) // HOP_SAMPLES)
    return torch.log((_MEL_FILTERS @ s[:, :frames]).clamp_min(1e-4)) * 0.4 + 1.2


class PhoneticEncoder(nn.Module):
    """Recognize phones, voicing and F0 in log-mel.

    width: channels.  dilations: of the blocks, ticks between taps; they reach 1.2 s to each side.
    dropout: share of hidden numbers dropped in training.
    docs/architecture.md has the reasons.
    """

    def __init__(
        self, width: int = 160, dilations: list[int] | tuple[int, ...] = (1, 1, 2, 2, 1, 2, 4, 1), dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.config = dict(width=width, dilations=list(dilations), dropout=dropout)
        self.inlet = nn.Sequential(
            nn.Conv1d(MEL_BINS, width, 5, padding=2), nn.GELU(), nn.Conv1d(width, width, 4, 2, 1)
        )
        self.body = nn.ModuleList(MixBlock(width, 9, d, dropout) for d in dilations)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, len(PHONES) + 2)

    def forward(self, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode log-mel (B, 80, 2 T): phone logits (B, T, 40), voicing logit (B, T), F0 in octaves (B, T); 50 Hz."""
        x = self.inlet(mel).transpose(1, 2)
        for block in self.body:
            x = block(x)
        out = self.out(self.norm(x)).float()
        return out[..., :-2], out[..., -2], out[..., -1]


@cached_model(1)
def load_phonetic_encoder() -> PhoneticEncoder:
    """Load the embedded phonetic encoder, float32, in eval, on the CPU; the same object each time in a process.

    Raises MissingDependencyError where its weights are not there.
    """
    state, config = load_state("phonetic")
    encoder = PhoneticEncoder(config["width"], config["dilations"], config["dropout"])
    return load_state_into(encoder, state, "phonetic").eval().float()


def compute_energy(mel: torch.Tensor) -> torch.Tensor:
    """Compute the energy (B, T) at 50 Hz of log-mel (B, 80, 2 T): its mean, 0 at speaking level, -1.5 in silence."""
    return F.avg_pool1d(mel.mean(1, keepdim=True), TICK_HOPS)[:, 0].clamp_min(SILENT_ENERGY)


def encode_articulation(encoder: PhoneticEncoder, mel: torch.Tensor) -> torch.Tensor:
    """Encode log-mel (B, 80, 2 T) to the articulation stream (B, T, 43)."""
    logits, voicing, f0 = encoder(mel)
    voiced = torch.sigmoid(voicing)
    return torch.cat(
        [logits.softmax(-1), voiced[..., None], (f0 * voiced)[..., None], compute_energy(mel)[..., None]], -1
    )


@torch.inference_mode()
def extract_articulation(
    encoder: PhoneticEncoder, wave: np.ndarray, window_s: float = 20.0, margin_s: float = 1.3
) -> Articulation:
    """Extract the articulation of a whole recording, in windows of constant memory that give what one pass would.

    encoder: in eval mode.
    wave: (S,) float32 at 16 kHz, any level.
    window_s: seconds encoded at a time.  margin_s: seconds beyond it on each side, no less than the encoder reaches.
    """
    wave = normalize_level(np.asarray(wave, np.float32))
    ticks = max(1, -(-len(wave) // (HOP_SAMPLES * TICK_HOPS)))
    wave = np.pad(wave, (0, ticks * HOP_SAMPLES * TICK_HOPS - len(wave)))
    step, margin = int(window_s * 50), int(margin_s * 50)
    unit, parts = HOP_SAMPLES * TICK_HOPS, []
    for start in range(0, ticks, step):
        stop = min(ticks, start + step)
        a, b = max(0, start - margin), min(ticks, stop + margin)
        mel = compute_log_mel(wave[a * unit : b * unit])[None]
        parts.append(encode_articulation(encoder, mel)[0, start - a : stop - a].float().numpy())
    return Articulation(np.concatenate(parts))
