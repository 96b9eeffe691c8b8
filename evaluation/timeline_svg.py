"""Draw the timeline of a dub for its page: slots of lines over waveforms, as SVG."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.reading import open_sound_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

POINTS_PER_S = 20  # of a waveform
WIDTH_PX = 1200  # of a picture
WAVE_PX = 44  # height of a waveform
LANE_PX = 26  # height of a row of slots
RULER_PX = 16  # height of the ruler
ROW_S = 30.0  # of the film in one picture
MIN_ROW_S = 5.0
MAX_ROWS = 120  # pictures; a longer film has more seconds in each
_CHARACTER_PX = 6.2  # mean width of a letter of a label
_MARGIN_PX = 4  # below the last lane


class _Row(NamedTuple):
    """Delimit the seconds of one picture. since_s: its start.  length_s: its length.  film_s: length of the film."""

    since_s: float
    length_s: float
    film_s: float

    def to_x(self, time_s: float) -> float:
        """Convert a second of the film to a column of the picture, in px; cut it to the picture."""
        return min(WIDTH_PX, max(0.0, (time_s - self.since_s) / self.length_s * WIDTH_PX))


def compute_waveform_peaks(sound: Sound | Path, points_per_s: int = POINTS_PER_S) -> np.ndarray:
    """Compute the lowest and highest value in each stretch of a sound, (N, 2) float32; constant memory for a file.

    sound: a Sound, or the path of a file with sound.
    Raises InvalidInputError for a file without sound.
    """
    if isinstance(sound, Sound):
        return _reduce_to_peaks(iter([sound.to_mono().samples]), sound.rate_hz, points_per_s)
    with open_sound_stream(sound, channels=1) as (rate_hz, blocks):
        return _reduce_to_peaks(blocks, rate_hz, points_per_s)


def _reduce_to_peaks(blocks: Iterable[np.ndarray], rate_hz: int, points_per_s: int) -> np.ndarray:
    size, remainder, peaks = max(1, rate_hz // points_per_s), np.zeros(0, np.float32), []
    for block in blocks:
        wave = np.concatenate([remainder, block[0]])
        whole = len(wave) // size
        pieces = wave[: whole * size].reshape(whole, size)
        peaks.append(np.stack([pieces.min(1), pieces.max(1)], 1) if whole else np.zeros((0, 2), np.float32))
        remainder = wave[whole * size :]
    if len(remainder):
        peaks.append(np.array([[remainder.min(), remainder.max()]], np.float32))
    return np.concatenate(peaks) if peaks else np.zeros((0, 2), np.float32)


def draw_timeline(lines: Sequence[Mapping[str, Any]], duration_s: float, waves: Mapping[str, np.ndarray]) -> str:
    """Draw what happens when as SVG pictures one after the other: a ruler, every wave, the slots of lines in lanes.

    lines: with id, start_s, end_s, text, status, and where they are known speaker and spoken_s (start, end).
    duration_s: of the film.
    waves: peaks of sounds by name, (N, 2) over the whole film.
    Pictures have 30 s each, more where there would be over 120; a shorter film has its own length, at least 5 s.
    """
    if duration_s > ROW_S:
        row_s = max(ROW_S, math.ceil(duration_s / MAX_ROWS / ROW_S) * ROW_S)
    else:
        row_s = max(MIN_ROW_S, float(math.ceil(duration_s)))
    timed = sorted((line for line in lines if line.get("start_s") is not None), key=lambda line: line["start_s"])
    lanes = _assign_lanes(timed)
    scales = {name: max(1e-3, float(np.abs(peaks).max(initial=0.0))) for name, peaks in waves.items()}
    pictures = []
    for number in range(max(1, math.ceil(duration_s / row_s))):
        row = _Row(number * row_s, row_s, duration_s)
        until_s = row.since_s + row_s
        shown = [
            line
            for line in timed
            if line["start_s"] < until_s and max(_get_line_end(line), line["start_s"] + 1e-6) > row.since_s
        ]
        parts = [_draw_ruler(row)]
        top = RULER_PX
        for name, peaks in waves.items():
            parts.append(_draw_wave(name, peaks, scales[name], row, top))
            top += WAVE_PX
        parts += [_draw_slot(line, row, top + lanes[line["id"]] * LANE_PX) for line in shown]
        height = top + LANE_PX * (1 + max((lanes[line["id"]] for line in shown), default=-1)) + _MARGIN_PX
        label = f"{format_time_label(row.since_s)} to {format_time_label(min(duration_s, until_s))}"
        body = "".join(parts)
        pictures.append(f'<svg viewBox="0 0 {WIDTH_PX} {height}" role="group" aria-label="{label}">{body}</svg>')
    return "\n".join(pictures)


def _get_line_end(line: Mapping[str, Any]) -> float:
    """Get the second at which the last of a line is over: its slot or its sound."""
    spoken = line.get("spoken_s")
    return max(line["end_s"], spoken[1] if spoken else line["end_s"])


def _assign_lanes(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Assign a lane to each line, by id, so that lines that overlap lie under each other."""
    free_from_s: list[float] = []
    lanes = {}
    for line in lines:
        until = max(_get_line_end(line), line["start_s"])
        free = (k for k, end in enumerate(free_from_s) if end <= line["start_s"] + 1e-9)
        lane = next(free, len(free_from_s))
        free_from_s[lane : lane + 1] = [until]
        lanes[line["id"]] = lane
    return lanes


def format_time_label(time_s: float) -> str:
    """Format minutes, seconds and tenths: "1:02.3", with hours where there are some."""
    tenths = round(time_s * 10)
    hours, minutes, seconds = tenths // 36000, tenths // 600 % 60, tenths % 600 / 10
    return f"{hours}:{minutes:02d}:{seconds:04.1f}" if hours else f"{minutes}:{seconds:04.1f}"


def _draw_ruler(row: _Row) -> str:
    step_s = row.length_s / 15 if row.length_s >= 15 else 1.0
    marks, k = [], 0
    while k * step_s <= row.length_s and row.since_s + k * step_s <= row.film_s + 1e-9:
        x = k * step_s / row.length_s * WIDTH_PX
        anchor = "start" if k == 0 else "end" if x > WIDTH_PX - 20 else "middle"
        label = f'<text x="{x:.1f}" y="10" text-anchor="{anchor}">{_format_tick(row.since_s + k * step_s)}</text>'
        marks.append(f'<path d="M{x:.1f} {RULER_PX - 4}v4" class="mark"/>{label}')
        k += 1
    return "".join(marks)


def _format_tick(time_s: float) -> str:
    whole = round(time_s)
    hours, minutes, seconds = whole // 3600, whole // 60, whole % 60
    return f"{hours}:{minutes % 60:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _draw_wave(name: str, peaks: np.ndarray, full_scale: float, row: _Row, top: int) -> str:
    """Draw one wave of a row as a closed line around its peaks. top: px."""
    rate = len(peaks) / row.film_s if row.film_s > 0 else 0.0
    first = math.floor(row.since_s * rate)
    last = min(len(peaks), math.ceil((row.since_s + row.length_s) * rate))
    middle, half = top + WAVE_PX / 2, WAVE_PX / 2 - 3
    body = ""
    if last > first:
        x = ((np.arange(first, last) + 0.5) / rate - row.since_s) / row.length_s * WIDTH_PX
        high = middle - peaks[first:last, 1] / full_scale * half
        low = middle - peaks[first:last, 0] / full_scale * half
        outline = [*zip(x, high), *zip(x[::-1], low[::-1])]
        body = f'<path d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in outline)}Z" class="wave"/>'
    end = min(WIDTH_PX, (row.film_s - row.since_s) / row.length_s * WIDTH_PX)
    line = f'<path d="M0 {middle:.1f}H{end:.1f}" class="zero"/>'
    return f'{line}{body}<text x="4" y="{top + 11}" class="name">{escape(name)}</text>'


def _draw_slot(line: Mapping[str, Any], row: _Row, top: int) -> str:
    """Draw a box for a slot, with its name and a bar where the line sounds; a click leads to the table. top: px."""
    y, left, right = top + 2, row.to_x(line["start_s"]), row.to_x(line["end_s"])
    width = max(1.5, right - left)
    spoken, bar = line.get("spoken_s"), ""
    if spoken and spoken[1] > row.since_s and spoken[0] < row.since_s + row.length_s:
        start, end = row.to_x(spoken[0]), row.to_x(spoken[1])
        bar = f'<rect x="{start:.1f}" y="{y + 16}" width="{max(1.0, end - start):.1f}" height="4" class="said"/>'
    speaker = f"{line['speaker']}: " if line.get("speaker") else ""
    status, words = line.get("status", ""), f"{speaker}{line.get('text', '')}"
    label = _truncate(f"{line['id']} {words}", width)
    tip = f"{line['id']} · {words}\n{line['start_s']:.3f} to {line['end_s']:.3f} s, {status}"
    place = f'x="{left:.1f}" y="{y}" width="{width:.1f}" height="15" rx="2"'
    box = f'<rect {place} class="slot {escape(status)}"/>'
    text = f'<text x="{left + 3:.1f}" y="{y + 11}" class="label">{escape(label)}</text>' if label else ""
    return f'<a href="#line-{escape(line["id"], quote=True)}"><title>{escape(tip)}</title>{box}{text}{bar}</a>'


def _truncate(text: str, width_px: float) -> str:
    """Truncate a text to what fits; "" where that is less than two characters."""
    text, most = " ".join(text.split()), int((width_px - 6) / _CHARACTER_PX)
    return text if len(text) <= most else text[: most - 1] + "…" if most >= 2 else ""
