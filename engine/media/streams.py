"""Read what the streams of an opened container say of themselves."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
import numpy as np

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.containers import has_exact_duration
from mouthpiece.engine.timeline import count_samples, round_half_up, snap_to_standard_rate
from mouthpiece.engine.types import HdrMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import Any

    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.sidedata.sidedata import SideData
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_STILL_FORMATS = ("image2", "tty")  # tty: text taken for a screen
_SWS_FROM_TAG = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # matrix tag -> what the scaler calls it
_FIELD_ORDERS = (2, 3, 4, 5)  # FFmpeg's numbers of the orders of fields of interlaced pictures
_MASTERING_DISPLAY = struct.Struct(
    "@20i2i"
)  # red, green, blue, white, least and most luminance as fractions; two flags
_LIGHT_LEVEL = struct.Struct("@2I")
_DYNAMIC_METADATA = {
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "STEREO3D": "the arrangement of a stereoscopic picture",
    "SPHERICAL": "the projection of a spherical picture",
}
_ATTACHED_PICTURE = 0x400  # disposition of cover art


def is_still_format(demuxer: str) -> bool:
    """Return whether FFmpeg took a file for a still picture or a text, by its name of what reads the file."""
    return demuxer.endswith("_pipe") or demuxer in _STILL_FORMATS


def is_cover_art(stream: Stream) -> bool:
    """Return whether a stream is a picture that belongs to the file as a whole."""
    return stream.type == "video" and bool(int(stream.disposition) & _ATTACHED_PICTURE)


def find_video_stream(container: InputContainer) -> VideoStream | None:
    """Find the stream of moving pictures; None where there is none: cover art and single pictures do not count."""
    if is_still_format(container.format.name):
        return None
    films = [stream for stream in container.streams.video if not is_cover_art(stream)]
    return films[0] if films else None


def find_audio_stream(container: InputContainer) -> AudioStream | None:
    """Find the stream of sound, of several the default one; None where there is none."""
    return cast("AudioStream | None", container.streams.best("audio"))


def get_time_origin(container: InputContainer, fallback: AudioStream | VideoStream) -> Fraction:
    """Get time zero on the file's own clock, in seconds: the start of its picture, else of `fallback`."""
    return _get_start(find_video_stream(container) or fallback)


def _get_start(stream: AudioStream | VideoStream) -> Fraction:
    """Get the start of a stream in seconds."""
    return (stream.start_time or 0) * get_time_base(stream)


def get_time_base(stream: AudioStream | VideoStream) -> Fraction:
    """Get the unit of a stream's time stamps, in seconds; a file that is open for reading always says it."""
    return stream.time_base or Fraction(1, av.time_base)


def get_announced_samples(container: InputContainer, stream: AudioStream) -> int:
    """Get how many samples from time zero the header announces; 0 where headers only estimate."""
    if stream.duration is None or not has_exact_duration(container.format.name):
        return 0
    end = _get_start(stream) + stream.duration * get_time_base(stream)
    return count_samples(end - get_time_origin(container, stream), stream.codec_context.sample_rate)


def has_variable_rate(stamps: Sequence[int], time_base: Fraction) -> bool:
    """Return whether frames come at a variable rate: their steps differ by more than rounding.

    stamps: time stamps of the first frames in any order.
    time_base: seconds, their unit.
    """
    # containers that count milliseconds round each stamp, so 2 ms are allowed
    steps = np.diff(np.sort(stamps))[:-1]  # the last may lack a neighbour still to come
    rounding = max(1, round_half_up(Fraction(2, 1000) / time_base))
    return len(steps) > 0 and int(steps.max() - steps.min()) > rounding


def read_picture_facts(stream: VideoStream, frame: VideoFrame, variable_rate: bool) -> dict[str, Any]:
    """Read the picture fields of types.MediaInfo.

    frame: decoded, the first one.  variable_rate: from has_variable_rate.
    """
    context, rotation_degrees = stream.codec_context, frame.rotation
    size = (context.width, context.height)
    rate = stream.average_rate or stream.guessed_rate
    return {
        "rate": rate if variable_rate or rate is None else snap_to_standard_rate(rate),
        "time_base": stream.time_base,
        "width_px": size[1] if rotation_degrees % 180 else size[0],
        "height_px": size[0] if rotation_degrees % 180 else size[1],
        "rotation_degrees": rotation_degrees,
        "pixel_aspect": stream.sample_aspect_ratio or Fraction(1),
        "frames": stream.frames or None,
        "variable_rate": variable_rate,
        "video_codec": context.name,
        "colour": {
            "primaries": int(context.color_primaries),
            "transfer": int(context.color_trc),
            "matrix": int(context.colorspace),
            "range": int(context.color_range),
        },
        "field_order": _read_field_order(stream, frame),
        "hdr": read_hdr_metadata(frame),
        "dynamic_metadata": tuple(
            dict.fromkeys(_DYNAMIC_METADATA[name] for name in _list_side_data(frame) if name in _DYNAMIC_METADATA)
        ),
    }


def _read_field_order(stream: VideoStream, frame: VideoFrame) -> int | None:
    """Read the field of types.MediaInfo of that name."""
    order = int(stream.codec_context.field_order)
    if not frame.interlaced_frame and order not in _FIELD_ORDERS:
        return None
    return order if order in _FIELD_ORDERS else 0


def _list_side_data(frame: VideoFrame) -> dict[str, bytes]:
    """List the side data of a decoded frame by FFmpeg's names."""
    # PyAV's stub calls the container a dict by name
    rows = cast("Iterable[SideData]", frame.side_data)
    return {row.type.name: bytes(row) for row in rows}


def read_hdr_metadata(frame: VideoFrame) -> HdrMetadata:
    """Read what a decoded frame says of mastering display and light level.

    Source: FFmpeg's AVMasteringDisplayMetadata and AVContentLightMetadata.
    """
    data = _list_side_data(frame)
    light, mastering = data.get("CONTENT_LIGHT_LEVEL"), data.get("MASTERING_DISPLAY_METADATA")
    display = None
    if mastering is not None:
        *pairs, has_primaries, has_luminance = _MASTERING_DISPLAY.unpack(mastering)
        values = [Fraction(top, bottom or 1) for top, bottom in zip(pairs[::2], pairs[1::2])]
        red, green, blue, white = (values[start : start + 2] for start in range(0, 8, 2))
        if has_primaries and has_luminance:
            colours = (round_half_up(value * 50_000) for value in (*green, *blue, *red, *white))
            display = (*colours, *(round_half_up(value * 10_000) for value in values[:7:-1]))
    return HdrMetadata(display, None if light is None else _LIGHT_LEVEL.unpack(light))


def read_sound_facts(stream: AudioStream) -> dict[str, Any]:
    """Read the sound fields of types.MediaInfo."""
    context = stream.codec_context
    return {"audio_rate_hz": context.sample_rate, "channels": context.channels, "audio_codec": context.name}


def get_colour_matrix(frame: VideoFrame) -> int:
    """Get FFmpeg's number of a decoded frame's colour matrix: by its tag, else BT.709 for HD and BT.601 for the rest.

    Source: ITU-T H.273; the guess is what players do.
    """
    return _SWS_FROM_TAG.get(int(frame.colorspace), 1 if frame.height >= 720 else 5)


def make_undecodable_error(path: str | Path) -> InvalidInputError:
    """Make the error for a video of which no frame decodes."""
    return InvalidInputError(
        f"{path}: not one frame of the video can be decoded.",
        hint="The file is broken or cut off; copy or export it again.",
        code="broken_video",
    )
