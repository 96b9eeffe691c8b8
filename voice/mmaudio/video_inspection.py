"""Inspection of a video before sound is generated: duration, shot cuts, and what makes the sound worse."""

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

INSPECTION_WIDTH_PX = 160  # of the frames in which cuts and repetitions are detected
BLUR_STEP_S = Fraction(1)  # between frames whose blur is measured
# from which a video is blurred, by scikit-image's measure at the size of the networks' input: four photographs have
# 0.33 to 0.42, blurred by 2 px 0.63 to 0.69
BLUR_LIMIT = 0.62
STILL_SHARE = 0.98  # of repeated frames, from which the picture is still
REPEATED_SHARE = 0.10  # of repeated frames, from which there is a warning
_SAME_FRAME_LEVELS = 0.35  # mean difference below which a frame repeats the one before, 8-bit levels


@dataclass(frozen=True)
class VideoInspection:
    """Facts of an inspected video.

    duration: seconds to the end of the last frame.  frames: count.
    width_px, height_px: as shown.
    cuts: seconds at which a new shot begins.
    blur: median over the video, 0 sharp to 1, at the size of the networks' input.
    repeated: share of frames that repeat the one before.
    cut_off: whether announced frames are missing.
    """

    duration: Fraction
    frames: int
    width_px: int
    height_px: int
    cuts: tuple[Fraction, ...]
    blur: float
    repeated: float
    cut_off: bool

    def warnings(self) -> list[str]:
        """List sentences on what in the picture is likely to make the sound worse, and what to do."""
        warnings = []
        if min(self.width_px, self.height_px) < SYNC_PX:
            warnings.append(
                f"The picture is {self.width_px}x{self.height_px}; the network that times the sound looks at {SYNC_PX} "
                "pixels, so small movements may be missed. Give a larger version if there is one."
            )
        if self.blur > BLUR_LIMIT:
            warnings.append(
                f"The picture is blurred ({self.blur:.2f}, sharp is below {BLUR_LIMIT}); sounds may not fit. "
                "Say in --prompt what is seen."
            )
        if self.repeated >= STILL_SHARE:
            warnings.append(
                "Nothing moves in the picture, so nothing times the sound. Say in --prompt what shall be heard."
            )
        elif self.repeated >= REPEATED_SHARE:
            warnings.append(
                f"{100 * self.repeated:.0f} % of the frames repeat the one before; movements come in jerks, and sounds "
                "may be early or late. Give the video at its original frame rate if there is one."
            )
        if self.cut_off:
            warnings.append("The video is cut off; the sound ends where its frames end.")
        return warnings

    def as_dict(self) -> dict[str, Any]:
        """Convert to JSON-ready facts."""
        return {
            "video_s": float(self.duration),
            "frames": self.frames,
            "width_px": self.width_px,
            "height_px": self.height_px,
            "shot_changes_s": [round(float(cut), 3) for cut in self.cuts],
            "blur": round(self.blur, 3),
            "repeated_frames": round(self.repeated, 3),
            "warnings": self.warnings(),
        }


def inspect_video(
    path: Path, until: Fraction | None = None, advance: Callable[..., object] = lambda n: None
) -> VideoInspection:
    """Inspect a video in constant memory.

    until: seconds after which to stop; None goes to the end.  advance: called with 1 for each frame.
    Raises InvalidInputError for no moving picture, or one shorter than a sync window.
    """
    inspector = _VideoInspector()
    with VideoReader(path) as reader:
        info = reader.info
        for frame in reader:
            if until is not None and frame.time >= until and frame.time >= MIN_DURATION_S:
                break
            inspector.take(frame)
            advance(1)
        cut_off = reader.truncated
    duration = inspector.last_s + inspector.step_s
    if duration < MIN_DURATION_S:
        least_s = f"{float(MIN_DURATION_S):.2f} s"
        raise InvalidInputError(
            f"{path}: only {float(duration):.2f} s of video; sound is timed by windows of {least_s}.",
            hint=f"Give at least {least_s}.",
            code="video_too_short",
        )
    return VideoInspection(
        duration=duration,
        frames=inspector.frames,
        width_px=info.width_px or 0,
        height_px=info.height_px or 0,
        cuts=tuple(inspector.cuts),
        blur=float(np.median(inspector.blurs)) if inspector.blurs else 0.0,
        repeated=inspector.repeated / max(1, inspector.frames - 1),
        cut_off=cut_off,
    )


class _VideoInspector:
    """Measures a video frame by frame.

    frames, repeated: counts.  cuts: seconds.  blurs: one a BLUR_STEP_S.  last_s, step_s: start and duration of the last
    frame.
    """

    def __init__(self) -> None:
        self.frames = self.repeated = 0
        self.cuts: list[Fraction] = []
        self.blurs: list[float] = []
        self.last_s, self.step_s, self._next_blur_s = Fraction(0), Fraction(1, 25), Fraction(0)
        self._shots = ShotCutDetector(thumbnail_px=None, circular_hue=False, adaptive_ratio=0)
        self._last_small: np.ndarray | None = None

    def take(self, frame: Frame) -> None:
        """Measure the next frame."""
        height, width = frame.pixels.shape[:2]
        size = (INSPECTION_WIDTH_PX, max(2, round(INSPECTION_WIDTH_PX * height / width)))
        small = cv2.resize(frame.pixels, size, interpolation=cv2.INTER_AREA)
        if self._last_small is not None:
            self.step_s = frame.time - self.last_s
            self.repeated += float(cv2.absdiff(small, self._last_small).mean()) < _SAME_FRAME_LEVELS
        if self._shots.is_cut(small):
            self.cuts.append(frame.time)
        if frame.time >= self._next_blur_s:
            blur = measure_blur(frame.pixels)
            self.blurs += [] if blur is None else [blur]
            self._next_blur_s = frame.time + BLUR_STEP_S
        self._last_small, self.last_s, self.frames = small, frame.time, self.frames + 1


def measure_blur(pixels: np.ndarray) -> float | None:
    """Measure the blur of a frame at the size of the networks' input: 0 sharp to 1; None for a single colour.

    pixels: (H, W, 3) uint8.
    Source: Crete et al. 2007, as in scikit-image.
    """
    from skimage.measure import blur_effect

    height, width = pixels.shape[:2]
    scale = min(1.0, SYNC_PX / min(height, width))
    size = (max(12, round(width * scale)), max(12, round(height * scale)))
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    return None if grey.max() == grey.min() else float(blur_effect(grey))
