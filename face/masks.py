"""Soft masks in crop space, analytic in the template's coordinates: no landmarks, one answer for every face."""

from functools import lru_cache

import numpy as np

from engine.curves import smoothstep
from engine.errors import UsageProblem

# centre x, y and half axes x, y in units of the crop's side; eyes stand at y 0.34, mouth corners at 0.64
OVAL = (0.50, 0.50, 0.33, 0.43)
LOWER = (0.50, 0.69, 0.30, 0.24)
MOUTH = (0.50, 0.65, 0.20, 0.14)
UPPER = (0.50, 0.32, 0.31, 0.18)
REGIONS = {"oval": OVAL, "lower": LOWER, "mouth": MOUTH, "upper": UPPER}
ROUNDNESS = 2.5  # exponent of the superellipse: 2 is an ellipse, more is squarer


@lru_cache(maxsize=32)
def region(name, size_px, feather=0.08):
    """A soft mask of a part of the face: 1 inside, 0 outside its outline, a smooth ramp inside the outline.

    name: "oval" (whole face), "lower" (mouth, jaw and cheeks), "mouth", "upper" (eyes and brows).
    size_px: side of the crop.  feather: width of the ramp in units of the crop's side, >= 0.
    Returns float32 (size_px, size_px) in [0, 1], read-only.
    Raises UsageProblem for an unknown name or a negative feather.
    Source: ours; superellipse, smoothstep.
    """
    if name not in REGIONS:
        raise UsageProblem(f"mask {name!r}: unknown.", hint=f"Take one of {', '.join(REGIONS)}.", code="bad_mask")
    cx, cy, rx, ry = REGIONS[name]
    x, y = _grid(size_px)
    inside = 1 - ((np.abs(x - cx) / rx) ** ROUNDNESS + (np.abs(y - cy) / ry) ** ROUNDNESS) ** (1 / ROUNDNESS)
    return _ramp(inside * min(rx, ry), feather)


@lru_cache(maxsize=32)
def edge(size_px, feather=0.08):
    """A soft mask of the whole crop: 1 in the middle, falling to 0 at its border.

    size_px: side of the crop.  feather: width of the ramp in units of the crop's side, >= 0.
    Returns float32 (size_px, size_px) in [0, 1], read-only.
    Source: ours; product of two smoothsteps.
    """
    x, y = _grid(size_px)
    half = 0.5 / size_px
    across = _ramp(np.minimum(x, 1 - x) - half, feather)
    mask = across * _ramp(np.minimum(y, 1 - y) - half, feather)
    mask.flags.writeable = False
    return mask


def _grid(size_px):
    if size_px < 1:
        raise UsageProblem(
            f"mask of {size_px} px: need at least 1.", code="bad_mask", hint="Give the crop's size in pixels."
        )
    at = ((np.arange(size_px) + 0.5) / size_px).astype(np.float32)
    return at[None, :], at[:, None]


def _ramp(inside, feather):
    """Smoothstep of a distance inside an outline, units of the crop's side; read-only float32."""
    if feather < 0:
        raise UsageProblem(
            f"feather {feather}: need 0 or more.",
            code="bad_mask",
            hint="Give it in units of the crop's side, such as 0.08.",
        )
    mask = smoothstep(inside / max(feather, 1e-6)).astype(np.float32)
    mask.flags.writeable = False
    return mask
