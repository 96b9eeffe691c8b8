"""A film written again with parts of its picture changed: size, pixel format, colours, rotation and times of its frames
stay.

Pixels that are not changed reach the encoder bit for bit as the decoder gave them; nothing passes through RGB.
Each stretch of SEGMENT_FRAMES has an encoder of its own: a change in one leaves the bits of all others, which can be
used again.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.engine.files import make_output_error
from mouthpiece.engine.media import streams
from mouthpiece.engine.media.reading import Packet, VideoWriter, open_output, read_delivery_blocks
from mouthpiece.engine.timeline import DELIVERY_HZ, count_samples, round_half_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mouthpiece.engine.audio.sound import Sound
    from mouthpiece.engine.types import MediaInfo

_BT709 = 1
# red and blue of the scaler's matrices
_LUMA_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.3, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_TEN_BIT_SUFFIX = "10le"
_FULL_RANGE = 2
SEGMENT_FRAMES = 96  # about four seconds
_REORDER_FRAMES = 2  # frames by which H.264 may be decoded before it is shown, as x264 codes them here
_GLOBAL_HEADER = 1 << 22  # flag of an encoder: what all segments share stands in the container's header
_PACKET_HEADER = struct.Struct("<qq?I")  # presentation stamp, duration, whether decoding can begin here, bytes


class FramePatch(NamedTuple):
    """Changed pixels of a frame. x_px, y_px: left and top in the frame as shown.  before, after: (h, w, 3) uint8 RGB."""

    x_px: int
    y_px: int
    before: np.ndarray
    after: np.ndarray


class VideoRewriter(VideoWriter):
    """Writes the frames of a film again, changed or not, with new sound; it appears under its name only when it is
    whole.

    path: str or Path ending in one of media.VIDEO_SUFFIXES.
    info: MediaInfo of the film.
    sound: Path (streamed), Sound or None; AAC, 48 kHz, all its channels, cut or continued by silence to the film's
    length.
    duration: Fraction, seconds, the film's length.
    crf: 0 to 51, H.264 quality, less is better, 0 is lossless.
    overwrite, inputs: as for files.output_file.
    on_segment: called with the number of each finished segment and its bytes, for `append` in a later run; None keeps
    nothing.
    Planar YUV of 8 and 10 bits is kept as it is; deeper is rounded to 10 bits, other kinds become the nearest of these.
    Raises as VideoWriter.
    """

    on_segment = None

    def __init__(
        self,
        path: Path,
        info: MediaInfo,
        sound: Sound | Path | None,
        duration: Fraction,
        *,
        crf: int = 17,
        overwrite: bool = False,
        inputs: tuple[Path, ...] = (),
    ) -> None:
        super().__init__(
            path,
            info.rate or Fraction(25),
            info.width_px,
            info.height_px,
            None,
            crf=crf,
            overwrite=overwrite,
            inputs=inputs,
        )
        self._info, self._stamps = info, []
        self._encoder, self._coded, self._muxed = None, [], 0
        if sound is not None:
            self._blocks = pad_or_trim_blocks(read_delivery_blocks(sound, None), count_samples(duration, DELIVERY_HZ))

    def _open(self) -> None:
        """Waits for the first frame, which says what the picture is made of."""

    def write(self, frame, time: Fraction, patches: list[FramePatch] = ()) -> None:
        """Appends a frame.

        frame: as VideoReader.natives gives it.  time: Fraction, seconds.
        patches: Patches in it.
        Raises WriteFailed for the disk.
        """
        matrix, frame = _to_encodable(frame)
        if self._container is None:
            self._start(frame)
        context = self._video.codec_context
        if (frame.width + frame.width % 2, frame.height + frame.height % 2) != (context.width, context.height):
            raise MouthpieceError(
                f"{self._info.path}: a frame of {frame.width} x {frame.height} px among others of {context.width} x {context.height}."
            )
        for patch in patches:
            apply_patch(frame, patch, matrix, round(self._info.rotation_degrees / 90))
        if frame.width % 2 or frame.height % 2:
            frame = _pad_to_even(frame)
        frame.pts, frame.dts, frame.time_base = self._next_stamp(time), None, self._info.time_base
        frame.pict_type = 0  # the film's own kinds of frames would rule the encoder
        if self._encoder is None:
            self._encoder = self._configure_encoder(type(context).create("libx264", "w"), context)
        self._coded += self._encoder.encode(frame)
        self.frames += 1
        if self.frames % SEGMENT_FRAMES == 0:
            self._end_segment()

    def append(self, frame, times: list[Fraction], segment: bytes) -> None:
        """Appends a whole segment that an earlier run told on_segment of; only where the last one has ended.

        frame: its first, as for `write`, which says what the picture is made of.  times: Fractions, of all its frames.
        segment: bytes.
        Raises WriteFailed for the disk.
        """
        if self.frames % SEGMENT_FRAMES:
            raise MouthpieceError(f"{self._info.path}: a segment appended after {self.frames} frames.")
        if self._container is None:
            self._start(_to_encodable(frame)[1])
        for time in times:
            self._next_stamp(time)
        self.frames += len(times)
        self._mux_packets(unpack_segment(segment))

    def _next_stamp(self, time: Fraction) -> int:
        """The next frame's time on the film's own clock, never that of the last one again."""
        stamp = round_half_up(time / self._info.time_base)
        self._stamps.append(max(stamp, self._stamps[-1] + 1) if self._stamps else stamp)
        return self._stamps[-1]

    def _end_segment(self) -> None:
        if self._encoder is None:
            return
        rows = [
            (packet.pts, packet.duration or 0, packet.is_keyframe, bytes(packet))
            for packet in (*self._coded, *self._encoder.encode(None))
        ]
        self._encoder, self._coded = None, []
        if self.on_segment is not None:
            self.on_segment((self.frames - 1) // SEGMENT_FRAMES, pack_segment(rows))
        self._mux_packets(rows)

    def _mux_packets(self, rows: list[tuple[int, int, bool, bytes]]) -> None:
        for stamp, duration, key, data in rows:
            packet = Packet(data)
            packet.stream, packet.time_base = self._video, self._info.time_base
            packet.pts, packet.dts, packet.duration, packet.is_keyframe = (
                stamp,
                self._next_decoding_stamp(),
                duration,
                key,
            )
            if packet.dts > packet.pts:
                raise MouthpieceError(f"{self._info.path}: a frame at {stamp} is coded later than it is shown.")
            self._write_sound(until=count_samples(max(0, packet.dts) * self._info.time_base, DELIVERY_HZ))
            try:
                self._container.mux(packet)
            except OSError as error:
                raise make_output_error(self.path, error) from error
            self._muxed += 1

    def _next_decoding_stamp(self) -> int:
        """Of the next packet: of the frame shown _AHEAD_FRAMES earlier; before the first, as far back as that one is
        long.
        """
        at = self._muxed - _REORDER_FRAMES
        step = self._stamps[1] - self._stamps[0] if len(self._stamps) > 1 else 1
        return self._stamps[at] if at >= 0 else self._stamps[0] + at * step

    def _finish(self) -> None:
        self._end_segment()
        super()._finish()

    def _start(self, frame) -> None:
        info, colour = self._info, self._info.colour
        if frame.format.name.startswith("yuvj"):
            colour = colour | {"range": _FULL_RANGE}
        elif int(frame.colorspace) == _BT709 and colour["matrix"] == 0:  # it was RGB
            colour = dict.fromkeys(colour, _BT709)
        self._container = open_output(self._part)
        self._video = self._container.add_stream("libx264", rate=self.rate)
        context = self._video.codec_context
        context.width, context.height = (side + side % 2 for side in (frame.width, frame.height))
        context.pix_fmt = frame.format.name
        context.colorspace, context.color_primaries = colour["matrix"], colour["primaries"]
        context.color_trc, context.color_range = colour["transfer"], colour["range"]
        if info.pixel_aspect != 1:
            context.sample_aspect_ratio = info.pixel_aspect
        self._configure_encoder(context, context)
        if info.rotation_degrees:
            self._video.set_display_rotation(info.rotation_degrees)
        self._next = next(self._blocks, None)
        if self._next is not None:
            self._audio = streams.add_delivery_stream(self._container, self._next.shape[0])

    def _configure_encoder(self, encoder, like):
        """An encoder with the settings of the film; one of a segment, with everything that stands in the stream's
        `like`.
        """
        quality = {"crf": str(self._crf)} if self._crf else {"qp": "0"}  # crf 0 of 10 bits is not lossless
        encoder.options = quality | {"preset": "fast", "x264-params": "no-mbtree=1"}  # why: VideoWriter
        encoder.time_base, encoder.framerate = self._info.time_base, self.rate
        if encoder is not like:
            for name in (
                "width",
                "height",
                "pix_fmt",
                "colorspace",
                "color_primaries",
                "color_trc",
                "color_range",
                "sample_aspect_ratio",
            ):
                value = getattr(like, name)
                if value is not None:
                    setattr(encoder, name, value)
            encoder.flags |= _GLOBAL_HEADER
        return encoder


def pack_segment(rows: list[tuple[int, int, bool, bytes]]) -> bytes:
    """Bytes of packets (presentation stamp, duration, whether decoding can begin there, bytes)."""
    return b"".join(_PACKET_HEADER.pack(stamp, duration, key, len(data)) + data for stamp, duration, key, data in rows)


def unpack_segment(segment: bytes) -> Iterator[tuple[int, int, bool, bytes]]:
    """The packets that `packed` made bytes of, one after another."""
    at = 0
    while at < len(segment):
        stamp, duration, key, size = _PACKET_HEADER.unpack_from(segment, at)
        yield stamp, duration, key, segment[at + _PACKET_HEADER.size : at + _PACKET_HEADER.size + size]
        at += _PACKET_HEADER.size + size


def _to_encodable(frame) -> tuple:
    """(the scaler's number of the colour matrix, the frame in a format that is encoded)."""
    if frame.format.is_rgb:
        return _BT709, frame.reformat(
            format=choose_pixel_format(frame.format), dst_colorspace=_BT709, dst_color_range=_BT709
        )
    matrix = streams.get_colour_matrix(frame)
    return matrix, frame if frame.format.name == choose_pixel_format(frame.format) else _copy_colour_tags(
        frame.reformat(format=choose_pixel_format(frame.format)), frame
    )


def pad_or_trim_blocks(blocks: Iterator, samples: int) -> Iterator[np.ndarray]:
    """Blocks of sound (C, S) cut, or continued by silence, to exactly `samples`."""
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


def choose_pixel_format(pixel_format) -> str:
    """Name of the format in which a picture is encoded: its own where H.264 has it, else the nearest.

    pixel_format: PyAV's VideoFormat.
    """
    shape = (pixel_format.chroma_width(16), pixel_format.chroma_height(16))
    chroma = {(8, 16): "422", (16, 16): "444"}.get(shape, "420")
    if pixel_format.is_rgb or len(pixel_format.components) < 3:
        chroma = "420"
    deep = max(part.bits for part in pixel_format.components) > 8
    full = "j" if pixel_format.name.startswith("yuvj") else ""
    return f"yuv{full}{chroma}p{_TEN_BIT_SUFFIX if deep else ''}"


def apply_patch(frame, patch: FramePatch, matrix: int, turns: int) -> None:
    """Adds a patch's change to the planes of a frame; where it changes nothing they keep their bits.

    frame: decoded, planar YUV of 8 or 10 bits; its planes are replaced, the decoder's own copy stays.
    patch: Patch, as shown.
    matrix: the scaler's number of the colour matrix.
    turns: quarter turns, counter-clockwise, from the frame to the picture as shown.
    Source: ITU-R BT.601, BT.709, BT.2020: colour difference is linear in RGB, so a change of one is a change of the
    other.
    """
    shown = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
    row, column, delta = _to_coded_orientation(patch, shown, turns)
    red, blue = _LUMA_WEIGHTS[matrix]
    bits = frame.format.components[0].bits
    full = frame.format.name.startswith("yuvj") or int(frame.color_range) == _FULL_RANGE
    luma, chroma = (1, 1) if full else (219 / 255, 224 / 255)
    y = delta @ np.array([red, 1 - red - blue, blue], np.float32)
    parts = (luma * y, chroma * (delta[..., 2] - y) / (2 - 2 * blue), chroma * (delta[..., 0] - y) / (2 - 2 * red))
    frame.make_writable()
    for number, part in enumerate(parts):
        step = (1, 1) if number == 0 else (16 // frame.format.chroma_height(16), 16 // frame.format.chroma_width(16))
        part, top, left = _average_blocks(part, row, column, step)
        values = get_plane(frame, number, bits)[top : top + part.shape[0], left : left + part.shape[1]]
        part = part[: values.shape[0], : values.shape[1]] * (1 << (bits - 8))
        values[:] = np.clip(np.rint(values + part), 0, (1 << bits) - 1).astype(values.dtype)


def get_plane(frame, number: int, bits: int) -> np.ndarray:
    """A plane of a frame, (h, w) uint8 or uint16, to read and to write in place."""
    plane, kind = frame.planes[number], np.uint8 if bits == 8 else np.uint16
    rows = np.frombuffer(plane, kind)[: plane.height * (plane.line_size // kind().itemsize)].reshape(plane.height, -1)
    return rows[:, : plane.width]


def _to_coded_orientation(patch: FramePatch, shown: tuple[int, int], turns: int) -> tuple[int, int, np.ndarray]:
    """(row, column, delta float32 (h, w, 3)) of a patch in the frame as it is coded. shown: (height, width) of the
    picture.
    """
    height, width = shown
    delta = patch.after.astype(np.float32) - patch.before
    h, w = delta.shape[:2]
    below, right = height - patch.y_px - h, width - patch.x_px - w
    row, column = {0: (patch.y_px, patch.x_px), 1: (patch.x_px, below), 2: (below, right), 3: (right, patch.y_px)}[
        turns % 4
    ]
    return row, column, np.ascontiguousarray(np.rot90(delta, -turns))


def _average_blocks(part: np.ndarray, row: int, column: int, step: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """(part, row, column) averaged over blocks of step (rows, columns); what it does not reach of a block counts as no
    change.
    """
    high, wide = step
    before, left = row % high, column % wide
    after, right = -(before + part.shape[0]) % high, -(left + part.shape[1]) % wide
    part = np.pad(part, ((before, after), (left, right)))
    part = part.reshape(part.shape[0] // high, high, part.shape[1] // wide, wide).mean((1, 3))
    return part, row // high, column // wide


def _copy_colour_tags(frame, other):
    """The frame with the colour tags of another."""
    frame.colorspace, frame.color_range = other.colorspace, other.color_range
    return frame


def _pad_to_even(frame):
    """A copy with one more row or column where a side is odd, a copy of the last: 4:2:0 has no odd sides."""
    bits = frame.format.components[0].bits
    out = type(frame)(frame.width + frame.width % 2, frame.height + frame.height % 2, frame.format.name)
    for number in range(3):
        old, new = get_plane(frame, number, bits), get_plane(out, number, bits)
        new[:] = np.pad(old, ((0, new.shape[0] - old.shape[0]), (0, new.shape[1] - old.shape[1])), mode="edge")
    return _copy_colour_tags(out, frame)
