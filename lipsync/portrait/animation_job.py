"""The job of animating a portrait, for every renderer: inputs read and checked once, the face chosen, the picture
framed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import cv2
import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.media.images import read_image
from mouthpiece.engine.media.reading import measure_sound_duration, read_sound, resample_blocks
from mouthpiece.engine.timeline import count_frames
from mouthpiece.face.crop import make_crop
from mouthpiece.face.detect import parse_face_choice, pick_face

if TYPE_CHECKING:
    from fractions import Fraction
    from typing import Any

    from mouthpiece.engine.contracts import Articulation
    from mouthpiece.face.detect import Face, FaceChoice
    from mouthpiece.lipsync.options import PortraitOptions

MAX_SIDE_PX = 4096  # a larger picture is reduced to this long side when it is read
FRAMING_CROP_PX = 100  # side of the crop in which the margins of --frame crop are measured
HEAD_ABOVE = 0.85  # what --frame crop shows above the middle of the face's crop, in crop sides
HEAD_BELOW = 0.95  # below it, in crop sides
HEAD_BESIDE = 0.85  # to each side of it, in crop sides


OptionsT = TypeVar("OptionsT", bound="PortraitOptions")


@dataclass(frozen=True, eq=False)
class AnimateJob(Generic[OptionsT]):
    """Hold an animation that has passed every check of its inputs; no network of a renderer has run.

    sound: path of a sound or a video, or the samples themselves.
    options: of the renderer that is to run.
    face: the chosen face, in pixels of the picture as read.
    input_scale: pixels of the picture as read for one of the file, at most 1.
    pixels: (H, W, 3) uint8 at output size.
    points: (4, 2) eyes and corners of the mouth in `pixels`.
    wave: (S,) float32 at RATE_HZ.
    duration: seconds of the sound, exact at its own rate.
    articulation: of speech that was planned, so that nothing has to be recognised; else None.
    """

    portrait: Path
    sound: Path | Sound
    options: OptionsT
    face: Face
    input_scale: float
    pixels: np.ndarray = field(repr=False)
    points: np.ndarray = field(repr=False)
    wave: np.ndarray = field(repr=False)
    duration: Fraction
    articulation: Articulation | None = field(default=None, repr=False)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Return the paths of the files that are read."""
        return (self.portrait, self.sound) if isinstance(self.sound, Path) else (self.portrait,)

    @property
    def frames(self) -> int:
        """Count the frames that cover the sound."""
        return count_frames(self.duration, self.options.fps)

    def plan(self) -> dict[str, Any]:
        """Describe what will be written, JSON-ready: frames, rate, duration_s, size, and the face's place and
        source.
        """
        height_px, width_px = (side + side % 2 for side in self.pixels.shape[:2])  # the writer pads odd sides
        return {
            "frames": self.frames,
            "rate": str(self.options.fps),
            "duration_s": float(self.duration),
            "width_px": width_px,
            "height_px": height_px,
            "face_at_px": [round(float(x) / self.input_scale, 1) for x in self.face.centre],  # as --face takes it
            "face_source": self.face.source,
            "face_score": round(float(self.face.score), 4),
        }


def prepare_animation(
    portrait: Path, sound: Path | Sound, options: OptionsT, articulation: Articulation | None = None
) -> AnimateJob[OptionsT]:
    """Read and check a portrait and a sound, choose the face, and return the job.

    portrait: image file.
    sound: sound or video file, or samples.
    articulation: of a planned sound; None: it is recognised from the wave.
    Raises InvalidInputError for a picture without a face or a file without sound, UsageError for a face outside the
    picture.
    """
    picture = read_image(portrait, max_side_px=MAX_SIDE_PX)
    if isinstance(sound, Sound):
        blocks = resample_blocks(sound.to_mono().iterate_blocks(1), sound.rate_hz, RATE_HZ)
        wave, duration = np.concatenate(list(blocks), 1)[0], sound.duration
    else:
        sound = Path(sound)
        wave = read_sound(sound, RATE_HZ, mono=True).samples[0]
        duration = measure_sound_duration(sound)  # exact: a wave at another rate is rounded to its samples
    input_scale = picture.pixels.shape[1] / picture.original_size_px[0]
    face = pick_face(picture.pixels, _to_read_pixels(options.face, input_scale), str(portrait))
    pixels, points = frame_portrait(picture.pixels, face.points, options)
    return AnimateJob(Path(portrait), sound, options, face, input_scale, pixels, points, wave, duration, articulation)


def _to_read_pixels(text: str, input_scale: float) -> FaceChoice:
    """Parse the choice of a face and scale its place from pixels of the file to those of the picture as read."""
    choice = parse_face_choice(text)
    if choice.point is None:
        return choice
    width_px = None if choice.width_px is None else choice.width_px * input_scale
    x, y = choice.point
    return replace(choice, point=(input_scale * x, input_scale * y), width_px=width_px)


def frame_portrait(pixels: np.ndarray, points: np.ndarray, options: PortraitOptions) -> tuple[np.ndarray, np.ndarray]:
    """Crop and resize a picture and the points of its face as --frame and --size ask.

    pixels: (H, W, 3) uint8.
    points: (4, 2), of the face in them.
    options: the picture is enlarged only where `size` says so; both sides are then rounded to even numbers.
    """
    if options.frame == "crop":
        m = make_crop(points, FRAMING_CROP_PX).frame_from_crop
        side_px = FRAMING_CROP_PX * np.hypot(*m[:, 0])
        centre = m[:, :2] @ [(FRAMING_CROP_PX - 1) / 2, (FRAMING_CROP_PX - 1) / 2] + m[:, 2]
        beside = HEAD_BESIDE * side_px
        x0, y0 = np.maximum(0, np.round(centre - [beside, HEAD_ABOVE * side_px])).astype(int)
        x1, y1 = np.minimum(pixels.shape[1::-1], np.round(centre + [beside, HEAD_BELOW * side_px])).astype(int)
        pixels, points = np.ascontiguousarray(pixels[y0:y1, x0:x1]), points - [x0, y0]
    if options.size is not None:
        h, w = pixels.shape[:2]
        scale = options.size / max(h, w)
        new = tuple(max(2, 2 * round(side * scale / 2)) for side in (w, h))
        pixels = cv2.resize(pixels, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        points = (points + 0.5) * [new[0] / w, new[1] / h] - 0.5
    return pixels, points
