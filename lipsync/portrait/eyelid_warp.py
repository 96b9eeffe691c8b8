"""Eyelids that shut: the upper lid slides down over the eye and hides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from mouthpiece.face.crop import Crop
    from mouthpiece.lipsync.portrait.opening_segmenter import EyeContour

SKIN_BAND_HEIGHTS = 1.25  # heights of the eye above it whose skin stretches, unless a brow is nearer
SKIN_BAND_MIN_HEIGHTS = 0.85  # heights of the eye that stretch at least
LASH_HEIGHTS = 0.38  # heights of the eye that do not stretch: the lid's edge with its lashes
LASH_BAND_SHARE = 0.4  # the most of the band that may be so
STRETCH_EXPONENT = 1.25  # above 1: skin stretches most right above the lashes, hardly below the brow
RIM_HEIGHTS = 0.05  # heights of the eye: how much of the lid's rim goes along
OVERLAP_HEIGHTS = 0.06  # heights of the eye by which a shut lid comes over the lower one
FULL_OVERLAP_SHARE = 0.4  # openness of a column, in heights of the eye, from which the overlap is full
BROW_DARKNESS = 0.7  # brightness of a brow over that of the skin below it
BROW_MARGIN_HEIGHTS = 0.08  # heights of the eye between the band and the brow
BROW_SEARCH_START_HEIGHTS = 0.5  # heights of the eye above it where the search begins: lower is its crease
BROW_STEPS = 28  # heights looked at
BROW_PARTS = 3  # parts of the eye, each with its own brow
BROW_OPEN_SHARE = 0.3  # openness of a column, in heights of the eye, above which a brow is looked for
LID_EDGE_PX = 1.5  # px of the picture over which the lid's edge is soft


class UpperEyelid:
    """Model one eye's upper lid on a portrait: it slides over an eye that stays where it is, where a warp would smear
    it.

    eye: contour in units of the crop.
    light: (S, S) brightness of a crop, in which brows are found; None: skin all the way.
    """

    def __init__(self, eye: EyeContour, light: np.ndarray | None = None) -> None:
        self.x, self.upper, self.height = eye.x, eye.upper, eye.height
        open_by = eye.lower - eye.upper
        self.full = open_by + OVERLAP_HEIGHTS * eye.height * np.minimum(1, open_by / (FULL_OVERLAP_SHARE * eye.height))
        self.skin_band = (
            np.full(len(eye.x), SKIN_BAND_HEIGHTS * eye.height) if light is None else measure_skin_band(eye, light)
        )

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Return (top, bottom, left, right) in units of the crop of all that the lid ever changes."""
        lowest = (self.upper + self.full).max() + 2 * RIM_HEIGHTS * self.height
        return float((self.upper - self.skin_band).min()), float(lowest), float(self.x[0]), float(self.x[-1])

    def compute_warp(self, share: float, at: np.ndarray, soft: float) -> tuple[np.ndarray, np.ndarray]:
        """Compute where a lowered lid reads the portrait, (h, w) rows in units of the crop, and how far it covers, (h,
        w).

        share: 0 as open as in the portrait, 1 shut.  at: (h, w, 2) places in units of the crop.
        soft: width of its edge, units of the crop.
        """
        x, y = at[..., 0], at[..., 1]
        upper, full, skin = (np.interp(x, self.x, track) for track in (self.upper, self.full, self.skin_band))
        down, lashes = share * full, np.minimum(LASH_HEIGHTS * self.height, LASH_BAND_SHARE * skin)
        stretched = np.clip((y - upper + skin) / (skin - lashes + down), 0, 1)
        edge = upper + down + RIM_HEIGHTS * self.height
        return y - down * stretched**STRETCH_EXPONENT, np.clip((edge - y) / soft + 0.5, 0, 1)


def measure_skin_band(eye: EyeContour, light: np.ndarray) -> np.ndarray:
    """Measure how far skin reaches above each column of an eye before the brow, (N,) in units of the crop.

    light: (S, S) brightness of a crop.
    Going upward, the brow is the first that is much darker than the brightest skin so far.
    """
    open_at = np.flatnonzero(eye.lower - eye.upper > BROW_OPEN_SHARE * eye.height)
    above = np.linspace(BROW_SEARCH_START_HEIGHTS, SKIN_BAND_HEIGHTS + BROW_MARGIN_HEIGHTS, BROW_STEPS) * eye.height
    rows = (eye.upper[open_at] - above[:, None]) * len(light) - 0.5
    columns = np.broadcast_to(eye.x[open_at] * len(light) - 0.5, rows.shape)
    brightness = cv2.remap(
        light.astype(np.float32),
        columns.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    bands, middles = [], []
    for part in np.array_split(np.arange(len(open_at)), BROW_PARTS):
        profile = brightness[:, part].mean(1)
        dark = np.flatnonzero(profile < BROW_DARKNESS * np.maximum.accumulate(profile))
        bands.append((above[dark[0]] if len(dark) else above[-1]) - BROW_MARGIN_HEIGHTS * eye.height)
        middles.append(eye.x[open_at[part]].mean())
    return np.interp(eye.x, middles, np.clip(bands, SKIN_BAND_MIN_HEIGHTS * eye.height, SKIN_BAND_HEIGHTS * eye.height))


def draw_eyelid(
    frame: np.ndarray, lid: UpperEyelid, share: float, at: np.ndarray, portrait: np.ndarray, crop: Crop
) -> None:
    """Draw a lid over a part of a frame, in place.

    frame: (h, w, 3) uint8.  share: of `UpperEyelid.compute_warp`.
    at: (h, w, 2) float32, where the part reads the crop without the lid, units of the crop.
    portrait: (H, W, 3) uint8.  crop: of its face.
    """
    rows, cover = lid.compute_warp(share, at, LID_EDGE_PX * crop.scale / crop.size_px)
    m = crop.frame_from_crop
    there = (np.stack([at[..., 0], rows], -1) * crop.size_px - 0.5) @ m[:, :2].T + m[:, 2]
    skin = cv2.remap(  # type: ignore[call-overload]  # the stub lacks map2=None, which OpenCV documents as empty
        portrait, there.astype(np.float32), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    frame[:] = np.clip(frame + (skin.astype(np.float32) - frame) * cover[..., None] + 0.5, 0, 255).astype(np.uint8)
