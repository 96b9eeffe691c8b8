"""How well a dub keeps to its film, in numbers: times of lines, isochrony, melody, sync, and what else changed in the
picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.loudness import measure_wave_lufs
from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.timeline import count_samples
from mouthpiece.evaluation.mouth_sync import interpolate_peak
from mouthpiece.face.measure import correlate_at_lag
from mouthpiece.voice.plan.pauses import AUDIBLE_RANGE_DB, find_audible_edges
from mouthpiece.voice.scripts.syllables import count_syllables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

STEP_S, WINDOW_S, FLOOR_DB = 0.002, 0.010, -65.0  # of level; nothing below the floor is a sound
LOUD_QUANTILE, LOUD_RANGE_DB = 0.95, 40.0  # the quantile that counts as loud, of what lies this near to the peak
MAX_CLOSURE_S = 0.06  # shorter holes are closures inside of words
MIN_PAUSE_S, PAUSE_TOLERANCE_S = 0.3, 0.1  # pauses that should be kept, and how well
CONTEXT_S = 0.4  # looked at beside a slot
MAX_LAG_S = 0.4
NATURAL_TOLERANCE = 0.10  # a line that needs no fitting is this near to its slot
CODING_TOLERANCE_LEVELS = 12  # pixels that differ by no more than this differ by coding
_PITCH_STEP_S, _PITCH_FLOOR_HZ, _PITCH_CEILING_HZ, _MIN_PITCHES = 0.01, 65.0, 600.0, 20


@dataclass(frozen=True)
class MeasuredLine:
    """A line that was spoken, as far as its numbers depend on it.

    start_s, end_s: where it should sound, seconds.
    text: what is said.  original: what the film says; "" when the same.
    before_s, after_s: end of the line in front and start of the next, seconds: nothing beyond them is looked at.
    natural_s: length before any fitting, seconds; None when not known.  stretch: factor applied to its tempo.
    aimed_s: (first, last) seconds that its sound was laid on, where something else than the slot told them: the actor's
    line or his lips.
    """

    start_s: float
    end_s: float
    text: str
    original: str = ""
    before_s: float = 0.0
    after_s: float = math.inf
    natural_s: float | None = None
    stretch: float = 1.0
    aimed_s: tuple | None = None


def find_sounding_spans(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """(N, 2) seconds in which a clean recording sounds; closures inside of words are no holes.

    wave: (S,) float32.  rate_hz: int.
    Source: ours; levels as in pauses.heard_edges, in 10 ms.
    """
    step, window = round(STEP_S * rate_hz), round(WINDOW_S * rate_hz)
    if len(wave) < window:
        return np.zeros((0, 2))
    power = np.concatenate([[0.0], np.cumsum(np.square(wave.astype(np.float64)))])
    middles = np.arange(0, len(wave), step)
    since, until = np.maximum(0, middles - window // 2), np.minimum(len(wave), middles + window // 2)
    db = 10 * np.log10((power[until] - power[since]) / np.maximum(1, until - since) + 1e-12)
    loud = np.concatenate(
        [
            [False],
            db > max(FLOOR_DB, np.quantile(db[db >= db.max() - LOUD_RANGE_DB], LOUD_QUANTILE) + AUDIBLE_RANGE_DB),
            [False],
        ]
    )
    edges = np.flatnonzero(loud[1:] != loud[:-1]).reshape(-1, 2) * step / rate_hz
    return merge_close_spans(edges, MAX_CLOSURE_S)


def merge_close_spans(spans: np.ndarray | list, hole_s: float) -> np.ndarray:
    """Spans (N, 2) with holes of at most `hole_s` closed."""
    spans = np.asarray(spans, float).reshape(-1, 2)
    if len(spans) < 2:
        return spans
    wide = np.flatnonzero(spans[1:, 0] - spans[:-1, 1] > hole_s)
    return np.column_stack(
        [spans[np.concatenate([[0], wide + 1]), 0], spans[np.concatenate([wide, [len(spans) - 1]]), 1]]
    )


def find_speech_spans(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """(N, 2) seconds in which somebody speaks, music and noise below or not.

    wave: (S,) float32.  rate_hz: int.
    Raises Missing when silero-vad is not installed.
    Source: mouthpiece.engine.audio.voice_activity.
    """
    import soxr

    from mouthpiece.engine.audio.voice_activity import ACTIVITY_HZ, detect_speech_activity
    from mouthpiece.engine.encoders.phonetic import RATE_HZ

    mask = np.concatenate([[False], detect_speech_activity(soxr.resample(wave, rate_hz, RATE_HZ)) > 0.5, [False]])
    return np.flatnonzero(mask[1:] != mask[:-1]).reshape(-1, 2) / ACTIVITY_HZ


def measure_line(slot: MeasuredLine, dialogue: Sound, source: Sound | None = None) -> dict[str, Any]:
    """Numbers of one line, JSON-ready; what cannot be measured is None.

    slot: Slot.
    dialogue: Sound, the dialogue stem of the dub, clean.
    source: Sound, the film's own, with whatever else is in it; None leaves the comparisons out.
    start_err_ms, end_err_ms: where its sound begins and ends against aimed_s, without it against the slot; positive is
    late.
    overlap: share of the source's speech in which the dub speaks.  pause_match: share of its pauses of 300 ms and more
    kept within 100 ms.
    rate_ratio: syllables a second over the source's.  f0_correlation: of log F0 where both are voiced.
    adherence: natural length within 10 % of the slot.  isometry: characters within 10 % of the original's.
    Source: metrics of the dubbing literature; docs/project-file.md.
    """
    dub, offset_s = _cut_out(dialogue, slot)
    spans = find_sounding_spans(dub, dialogue.rate_hz) + offset_s
    edges = find_audible_edges(dub, dialogue.rate_hz)
    heard = len(spans) > 0 and edges is not None
    length_s = slot.end_s - slot.start_s
    first_s, last_s = slot.aimed_s or (slot.start_s, slot.end_s)
    lufs = measure_wave_lufs(dub, dialogue.rate_hz)
    numbers = {
        "start_err_ms": round(1000 * (edges[0] + offset_s - first_s), 1) if heard else None,
        "end_err_ms": round(1000 * (edges[1] + offset_s - last_s), 1) if heard else None,
        "stretch": round(float(slot.stretch), 4),
        "adherence": None
        if slot.natural_s is None or length_s <= 0
        else bool(abs(slot.natural_s / length_s - 1) <= NATURAL_TOLERANCE),
        "isometry": bool(abs(len(slot.text) / len(slot.original) - 1) <= NATURAL_TOLERANCE) if slot.original else None,
        "lufs": None if lufs is None else round(lufs, 1),
    }
    numbers |= dict.fromkeys(("overlap", "pause_match", "rate_ratio", "f0_correlation"))
    if source is not None and heard:
        film, _ = _cut_out(source, slot)
        numbers |= _compare_with_film(
            slot,
            (dub, dialogue.rate_hz, spans),
            (film, source.rate_hz, find_speech_spans(film, source.rate_hz) + offset_s),
        )
    return numbers


def _cut_out(sound: Sound, slot: MeasuredLine) -> tuple[np.ndarray, float]:
    """One channel (S,) around a slot and where it starts, seconds."""
    since = max(0.0, slot.before_s, slot.start_s - CONTEXT_S)
    until = min(slot.after_s, slot.end_s + CONTEXT_S, float(sound.duration))
    first, last = (count_samples(t, sound.rate_hz) for t in (min(since, slot.start_s), max(since, until)))
    return Sound(sound.samples[:, first:last], sound.rate_hz).to_mono().samples[0], first / sound.rate_hz


def _compare_with_film(
    slot: MeasuredLine, dub: tuple[np.ndarray, int, np.ndarray], film: tuple[np.ndarray, int, np.ndarray]
) -> dict[str, None]:
    """Numbers of a line against the film's own; dub and film: (wave, rate in Hz, spans in seconds)."""
    spoken = _compute_total_length(dub[2])
    theirs = merge_close_spans(
        [(max(a, slot.start_s), min(b, slot.end_s)) for a, b in film[2] if min(b, slot.end_s) > max(a, slot.start_s)],
        0.0,
    )
    said = _compute_total_length(theirs)
    rates = (
        count_syllables(slot.text) / spoken if spoken else 0.0,
        count_syllables(slot.original or slot.text) / said if said else 0.0,
    )
    return {
        "overlap": round(_compute_overlap(dub[2], theirs) / said, 3) if said else None,
        "pause_match": compute_pause_match(theirs, merge_close_spans(dub[2], PAUSE_TOLERANCE_S)),
        "rate_ratio": round(rates[0] / rates[1], 3) if all(rates) else None,
        "f0_correlation": compute_f0_correlation((dub[0], dub[1]), (film[0], film[1])),
    }


def _compute_total_length(spans: np.ndarray) -> float:
    return float(np.sum(spans[:, 1] - spans[:, 0])) if len(spans) else 0.0


def _compute_overlap(a, b):
    """Seconds that two sets of spans share."""
    return float(sum(max(0.0, min(x[1], y[1]) - max(x[0], y[0])) for x in a for y in b))


def compute_pause_match(source: np.ndarray, dub: np.ndarray) -> None:
    """Share of the pauses of at least 300 ms between spans of the source that the dub has within 100 ms; None without
    such pauses.

    source, dub: (N, 2) seconds of speech.
    Source: docs on isochrony.
    """
    wanted = [(a, b) for a, b in zip(source[:-1, 1], source[1:, 0]) if b - a >= MIN_PAUSE_S]
    there = list(zip(dub[:-1, 1], dub[1:, 0]))
    kept = sum(
        any(abs(a - c) <= PAUSE_TOLERANCE_S and abs(b - d) <= PAUSE_TOLERANCE_S for c, d in there) for a, b in wanted
    )
    return round(kept / len(wanted), 3) if wanted else None


def compute_f0_correlation(one: tuple[np.ndarray, int], other: tuple[np.ndarray, int]) -> None:
    """Correlation of the log F0 of two waves on one clock where both are voiced; None with under 0.2 s of that.

    one, other: ((S,) float32, rate in Hz), both from the same instant.
    Source: Praat's autocorrelation, 65 to 600 Hz.
    """
    import parselmouth

    curves = []
    for wave, rate_hz in (one, other):
        if len(wave) < 0.1 * rate_hz:
            return None
        pitch = parselmouth.Sound(wave.astype(np.float64), rate_hz).to_pitch_ac(
            _PITCH_STEP_S, _PITCH_FLOOR_HZ, pitch_ceiling=_PITCH_CEILING_HZ
        )
        curves.append(
            np.array([pitch.get_value_at_time(t) for t in np.arange(0.05, len(wave) / rate_hz - 0.05, _PITCH_STEP_S)])
        )
    count = min(map(len, curves))
    a, b = (curve[:count] for curve in curves)
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < _MIN_PITCHES or min(np.ptp(a[both]), np.ptp(b[both])) == 0:
        return None
    return round(float(np.corrcoef(np.log(a[both]), np.log(b[both]))[0, 1]), 3)


def estimate_av_offset(opening: np.ndarray, wanted: np.ndarray, rate_hz: float = 25.0) -> dict[str, Any]:
    """{"av_offset_ms", "correlation"}: how late a mouth is against what the sound asks of it; positive is late.

    opening, wanted: (T,) float: how far the mouth is open, and should be, on one clock; NaN where no mouth is seen.
    rate_hz: float, values a second.
    None for both when fewer than a second is seen or nothing moves.
    The lag is found by normalized correlation, refined between frames by a parabola.
    """
    count = min(len(opening), len(wanted))
    a, b = (np.asarray(x[:count], float) for x in (opening, wanted))
    most = min(int(MAX_LAG_S * rate_hz), count // 3)
    scores = [correlate_at_lag(b[:count], a[:count], lag) for lag in range(-most, most + 1)]
    if np.isfinite(a).sum() < rate_hz or not np.isfinite(scores).any():
        return {"av_offset_ms": None, "correlation": None}
    best = int(np.nanargmax(scores))
    shift = interpolate_peak(*scores[best - 1 : best + 2]) if 0 < best < len(scores) - 1 else 0.0
    return {
        "av_offset_ms": round(1000 * (best + shift - most) / rate_hz, 1),
        "correlation": round(float(scores[best]), 3),
    }


def measure_picture_changes(
    before_path: Path, after_path: Path, mouths: Callable | None = None, levels: int = CODING_TOLERANCE_LEVELS
) -> dict[str, Any]:
    """What differs between a film and its dub, frame by frame, in constant memory; JSON-ready.

    before_path, after_path: videos.
    mouths: called with the number of a frame, gives boxes (x0, y0, x1, y1) in px that may change; None: none may.
    levels: int, 8-bit levels by which coding alone may differ.
    frames, frames_source, frames_match · outside_changed_share, outside_changed_worst: of the pixels outside of the
    boxes, all frames and
    the worst frame · outside_mean_levels: mean difference there · inside_changed_share · changed_frames: with more than
    1 in 1000 changed inside.
    Raises Refused for what is no video.
    """
    totals, worst, changed = np.zeros(5), 0.0, 0
    counts = [0, 0]
    with VideoReader(before_path) as before, VideoReader(after_path) as after:
        for index, (old, new) in enumerate(zip_longest(before, after)):
            counts[0] += old is not None
            counts[1] += new is not None
            if old is None or new is None or old.pixels.shape != new.pixels.shape:
                continue
            sums = _count_differences(old.pixels, new.pixels, mouths(index) if mouths else (), levels)
            totals += sums
            worst = max(worst, sums[0] / max(1, sums[1]))
            changed += sums[2] > 1e-3 * sums[3] > 0
        same_size = (before.info.width_px, before.info.height_px) == (after.info.width_px, after.info.height_px)
    share = totals[0] / totals[1] if totals[1] else None
    return {
        "frames": counts[1], "frames_source": counts[0], "frames_match": counts[0] == counts[1], "same_size": same_size,
        "outside_changed_share": None if share is None else round(float(share), 7), "outside_changed_worst": round(float(worst), 6),
        "outside_mean_levels": round(float(totals[4] / totals[1]), 4) if totals[1] else None,
        "inside_changed_share": round(float(totals[2] / totals[3]), 4) if totals[3] else None, "changed_frames": int(changed),
    }  # fmt: skip


def _count_differences(old: np.ndarray, new: np.ndarray, boxes: tuple, levels: int) -> np.ndarray:
    """Pixels changed outside, pixels outside, changed inside, inside, and the sum of differences outside."""
    import cv2

    difference = cv2.absdiff(old, new).max(2)
    inside = np.zeros(difference.shape, bool)
    for x0, y0, x1, y1 in boxes or ():
        inside[max(0, int(y0)) : max(0, math.ceil(y1)), max(0, int(x0)) : max(0, math.ceil(x1))] = True
    changed, outside = difference > levels, ~inside
    return np.array(
        [
            np.sum(changed & outside),
            np.sum(outside),
            np.sum(changed & inside),
            np.sum(inside),
            np.sum(difference[outside], dtype=float),
        ]
    )


def summarize_lines(lines: list[dict[str, str]]) -> dict[str, Any]:
    """Numbers of a whole dub from those of its lines, JSON-ready.

    lines: dicts with numbers of line_numbers, and "status", "lost_words" and "wer" where they are known.
    Source: ours; p95 by linear interpolation.
    """

    def values(name: str) -> list:
        return [line[name] for line in lines if line.get(name) is not None]

    def p95(name: str, measure: Callable = abs) -> float:
        found = [measure(value) for value in values(name)]
        return round(float(np.percentile(found, 95)), 3) if found else None

    def average(name: str) -> None:
        return round(mean(values(name)), 3) if values(name) else None

    kept = values("adherence")
    return {
        "lines": len(lines), "start_err_ms_p95": p95("start_err_ms"), "end_err_ms_p95": p95("end_err_ms"),
        "stretch_p95": p95("stretch", lambda value: max(value, 1 / value)), "adherence_share": round(sum(kept) / len(kept), 3) if kept else None,
        "overlap_mean": average("overlap"), "pause_match_mean": average("pause_match"), "rate_ratio_mean": average("rate_ratio"),
        "f0_correlation_mean": average("f0_correlation"), "wer_mean": average("wer"), "lost_words": sum(len(words) for words in values("lost_words")),
        "needs_review": sum(line.get("status") == "needs_review" for line in lines),
    }  # fmt: skip
