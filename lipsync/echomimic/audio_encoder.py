"""Audio features for EchoMimic: the inner states of whisper tiny's encoder, gathered around each frame."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mouthpiece.engine.encoders.phonetic import HOP_SAMPLES
from mouthpiece.lipsync.echomimic.config import STATE_LAYERS, TOKEN_STATES

STATE_HZ = 50  # states a second
SEGMENT_MEL = 3000  # mel frames that the encoder takes at once: 30 s
SEGMENT_STATES = SEGMENT_MEL // 2
MEL_BINS = 80
FFT_SAMPLES = 400  # at 16 kHz
LOG_RANGE = 8.0  # powers of ten below the clip's peak that the log-mel shows
STATES_BEFORE = 4  # states before a frame's own; five come after it
BLOCK_SAMPLES = SEGMENT_MEL * HOP_SAMPLES
CACHED_SEGMENTS = 2  # encoded pieces that are kept: a window across a border needs two


class WhisperAudioEncoder(nn.Module):
    """Encode log-mel with whisper's encoder and return all of its inner states.

    heads: of its attention.  bins: of the mel spectrogram.  positions, width, blocks: sizes of the encoder.
    Source: 2212.04356; openai-whisper's AudioEncoder.
    """

    def __init__(
        self, heads: int = 6, bins: int = MEL_BINS, positions: int = SEGMENT_STATES, width: int = 384, blocks: int = 4
    ) -> None:
        from whisper.model import AudioEncoder  # slow to import

        super().__init__()
        self.encoder = AudioEncoder(bins, positions, width, heads, blocks)

    def forward(self, mel: Tensor) -> Tensor:
        """Compute the states (1500, 5, width) of log-mel (80, 3000): stem with positions, then each block's output."""
        encoder = self.encoder
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel[None].to(encoder.conv1.weight.dtype))))).transpose(1, 2)
        states = [x + encoder.positional_embedding.to(x.dtype)]
        for block in encoder.blocks:
            states.append(block(states[-1]))
        return torch.stack(states, 2)[0]


def compute_log_power(wave: Tensor, start: int, stop: int) -> Tensor:
    """Compute log10 mel power (80, stop - start) of some mel frames, as in a transform of the whole wave.

    wave: (S,) at 16 kHz.
    Source: whisper.audio.
    """
    from whisper.audio import mel_filters

    half = FFT_SAMPLES // 2
    first, last = start * HOP_SAMPLES - half, (stop - 1) * HOP_SAMPLES + half
    part = wave[max(0, first) : last]
    # The whole wave is mirrored at its ends; a part of it must be mirrored at the same ends only.
    part = F.pad(part[None], (max(0, -first), max(0, last - len(wave))), mode="reflect")[0]
    window = torch.hann_window(FFT_SAMPLES)
    spectrum = torch.stft(part, FFT_SAMPLES, HOP_SAMPLES, window=window, center=False, return_complex=True)
    return (mel_filters("cpu", MEL_BINS) @ spectrum.abs() ** 2).clamp_min(1e-10).log10()


def count_mel_frames(samples: int) -> int:
    """Count the mel frames of a wave; the last one of the transform is dropped. Source:
    whisper.audio.log_mel_spectrogram.
    """
    return samples // HOP_SAMPLES


class AudioFeatures:
    """Compute the audio features of a recording piece by piece, in memory that does not grow with it.

    audio_encoder: on any device.
    wave: (S,) float32 at 16 kHz; one shorter than a mel frame needs is padded with silence.
    Source: EchoMimic v1: 30 s at a time, the rest of a piece is 0 in the log-mel, one floor for the whole clip.
    """

    def __init__(self, audio_encoder: WhisperAudioEncoder, wave: np.ndarray) -> None:
        samples = torch.as_tensor(np.ascontiguousarray(wave), dtype=torch.float32)
        self.audio_encoder = audio_encoder
        self.wave = F.pad(samples, (0, max(0, FFT_SAMPLES + HOP_SAMPLES - len(samples))))
        self.mel_frames = count_mel_frames(len(self.wave))
        self.peak = max(float(compute_log_power(self.wave, a, b).max()) for a, b in self._get_segments())
        self.states = sum((b - a) // 2 for a, b in self._get_segments())
        self._segment = lru_cache(maxsize=CACHED_SEGMENTS)(self._encode_segment)

    def _get_segments(self) -> list[tuple[int, int]]:
        """List the (start, stop) mel frames of the pieces."""
        starts = range(0, self.mel_frames, SEGMENT_MEL)
        return [(start, min(start + SEGMENT_MEL, self.mel_frames)) for start in starts]

    def compute_log_mel(self, start: int, stop: int) -> Tensor:
        """Compute log-mel (80, stop - start), about -1 to 1. start, stop: mel frames. Source: 2212.04356
        section 2.2.
        """
        return (compute_log_power(self.wave, start, stop).clamp_min(self.peak - LOG_RANGE) + 4) / 4

    @torch.inference_mode()
    def _encode_segment(self, number: int) -> torch.Tensor:
        """Encode one piece; returns its states (N, 5, width) float32."""
        start = number * SEGMENT_MEL
        stop = min(start + SEGMENT_MEL, self.mel_frames)
        mel = F.pad(self.compute_log_mel(start, stop), (0, SEGMENT_MEL - (stop - start)))
        device = self.audio_encoder.encoder.positional_embedding.device
        return self.audio_encoder(mel.to(device))[: (stop - start) // 2].float()

    def get_states(self, ticks: range | list[int]) -> Tensor:
        """Return the states (N, 5, width) at ticks (N,) of 20 ms; those beyond an end are those of the end."""
        inside = np.clip(np.asarray(ticks), 0, self.states - 1)
        return torch.stack([self._segment(int(t) // SEGMENT_STATES)[int(t) % SEGMENT_STATES] for t in inside])

    def get_tokens(self, start: int, stop: int, fps: Fraction | int) -> Tensor:
        """Return the audio tokens (1, stop - start, 50, width) of frames. fps: frames a second. Source:
        EchoMimic v1.
        """
        ticks = [get_centre_tick(i, fps) - STATES_BEFORE + k for i in range(start, stop) for k in range(TOKEN_STATES)]
        return self.get_states(ticks).reshape(1, stop - start, TOKEN_STATES * STATE_LAYERS, -1)


def get_centre_tick(frame: int, fps: Fraction | float) -> int:
    """Return the tick in the middle of a frame. fps: exact as a Fraction, or a float for the published rounding."""
    return int(frame * STATE_HZ / fps)


def gather_tokens(states: Tensor, frames: int, fps: Fraction | int) -> Tensor:
    """Gather the audio tokens (1, frames, 50, width) of all states (T, 5, width) at once. Source: EchoMimic v1."""
    near = torch.tensor(
        [[get_centre_tick(i, fps) - STATES_BEFORE + k for k in range(TOKEN_STATES)] for i in range(frames)]
    )
    return states[near.clamp(0, len(states) - 1)].flatten(1, 2)[None]
