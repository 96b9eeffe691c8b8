"""Multiplex finished outputs in constant memory: a picture copied bit by bit with new sound, or sound alone."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import soundfile

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write, check_output_file, get_part_path, make_output_error
from mouthpiece.engine.media.companions import Companions
from mouthpiece.engine.media.containers import CONTAINERS, get_output_format, list_video_suffixes
from mouthpiece.engine.media.frame_times import read_presentation_stamps
from mouthpiece.engine.media.probing import READ_ERRORS, open_input
from mouthpiece.engine.media.streams import find_video_stream, get_time_base
from mouthpiece.engine.media.writing import SoundTrack, open_output, pad_or_trim_blocks, read_delivery_blocks
from mouthpiece.engine.timeline import DELIVERY_HZ, count_samples, round_half_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from fractions import Fraction

    import av
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

    from mouthpiece.engine.audio.sound import Sound

# a WAV header counts bytes in 32 bits; beyond it RF64 is the same file with a wider count
_MAX_WAV_BYTES = 4_000_000_000
_SAMPLE_BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}  # bytes of a sample, by soundfile's subtype


def copy_with_sound(
    video: str | Path,
    output: str | Path,
    sound: Sound | Path,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
    duration: Fraction | None = None,
    *,
    channels: int | None = None,
    language: str | None = None,
) -> int:
    """Copy the packets of a video's picture as they are into a new file, with a sound as its only sound.

    video: has a moving picture; its further tracks, chapters and tags are copied too, where the container holds them.
    output: ends in one of list_video_suffixes().
    sound: Path (streamed) or Sound; is encoded at 48 kHz; sample 0 is at the first frame.
    overwrite, inputs: as for files.check_output_file.
    duration: seconds; the sound is trimmed or padded with silence to it. None: it is as long as it is.
    channels: 1 or 2 mixes more of them down; None keeps those that the sound has.
    language: of the sound, "fr" or "pt-BR"; stands in the file where the video says one of its own sound.
    Returns the number of packets copied.
    Raises UsageError for the name, InvalidInputError for no picture or one that the container cannot hold, OutputError
    for the disk.
    """
    target = check_output_file(output, overwrite, (video, *inputs), list_video_suffixes())
    part = get_part_path(target)
    try:
        blocks = read_delivery_blocks(sound, channels)
        if duration is not None:
            blocks = pad_or_trim_blocks(blocks, count_samples(duration, DELIVERY_HZ))
        with open_input(video, "video") as source:
            packets = _copy_packets(source, Path(video), part, target, blocks, language)
        os.replace(part, target)
    except OSError as error:
        raise make_output_error(target, error) from error
    finally:
        part.unlink(missing_ok=True)
    return packets


def _copy_packets(
    source: InputContainer,
    video: Path,
    part: Path,
    target: Path,
    blocks: Iterator[np.ndarray],
    language: str | None,
) -> int:
    """Copy the picture of an opened video into a new container, beside the sound: number of packets."""
    picture = find_video_stream(source)
    if picture is None:
        raise InvalidInputError(f"{video}: no moving picture in it.", hint="Give a video.", code="no_video")
    with ExitStack() as stack, open_output(part) as container:
        copy, packets = _add_copied_stream(container, picture, target), 0
        track = SoundTrack(container, get_output_format(target).audio_codec, blocks)
        companions = stack.enter_context(closing(Companions(video, container, track.stream, target, language)))
        shown = read_presentation_stamps(source, picture)
        start = picture.start_time or 0 if shown is None else min(shown, default=0)
        delay = 0 if shown is None else max((decoded - stamp for decoded, stamp in shown.items()), default=0)
        try:
            container.start_encoding()
        except READ_ERRORS as error:
            raise _make_codec_error(picture, target) from error
        for packet in _stamp_packets(source, picture):
            if shown is not None and packet.dts is not None:
                packet.pts, packet.dts = shown.get(packet.dts, packet.dts), packet.dts - delay
            packet.pts, packet.dts = (None if stamp is None else stamp - start for stamp in (packet.pts, packet.dts))
            decoded = cast("int", packet.dts)  # _stamp_packets gives every packet one
            track.write(until=count_samples(max(0, decoded) * packet.time_base, DELIVERY_HZ))
            companions.write(until=max(0, decoded) * packet.time_base)
            packet.stream = copy
            container.mux(packet)
            packets += 1
        track.write()
        companions.write()
        track.flush()
    return packets


def _stamp_packets(source: InputContainer, picture: VideoStream) -> Iterator[av.Packet]:
    """Read the packets of a stream, each with a decoding time.

    Containers that leave out the first ones mean one frame's length each.
    """
    unstamped = []
    for packet in source.demux(picture):
        if packet.size == 0:  # says that there are no more
            continue
        unstamped.append(packet)
        if packet.dts is not None:
            yield from _stamp_backwards(unstamped, picture)
            unstamped = []
    for packet in unstamped:  # not one decoding time in the file: nothing is reordered
        packet.dts = packet.pts
        yield packet


def _stamp_backwards(packets: Sequence[av.Packet], picture: VideoStream) -> Iterator[av.Packet]:
    """Set the decoding times of packets from that of the last, one frame's length apart."""
    step = 1
    if picture.average_rate:
        step = max(1, round_half_up(1 / (picture.average_rate * get_time_base(picture))))
    last = cast("int", packets[-1].dts)  # the caller read it from the file
    for before, packet in zip(range(len(packets) - 1, -1, -1), packets):
        packet.dts = last - before * step
        yield packet


def _add_copied_stream(container: OutputContainer, picture: VideoStream, target: Path) -> VideoStream:
    """Add a stream that takes the packets of another as they are."""
    try:
        copy = container.add_stream_from_template(picture, opaque=True)
        # Matroska says it, readers believe it; without it they guess from the coded picture
        if picture.average_rate:
            copy.codec_context.framerate = picture.average_rate
        return copy
    except READ_ERRORS as error:
        raise _make_codec_error(picture, target) from error


def _make_codec_error(picture: VideoStream, target: Path) -> InvalidInputError:
    """Make the error for a picture whose codec the target's container cannot hold."""
    output = get_output_format(target)
    others = [
        suffix for row in CONTAINERS if row.holds_any_codec and row.output is not output for suffix in row.suffixes
    ]
    return InvalidInputError(
        f"{target}: a picture coded as {picture.codec_context.name} cannot be stored in a {target.suffix} file.",
        hint=f"Try a name ending in {' or '.join(others)}, or convert the video to {output.video_codec.name} first.",
        code="codec_container",
    )


@contextmanager
def open_wave_writer(
    path: str | Path,
    rate_hz: int,
    channels: int,
    *,
    samples: int = 0,
    subtype: str = "PCM_16",
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
) -> Iterator[Callable[[np.ndarray], None]]:
    """Open a WAV file for writing, as a context that gives a callable write(block); it appears on a clean end.

    path: ends in .wav.
    rate_hz, channels: of the blocks, which are (C, S) float32; what lies outside [-1, 1] is limited to it.
    samples: how many are expected; beyond 4 GB the header becomes RF64.
    subtype: soundfile's: PCM_16, PCM_24 or FLOAT.
    overwrite, inputs: as for files.check_output_file.
    Raises UsageError for another suffix or an output that is in the way, OutputError for the disk.
    Source: EBU Tech 3306 for RF64.
    """
    if not str(path).lower().endswith(".wav"):
        raise UsageError(f"{path}: sound is written as .wav.", hint="Give a name ending in .wav.", code="output_suffix")
    kind = "RF64" if samples * channels * _SAMPLE_BYTES[subtype] > _MAX_WAV_BYTES else "WAV"
    with atomic_write(path, overwrite, inputs) as part:
        try:
            with soundfile.SoundFile(part, "w", rate_hz, channels, subtype, format=kind) as file:
                yield lambda block: file.write(np.clip(block.T, -1, 1))
        except soundfile.LibsndfileError as error:
            raise OSError(None, str(error)) from error
