"""Frames of a video, read once and in order, sorted into the windows that want to see them."""

from collections import deque
from typing import NamedTuple

import torch

from voice.mmaudio.frames import CLIP_PX, SYNC_PX, clip_frame, sync_frame
from voice.mmaudio.sizes import CLIP_HZ, SYNC_FEATURES, SYNC_FRAME_HZ, SYNC_STEP, SYNC_WINDOW


class Seen(NamedTuple):
    """What one window sees.

    clip: (P, 3, clip_px, clip_px) uint8 at 8 Hz.  sync: (F, 3, sync_px, sync_px) uint8 at 25 Hz.
    """

    clip: torch.Tensor
    sync: torch.Tensor


class _Wanted:
    """The instants that one window wants to see, and what it has seen of them so far."""

    def __init__(self, span, rates):
        self.start = span.start / rates.latent_hz
        _, pictures, features = rates.lengths((span.stop - span.start) / rates.latent_hz)
        frames = (features // SYNC_FEATURES - 1) * SYNC_STEP + SYNC_WINDOW
        self.counts = {"clip": (pictures, CLIP_HZ), "sync": (frames, SYNC_FRAME_HZ)}
        self.seen = {"clip": [], "sync": []}

    def take(self, until, show):
        """Takes the frame on screen for every instant before `until` (None: for all that are left)."""
        for kind, (count, hz) in self.counts.items():
            seen = self.seen[kind]
            while len(seen) < count and (until is None or self.start + len(seen) / hz < until):
                seen.append(show(kind))

    @property
    def done(self):
        return all(len(self.seen[kind]) == count for kind, (count, _) in self.counts.items())


def watch(frames, spans, rates, focus=None, sizes_px=(CLIP_PX, SYNC_PX)):
    """The Seen of every span, in order, as soon as its last frame has come.

    frames: types.Frame in order, read once; the last one stays on screen for whatever is wanted after it.
    spans: Spans in order.  rates: sizes.Rates.
    focus: (x, y) in pixels that the sync encoder's square is centred on; None is the middle.
    sizes_px: sides of CLIP's and the sync encoder's pictures.
    At each instant the frame nearest in time is seen. No more is held than the open windows have seen.
    Source: ours.
    """
    waiting = deque(_Wanted(span, rates) for span in spans)
    before = None
    for frame in frames:
        if before is not None:
            yield from _shown(waiting, before, (before.time + frame.time) / 2, focus, sizes_px)
            if not waiting:
                return
        before = frame
    if before is not None:
        yield from _shown(waiting, before, None, focus, sizes_px)


def _shown(waiting, frame, until, focus, sizes_px):
    """Windows completed by this frame, which is the one on screen before `until`."""
    resized = {}

    def show(kind):
        if kind not in resized:
            clip = kind == "clip"
            resized[kind] = clip_frame(frame.pixels, sizes_px[0]) if clip else sync_frame(frame.pixels, sizes_px[1], focus)
        return resized[kind]

    for wanted in waiting:
        if until is not None and wanted.start >= until:
            break
        wanted.take(until, show)
    completed = []
    while waiting and waiting[0].done:
        seen = waiting.popleft().seen
        completed.append(Seen(torch.stack(seen["clip"]), torch.stack(seen["sync"])))
    return completed
