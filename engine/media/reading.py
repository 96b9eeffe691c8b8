"""Read video and sound from any container, on one exact clock.

Time zero is the first frame of the picture (or the first sample when there is no picture), for both streams.
"""

from __future__ import annotations

from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np

from mouthpiece.engine.audio.sound import (
    CHANNEL_NAMES,
    LAYOUTS,
    Sound,
    check_sound_format,
    make_channel_map,
    make_mix_matrix,
    place_blocks,
)
from mouthpiece.engine.errors import InvalidInputError, MouthpieceError
from mouthpiece.engine.media.frame_times import make_clock
from mouthpiece.engine.media.probing import READ_ERRORS, open_input, probe
from mouthpiece.engine.media.streams import (
    find_audio_stream,
    find_video_stream,
    get_announced_samples,
    get_colour_matrix,
    get_time_origin,
    make_undecodable_error,
)
from mouthpiece.engine.timeline import count_samples, round_half_up
from mouthpiece.engine.types import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

MIN_SOUND_S = Fraction(40, 1000)  # least length of a recording, seconds
_ASSUMED_RATE = Fraction(25)  # frames a second of a film that does not say its rate


@contextmanager
def open_sound_stream(
    path: str | Path, rate_hz: int | None = None, channels: int | None = None
) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """Open the sound of a file as a stream in constant memory: (rate in Hz, iterator of blocks from time zero).

    path: any container; of several sound tracks the default one.
    rate_hz: samples a second to resample to; None keeps the file's.
    channels: 1 or 2 mixes more channels down to as many; None keeps the file's, in the order of sound.CHANNEL_NAMES.
    Blocks are (C, S) float32. Late or missing sound is silence, sound before time zero is dropped.
    Raises InvalidInputError for no sound track, an unusual format, NaN or infinity, a track that ends before its
    header says.
    """
    with open_input(path, "recording") as container:
        stream = find_audio_stream(container)
        if stream is None or stream.codec_context is None:
            raise InvalidInputError(
                f"{path}: no sound in it.", hint="Give a recording or a video with sound.", code="no_sound"
            )
        context = stream.codec_context
        check_sound_format(path, context.sample_rate, context.channels)
        names = tuple(channel.name for channel in context.layout.channels)
        if len(set(names)) != context.channels:  # the file names no loudspeakers
            names = CHANNEL_NAMES[context.channels]
        timed_blocks = _read_timed_blocks(container, stream, path)
        blocks = place_blocks(timed_blocks, context.sample_rate, get_announced_samples(container, stream), path)
        mix = make_mix_matrix(names, channels) if channels and len(names) > channels else make_channel_map(names)
        if mix is not None:
            blocks = (mix @ block for block in blocks)
        rate_hz = rate_hz or context.sample_rate
        yield rate_hz, resample_blocks(blocks, context.sample_rate, rate_hz)


def _read_timed_blocks(
    container: InputContainer, stream: AudioStream, path: str | Path
) -> Iterator[tuple[int | None, np.ndarray]]:
    """Read pairs of a sample number, counted from time zero (None: not known), and the block that begins there."""
    rate_hz = stream.codec_context.sample_rate
    to_float = av.AudioResampler(format="flt")
    zero = get_time_origin(container, stream)
    for frame in _decode_sound(container, stream):
        if frame.sample_rate != rate_hz:
            raise InvalidInputError(
                f"{path}: the sound changes its sample rate on the way.", hint="Convert it to WAV first."
            )
        unit = cast("Fraction", frame.time_base)  # a decoded frame has one
        position = None if frame.pts is None else count_samples(frame.pts * unit - zero, rate_hz)
        for out in to_float.resample(frame):
            yield position, _to_samples(out)


def _decode_sound(container: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame]:
    """Decode frames of sound in order; a packet that does not decode is skipped, its place shows in the time stamps."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.InvalidDataError:
            continue
        except EOFError:
            return
        yield from frames


def _to_samples(frame: av.AudioFrame) -> np.ndarray:
    """Convert an interleaved frame to (C, S) float32; planes of eight channels make PyAV 18.1 read past their end."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T


def make_audio_frame(block: np.ndarray, rate_hz: int, position: int) -> av.AudioFrame:
    """Make PyAV's frame of a (C, S) float32 block that begins at a sample number."""
    interleaved = np.ascontiguousarray(block.T, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=LAYOUTS[block.shape[0]])
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, position, Fraction(1, rate_hz)
    return frame


def resample_blocks(blocks: Iterable[np.ndarray], rate_in_hz: int, rate_out_hz: int) -> Iterator[np.ndarray]:
    """Resample blocks (C, S) float32 to another rate; the total length is right to the nearest sample."""
    if rate_in_hz == rate_out_hz:
        yield from blocks
        return
    resampler, read_samples, given_samples = None, 0, 0
    for block in blocks:
        resampler = resampler or av.AudioResampler(format="flt", layout=LAYOUTS[block.shape[0]], rate=rate_out_hz)
        for out in resampler.resample(make_audio_frame(block, rate_in_hz, read_samples)):
            given_samples += out.samples
            yield _to_samples(out)
        read_samples += block.shape[1]
    if resampler is None:
        return
    missing = max(0, round_half_up(Fraction(read_samples * rate_out_hz, rate_in_hz)) - given_samples)
    tail = np.concatenate([block[:, :0]] + [_to_samples(out) for out in resampler.resample(None)], 1)[:, :missing]
    yield np.pad(tail, ((0, 0), (0, missing - tail.shape[1])))


def read_sound(path: str | Path, rate_hz: int | None = None, mono: bool = False) -> Sound:
    """Read the sound of a recording or of a video; sample 0 is at time zero of the picture.

    path: any container, sound.MIN_RATE_HZ to MAX_RATE_HZ, up to sound.MAX_CHANNELS channels.
    rate_hz: samples a second to resample to; None keeps the file's.
    mono: True mixes to one channel.
    Samples beyond full scale stay as the file has them.
    Raises InvalidInputError as open_sound_stream does, and for less than MIN_SOUND_S.
    """
    with open_sound_stream(path, rate_hz, 1 if mono else None) as (rate_hz, stream):
        blocks = list(stream)
    length = sum(block.shape[1] for block in blocks)
    if length < MIN_SOUND_S * rate_hz:
        message = f"{path}: only {1000 * length / rate_hz:.0f} ms of sound."
        raise InvalidInputError(message, hint=f"Give at least {int(1000 * MIN_SOUND_S)} ms.", code="sound_too_short")
    return Sound(np.ascontiguousarray(np.concatenate(blocks, 1)), rate_hz)


def measure_sound_duration(path: str | Path) -> Fraction:
    """Measure the exact length of a file's sound from time zero, at its own rate: seconds; in constant memory.

    path: any container.
    Raises InvalidInputError as open_sound_stream does.
    """
    with open_sound_stream(path) as (rate_hz, blocks):
        return Fraction(sum(block.shape[1] for block in blocks), rate_hz)


class VideoReader:
    """Read the frames of a video in order, one at a time, upright and in RGB.

    path: any container.
    Use it as a context manager and iterate; `info` is its MediaInfo, `truncated` turns True when frames were
    announced that did not come or did not decode.
    Raises InvalidInputError when there is no moving picture, or when iterating and not one frame decodes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info = probe(path)
        if not self.info.has_video:
            raise InvalidInputError(f"{path}: no moving picture in it.", hint="Give a video.", code="no_video")
        self.truncated = False
        self._context = open_input(path, "video")
        self._container: InputContainer | None = None

    def __enter__(self) -> VideoReader:
        self._container = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._context.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Frame]:
        for index, time, frame in self.read_native_frames():
            yield Frame(index, time, to_upright_rgb(frame))

    def read_native_frames(self) -> Iterator[tuple[int, Fraction, av.VideoFrame]]:
        """Read triples of index, exact time in seconds, and the decoder's own frame, neither turned nor converted."""
        if self._container is None:
            raise MouthpieceError("VideoReader is used outside of its 'with' block.")
        stream = cast("VideoStream", find_video_stream(self._container))  # __init__ refuses a file without one
        stream.thread_type = "AUTO"
        zero, step = get_time_origin(self._container, stream), 1 / (self.info.rate or _ASSUMED_RATE)
        clock, index, time, packets = make_clock(self._container), 0, -step, 0
        for packet in self._demux(self._container, stream):
            packets += packet.size > 0
            if clock is not None:
                clock.register(packet)
            try:
                frames = packet.decode()
            except READ_ERRORS:
                self.truncated = True
                if clock is not None:
                    clock.discard(packet)
                continue
            for frame in frames:
                stamp, start, unit = frame.pts, zero, cast("Fraction", frame.time_base)  # a decoded frame has one
                if clock is not None:
                    stamp, start = clock.take_stamp(), (clock.first or 0) * unit
                time = time + step if stamp is None else stamp * unit - start
                yield index, time, frame
                index += 1
        if packets < (stream.frames or 0):
            self.truncated = True
        if index == 0:
            raise make_undecodable_error(self.path)

    def _demux(self, container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
        """Demultiplex the packets of the picture, up to where the file breaks off."""
        try:
            yield from container.demux(stream)
        except READ_ERRORS:
            self.truncated = True


def to_upright_rgb(frame: av.VideoFrame) -> np.ndarray:
    """Convert a decoded frame to pixels (H, W, 3) uint8 RGB, turned as it is shown."""
    pixels = frame.to_ndarray(format="rgb24", src_colorspace=get_colour_matrix(frame))
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
