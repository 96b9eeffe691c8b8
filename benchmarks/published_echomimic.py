"""What EchoMimic's published pipelines do and this one does not, for comparisons with their outputs."""

from __future__ import annotations


def count_published_frames(states: int, fps: float, cap: int | None = None) -> int:
    """Count the frames that the published pipelines make of audio states: 1.5 to 3 more than the sound lasts.

    states: ticks of 20 ms.  fps: a float, in whose rounding they count.  cap: most frames.
    Source: EchoMimic v1.
    """
    frame = 0
    while int(frame * (50 / fps)) <= states:
        frame += 1
    return frame + 1 if cap is None else min(cap, frame + 1)
