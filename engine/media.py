"""Video and sound from any container and back, on one exact clock; the only file that knows PyAV.

Time zero is the first frame of the picture (or the first sample when there is no picture), for both streams.
"""

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from engine.errors import MouthpieceError, Refused, UsageProblem
from engine.files import input_file, output_file, part_path, write_problem
from engine.images import Picture, read_image, write_image
from engine.sound import Sound, mix_matrix, write_sound
from engine.timeline import DELIVERY_HZ, frame_time, nearest, samples_at, standard_rate

__all__ = ["Frame", "MediaInfo", "Picture", "Sound", "VideoReader", "VideoWriter"]
__all__ += ["probe", "read_image", "read_sound", "sound_blocks", "write_image", "write_sound"]

SHORTEST_SOUND = Fraction(40, 1000)
LOWEST_HZ, HIGHEST_HZ = 8_000, 192_000
MOST_CHANNELS = 8
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
_LOUDEST = 16.0  # a float file beyond this is not scaled to [-1, 1]
_GAP = Fraction(30, 1000)  # time stamps off by more than this are a hole or an overlap; less is rounding
_SCANNED_FRAMES = 500
_BT709 = 1
_SWS_FROM_TAG = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # matrix tag -> what the scaler calls it
_BROKEN = (av.FFmpegError, EOFError, ValueError)


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds.

    rate: Fraction, frames a second on average; None without picture, like all picture fields.
    time_base: Fraction, seconds, the unit of the picture's time stamps.
    width_px, height_px: as shown, after rotation.
    rotation_degrees: counter-clockwise turn that the container asks the player for.
    pixel_aspect: Fraction, width over height of one pixel.
    duration: Fraction, seconds, of the picture if any, else of the sound; None when the container does not say.
    frames: int as the container counts them, or None.
    variable_rate: True when the first frames are not evenly spaced.
    colour: names of the tags: primaries, transfer, matrix, range, as numbers of ITU-T H.273.
    Source: ours.
    """

    path: Path
    has_video: bool = False
    has_audio: bool = False
    rate: Fraction | None = None
    time_base: Fraction | None = None
    width_px: int | None = None
    height_px: int | None = None
    rotation_degrees: int = 0
    pixel_aspect: Fraction = Fraction(1)
    duration: Fraction | None = None
    frames: int | None = None
    variable_rate: bool = False
    audio_rate_hz: int | None = None
    channels: int | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    colour: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    index: int, from 0.
    time: Fraction, seconds from the start of the video, from the time stamp.
    pixels: (H, W, 3) uint8 RGB, upright.
    Source: ours.
    """

    index: int
    time: Fraction
    pixels: np.ndarray = field(repr=False)


@contextmanager
def _opened(path, kind):
    path = input_file(path, kind)
    try:
        # "file:" and the list keep playlists from reaching for anything but files
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except _BROKEN as error:
        raise Refused(
            f"{path}: no sound and no picture can be read from it; it is not a {kind}, or it is cut off.",
            hint="Give a complete media file, such as WAV, FLAC, MP3, MP4, MOV or MKV.",
            code="not_media",
        ) from error
    with container:
        yield container


def _video_stream(container):
    """The moving picture, or None; cover art and single pictures do not count."""
    if container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty"):
        return None
    attached = av.stream.Disposition.attached_pic
    films = [stream for stream in container.streams.video if not stream.disposition & attached]
    return films[0] if films else None


def _origin(container, fallback):
    """Time zero of the file on its own clock: Fraction, seconds."""
    stream = _video_stream(container) or fallback
    return (stream.start_time or 0) * stream.time_base


def _scan(container, stream):
    """Rotation from the first frame that decodes, and whether the first frames are unevenly spaced."""
    rotation, stamps = None, []
    for packet in container.demux(stream):
        if packet.pts is not None:
            stamps.append(packet.pts)
        if rotation is None:
            with suppress(*_BROKEN):
                for frame in packet.decode():
                    rotation = frame.rotation
        if len(stamps) >= _SCANNED_FRAMES:
            break
    steps = np.diff(np.sort(stamps))[:-1]  # the last may lack a neighbour still to come
    rounding = max(1, nearest(Fraction(2, 1000) / stream.time_base))
    return rotation, len(steps) > 0 and int(steps.max() - steps.min()) > rounding


def probe(path):
    """MediaInfo of a file, from its header and a look at its first frames.

    path: str or Path, any container.
    Raises Refused for what is no media, or has neither sound nor moving picture.
    Source: ours.
    """
    with _opened(path, "media file") as container:
        video = _video_stream(container)
        audio = container.streams.best("audio")
        if video is None and audio is None:
            raise Refused(f"{path}: neither sound nor moving picture in it.", hint="Give a recording or a video.")
        main = video or audio
        facts = {"path": Path(path), "has_video": video is not None, "has_audio": audio is not None}
        if main.duration is not None:
            facts["duration"] = main.duration * main.time_base
        elif container.duration is not None:
            facts["duration"] = Fraction(container.duration, av.time_base)
        if audio is not None:
            context = audio.codec_context
            facts |= {"audio_rate_hz": context.sample_rate, "channels": context.channels, "audio_codec": context.name}
        if video is not None:
            facts |= _picture_facts(container, video, path)
        return MediaInfo(**facts)


def _picture_facts(container, video, path):
    rotation, variable = _scan(container, video)
    if rotation is None:
        raise _undecodable(path)
    context = video.codec_context
    size = (context.width, context.height)
    rate = video.average_rate or video.guessed_rate
    return {
        "rate": rate if variable or rate is None else standard_rate(rate),
        "time_base": video.time_base,
        "width_px": size[1] if rotation % 180 else size[0],
        "height_px": size[0] if rotation % 180 else size[1],
        "rotation_degrees": rotation,
        "pixel_aspect": video.sample_aspect_ratio or Fraction(1),
        "frames": video.frames or None,
        "variable_rate": variable,
        "video_codec": context.name,
        "colour": {
            "primaries": int(context.color_primaries),
            "transfer": int(context.color_trc),
            "matrix": int(context.colorspace),
            "range": int(context.color_range),
        },
    }


def _undecodable(path):
    return Refused(
        f"{path}: not one frame of the video can be decoded.",
        hint="The file is broken or cut off; copy or export it again.",
        code="broken_video",
    )


def sound_blocks(path, rate_hz=None, channels=None):
    """The sound of a file as a stream of (C, S) float32 blocks whose first sample is at time zero.

    path: str or Path, any container; of several sound tracks the default one.
    rate_hz: int, samples a second wanted; None keeps the file's.
    channels: 1, 2, or None to keep the file's; more are mixed down by sound.mix_matrix, fewer kept.
    The first item is the rate in Hz as int; late or missing sound is silence, sound before time zero is dropped.
    Raises Refused for no sound track, NaN or infinity, or a track that ends before its header says.
    Source: ours.
    """
    with _opened(path, "recording") as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise Refused(f"{path}: no sound in it.", hint="Give a recording or a video with sound.", code="no_sound")
        rate_in_hz, names = _checked_format(stream, path)
        yield rate_hz or rate_in_hz
        mix = mix_matrix(names, channels) if channels and len(names) > channels else None
        blocks = _placed(container, stream, path)
        if mix is not None:
            blocks = (mix @ block for block in blocks)
        yield from _resampled(blocks, rate_in_hz, rate_hz or rate_in_hz)


def _checked_format(stream, path):
    context = stream.codec_context
    if not LOWEST_HZ <= context.sample_rate <= HIGHEST_HZ or not 1 <= context.channels <= MOST_CHANNELS:
        raise Refused(
            f"{path}: sound of {context.sample_rate} Hz in {context.channels} channels.",
            hint=f"Give {LOWEST_HZ} to {HIGHEST_HZ} Hz and 1 to {MOST_CHANNELS} channels.",
            code="sound_format",
        )
    names = tuple(channel.name for channel in context.layout.channels)
    if len(set(names)) != context.channels:  # a layout the file does not name
        names = tuple(c.name for c in av.AudioLayout(_LAYOUTS[context.channels]).channels)
    return context.sample_rate, names


_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def _placed(container, stream, path):
    """Decoded blocks put where their time stamps say: holes filled with silence, overlaps cut."""
    rate_hz = stream.codec_context.sample_rate
    to_float = av.AudioResampler(format="fltp")
    origin = _origin(container, stream)
    end = None if stream.duration is None else stream.duration * stream.time_base
    position = None
    for frame in _decoded(container, stream):
        if frame.sample_rate != rate_hz:
            raise Refused(f"{path}: the sound changes its sample rate on the way.", hint="Convert it to WAV first.")
        at = None if frame.pts is None else samples_at(frame.pts * frame.time_base - origin, rate_hz)
        block = to_float.resample(frame)[0].to_ndarray()
        _check_samples(block, path)
        first = position is None
        position = position or 0
        gap = 0 if at is None else at - position
        if first or abs(gap) > _GAP * rate_hz:
            if gap > 0:
                yield from _silence(block.shape[0], gap, rate_hz)
                position += gap
            block = block[:, -gap:] if gap < 0 else block
        position += block.shape[1]
        if block.shape[1]:
            yield block
    declared = (end or 0) * rate_hz + nearest((_start(stream) - origin) * rate_hz)
    if container.format.name.split(",")[0] in ("wav", "mov", "flac", "aiff", "w64"):
        if declared - (position or 0) > rate_hz // 10:
            raise Refused(
                f"{path}: the sound is cut off: {float(declared / rate_hz):.2f} s announced, "
                f"{(position or 0) / rate_hz:.2f} s there.",
                hint="Copy or export the file again.",
                code="broken_sound",
            )


def _start(stream):
    return (stream.start_time or 0) * stream.time_base


def _silence(channels, samples, rate_hz):
    for start in range(0, samples, rate_hz):
        yield np.zeros((channels, min(rate_hz, samples - start)), np.float32)


def _check_samples(block, path):
    peak = np.abs(block).max(initial=0.0)
    if not peak <= _LOUDEST:
        found = "values that are no numbers (NaN or infinity)" if not np.isfinite(peak) else f"a peak of {peak:.0f}"
        raise Refused(
            f"{path}: the sound holds {found}; samples must lie in [-1, 1].",
            hint="Export it again from the program that made it.",
            code="bad_samples",
        )


def _decoded(container, stream):
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


def _resampled(blocks, rate_in_hz, rate_out_hz):
    """Blocks at another rate; the total length is right to the nearest sample."""
    if rate_in_hz == rate_out_hz:
        yield from blocks
        return
    resampler, taken, given = None, 0, 0
    for block in blocks:
        layout = _LAYOUTS[block.shape[0]]
        resampler = resampler or av.AudioResampler(format="fltp", layout=layout, rate=rate_out_hz)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_in_hz, taken, Fraction(1, rate_in_hz)
        taken += block.shape[1]
        for out in resampler.resample(frame):
            given += out.samples
            yield out.to_ndarray()
    if resampler is None:
        return
    total = nearest(Fraction(taken * rate_out_hz, rate_in_hz))
    tail = [out.to_ndarray() for out in resampler.resample(None)] + [np.zeros((block.shape[0], 0), np.float32)]
    tail = np.concatenate(tail, 1)[:, : max(0, total - given)]
    yield np.pad(tail, ((0, 0), (0, max(0, total - given - tail.shape[1]))))


def read_sound(path, rate_hz=None, mono=False):
    """The Sound of a recording or of a video; sample 0 is at time zero of the picture.

    path: str or Path, any container, LOWEST_HZ to HIGHEST_HZ, up to MOST_CHANNELS channels.
    rate_hz: int, samples a second wanted; None keeps the file's.
    mono: True mixes to one channel.
    Samples beyond full scale stay as the file has them.
    Raises Refused for what sound_blocks refuses and for less than SHORTEST_SOUND.
    Source: ours.
    """
    blocks = sound_blocks(path, rate_hz, 1 if mono else None)
    rate_hz = next(blocks)
    blocks = list(blocks)
    length = sum(block.shape[1] for block in blocks)
    if length < SHORTEST_SOUND * rate_hz:
        raise Refused(
            f"{path}: only {1000 * length / rate_hz:.0f} ms of sound.",
            hint=f"Give at least {int(1000 * SHORTEST_SOUND)} ms.",
            code="sound_too_short",
        )
    return Sound(np.ascontiguousarray(np.concatenate(blocks, 1)), rate_hz)


class VideoReader:
    """The frames of a video in order, one at a time, upright and in RGB.

    path: str or Path.
    Use it as a context manager and iterate; `info` is its MediaInfo, `truncated` turns True when frames were
    announced that did not come or did not decode.
    Raises Refused when there is no moving picture, or when iterating and not one frame decodes.
    Source: ours.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.info = probe(path)
        if not self.info.has_video:
            raise Refused(f"{path}: no moving picture in it.", hint="Give a video.", code="no_video")
        self.truncated = False
        self._context = _opened(path, "video")
        self._container = None

    def __enter__(self):
        self._container = self._context.__enter__()
        return self

    def __exit__(self, *problem):
        return self._context.__exit__(*problem)

    def __iter__(self):
        if self._container is None:
            raise MouthpieceError("VideoReader is used outside of its 'with' block.")
        stream = _video_stream(self._container)
        stream.thread_type = "AUTO"
        origin = _origin(self._container, stream)
        step = 1 / self.info.rate if self.info.rate else Fraction(1, 25)
        index, time, packets = 0, -step, 0
        for packet in self._packets(stream):
            packets += packet.size > 0
            try:
                frames = packet.decode()
            except _BROKEN:
                self.truncated = True
                continue
            for frame in frames:
                time = time + step if frame.pts is None else frame.pts * frame.time_base - origin
                yield Frame(index, time, _upright_rgb(frame))
                index += 1
        if packets < (stream.frames or 0):
            self.truncated = True
        if index == 0:
            raise _undecodable(self.path)

    def _packets(self, stream):
        try:
            yield from self._container.demux(stream)
        except _BROKEN:
            self.truncated = True


def _upright_rgb(frame):
    guess = 1 if frame.height >= 720 else 5  # untagged video: HD is BT.709, the rest BT.601
    matrix = _SWS_FROM_TAG.get(int(frame.colorspace), guess)
    pixels = frame.to_ndarray(format="rgb24", src_colorspace=matrix)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


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

    def __init__(self, path, rate, width_px, height_px, sound=None, *, crf=17, overwrite=False, inputs=()):
        self.path = Path(path)
        if self.path.suffix.lower() not in VIDEO_SUFFIXES:
            raise UsageProblem(
                f"{path}: cannot write video as '{self.path.suffix}'.", hint=f"Use one of {' '.join(VIDEO_SUFFIXES)}."
            )
        output_file(path, overwrite, inputs)
        self.rate, self.size_px, self.frames = Fraction(rate), (width_px, height_px), 0
        self._sound, self._crf = sound, crf
        self._part = part_path(self.path)
        self._container = self._audio = None
        self._samples = 0

    def __enter__(self):
        try:
            self._open()
        except BaseException as error:
            self._discard()
            self._translate(error)
            raise
        return self

    def _open(self):
        options = {"movflags": "+faststart"} if self.path.suffix.lower() != ".mkv" else {}
        self._container = av.open(f"file:{self._part}", "w", options=options)
        width_px, height_px = (side + side % 2 for side in self.size_px)
        self._video = self._container.add_stream("libx264", rate=self.rate, options={"preset": "fast"})
        context = self._video.codec_context
        context.width, context.height, context.pix_fmt = width_px, height_px, "yuv420p"
        context.time_base = 1 / self.rate
        context.options = {"crf": str(self._crf), "preset": "fast"}
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        self._blocks = iter(())
        if self._sound is not None:
            self._blocks = _delivery_blocks(self._sound)
            self._next = next(self._blocks, None)
            if self._next is not None:
                layout = _LAYOUTS[self._next.shape[0]]
                self._audio = self._container.add_stream("aac", rate=DELIVERY_HZ, layout=layout)
                self._audio.codec_context.bit_rate = 96_000 * (1 + self._next.shape[0])

    def write(self, pixels):
        """Appends one frame.

        pixels: (height_px, width_px, 3) uint8 RGB.
        Raises MouthpieceError for another shape or dtype, WriteFailed for the disk.
        Source: ours.
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
        self._write_sound(until=samples_at(frame_time(self.frames, self.rate), DELIVERY_HZ))

    def _write_sound(self, until=None):
        while self._audio is not None and self._next is not None and (until is None or self._samples < until):
            block, self._next = self._next, next(self._blocks, None)
            layout = _LAYOUTS[block.shape[0]]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = DELIVERY_HZ, self._samples, Fraction(1, DELIVERY_HZ)
            self._samples += block.shape[1]
            self._mux(self._audio, frame)

    def _mux(self, stream, frame):
        try:
            self._container.mux(stream.encode(frame))
        except OSError as error:
            raise write_problem(self.path, error) from error

    def __exit__(self, kind, problem, trace):
        try:
            if kind is None:
                self._finish()
        except BaseException as error:
            self._translate(error)
            raise
        finally:
            self._discard()

    def _finish(self):
        if self.frames == 0:
            raise MouthpieceError(f"{self.path}: no frame was written.")
        self._write_sound()
        for stream in (self._video, self._audio):
            if stream is not None:
                self._mux(stream, None)
        container, self._container = self._container, None
        container.close()
        os.replace(self._part, self.path)

    def _translate(self, error):
        if isinstance(error, OSError):
            raise write_problem(self.path, error) from error

    def _discard(self):
        with suppress(OSError):
            self._part.unlink()  # before closing: the muxer then has nothing to rearrange
        if self._container is not None:
            with suppress(*_BROKEN, OSError):
                self._container.close()
            self._container = None
        with suppress(OSError):
            self._part.unlink()


def _delivery_blocks(sound):
    """A Path or a Sound as blocks at DELIVERY_HZ with one or two channels."""
    if not isinstance(sound, Sound):
        blocks = sound_blocks(sound, DELIVERY_HZ, 2)
        next(blocks)
        yield from blocks
        return
    samples, second = sound.samples, sound.rate_hz
    if sound.channels > 2:
        names = tuple(c.name for c in av.AudioLayout(_LAYOUTS[sound.channels]).channels)
        samples = mix_matrix(names, 2) @ samples
    chunks = (samples[:, i : i + second] for i in range(0, samples.shape[1], second))
    yield from _resampled(chunks, sound.rate_hz, DELIVERY_HZ)
