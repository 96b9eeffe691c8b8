"""Teeth: a plate that stands still on the skull and shows where the lips part; a portrait's own where it smiles, else one drawn here."""
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from face.composite import Paster
from lipsync.patch import PATCH, WORK_PX

# upper teeth from the middle to the side: width as seen from the front, height, in units of the crop (eyes 0.29 apart, 63 mm on most people)
TEETH = ((0.0385, 0.0440), (0.0295, 0.0400), (0.0285, 0.0430), (0.0215, 0.0370), (0.0165, 0.0340), (0.0115, 0.0310))
ARCH = 0.55                            # how much higher the biting edge lies to the side: units of the crop per unit squared
GUM = (172, 98, 96)
SHADE_SIDE, SHADE_GAP, SHADE_GUM = 0.45, 0.09, 0.10
DRAWN_PX = 1024                        # side of the crop that the drawing is made for
DRAWN = (0.14, 0.36)                   # height and width of the drawing, in units of the crop; the biting edge of the middle lies at 0.8 of the height
EDGE_AT = 0.8
EDGE_BELOW = 0.001                     # of the line where the lips meet
TONE, WHITE = np.array([[0.696, 0.691, 0.564], [68.0, 84.8, 100.0]]), np.array([218.0, 213.0, 198.0])
LIP_SHADE, OWN_SHADE, FLOOR_SHADE, SHADE_PX = 0.35, 0.12, 0.45, 1.5
SLIT_SHADE, SLIT_PX = (0.65, 0.35), 2.4   # drawn teeth, own ones
FILLED_FROM, LEAST_FILLED_PX = -1.0, 12   # logit of cover from which a pixel is filled with lip; fewer pixels of the working crop are left alone
LEAST_TEETH_PX, LEAST_COLOUR_PX = 150, 30   # of the working crop: to be used, to tell their colour
BEHIND_LIP, TOOTH_SHARE = 0.035, 0.35  # of the crop: how far teeth go on behind the upper lip, and how much of that is tooth
LEAST_SEEN, SEEN_SHARE, MOST_WARM = 0.95, 0.5, np.array([0.0, 30.0, 52.0])
LAMP_BLUE, SKIN_BLUE, LAMP_GREEN = (0.62, 0.52), 0.8, 0.35   # blue over green of cheeks: where a lamp is suspected, and sure; usual; green falls so much less than blue
SHARP_DETAIL, BLUR_A_DETAIL, MOST_BLUR = 0.8, 4.0, 1.6   # px
BAND, MOST_TURN = (0.14, 0.015), 0.35   # half length and softness of the line that tells where lips meet, units of the crop; radians


@dataclass(frozen=True)
class Placement:
    """Where the lips meet when shut: middle x, y in units of the crop, and how much the line turns clockwise, in radians. Source: ours."""

    x: float = 0.5
    y: float = 0.665
    turn: float = 0.0


def drawing(rng=None):
    """Upper teeth as float32 (H, W, 4): colours 0–255 for a white of 235, and cover in [0, 1].

    rng: numpy Generator of small irregularities; None draws regular teeth.
    Source: ours, drawn; sizes after Wheeler's averages of the human dentition.
    """
    draw = (lambda low, high: 0.5 * (low + high)) if rng is None else rng.uniform
    h, w = (round(s * DRAWN_PX) for s in DRAWN)
    y, x = np.mgrid[0:h, 0:w]
    x, y = (x + 0.5) / DRAWN_PX - DRAWN[1] / 2, (y + 0.5) / DRAWN_PX - EDGE_AT * DRAWN[0]
    size, arch = draw(0.86, 1.02), draw(0.6, 1.4) * ARCH
    cover, light = np.zeros((h, w)), np.zeros((h, w))
    for side in (-1, 1):
        start = 0.0
        for k, (width, height) in enumerate(TEETH):
            width, height = width * size * draw(0.96, 1.04), height * size * draw(0.94, 1.06)
            mid = side * (start + width / 2)
            edge = -arch * mid * mid - (0.0035 if k == 1 else 0.0) * size + draw(-0.0012, 0.0012)
            one, lit = _tooth(x - mid, y - edge, width, height)
            shade = 1 - SHADE_SIDE * (abs(mid) / (DRAWN[1] / 2)) ** 1.4
            light = np.where(one > cover, lit * shade * draw(0.97, 1.03), light)
            cover = np.maximum(cover, one)
            start += width
    top = -arch * x * x - TEETH[0][1] * size * 0.97
    arch_cover = np.clip((DRAWN[1] / 2 * 0.86 - abs(x)) / 0.02, 0, 1) * np.clip((y - top + 0.055) / 0.004, 0, 1) * np.clip(-(y + arch * x * x) / 0.004, 0, 1)
    behind = arch_cover * np.clip((-(y - top) - 0.002) / 0.004, 0, 1)          # gums above the teeth
    gaps = arch_cover * (1 - behind)                                            # between teeth it is dark, not open
    colour = np.array([240.0, 230.0, 210.0]) * light[..., None]
    side = (1 - SHADE_SIDE * np.clip(abs(x) / (DRAWN[1] / 2), 0, 1) ** 1.4)[..., None]
    under = behind[..., None] * np.array(GUM) * side + gaps[..., None] * np.array([150.0, 120.0, 106.0]) * side
    below = np.maximum(behind, gaps)
    rgb = colour * cover[..., None] + under * (1 - cover[..., None])
    alpha = cover + below * (1 - cover)
    rgb = np.where(alpha[..., None] > 1e-3, rgb / np.maximum(alpha, 1e-3)[..., None], 0)
    out = np.concatenate([rgb, alpha[..., None]], -1).astype(np.float32)
    return cv2.GaussianBlur(out, (0, 0), 0.7)


def _tooth(x, y, width, height):
    """(cover, light) of one tooth whose biting edge is the line y = 0 and whose middle is x = 0, in units of the crop."""
    narrow = 1 - 0.16 * np.clip(-y / height, 0, 1) ** 1.5                       # narrower at the neck
    half_w, half_h, round_ = width / 2 * narrow, height / 2, width * 0.24
    qx, qy = abs(x) - half_w + round_, abs(y + half_h) - half_h + round_
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - round_
    cover = np.clip(0.5 - outside / 0.0016, 0, 1)
    across, up = np.clip(abs(x) / half_w, 0, 1), np.clip(-y / height, 0, 1)
    light = 1 - SHADE_GAP * across ** 4 - SHADE_GUM * up ** 2 - 0.06 * np.clip(1 - up / 0.12, 0, 1)
    return cover, light


def placed(picture, placement, size_px):
    """A drawing on the mouth patch: float32 (h, w, 4), colours and cover, the patch of a crop of size_px a side.

    picture: of `drawing`.  placement: Placement, the middle's biting edge there.  size_px: a multiple of 12 keeps the patch's proportions.
    Source: area average by a blur before bilinear sampling.
    """
    grow = size_px / DRAWN_PX
    if grow < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.45 / grow)
    top, bottom, left, right = (round(v * size_px / WORK_PX) for v in PATCH)
    c, s = np.cos(placement.turn) * grow, np.sin(placement.turn) * grow
    at = np.array([placement.x * size_px - 0.5 - left, (placement.y + EDGE_BELOW) * size_px - 0.5 - top])
    origin = np.array([DRAWN[1] / 2 * DRAWN_PX - 0.5, EDGE_AT * DRAWN[0] * DRAWN_PX - 0.5])
    m = np.array([[c, -s, 0], [s, c, 0]], np.float64)
    m[:, 2] = at - m[:, :2] @ origin
    soft = np.dstack([picture[..., :3] * picture[..., 3:], picture[..., 3]])
    out = cv2.warpAffine(soft, m, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    out[..., :3] = np.where(out[..., 3:] > 1e-3, out[..., :3] / np.maximum(out[..., 3:], 1e-3), 0)
    return out


def laid_over(colours, teeth, inside, black=-1.0):
    """Colours (B, 3, h, w) of a mouth with teeth in it.

    colours: (B, 3, h, w) without.  teeth: (B, 5, h, w), colours in the same unit as those around, cover, and 1 where they are the portrait's own.
    inside: (B, 1, h, w) in [0, 1], the inner mouth on the patch.  black: in the colours' unit.
    Source: alpha blending.
    """
    share = teeth[:, 3:4] * parted(inside)
    return colours * (1 - share) + ((teeth[:, :3] - black) * lit(inside, teeth[:, 4:]) + black) * share


def parted(inside):
    """How far teeth show (...) in an inner mouth (...), both in [0, 1]: a line along which lips meet is half a mouth, and shows none.

    Source: ours; torch or numpy.
    """
    return (2 * inside - 1).clip(0, 1)


def lit(inside, own):
    """Light on the teeth (B, 1, h, w) in [0, 1]: the upper lip throws a shade on them, and little comes in between lips that hardly part;
    less so on teeth that were photographed with their shades.

    inside: (B, 1, h, w), the inner mouth on the patch of the working crop.  own: (B, 1, h, w), 1 for the portrait's own teeth.
    Source: ours; the inner mouth lowered by two pixels and blurred.
    """
    shade, slit = (drawn + (photographed - drawn) * own for drawn, photographed in ((LIP_SHADE, OWN_SHADE), SLIT_SHADE))
    return (1 - shade * (1 - _inward(inside, 2))) * (1 - slit * (1 - _inward(inside, 0, SLIT_PX)))


def floor_light(inside):
    """Light (B, 1, h, w) in [0, 1] on what is painted inside a mouth: the lower lip hides the floor beside it.

    inside: (B, 1, h, w), the inner mouth on the patch of the working crop.
    Source: ours; without it what is least certain, lower teeth in the shade, is a grey seam along the lip.
    """
    return 1 - FLOOR_SHADE * (1 - _inward(inside, -2))


def _inward(inside, rows, soft_px=None):
    """The inner mouth lowered by some rows and blurred: falls from 1 to 0 towards one of the lips."""
    kernel = torch.exp(-torch.arange(-4.0, 5.0, device=inside.device) ** 2 / (2 * (soft_px or SHADE_PX) ** 2))
    kernel = kernel / kernel.sum()
    x = F.pad(inside.float(), (4, 4, 4 + rows, 4 - rows))
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def lip_band(placement):
    """Where the lips meet, float32 (64, 112) in [0, 1]: a soft line on the patch. placement: Placement. Source: ours."""
    top, bottom, left, right = PATCH
    y, x = np.mgrid[top:bottom, left:right]
    x, y = (x + 0.5) / WORK_PX - placement.x, (y + 0.5) / WORK_PX - placement.y
    c, s = np.cos(placement.turn), np.sin(placement.turn)
    along, off = c * x + s * y, c * y - s * x
    return (np.exp(-((off / BAND[1]) ** 2)) * np.clip((BAND[0] - abs(along)) / 0.03, 0, 1)).astype(np.float32)


def found_line(band):
    """The Placement that a band (64, 112) as `lip_band` draws it speaks of; the usual one where there is none. Source: moments."""
    top, bottom, left, right = PATCH
    weight = np.clip(np.asarray(band, float) - 0.15, 0, None)
    total = weight.sum()
    if total < 20:
        return Placement()
    y, x = np.mgrid[top:bottom, left:right]
    x, y = (x + 0.5) / WORK_PX, (y + 0.5) / WORK_PX
    mx, my = (weight * x).sum() / total, (weight * y).sum() / total
    xx, xy = (weight * (x - mx) ** 2).sum() / total, (weight * (x - mx) * (y - my)).sum() / total
    turn = float(np.clip(np.arctan2(xy, max(xx, 1e-6)), -MOST_TURN, MOST_TURN))
    return Placement(float(np.clip(mx, 0.40, 0.60)), float(np.clip(my, 0.58, 0.76)), turn)


def cheeks(crop):
    """Mean colour of the cheeks (3,) of an aligned crop uint8 (S, S, 3), where they usually are. Source: ours."""
    n = len(crop)
    parts = [crop[int(0.52 * n) : int(0.62 * n), int(x * n) : int((x + 0.1) * n)].reshape(-1, 3) for x in (0.24, 0.66)]
    return np.concatenate(parts).astype(np.float32).mean(0)


def toned(teeth, skin, light=1.0, seen=None):
    """Teeth of `placed` in the light of a face: colours such as smiling portraits show beside such cheeks.

    teeth: (h, w, 4).  skin: (3,) of `cheeks`.  light: on top.  seen: (3,) colour of what shows of its own teeth, followed
    half-way, and brightened where it lies in the shade; None asks the cheeks alone. Teeth are at most MOST_WARM yellow, whatever the skin,
    but for lamps that make it bluer by less than any skin is.
    Source: straight lines through 335 smiling portraits.
    """
    tone = TONE[0] * np.asarray(skin) + TONE[1]
    if seen is not None:
        bright = np.asarray(seen) * max(1.0, LEAST_SEEN * tone.mean() / max(float(np.mean(seen)), 1.0))
        tone = SEEN_SHARE * bright + (1 - SEEN_SHARE) * tone
    tone = np.maximum(tone, tone[0] - MOST_WARM) * lamp(skin) / WHITE * light
    return np.concatenate([np.clip(teeth[..., :3] * tone, 0, 255), teeth[..., 3:]], -1).astype(np.float32)


def lamp(skin):
    """Colour (3,) that a warm lamp gives to what is white, red 1; white unless cheeks (3,) have less blue to their green than skin has.

    Source: ours; of 520 portraits in daylight 3 % have less than 0.6, of films under a yellow lamp all have 0.40 to 0.46.
    """
    blue = float(skin[2]) / max(float(skin[1]), 1.0)
    share = np.clip((LAMP_BLUE[0] - blue) / (LAMP_BLUE[0] - LAMP_BLUE[1]), 0, 1)
    cast = 1 - share * (1 - min(1.0, blue / SKIN_BLUE))
    return np.array([1.0, cast**LAMP_GREEN, cast])


def _colour(taken, cover):
    """Mean colour (3,) of the teeth that a working crop shows a little of, or None."""
    top, bottom, left, right = PATCH
    sure = cover > 0.5
    return taken[top:bottom, left:right][sure].astype(np.float32).mean(0) if sure.sum() >= LEAST_COLOUR_PX else None


def drawn_teeth(placement, crop, size_px=WORK_PX, picture=None, light=1.0, *, seen=None):
    """Drawn teeth for a face, float32 (h, w, 5): colours 0–255, cover, and 0 for not its own.

    placement: Placement.  crop: (S, S, 3) uint8, whose cheeks tell the light.  size_px: as for `placed`.  picture: of `drawing`; None is the usual one.
    light: on top.  seen: (3,) colour of what shows of its own teeth; None takes what is usual beside such cheeks.
    Source: ours.
    """
    teeth = toned(placed(usual() if picture is None else picture, placement, size_px), cheeks(crop), light, seen)
    return np.concatenate([teeth, np.zeros_like(teeth[..., :1])], -1)


@cache
def usual():
    """The regular `drawing`, made once a process; not to be written to."""
    return drawing()


def own_teeth(patch, cover):
    """A portrait's own teeth, float32 (h, w, 5), for `laid_over`.

    patch: (h, w, 3) uint8, its mouth.  cover: (h, w) in [0, 1], where teeth show.
    Source: ours.
    """
    return np.concatenate([patch.astype(np.float32), cover[..., None], np.ones_like(cover)[..., None]], -1).astype(np.float32)


def enough(cover):
    """Whether a portrait shows enough of its teeth to use them: cover (64, 112) in [0, 1]. Source: ours, about three pixels high."""
    return bool((cover > 0.5).sum() >= LEAST_TEETH_PX)


def teeth_of(taken, logits, large=None):
    """Teeth of a portrait for the mouth patch, float32 (h, w, 5): its own where it shows enough of them, else drawn where its lips meet.

    taken: (192, 192, 3) uint8, its working crop.  logits: (2, 64, 112) of `Renderer.survey`.
    large: (S, S, 3) uint8, the same crop at a size that is a multiple of 24; None is `taken`.
    Source: ours.
    """
    large = taken if large is None else large
    cover, band = (1 / (1 + np.exp(-np.asarray(x, np.float64))) for x in logits)
    if not enough(cover):
        return softened(drawn_teeth(found_line(band), taken, len(large), seen=_colour(taken, cover)), blur_of(large))
    top, bottom, left, right = (round(v * len(large) / WORK_PX) for v in PATCH)
    cover = cv2.resize(cover.astype(np.float32), (right - left, bottom - top), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return continued(own_teeth(large[top:bottom, left:right], cover), round(BEHIND_LIP * len(large)))


def without_teeth(pixels, crop, logits):
    """A picture (H, W, 3) uint8 whose own teeth are filled with the lips around them: what a warp leaves between lips that meet is lip then.

    pixels: (H, W, 3) uint8, returned itself where it shows no teeth.  crop: Crop of its face, WORK_PX.  logits: (2, 64, 112) of `Renderer.survey`.
    Source: inpainting by fast marching (Telea 2004) in the working crop; the teeth come back on their plate.
    """
    top, bottom, left, right = PATCH
    mask = np.zeros((WORK_PX, WORK_PX), np.uint8)
    mask[top:bottom, left:right] = np.asarray(logits[0]) > FILLED_FROM
    row, column = np.nonzero(mask)
    at = crop.to_frame(np.c_[column, row])
    beside = ((at < 0) | (at > np.array(pixels.shape[1::-1]) - 1)).any(1)       # where the picture ends its border goes on
    mask[row[beside], column[beside]] = 0
    if mask.sum() < LEAST_FILLED_PX:
        return pixels
    mask = cv2.dilate(mask, np.ones((3, 3), np.uint8))
    filled = cv2.inpaint(np.ascontiguousarray(crop.take(pixels)), mask, 4, cv2.INPAINT_TELEA)
    return Paster(pixels.shape, crop, cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)).paste(pixels, filled)


def continued(teeth, rows):
    """Teeth (h, w, 5) carried on upward by some rows, as far as a lip may rise above where it was photographed; column by column, then gum.

    Source: ours; otherwise it would be dark between lip and teeth.
    """
    out, sure = teeth.copy(), teeth[..., 3] > 0.6
    shown = sure.any(0)
    top = np.where(shown, sure.argmax(0), 0)
    inner = np.minimum(top + max(1, rows // 6), len(teeth) - 1)         # below the edge, which is half lip
    row, column = np.mgrid[0 : len(teeth), 0 : teeth.shape[1]]
    above = (row < inner) & (row >= top - rows) & shown & sure[inner, np.arange(len(inner))]
    source = teeth[inner, np.arange(len(inner))]                        # (w, 5)
    height = (inner - row) / max(rows, 1)
    gum = (np.clip((height - TOOTH_SHARE) / 0.2, 0, 1) * np.ones(teeth.shape[:2]))[..., None]
    colours = source[column][..., :3]
    colours = (1 - gum) * colours + gum * np.array(GUM) * (colours.mean(-1, keepdims=True) / 220)
    out[above, :3] = (colours * (1 - 0.15 * np.clip(height, 0, 1))[..., None])[above]
    out[above, 3] = 1.0
    out[..., 3] = np.maximum(teeth[..., 3], cv2.GaussianBlur(out[..., 3], (0, 0), max(0.5, rows / 10)) * above)
    return out


def blur_of(crop):
    """How blurred a picture is, deviation in pixels of what makes drawn teeth as soft: 0 for a sharp photograph.

    crop: (S, S, 3) uint8, aligned, at about the picture's own resolution.
    Source: ours; the finest detail of eyes and nose against the next coarser, in portraits 0.6-1.2, in small films 0.5-0.6.
    """
    n = len(crop)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[int(0.22 * n) : int(0.6 * n), int(0.2 * n) : int(0.8 * n)].astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), s) for s in (1.0, 2.5))
    detail = float(np.abs(grey - fine).mean() / max(np.abs(fine - coarse).mean(), 1e-3))
    return float(np.clip(BLUR_A_DETAIL * (SHARP_DETAIL - detail), 0, MOST_BLUR))


def softened(teeth, blur_px):
    """Teeth (h, w, 5) blurred by a deviation in pixels, colours under their cover. Source: ours."""
    if blur_px < 0.1:
        return teeth
    soft = cv2.GaussianBlur(np.dstack([teeth[..., :3] * teeth[..., 3:4], teeth[..., 3]]), (0, 0), blur_px)
    colours = np.where(soft[..., 3:] > 1e-3, soft[..., :3] / np.maximum(soft[..., 3:], 1e-3), teeth[..., :3])
    return np.concatenate([colours, soft[..., 3:], teeth[..., 4:]], -1).astype(np.float32)


def as_tensor(teeth):
    """Teeth (h, w, 5) as the renderer takes them: (5, h, w) float32, colours in [-1, 1]. Source: ours."""
    out = torch.from_numpy(np.ascontiguousarray(teeth, np.float32)).permute(2, 0, 1).clone()
    out[:3] = out[:3] / 127.5 - 1
    return out
