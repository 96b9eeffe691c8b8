"""Other throats, microphones and rooms made from the same log-mel: what keeps the nets from knowing voices by heart."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional as F

from mouthpiece.engine.encoders.phonetic import MEL_BINS

SILENCE_LOG_MEL = -2.5  # log-mel of digital silence


def to_log_magnitude(mel: torch.Tensor) -> torch.Tensor:
    """Return the natural log of magnitude of a log-mel. Source: inverse of `compute_log_mel`."""
    return (mel - 1.2) / 0.4


def to_log_mel(log_magnitude: torch.Tensor) -> torch.Tensor:
    """Return the log-mel of a natural log of magnitude. Source: `compute_log_mel`."""
    return log_magnitude * 0.4 + 1.2


def draw_uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Return a float between low and high."""
    return float(torch.rand((), generator=generator)) * (high - low) + low


def perturb_vocal_tract_length(mel: torch.Tensor, factor: float) -> torch.Tensor:
    """Return the another vocal tract (80, T): band b shows what band b (1 + factor) of mel (80, T) showed. Source:
    Jaitly and
    Hinton 2013.
    """
    at = (torch.arange(MEL_BINS) * (1 + factor)).clamp(0, MEL_BINS - 1)
    low = at.floor().long()
    part = (at - low)[:, None]
    return mel[low] * (1 - part) + mel[(low + 1).clamp(max=MEL_BINS - 1)] * part


def mix_at_snr(mel: torch.Tensor, other: torch.Tensor, snr_db: float) -> torch.Tensor:
    """Return the two sounds at once (80, T), the mean magnitude of the other one down_db below; both (80, T)."""
    x, n = to_log_magnitude(mel), to_log_magnitude(other)
    n = n - n.exp().mean().log() + x.exp().mean().log() - snr_db / 8.686
    return to_log_mel(torch.logaddexp(x, n))


def synthesize_music(ticks: int, generator: torch.Generator) -> torch.Tensor:
    """Return the synthetic music (80, T): steady chords that change every half second."""
    out = torch.full((MEL_BINS, ticks), -6.0)
    for start in range(0, ticks, 50):
        root = int(draw_uniform(4, 18, generator))
        for k in range(1, 7):
            band = min(MEL_BINS - 1, int(root * (1 + 0.55 * (k - 1))))
            out[band, start : start + 50] = -0.4 * k + draw_uniform(-0.5, 0.5, generator)
    return to_log_mel(out)


def add_reverb(mel: torch.Tensor, decay_frames: float, down_db: float) -> torch.Tensor:
    """Return the same in a room that rings on (80, T): a tail that falls to 1 / e in decay_frames, altogether down_db
    below.
    """
    x = (2 * to_log_magnitude(mel)).exp()
    tail = torch.exp(-torch.arange(1.0, 5 * decay_frames + 1) / decay_frames)
    tail = F.pad(tail / tail.sum() * 10 ** (-down_db / 10), (1, 0))
    tail[0] = 1
    ringing = F.conv1d(F.pad(x, (len(tail) - 1, 0))[:, None], tail.flip(0)[None, None])[:, 0]
    return to_log_mel(0.5 * ringing.log())


def band_limit(mel: torch.Tensor, bands: int) -> torch.Tensor:
    """Return the same through a line that carries the lowest bands alone (80, T)."""
    return torch.cat([mel[:bands], torch.full_like(mel[bands:], float(mel.min()))])


def augment(mel: torch.Tensor, others: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    """Return a voice made strange, (80, T): throat, microphone, room, then often noise, music or another voice
    underneath, or
    a narrow line.

    mel: (80, T).  others: list of log-mels to mix in.  generator: decides everything.
    Source: vocal tract length perturbation after Jaitly and Hinton 2013.
    """
    u = partial(draw_uniform, generator=generator)
    m = (
        perturb_vocal_tract_length(mel, u(-0.16, 0.16))
        + u(-0.3, 0.3)
        + torch.linspace(-1, 1, MEL_BINS)[:, None] * u(-0.5, 0.5)
    )
    if u(0, 1) < 0.3:
        m = add_reverb(m, u(3, 25), u(0, 15))
    dice = u(0, 1)
    if dice < 0.25:
        noise = torch.randn(m.shape, generator=generator) * 0.4 + torch.linspace(0, u(-3, 1), MEL_BINS)[:, None]
        m = mix_at_snr(m, to_log_mel(noise), u(3, 30))
    elif dice < 0.4 and others:
        o = others[int(u(0, len(others) - 1e-6))].float()
        start = int(u(0, max(1, o.shape[1] - m.shape[1])))
        o = o[:, start : start + m.shape[1]]
        m = mix_at_snr(m, F.pad(o, (0, m.shape[1] - o.shape[1]), value=SILENCE_LOG_MEL), u(6, 30))
    elif dice < 0.5:
        m = mix_at_snr(m, synthesize_music(m.shape[1], generator), u(6, 30))
    if u(0, 1) < 0.2:
        m = band_limit(m, int(u(48, 80)))
    if u(0, 1) < 0.3:
        m = m.clamp_min(float(m.mean()) - u(0.3, 1.5))
    return m
