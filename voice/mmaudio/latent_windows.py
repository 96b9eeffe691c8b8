"""Where the windows of a long video lie: overlapped within a shot, and never across the change to another one."""

from __future__ import annotations

from typing import NamedTuple

from mouthpiece.engine.sampling import plan_windows

SEAM_LATENTS = 2  # how far a shot's sound reaches into the next one, to fade without a click


class LatentWindow(NamedTuple):
    """One window, in latents from the start of the video.

    start, stop: up to, not including, stop.
    kept: latents at its beginning that are those of the window before, and stay so; 0 in a new shot.
    """

    start: int
    stop: int
    kept: int


def split_shots(total: int, cuts: tuple[int, ...] | list[int], shortest: int) -> list[tuple[int, int]]:
    """Pairs (start, stop) that cover 0 to total; shots shorter than `shortest` join the one before, or the next at the
    start.

    total: latents.  cuts: latents at which a new shot begins.  shortest: latents.
    Source: ours; too short a window has no sync features.
    """
    edges = [0]
    for cut in sorted(set(cuts)):
        if cut - edges[-1] >= shortest and total - cut >= shortest:
            edges.append(cut)
    return list(zip(edges, [*edges[1:], total]))


def plan_latent_windows(
    total: int, cuts: tuple[int, ...] | list[int], length: int, overlap: int, shortest: int
) -> list[LatentWindow]:
    """All Spans of a video, in order.

    total: latents.  cuts: as for shots_of.  length: latents of a window.  overlap: latents shared within a shot.
    shortest: latents of the shortest shot that gets windows of its own.
    Raises UsageProblem as sampling.plan.
    """
    spans = []
    for start, stop in split_shots(total, cuts, shortest):
        end = min(total, stop + SEAM_LATENTS)
        reached = start
        for window in plan_windows(end - start, length, overlap):
            here = LatentWindow(start + window.start, start + window.stop, reached - start - window.start)
            spans.append(here)
            reached = here.stop
    return spans
