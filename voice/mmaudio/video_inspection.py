"""A first look through a video: how long it is, where shots change, and what in its pictures makes sound go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.media.shot_cuts import ShotCutDetector
from mouthpiece.voice.mmaudio.frames import SYNC_PX
from mouthpiece.voice.mmaudio.sizes import MIN_DURATION_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.types import Frame

INSPECTION_WIDTH_PX = 160  # width at which shots and repeated frames are looked for
BLUR_STEP_S = Fraction(1)
# by scikit-image's measure, at the size the networks see: four photographs 0.33 to 0.42, blurred by 2 px there 0.63 to
# 0.69
BLUR_LIMIT = 0.62
STILL_SHARE = 0.98  # share of repeated frames from which the picture counts as standing
REPEATED_SHARE = 0.10  # share of repeated frames that is worth a word
_SAME_FRAME_LEVELS = 0.35  # mean difference in levels below which a frame is the one before, coded again


@dataclass(frozen=True)
class VideoInspection:
    """What a first look found.

    duration: Fraction, seconds, to the end of the last frame.  frames: how many.
    width_px, height_px: as shown.
    cuts: Fractions, seconds at which a new shot begins.
    blur: median over the video, 0 sharp to 1, measured at the size that the networks see.
    repeated: share of frames that are the one before.
    cut_off: True when announced frames did not come.
    """

    duration: Fraction
    frames: int
    width_px: int
    height_px: int
    cuts: tuple
    blur: float
    repeated: float
    cut_off: bool

    def warnings(self) -> list[str]:
        """Sentences on what in the picture is likely to make the sound worse, and what to do."""
        found = []
        if min(self.width_px, self.height_px) < SYNC_PX:
            found.append(
                f"The picture is {self.width_px}x{self.height_px}; the network that times the sound looks at {SYNC_PX} pixels, "
                "so small movements may be missed. Give a larger version if there is one."
            )
        if self.blur > BLUR_LIMIT:
            found.append(
                f"The picture is blurred ({self.blur:.2f}, sharp is below {BLUR_LIMIT}); sounds may not fit. Say in --prompt what is seen."
            )
        if self.repeated >= STILL_SHARE:
            found.append(
                "Nothing moves in the picture, so nothing times the sound. Say in --prompt what shall be heard."
            )
        elif self.repeated >= REPEATED_SHARE:
            found.append(
                f"{100 * self.repeated:.0f} % of the frames repeat the one before; movements come in jerks, and sounds may be early or late. "
                "Give the video at its original frame rate if there is one."
            )
        if self.cut_off:
            found.append("The video is cut off; the sound ends where its frames end.")
        return found

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready facts."""
        return {
            "video_s": float(self.duration), "frames": self.frames, "width_px": self.width_px, "height_px": self.height_px,
            "shot_changes_s": [round(float(cut), 3) for cut in self.cuts], "blur": round(self.blur, 3),
            "repeated_frames": round(self.repeated, 3), "warnings": self.warnings(),
        }  # fmt: skip


def inspect_video(
    path: Path, until: Fraction | None = None, advance: Callable = lambda n: None
) -> VideoInspection | None:
    """The Survey of a video, in constant memory.

    path: str or Path.
    until: seconds after which looking stops; None looks to the end.
    advance: called with 1 for each frame.
    Raises Refused for no moving picture, or one shorter than a sync window.
    """
    looker = _VideoInspector()
    with VideoReader(path) as reader:
        info = reader.info
        for frame in reader:
            if until is not None and frame.time >= until and frame.time >= MIN_DURATION_S:
                break
            looker.take(frame)
            advance(1)
        cut_off = reader.truncated
    duration = looker.last_s + looker.step_s
    if duration < MIN_DURATION_S:
        raise InvalidInputError(
            f"{path}: only {float(duration):.2f} s of video; sound is timed by windows of {float(MIN_DURATION_S):.2f} s.",
            hint=f"Give at least {float(MIN_DURATION_S):.2f} s.",
            code="video_too_short",
        )
    blur = float(np.median(looker.blurs)) if looker.blurs else 0.0
    repeated = looker.repeated / max(1, looker.frames - 1)
    return VideoInspection(
        duration, looker.frames, info.width_px, info.height_px, tuple(looker.cuts), blur, repeated, cut_off
    )


class _VideoInspector:
    """Everything that is measured on the way, frame by frame."""

    def __init__(self) -> None:
        self.shots = ShotCutDetector(thumbnail_px=None, circular_hue=False, adaptive_ratio=0)
        self.before, self.frames, self.repeated = None, 0, 0
        self.cuts, self.blurs = [], []
        self.last_s, self.step_s, self.next_blur_s = Fraction(0), Fraction(1, 25), Fraction(0)

    def take(self, frame: Frame) -> None:
        height, width = frame.pixels.shape[:2]
        size = (INSPECTION_WIDTH_PX, max(2, round(INSPECTION_WIDTH_PX * height / width)))
        small = cv2.resize(frame.pixels, size, interpolation=cv2.INTER_AREA)
        if self.before is not None:
            self.step_s = frame.time - self.last_s
            self.repeated += float(cv2.absdiff(small, self.before).mean()) < _SAME_FRAME_LEVELS
        if self.shots.is_cut(small):
            self.cuts.append(frame.time)
        if frame.time >= self.next_blur_s:
            found = measure_blur(frame.pixels)
            self.blurs += [] if found is None else [found]
            self.next_blur_s = frame.time + BLUR_STEP_S
        self.before, self.last_s, self.frames = small, frame.time, self.frames + 1


def measure_blur(pixels: np.ndarray) -> float:
    """How blurred a frame is at the size that the networks see: 0 sharp to 1; None for one of a single colour.

    pixels: (H, W, 3) uint8.
    Source: Crete et al. 2007, as in scikit-image.
    """
    from skimage.measure import blur_effect

    height, width = pixels.shape[:2]
    scale = min(1.0, SYNC_PX / min(height, width))
    size = (max(12, round(width * scale)), max(12, round(height * scale)))
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    return None if grey.max() == grey.min() else float(blur_effect(grey))
