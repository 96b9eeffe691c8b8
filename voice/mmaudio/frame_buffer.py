"""Frames of a video, read once and in order, buffered for the windows that need them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch

from mouthpiece.voice.mmaudio.frames import CLIP_PX, SYNC_PX, crop_for_sync, resize_for_clip
from mouthpiece.voice.mmaudio.sizes import CLIP_HZ, SYNC_FEATURES, SYNC_FRAME_HZ, SYNC_STEP, SYNC_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from fractions import Fraction

    from mouthpiece.engine.types import Frame
    from mouthpiece.voice.mmaudio.latent_windows import LatentWindow
    from mouthpiece.voice.mmaudio.sizes import AudioRates


class WindowFrames(NamedTuple):
    """The frames of one window.

    clip: (P, 3, clip_px, clip_px) uint8 at 8 Hz.  sync: (F, 3, sync_px, sync_px) uint8 at 25 Hz.
    """

    clip: torch.Tensor
    sync: torch.Tensor


class _WindowBuffer:
    """The frames that one window needs at 8 and 25 Hz, and those that it has so far."""

    def __init__(self, window: LatentWindow, rates: AudioRates) -> None:
        self.start_s = window.start / rates.latent_hz
        _, images, features = rates.lengths((window.stop - window.start) / rates.latent_hz)
        sync_frames = (features // SYNC_FEATURES - 1) * SYNC_STEP + SYNC_WINDOW
        self.counts = {"clip": (images, CLIP_HZ), "sync": (sync_frames, SYNC_FRAME_HZ)}
        self.frames: dict[str, list[torch.Tensor]] = {"clip": [], "sync": []}

    def take(self, until_s: Fraction | None, get_frame: Callable[[str], torch.Tensor]) -> None:
        """Take the current frame for every instant before until_s; None takes it for all that are left."""
        for kind, (count, hz) in self.counts.items():
            taken = self.frames[kind]
            while len(taken) < count and (until_s is None or self.start_s + len(taken) / hz < until_s):
                taken.append(get_frame(kind))

    @property
    def done(self) -> bool:
        """Whether all frames are there."""
        return all(len(self.frames[kind]) == count for kind, (count, _) in self.counts.items())


def buffer_windows(
    frames: Iterable[Frame],
    windows: Sequence[LatentWindow],
    rates: AudioRates,
    focus: tuple[float, float] | None = None,
    sizes_px: tuple[int, int] = (CLIP_PX, SYNC_PX),
) -> Iterator[WindowFrames]:
    """Buffer the frames of every window, each window as soon as its last frame has come.

    frames: in order, read once; the last one stays on screen for whatever is needed after it.
    windows: in order.
    focus: (x, y) in pixels at the centre of the sync encoder's square; None is the middle.
    sizes_px: sides of CLIP's and the sync encoder's images.
    At each instant the frame nearest in time is taken; no more is held than the open windows need.
    """
    waiting = deque(_WindowBuffer(window, rates) for window in windows)
    before = None
    for frame in frames:
        if before is not None:
            yield from _complete_windows(waiting, before, (before.time + frame.time) / 2, focus, sizes_px)
            if not waiting:
                return
        before = frame
    if before is not None:
        yield from _complete_windows(waiting, before, None, focus, sizes_px)


def _complete_windows(
    waiting: deque[_WindowBuffer],
    frame: Frame,
    until_s: Fraction | None,
    focus: tuple[float, float] | None,
    sizes_px: tuple[int, int],
) -> list[WindowFrames]:
    """Complete windows by a frame, which is on screen before until_s; None to the end."""
    resized = {}

    def get_frame(kind: str) -> torch.Tensor:
        if kind not in resized:
            if kind == "clip":
                resized[kind] = resize_for_clip(frame.pixels, sizes_px[0])
            else:
                resized[kind] = crop_for_sync(frame.pixels, sizes_px[1], focus)
        return resized[kind]

    for buffer in waiting:
        if until_s is not None and buffer.start_s >= until_s:
            break
        buffer.take(until_s, get_frame)
    completed = []
    while waiting and waiting[0].done:
        taken = waiting.popleft().frames
        completed.append(WindowFrames(torch.stack(taken["clip"]), torch.stack(taken["sync"])))
    return completed
