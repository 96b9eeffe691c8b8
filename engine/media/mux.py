"""Finished outputs assembled in constant memory: a picture copied bit by bit with new sound beside it, or sound alone."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write, check_output_file, get_part_path, make_output_error
from mouthpiece.engine.media.reading import (
    READ_ERRORS,
    VIDEO_SUFFIXES,
    make_audio_frame,
    open_input,
    open_output,
    read_delivery_blocks,
)
from mouthpiece.engine.media.rewrite import pad_or_trim_blocks
from mouthpiece.engine.media.streams import add_delivery_stream, find_video_stream
from mouthpiece.engine.timeline import DELIVERY_HZ, count_samples, round_half_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction
    from pathlib import Path

# a WAV header counts bytes in 32 bits; beyond it RF64 is the same file with a wider count
_LARGEST_WAV_BYTES = 4_000_000_000


def copy_with_sound(
    video: Path,
    output: Path,
    sound: Path,
    overwrite: bool = False,
    inputs: list[Path] | tuple[Path, ...] = (),
    duration: Fraction | None = None,
    *,
    channels=None,
) -> int:
    """Writes OUTPUT: the packets of the video's picture as they are, and the sound as its only sound.

    video: path with a moving picture; its sound and subtitles are left out.
    output: path ending in one of media.VIDEO_SUFFIXES.
    sound: Path (streamed) or Sound; becomes AAC at 48 kHz; sample 0 is at the first frame.
    overwrite, inputs: as for files.output_file.
    duration: Fraction, seconds; the sound is cut or continued by silence to it. None: it is as long as it is.
    channels: 2 mixes more of them down; None keeps those that the sound has.
    Gives the number of packets copied.
    Raises UsageProblem for the name, Refused for no picture or one that the container cannot hold, WriteFailed for the
    disk.
    """
    target = check_output_file(output, overwrite, (video, *inputs), VIDEO_SUFFIXES)
    part = get_part_path(target)
    try:
        blocks = read_delivery_blocks(sound, channels)
        if duration is not None:
            blocks = pad_or_trim_blocks(blocks, count_samples(duration, DELIVERY_HZ))
        with open_input(video, "video") as source:
            packets = _copy_packets(source, video, part, target, blocks)
        os.replace(part, target)
    except OSError as error:
        raise make_output_error(target, error) from error
    finally:
        part.unlink(missing_ok=True)
    return packets


def _copy_packets(source, video: Path, part: Path, target: Path, blocks: Iterator) -> int:
    picture = find_video_stream(source)
    if picture is None:
        raise InvalidInputError(f"{video}: no moving picture in it.", hint="Give a video.", code="no_video")
    with open_output(part) as container:
        copy, first, packets = _add_copied_stream(container, picture, target), next(blocks), 0
        writer = _SoundWriter(container, first, blocks)
        start = picture.start_time or 0
        try:
            container.start_encoding()
        except READ_ERRORS as error:
            raise _make_codec_error(picture, target) from error
        for packet in _stamp_packets(source, picture):
            packet.pts, packet.dts = (None if stamp is None else stamp - start for stamp in (packet.pts, packet.dts))
            writer.write(until=count_samples(max(0, packet.dts) * packet.time_base, DELIVERY_HZ))
            packet.stream = copy
            container.mux(packet)
            packets += 1
        writer.finish()
    return packets


def _stamp_packets(source, picture) -> Iterator:
    """The packets of a stream, each with a decoding stamp; containers that leave the first ones out mean one step each."""
    held = []
    for packet in source.demux(picture):
        if packet.size == 0:  # says that there are no more
            continue
        held.append(packet)
        if packet.dts is not None:
            yield from _stamp_backwards(held, picture)
            held = []
    for packet in held:  # not one stamp in the file: nothing is reordered
        packet.dts = packet.pts
        yield packet


def _stamp_backwards(packets: list, picture) -> Iterator:
    last, step = (
        packets[-1].dts,
        max(1, round_half_up(1 / (picture.average_rate * picture.time_base))) if picture.average_rate else 1,
    )
    for before, packet in zip(range(len(packets) - 1, -1, -1), packets):
        packet.dts = last - before * step
        yield packet


def _add_copied_stream(container, picture, target: Path):
    try:
        copy = container.add_stream_from_template(picture, opaque=True)
        # Matroska says it, readers believe it; without it they guess from the coded picture
        if picture.average_rate:
            copy.codec_context.framerate = picture.average_rate
        return copy
    except READ_ERRORS as error:
        raise _make_codec_error(picture, target) from error


def _make_codec_error(picture, target: Path) -> InvalidInputError:
    return InvalidInputError(
        f"{target}: a picture coded as {picture.codec_context.name} cannot be stored in a {target.suffix} file.",
        hint="Try a name ending in .mkv or .mov, or convert the video to H.264 first.",
        code="codec_container",
    )


class _SoundWriter:
    """The sound stream of a container, written as far as the picture is."""

    def __init__(self, container, first: np.ndarray, rest: Iterator) -> None:
        self.container, self.next, self.rest, self.samples = container, first, rest, 0
        self.stream = add_delivery_stream(container, first.shape[0])

    def write(self, until: int | None = None) -> None:
        """Encodes blocks that begin before a sample number; None encodes all."""
        while self.next is not None and (until is None or self.samples < until):
            block, self.next = self.next, next(self.rest, None)
            self.container.mux(self.stream.encode(make_audio_frame(block, DELIVERY_HZ, self.samples)))
            self.samples += block.shape[1]

    def finish(self) -> None:
        """Encodes what is left."""
        self.write()
        self.container.mux(self.stream.encode(None))


@contextmanager
def open_wave_writer(
    path: Path,
    rate_hz: int,
    channels: int,
    *,
    samples: int = 0,
    subtype: str = "PCM_16",
    overwrite: bool = False,
    inputs: tuple = (),
) -> Iterator[Callable]:
    """A context that gives a callable write(block), and a .wav file under its name on a clean end.

    path: str or Path ending in .wav.
    rate_hz, channels: of the blocks, which are (C, S) float32; what lies outside [-1, 1] is limited to it.
    samples: how many are expected; beyond 4 GB the header becomes RF64.
    subtype: soundfile's: PCM_16, PCM_24 or FLOAT.
    overwrite, inputs: as for files.output_file.
    Raises UsageProblem for another ending or an output in the way; WriteFailed for the disk.
    Source: ours; EBU Tech 3306 for RF64.
    """
    if not str(path).lower().endswith(".wav"):
        raise UsageError(f"{path}: sound is written as .wav.", hint="Give a name ending in .wav.", code="output_suffix")
    width_bytes = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[subtype]
    kind = "RF64" if samples * channels * width_bytes > _LARGEST_WAV_BYTES else "WAV"
    with atomic_write(path, overwrite, inputs) as part:
        try:
            with soundfile.SoundFile(part, "w", rate_hz, channels, subtype, format=kind) as file:
                yield lambda block: file.write(np.clip(block.T, -1, 1))
        except soundfile.LibsndfileError as error:
            raise OSError(None, str(error)) from error
