"""Rewrite a film with parts of its picture changed; size, pixel format, colours, rotation and frame times stay.

Pixels that are not changed reach the encoder bit for bit as the decoder gave them; nothing passes through RGB.
Each segment of SEGMENT_FRAMES has an encoder of its own: a change in one leaves the bits of all others, which a later
run can append as they are.
"""

from __future__ import annotations

import shlex
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, cast

import av
from av.codec.context import Flags

from mouthpiece.engine.errors import InvalidInputError, MouthpieceError
from mouthpiece.engine.files import make_output_error
from mouthpiece.engine.media.companions import Companions
from mouthpiece.engine.media.patches import FULL_RANGE, apply_patch, copy_colour_tags, pad_to_even
from mouthpiece.engine.media.streams import get_colour_matrix
from mouthpiece.engine.media.writing import (
    BT709,
    VideoOutput,
    fix_threads,
    pad_or_trim_blocks,
    read_delivery_blocks,
)
from mouthpiece.engine.timeline import DELIVERY_HZ, count_samples, round_half_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from av.video.codeccontext import VideoCodecContext
    from av.video.format import VideoFormat

    from mouthpiece.engine.audio.sound import Sound
    from mouthpiece.engine.media.containers import VideoCodec
    from mouthpiece.engine.media.patches import FramePatch
    from mouthpiece.engine.types import MediaInfo

_TEN_BIT_SUFFIX = "10le"
SEGMENT_FRAMES = 96  # frames of a segment, about four seconds
_INTERLACED = Flags.interlaced_dct | Flags.interlaced_me
_GLOBAL_HEADER = 1 << 22  # flag of an encoder: what all segments share stands in the container's header
# what the file's header says of the pictures of all segments
_HEADER_FIELDS = (
    "width",
    "height",
    "pix_fmt",
    "colorspace",
    "color_primaries",
    "color_trc",
    "color_range",
    "sample_aspect_ratio",
)
_PACKET_HEADER = struct.Struct("<qq?I")  # presentation stamp, duration, whether decoding can begin here, bytes


class EncodedPacket(NamedTuple):
    """One packet of an encoder.

    stamp, duration: presentation time and length in units of the film's time base.
    is_keyframe: whether decoding can begin here.  data: what the encoder made.
    """

    stamp: int
    duration: int
    is_keyframe: bool
    data: bytes


class VideoRewriter(VideoOutput):
    """Rewrite the frames of a film, changed or not, with new sound; it appears under its name only when it is whole.

    path: ends in one of list_video_suffixes().
    info: MediaInfo of the film.
    sound: Path (streamed), Sound or None; becomes 48 kHz, all its channels, trimmed or padded to the film's length.
    duration: seconds, the film's length.
    crf: constant rate factor of the codec, for H.264 0 to 51, less is better, 0 is lossless.
    overwrite, inputs: as for files.check_output_file.
    language: of the sound, "fr" or "pt-BR"; stands in the file where the film says one of its own sound.
    The film's further tracks, chapters and tags are copied where the container holds them.
    on_segment: called with the number of each finished segment and its bytes, for `append` in a later run; None keeps
    nothing.
    Planar YUV of a depth that the codec has is kept as it is; other pixel formats become the nearest of these.
    The file is opened with the first frame, which tells the pixel format.
    Raises UsageError for the name, OutputError for folder and disk, InvalidInputError for the sound.
    """

    on_segment: Callable[[int, bytes], None] | None = None

    def __init__(
        self,
        path: str | Path,
        info: MediaInfo,
        sound: Sound | Path | None,
        duration: Fraction,
        *,
        crf: int = 17,
        overwrite: bool = False,
        inputs: Iterable[str | Path] = (),
        language: str | None = None,
    ) -> None:
        blocks = read_delivery_blocks(sound, None)
        if sound is not None:
            blocks = pad_or_trim_blocks(blocks, count_samples(duration, DELIVERY_HZ))
        super().__init__(path, info.rate or Fraction(25), blocks, crf=crf, overwrite=overwrite, inputs=inputs)
        self._info, self._language = info, language
        self._time_base = cast("Fraction", info.time_base)  # a film has a picture, and so a time base
        self._stamps: list[int] = []  # presentation times of all frames so far
        self._encoder: VideoCodecContext | None = None  # of the segment that is written
        self._coded: list[av.Packet] = []  # of that segment
        self._muxed = 0  # packets written
        self._companions: Companions | None = None

    def write(self, frame: av.VideoFrame, time: Fraction, patches: Sequence[FramePatch] = ()) -> None:
        """Append a frame.

        frame: as VideoReader.read_native_frames gives it.  time: seconds.
        patches: changes of it.
        Raises OutputError for the disk.
        """
        if self._container is None:
            self._check_fields(frame)
        matrix, frame = _to_encodable(frame, self._codec)
        if self._container is None:
            self._start(frame)
        context = self._video.codec_context
        if (frame.width + frame.width % 2, frame.height + frame.height % 2) != (context.width, context.height):
            raise MouthpieceError(
                f"{self._info.path}: a frame of {frame.width} x {frame.height} px "
                f"among others of {context.width} x {context.height}."
            )
        for patch in patches:
            apply_patch(frame, patch, matrix, round(self._info.rotation_degrees / 90))
        if frame.width % 2 or frame.height % 2:
            frame = pad_to_even(frame)
        frame.pts, frame.dts, frame.time_base = self._next_stamp(time), None, self._time_base
        frame.pict_type = 0  # the film's own kinds of frames would rule the encoder
        if self._encoder is None:
            encoder = cast("VideoCodecContext", type(context).create(self._codec.encoder, "w"))
            self._encoder = self._configure_encoder(encoder, context)
        self._coded += self._encoder.encode(frame)
        self.frames += 1
        if self.frames % SEGMENT_FRAMES == 0:
            self._end_segment()

    def append(self, frame: av.VideoFrame, times: Sequence[Fraction], segment: bytes) -> None:
        """Append a whole segment that an earlier run gave to on_segment; only where the last one has ended.

        frame: its first, as for `write`, which tells the pixel format.  times: of all its frames, seconds.
        segment: what pack_segment made.
        Raises OutputError for the disk.
        """
        if self.frames % SEGMENT_FRAMES:
            raise MouthpieceError(f"{self._info.path}: a segment appended after {self.frames} frames.")
        if self._container is None:
            self._check_fields(frame)
            self._start(_to_encodable(frame, self._codec)[1])
        for time in times:
            self._next_stamp(time)
        self.frames += len(times)
        self._mux_packets(unpack_segment(segment))

    def _check_fields(self, frame: av.VideoFrame) -> None:
        """Check that the fields of an interlaced film survive. frame: the first, as decoded.

        Raises InvalidInputError where its pixels would have to be converted or padded, which takes both fields for one
        picture, and where the encoder knows no fields.
        """
        if self._info.field_order is None:
            return
        lines = frame.height * frame.format.chroma_height(16) // 16  # of a chroma plane
        kept = frame.format.name == choose_pixel_format(frame.format, self._codec)
        if not self._codec.interlaced or not kept or frame.width % 2 or lines % 2 or frame.height % 2:
            path = self._info.path
            raise InvalidInputError(
                f"{path}: interlaced, {frame.width} x {frame.height} px as {frame.format.name}: fields cannot be kept.",
                hint=f"Deinterlace it first: ffmpeg -i {shlex.quote(str(path))} -vf bwdif -c:a copy progressive.mov",
                code="interlaced",
            )

    def _next_stamp(self, time: Fraction) -> int:
        """Round the next frame's time to the film's own clock, always later than that of the frame before."""
        stamp = round_half_up(time / self._time_base)
        self._stamps.append(max(stamp, self._stamps[-1] + 1) if self._stamps else stamp)
        return self._stamps[-1]

    def _end_segment(self) -> None:
        """Finish the segment's encoder, hand its bytes to on_segment and write its packets."""
        if self._encoder is None:
            return
        rows = [
            # an encoder stamps every packet
            EncodedPacket(cast("int", packet.pts), packet.duration or 0, packet.is_keyframe, bytes(packet))
            for packet in (*self._coded, *self._encoder.encode(None))
        ]
        self._encoder, self._coded = None, []
        if self.on_segment is not None:
            self.on_segment((self.frames - 1) // SEGMENT_FRAMES, pack_segment(rows))
        self._mux_packets(rows)

    def _mux_packets(self, rows: Iterable[EncodedPacket]) -> None:
        """Write packets with their decoding times, and the sound up to each."""
        for row in rows:
            packet = av.Packet(row.data)
            packet.stream, packet.time_base = self._video, self._time_base
            packet.pts, packet.dts = row.stamp, self._next_decoding_stamp()
            packet.duration, packet.is_keyframe = row.duration, row.is_keyframe
            if packet.dts > packet.pts:
                raise MouthpieceError(f"{self._info.path}: a frame at {row.stamp} is coded later than it is shown.")
            self._write_sound(until=count_samples(max(0, packet.dts) * self._time_base, DELIVERY_HZ))
            self._write_companions(until=max(0, packet.dts) * self._time_base)
            self._mux(packet)
            self._muxed += 1

    def _next_decoding_stamp(self) -> int:
        """Compute the decoding time of the next packet: that of the frame shown as many frames earlier as the codec
        reorders; before the first frame, as many of its lengths back.
        """
        index = self._muxed - self._codec.reorder_frames
        step = self._stamps[1] - self._stamps[0] if len(self._stamps) > 1 else 1
        return self._stamps[index] if index >= 0 else self._stamps[0] + index * step

    def _finish(self) -> None:
        """Finish the last segment, then the file."""
        self._end_segment()
        self._write_companions()
        super()._finish()

    def _discard(self) -> None:
        """Delete the unfinished file; nothing happens to a finished one."""
        if self._companions is not None:
            self._companions.close()
            self._companions = None
        super()._discard()

    def _write_companions(self, until: Fraction | None = None) -> None:
        """Write the film's further tracks up to a time in seconds; None writes all."""
        try:
            if self._companions is not None:
                self._companions.write(until)
        except OSError as error:
            raise make_output_error(self.path, error) from error

    def _start(self, frame: av.VideoFrame) -> None:
        """Open the file and its streams for frames like this one, which is encodable."""
        info, colour = self._info, self._info.colour
        if frame.format.name.startswith("yuvj"):
            colour = colour | {"range": FULL_RANGE}
        elif int(frame.colorspace) == BT709 and colour["matrix"] == 0:  # it was RGB
            colour = dict.fromkeys(colour, BT709)
        context = self._add_streams()
        context.width, context.height = (side + side % 2 for side in (frame.width, frame.height))
        context.pix_fmt = frame.format.name
        context.colorspace, context.color_primaries = colour["matrix"], colour["primaries"]
        context.color_trc, context.color_range = colour["transfer"], colour["range"]
        if info.field_order:
            context.field_order = info.field_order
        if info.pixel_aspect != 1:
            context.sample_aspect_ratio = info.pixel_aspect
        self._configure_encoder(context, context)
        if info.rotation_degrees:
            self._video.set_display_rotation(info.rotation_degrees)
        self._add_sound()
        if self._container is not None and self._sound is not None:
            self._companions = Companions(info.path, self._container, self._sound.stream, self.path, self._language)

    def _configure_encoder(self, encoder: VideoCodecContext, like: VideoCodecContext) -> VideoCodecContext:
        """Configure an encoder with the settings of the film.

        encoder: the stream's own, or one of a segment.
        like: the stream's own, from which one of a segment takes everything that stands in the file's header.
        """
        encoder.options = self._codec.make_options(self._crf) if self._crf else self._codec.make_lossless_options()
        encoder.options |= self._codec.make_film_options(self._info)
        fix_threads(encoder, self._codec)
        if self._info.field_order is not None:
            encoder.flags |= _INTERLACED
        encoder.time_base, encoder.framerate = self._time_base, self.rate
        if encoder is not like:
            for name in _HEADER_FIELDS:
                value = getattr(like, name)
                if value is not None:
                    setattr(encoder, name, value)
            encoder.flags |= _GLOBAL_HEADER
        return encoder


def pack_segment(rows: Iterable[EncodedPacket]) -> bytes:
    """Pack the packets of a segment into bytes."""
    return b"".join(_PACKET_HEADER.pack(stamp, duration, key, len(data)) + data for stamp, duration, key, data in rows)


def unpack_segment(segment: bytes) -> Iterator[EncodedPacket]:
    """Unpack the packets of a segment that pack_segment packed, one after another."""
    position = 0
    while position < len(segment):
        stamp, duration, key, size = _PACKET_HEADER.unpack_from(segment, position)
        begin = position + _PACKET_HEADER.size
        yield EncodedPacket(stamp, duration, key, segment[begin : begin + size])
        position = begin + size


def _to_encodable(frame: av.VideoFrame, codec: VideoCodec) -> tuple[int, av.VideoFrame]:
    """Convert a frame to a pixel format that the codec has: (FFmpeg's number of the colour matrix, frame)."""
    name = choose_pixel_format(frame.format, codec)
    if frame.format.is_rgb:
        return BT709, frame.reformat(format=name, dst_colorspace=BT709, dst_color_range=BT709)
    matrix = get_colour_matrix(frame)
    if frame.format.name == name:
        return matrix, frame
    return matrix, copy_colour_tags(frame.reformat(format=name), frame)


def choose_pixel_format(pixel_format: VideoFormat, codec: VideoCodec) -> str:
    """Choose the pixel format in which a picture is encoded: its own where the codec has it, else the nearest."""
    shape = (pixel_format.chroma_width(16), pixel_format.chroma_height(16))
    chroma = {(8, 16): "422", (16, 16): "444"}.get(shape, "420")
    if pixel_format.is_rgb or len(pixel_format.components) < 3:
        chroma = "420"
    deep = max(component.bits for component in pixel_format.components) > 8 and codec.max_bits > 8
    full = "j" if pixel_format.name.startswith("yuvj") and codec.full_range_formats else ""
    return f"yuv{full}{chroma}p{_TEN_BIT_SUFFIX if deep else ''}"
