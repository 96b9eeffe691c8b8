"""Hold sound in memory (float32 in [-1, 1], channels first), mix its channels, and write WAV files."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, UsageError
from mouthpiece.engine.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

# number of channels -> FFmpeg's name of the layout
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# number of channels -> names in order, also of files that do not name them
CHANNEL_NAMES = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "LFE"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
MIN_RATE_HZ = 8_000  # lowest sample rate that is read
MAX_RATE_HZ = 192_000  # highest sample rate that is read
MAX_CHANNELS = len(LAYOUTS)
_LOW_FREQUENCY = ("LFE", "LFE2")  # names of the low-frequency channels
# names of channels on the left
_LEFT = ("FL", "BL", "SL", "FLC", "WL", "DL", "TFL", "TBL", "TSL", "SDL")
# names of channels on the right
_RIGHT = ("FR", "BR", "SR", "FRC", "WR", "DR", "TFR", "TBR", "TSR", "SDR")
_MAX_PEAK = 16.0  # samples of a float file beyond this are not scaled to [-1, 1]
_MAX_TIMING_ERROR_S = Fraction(30, 1000)  # time stamps off by more are a gap or an overlap, by less rounding
_UNKNOWN_BYTES = 0x7FFF0000  # a WAV written to a pipe announces this much or more, or nothing


@dataclass(frozen=True)
class Sound:
    """Sound with its sample rate.

    samples: (C, S) float32 in [-1, 1].
    rate_hz: samples a second.
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
        """Return the exact length in seconds."""
        return Fraction(self.samples.shape[1], self.rate_hz)

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return self.samples.shape[0]

    def to_mono(self) -> Sound:
        """Mix to one channel by make_mix_matrix, never louder than full scale."""
        if self.channels == 1:
            return self
        matrix = make_mix_matrix(CHANNEL_NAMES[self.channels], 1)
        return Sound(matrix @ self.samples, self.rate_hz)

    def iterate_blocks(self, channels: int) -> Iterator[np.ndarray]:
        """Iterate over blocks (C, S) of a second; more than `channels` are mixed down to so many by make_mix_matrix."""
        mix = make_mix_matrix(CHANNEL_NAMES[self.channels], channels) if self.channels > channels else None
        for start in range(0, self.samples.shape[1], self.rate_hz):
            block = self.samples[:, start : start + self.rate_hz]
            yield block if mix is None else mix @ block


def make_mix_matrix(names: tuple[str, ...], channels: int) -> np.ndarray:
    """Make the matrix that mixes any channel layout down to one or two channels, (channels, C) float32.

    names: channel names in order, such as ("FL", "FR", "FC", "LFE", "BL", "BR").
    channels: 1 or 2.
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
    """Make the permutation matrix from a channel layout to the smallest one of CHANNEL_NAMES that contains it.

    names: channel names in order, such as ("FL", "FR", "FC"), which become those of 5.0.
    Returns (channels, C) float32; None where nothing changes, sides and backs counting as the same. A layout that is
    contained in none is mixed down to two channels.
    """
    if len(names) <= 2 or _name_sides_as_backs(names) == _name_sides_as_backs(CHANNEL_NAMES[len(names)]):
        return None
    for count in range(len(names), MAX_CHANNELS + 1):
        usual = CHANNEL_NAMES[count]
        for names_in, names_out in ((names, usual), (_name_sides_as_backs(names), _name_sides_as_backs(usual))):
            if set(names_in) <= set(names_out) and len(set(names_out)) == count:
                return np.array([[name == other for name in names_in] for other in names_out], np.float32)
    return make_mix_matrix(names, 2)


def _name_sides_as_backs(names: tuple[str, ...]) -> tuple[str, ...]:
    """Rename sides to backs, where a layout does not have both."""
    both = {"SL", "BL"} <= set(names)
    return tuple(names) if both else tuple({"SL": "BL", "SR": "BR"}.get(name, name) for name in names)


def place_blocks(
    timed_blocks: Iterable[tuple[int | None, np.ndarray]], rate_hz: int, announced_samples: int, path: str | Path
) -> Iterator[np.ndarray]:
    """Place blocks by their time stamps, from time zero: gaps become silence, overlaps are cut.

    timed_blocks: pairs of a sample number (None: right after the last block) and a block (C, S) float32.
    rate_hz: samples a second.
    announced_samples: where the header says the sound ends; 0 when it does not say.
    path: the file, for the error.
    Raises InvalidInputError when the blocks end more than 100 ms before that, or hold NaN, infinity or unscaled values.
    """
    position = 0
    for start_sample, block in timed_blocks:
        _check_samples(block, path)
        gap = 0 if start_sample is None else start_sample - position
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


def check_sound_format(path: str | Path, rate_hz: int, channels: int) -> None:
    """Check that a file has a rate and channels that can be read, and that a WAV file is as long as its header says.

    rate_hz, channels: as the file says.
    Raises InvalidInputError otherwise.
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ or not 1 <= channels <= MAX_CHANNELS:
        raise InvalidInputError(
            f"{path}: sound of {rate_hz} Hz in {channels} channels.",
            hint=f"Give {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz and 1 to {MAX_CHANNELS} channels.",
            code="sound_format",
        )
    with open(path, "rb") as file:
        head = file.read(12)
        remaining = file.seek(0, 2) - 8
    # RIFF bytes 4 to 8 count what follows them
    announced = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RIFF" and head[8:] == b"WAVE" and remaining + 1 < announced < _UNKNOWN_BYTES:
        raise _make_truncation_error(path, f"{announced} bytes", f"{remaining}")


def _check_samples(block: np.ndarray, path: str | Path) -> None:
    """Check that a block holds neither NaN, nor infinity, nor unscaled values."""
    peak = np.abs(block).max(initial=0.0)
    if not peak <= _MAX_PEAK:
        problem = f"a peak of {peak:.0f}" if np.isfinite(peak) else "values that are not numbers (NaN or infinity)"
        raise InvalidInputError(
            f"{path}: the sound holds {problem}; samples must lie in [-1, 1].",
            hint="Export it again from the program that made it.",
            code="bad_samples",
        )


def _make_truncation_error(path: str | Path, announced: str, present: str) -> InvalidInputError:
    """Make the error for a sound that ends before its header says."""
    return InvalidInputError(
        f"{path}: the sound is cut off: {announced} announced, {present} there.",
        hint="Copy or export the file again.",
        code="broken_sound",
    )


def write_sound(
    path: str | Path, sound: Sound, bits: int = 16, overwrite: bool = False, inputs: Sequence[str | Path] = ()
) -> None:
    """Write a WAV file under a temporary name and rename it.

    path: ends in .wav.
    sound: what lies outside [-1, 1] is limited to it.
    bits: 16 or 24.
    overwrite, inputs: as for files.check_output_file.
    Raises UsageError for another suffix or an output that is in the way, OutputError for the disk.
    """
    if not str(path).lower().endswith(".wav") or bits not in (16, 24):
        raise UsageError(f"{path}: sound is written as .wav with 16 or 24 bits.", hint="Give a name ending in .wav.")
    with atomic_write(path, overwrite, inputs) as part:
        try:
            soundfile.write(part, np.clip(sound.samples.T, -1, 1), sound.rate_hz, subtype=f"PCM_{bits}", format="WAV")
        except soundfile.LibsndfileError as error:
            raise OSError(None, str(error)) from error
