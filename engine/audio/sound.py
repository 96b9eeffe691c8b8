"""Sound in memory: float32 in [-1, 1], channels first, with its rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, UsageError
from mouthpiece.engine.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
CHANNEL_NAMES = {  # what files that name no loudspeakers mean by this many channels
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "LFE"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
MAX_CHANNELS = len(LAYOUTS)
_LOW_FREQUENCY = ("LFE", "LFE2")
_LEFT = ("FL", "BL", "SL", "FLC", "WL", "DL", "TFL", "TBL", "TSL", "SDL")
_RIGHT = ("FR", "BR", "SR", "FRC", "WR", "DR", "TFR", "TBR", "TSR", "SDR")
_MAX_PEAK = 16.0  # a float file beyond this is not scaled to [-1, 1]
_MAX_TIMING_ERROR_S = Fraction(30, 1000)  # seconds; time stamps off by more are a hole or an overlap, by less rounding
_UNKNOWN_BYTES = 0x7FFF0000  # a WAV written to a pipe announces this much or more, or nothing


@dataclass(frozen=True)
class Sound:
    """A piece of sound.

    samples: (C, S) float32 in [-1, 1].
    rate_hz: int, samples a second.
    Raises MouthpieceError for another shape or dtype.
    """

    samples: np.ndarray = field(repr=False)
    rate_hz: int

    def __post_init__(self) -> None:
        shape, dtype = self.samples.shape, self.samples.dtype
        if len(shape) != 2 or dtype != np.float32 or not 1 <= shape[0] <= MAX_CHANNELS:
            raise MouthpieceError(f"sound of shape {shape} {dtype}; need (C, S) float32, C up to {MAX_CHANNELS}.")

    @property
    def duration(self) -> Fraction:
        """Length as Fraction, seconds."""
        return Fraction(self.samples.shape[1], self.rate_hz)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.samples.shape[0]

    def to_mono(self) -> Sound:
        """The same sound on one channel, never louder than full scale.

        Source: ours; see mix_matrix.
        """
        if self.channels == 1:
            return self
        matrix = make_mix_matrix(CHANNEL_NAMES[self.channels], 1)
        return Sound(matrix @ self.samples, self.rate_hz)

    def iterate_blocks(self, channels: int) -> Iterator[np.ndarray]:
        """The samples in (C, S) pieces of a second, with at most `channels` channels.

        Source: ours; see mix_matrix.
        """
        mix = make_mix_matrix(CHANNEL_NAMES[self.channels], channels) if self.channels > channels else None
        for start in range(0, self.samples.shape[1], self.rate_hz):
            block = self.samples[:, start : start + self.rate_hz]
            yield block if mix is None else mix @ block


def make_mix_matrix(names: tuple[str, ...], channels: int) -> np.ndarray:
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
        elif name not in _LOW_FREQUENCY:
            weights[:, i] = side
    if channels == 1:
        weights = weights.sum(0, keepdims=True)
    total = weights.sum(1, keepdims=True)
    return (weights / np.where(total > 0, total, 1)).astype(np.float32)


def make_channel_map(names: tuple[str, ...]) -> np.ndarray | None:
    """0 and 1 that bring loudspeakers to the usual ones of as many channels, or of the next more that have them all:
    (channels, C) float32.

    names: channel names in order, such as ("FL", "FR", "FC"), which become those of 5.0.
    None where they are the usual ones already; sides and backs count as the same. A layout that has no place here is
    mixed down to two.
    """
    if len(names) <= 2 or _name_sides_as_backs(names) == _name_sides_as_backs(CHANNEL_NAMES[len(names)]):
        return None
    for count in range(len(names), MAX_CHANNELS + 1):
        usual = CHANNEL_NAMES[count]
        for own, places in ((names, usual), (_name_sides_as_backs(names), _name_sides_as_backs(usual))):
            if set(own) <= set(places) and len(set(places)) == count:
                return np.array([[name == place for name in own] for place in places], np.float32)
    return make_mix_matrix(names, 2)


def _name_sides_as_backs(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names with sides for backs, where there are not both."""
    both = {"SL", "BL"} <= set(names)
    return tuple(names) if both else tuple({"SL": "BL", "SR": "BR"}.get(name, name) for name in names)


def place_blocks(timed_blocks: Iterator, rate_hz: int, announced_samples: int, path: Path) -> Iterator[np.ndarray]:
    """Blocks put where their time stamps say, from time zero: holes become silence, overlaps are cut.

    timed_blocks: pairs of an int sample number (None: right after the last) and a (C, S) float32 block.
    rate_hz: int, samples a second.
    announced_samples: int, where the header says the sound ends; 0 when it does not say.
    path: the file, for the error.
    Raises Refused when the blocks end more than 100 ms before that, or hold NaN, infinity or unscaled values.
    """
    position = 0
    for at, block in timed_blocks:
        _check_samples(block, path)
        gap = 0 if at is None else at - position
        if position and abs(gap) <= _MAX_TIMING_ERROR_S * rate_hz:
            gap = 0
        for start in range(0, gap, rate_hz):
            yield np.zeros((block.shape[0], min(rate_hz, gap - start)), np.float32)
        block = block[:, max(0, -gap) :]
        position += max(0, gap) + block.shape[1]
        if block.shape[1]:
            yield block
    if announced_samples - position > rate_hz // 10:
        raise _make_truncation_error(path, f"{announced_samples / rate_hz:.2f} s", f"{position / rate_hz:.2f} s")


def check_sound_format(path: Path, rate_hz: int, channels: int) -> None:
    """Refuses rates and channel counts that no speech recording has, and a WAV file shorter than its header says.

    path: the file.
    rate_hz, channels: ints, as the file says.
    Raises Refused.
    Source: ours; RIFF bytes 4 to 8 count what follows them.
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ or not 1 <= channels <= MAX_CHANNELS:
        raise InvalidInputError(
            f"{path}: sound of {rate_hz} Hz in {channels} channels.",
            hint=f"Give {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz and 1 to {MAX_CHANNELS} channels.",
            code="sound_format",
        )
    with open(path, "rb") as file:
        head = file.read(12)
        there = file.seek(0, 2) - 8
    announced = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RIFF" and head[8:] == b"WAVE" and there + 1 < announced < _UNKNOWN_BYTES:
        raise _make_truncation_error(path, f"{announced} bytes", f"{there}")


def _check_samples(block: np.ndarray, path: Path) -> None:
    """Refuses sound that holds NaN, infinity or unscaled values."""
    peak = np.abs(block).max(initial=0.0)
    if not peak <= _MAX_PEAK:
        found = f"a peak of {peak:.0f}" if np.isfinite(peak) else "values that are no numbers (NaN or infinity)"
        raise InvalidInputError(
            f"{path}: the sound holds {found}; samples must lie in [-1, 1].",
            hint="Export it again from the program that made it.",
            code="bad_samples",
        )


def _make_truncation_error(path: Path, announced: str, there: str) -> InvalidInputError:
    return InvalidInputError(
        f"{path}: the sound is cut off: {announced} announced, {there} there.",
        hint="Copy or export the file again.",
        code="broken_sound",
    )


def write_sound(path: Path, sound: Sound, bits: int = 16, overwrite: bool = False, inputs: tuple = ()) -> None:
    """Writes a WAV file under a temporary name and renames it.

    path: str or Path ending in .wav.
    sound: Sound; what lies outside [-1, 1] is limited to it.
    bits: 16 or 24.
    overwrite, inputs: as for files.output_file.
    Raises UsageProblem for another ending or an output in the way; WriteFailed for the disk.
    """
    if not str(path).lower().endswith(".wav") or bits not in (16, 24):
        raise UsageError(f"{path}: sound is written as .wav with 16 or 24 bits.", hint="Give a name ending in .wav.")
    with atomic_write(path, overwrite, inputs) as part:
        try:
            soundfile.write(part, np.clip(sound.samples.T, -1, 1), sound.rate_hz, subtype=f"PCM_{bits}", format="WAV")
        except soundfile.LibsndfileError as error:
            raise OSError(None, str(error)) from error
