"""Make soft masks in crop space, analytic in the template's coordinates: no landmarks, the same for every face."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mouthpiece.engine.curves import smoothstep
from mouthpiece.engine.errors import UsageError

# centre x, y and half axes x, y in units of the crop's side; eyes stand at y 0.34, mouth corners at 0.64
OVAL_REGION = (0.50, 0.50, 0.33, 0.43)
LOWER_REGION = (0.50, 0.69, 0.30, 0.24)
MOUTH_REGION = (0.50, 0.65, 0.20, 0.14)
UPPER_REGION = (0.50, 0.32, 0.31, 0.18)
REGIONS = {"oval": OVAL_REGION, "lower": LOWER_REGION, "mouth": MOUTH_REGION, "upper": UPPER_REGION}
SUPERELLIPSE_EXPONENT = 2.5  # exponent of the superellipse: 2 is an ellipse, more is squarer


@lru_cache(maxsize=32)
def make_region_mask(name: str, size_px: int, feather: float = 0.08) -> np.ndarray:
    """Make a soft mask of a region of the face: 1 inside, 0 outside its outline, a smooth ramp inside the outline.

    name: "oval" (whole face), "lower" (mouth, jaw and cheeks), "mouth", "upper" (eyes and brows).
    size_px: side of the crop.  feather: width of the ramp in units of the crop's side, >= 0.
    Returns float32 (size_px, size_px) in [0, 1], read-only.
    Raises UsageError for an unknown name or a negative feather.
    """
    if name not in REGIONS:
        raise UsageError(f"mask {name!r}: unknown.", hint=f"Take one of {', '.join(REGIONS)}.", code="bad_mask")
    cx, cy, rx, ry = REGIONS[name]
    x, y = _make_grid(size_px)
    inside = 1 - ((np.abs(x - cx) / rx) ** SUPERELLIPSE_EXPONENT + (np.abs(y - cy) / ry) ** SUPERELLIPSE_EXPONENT) ** (
        1 / SUPERELLIPSE_EXPONENT
    )
    return _make_ramp(inside * min(rx, ry), feather)


@lru_cache(maxsize=32)
def make_edge_mask(size_px: int, feather: float = 0.08) -> np.ndarray:
    """Make a soft mask of the whole crop: 1 in the middle, falling to 0 at its border.

    size_px: side of the crop.  feather: width of the ramp in units of the crop's side, >= 0.
    Returns float32 (size_px, size_px) in [0, 1], read-only.
    """
    x, y = _make_grid(size_px)
    half = 0.5 / size_px
    across = _make_ramp(np.minimum(x, 1 - x) - half, feather)
    mask = across * _make_ramp(np.minimum(y, 1 - y) - half, feather)
    mask.flags.writeable = False
    return mask


def _make_grid(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Make pixel centres in units of the crop's side: x (1, size), y (size, 1), float32."""
    if size_px < 1:
        raise UsageError(
            f"mask of {size_px} px: need at least 1.", code="bad_mask", hint="Give the crop's size in pixels."
        )
    at = ((np.arange(size_px) + 0.5) / size_px).astype(np.float32)
    return at[None, :], at[:, None]


def _make_ramp(inside: np.ndarray, feather: float) -> np.ndarray:
    """Make a smoothstep of the distance inside an outline, in units of the crop's side; read-only float32."""
    if feather < 0:
        raise UsageError(
            f"feather {feather}: need 0 or more.",
            code="bad_mask",
            hint="Give it in units of the crop's side, such as 0.08.",
        )
    mask = smoothstep(inside / max(feather, 1e-6)).astype(np.float32)
    mask.flags.writeable = False
    return mask
