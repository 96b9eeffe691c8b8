"""Curves that go over from one thing to another."""

from __future__ import annotations

import numpy as np


def smoothstep(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, between them a rise (...) that is level at both ends; x (...) float, whose dtype it keeps.

    Source: Hermite's cubic, as in GLSL.
    """
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
