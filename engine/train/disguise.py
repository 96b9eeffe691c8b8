"""Other throats, microphones and rooms made from the same log-mel: what keeps the nets from knowing voices by heart."""
from functools import partial

import torch
from torch.nn import functional as F

from engine.encoders.audio import MEL_BINS

FLOOR = -2.5                           # log-mel of digital silence


def power(mel):
    """Natural log of magnitude of a log-mel. Source: inverse of `log_mel`."""
    return (mel - 1.2) / 0.4


def mel_of(log_magnitude):
    """Log-mel of a natural log of magnitude. Source: `log_mel`."""
    return log_magnitude * 0.4 + 1.2


def uniform(low, high, generator):
    """A float between low and high. Source: ours."""
    return float(torch.rand((), generator=generator)) * (high - low) + low


def warp_bands(mel, factor):
    """Another vocal tract (80, T): band b shows what band b (1 + factor) of mel (80, T) showed. Source: Jaitly and Hinton 2013."""
    at = (torch.arange(MEL_BINS) * (1 + factor)).clamp(0, MEL_BINS - 1)
    low = at.floor().long()
    part = (at - low)[:, None]
    return mel[low] * (1 - part) + mel[(low + 1).clamp(max=MEL_BINS - 1)] * part


def add_sound(mel, other, down_db):
    """Two sounds at once (80, T), the mean magnitude of the other one down_db below; both (80, T). Source: ours."""
    x, n = power(mel), power(other)
    n = n - n.exp().mean().log() + x.exp().mean().log() - down_db / 8.686
    return mel_of(torch.logaddexp(x, n))


def accompaniment(ticks, generator):
    """Synthetic music (80, T): steady chords that change every half second. Source: ours."""
    out = torch.full((MEL_BINS, ticks), -6.0)
    for start in range(0, ticks, 50):
        root = int(uniform(4, 18, generator))
        for k in range(1, 7):
            band = min(MEL_BINS - 1, int(root * (1 + 0.55 * (k - 1))))
            out[band, start : start + 50] = -0.4 * k + uniform(-0.5, 0.5, generator)
    return mel_of(out)


def room(mel, decay_frames, down_db):
    """The same in a room that rings on (80, T): a tail that falls to 1 / e in decay_frames, altogether down_db below. Source: ours."""
    x = (2 * power(mel)).exp()
    tail = torch.exp(-torch.arange(1.0, 5 * decay_frames + 1) / decay_frames)
    tail = F.pad(tail / tail.sum() * 10 ** (-down_db / 10), (1, 0))
    tail[0] = 1
    ringing = F.conv1d(F.pad(x, (len(tail) - 1, 0))[:, None], tail.flip(0)[None, None])[:, 0]
    return mel_of(0.5 * ringing.log())


def narrow(mel, bands):
    """The same through a line that carries the lowest bands alone (80, T). Source: ours."""
    return torch.cat([mel[:bands], torch.full_like(mel[bands:], float(mel.min()))])


def disguise(mel, others, generator):
    """A voice made strange, (80, T): throat, microphone, room, then often noise, music or another voice underneath, or a narrow line.

    mel: (80, T).  others: list of log-mels to mix in.  generator: decides everything.
    Source: ours; vocal tract length perturbation after Jaitly and Hinton 2013.
    """
    u = partial(uniform, generator=generator)
    m = warp_bands(mel, u(-0.16, 0.16)) + u(-0.3, 0.3) + torch.linspace(-1, 1, MEL_BINS)[:, None] * u(-0.5, 0.5)
    if u(0, 1) < 0.3:
        m = room(m, u(3, 25), u(0, 15))
    dice = u(0, 1)
    if dice < 0.25:
        noise = torch.randn(m.shape, generator=generator) * 0.4 + torch.linspace(0, u(-3, 1), MEL_BINS)[:, None]
        m = add_sound(m, mel_of(noise), u(3, 30))
    elif dice < 0.4 and others:
        o = others[int(u(0, len(others) - 1e-6))].float()
        start = int(u(0, max(1, o.shape[1] - m.shape[1])))
        o = o[:, start : start + m.shape[1]]
        m = add_sound(m, F.pad(o, (0, m.shape[1] - o.shape[1]), value=FLOOR), u(6, 30))
    elif dice < 0.5:
        m = add_sound(m, accompaniment(m.shape[1], generator), u(6, 30))
    if u(0, 1) < 0.2:
        m = narrow(m, int(u(48, 80)))
    if u(0, 1) < 0.3:
        m = m.clamp_min(float(m.mean()) - u(0.3, 1.5))
    return m
