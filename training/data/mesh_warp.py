"""Piecewise affine warps of a face mesh: triangulation, rasterization and sampling of a picture."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import Delaunay

from mouthpiece.training.mesh_geometry import INNER_LIP_RING, LOWER_LIP_EDGE, UPPER_LIP_EDGE

TRIANGULATION_GAP = 0.02  # by which the lower face is lowered while triangles are chosen, in units of the crop
# frame of still points around the mesh, unit square
BORDER_POINTS = np.array(
    [[x, y] for x in np.linspace(-0.12, 1.12, 7) for y in np.linspace(-0.12, 1.12, 7) if min(x, y) < 0 or max(x, y) > 1]
)


def triangulate_face(p_shut: np.ndarray) -> np.ndarray:
    """Return triangles (T, 3) over mesh and frame of a shut face, none inside the mouth and none from one lip to the
    other.

    For the triangulation everything below the line of the lips is lowered a little, most in the middle of the mouth.
    Source: Delaunay 1934.
    """
    q = np.r_[p_shut, BORDER_POINTS].copy()
    order = np.argsort(p_shut[UPPER_LIP_EDGE, 0])
    x, y = p_shut[UPPER_LIP_EDGE, 0][order], p_shut[UPPER_LIP_EDGE, 1][order]
    across = np.clip((q[:, 0] - x[0]) / (x[-1] - x[0]), 0, 1)
    below = q[:, 1] > np.interp(q[:, 0], x, y) + 1e-9
    below[UPPER_LIP_EDGE], below[LOWER_LIP_EDGE[1:-1]], below[len(p_shut) :] = False, True, False
    q[:, 1] += np.where(below, TRIANGULATION_GAP * np.minimum(1, 6 * across * (1 - across)), 0)
    return np.array([t for t in Delaunay(q).simplices if not set(t) <= set(INNER_LIP_RING)])


def rasterize(points: np.ndarray, tris: np.ndarray, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which triangle covers each pixel, and where in it: ids int16 (S, S), -1 for none; weights float32 (S, S,
    3).

    points: (N, 2) unit square.  tris: (T, 3).
    Source: barycentric coordinates of pixel centres; a little beyond the triangle where rounding put a pixel there.
    """
    ids = np.full((size_px, size_px), -1, np.int32)
    corners = points[tris]
    for k, c in enumerate(np.round((corners * size_px - 0.5) * 16).astype(np.int32)):
        cv2.fillConvexPoly(ids, c, (k,), lineType=cv2.LINE_8, shift=4)
    y, x = np.mgrid[0:size_px, 0:size_px]
    at = np.stack([(x + 0.5) / size_px, (y + 0.5) / size_px], -1)
    t = corners[ids]
    a, b, c = t[..., 0, :], t[..., 1, :], t[..., 2, :]
    area = _cross(b - a, c - a)
    area = np.where(abs(area) < 1e-7, np.inf, area)
    wb, wc = np.clip(_cross(at - a, c - a) / area, -0.2, 1.2), np.clip(_cross(b - a, at - a) / area, -0.2, 1.2)
    return ids.astype(np.int16), np.stack([1 - wb - wc, wb, wc], -1).astype(np.float32)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def map_to_source(ids: np.ndarray, weights: np.ndarray, tris: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the unit-square positions (S, S, 2) that each pixel of a raster shows, in the picture whose points are
    given. Source:
    `rasterize`.
    """
    return (points[tris][ids] * weights[..., None]).sum(-2).astype(np.float32)


def sample_image(image: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return the image uint8 (H, W, 3) read at unit-square positions (S, S, 2). Source: bicubic, edges repeat."""
    x, y = source[..., 0] * image.shape[1] - 0.5, source[..., 1] * image.shape[0] - 0.5
    return cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
