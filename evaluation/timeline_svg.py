"""Drawings of a dub for its page: slots of lines over waveforms, as SVG."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.reading import open_sound_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POINTS_PER_S = 20
WIDTH_PX, WAVE_PX, LANE_PX, RULER_PX = 1200, 44, 26, 16
ROW_S, MAX_ROWS, MIN_ROW_S = 30.0, 120, 5.0
_CHARACTER_PX = 6.2
_MARGIN_PX = 4


def compute_waveform_peaks(sound: Path, points_per_s: int = POINTS_PER_S) -> np.ndarray:
    """(N, 2) float32: lowest and highest value in each stretch of a sound, in constant memory for a file.

    sound: Sound, or path of a file with sound.
    points_per_s: int.
    Raises Refused for a file without sound.
    """
    if isinstance(sound, Sound):
        return _reduce_to_peaks(iter([sound.to_mono().samples]), sound.rate_hz, points_per_s)
    with open_sound_stream(sound, channels=1) as (rate_hz, blocks):
        return _reduce_to_peaks(blocks, rate_hz, points_per_s)


def _reduce_to_peaks(blocks: Iterator, rate_hz: int, points_per_s: int) -> np.ndarray:
    size, rest, found = max(1, rate_hz // points_per_s), np.zeros(0, np.float32), []
    for block in blocks:
        wave = np.concatenate([rest, block[0]])
        whole = len(wave) // size
        pieces = wave[: whole * size].reshape(whole, size)
        found.append(np.stack([pieces.min(1), pieces.max(1)], 1) if whole else np.zeros((0, 2), np.float32))
        rest = wave[whole * size :]
    if len(rest):
        found.append(np.array([[rest.min(), rest.max()]], np.float32))
    return np.concatenate(found) if found else np.zeros((0, 2), np.float32)


def draw_timeline(lines: list[dict[str, str]], duration_s: float, waves: dict[str, np.ndarray]) -> str:
    """SVG pictures, one after the other, of what happens when: a ruler, every wave, and the slots of lines in lanes.

    lines: dicts with id, start_s, end_s, text, status, and speaker, spoken_s (start, end) where known.
    duration_s: float, length of the film.
    waves: {name: (N, 2) peaks of peaks_of, over the whole film}.
    Rows are 30 s long, longer when there would be more than 120; of a shorter film as long as it is, at least 5 s.
    """
    row_s = (
        max(ROW_S, math.ceil(duration_s / MAX_ROWS / ROW_S) * ROW_S)
        if duration_s > ROW_S
        else max(MIN_ROW_S, float(math.ceil(duration_s)))
    )
    timed = sorted((line for line in lines if line.get("start_s") is not None), key=lambda line: line["start_s"])
    lane_of = _assign_lanes(timed)
    scale = {name: max(1e-3, float(np.abs(peaks).max(initial=0.0))) for name, peaks in waves.items()}
    pictures = []
    for row in range(max(1, math.ceil(duration_s / row_s))):
        since = row * row_s
        here = [
            line
            for line in timed
            if line["start_s"] < since + row_s and max(_get_line_end(line), line["start_s"] + 1e-6) > since
        ]
        parts = [_draw_ruler(since, row_s, duration_s)]
        top = RULER_PX
        for name, peaks in waves.items():
            parts.append(_draw_wave(name, peaks, (since, row_s, duration_s), (top, scale[name])))
            top += WAVE_PX
        parts += [_draw_slot(line, lane_of[line["id"]], since, row_s, top) for line in here]
        height = top + LANE_PX * (1 + max((lane_of[line["id"]] for line in here), default=-1)) + _MARGIN_PX
        label = f"{format_time_label(since)} to {format_time_label(min(duration_s, since + row_s))}"
        pictures.append(
            f'<svg viewBox="0 0 {WIDTH_PX} {height}" role="group" aria-label="{label}">{"".join(parts)}</svg>'
        )
    return "\n".join(pictures)


def _get_line_end(line: dict[str, str]) -> float:
    """When the last of a line is over: its slot or its sound."""
    spoken = line.get("spoken_s")
    return max(line["end_s"], spoken[1] if spoken else line["end_s"])


def _assign_lanes(lines: list[dict[str, str]]) -> dict[str, int]:
    """The lane of each line by id: those that overlap lie under each other."""
    free, lane_of = [], {}
    for line in lines:
        until = max(_get_line_end(line), line["start_s"])
        lane = next((k for k, end in enumerate(free) if end <= line["start_s"] + 1e-9), len(free))
        free[lane : lane + 1] = [until]
        lane_of[line["id"]] = lane
    return lane_of


def format_time_label(time_s: float) -> str:
    """Minutes, seconds and tenths: "1:02.3", with hours where there are some."""
    tenths = round(time_s * 10)
    hours, minutes, seconds = tenths // 36000, tenths // 600 % 60, tenths % 600 / 10
    return f"{hours}:{minutes:02d}:{seconds:04.1f}" if hours else f"{minutes}:{seconds:04.1f}"


def _draw_ruler(since: float, row_s: float, duration_s: float) -> str:
    step = row_s / 15 if row_s >= 15 else 1.0
    marks, k = [], 0
    while k * step <= row_s and since + k * step <= duration_s + 1e-9:
        x = k * step / row_s * WIDTH_PX
        anchor = "start" if k == 0 else "end" if x > WIDTH_PX - 20 else "middle"
        marks.append(
            f'<path d="M{x:.1f} {RULER_PX - 4}v4" class="mark"/><text x="{x:.1f}" y="10" text-anchor="{anchor}">{_format_tick(since + k * step)}</text>'
        )
        k += 1
    return "".join(marks)


def _format_tick(time_s: float) -> str:
    whole = round(time_s)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02d}"
    )


def _draw_wave(name: str, peaks: np.ndarray, span: tuple[float, float, float], place: tuple[int, float]) -> str:
    """One wave of a row: a closed line around its peaks. span: start, length, film (seconds); place: top (px), full
    scale.
    """
    since, row_s, duration_s = span
    top, full = place
    rate = len(peaks) / duration_s if duration_s > 0 else 0.0
    first, last = math.floor(since * rate), min(len(peaks), math.ceil((since + row_s) * rate))
    middle, half = top + WAVE_PX / 2, WAVE_PX / 2 - 3
    body = ""
    if last > first:
        x = ((np.arange(first, last) + 0.5) / rate - since) / row_s * WIDTH_PX
        high, low = middle - peaks[first:last, 1] / full * half, middle - peaks[first:last, 0] / full * half
        points = [f"{a:.1f} {b:.1f}" for a, b in zip(x, high)] + [
            f"{a:.1f} {b:.1f}" for a, b in zip(x[::-1], low[::-1])
        ]
        body = f'<path d="M{"L".join(points)}Z" class="wave"/>'
    end = min(WIDTH_PX, (duration_s - since) / row_s * WIDTH_PX)
    line = f'<path d="M0 {middle:.1f}H{end:.1f}" class="zero"/>'
    return f'{line}{body}<text x="4" y="{top + 11}" class="name">{escape(name)}</text>'


def _draw_slot(line: dict[str, str], lane: int, since: float, row_s: float, top: int) -> str:
    """A box for a slot, with a bar where the line sounds, and its name; a click leads to the table."""

    def at(time_s: float) -> float:
        return min(WIDTH_PX, max(0.0, (time_s - since) / row_s * WIDTH_PX))

    y, left, right = top + lane * LANE_PX + 2, at(line["start_s"]), at(line["end_s"])
    width = max(1.5, right - left)
    spoken = line.get("spoken_s")
    spoken = spoken if spoken and spoken[1] > since and spoken[0] < since + row_s else None
    bar = (
        f'<rect x="{at(spoken[0]):.1f}" y="{y + 16}" width="{max(1.0, at(spoken[1]) - at(spoken[0])):.1f}" height="4" class="said"/>'
        if spoken
        else ""
    )
    speaker = f"{line['speaker']}: " if line.get("speaker") else ""
    label = _truncate(f"{line['id']} {speaker}{line.get('text', '')}", width)
    tip = f"{line['id']} · {speaker}{line.get('text', '')}\n{line['start_s']:.3f} to {line['end_s']:.3f} s, {line.get('status', '')}"
    box = f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="15" rx="2" class="slot {escape(line.get("status", ""))}"/>'
    text = f'<text x="{left + 3:.1f}" y="{y + 11}" class="label">{escape(label)}</text>' if label else ""
    return f'<a href="#line-{escape(line["id"], quote=True)}"><title>{escape(tip)}</title>{box}{text}{bar}</a>'


def _truncate(text: str, width_px: float) -> str:
    """As much of a text as fits, "" when that is less than two characters."""
    text, most = " ".join(text.split()), int((width_px - 6) / _CHARACTER_PX)
    return text if len(text) <= most else text[: most - 1] + "…" if most >= 2 else ""
