"""Teeth: a plate that stands still on the skull and shows where the lips part; a portrait's own where it smiles, else
one drawn here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.face.composite import CropCompositor
from mouthpiece.lipsync.portrait.mouth_patch import MOUTH_PATCH, WORK_PX

if TYPE_CHECKING:
    from mouthpiece.face.crop import Crop

# upper teeth from the middle to the side: width as seen from the front, height, in units of the crop (eyes 0.29 apart,
# 63 mm on most people)
TOOTH_SIZES = (
    (0.0385, 0.0440),
    (0.0295, 0.0400),
    (0.0285, 0.0430),
    (0.0215, 0.0370),
    (0.0165, 0.0340),
    (0.0115, 0.0310),
)
# how much higher the biting edge lies to the side: units of the crop per unit squared
ARCH_CURVATURE = 0.55
GUM_COLOUR = (172, 98, 96)
SHADE_SIDE, SHADE_GAP, SHADE_GUM = 0.45, 0.09, 0.10
DRAWING_CROP_PX = 1024  # side of the crop that the drawing is made for
# height and width of the drawing, in units of the crop; the biting edge of the middle lies at 0.8 of the height
DRAWING_SIZE = (0.14, 0.36)
BITING_EDGE_SHARE = 0.8
BITING_EDGE_OFFSET = 0.001  # of the line where the lips meet
TONE_FIT, DRAWN_WHITE = np.array([[0.696, 0.691, 0.564], [68.0, 84.8, 100.0]]), np.array([218.0, 213.0, 198.0])
LIP_SHADE, PHOTO_SHADE, FLOOR_SHADE, SHADE_PX = 0.35, 0.12, 0.45, 1.5
SLIT_SHADE, SLIT_PX = (0.65, 0.35), 2.4  # drawn teeth, own ones
# logit of cover from which a pixel is filled with lip; fewer pixels of the working crop are left alone
INPAINT_LOGIT, SMALLEST_INPAINT_PX = -1.0, 12
SMALLEST_TEETH_PX, SMALLEST_COLOUR_PX = 150, 30  # of the working crop: to be used, to tell their colour
# of the crop: how far teeth go on behind the upper lip, and how much of that is tooth
LIP_OVERLAP, TOOTH_SHARE = 0.035, 0.35
OBSERVED_MIN_BRIGHTNESS, OBSERVED_SHARE, LARGEST_YELLOWNESS = 0.95, 0.5, np.array([0.0, 30.0, 52.0])
# blue over green of cheeks: where a lamp is suspected, and sure; usual; green falls so much less than blue
ILLUMINANT_BLUE, SKIN_BLUE, ILLUMINANT_GREEN = (0.62, 0.52), 0.8, 0.35
SHARP_DETAIL, BLUR_PER_DETAIL, LARGEST_BLUR_PX = 0.8, 4.0, 1.6  # px
# half length and softness of the line that tells where lips meet, units of the crop; radians
LIP_BAND_SIZE, LARGEST_TILT_RAD = (0.14, 0.015), 0.35


@dataclass(frozen=True, eq=False)
class MouthLogits:
    """Hold what a network finds in the mouth patch of a picture, as logits (64, 112).

    teeth: of the picture's own teeth.  lip_band: of the line along which the lips meet, as `draw_lip_band` draws it.
    """

    teeth: np.ndarray
    lip_band: np.ndarray

    @property
    def teeth_cover(self) -> np.ndarray:
        """Compute where own teeth show, (64, 112) float64 in [0, 1]."""
        return _sigmoid(self.teeth)

    @property
    def lip_band_cover(self) -> np.ndarray:
        """Compute where the lips meet, (64, 112) float64 in [0, 1]."""
        return _sigmoid(self.lip_band)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


@dataclass(frozen=True)
class LipLine:
    """Where the lips meet when shut: middle x, y in units of the crop, and how much the line turns clockwise, in
    radians.
    """

    x: float = 0.5
    y: float = 0.665
    tilt_rad: float = 0.0


def draw_dentition(rng: np.random.Generator | None = None) -> np.ndarray:
    """Upper teeth as float32 (H, W, 4): colours 0–255 for a white of 235, and cover in [0, 1].

    rng: numpy Generator of small irregularities; None draws regular teeth.
    Source: ours, drawn; sizes after Wheeler's averages of the human dentition.
    """
    draw = (lambda low, high: 0.5 * (low + high)) if rng is None else rng.uniform
    h, w = (round(s * DRAWING_CROP_PX) for s in DRAWING_SIZE)
    y, x = np.mgrid[0:h, 0:w]
    x, y = (
        (x + 0.5) / DRAWING_CROP_PX - DRAWING_SIZE[1] / 2,
        (y + 0.5) / DRAWING_CROP_PX - BITING_EDGE_SHARE * DRAWING_SIZE[0],
    )
    size, arch = draw(0.86, 1.02), draw(0.6, 1.4) * ARCH_CURVATURE
    cover, light = np.zeros((h, w)), np.zeros((h, w))
    for side in (-1, 1):
        start = 0.0
        for k, (width, height) in enumerate(TOOTH_SIZES):
            width, height = width * size * draw(0.96, 1.04), height * size * draw(0.94, 1.06)
            mid = side * (start + width / 2)
            edge = -arch * mid * mid - (0.0035 if k == 1 else 0.0) * size + draw(-0.0012, 0.0012)
            one, lit = _draw_tooth(x - mid, y - edge, width, height)
            shade = 1 - SHADE_SIDE * (abs(mid) / (DRAWING_SIZE[1] / 2)) ** 1.4
            light = np.where(one > cover, lit * shade * draw(0.97, 1.03), light)
            cover = np.maximum(cover, one)
            start += width
    top = -arch * x * x - TOOTH_SIZES[0][1] * size * 0.97
    arch_cover = (
        np.clip((DRAWING_SIZE[1] / 2 * 0.86 - abs(x)) / 0.02, 0, 1)
        * np.clip((y - top + 0.055) / 0.004, 0, 1)
        * np.clip(-(y + arch * x * x) / 0.004, 0, 1)
    )
    behind = arch_cover * np.clip((-(y - top) - 0.002) / 0.004, 0, 1)  # gums above the teeth
    gaps = arch_cover * (1 - behind)  # between teeth it is dark, not open
    colour = np.array([240.0, 230.0, 210.0]) * light[..., None]
    side = (1 - SHADE_SIDE * np.clip(abs(x) / (DRAWING_SIZE[1] / 2), 0, 1) ** 1.4)[..., None]
    under = behind[..., None] * np.array(GUM_COLOUR) * side + gaps[..., None] * np.array([150.0, 120.0, 106.0]) * side
    below = np.maximum(behind, gaps)
    rgb = colour * cover[..., None] + under * (1 - cover[..., None])
    alpha = cover + below * (1 - cover)
    rgb = np.where(alpha[..., None] > 1e-3, rgb / np.maximum(alpha, 1e-3)[..., None], 0)
    out = np.concatenate([rgb, alpha[..., None]], -1).astype(np.float32)
    return cv2.GaussianBlur(out, (0, 0), 0.7)


def _draw_tooth(x: np.ndarray, y: np.ndarray, width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """(cover, light) of one tooth whose biting edge is the line y = 0 and whose middle is x = 0, in units of the crop."""
    narrow = 1 - 0.16 * np.clip(-y / height, 0, 1) ** 1.5  # narrower at the neck
    half_w, half_h, round_ = width / 2 * narrow, height / 2, width * 0.24
    qx, qy = abs(x) - half_w + round_, abs(y + half_h) - half_h + round_
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - round_
    cover = np.clip(0.5 - outside / 0.0016, 0, 1)
    across, up = np.clip(abs(x) / half_w, 0, 1), np.clip(-y / height, 0, 1)
    light = 1 - SHADE_GAP * across**4 - SHADE_GUM * up**2 - 0.06 * np.clip(1 - up / 0.12, 0, 1)
    return cover, light


def place_on_patch(picture: np.ndarray, placement: LipLine, size_px: int) -> np.ndarray:
    """A drawing on the mouth patch: float32 (h, w, 4), colours and cover, the patch of a crop of size_px a side.

    picture: of `drawing`.  placement: Placement, the middle's biting edge there.  size_px: a multiple of 12 keeps the
    patch's proportions.
    Source: area average by a blur before bilinear sampling.
    """
    grow = size_px / DRAWING_CROP_PX
    if grow < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.45 / grow)
    top, bottom, left, right = (round(v * size_px / WORK_PX) for v in MOUTH_PATCH)
    c, s = np.cos(placement.tilt_rad) * grow, np.sin(placement.tilt_rad) * grow
    at = np.array([placement.x * size_px - 0.5 - left, (placement.y + BITING_EDGE_OFFSET) * size_px - 0.5 - top])
    origin = np.array(
        [DRAWING_SIZE[1] / 2 * DRAWING_CROP_PX - 0.5, BITING_EDGE_SHARE * DRAWING_SIZE[0] * DRAWING_CROP_PX - 0.5]
    )
    m = np.array([[c, -s, 0], [s, c, 0]], np.float64)
    m[:, 2] = at - m[:, :2] @ origin
    soft = np.dstack([picture[..., :3] * picture[..., 3:], picture[..., 3]])
    out = cv2.warpAffine(soft, m, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    out[..., :3] = np.where(out[..., 3:] > 1e-3, out[..., :3] / np.maximum(out[..., 3:], 1e-3), 0)
    return out


def alpha_composite(
    colours: torch.Tensor, teeth: torch.Tensor, inside: torch.Tensor, black: float = -1.0
) -> torch.Tensor:
    """Colours (B, 3, h, w) of a mouth with teeth in it.

    colours: (B, 3, h, w) without.  teeth: (B, 5, h, w), colours in the same unit as those around, cover, and 1 where
    they are the portrait's own.
    inside: (B, 1, h, w) in [0, 1], the inner mouth on the patch.  black: in the colours' unit.
    Source: alpha blending.
    """
    share = teeth[:, 3:4] * visibility(inside)
    return colours * (1 - share) + ((teeth[:, :3] - black) * shading(inside, teeth[:, 4:]) + black) * share


def visibility(inside: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """How far teeth show (...) in an inner mouth (...), both in [0, 1]: a line along which lips meet is half a mouth,
    and shows none.

    Source: ours; torch or numpy.
    """
    return (2 * inside - 1).clip(0, 1)


def shading(inside: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Light on the teeth (B, 1, h, w) in [0, 1]: the upper lip throws a shade on them, and little comes in between lips
    that hardly part;
    less so on teeth that were photographed with their shades.

    inside: (B, 1, h, w), the inner mouth on the patch of the working crop.  own: (B, 1, h, w), 1 for the portrait's own
    teeth.
    Source: ours; the inner mouth lowered by two pixels and blurred.
    """
    shade, slit = (
        drawn + (photographed - drawn) * own for drawn, photographed in ((LIP_SHADE, PHOTO_SHADE), SLIT_SHADE)
    )
    return (1 - shade * (1 - _blur_inner_mouth(inside, 2))) * (1 - slit * (1 - _blur_inner_mouth(inside, 0, SLIT_PX)))


def compute_floor_shading(inside: torch.Tensor) -> torch.Tensor:
    """Light (B, 1, h, w) in [0, 1] on what is painted inside a mouth: the lower lip hides the floor beside it.

    inside: (B, 1, h, w), the inner mouth on the patch of the working crop.
    Source: ours; without it what is least certain, lower teeth in the shade, is a grey seam along the lip.
    """
    return 1 - FLOOR_SHADE * (1 - _blur_inner_mouth(inside, -2))


def _blur_inner_mouth(inside: torch.Tensor, rows: int, soft_px: float | None = None) -> torch.Tensor:
    """The inner mouth lowered by some rows and blurred: falls from 1 to 0 towards one of the lips."""
    kernel = torch.exp(-(torch.arange(-4.0, 5.0, device=inside.device) ** 2) / (2 * (soft_px or SHADE_PX) ** 2))
    kernel = kernel / kernel.sum()
    x = F.pad(inside.float(), (4, 4, 4 + rows, 4 - rows))
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def draw_lip_band(placement: LipLine) -> np.ndarray:
    """Where the lips meet, float32 (64, 112) in [0, 1]: a soft line on the patch. placement: Placement."""
    top, bottom, left, right = MOUTH_PATCH
    y, x = np.mgrid[top:bottom, left:right]
    x, y = (x + 0.5) / WORK_PX - placement.x, (y + 0.5) / WORK_PX - placement.y
    c, s = np.cos(placement.tilt_rad), np.sin(placement.tilt_rad)
    along, off = c * x + s * y, c * y - s * x
    return (np.exp(-((off / LIP_BAND_SIZE[1]) ** 2)) * np.clip((LIP_BAND_SIZE[0] - abs(along)) / 0.03, 0, 1)).astype(
        np.float32
    )


def estimate_lip_line(band: np.ndarray) -> LipLine:
    """The Placement that a band (64, 112) as `lip_band` draws it speaks of; the usual one where there is none. Source:
    moments.
    """
    top, bottom, left, right = MOUTH_PATCH
    weight = np.clip(np.asarray(band, float) - 0.15, 0, None)
    total = weight.sum()
    if total < 20:
        return LipLine()
    y, x = np.mgrid[top:bottom, left:right]
    x, y = (x + 0.5) / WORK_PX, (y + 0.5) / WORK_PX
    mx, my = (weight * x).sum() / total, (weight * y).sum() / total
    xx, xy = (weight * (x - mx) ** 2).sum() / total, (weight * (x - mx) * (y - my)).sum() / total
    turn = float(np.clip(np.arctan2(xy, max(xx, 1e-6)), -LARGEST_TILT_RAD, LARGEST_TILT_RAD))
    return LipLine(float(np.clip(mx, 0.40, 0.60)), float(np.clip(my, 0.58, 0.76)), turn)


def measure_cheek_colour(crop: np.ndarray) -> np.ndarray:
    """Mean colour of the cheeks (3,) of an aligned crop uint8 (S, S, 3), where they usually are."""
    n = len(crop)
    parts = [crop[int(0.52 * n) : int(0.62 * n), int(x * n) : int((x + 0.1) * n)].reshape(-1, 3) for x in (0.24, 0.66)]
    return np.concatenate(parts).astype(np.float32).mean(0)


def match_tone(
    teeth: np.ndarray, skin: np.ndarray | tuple[int, int, int], light: float = 1.0, seen: np.ndarray | None = None
) -> np.ndarray:
    """Teeth of `placed` in the light of a face: colours such as smiling portraits show beside such cheeks.

    teeth: (h, w, 4).  skin: (3,) of `cheeks`.  light: on top.  seen: (3,) colour of what shows of its own teeth,
    followed
    half-way, and brightened where it lies in the shade; None asks the cheeks alone. Teeth are at most MOST_WARM yellow,
    whatever the skin,
    but for lamps that make it bluer by less than any skin is.
    Source: straight lines through 335 smiling portraits.
    """
    tone = TONE_FIT[0] * np.asarray(skin) + TONE_FIT[1]
    if seen is not None:
        bright = np.asarray(seen) * max(1.0, OBSERVED_MIN_BRIGHTNESS * tone.mean() / max(float(np.mean(seen)), 1.0))
        tone = OBSERVED_SHARE * bright + (1 - OBSERVED_SHARE) * tone
    tone = np.maximum(tone, tone[0] - LARGEST_YELLOWNESS) * estimate_illuminant(skin) / DRAWN_WHITE * light
    return np.concatenate([np.clip(teeth[..., :3] * tone, 0, 255), teeth[..., 3:]], -1).astype(np.float32)


def estimate_illuminant(skin: np.ndarray | tuple[int, int, int]) -> np.ndarray:
    """Colour (3,) that a warm lamp gives to what is white, red 1; white unless cheeks (3,) have less blue to their
    green than skin has.

    Source: ours; of 520 portraits in daylight 3 % have less than 0.6, of films under a yellow lamp all have 0.40 to
    0.46.
    """
    blue = float(skin[2]) / max(float(skin[1]), 1.0)
    share = np.clip((ILLUMINANT_BLUE[0] - blue) / (ILLUMINANT_BLUE[0] - ILLUMINANT_BLUE[1]), 0, 1)
    cast = 1 - share * (1 - min(1.0, blue / SKIN_BLUE))
    return np.array([1.0, cast**ILLUMINANT_GREEN, cast])


def _measure_tooth_colour(taken: np.ndarray, cover: np.ndarray) -> np.ndarray | None:
    """Mean colour (3,) of the teeth that a working crop shows a little of, or None."""
    top, bottom, left, right = MOUTH_PATCH
    sure = cover > 0.5
    return taken[top:bottom, left:right][sure].astype(np.float32).mean(0) if sure.sum() >= SMALLEST_COLOUR_PX else None


def draw_teeth(
    placement: LipLine,
    crop: np.ndarray,
    size_px: int = WORK_PX,
    picture=None,
    light: float = 1.0,
    *,
    seen: np.ndarray | None = None,
) -> np.ndarray:
    """Drawn teeth for a face, float32 (h, w, 5): colours 0–255, cover, and 0 for not its own.

    placement: Placement.  crop: (S, S, 3) uint8, whose cheeks tell the light.  size_px: as for `placed`.  picture: of
    `drawing`; None is the usual one.
    light: on top.  seen: (3,) colour of what shows of its own teeth; None takes what is usual beside such cheeks.
    """
    teeth = match_tone(
        place_on_patch(default_teeth() if picture is None else picture, placement, size_px),
        measure_cheek_colour(crop),
        light,
        seen,
    )
    return np.concatenate([teeth, np.zeros_like(teeth[..., :1])], -1)


@cache
def default_teeth() -> np.ndarray:
    """The regular `drawing`, made once a process; not to be written to."""
    return draw_dentition()


def extract_own_teeth(patch: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """A portrait's own teeth, float32 (h, w, 5), for `laid_over`.

    patch: (h, w, 3) uint8, its mouth.  cover: (h, w) in [0, 1], where teeth show.
    """
    return np.concatenate([patch.astype(np.float32), cover[..., None], np.ones_like(cover)[..., None]], -1).astype(
        np.float32
    )


def shows_enough_teeth(cover: np.ndarray) -> bool:
    """Whether a portrait shows enough of its teeth to use them: cover (64, 112) in [0, 1]. Source: ours, about three
    pixels high.
    """
    return bool((cover > 0.5).sum() >= SMALLEST_TEETH_PX)


def build_teeth(taken: np.ndarray, mouth: MouthLogits, large: np.ndarray | None = None) -> np.ndarray:
    """Teeth of a portrait for the mouth patch, float32 (h, w, 5): its own where it shows enough of them, else drawn
    where its lips meet.

    taken: (192, 192, 3) uint8, its working crop.  mouth: of the same crop.
    large: (S, S, 3) uint8, the same crop at a size that is a multiple of 24; None is `taken`.
    """
    large = taken if large is None else large
    cover = mouth.teeth_cover
    if not shows_enough_teeth(cover):
        return blur_teeth(
            draw_teeth(
                estimate_lip_line(mouth.lip_band_cover), taken, len(large), seen=_measure_tooth_colour(taken, cover)
            ),
            estimate_blur(large),
        )
    top, bottom, left, right = (round(v * len(large) / WORK_PX) for v in MOUTH_PATCH)
    cover = cv2.resize(cover.astype(np.float32), (right - left, bottom - top), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return extend_upward(extract_own_teeth(large[top:bottom, left:right], cover), round(LIP_OVERLAP * len(large)))


def inpaint_teeth(pixels: np.ndarray, crop: Crop, mouth: MouthLogits) -> np.ndarray:
    """A picture (H, W, 3) uint8 whose own teeth are filled with the lips around them: what a warp leaves between lips
    that meet is lip then.

    pixels: (H, W, 3) uint8, returned itself where it shows no teeth.  crop: Crop of its face, WORK_PX.  mouth: of that crop.
    Source: inpainting by fast marching (Telea 2004) in the working crop; the teeth come back on their plate.
    """
    top, bottom, left, right = MOUTH_PATCH
    mask = np.zeros((WORK_PX, WORK_PX), np.uint8)
    mask[top:bottom, left:right] = mouth.teeth > INPAINT_LOGIT
    row, column = np.nonzero(mask)
    at = crop.to_frame(np.c_[column, row])
    # where the picture ends its border goes on
    beside = ((at < 0) | (at > np.array(pixels.shape[1::-1]) - 1)).any(1)
    mask[row[beside], column[beside]] = 0
    if mask.sum() < SMALLEST_INPAINT_PX:
        return pixels
    mask = cv2.dilate(mask, np.ones((3, 3), np.uint8))
    filled = cv2.inpaint(np.ascontiguousarray(crop.extract(pixels)), mask, 4, cv2.INPAINT_TELEA)
    return CropCompositor(pixels.shape, crop, cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)).paste(
        pixels, filled
    )


def extend_upward(teeth: np.ndarray, rows: int) -> np.ndarray:
    """Teeth (h, w, 5) carried on upward by some rows, as far as a lip may rise above where it was photographed; column
    by column, then gum.

    Source: ours; otherwise it would be dark between lip and teeth.
    """
    out, sure = teeth.copy(), teeth[..., 3] > 0.6
    shown = sure.any(0)
    top = np.where(shown, sure.argmax(0), 0)
    inner = np.minimum(top + max(1, rows // 6), len(teeth) - 1)  # below the edge, which is half lip
    row, column = np.mgrid[0 : len(teeth), 0 : teeth.shape[1]]
    above = (row < inner) & (row >= top - rows) & shown & sure[inner, np.arange(len(inner))]
    source = teeth[inner, np.arange(len(inner))]  # (w, 5)
    height = (inner - row) / max(rows, 1)
    gum = (np.clip((height - TOOTH_SHARE) / 0.2, 0, 1) * np.ones(teeth.shape[:2]))[..., None]
    colours = source[column][..., :3]
    colours = (1 - gum) * colours + gum * np.array(GUM_COLOUR) * (colours.mean(-1, keepdims=True) / 220)
    out[above, :3] = (colours * (1 - 0.15 * np.clip(height, 0, 1))[..., None])[above]
    out[above, 3] = 1.0
    out[..., 3] = np.maximum(teeth[..., 3], cv2.GaussianBlur(out[..., 3], (0, 0), max(0.5, rows / 10)) * above)
    return out


def estimate_blur(crop: np.ndarray) -> float:
    """How blurred a picture is, deviation in pixels of what makes drawn teeth as soft: 0 for a sharp photograph.

    crop: (S, S, 3) uint8, aligned, at about the picture's own resolution.
    Source: ours; the finest detail of eyes and nose against the next coarser, in portraits 0.6-1.2, in small films
    0.5-0.6.
    """
    n = len(crop)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[int(0.22 * n) : int(0.6 * n), int(0.2 * n) : int(0.8 * n)].astype(
        np.float32
    )
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), s) for s in (1.0, 2.5))
    detail = float(np.abs(grey - fine).mean() / max(np.abs(fine - coarse).mean(), 1e-3))
    return float(np.clip(BLUR_PER_DETAIL * (SHARP_DETAIL - detail), 0, LARGEST_BLUR_PX))


def blur_teeth(teeth: np.ndarray, blur_px: float) -> np.ndarray:
    """Teeth (h, w, 5) blurred by a deviation in pixels, colours under their cover."""
    if blur_px < 0.1:
        return teeth
    soft = cv2.GaussianBlur(np.dstack([teeth[..., :3] * teeth[..., 3:4], teeth[..., 3]]), (0, 0), blur_px)
    colours = np.where(soft[..., 3:] > 1e-3, soft[..., :3] / np.maximum(soft[..., 3:], 1e-3), teeth[..., :3])
    return np.concatenate([colours, soft[..., 3:], teeth[..., 4:]], -1).astype(np.float32)


def to_teeth_tensor(teeth: np.ndarray) -> torch.Tensor:
    """Teeth (h, w, 5) as the renderer takes them: (5, h, w) float32, colours in [-1, 1]."""
    out = torch.from_numpy(np.ascontiguousarray(teeth, np.float32)).permute(2, 0, 1).clone()
    out[:3] = out[:3] / 127.5 - 1
    return out
