"""Shut lids: the upper lid slides down over an eye that stays where it is, and hides it."""
import cv2
import numpy as np

BAND, LEAST_BAND = 1.25, 0.85          # heights of the eye above it whose skin stretches, unless a brow is nearer; at the least
LASHES, OF_BAND = 0.38, 0.4            # heights of the eye, and no more than this of the band: the lid's edge with its lashes does not stretch
BENT = 1.25                            # skin stretches most right above the lashes, hardly below the brow
RIM, OVER = 0.05, 0.06                 # heights of the eye: how much of the lid's rim goes along, and how far it comes over the lower lid
BROW_DARK, BROW_AWAY = 0.7, 0.08       # a brow is this dark against the skin below it; heights of the eye kept from it
BROW_FROM, BROW_STEPS, BROW_PARTS = 0.5, 28, 3   # heights of the eye: lower is its crease; heights looked at; parts of the eye, each with its own


class Lid:
    """One eye's upper lid on a portrait.

    eye: `finder.Eye`, units of the crop.
    light: (S, S) brightness of a crop, by which brows are told; None takes skin for granted.
    Source: ours; a warp squeezes an eye to a smear, a lid covers it.
    """

    def __init__(self, eye, light=None):
        self.x, self.upper, self.height = eye.x, eye.upper, eye.height
        open_by = eye.lower - eye.upper
        self.full = open_by + OVER * eye.height * np.minimum(1, open_by / (0.4 * eye.height))
        self.band = np.full(len(eye.x), BAND * eye.height) if light is None else band_below_brow(eye, light)

    @property
    def box(self):
        """(top, bottom, left, right) in units of the crop of all that it ever changes. Source: ours."""
        lowest = (self.upper + self.full).max() + 2 * RIM * self.height
        return float((self.upper - self.band).min()), float(lowest), float(self.x[0]), float(self.x[-1])

    def lowered(self, share, at, soft):
        """Where the lid reads the portrait when it is lowered, (h, w) rows in units of the crop, and how far it covers what was there, (h, w).

        share: 0 as open as in the portrait, 1 shut.  at: (h, w, 2) places in units of the crop.  soft: width of its edge, same units.
        Source: ours.
        """
        x, y = at[..., 0], at[..., 1]
        upper, full, skin = (np.interp(x, self.x, track) for track in (self.upper, self.full, self.band))
        down, lashes = share * full, np.minimum(LASHES * self.height, OF_BAND * skin)
        stretched = np.clip((y - upper + skin) / (skin - lashes + down), 0, 1)
        edge = upper + down + RIM * self.height
        return y - down * stretched**BENT, np.clip((edge - y) / soft + 0.5, 0, 1)


def band_below_brow(eye, light):
    """How far above each column of an Eye skin goes on before the brow, (N,) in units of the crop.

    light: (S, S) brightness of a crop.
    Source: ours; going upward, the first that is much darker than the brightest skin so far.
    """
    open_at = np.flatnonzero(eye.lower - eye.upper > 0.3 * eye.height)
    above = np.linspace(BROW_FROM, BAND + BROW_AWAY, BROW_STEPS) * eye.height
    rows = (eye.upper[open_at] - above[:, None]) * len(light) - 0.5
    columns = np.broadcast_to(eye.x[open_at] * len(light) - 0.5, rows.shape)
    seen = cv2.remap(light.astype(np.float32), columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    bands, middles = [], []
    for part in np.array_split(np.arange(len(open_at)), BROW_PARTS):
        profile = seen[:, part].mean(1)
        dark = np.flatnonzero(profile < BROW_DARK * np.maximum.accumulate(profile))
        bands.append((above[dark[0]] if len(dark) else above[-1]) - BROW_AWAY * eye.height)
        middles.append(eye.x[open_at[part]].mean())
    return np.interp(eye.x, middles, np.clip(bands, LEAST_BAND * eye.height, BAND * eye.height))


def drawn(frame, lid, share, at, portrait, crop):
    """Draws a lid over a part of a frame, in place.

    frame: (h, w, 3) uint8.  lid: Lid.  share: of `Lid.lowered`.
    at: (h, w, 2) float32 where the part reads the crop without the lid, in units of the crop.
    portrait: (H, W, 3) uint8.  crop: Crop of its face.
    Source: ours.
    """
    rows, cover = lid.lowered(share, at, 1.5 * crop.scale / crop.size_px)
    m = crop.frame_from_crop
    there = (np.stack([at[..., 0], rows], -1) * crop.size_px - 0.5) @ m[:, :2].T + m[:, 2]
    skin = cv2.remap(portrait, there.astype(np.float32), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    frame[:] = np.clip(frame + (skin.astype(np.float32) - frame) * cover[..., None] + 0.5, 0, 255).astype(np.uint8)
