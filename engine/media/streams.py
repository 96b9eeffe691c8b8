"""What the streams of an opened container say about themselves; takes PyAV's objects, needs nothing of PyAV."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.sound import LAYOUTS
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.timeline import DELIVERY_HZ, count_samples, round_half_up, snap_to_standard_rate

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

_EXACT_DURATION_FORMATS = ("wav", "mov", "flac", "aiff", "w64")
_STILL_FORMATS = ("image2", "tty")  # tty: text taken for a screen
_SWS_FROM_TAG = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # matrix tag -> what the scaler calls it
_ATTACHED_PICTURE = 0x400  # disposition of cover art


def find_video_stream(container):
    """The stream of moving pictures, or None; cover art and single pictures do not count.

    container: opened for reading.
    """
    if container.format.name.endswith("_pipe") or container.format.name in _STILL_FORMATS:
        return None
    films = [stream for stream in container.streams.video if not int(stream.disposition) & _ATTACHED_PICTURE]
    return films[0] if films else None


def get_time_origin(container, fallback) -> Fraction:
    """Time zero on the file's own clock: the start of the film, else of `fallback`. Fraction, seconds.

    container: opened for reading.
    fallback: stream to go by when there is no film.
    """
    return _get_start(find_video_stream(container) or fallback)


def _get_start(stream) -> Fraction:
    return (stream.start_time or 0) * stream.time_base


def get_announced_samples(container, stream) -> int:
    """How many samples from time zero the header promises: int; 0 where headers only estimate.

    container, stream: opened for reading; a sound stream.
    """
    if stream.duration is None or container.format.name.split(",")[0] not in _EXACT_DURATION_FORMATS:
        return 0
    end = _get_start(stream) + stream.duration * stream.time_base
    return count_samples(end - get_time_origin(container, stream), stream.codec_context.sample_rate)


def has_variable_rate(stamps: list[int], time_base: Fraction) -> bool:
    """Whether frames come at a variable rate: True when steps differ by more than rounding.

    stamps: ints, time stamps of the first frames in any order.
    time_base: Fraction, seconds, their unit.
    Source: ours; containers that count milliseconds round each stamp, so 2 ms are allowed.
    """
    steps = np.diff(np.sort(stamps))[:-1]  # the last may lack a neighbour still to come
    rounding = max(1, round_half_up(Fraction(2, 1000) / time_base))
    return len(steps) > 0 and int(steps.max() - steps.min()) > rounding


def read_picture_facts(stream, rotation_degrees: int, variable_rate: bool) -> dict[str, Any]:
    """The picture fields of types.MediaInfo as a dict.

    stream: the film.
    rotation_degrees: int, from a decoded frame.
    variable_rate: from unevenly_spaced.
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


def read_sound_facts(stream) -> dict[str, Any]:
    """The sound fields of types.MediaInfo as a dict.

    stream: a sound stream.
    """
    context = stream.codec_context
    return {"audio_rate_hz": context.sample_rate, "channels": context.channels, "audio_codec": context.name}


def get_colour_matrix(frame) -> int:
    """What the scaler calls the colour matrix of a decoded frame: its tag, else BT.709 for HD and BT.601 for the rest.

    frame: decoded, of any size.
    Source: ITU-T H.273; the guess is what players do.
    """
    return _SWS_FROM_TAG.get(int(frame.colorspace), 1 if frame.height >= 720 else 5)


def make_undecodable_error(path: Path) -> InvalidInputError:
    """The Refused for a video of which no frame decodes.

    path: the file.
    """
    return InvalidInputError(
        f"{path}: not one frame of the video can be decoded.",
        hint="The file is broken or cut off; copy or export it again.",
        code="broken_video",
    )


def add_delivery_stream(container, channels: int):
    """A sound stream added to a container that is written: AAC at DELIVERY_HZ.

    container: opened for writing.
    channels: int, as many as LAYOUTS has names for.
    """
    stream = container.add_stream("aac", rate=DELIVERY_HZ, layout=LAYOUTS[channels])
    stream.codec_context.bit_rate = 96_000 * (1 + channels)
    return stream
