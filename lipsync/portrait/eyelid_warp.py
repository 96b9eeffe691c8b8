"""Shut lids: the upper lid slides down over an eye that stays where it is, and hides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from mouthpiece.face.crop import Crop
    from mouthpiece.lipsync.portrait.opening_segmenter import EyeContour

# heights of the eye above it whose skin stretches, unless a brow is nearer; at the least
SKIN_BAND_HEIGHTS, SKIN_BAND_MIN_HEIGHTS = 1.25, 0.85
# heights of the eye, and no more than this of the band: the lid's edge with its lashes does not stretch
LASH_HEIGHTS, LASH_BAND_SHARE = 0.38, 0.4
STRETCH_EXPONENT = 1.25  # skin stretches most right above the lashes, hardly below the brow
# heights of the eye: how much of the lid's rim goes along, and how far it comes over the lower lid
RIM_HEIGHTS, OVERLAP_HEIGHTS = 0.05, 0.06
# a brow is this dark against the skin below it; heights of the eye kept from it
BROW_DARKNESS, BROW_MARGIN_HEIGHTS = 0.7, 0.08
# heights of the eye: lower is its crease; heights looked at; parts of the eye, each with its own
BROW_SEARCH_START_HEIGHTS, BROW_STEPS, BROW_PARTS = 0.5, 28, 3


class UpperEyelid:
    """One eye's upper lid on a portrait.

    eye: `finder.Eye`, units of the crop.
    light: (S, S) brightness of a crop, by which brows are told; None takes skin for granted.
    Source: ours; a warp squeezes an eye to a smear, a lid covers it.
    """

    def __init__(self, eye: EyeContour, light: np.ndarray | None = None) -> None:
        self.x, self.upper, self.height = eye.x, eye.upper, eye.height
        open_by = eye.lower - eye.upper
        self.full = open_by + OVERLAP_HEIGHTS * eye.height * np.minimum(1, open_by / (0.4 * eye.height))
        self.skin_band = (
            np.full(len(eye.x), SKIN_BAND_HEIGHTS * eye.height) if light is None else measure_skin_band(eye, light)
        )

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(top, bottom, left, right) in units of the crop of all that it ever changes."""
        lowest = (self.upper + self.full).max() + 2 * RIM_HEIGHTS * self.height
        return float((self.upper - self.skin_band).min()), float(lowest), float(self.x[0]), float(self.x[-1])

    def compute_warp(self, share: float, at: np.ndarray, soft: float) -> tuple[np.ndarray, np.ndarray]:
        """Where the lid reads the portrait when it is lowered, (h, w) rows in units of the crop, and how far it covers
        what was there, (h, w).

        share: 0 as open as in the portrait, 1 shut.  at: (h, w, 2) places in units of the crop.  soft: width of its
        edge, same units.
        """
        x, y = at[..., 0], at[..., 1]
        upper, full, skin = (np.interp(x, self.x, track) for track in (self.upper, self.full, self.skin_band))
        down, lashes = share * full, np.minimum(LASH_HEIGHTS * self.height, LASH_BAND_SHARE * skin)
        stretched = np.clip((y - upper + skin) / (skin - lashes + down), 0, 1)
        edge = upper + down + RIM_HEIGHTS * self.height
        return y - down * stretched**STRETCH_EXPONENT, np.clip((edge - y) / soft + 0.5, 0, 1)


def measure_skin_band(eye: EyeContour, light: np.ndarray) -> np.ndarray:
    """How far above each column of an Eye skin goes on before the brow, (N,) in units of the crop.

    light: (S, S) brightness of a crop.
    Source: ours; going upward, the first that is much darker than the brightest skin so far.
    """
    open_at = np.flatnonzero(eye.lower - eye.upper > 0.3 * eye.height)
    above = np.linspace(BROW_SEARCH_START_HEIGHTS, SKIN_BAND_HEIGHTS + BROW_MARGIN_HEIGHTS, BROW_STEPS) * eye.height
    rows = (eye.upper[open_at] - above[:, None]) * len(light) - 0.5
    columns = np.broadcast_to(eye.x[open_at] * len(light) - 0.5, rows.shape)
    seen = cv2.remap(
        light.astype(np.float32),
        columns.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    bands, middles = [], []
    for part in np.array_split(np.arange(len(open_at)), BROW_PARTS):
        profile = seen[:, part].mean(1)
        dark = np.flatnonzero(profile < BROW_DARKNESS * np.maximum.accumulate(profile))
        bands.append((above[dark[0]] if len(dark) else above[-1]) - BROW_MARGIN_HEIGHTS * eye.height)
        middles.append(eye.x[open_at[part]].mean())
    return np.interp(eye.x, middles, np.clip(bands, SKIN_BAND_MIN_HEIGHTS * eye.height, SKIN_BAND_HEIGHTS * eye.height))


def draw_eyelid(
    frame: np.ndarray, lid: UpperEyelid, share: float, at: np.ndarray, portrait: np.ndarray, crop: Crop
) -> None:
    """Draws a lid over a part of a frame, in place.

    frame: (h, w, 3) uint8.  lid: Lid.  share: of `Lid.lowered`.
    at: (h, w, 2) float32 where the part reads the crop without the lid, in units of the crop.
    portrait: (H, W, 3) uint8.  crop: Crop of its face.
    """
    rows, cover = lid.compute_warp(share, at, 1.5 * crop.scale / crop.size_px)
    m = crop.frame_from_crop
    there = (np.stack([at[..., 0], rows], -1) * crop.size_px - 0.5) @ m[:, :2].T + m[:, 2]
    skin = cv2.remap(portrait, there.astype(np.float32), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    frame[:] = np.clip(frame + (skin.astype(np.float32) - frame) * cover[..., None] + 0.5, 0, 255).astype(np.uint8)
