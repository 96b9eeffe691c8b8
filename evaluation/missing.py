"""Facts that could not be measured, with the reason."""

from __future__ import annotations

import math


class NotMeasured(str):
    """Stand in the place of a fact that could not be measured: the reason why."""


def fill_missing(keys: tuple[str, ...], why: str) -> dict[str, NotMeasured]:
    """Return the same reason for all of some facts."""
    return dict.fromkeys(keys, NotMeasured(why))


def check_finite(value: float, why: str) -> float | NotMeasured:
    """Return a value, or the reason where it is not finite."""
    return value if math.isfinite(value) else NotMeasured(why)
