"""Draw noise from a seed on the CPU, item by item: no batch, order or window changes it."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mouthpiece.engine.errors import UsageError

BLOCK_TICKS = 64  # ticks drawn at once, of which windows are cut out; changing it changes every result


def draw_item_noise(shape: Sequence[int], seed: int, items: Sequence[int | str]) -> Tensor:
    """Draw normal noise (len(items), *shape), float32 on the CPU; an item's part depends on seed and item alone.

    shape: of one item.
    seed: any whole number.
    items: number or name of each item, lasting beyond the batch (line id, clip index).
    Raises UsageError for an empty batch or a seed that is not whole.
    """
    return stack_items([draw_normal(shape, (seed, item, "item"), block=0) for item in check_items(items, seed)])


def draw_tick_noise(start: int, stop: int, shape: Sequence[int], seed: int, items: Sequence[int | str]) -> Tensor:
    """Draw normal noise (len(items), stop - start, *shape) of global ticks: overlapping windows get the same there.

    start, stop: global ticks, 0 <= start < stop.
    shape: of one tick.
    seed, items: as in `draw_item_noise`.
    Raises UsageError for ticks out of order.
    """
    if not 0 <= start < stop:
        raise UsageError(f"ticks {start} to {stop} are not a span.", hint="Give 0 <= start < stop.")
    first, last = start // BLOCK_TICKS, (stop - 1) // BLOCK_TICKS
    cut = slice(start - first * BLOCK_TICKS, stop - first * BLOCK_TICKS)
    block_shape = (BLOCK_TICKS, *shape)
    return stack_items(
        [
            np.concatenate([draw_normal(block_shape, (seed, item, "tick"), block) for block in range(first, last + 1)])[
                cut
            ]
            for item in check_items(items, seed)
        ]
    )


def draw_step_noise(shape: Sequence[int], seed: int, items: Sequence[int | str]) -> Iterator[Tensor]:
    """Draw fresh noise for each step of a stochastic solver, without end; shaped as that of `draw_item_noise`.

    shape, seed, items: as in `draw_item_noise`.
    """
    items = check_items(items, seed)
    step = 0
    while True:
        yield stack_items([draw_normal(shape, (seed, item, "step"), block=step) for item in items])
        step += 1


def draw_normal(shape: Sequence[int], key: tuple, block: int) -> np.ndarray:
    """Draw normal float32 numbers of a counter-based generator: key names the stream, block the place in it.

    Source: Philox, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    philox = np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64), counter=[0, 0, 0, block])
    return np.random.Generator(philox).standard_normal(tuple(shape), dtype=np.float32)


def stack_items(parts: list[np.ndarray]) -> Tensor:
    """Stack the arrays of items to one float32 tensor."""
    return torch.from_numpy(np.stack(parts))


def check_items(items: Sequence[int | str], seed: int) -> Sequence[int | str]:
    """Check the items of a batch and the seed, and return the items.

    Raises UsageError for no item at all, or a seed that is not a whole number.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UsageError(f"seed {seed!r} is not a whole number.", hint="Any whole number will do.")
    if isinstance(items, str) or len(items) == 0:
        raise UsageError(f"items {items!r} name no batch.", hint="Give a list with one number or name an item.")
    return items
