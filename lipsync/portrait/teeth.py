"""Upper teeth of a face: they stand still on the skull and show where the lips part. A portrait's own where it smiles,
else drawn ones in the light of the face.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from mouthpiece.face.composite import CropCompositor
from mouthpiece.lipsync.portrait.dentition import GUM_COLOUR, default_teeth, place_on_patch
from mouthpiece.lipsync.portrait.lip_line import estimate_lip_line
from mouthpiece.lipsync.portrait.mouth_patch import MOUTH_PATCH, WORK_PX

if TYPE_CHECKING:
    from mouthpiece.face.crop import Crop
    from mouthpiece.lipsync.portrait.lip_line import LipLine, MouthLogits

# straight line from the colour of cheeks to that of teeth, 8-bit RGB; fitted to 335 smiling portraits
TONE_SLOPE = np.array([0.696, 0.691, 0.564])
TONE_OFFSET = np.array([68.0, 84.8, 100.0])
DRAWN_WHITE = np.array([218.0, 213.0, 198.0])  # mean colour of the drawing's teeth, 8-bit RGB
OBSERVED_MIN_BRIGHTNESS = 0.95  # darker observed teeth are brightened to this share of the fitted tone
OBSERVED_SHARE = 0.5  # share of an observed colour in the tone, beside the fitted one
LARGEST_YELLOWNESS = np.array([0.0, 30.0, 52.0])  # how far green and blue of the tone may lie below red, 8-bit steps
ILLUMINANT_BLUE = (0.62, 0.52)  # blue over green of cheeks at which a warm lamp is suspected, and certain
SKIN_BLUE = 0.8  # blue over green of cheeks in daylight
ILLUMINANT_GREEN = 0.35  # exponent with which the green of a warm lamp follows its blue
CHEEK_ROWS = (0.52, 0.62)  # of the cheeks in an aligned crop, units of the crop
CHEEK_COLUMNS = (0.24, 0.66)  # first columns of both cheeks
CHEEK_WIDTH = 0.1  # units of the crop
INPAINT_LOGIT = -1.0  # of teeth, from which a pixel is filled with lip
SMALLEST_INPAINT_PX = 12  # pixels of the working crop; fewer are left as they are
INPAINT_RADIUS_PX = 4  # of the working crop
SMALLEST_TEETH_PX = 150  # pixels of the working crop that show teeth, from which a portrait's own are used
SMALLEST_COLOUR_PX = 30  # pixels that show teeth, from which their colour is measured
LIP_OVERLAP = 0.035  # how far teeth are extended behind the upper lip, units of the crop
TOOTH_SHARE = 0.35  # share of that which is tooth; beyond is gum
SHARP_DETAIL = 0.8  # detail of a picture, as `estimate_blur` measures it, from which it counts as sharp
BLUR_PER_DETAIL = 4.0  # px of blur for a unit of missing detail
LARGEST_BLUR_PX = 1.6  # deviation, px


def measure_cheek_colour(crop: np.ndarray) -> np.ndarray:
    """Measure the mean colour (3,) of the cheeks in an aligned crop, (S, S, 3) uint8."""
    n = len(crop)
    top, bottom = (int(row * n) for row in CHEEK_ROWS)
    cheeks = [crop[top:bottom, int(x * n) : int((x + CHEEK_WIDTH) * n)].reshape(-1, 3) for x in CHEEK_COLUMNS]
    return np.concatenate(cheeks).astype(np.float32).mean(0)


def match_tone(
    teeth: np.ndarray, skin: np.ndarray | tuple[int, int, int], light: float = 1.0, observed: np.ndarray | None = None
) -> np.ndarray:
    """Colour drawn teeth (h, w, 4) for the light of a face, as smiling portraits show them beside such cheeks.

    skin: (3,) colour of the cheeks.  light: factor on top.
    observed: (3,) colour of what shows of the face's own teeth: followed half-way, and brightened where it lies in the
    shade; None: the cheeks alone decide.
    Teeth are at most LARGEST_YELLOWNESS yellow, except under a warm lamp.
    """
    tone = TONE_SLOPE * np.asarray(skin) + TONE_OFFSET
    if observed is not None:
        bright = np.asarray(observed) * max(
            1.0, OBSERVED_MIN_BRIGHTNESS * tone.mean() / max(float(np.mean(observed)), 1.0)
        )
        tone = OBSERVED_SHARE * bright + (1 - OBSERVED_SHARE) * tone
    tone = np.maximum(tone, tone[0] - LARGEST_YELLOWNESS) * estimate_illuminant(skin) / DRAWN_WHITE * light
    return np.concatenate([np.clip(teeth[..., :3] * tone, 0, 255), teeth[..., 3:]], -1).astype(np.float32)


def estimate_illuminant(skin: np.ndarray | tuple[int, int, int]) -> np.ndarray:
    """Estimate the colour (3,) of the light from cheeks (3,), red 1: white unless their blue over green is below that
    of skin.

    Of 520 portraits in daylight 3 % have less than 0.6; films under a yellow lamp have 0.40 to 0.46.
    """
    blue = float(skin[2]) / max(float(skin[1]), 1.0)
    share = np.clip((ILLUMINANT_BLUE[0] - blue) / (ILLUMINANT_BLUE[0] - ILLUMINANT_BLUE[1]), 0, 1)
    cast = 1 - share * (1 - min(1.0, blue / SKIN_BLUE))
    return np.array([1.0, cast**ILLUMINANT_GREEN, cast])


def _measure_tooth_colour(taken: np.ndarray, cover: np.ndarray) -> np.ndarray | None:
    """Measure the mean colour (3,) of the teeth that a working crop shows; None where it shows too few.

    cover: (64, 112) of its teeth.
    """
    top, bottom, left, right = MOUTH_PATCH
    sure = cover > 0.5
    return taken[top:bottom, left:right][sure].astype(np.float32).mean(0) if sure.sum() >= SMALLEST_COLOUR_PX else None


def draw_teeth(
    line: LipLine,
    crop: np.ndarray,
    size_px: int = WORK_PX,
    picture: np.ndarray | None = None,
    light: float = 1.0,
    *,
    observed: np.ndarray | None = None,
) -> np.ndarray:
    """Draw teeth for a face, (h, w, 5) float32: 8-bit colours, cover, and 0 for "not its own".

    line: where the lips meet.  crop: (S, S, 3) uint8, whose cheeks tell the light.
    size_px: side of the crop whose mouth patch is drawn.
    picture: as `draw_dentition` makes it; None: regular teeth.
    light, observed: as for `match_tone`.
    """
    teeth = match_tone(
        place_on_patch(default_teeth() if picture is None else picture, line, size_px),
        measure_cheek_colour(crop),
        light,
        observed,
    )
    return np.concatenate([teeth, np.zeros_like(teeth[..., :1])], -1)


def extract_own_teeth(patch: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Extract the teeth of a portrait, (h, w, 5) float32: colours, cover, and 1 for "its own".

    patch: (h, w, 3) uint8, its mouth.  cover: (h, w) in [0, 1], where teeth show.
    """
    return np.concatenate([patch.astype(np.float32), cover[..., None], np.ones_like(cover)[..., None]], -1).astype(
        np.float32
    )


def shows_enough_teeth(cover: np.ndarray) -> bool:
    """Tell whether a cover (64, 112) in [0, 1] shows enough teeth to use them: about three pixels high."""
    return bool((cover > 0.5).sum() >= SMALLEST_TEETH_PX)


def build_teeth(taken: np.ndarray, mouth: MouthLogits, large: np.ndarray | None = None) -> np.ndarray:
    """Build the teeth of a face for the mouth patch, (h, w, 5) float32: its own where enough show, else drawn ones.

    taken: (192, 192, 3) uint8, its working crop.  mouth: what was found in that crop.
    large: (S, S, 3) uint8, the same crop at a size that is a multiple of 24; None: `taken`.
    """
    large = taken if large is None else large
    cover = mouth.teeth_cover
    if not shows_enough_teeth(cover):
        return blur_teeth(
            draw_teeth(
                estimate_lip_line(mouth.lip_band_cover), taken, len(large), observed=_measure_tooth_colour(taken, cover)
            ),
            estimate_blur(large),
        )
    top, bottom, left, right = (round(v * len(large) / WORK_PX) for v in MOUTH_PATCH)
    cover = cv2.resize(cover.astype(np.float32), (right - left, bottom - top), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return extend_upward(extract_own_teeth(large[top:bottom, left:right], cover), round(LIP_OVERLAP * len(large)))


def inpaint_teeth(pixels: np.ndarray, crop: Crop, mouth: MouthLogits) -> np.ndarray:
    """Fill a picture's own teeth with the lips around them, so that a warp leaves lip between lips that meet.

    pixels: (H, W, 3) uint8, returned itself where it shows no teeth.
    crop: of its face, WORK_PX.  mouth: what was found in that crop.
    Source: inpainting by fast marching, Telea 2004.
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
    dilated = cv2.dilate(mask, np.ones((3, 3), np.uint8))
    filled = cv2.inpaint(np.ascontiguousarray(crop.extract(pixels)), dilated, INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)
    return CropCompositor(pixels.shape, crop, cv2.GaussianBlur(dilated.astype(np.float32), (0, 0), 0.7)).paste(
        pixels, filled
    )


def extend_upward(teeth: np.ndarray, rows: int) -> np.ndarray:
    """Extend teeth (h, w, 5) upward by some rows, behind a lip that may rise: column by column, then gum.

    Otherwise it would be dark between lip and teeth.
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
    """Estimate how blurred a picture is: the deviation in px that makes drawn teeth as soft, 0 for a sharp photograph.

    crop: (S, S, 3) uint8, aligned, at about the picture's own resolution.
    The finest detail of eyes and nose is compared with the next coarser; their ratio is 0.6 to 1.2 in portraits, 0.5 to
    0.6
    in small films.
    """
    n = len(crop)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[int(0.22 * n) : int(0.6 * n), int(0.2 * n) : int(0.8 * n)].astype(
        np.float32
    )
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), s) for s in (1.0, 2.5))
    detail = float(np.abs(grey - fine).mean() / max(np.abs(fine - coarse).mean(), 1e-3))
    return float(np.clip(BLUR_PER_DETAIL * (SHARP_DETAIL - detail), 0, LARGEST_BLUR_PX))


def blur_teeth(teeth: np.ndarray, blur_px: float) -> np.ndarray:
    """Blur teeth (h, w, 5) by a deviation in px, colours weighted by their cover."""
    if blur_px < 0.1:
        return teeth
    soft = cv2.GaussianBlur(np.dstack([teeth[..., :3] * teeth[..., 3:4], teeth[..., 3]]), (0, 0), blur_px)
    colours = np.where(soft[..., 3:] > 1e-3, soft[..., :3] / np.maximum(soft[..., 3:], 1e-3), teeth[..., :3])
    return np.concatenate([colours, soft[..., 3:], teeth[..., 4:]], -1).astype(np.float32)


def to_teeth_tensor(teeth: np.ndarray) -> torch.Tensor:
    """Convert teeth (h, w, 5) to what the renderer takes: (5, h, w) float32, colours in [-1, 1]."""
    out = torch.from_numpy(np.ascontiguousarray(teeth, np.float32)).permute(2, 0, 1).clone()
    out[:3] = out[:3] / 127.5 - 1
    return out
