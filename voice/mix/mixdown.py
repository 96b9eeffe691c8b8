"""Mixdown of dialogue and bed: placed to the sample, at the loudness asked for, as stems that sum to the mix."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mouthpiece.engine.audio.loudness import RATE_HZ, Loudness, LoudnessMeter
from mouthpiece.engine.audio.loudness_targets import Mastering, compute_mastering
from mouthpiece.engine.audio.resample import iterate_delivery_blocks
from mouthpiece.engine.audio.sound import CHANNEL_NAMES, LAYOUTS, Sound, make_mix_matrix
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write, check_output_file
from mouthpiece.engine.media.reading import open_sound_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mouthpiece.engine.audio.loudness_targets import LoudnessTarget

BLOCK_SAMPLES = RATE_HZ
PAN_GAIN = 0.5**0.5  # one voice on two loudspeakers, as loud as on one
STEM_NAMES = ("dialogue", "bed", "mix")
Meters: TypeAlias = dict[str, LoudnessMeter]  # by stem name


@dataclass(frozen=True)
class PlacedSound:
    """A spoken line at its place in a programme.

    sound: at 48 kHz, of one channel or those of the programme.
    start: sample of the programme where it begins, also below 0.
    gain_db: applied to it.
    """

    sound: Sound
    start: int
    gain_db: float = 0.0


@dataclass(frozen=True)
class Programme:
    """Dialogue and bed that are to be mixed.

    lines: in any order; where they overlap they add up.
    bed: Sound, path of a sound file or video (streamed), or None for silence; what it lacks in length is silence, what
    it has beyond is left out, and the facts say so.
    samples: length at 48 kHz.
    channels: of the programme; None takes those of the bed, or one.
    bed_gain_db: applied to the bed.
    Raises UsageError for lines of another rate, InvalidInputError for a bed that other channels cannot hold.
    """

    lines: tuple[PlacedSound, ...]
    bed: Sound | Path | None
    samples: int
    channels: int = None  # type: ignore[assignment]  # an int once it is made
    bed_gain_db: float = 0.0

    def __post_init__(self) -> None:
        bed = _count_channels(self.bed)
        object.__setattr__(self, "channels", self.channels or bed or 1)
        if self.samples < 1 or self.channels not in LAYOUTS:
            raise UsageError(
                f"a programme of {self.samples} samples in {self.channels} channels.",
                hint="Need 1 sample and 1 to 8 channels.",
            )
        if bed and bed > self.channels > 2:
            hint = "Mix in the channels of the bed, or in one or two."
            raise InvalidInputError(
                f"the bed has {bed} channels, the programme {self.channels}.", hint=hint, code="bed_channels"
            )
        for line in self.lines:
            if line.sound.rate_hz != RATE_HZ:
                raise UsageError(
                    f"a line at {line.sound.rate_hz} Hz; need {RATE_HZ}.", hint="Resample it first.", code="bad_rate"
                )


@dataclass(frozen=True)
class Stems:
    """A mix in memory: three Sounds of one length at 48 kHz, dialogue + bed = mix. facts: JSON-ready."""

    dialogue: Sound
    bed: Sound
    mix: Sound
    facts: dict[str, Any] = field(repr=False)


def mix_programme(programme: Programme, target: LoudnessTarget | None = None) -> Stems:
    """Mix a programme to Stems in memory; `write_stems` does the same to files of any length.

    target: None keeps the level and limits peaks to -1 dBTP.
    Raises what reading the bed raises.
    """
    mastering, facts = _plan_mastering(programme, target)
    meters = _make_meters(programme)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in STEM_NAMES}
    for block in _iterate_mastered(programme, mastering):
        for name, samples in block.items():
            meters[name].add(samples)
            parts[name].append(samples)
    sounds = {name: Sound(np.concatenate(blocks, 1), RATE_HZ) for name, blocks in parts.items()}
    return Stems(**sounds, facts=facts | _report_loudness(meters, target))


def write_stems(
    programme: Programme,
    paths: Mapping[str, Path],
    target: LoudnessTarget | None = None,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
) -> dict[str, Any]:
    """Write the stems of a programme as 24-bit WAV files, all or none, in constant memory.

    programme, target: as for `mix_programme`.
    paths: {name of STEM_NAMES: path ending in .wav}; stems that are not named are not written.
    overwrite, inputs: as for check_output_file.
    Returns JSON-ready facts: loudness and true peak before and after. Raises UsageError and OutputError as
    check_output_file does, and what reading the bed raises.
    """
    import soundfile

    for path in paths.values():
        check_output_file(path, overwrite, inputs, (".wav",))
    mastering, facts = _plan_mastering(programme, target)
    meters = _make_meters(programme)
    with ExitStack() as outputs, ExitStack() as files:
        form = "RF64" if programme.samples * programme.channels * 3 > 2**31 else "WAV"
        writers = {}
        for name, path in paths.items():
            part = outputs.enter_context(atomic_write(path, overwrite, inputs))
            writers[name] = files.enter_context(
                soundfile.SoundFile(part, "w", RATE_HZ, programme.channels, "PCM_24", format=form)
            )
        for block in _iterate_mastered(programme, mastering):
            for name, samples in block.items():
                meters[name].add(samples)
                if name in writers:
                    writers[name].write(samples.T)
        files.close()  # before they are renamed
    return facts | _report_loudness(meters, target)


def _count_channels(bed: Sound | Path | None) -> int | None:
    if bed is None:
        return None
    if isinstance(bed, Sound):
        return bed.channels
    with open_sound_stream(bed) as (_, blocks):
        return next((block.shape[0] for block in blocks), 1)


def _make_meters(programme: Programme) -> Meters:
    return {name: LoudnessMeter(programme.channels) for name in STEM_NAMES}


def _plan_mastering(programme: Programme, target: LoudnessTarget | None) -> tuple[Mastering, dict[str, Any]]:
    """Plan the Mastering of a programme in a first pass over it; return it and the facts so far."""
    meters, mixer = _make_meters(programme), _Mixer(programme)
    for dialogue, bed in mixer.iterate_blocks():
        for name, block in zip(STEM_NAMES, (dialogue, bed, dialogue + bed)):
            meters[name].add(block)
    power, _ = meters["mix"].get_hop_levels()
    # no stem may clip either: they would no longer sum
    peaks = np.max([meter.get_hop_levels()[1] for meter in meters.values()], 0)
    mastering = compute_mastering((power, peaks), meters["dialogue"].get_hop_levels(), target)
    notes = [mastering.note] if mastering.note else []
    if programme.bed is not None and mixer.bed_samples != programme.samples:
        notes.append(_describe_length(mixer.bed_samples - programme.samples))
    ends = ((line.start, line.start + line.sound.samples.shape[1]) for line in programme.lines)
    cut = sum(start < 0 or end > programme.samples for start, end in ends)
    if cut:
        notes.append(f"{cut} line(s) reach beyond the programme and are cut there")
    return mastering, {
        "samples": programme.samples,
        "channels": programme.channels,
        "layout": LAYOUTS[programme.channels],
        "before": {name: meter.result().as_dict() for name, meter in meters.items()},
        "gain_db": round(mastering.gain_db, 2),
        "limited_db": round(mastering.reduction_db, 2),
        "notes": notes,
    }


def _describe_length(difference: int) -> str:
    """Describe a bed that is so many samples longer than the programme."""
    what = "longer: its end is left out" if difference > 0 else "shorter: silence follows it"
    return f"the bed is {abs(float(Fraction(difference, RATE_HZ))):.3f} s {what}"


def _report_loudness(meters: Meters, target: LoudnessTarget | None) -> dict[str, Any]:
    """Report the loudness of finished stems, JSON-ready."""
    after = {name: meter.result() for name, meter in meters.items()}
    return {
        "target": target and vars(target),
        "after": {name: loudness.as_dict() for name, loudness in after.items()},
        "landing_lu": _compute_landing_error(after, target),
    }


def _compute_landing_error(after: dict[str, Loudness], target: LoudnessTarget | None) -> float | None:
    """Compute how far a finished programme is above its target, in LU; None where there is nothing to compare."""
    if target is None:
        return None
    by_dialogue = target.gated_by == "dialogue" and after["dialogue"].lufs is not None
    lufs = after["dialogue" if by_dialogue else "mix"].lufs
    return None if lufs is None else round(lufs - target.lufs, 2)


def _iterate_mastered(programme: Programme, mastering: Mastering) -> Iterator[dict[str, np.ndarray]]:
    """Yield blocks by stem name, with gain and limiter on both stems alike."""
    start = 0
    for dialogue, bed in _Mixer(programme).iterate_blocks():
        gains = mastering.compute_gains(start, dialogue.shape[1])
        dialogue, bed = dialogue * gains, bed * gains
        yield {"dialogue": dialogue, "bed": bed, "mix": dialogue + bed}
        start += dialogue.shape[1]


class _Mixer:
    """Lay the lines of a programme beside its bed, before mastering.

    bed_samples: length of the bed at 48 kHz, once all blocks are taken.
    """

    def __init__(self, programme: Programme) -> None:
        self._programme = programme
        self.bed_samples = 0

    def iterate_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (dialogue, bed), (C, S) float32 blocks of a second."""
        programme = self._programme
        with ExitStack() as open_files:
            bed = _BedReader(programme, open_files)
            for start in range(0, programme.samples, BLOCK_SAMPLES):
                stop = min(start + BLOCK_SAMPLES, programme.samples)
                yield self._mix_dialogue(start, stop), bed.read(stop - start)
            self.bed_samples = programme.samples - bed.missing_samples + bed.count_remaining()

    def _mix_dialogue(self, start: int, stop: int) -> np.ndarray:
        """Add up the lines between two samples of the programme, in the order of their starts."""
        channels = self._programme.channels
        dialogue = np.zeros((channels, stop - start), np.float32)
        for line in sorted(self._programme.lines, key=lambda line: line.start):
            a, b = max(start, line.start), min(stop, line.start + line.sound.samples.shape[1])
            if a < b:
                panned = pan_to_layout(line.sound.samples[:, a - line.start : b - line.start], channels)
                dialogue[:, a - start : b - start] += 10 ** (line.gain_db / 20) * panned
        return dialogue


def pan_to_layout(samples: np.ndarray, channels: int) -> np.ndarray:
    """Pan a voice to the loudspeakers of a layout: (channels, S) float32.

    samples: (C, S) float32, one channel (goes to the centre, without one to both fronts at -3 dB), two (go to the
    fronts), or those of the layout.
    channels: of a layout of CHANNEL_NAMES.
    """
    names = CHANNEL_NAMES[channels]
    if len(samples) == channels:
        return samples
    if len(samples) == 2 and channels > 2:
        out = np.zeros((channels, samples.shape[1]), np.float32)
        out[[names.index("FL"), names.index("FR")]] = samples
        return out
    if len(samples) > 1:
        samples = make_mix_matrix(CHANNEL_NAMES[len(samples)], 1) @ samples
    targets, gain = (("FC",), 1.0) if "FC" in names else (("FL", "FR"), PAN_GAIN)
    gains = np.array([gain * (name in targets) for name in names], np.float32)
    return gains[:, None] * samples


class _BedReader:
    """Read the bed of a programme in pieces of any size, in the channels of the programme; silence after its end."""

    def __init__(self, programme: Programme, open_files: ExitStack) -> None:
        self._channels = programme.channels
        self._gain = np.float32(10 ** (programme.bed_gain_db / 20))
        self._held = np.zeros((programme.channels, 0), np.float32)
        self.missing_samples = 0
        self._blocks: Iterator[np.ndarray] = iter(())
        if isinstance(programme.bed, Sound):
            self._blocks = iterate_delivery_blocks(programme.bed)
        elif programme.bed is not None:
            _, self._blocks = open_files.enter_context(open_sound_stream(programme.bed, RATE_HZ))

    def read(self, samples: int) -> np.ndarray:
        """Read the next (C, samples) float32."""
        held, length = [self._held], self._held.shape[1]
        while length < samples and (block := next(self._blocks, None)) is not None:
            held.append(self._fit_channels(block))
            length += block.shape[1]
        joined = np.concatenate(held, 1)
        out, self._held = joined[:, :samples], joined[:, samples:]
        self.missing_samples += samples - out.shape[1]
        return self._gain * np.pad(out, ((0, 0), (0, samples - out.shape[1])))

    def _fit_channels(self, block: np.ndarray) -> np.ndarray:
        """Bring a block to the channels of the programme: fewer by a mix, one channel to the fronts or centre."""
        if len(block) == self._channels:
            return block
        if len(block) > self._channels:
            return make_mix_matrix(CHANNEL_NAMES[len(block)], self._channels) @ block
        if len(block) == 1 and self._channels == 2:
            return np.repeat(PAN_GAIN * block, 2, 0).astype(np.float32)
        return pan_to_layout(block, self._channels)

    def count_remaining(self) -> int:
        """Count the samples that were not read; reads them."""
        return self._held.shape[1] + sum(block.shape[1] for block in self._blocks)
