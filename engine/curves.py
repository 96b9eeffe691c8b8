"""Interpolate with smooth curves."""

from __future__ import annotations

import numpy as np


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Rise smoothly from 0 at x <= 0 to 1 at x >= 1, level at both ends; x (...) float, whose dtype is kept.

    Source: Hermite's cubic, as in GLSL.
    """
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
