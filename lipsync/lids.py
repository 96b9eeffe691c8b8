"""Shut lids: the upper lid slides down over an eye that stays where it is, and hides it."""
import cv2
import numpy as np

BAND = 1.25                            # heights of the eye above it whose skin stretches; the brow lies higher
LASHES = 0.38                          # heights of the eye, the lid's edge with its lashes, that move without stretching
BENT = 1.25                            # skin stretches most right above the lashes, hardly below the brow
RIM, OVER = 0.05, 0.06                 # heights of the eye: how much of the lid's rim goes along, and how far it comes over the lower lid


class Lid:
    """One eye's upper lid on a portrait.

    eye: `finder.Eye`, units of the crop.
    Source: ours; a warp squeezes an eye to a smear, a lid covers it.
    """

    def __init__(self, eye):
        self.x, self.upper, self.height = eye.x, eye.upper, eye.height
        open_by = eye.lower - eye.upper
        self.full = open_by + OVER * eye.height * np.minimum(1, open_by / (0.4 * eye.height))

    @property
    def box(self):
        """(top, bottom, left, right) in units of the crop of all that it ever changes. Source: ours."""
        lowest = (self.upper + self.full).max() + 2 * RIM * self.height
        return float(self.upper.min() - BAND * self.height), float(lowest), float(self.x[0]), float(self.x[-1])

    def lowered(self, share, at, soft):
        """Where the lid reads the portrait when it is lowered, (h, w) rows in units of the crop, and how far it covers what was there, (h, w).

        share: 0 as open as in the portrait, 1 shut.  at: (h, w, 2) places in units of the crop.  soft: width of its edge, same units.
        Source: ours.
        """
        x, y = at[..., 0], at[..., 1]
        upper, down = np.interp(x, self.x, self.upper), share * np.interp(x, self.x, self.full)
        skin = BAND * self.height
        stretched = np.clip((y - upper + skin) / (skin - LASHES * self.height + down), 0, 1)
        edge = upper + down + RIM * self.height
        return y - down * stretched**BENT, np.clip((edge - y) / soft + 0.5, 0, 1)


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
