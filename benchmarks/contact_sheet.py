"""Contact sheets made for looking: each portrait beside the moments at which a rendering shows its faults, mouths at
their own pixels below.
"""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mouthpiece.engine.media.images import read_image, write_image
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.evaluation.video_metrics import measure_video

CELL_PX, DETAIL_PX, GAP_PX, TEXT_PX = 200, 132, 4, 18
ROWS_PER_PAGE = 5
# the strip of both eyes that is compared, width and height; its width over their distance
EYES_PX, EYES_WIDTH_RATIO = (96, 24), 1.7
BLINK_FRAMES = 6
MOMENTS = ("widest", "p b m", "vowel", "silence", "blink", "head")
BACKGROUND_RGB, TEXT_RGB = (255, 255, 255), (30, 30, 30)


def find_moments(clip, spans, silent):
    """{moment: frame} of a rendering, for those of MOMENTS that it has.

    clip: mouthpiece.evaluation.video_metrics.VideoMetrics.  spans: utterance.Spans.  silent: (T,) bool.
    """
    m, found = clip.measures, {}
    if not m.present.any():
        return found
    opening = np.where(m.present, m.opening, np.nan)
    found["widest"] = int(np.nanargmax(opening))
    if len(spans.shut):
        a, b = spans.shut[len(spans.shut) // 2]
        found["p b m"] = _find_frame(clip, (a + b) / 2)
    if len(spans.vowels):
        a, b = max(spans.vowels, key=lambda s: s[1] - s[0])
        found["vowel"] = _find_frame(clip, (a + b) / 2)
    quiet = np.flatnonzero(silent & m.present)
    if len(quiet):
        found["silence"] = int(quiet[len(quiet) // 2])
    found["blink"] = find_blink_frame(clip)
    turn = sum(np.abs(v - np.nanmedian(v)) for v in (m.yaw_deg, m.pitch_deg, m.roll_deg))
    found["head"] = int(np.nanargmax(np.where(m.present, turn, np.nan)))
    return found


def find_blink_frame(clip):
    """The frame whose eyes look least like they usually do: a blink, however well or badly the lids are drawn.

    clip: mouthpiece.evaluation.video_metrics.VideoMetrics with a face in it.
    Mean difference of the aligned strips from those a blink earlier and later.
    """
    strips, frames = [], []
    with VideoReader(clip.path) as reader:
        for frame in reader:
            left, right = clip.points[frame.index][:2]
            if not np.isfinite([left, right]).all():
                continue
            across = (right - left) * EYES_WIDTH_RATIO / 2
            down = np.array([-across[1], across[0]]) * EYES_PX[1] / EYES_PX[0]
            middle = (left + right) / 2
            corners = np.array([middle - across - down, middle + across - down, middle - across + down], np.float32)
            to = np.array([[0, 0], [EYES_PX[0], 0], [0, EYES_PX[1]]], np.float32)
            grey = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY)
            strips.append(cv2.warpAffine(grey, cv2.getAffineTransform(corners, to), EYES_PX).astype(np.float32))
            frames.append(frame.index)
    strips = np.array(strips)
    about = np.arange(len(strips))
    earlier, later = (strips[np.clip(about + step, 0, len(strips) - 1)] for step in (-BLINK_FRAMES, BLINK_FRAMES))
    change = np.minimum(np.abs(strips - earlier).mean((1, 2)), np.abs(strips - later).mean((1, 2)))
    return frames[int(np.argmax(change))]


def _find_frame(clip, time_s):
    return int(np.clip(np.searchsorted(clip.times_s, time_s, side="right") - 1, 0, len(clip.times_s) - 1))


def write_contact_pages(rows, path):
    """Writes one page of up to ON_PAGE rows: the portrait and MOMENTS, whole pictures, and below each its mouth (of a
    blink the eyes).

    rows: (name, film, portrait, {moment: frame}, line of text) each.  path: PNG.
    """
    wide = (CELL_PX + GAP_PX) * (1 + len(MOMENTS)) + GAP_PX
    tall = TEXT_PX + CELL_PX + DETAIL_PX + 3 * GAP_PX
    page = Image.new("RGB", (wide, tall * len(rows)), BACKGROUND_RGB)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for k, (name, film, portrait, moments, text) in enumerate(rows):
        top = k * tall
        draw.text((GAP_PX, top + 1), f"{name}   {text}", fill=TEXT_RGB, font=font)
        clip = measure_video(film)
        usual = np.nanmedian(clip.points, 0)
        pictures = {"portrait": (read_image(portrait).pixels, usual)} | _read_moments(clip, moments)
        for column, what in enumerate(("portrait", *MOMENTS)):
            x = GAP_PX + column * (CELL_PX + GAP_PX)
            if what not in pictures:
                draw.text((x + 6, top + TEXT_PX + 80), f"no {what}", fill=TEXT_RGB, font=font)
                continue
            pixels, points = pictures[what]
            page.paste(_shrink(pixels), (x, top + TEXT_PX))
            points = np.where(np.isfinite(points), points, usual)
            if np.isfinite(points).all():
                middle = (points[:2] if what == "blink" else points[2:]).mean(0)
                page.paste(_crop_detail(pixels, middle), (x, top + TEXT_PX + CELL_PX + GAP_PX))
            draw.text(
                (x + 4, top + TEXT_PX + 2), what, fill=(255, 255, 0), stroke_fill=(0, 0, 0), stroke_width=1, font=font
            )
    write_image(path, np.asarray(page), overwrite=True)


def _read_moments(clip, moments):
    wanted, found = {}, {}
    for what, index in moments.items():
        wanted.setdefault(index, []).append(what)
    with VideoReader(clip.path) as reader:
        for frame in reader:
            for what in wanted.get(frame.index, ()):
                found[what] = (frame.pixels, clip.points[frame.index])
    return found


def _shrink(pixels):
    image = Image.fromarray(pixels)
    image.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
    return image


def _crop_detail(pixels, middle):
    """CELL_PX by CLOSE_PX of the picture's own pixels about a place."""
    x, y = np.round(middle - [CELL_PX / 2, DETAIL_PX / 2]).astype(int)
    h, w = pixels.shape[:2]
    x, y = int(np.clip(x, 0, max(0, w - CELL_PX))), int(np.clip(y, 0, max(0, h - DETAIL_PX)))
    return Image.fromarray(np.ascontiguousarray(pixels[y : y + DETAIL_PX, x : x + CELL_PX]))
