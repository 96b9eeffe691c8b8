"""Sample long spans in windows: plan them, join their results, and give ticks as soon as they are final."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mouthpiece.engine.errors import UsageError

JOIN_MODES = ("blend", "carry")


class Window(NamedTuple):
    """Ticks from start up to, not including, stop."""

    start: int
    stop: int


# (window, ticks (B, given, ...) that are known at its beginning, or None) -> result (B, ticks of the window, ...)
WindowFunction = Callable[[Window, Tensor | None], Tensor]


def plan_windows(total: int, length: int, overlap: int) -> list[Window]:
    """Plan windows that cover ticks 0 to total exactly; the last one is moved back rather than cut short.

    total: ticks, 0 or more.
    length: ticks of a window, 1 or more; a single window holds all when they fit.
    overlap: ticks shared with the window before, 0 to length - 1; more at the last one.
    Raises UsageError for numbers out of range.
    """
    if total < 0 or length < 1:
        raise UsageError(f"{total} ticks in windows of {length} cannot be.", hint="Give 1 tick or more a window.")
    if not 0 <= overlap < length:
        raise UsageError(
            f"overlap of {overlap} ticks does not fit windows of {length}.", hint=f"Choose 0 to {length - 1}."
        )
    if total <= length:
        return [Window(0, total)] if total else []
    starts = [*range(0, total - length, length - overlap), total - length]
    return [Window(start, start + length) for start in starts]


def compute_overlap_weights(windows: Sequence[Window], index: int) -> Tensor:
    """Compute the weight of each tick of one window, (ticks,) float32 above 0; over all windows they sum to one.

    windows: of `plan_windows`.
    index: which of them.
    Source: raised cosine, divided by the sum where more than two windows meet.
    """
    here = windows[index]
    total = torch.zeros(here.stop - here.start, dtype=torch.float64)
    for other in find_neighbours(windows, index):
        there, raised = windows[other], compute_raised_cosine(windows, other)
        start, stop = max(here.start, there.start), min(here.stop, there.stop)
        total[start - here.start : stop - here.start] += raised[start - there.start : stop - there.start]
    return (compute_raised_cosine(windows, index) / total).float()


def overlap_add(pieces: Iterable[Tensor], windows: Sequence[Window]) -> Tensor:
    """Join the results of all windows by overlap-add, (B, total, ...).

    pieces: (B, ticks of its window, ...) each.
    windows: of `plan_windows`, as many.
    Raises UsageError for pieces that do not fill their windows.
    """
    pieces = list(pieces)
    if len(pieces) != len(windows) or not pieces:
        raise UsageError(f"{len(pieces)} pieces came for {len(windows)} windows.", hint="Give one a window.")
    ready = iter(pieces)
    return torch.cat(list(stream_windows(windows, lambda window, given: next(ready), "blend")), dim=1)


def stream_windows(windows: Sequence[Window], make: WindowFunction, join_mode: str = "blend") -> Iterator[Tensor]:
    """Stream final ticks (B, ticks, ...), in order and without gap, as soon as no later window can change them.

    windows: of `plan_windows`; two pieces at most are held at a time, however many there are.
    make: called once a window, in order: (window, given) -> (B, window ticks, ...).
    join_mode: blend weighs overlapping ticks (given is None); carry hands them to the next window, which keeps them.
    Raises UsageError for an unknown mode or a piece that does not fill its window.
    """
    if join_mode not in JOIN_MODES:
        raise UsageError(
            f"joining windows by '{join_mode}' is unknown.", hint=f"Choose one of {', '.join(JOIN_MODES)}."
        )
    # ticks from the window's start that earlier windows reached: known ones, or partial sums
    held: Tensor | None = None
    for index, window in enumerate(windows):
        piece = make(window, held if join_mode == "carry" else None)
        check_piece(piece, window)
        known = 0 if held is None else held.shape[1]
        if join_mode == "blend":
            piece = piece * expand_weights(compute_overlap_weights(windows, index), piece)
            if held is not None:
                piece = torch.cat([piece[:, :known] + held, piece[:, known:]], dim=1)
        elif held is not None:
            piece = torch.cat([held, piece[:, known:]], dim=1)
        following = windows[index + 1].start if index + 1 < len(windows) else window.stop
        final = min(following, window.stop) - window.start
        held = piece[:, final:].clone() if final < piece.shape[1] else None
        yield piece[:, :final]


def compute_raised_cosine(windows: Sequence[Window], index: int) -> Tensor:
    """Compute a window's weight before division, float64: up over what it shares with the last, down with the next."""
    here = windows[index]
    weight = torch.ones(here.stop - here.start, dtype=torch.float64)
    rising = windows[index - 1].stop - here.start if index else 0
    falling = here.stop - windows[index + 1].start if index + 1 < len(windows) else 0
    if rising > 0:
        weight[:rising] *= make_ramp(rising)
    if falling > 0:
        weight[-falling:] *= make_ramp(falling).flip(0)
    return weight


def make_ramp(ticks: int) -> Tensor:
    """Make a rise from above 0 to below 1 that sums to one with its mirror image, (ticks,) float64. Source: Hann."""
    return torch.sin(math.pi / 2 * (torch.arange(ticks, dtype=torch.float64) + 0.5) / ticks) ** 2


def find_neighbours(windows: Sequence[Window], index: int) -> list[int]:
    """Find the windows that share a tick with this one, itself among them: indices."""
    first = last = index
    while first > 0 and windows[first - 1].stop > windows[index].start:
        first -= 1
    while last + 1 < len(windows) and windows[last + 1].start < windows[index].stop:
        last += 1
    return list(range(first, last + 1))


def expand_weights(weights: Tensor, piece: Tensor) -> Tensor:
    """Shape weights (ticks,) to multiply a piece (B, ticks, ...)."""
    return weights.to(piece).view(1, -1, *[1] * (piece.dim() - 2))


def check_piece(piece: Tensor, window: Window) -> None:
    """Check that a piece is (B, ticks of its window, ...); raise UsageError otherwise."""
    if piece.dim() < 2 or piece.shape[1] != window.stop - window.start:
        raise UsageError(
            f"window {window.start} to {window.stop} came back as {tuple(piece.shape)}.",
            hint=f"Its second dimension must be {window.stop - window.start} ticks.",
        )
