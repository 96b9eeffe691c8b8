"""Define what media files hold: facts of a file, and a frame of a video."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class HdrMetadata:
    """What HDR10 says of a whole film, in the units of its SEI messages.

    mastering_display: x and y of green, blue, red and white in 0.00002, most and least luminance in 0.0001 cd/m2.
    light_level: greatest light level of a pixel and of the mean of a frame, in cd/m2.
    Either is None where the film does not say it.
    Source: SMPTE ST 2086; CTA-861.3; ITU-T H.264, annex D.
    """

    mastering_display: tuple[int, ...] | None = None
    light_level: tuple[int, int] | None = None


@dataclass(frozen=True)
class MediaInfo:
    """What a media file holds.

    rate: frames a second on average; None without picture, like all picture fields.
    time_base: seconds, the unit of the picture's time stamps.
    width_px, height_px: as shown, after rotation.
    rotation_degrees: counter-clockwise turn that the container asks the player for.
    pixel_aspect: width over height of one pixel.
    duration: seconds, of the picture if any, else of the sound; None when the container does not say.
    frames: number of them as the container counts them, or None.
    variable_rate: whether the first frames are not evenly spaced.
    audio_rate_hz, channels: of the sound.  video_codec, audio_codec: FFmpeg's names.
    colour: tags named primaries, transfer, matrix and range, as numbers of ITU-T H.273.
    field_order: FFmpeg's number of the order of fields of an interlaced film (2 top first, 3 bottom first; 4 and 5
    likewise, stored the other way round); 0 for interlaced without a known order; None for a progressive film.
    hdr: HdrMetadata of the first frame.
    dynamic_metadata: what frames carry that no encoder here writes, in words.
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
    colour: dict[str, int] = field(default_factory=dict)
    field_order: int | None = None
    hdr: HdrMetadata = HdrMetadata()
    dynamic_metadata: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    index: from 0.
    time: seconds from the start of the video, from the time stamp.
    pixels: (H, W, 3) uint8 RGB, upright.
    """

    index: int
    time: Fraction
    pixels: np.ndarray = field(repr=False)
