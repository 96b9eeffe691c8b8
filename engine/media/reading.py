"""Video and sound from any container and back, on one exact clock; the only file that knows PyAV.

Time zero is the first frame of the picture (or the first sample when there is no picture), for both streams.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

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
    write_sound,
)
from mouthpiece.engine.errors import InvalidInputError, MouthpieceError
from mouthpiece.engine.files import check_input_file, check_output_file, get_part_path, make_output_error
from mouthpiece.engine.media import streams
from mouthpiece.engine.media.images import Picture, read_image, write_image
from mouthpiece.engine.media.streams import (
    find_video_stream,
    get_announced_samples,
    get_time_origin,
    has_variable_rate,
    make_undecodable_error,
    read_picture_facts,
    read_sound_facts,
)
from mouthpiece.engine.timeline import DELIVERY_HZ, count_samples, get_frame_time, round_half_up
from mouthpiece.engine.types import Frame, MediaInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Frame", "MediaInfo", "Picture", "Sound", "VideoReader", "VideoWriter", "probe", "read_image", "read_sound"]
__all__ += ["measure_sound_duration", "open_sound_stream", "write_image", "write_sound"]

MIN_SOUND_S = Fraction(40, 1000)
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
_MAX_SCANNED_FRAMES = 500
_BT709 = 1
# what reading may raise; for whoever puts a stream together
READ_ERRORS, Packet = (av.FFmpegError, EOFError, ValueError), av.Packet


@contextmanager
def open_input(path: Path, kind: str) -> Iterator:
    """A context that gives the container of an input. Raises Refused for what is no media."""
    path = check_input_file(path, kind)
    try:
        # "file:" and the list keep playlists from reaching for anything but files
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except READ_ERRORS as error:
        message = f"{path}: no sound and no picture can be read from it; it is not a {kind}, or it is cut off."
        hint = "Give a complete media file, such as WAV, FLAC, MP3, MP4, MOV or MKV."
        raise InvalidInputError(message, hint=hint, code="not_media") from error
    with container:
        yield container


def open_output(part: Path):
    """A container to write to, of the kind that the name of `part` (Path) ends in."""
    return av.open(f"file:{part}", "w", options={"movflags": "+faststart"} if part.suffix.lower() != ".mkv" else {})


def _scan_frames(container, stream) -> tuple:
    """Rotation from the first frame that decodes (None: none does), and the time stamps of the first frames."""
    rotation, stamps = None, []
    with suppress(*READ_ERRORS):
        for packet in container.demux(stream):
            if packet.pts is not None:
                stamps.append(packet.pts)
            if rotation is None:
                with suppress(*READ_ERRORS):
                    for frame in packet.decode():
                        rotation = frame.rotation
            elif len(stamps) >= _MAX_SCANNED_FRAMES:
                break
    return rotation, stamps


def probe(path: Path | str) -> MediaInfo | None:
    """MediaInfo of a file, from its header and a look at its first frames.

    path: str or Path, any container.
    Raises Refused for what is no media, or has neither sound nor moving picture.
    """
    with open_input(path, "media file") as container:
        video = find_video_stream(container)
        audio = container.streams.best("audio")
        if video is None and audio is None:
            raise InvalidInputError(
                f"{path}: neither sound nor moving picture in it.", hint="Give a recording or a video."
            )
        main = video or audio
        facts = {"path": Path(path), "has_video": video is not None, "has_audio": audio is not None}
        if main.duration is not None:
            facts["duration"] = main.duration * main.time_base
        elif container.duration is not None:
            facts["duration"] = Fraction(container.duration, av.time_base)
        if audio is not None:
            facts |= read_sound_facts(audio)
        if video is not None:
            rotation, stamps = _scan_frames(container, video)
            if rotation is None:
                raise make_undecodable_error(path)
            facts |= read_picture_facts(video, rotation, has_variable_rate(stamps, video.time_base))
        return MediaInfo(**facts)


@contextmanager
def open_sound_stream(
    path: Path, rate_hz: int | None = None, channels: int | None = None
) -> Iterator[tuple[int, Iterator]]:
    """The sound of a file in constant memory: rate in Hz, and an iterator of blocks that starts at time zero.

    path: str or Path, any container; of several sound tracks the default one.
    rate_hz: int, samples a second wanted; None keeps the file's.
    channels: 1, 2, or None to keep the file's, seated by sound.seats; more are mixed down by sound.mix_matrix, fewer
    kept.
    Blocks are (C, S) float32. Late or missing sound is silence, sound before time zero is dropped.
    Raises Refused for no sound track, an unusual format, NaN or infinity, a track that ends before its header says.
    """
    with open_input(path, "recording") as container:
        stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            raise InvalidInputError(
                f"{path}: no sound in it.", hint="Give a recording or a video with sound.", code="no_sound"
            )
        context = stream.codec_context
        check_sound_format(path, context.sample_rate, context.channels)
        names = tuple(channel.name for channel in context.layout.channels)
        if len(set(names)) != context.channels:  # the file names no loudspeakers
            names = CHANNEL_NAMES[context.channels]
        blocks = _read_timed_blocks(container, stream, path)
        blocks = place_blocks(blocks, context.sample_rate, get_announced_samples(container, stream), path)
        mix = make_mix_matrix(names, channels) if channels and len(names) > channels else make_channel_map(names)
        if mix is not None:
            blocks = (mix @ block for block in blocks)
        rate_hz = rate_hz or context.sample_rate
        yield rate_hz, resample_blocks(blocks, context.sample_rate, rate_hz)


def _read_timed_blocks(container, stream, path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Pairs of the sample number a block belongs at, counted from time zero, and the block."""
    rate_hz = stream.codec_context.sample_rate
    to_float = av.AudioResampler(format="flt")
    zero = get_time_origin(container, stream)
    for frame in _decode_frames(container, stream):
        if frame.sample_rate != rate_hz:
            raise InvalidInputError(
                f"{path}: the sound changes its sample rate on the way.", hint="Convert it to WAV first."
            )
        at = None if frame.pts is None else count_samples(frame.pts * frame.time_base - zero, rate_hz)
        for out in to_float.resample(frame):
            yield at, _to_samples(out)


def _to_samples(frame) -> np.ndarray:
    """(C, S) float32 of an interleaved frame; planes of eight channels make PyAV 18.1 read past their end."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T


def make_audio_frame(block: np.ndarray, rate_hz: int, position: int):
    """A (C, S) float32 block as frame at a sample number."""
    interleaved = np.ascontiguousarray(block.T, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=LAYOUTS[block.shape[0]])
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, position, Fraction(1, rate_hz)
    return frame


def _decode_frames(container, stream) -> Iterator:
    """Frames in order; a packet that does not decode is skipped, its place shows in the time stamps."""
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


def resample_blocks(blocks: Iterator, rate_in_hz: int, rate_out_hz: int) -> Iterator[np.ndarray]:
    """Blocks at another rate; the total length is right to the nearest sample."""
    if rate_in_hz == rate_out_hz:
        yield from blocks
        return
    resampler, taken, given = None, 0, 0
    for block in blocks:
        resampler = resampler or av.AudioResampler(format="flt", layout=LAYOUTS[block.shape[0]], rate=rate_out_hz)
        for out in resampler.resample(make_audio_frame(block, rate_in_hz, taken)):
            given += out.samples
            yield _to_samples(out)
        taken += block.shape[1]
    if resampler is None:
        return
    missing = max(0, round_half_up(Fraction(taken * rate_out_hz, rate_in_hz)) - given)
    tail = np.concatenate([block[:, :0]] + [_to_samples(out) for out in resampler.resample(None)], 1)[:, :missing]
    yield np.pad(tail, ((0, 0), (0, missing - tail.shape[1])))


def read_sound(path: Path, rate_hz: int | None = None, mono: bool = False) -> Sound | None:
    """The Sound of a recording or of a video; sample 0 is at time zero of the picture.

    path: str or Path, any container, sound.LOWEST_HZ to HIGHEST_HZ, up to sound.MOST_CHANNELS channels.
    rate_hz: int, samples a second wanted; None keeps the file's.
    mono: True mixes to one channel.
    Samples beyond full scale stay as the file has them.
    Raises Refused for what sound_stream refuses and for less than SHORTEST_SOUND.
    """
    with open_sound_stream(path, rate_hz, 1 if mono else None) as (rate_hz, blocks):
        blocks = list(blocks)
    length = sum(block.shape[1] for block in blocks)
    if length < MIN_SOUND_S * rate_hz:
        message = f"{path}: only {1000 * length / rate_hz:.0f} ms of sound."
        raise InvalidInputError(message, hint=f"Give at least {int(1000 * MIN_SOUND_S)} ms.", code="sound_too_short")
    return Sound(np.ascontiguousarray(np.concatenate(blocks, 1)), rate_hz)


def measure_sound_duration(path: Path) -> Fraction:
    """The exact length of a file's sound from time zero, at its own rate: Fraction, seconds; in constant memory.

    path: str or Path, any container.
    Raises what sound_stream raises.
    """
    with open_sound_stream(path) as (rate_hz, blocks):
        return Fraction(sum(block.shape[1] for block in blocks), rate_hz)


class VideoReader:
    """The frames of a video in order, one at a time, upright and in RGB.

    path: str or Path.
    Use it as a context manager and iterate; `info` is its MediaInfo, `truncated` turns True when frames were
    announced that did not come or did not decode.
    Raises Refused when there is no moving picture, or when iterating and not one frame decodes.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.info = probe(path)
        if not self.info.has_video:
            raise InvalidInputError(f"{path}: no moving picture in it.", hint="Give a video.", code="no_video")
        self.truncated = False
        self._context, self._container = open_input(path, "video"), None

    def __enter__(self) -> VideoReader:
        self._container = self._context.__enter__()
        return self

    def __exit__(self, *problem) -> bool:
        return self._context.__exit__(*problem)

    def __iter__(self) -> Iterator[Frame]:
        for index, time, frame in self.read_native_frames():
            yield Frame(index, time, to_upright_rgb(frame))

    def read_native_frames(self) -> Iterator[tuple]:
        """Triples of index, exact time in seconds, and the decoder's own frame, neither turned nor converted."""
        if self._container is None:
            raise MouthpieceError("VideoReader is used outside of its 'with' block.")
        stream = find_video_stream(self._container)
        stream.thread_type = "AUTO"
        zero, step = get_time_origin(self._container, stream), 1 / (self.info.rate or Fraction(25))
        index, time, packets = 0, -step, 0
        for packet in self._demux(stream):
            packets += packet.size > 0
            try:
                frames = packet.decode()
            except READ_ERRORS:
                self.truncated = True
                continue
            for frame in frames:
                time = time + step if frame.pts is None else frame.pts * frame.time_base - zero
                yield index, time, frame
                index += 1
        if packets < (stream.frames or 0):
            self.truncated = True
        if index == 0:
            raise make_undecodable_error(self.path)

    def _demux(self, stream) -> Iterator:
        try:
            yield from self._container.demux(stream)
        except READ_ERRORS:
            self.truncated = True


def to_upright_rgb(frame) -> np.ndarray:
    """Pixels uint8 (H, W, 3) of a decoded frame, as shown."""
    return np.ascontiguousarray(
        np.rot90(
            frame.to_ndarray(format="rgb24", src_colorspace=streams.get_colour_matrix(frame)),
            round(frame.rotation / 90),
        )
    )


class VideoWriter:
    """Writes a video frame by frame in constant memory; it appears under its name only when it is whole.

    path: str or Path ending in one of VIDEO_SUFFIXES.
    rate: Fraction, frames a second; frame i is shown at exactly i / rate.
    width_px, height_px: size of the frames given; an odd side gets one more row or column, a copy of the last.
    sound: Path (streamed), Sound or None; becomes AAC, 48 kHz, one or two channels, starting with frame 0, whole.
    crf: 0 to 51, H.264 quality, less is better.
    overwrite, inputs: as for files.output_file.
    Use it as a context manager: a clean end renames the file, anything else deletes it.
    Raises UsageProblem for the name, WriteFailed for folder and disk, Refused for the sound.
    Source: ours; colours are tagged and converted as ITU-R BT.709.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction,
        width_px: int,
        height_px: int,
        sound: Sound | Path | None = None,
        *,
        crf: int = 17,
        overwrite: bool = False,
        inputs: tuple[Path, ...] = (),
    ) -> None:
        self.path = check_output_file(path, overwrite, inputs, VIDEO_SUFFIXES)
        self.rate, self.size_px, self.frames = Fraction(rate), (width_px, height_px), 0
        self._crf = crf
        self._part = get_part_path(self.path)
        self._container = self._audio = None
        self._samples = 0
        self._blocks = read_delivery_blocks(sound)

    def __enter__(self) -> VideoWriter:
        try:
            self._open()
        except OSError as error:
            self._discard()
            raise make_output_error(self.path, error) from error
        except BaseException:
            self._discard()
            raise
        return self

    def _open(self) -> None:
        self._container = open_output(self._part)
        self._video = self._container.add_stream("libx264", rate=self.rate)
        context = self._video.codec_context
        context.width, context.height = (side + side % 2 for side in self.size_px)
        context.pix_fmt, context.time_base = "yuv420p", 1 / self.rate
        # x264's macroblock tree reads past its rows (AVX-512): the same frames then make other files from run to run
        context.options = {"crf": str(self._crf), "preset": "fast", "x264-params": "no-mbtree=1"}
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        self._next = next(self._blocks, None)
        if self._next is not None:
            self._audio = streams.add_delivery_stream(self._container, self._next.shape[0])

    def write(self, pixels: np.ndarray) -> None:
        """Appends one frame.

        pixels: (height_px, width_px, 3) uint8 RGB.
        Raises MouthpieceError for another shape or dtype, WriteFailed for the disk.
        """
        width_px, height_px = self.size_px
        if pixels.shape != (height_px, width_px, 3) or pixels.dtype != np.uint8:
            raise MouthpieceError(f"frame of {pixels.shape} {pixels.dtype}; need ({height_px}, {width_px}, 3) uint8.")
        if width_px % 2 or height_px % 2:
            pixels = np.pad(pixels, ((0, height_px % 2), (0, width_px % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_BT709)
        frame.colorspace, frame.color_range = _BT709, _BT709
        frame.pts, frame.time_base = self.frames, 1 / self.rate
        self._mux(self._video, frame)
        self.frames += 1
        self._write_sound(until=count_samples(get_frame_time(self.frames, self.rate), DELIVERY_HZ))

    def _write_sound(self, until: int | None = None) -> None:
        while self._audio is not None and self._next is not None and (until is None or self._samples < until):
            block, self._next = self._next, next(self._blocks, None)
            self._mux(self._audio, make_audio_frame(block, DELIVERY_HZ, self._samples))
            self._samples += block.shape[1]

    def _mux(self, stream, frame) -> None:
        try:
            self._container.mux(stream.encode(frame))
        except OSError as error:
            raise make_output_error(self.path, error) from error

    def __exit__(self, kind, problem, trace) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as error:
            raise make_output_error(self.path, error) from error
        finally:
            self._discard()

    def _finish(self) -> None:
        if self.frames == 0:
            raise MouthpieceError(f"{self.path}: no frame was written.")
        self._write_sound()
        for stream in filter(None, (self._video, self._audio)):
            self._mux(stream, None)
        container, self._container = self._container, None
        container.close()
        os.replace(self._part, self.path)

    def _discard(self) -> None:
        self._blocks.close()
        with suppress(OSError):
            self._part.unlink()  # before closing: the muxer then has nothing to rearrange
        if self._container is not None:
            with suppress(*READ_ERRORS, OSError):
                self._container.close()
            self._container = None
        with suppress(OSError):
            self._part.unlink()


def read_delivery_blocks(sound: Sound | Path | None, channels: int = 2) -> Iterator[np.ndarray]:
    """A Path or a Sound (or None) as blocks at DELIVERY_HZ with one or two channels; with all of its own where channels
    is None.
    """
    if sound is None:
        return
    if isinstance(sound, Sound):
        yield from resample_blocks(sound.blocks(channels or sound.channels), sound.rate_hz, DELIVERY_HZ)
        return
    with open_sound_stream(sound, DELIVERY_HZ, channels) as (_, blocks):
        yield from blocks
