"""Write video with sound, frame by frame in constant memory, on one exact clock."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np

from mouthpiece.engine.audio.sound import LAYOUTS, Sound
from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.engine.files import check_output_file, get_part_path, make_output_error
from mouthpiece.engine.media.containers import get_output_format, list_video_suffixes
from mouthpiece.engine.media.probing import READ_ERRORS
from mouthpiece.engine.media.reading import make_audio_frame, open_sound_stream, resample_blocks
from mouthpiece.engine.timeline import DELIVERY_HZ, count_samples, get_frame_time

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

    from mouthpiece.engine.media.containers import AudioCodec, VideoCodec

BT709 = 1  # number of ITU-R BT.709 as matrix, primaries and transfer, in ITU-T H.273; of limited range too, in FFmpeg


def open_output(part: Path) -> OutputContainer:
    """Open a container for writing, of the kind that the name of `part` ends in, one of list_video_suffixes()."""
    output = get_output_format(part)
    return av.open(f"file:{part}", "w", format=output.muxer, options=dict(output.muxer_options))


def fix_threads(context: VideoCodecContext, codec: VideoCodec) -> None:
    """Fix how an encoder shares a picture among threads: left alone it looks at the cores, and so do its bits."""
    context.thread_type, context.thread_count = "SLICE", codec.slice_threads


class SoundTrack:
    """Encode the sound of a film, as far as its picture is written.

    container: opened for writing.  codec: of the sound.
    blocks: (C, S) float32 at DELIVERY_HZ; without a single one the film has no sound stream.
    """

    def __init__(self, container: OutputContainer, codec: AudioCodec, blocks: Iterator[np.ndarray]) -> None:
        self._container, self._blocks = container, blocks
        self.samples = 0  # encoded so far
        self._next = next(blocks, None)
        self.stream: AudioStream | None = None
        if self._next is not None:
            channels = self._next.shape[0]
            stream = cast(
                "AudioStream", container.add_stream(codec.encoder, rate=DELIVERY_HZ, layout=LAYOUTS[channels])
            )
            stream.codec_context.bit_rate = codec.compute_bit_rate(channels)
            self.stream = stream

    def write(self, until: int | None = None) -> None:
        """Encode the blocks that begin before a sample number; None encodes all."""
        while self.stream is not None and self._next is not None and (until is None or self.samples < until):
            block, self._next = self._next, next(self._blocks, None)
            self._container.mux(self.stream.encode(make_audio_frame(block, DELIVERY_HZ, self.samples)))
            self.samples += block.shape[1]

    def flush(self) -> None:
        """Write the packets that the encoder still holds; nothing can be encoded after them."""
        if self.stream is not None:
            self._container.mux(self.stream.encode(None))


class VideoOutput:
    """Write a video file in constant memory; it appears under its name only when it is whole.

    What VideoWriter and VideoRewriter share: subclasses append frames.
    path: ends in one of list_video_suffixes(); the container's row says the codecs.
    rate: frames a second.
    blocks: sound (C, S) float32 at DELIVERY_HZ, starting with the first frame.
    crf: constant rate factor of the codec, for H.264 0 to 51, less is better.
    overwrite, inputs: as for files.check_output_file.
    Use it as a context manager: a clean end renames the file, anything else deletes it.
    """

    _video: VideoStream  # once the file is opened

    def __init__(
        self,
        path: str | Path,
        rate: Fraction,
        blocks: Generator[np.ndarray],
        *,
        crf: int = 17,
        overwrite: bool = False,
        inputs: Iterable[str | Path] = (),
    ) -> None:
        self.path = check_output_file(path, overwrite, inputs, list_video_suffixes())
        self.rate, self.frames = Fraction(rate), 0
        self._format = get_output_format(self.path)
        self._codec = self._format.video_codec
        self._crf = crf
        self._part = get_part_path(self.path)
        self._blocks = blocks
        self._container: OutputContainer | None = None
        self._sound: SoundTrack | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as error:
            self._discard()
            raise make_output_error(self.path, error) from error
        except BaseException:
            self._discard()
            raise
        return self

    @property
    def sound_samples(self) -> int:
        """Return the samples of sound, at DELIVERY_HZ, that are encoded so far."""
        return 0 if self._sound is None else self._sound.samples

    def _open(self) -> None:
        """Open the file and its streams, where that needs no frame."""

    def _add_streams(self) -> VideoCodecContext:
        """Open the file, add a stream of pictures and return its encoder, which is still to be configured."""
        self._container = open_output(self._part)
        self._video = cast("VideoStream", self._container.add_stream(self._codec.encoder, rate=self.rate))
        return self._video.codec_context

    def _add_sound(self) -> None:
        """Add the stream of sound, after that of pictures."""
        if self._container is not None:
            self._sound = SoundTrack(self._container, self._format.audio_codec, self._blocks)

    def _write_sound(self, until: int | None = None) -> None:
        """Encode the sound up to a sample number; None encodes all."""
        try:
            if self._sound is not None:
                self._sound.write(until)
        except OSError as error:
            raise make_output_error(self.path, error) from error

    def _mux(self, packets: av.Packet | Sequence[av.Packet]) -> None:
        """Write packets into the file."""
        try:
            if self._container is not None:
                self._container.mux(packets)
        except OSError as error:
            raise make_output_error(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as problem:
            raise make_output_error(self.path, problem) from problem
        finally:
            self._discard()

    def _finish(self) -> None:
        """Write what the encoders still hold, close the file and give it its name."""
        if self.frames == 0:
            raise MouthpieceError(f"{self.path}: no frame was written.")
        self._write_sound()
        self._mux(self._video.encode(None))
        if self._sound is not None:
            self._sound.flush()
        container, self._container = self._container, None
        if container is not None:
            container.close()
        os.replace(self._part, self.path)

    def _discard(self) -> None:
        """Delete the unfinished file; nothing happens to a finished one."""
        self._blocks.close()
        with suppress(OSError):
            self._part.unlink()  # before closing: the muxer then has nothing to rearrange
        if self._container is not None:
            with suppress(*READ_ERRORS, OSError):
                self._container.close()
            self._container = None
        with suppress(OSError):
            self._part.unlink()


class VideoWriter(VideoOutput):
    """Write a video frame by frame in constant memory; it appears under its name only when it is whole.

    path, crf, overwrite, inputs: as for VideoOutput.
    rate: frames a second; frame i is shown at exactly i / rate.
    width_px, height_px: size of the frames given; an odd side gets one more row or column, a copy of the last.
    sound: Path (streamed), Sound or None; becomes 48 kHz, one or two channels, starting with frame 0, whole.
    Raises UsageError for the name, OutputError for folder and disk, InvalidInputError for the sound.
    Source: ITU-R BT.709 for the colours, tagged and converted.
    """

    def __init__(
        self,
        path: str | Path,
        rate: Fraction,
        width_px: int,
        height_px: int,
        sound: Sound | Path | None = None,
        *,
        crf: int = 17,
        overwrite: bool = False,
        inputs: Iterable[str | Path] = (),
    ) -> None:
        super().__init__(path, rate, read_delivery_blocks(sound), crf=crf, overwrite=overwrite, inputs=inputs)
        self.size_px = (width_px, height_px)

    def _open(self) -> None:
        """Open the file and its streams."""
        context = self._add_streams()
        context.width, context.height = (side + side % 2 for side in self.size_px)
        context.pix_fmt, context.time_base = "yuv420p", 1 / self.rate
        context.options = self._codec.make_options(self._crf)
        fix_threads(context, self._codec)
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = BT709
        self._add_sound()

    def write(self, pixels: np.ndarray) -> None:
        """Append one frame.

        pixels: (height_px, width_px, 3) uint8 RGB.
        Raises MouthpieceError for another shape or dtype, OutputError for the disk.
        """
        width_px, height_px = self.size_px
        if pixels.shape != (height_px, width_px, 3) or pixels.dtype != np.uint8:
            raise MouthpieceError(f"frame of {pixels.shape} {pixels.dtype}; need ({height_px}, {width_px}, 3) uint8.")
        if width_px % 2 or height_px % 2:
            pixels = np.pad(pixels, ((0, height_px % 2), (0, width_px % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=BT709)
        frame.colorspace, frame.color_range = BT709, BT709
        frame.pts, frame.time_base = self.frames, 1 / self.rate
        self._mux(self._encode(frame))
        self.frames += 1
        self._write_sound(until=count_samples(get_frame_time(self.frames, self.rate), DELIVERY_HZ))

    def _encode(self, frame: av.VideoFrame) -> list[av.Packet]:
        """Encode a frame; the packets that are ready."""
        try:
            return self._video.encode(frame)
        except OSError as error:
            raise make_output_error(self.path, error) from error


def read_delivery_blocks(sound: Sound | Path | None, channels: int | None = 2) -> Generator[np.ndarray]:
    """Read a sound as blocks (C, S) float32 at DELIVERY_HZ.

    sound: Path (streamed), Sound, or None for no block at all.
    channels: 1 or 2 mixes more of them down; None keeps all.
    """
    if sound is None:
        return
    if isinstance(sound, Sound):
        yield from resample_blocks(sound.iterate_blocks(channels or sound.channels), sound.rate_hz, DELIVERY_HZ)
        return
    with open_sound_stream(sound, DELIVERY_HZ, channels) as (_, blocks):
        yield from blocks


def pad_or_trim_blocks(blocks: Iterable[np.ndarray], samples: int) -> Generator[np.ndarray]:
    """Trim blocks of sound (C, S), or pad them with silence, to exactly so many samples, at DELIVERY_HZ."""
    channels, given = 1, 0
    for block in blocks:
        channels = block.shape[0]
        block = block[:, : samples - given]
        given += block.shape[1]
        if block.shape[1]:
            yield block
    while given < samples:
        silence = np.zeros((channels, min(DELIVERY_HZ, samples - given)), np.float32)
        given += silence.shape[1]
        yield silence
