"""What media files hold, as plain facts."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np


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
    """

    index: int
    time: Fraction
    pixels: np.ndarray = field(repr=False)
