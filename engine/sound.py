"""Sound in memory: float32 in [-1, 1], channels first, with its rate."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import soundfile

from engine.errors import MouthpieceError, UsageProblem
from engine.files import replacing

_CENTRE = ("FC",)
_LOW = ("LFE", "LFE2")
_LEFT = ("FL", "BL", "SL", "FLC", "WL", "DL", "TFL", "TBL", "TSL", "SDL")
_RIGHT = ("FR", "BR", "SR", "FRC", "WR", "DR", "TFR", "TBR", "TSR", "SDR")
_USUAL = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "LFE"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


@dataclass(frozen=True)
class Sound:
    """A piece of sound.

    samples: (C, S) float32 in [-1, 1].
    rate_hz: int, samples a second.
    Raises MouthpieceError for another shape or dtype.
    Source: ours.
    """

    samples: np.ndarray = field(repr=False)
    rate_hz: int

    def __post_init__(self):
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise MouthpieceError(f"sound of shape {self.samples.shape} {self.samples.dtype}; need (C, S) float32.")

    @property
    def duration(self):
        """Length as Fraction, seconds."""
        return Fraction(self.samples.shape[1], self.rate_hz)

    @property
    def channels(self):
        """Number of channels."""
        return self.samples.shape[0]

    def mono(self):
        """The same sound on one channel, never louder than full scale.

        Source: ours; see mix_matrix.
        """
        if self.channels == 1:
            return self
        matrix = mix_matrix(_USUAL.get(self.channels, ("FC",) * self.channels), 1)
        return Sound(matrix @ self.samples, self.rate_hz)


def mix_matrix(names, channels):
    """Weights that bring any loudspeaker layout to one or two channels: (channels, C) float32.

    names: channel names in order, such as ("FL", "FR", "FC", "LFE", "BL", "BR").
    channels: int, 1 or 2.
    Rows sum to one, so full scale in stays within full scale out; the low-frequency channel is left out.
    Source: ITU-R BS.775-4, table 2 (surround and centre at -3 dB), scaled to a sum of one.
    """
    if len(names) == 1:
        return np.ones((channels, 1), np.float32)
    weights = np.zeros((2, len(names)))
    for i, name in enumerate(names):
        side = 0.5**0.5 if name not in ("FL", "FR") and len(names) > 2 else 1.0
        if name in _LEFT:
            weights[0, i] = side
        elif name in _RIGHT:
            weights[1, i] = side
        elif name not in _LOW:
            weights[:, i] = side
    if channels == 1:
        weights = weights.sum(0, keepdims=True)
    total = weights.sum(1, keepdims=True)
    return (weights / np.where(total > 0, total, 1)).astype(np.float32)


def write_sound(path, sound, bits=16, overwrite=False, inputs=()):
    """Writes a WAV file under a temporary name and renames it.

    path: str or Path ending in .wav.
    sound: Sound; what lies outside [-1, 1] is limited to it.
    bits: 16 or 24.
    overwrite, inputs: as for files.output_file.
    Raises UsageProblem for another ending or an output in the way; WriteFailed for the disk.
    Source: ours.
    """
    if not str(path).lower().endswith(".wav") or bits not in (16, 24):
        raise UsageProblem(f"{path}: sound is written as .wav with 16 or 24 bits.", hint="Give a name ending in .wav.")
    with replacing(path, overwrite, inputs) as part:
        try:
            soundfile.write(part, np.clip(sound.samples.T, -1, 1), sound.rate_hz, subtype=f"PCM_{bits}", format="WAV")
        except soundfile.LibsndfileError as error:
            raise OSError(None, str(error)) from error
