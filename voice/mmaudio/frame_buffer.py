"""Frames of a video, read once and in order, sorted into the windows that want to see them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch

from mouthpiece.voice.mmaudio.frames import CLIP_PX, SYNC_PX, crop_for_sync, resize_for_clip
from mouthpiece.voice.mmaudio.sizes import CLIP_HZ, SYNC_FEATURES, SYNC_FRAME_HZ, SYNC_STEP, SYNC_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction

    from mouthpiece.engine.types import Frame
    from mouthpiece.voice.mmaudio.latent_windows import LatentWindow
    from mouthpiece.voice.mmaudio.sizes import AudioRates


class WindowFrames(NamedTuple):
    """What one window sees.

    clip: (P, 3, clip_px, clip_px) uint8 at 8 Hz.  sync: (F, 3, sync_px, sync_px) uint8 at 25 Hz.
    """

    clip: torch.Tensor
    sync: torch.Tensor


class _WindowBuffer:
    """The instants that one window wants to see, and what it has seen of them so far."""

    def __init__(self, span: LatentWindow, rates: AudioRates) -> None:
        self.start = span.start / rates.latent_hz
        _, pictures, features = rates.lengths((span.stop - span.start) / rates.latent_hz)
        frames = (features // SYNC_FEATURES - 1) * SYNC_STEP + SYNC_WINDOW
        self.counts = {"clip": (pictures, CLIP_HZ), "sync": (frames, SYNC_FRAME_HZ)}
        self.seen = {"clip": [], "sync": []}

    def take(self, until: Fraction, show: Callable) -> None:
        """Takes the frame on screen for every instant before `until` (None: for all that are left)."""
        for kind, (count, hz) in self.counts.items():
            seen = self.seen[kind]
            while len(seen) < count and (until is None or self.start + len(seen) / hz < until):
                seen.append(show(kind))

    @property
    def done(self) -> bool:
        return all(len(self.seen[kind]) == count for kind, (count, _) in self.counts.items())


def buffer_windows(
    frames, spans: list[LatentWindow], rates: AudioRates, focus=None, sizes_px: tuple[int, int] = (CLIP_PX, SYNC_PX)
) -> Iterator[WindowFrames]:
    """The Seen of every span, in order, as soon as its last frame has come.

    frames: types.Frame in order, read once; the last one stays on screen for whatever is wanted after it.
    spans: Spans in order.  rates: sizes.Rates.
    focus: (x, y) in pixels that the sync encoder's square is centred on; None is the middle.
    sizes_px: sides of CLIP's and the sync encoder's pictures.
    At each instant the frame nearest in time is seen. No more is held than the open windows have seen.
    """
    waiting = deque(_WindowBuffer(span, rates) for span in spans)
    before = None
    for frame in frames:
        if before is not None:
            yield from _complete_windows(waiting, before, (before.time + frame.time) / 2, focus, sizes_px)
            if not waiting:
                return
        before = frame
    if before is not None:
        yield from _complete_windows(waiting, before, None, focus, sizes_px)


def _complete_windows(waiting, frame: Frame, until: Fraction, focus, sizes_px: tuple[int, int]) -> list:
    """Windows completed by this frame, which is the one on screen before `until`."""
    resized = {}

    def show(kind: str) -> torch.Tensor:
        if kind not in resized:
            clip = kind == "clip"
            resized[kind] = (
                resize_for_clip(frame.pixels, sizes_px[0]) if clip else crop_for_sync(frame.pixels, sizes_px[1], focus)
            )
        return resized[kind]

    for wanted in waiting:
        if until is not None and wanted.start >= until:
            break
        wanted.take(until, show)
    completed = []
    while waiting and waiting[0].done:
        seen = waiting.popleft().seen
        completed.append(WindowFrames(torch.stack(seen["clip"]), torch.stack(seen["sync"])))
    return completed
