"""Contact sheet of a video: frames and mouths above the waveform and the mouth's curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mouthpiece.engine.audio.voice_activity import detect_speech_activity
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import check_output_file
from mouthpiece.engine.media.images import write_image
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.evaluation.video_metrics import measure_video

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.evaluation.video_metrics import VideoMetrics

    Cell = tuple[np.ndarray, np.ndarray | None]

CELL_PX, GAP_PX, LEFT_MARGIN_PX, PLOT_PX, RULER_PX, HEADING_PX = 128, 4, 64, 120, 18, 24
STRIP_S, MAX_STRIPS, MAX_COLUMNS = 4.0, 6, 60
MOUTH_WIDTH_HEIGHTS = 0.42  # side of the mouth's cell in face heights
TICK_STEPS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)
PAPER_COLOUR, INK_COLOUR, FAINT_COLOUR = (255, 255, 255), (40, 40, 40), (205, 205, 205)
WAVE_COLOUR, SPEECH_COLOUR, OWN_COLOUR, OTHER_COLOUR = (150, 165, 190), (232, 243, 226), (196, 40, 40), (30, 100, 200)


@dataclass(frozen=True, eq=False)
class SheetClip:
    """A clip and the frames of it that are shown.

    cells: (frame uint8, mouth uint8 or None without a face), or None where the clip has ended.
    """

    clip: VideoMetrics
    cells: list[Cell | None]


def write_contact_sheet(
    video_path: Path,
    out_png: Path,
    against: Path | None = None,
    columns: int = 12,
    *,
    sound: Path | None = None,
    overwrite: bool = True,
) -> None:
    """Write a contact sheet of a talking video: each frame stands above its own moment of the sound; red is its mouth,
    blue the other's.

    video_path: the video.  out_png: picture to write.
    against: another clip of the same sound, or None.
    columns: frames in a strip, 1 to 60; a strip covers 4 s, or a sixth of the video when that is more.
    sound: recording to draw instead of the video's own, or None.
    overwrite: False refuses to replace a picture that is there.
    Raises InvalidInputError for what is no video, UsageError for columns or the name, OutputError for the disk.
    """
    if not 1 <= columns <= MAX_COLUMNS:
        raise UsageError(
            f"columns {columns}: need 1 to {MAX_COLUMNS}.", hint="12 are easy to look at.", code="bad_option"
        )
    inputs = [path for path in (video_path, against, sound) if path is not None]
    check_output_file(out_png, overwrite, inputs)
    clip = measure_video(video_path)
    strips = split_strips(clip.duration_s)
    moments = list_column_times(strips, columns)
    shown = [SheetClip(clip, pick_cells(clip, moments))]
    if against is not None:
        other = measure_video(against)
        shown.append(SheetClip(other, pick_cells(other, moments)))
    wave = _read_wave(video_path if sound is None else sound)
    write_image(out_png, draw_contact_sheet(shown, strips, columns, wave), overwrite, inputs)


def split_strips(duration_s: float) -> np.ndarray:
    """Return (N, 2) start and end of each strip in seconds; together they cover the clip, each as long as the others.

    duration_s: above 0.
    """
    count = min(MAX_STRIPS, max(1, math.ceil(duration_s / STRIP_S - 0.1)))
    edges = np.linspace(0, max(duration_s, 1e-3), count + 1)
    return np.c_[edges[:-1], edges[1:]]


def list_column_times(strips: np.ndarray, columns: int) -> np.ndarray:
    """Return (N * columns,) middles of the columns, seconds. Source: closed form."""
    share = (np.arange(columns) + 0.5) / columns
    return (strips[:, :1] + share * (strips[:, 1:] - strips[:, :1])).ravel()


def pick_cells(clip: VideoMetrics, moments: np.ndarray) -> list[Cell | None]:
    """Return one (frame, mouth) or None for each moment: the frame on screen then, small, and its mouth, large.

    clip: `Clip`.  moments: (M,) seconds, rising.
    One pass, only what is shown is kept.
    """
    wanted: dict[int, list[int]] = {}
    for column, moment in enumerate(moments):
        if moment < clip.duration_s:
            index = max(0, int(np.searchsorted(clip.times_s, moment + 1e-6, side="right")) - 1)
            wanted.setdefault(index, []).append(column)
    cells: list[Cell | None] = [None] * len(moments)
    with VideoReader(clip.path) as reader:
        for frame in reader:
            for column in wanted.get(frame.index, ()):
                cells[column] = (fit_cell(frame.pixels), crop_mouth(frame.pixels, clip, frame.index))
    return cells


def fit_cell(pixels: np.ndarray) -> np.ndarray:
    """Return the picture made to fit a cell whole, paper around it: uint8 (CELL_PX, CELL_PX, 3). pixels: uint8 (H, W,
    3).
    """
    h, w = pixels.shape[:2]
    scale = CELL_PX / max(h, w)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    cell = np.full((CELL_PX, CELL_PX, 3), PAPER_COLOUR, np.uint8)
    y, x = (CELL_PX - size[1]) // 2, (CELL_PX - size[0]) // 2
    cell[y : y + size[1], x : x + size[0]] = small
    return cell


def crop_mouth(pixels: np.ndarray, clip: VideoMetrics, index: int) -> np.ndarray | None:
    """Return the mouth of a frame, uint8 (CELL_PX, CELL_PX, 3), upright; None without a face."""
    points, height = clip.points[index], clip.measures.height_px[index]
    if not np.isfinite(height):
        return None
    centre, across = points[2:].mean(0), points[1] - points[0]
    scale = CELL_PX / (MOUTH_WIDTH_HEIGHTS * height)
    a, b = scale * across / max(np.hypot(*across), 1e-6)
    matrix = np.array([[a, b, 0], [-b, a, 0]])
    matrix[:, 2] = CELL_PX / 2 - matrix[:, :2] @ centre
    flags = cv2.INTER_CUBIC
    if scale < 0.6:
        pixels = cv2.GaussianBlur(pixels, (0, 0), 0.5 * (1 / scale - 1))
    return cv2.warpAffine(pixels, matrix, (CELL_PX, CELL_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _read_wave(path: Path) -> np.ndarray | None:
    try:
        return read_sound(path, RATE_HZ, mono=True).samples[0] if probe(path).has_audio else None
    except InvalidInputError:
        return None


def draw_contact_sheet(shown: list[SheetClip], strips: np.ndarray, columns: int, wave: np.ndarray | None) -> np.ndarray:
    """Return the sheet, uint8 (H, W, 3).

    shown: one or two `Shown`, the evaluated video first.  strips: (N, 2) seconds.  columns: cells in a strip.
    wave: (S,) at 16 kHz, or None.
    """
    rows = 1 + len(shown)
    strip_px = rows * (CELL_PX + GAP_PX) + PLOT_PX + RULER_PX + 3 * GAP_PX
    width = LEFT_MARGIN_PX + columns * (CELL_PX + GAP_PX)
    sheet = Image.new("RGB", (width, HEADING_PX + len(strips) * strip_px), PAPER_COLOUR)
    draw = ImageDraw.Draw(sheet)
    _draw_heading(draw, shown)
    activity = None if wave is None else detect_speech_activity(wave)
    top_opening = _find_max_opening(shown)
    peak = 0.0 if wave is None else float(np.abs(wave).max(initial=0))
    for number, span in enumerate(strips):
        top = HEADING_PX + number * strip_px
        _draw_cells(sheet, shown, slice(number * columns, (number + 1) * columns), top)
        box = (LEFT_MARGIN_PX, top + rows * (CELL_PX + GAP_PX), width - GAP_PX, 0)
        box = (*box[:3], box[1] + PLOT_PX)
        _draw_voice(draw, box, span, activity)
        _draw_wave(draw, box, span, wave, peak)
        for part, colour in list(zip(shown, (OWN_COLOUR, OTHER_COLOUR)))[::-1]:
            _draw_curve(draw, box, span, part.clip, (colour, top_opening))
        _draw_ruler(draw, box, span)
    return np.asarray(sheet)


def _load_font(size_px: int = 12) -> Any:
    return ImageFont.load_default(size_px)


def _draw_heading(draw: ImageDraw.ImageDraw, shown: list[SheetClip]) -> None:
    x: float = GAP_PX
    for part, colour, what in zip(shown, (OWN_COLOUR, OTHER_COLOUR), ("", "against ")):
        text = f"{what}{Path(part.clip.path).name}  {len(part.clip.times_s)} frames, {float(part.clip.rate):.5g} Hz"
        draw.text((x, 5), text, fill=colour, font=_load_font(13))
        x += draw.textlength(text, font=_load_font(13)) + 24
    legend = "curve: mouth opening   grey: sound   green: voice"
    left = draw.im.size[0] - draw.textlength(legend, font=_load_font(11)) - 2 * GAP_PX
    if left > x:
        draw.text((left, 7), legend, fill=INK_COLOUR, font=_load_font(11))


def _find_max_opening(shown: list[SheetClip]) -> float:
    """Return the opening drawn at full height, the same for both, so that their amplitudes can be compared."""
    openings = np.concatenate([part.clip.measures.opening for part in shown])
    known = openings[np.isfinite(openings)]
    return max(0.02, 1.05 * float(known.max())) if len(known) else 1.0


def _draw_cells(sheet: Image.Image, shown: list[SheetClip], columns: slice, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    labels = ["frame", "mouth", "other"]
    for row in range(1 + len(shown)):
        y = top + row * (CELL_PX + GAP_PX)
        draw.text(
            (GAP_PX, y + CELL_PX // 2 - 8),
            labels[row],
            fill=(INK_COLOUR, OWN_COLOUR, OTHER_COLOUR)[row],
            font=_load_font(),
        )
        for i, cell in enumerate(shown[max(0, row - 1)].cells[columns]):
            picture = None if cell is None else cell[min(row, 1)]
            x = LEFT_MARGIN_PX + i * (CELL_PX + GAP_PX)
            if picture is not None:
                sheet.paste(Image.fromarray(picture), (x, y))
                continue
            draw.rectangle((x, y, x + CELL_PX - 1, y + CELL_PX - 1), outline=FAINT_COLOUR)
            draw.text(
                (x + 8, y + CELL_PX // 2 - 8),
                "ended" if cell is None else "no face",
                fill=INK_COLOUR,
                font=_load_font(),
            )


def _get_x(time: np.ndarray | float, box: tuple[int, int, int, int], span: np.ndarray) -> np.ndarray | float:
    return box[0] + (np.asarray(time) - span[0]) / (span[1] - span[0]) * (box[2] - box[0])


def _draw_voice(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], span: np.ndarray, activity: np.ndarray | None
) -> None:
    """Tint the moments in which somebody speaks."""
    draw.rectangle(box, outline=FAINT_COLOUR)
    if activity is None:
        draw.text((box[0] + 8, box[1] + 4), "no sound", fill=INK_COLOUR, font=_load_font())
        return
    times = span[0] + (np.arange(box[2] - box[0]) + 0.5) / (box[2] - box[0]) * (span[1] - span[0])
    ticks = (times * float(ARTICULATION_HZ)).astype(int)
    for x, tick in enumerate(ticks):
        if tick < len(activity) and activity[tick] > 0.5:
            draw.line((box[0] + x, box[1] + 1, box[0] + x, box[3] - 1), fill=SPEECH_COLOUR)


def _draw_wave(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], span: np.ndarray, wave: np.ndarray | None, peak: float
) -> None:
    """Return the lowest and highest sample under each pixel, scaled to the loudest of the whole sound."""
    if wave is None or peak < 1e-5:
        return
    edges = np.round(np.linspace(span[0], span[1], box[2] - box[0] + 1) * RATE_HZ).astype(int)
    middle, half = (box[1] + box[3]) / 2, (box[3] - box[1]) / 2 - 2
    for x, (a, b) in enumerate(zip(edges[:-1], edges[1:])):
        part = wave[a : max(b, a + 1)]
        if len(part):
            ys = middle - half * np.array([part.max(), part.min()]) / peak
            draw.line((box[0] + x, ys[0], box[0] + x, ys[1]), fill=WAVE_COLOUR)


def _draw_curve(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    span: np.ndarray,
    clip: VideoMetrics,
    style: tuple[tuple[int, int, int], float],
) -> None:
    """Draw the mouth's opening against time, broken where no face is seen; more than a frame a pixel becomes a band."""
    colour, top = style
    times, opening = clip.times_s, clip.measures.opening
    inside = np.flatnonzero((times >= span[0] - 0.2) & (times <= span[1] + 0.2))
    x = np.asarray(_get_x(times, box, span))
    y = box[3] - 3 - (box[3] - box[1] - 6) * opening / top
    for a, b in zip(inside[:-1], inside[1:]):
        if np.isfinite(y[a]) and np.isfinite(y[b]) and x[b] >= box[0] and x[a] <= box[2]:
            ends = np.clip([x[a], x[b]], box[0], box[2])
            ys = np.interp(ends, [x[a], x[b]], [y[a], y[b]])
            draw.line((ends[0], ys[0], ends[1], ys[1]), fill=colour, width=2)


def _draw_ruler(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], span: np.ndarray) -> None:
    """Return times under the plot; as many as can be read."""
    fits = (box[2] - box[0]) / 60
    step = next((s for s in TICK_STEPS_S if (span[1] - span[0]) / s <= fits), TICK_STEPS_S[-1])
    for i in range(math.ceil(span[0] / step - 1e-6), math.floor(span[1] / step + 1e-6) + 1):
        x = float(_get_x(i * step, box, span))
        draw.line((x, box[3], x, box[3] + 4), fill=INK_COLOUR)
        text = f"{i * step:g} s"
        x = min(
            max(x - draw.textlength(text, font=_load_font(11)) / 2, 0),
            box[2] - draw.textlength(text, font=_load_font(11)),
        )
        draw.text((x, box[3] + 4), text, fill=INK_COLOUR, font=_load_font(11))
