"""A portrait in two layers: the person, who moves, and the background, which does not."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MATTE_MARGIN = 0.012  # units of the crop: how far beyond the matte the picture may still show the person
STRAND_GAP = 0.03  # units of the crop: gaps between strands that are closed, so that the outline mirrors smoothly
HEAD_REACH = 0.4  # units of the crop: how far the head may go
STRIP_PX = 1 << 16  # pixels composed at a time: they stay in the processor's cache, and a large picture needs no more
LARGEST_UPSAMPLED_PX = 1 << 20  # pixels of the largest window that is upsampled, which halves what cubic sampling loses
BACKGROUND_BLUR_DEPTH = 0.05  # units of the crop: depth behind the person over which the background loses its detail


@dataclass(frozen=True, eq=False)
class PortraitLayers:
    """Hold the part of a picture that moves, in layers: person + (1 - share) * background is the picture as it was.

    window: (rows, columns) slices of the picture.
    person: (h, w, 4) float32: 8-bit colours times share plus what the background cannot explain; share in [0, 1].
    Upsampled
    where upsampling is 2.
    background: (h, w, 3) uint8, inpainted behind the person.
    upsampling: pixels of the person for one of the background, 1 or 2.
    """

    window: tuple[slice, slice]
    person: np.ndarray
    background: np.ndarray
    upsampling: int = 1

    def compose(self, read: np.ndarray) -> np.ndarray:
        """Compose the window, (h, w, 3) uint8: the person sampled elsewhere before the still background.

        read: (h, w, 2) float32, where each pixel reads the window.
        """
        out = np.empty_like(self.background)
        step = max(1, STRIP_PX // read.shape[1])
        for top in range(0, len(read), step):
            rows = slice(top, top + step)
            moved = cv2.remap(  # type: ignore[call-overload]  # the stub lacks map2=None, which OpenCV documents as empty
                self.person,
                read[rows] * np.float32(self.upsampling),
                None,
                cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
            rest = cv2.cvtColor(1 - cv2.extractChannel(moved, 3), cv2.COLOR_GRAY2RGB)
            rest = cv2.multiply(self.background[rows], rest, dtype=cv2.CV_32F)
            cv2.add(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), rest, out[rows], dtype=cv2.CV_8U)
        return out


def separate_layers(
    pixels: np.ndarray, matte: np.ndarray, side_px: float, window: tuple[slice, slice]
) -> PortraitLayers | None:
    """Separate a picture into layers; None where the window shows no background or no person.

    pixels: (H, W, 3) uint8.  matte: (H, W) float32, share of the person.
    side_px: of the face's crop.
    window: (rows, columns) slices, the most that can move; what the person cannot reach is left out.
    """
    reach_px = round(HEAD_REACH * side_px)
    spans = []
    for whole, axis in zip(window, (1, 0)):
        where = np.flatnonzero((matte[window] > 0).any(axis))
        if not len(where):
            return None
        spans.append(
            slice(
                max(whole.start, whole.start + where[0] - reach_px),
                min(whole.stop, whole.start + where[-1] + 1 + reach_px),
            )
        )
    window = (spans[0], spans[1])
    view, share = pixels[window], matte[window]
    behind = inpaint_background(view, share > 0, side_px)
    if behind is None:
        return None
    person = np.empty((*share.shape, 4), np.float32)
    person[..., :3], person[..., 3] = view - (1 - share[..., None]) * behind, share
    fine = share.size <= LARGEST_UPSAMPLED_PX
    return PortraitLayers(window, upsample_twice(person) if fine else person, behind, 2 if fine else 1)


def upsample_twice(picture: np.ndarray) -> np.ndarray:
    """Upsample a picture (h, w, ...) to (2 h - 1, 2 w - 1, ...): every second pixel is kept, the others lie between.

    Source: Lanczos, four lobes.
    """
    h, w = picture.shape[:2]
    x, y = np.meshgrid(np.arange(2 * w - 1, dtype=np.float32) / 2, np.arange(2 * h - 1, dtype=np.float32) / 2)
    return cv2.remap(picture, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)


def inpaint_background(pixels: np.ndarray, hidden: np.ndarray, side_px: float) -> np.ndarray | None:
    """Inpaint the background of a picture, (H, W, 3) uint8, by mirroring it at the outline of what hides it.

    pixels: (H, W, 3) uint8.  hidden: (H, W) bool.  side_px: of the face's crop.
    Returns None when all is hidden.
    A mirror keeps grain and colours; with depth it is blurred, for there the mirrored outline has creases.
    """
    fringe, gap = (
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, round(part * side_px)) + 1,) * 2)
        for part in (MATTE_MARGIN, STRAND_GAP)
    )
    hidden = cv2.morphologyEx(cv2.dilate(hidden.astype(np.uint8), fringe), cv2.MORPH_CLOSE, gap)
    if hidden.all():
        return None
    depth_px, labels = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    rows, columns = np.nonzero(hidden == 0)
    place = np.zeros((labels.max() + 1, 2), np.float32)
    place[labels[rows, columns]] = np.stack([columns, rows], -1)
    nearest = place[labels]
    h, w = hidden.shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    mirror = 2 * nearest - np.stack([x, y], -1)
    mirror = np.clip(mirror, 0, [w - 1, h - 1]).astype(np.float32)
    beyond = cv2.remap(hidden, mirror, None, cv2.INTER_NEAREST)  # type: ignore[call-overload]  # as above
    visible = beyond == 0
    read = np.where(visible[..., None], mirror, nearest)
    sharp = cv2.remap(pixels, read, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]  # as above
    soft = cv2.GaussianBlur(sharp, (0, 0), max(1.0, 0.5 * BACKGROUND_BLUR_DEPTH * side_px))
    share = np.clip(depth_px / (BACKGROUND_BLUR_DEPTH * side_px), 0, 1)
    mixed = cv2.blendLinear(soft, sharp, share, 1 - share)
    return np.where(hidden[..., None] > 0, mixed, pixels)
