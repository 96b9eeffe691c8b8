"""A film written again with parts of its picture changed: size, pixel format, colours, rotation and times of its frames stay.

Pixels that are not changed reach the encoder bit for bit as the decoder gave them; nothing passes through RGB.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from engine import streams
from engine.errors import MouthpieceError
from engine.media import VideoWriter, created, delivery_blocks
from engine.timeline import DELIVERY_HZ, nearest, samples_at

_BT709 = 1
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.3, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # red and blue of the scaler's matrices
_DEEP = "10le"
_FULL_RANGE = 2


class Patch(NamedTuple):
    """Changed pixels of a frame. x_px, y_px: left and top in the frame as shown.  before, after: (h, w, 3) uint8 RGB. Source: ours."""

    x_px: int
    y_px: int
    before: np.ndarray
    after: np.ndarray


class FilmWriter(VideoWriter):
    """Writes the frames of a film again, changed or not, with new sound; it appears under its name only when it is whole.

    path: str or Path ending in one of media.VIDEO_SUFFIXES.
    info: MediaInfo of the film.
    sound: Path (streamed), Sound or None; AAC, 48 kHz, one or two channels, cut or continued by silence to the film's length.
    duration: Fraction, seconds, the film's length.
    crf: 0 to 51, H.264 quality, less is better, 0 is lossless.
    overwrite, inputs: as for files.output_file.
    Planar YUV of 8 and 10 bits is kept as it is; deeper is rounded to 10 bits, other kinds become the nearest of these.
    Raises as VideoWriter.
    Source: ours.
    """

    def __init__(self, path, info, sound, duration, *, crf=17, overwrite=False, inputs=()):
        super().__init__(path, info.rate or Fraction(25), info.width_px, info.height_px, None, crf=crf, overwrite=overwrite, inputs=inputs)
        self._info, self._last = info, None
        if sound is not None:
            self._blocks = lasting(delivery_blocks(sound), samples_at(duration, DELIVERY_HZ))

    def _open(self):
        """Waits for the first frame, which says what the picture is made of."""

    def write(self, frame, time, patches=()):
        """Appends a frame.

        frame: as VideoReader.natives gives it.  time: Fraction, seconds.
        patches: Patches in it.
        Raises WriteFailed for the disk.
        Source: ours.
        """
        if frame.format.is_rgb:
            matrix, frame = _BT709, frame.reformat(format=kept_format(frame.format), dst_colorspace=_BT709, dst_color_range=_BT709)
        else:
            matrix = streams.matrix_of(frame)
            if frame.format.name != kept_format(frame.format):
                frame = _like(frame.reformat(format=kept_format(frame.format)), frame)
        if self._container is None:
            self._start(frame)
        context = self._video.codec_context
        if (frame.width + frame.width % 2, frame.height + frame.height % 2) != (context.width, context.height):
            raise MouthpieceError(f"{self._info.path}: a frame of {frame.width} x {frame.height} px among others of {context.width} x {context.height}.")
        for patch in patches:
            change(frame, patch, matrix, round(self._info.rotation_degrees / 90))
        if frame.width % 2 or frame.height % 2:
            frame = _evened(frame)
        stamp = nearest(time / self._info.time_base)
        self._last = stamp if self._last is None else max(stamp, self._last + 1)
        frame.pts, frame.dts, frame.time_base = self._last, None, self._info.time_base
        frame.pict_type = 0  # the film's own kinds of frames would rule the encoder
        self._mux(self._video, frame)
        self.frames += 1
        self._write_sound(until=samples_at(time, DELIVERY_HZ))

    def _start(self, frame):
        info, colour = self._info, self._info.colour
        if frame.format.name.startswith("yuvj"):
            colour = colour | {"range": _FULL_RANGE}
        elif int(frame.colorspace) == _BT709 and colour["matrix"] == 0:  # it was RGB
            colour = dict.fromkeys(colour, _BT709)
        self._container = created(self._part)
        self._video = self._container.add_stream("libx264", rate=self.rate)
        context = self._video.codec_context
        context.width, context.height = (side + side % 2 for side in (frame.width, frame.height))
        context.pix_fmt, context.time_base = frame.format.name, info.time_base
        quality = {"crf": str(self._crf)} if self._crf else {"qp": "0"}  # crf 0 of 10 bits is not lossless
        context.options = quality | {"preset": "fast", "x264-params": "no-mbtree=1"}  # why: VideoWriter
        context.colorspace, context.color_primaries = colour["matrix"], colour["primaries"]
        context.color_trc, context.color_range = colour["transfer"], colour["range"]
        if info.pixel_aspect != 1:
            context.sample_aspect_ratio = info.pixel_aspect
        if info.rotation_degrees:
            self._video.set_display_rotation(info.rotation_degrees)
        self._next = next(self._blocks, None)
        if self._next is not None:
            self._audio = streams.delivery_stream(self._container, self._next.shape[0])


def lasting(blocks, samples):
    """Blocks of sound (C, S) cut, or continued by silence, to exactly `samples`. Source: ours."""
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


def kept_format(pixel_format):
    """Name of the format in which a picture is encoded: its own where H.264 has it, else the nearest.

    pixel_format: PyAV's VideoFormat.
    Source: ours.
    """
    shape = (pixel_format.chroma_width(16), pixel_format.chroma_height(16))
    chroma = {(8, 16): "422", (16, 16): "444"}.get(shape, "420")
    if pixel_format.is_rgb or len(pixel_format.components) < 3:
        chroma = "420"
    deep = max(part.bits for part in pixel_format.components) > 8
    full = "j" if pixel_format.name.startswith("yuvj") else ""
    return f"yuv{full}{chroma}p{_DEEP if deep else ''}"


def change(frame, patch, matrix, turns):
    """Adds a patch's change to the planes of a frame; where it changes nothing they keep their bits.

    frame: decoded, planar YUV of 8 or 10 bits; its planes are replaced, the decoder's own copy stays.
    patch: Patch, as shown.
    matrix: the scaler's number of the colour matrix.
    turns: quarter turns, counter-clockwise, from the frame to the picture as shown.
    Source: ITU-R BT.601, BT.709, BT.2020: colour difference is linear in RGB, so a change of one is a change of the other.
    """
    shown = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
    row, column, delta = _unturned(patch, shown, turns)
    red, blue = _WEIGHTS[matrix]
    bits = frame.format.components[0].bits
    full = frame.format.name.startswith("yuvj") or int(frame.color_range) == _FULL_RANGE
    luma, chroma = (1, 1) if full else (219 / 255, 224 / 255)
    y = delta @ np.array([red, 1 - red - blue, blue], np.float32)
    parts = (luma * y, chroma * (delta[..., 2] - y) / (2 - 2 * blue), chroma * (delta[..., 0] - y) / (2 - 2 * red))
    frame.make_writable()
    for number, part in enumerate(parts):
        step = (1, 1) if number == 0 else (16 // frame.format.chroma_height(16), 16 // frame.format.chroma_width(16))
        part, top, left = _coarsened(part, row, column, step)
        values = plane_of(frame, number, bits)[top : top + part.shape[0], left : left + part.shape[1]]
        part = part[: values.shape[0], : values.shape[1]] * (1 << (bits - 8))
        values[:] = np.clip(np.rint(values + part), 0, (1 << bits) - 1).astype(values.dtype)


def plane_of(frame, number, bits):
    """A plane of a frame, (h, w) uint8 or uint16, to read and to write in place. Source: ours."""
    plane, kind = frame.planes[number], np.uint8 if bits == 8 else np.uint16
    rows = np.frombuffer(plane, kind)[: plane.height * (plane.line_size // kind().itemsize)].reshape(plane.height, -1)
    return rows[:, : plane.width]


def _unturned(patch, shown, turns):
    """(row, column, delta float32 (h, w, 3)) of a patch in the frame as it is coded. shown: (height, width) of the picture."""
    height, width = shown
    delta = patch.after.astype(np.float32) - patch.before
    h, w = delta.shape[:2]
    below, right = height - patch.y_px - h, width - patch.x_px - w
    row, column = {0: (patch.y_px, patch.x_px), 1: (patch.x_px, below), 2: (below, right), 3: (right, patch.y_px)}[turns % 4]
    return row, column, np.ascontiguousarray(np.rot90(delta, -turns))


def _coarsened(part, row, column, step):
    """(part, row, column) averaged over blocks of step (rows, columns); what it does not reach of a block counts as no change."""
    high, wide = step
    before, left = row % high, column % wide
    after, right = -(before + part.shape[0]) % high, -(left + part.shape[1]) % wide
    part = np.pad(part, ((before, after), (left, right)))
    part = part.reshape(part.shape[0] // high, high, part.shape[1] // wide, wide).mean((1, 3))
    return part, row // high, column // wide


def _like(frame, other):
    """The frame with the colour tags of another."""
    frame.colorspace, frame.color_range = other.colorspace, other.color_range
    return frame


def _evened(frame):
    """A copy with one more row or column where a side is odd, a copy of the last: 4:2:0 has no odd sides."""
    bits = frame.format.components[0].bits
    out = type(frame)(frame.width + frame.width % 2, frame.height + frame.height % 2, frame.format.name)
    for number in range(3):
        old, new = plane_of(frame, number, bits), plane_of(out, number, bits)
        new[:] = np.pad(old, ((0, new.shape[0] - old.shape[0]), (0, new.shape[1] - old.shape[1])), mode="edge")
    return _like(out, frame)
