"""Read what the streams of an opened container say of themselves."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.containers import has_exact_duration
from mouthpiece.engine.timeline import count_samples, round_half_up, snap_to_standard_rate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_STILL_FORMATS = ("image2", "tty")  # tty: text taken for a screen
_SWS_FROM_TAG = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # matrix tag -> what the scaler calls it
_ATTACHED_PICTURE = 0x400  # disposition of cover art


def is_still_format(demuxer: str) -> bool:
    """Return whether FFmpeg took a file for a still picture or a text, by its name of what reads the file."""
    return demuxer.endswith("_pipe") or demuxer in _STILL_FORMATS


def find_video_stream(container: InputContainer) -> VideoStream | None:
    """Find the stream of moving pictures; None where there is none: cover art and single pictures do not count."""
    if is_still_format(container.format.name):
        return None
    films = [stream for stream in container.streams.video if not int(stream.disposition) & _ATTACHED_PICTURE]
    return films[0] if films else None


def get_time_origin(container: InputContainer, fallback: AudioStream | VideoStream) -> Fraction:
    """Get time zero on the file's own clock, in seconds: the start of its picture, else of `fallback`."""
    return _get_start(find_video_stream(container) or fallback)


def _get_start(stream: AudioStream | VideoStream) -> Fraction:
    """Get the start of a stream in seconds."""
    return (stream.start_time or 0) * stream.time_base


def get_announced_samples(container: InputContainer, stream: AudioStream) -> int:
    """Get how many samples from time zero the header announces; 0 where headers only estimate."""
    if stream.duration is None or not has_exact_duration(container.format.name):
        return 0
    end = _get_start(stream) + stream.duration * stream.time_base
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


def read_picture_facts(stream: VideoStream, rotation_degrees: int, variable_rate: bool) -> dict[str, Any]:
    """Read the picture fields of types.MediaInfo.

    rotation_degrees: from a decoded frame.  variable_rate: from has_variable_rate.
    """
    context = stream.codec_context
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
    }


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
