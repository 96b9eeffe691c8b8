"""Windows of a long video, in latents: overlapping within a shot, never across a shot cut."""

from __future__ import annotations

from typing import NamedTuple

from mouthpiece.engine.sampling import plan_windows

SEAM_LATENTS = 2  # by which a shot's sound reaches into the next one, to fade without a click


class LatentWindow(NamedTuple):
    """One window, in latents from the start of the video.

    start, stop: up to, not including, stop.
    kept: latents at its beginning that are those of the window before, and stay so; 0 in a new shot.
    """

    start: int
    stop: int
    kept: int


def split_shots(total: int, cuts: tuple[int, ...] | list[int], shortest: int) -> list[tuple[int, int]]:
    """Split 0 to total at shot cuts: pairs (start, stop) in latents; shots shorter than `shortest`, which would have no
    sync features, join the one before, or the next at the start.

    cuts: latents at which a new shot begins.
    """
    edges = [0]
    for cut in sorted(set(cuts)):
        if cut - edges[-1] >= shortest and total - cut >= shortest:
            edges.append(cut)
    return list(zip(edges, [*edges[1:], total]))


def plan_latent_windows(
    total: int, cuts: tuple[int, ...] | list[int], length: int, overlap: int, shortest: int
) -> list[LatentWindow]:
    """Plan the windows of a video of `total` latents, in order.

    cuts: latents at which a new shot begins.  length: latents of a window.  overlap: latents shared within a shot.
    shortest: latents of the shortest shot that gets windows of its own.
    Raises UsageError as `mouthpiece.engine.sampling.plan_windows`.
    """
    windows = []
    for start, stop in split_shots(total, cuts, shortest):
        end = min(total, stop + SEAM_LATENTS)
        reached = start
        for window in plan_windows(end - start, length, overlap):
            placed = LatentWindow(start + window.start, start + window.stop, reached - start - window.start)
            windows.append(placed)
            reached = placed.stop
    return windows
