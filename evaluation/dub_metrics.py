"""Metrics of a dub: times of its lines, isochrony, melody, and what changed in the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mouthpiece.engine.audio.loudness import measure_wave_lufs
from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.timeline import count_samples
from mouthpiece.voice.plan.pauses import AUDIBLE_RANGE_DB, find_audible_edges
from mouthpiece.voice.scripts.syllables import count_syllables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

LEVEL_STEP_S = 0.002  # between two measurements of the level
LEVEL_WINDOW_S = 0.010  # of one measurement
SILENCE_DB = -65.0  # level below which nothing sounds
LOUD_QUANTILE = 0.95  # of the levels, that counts as loud
LOUD_RANGE_DB = 40.0  # below the peak, within which levels count for that quantile
MAX_CLOSURE_S = 0.06  # shorter gaps are closures within words
MIN_PAUSE_S = 0.3  # shortest pause of the film that should be kept
PAUSE_TOLERANCE_S = 0.1  # by which its ends may move
CONTEXT_S = 0.4  # beside a slot, in which its line is looked for
NATURAL_TOLERANCE = 0.10  # share by which a line that needs no fitting may miss its slot
CODING_TOLERANCE_LEVELS = 12  # 8-bit levels by which coding alone may change a pixel
CHANGED_FRAME_SHARE = 1e-3  # of the pixels inside the boxes, above which a frame counts as changed
PITCH_STEP_S = 0.01
PITCH_RANGE_HZ = (65.0, 600.0)
PITCH_MARGIN_S = 0.05  # at both ends of a wave, in which no pitch is measured
MIN_PITCHES = 20  # voiced in both waves, for a correlation


@dataclass(frozen=True)
class MeasuredLine:
    """Describe a spoken line as far as its metrics need it.

    start_s, end_s: slot, seconds of the film.
    text: what is spoken.  original: what the film says; "" when it is the same.
    before_s, after_s: end of the line before and start of the line after, seconds; nothing beyond them is measured.
    natural_s: length before any fitting, seconds; None where it is unknown.  stretch: factor applied to the tempo.
    aimed_s: (first, last) second that the sound was laid on, where the actor's line or his lips set its times.
    """

    start_s: float
    end_s: float
    text: str
    original: str = ""
    before_s: float = 0.0
    after_s: float = math.inf
    natural_s: float | None = None
    stretch: float = 1.0
    aimed_s: Sequence[float] | None = None


class SpeechSound(NamedTuple):
    """Hold one channel with the speech in it. wave: (S,) float32.  spans: (N, 2) seconds of speech."""

    wave: np.ndarray
    rate_hz: int
    spans: np.ndarray


def find_sounding_spans(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """Find where a clean recording sounds, (N, 2) seconds; closures within words are not gaps.

    wave: (S,) float32.
    """
    step, window = round(LEVEL_STEP_S * rate_hz), round(LEVEL_WINDOW_S * rate_hz)
    if len(wave) < window:
        return np.zeros((0, 2))
    power = np.concatenate([[0.0], np.cumsum(np.square(wave.astype(np.float64)))])
    middles = np.arange(0, len(wave), step)
    since, until = np.maximum(0, middles - window // 2), np.minimum(len(wave), middles + window // 2)
    db = 10 * np.log10((power[until] - power[since]) / np.maximum(1, until - since) + 1e-12)
    loud_db = np.quantile(db[db >= db.max() - LOUD_RANGE_DB], LOUD_QUANTILE)
    sounding = np.concatenate([[False], db > max(SILENCE_DB, loud_db + AUDIBLE_RANGE_DB), [False]])
    edges = np.flatnonzero(sounding[1:] != sounding[:-1]).reshape(-1, 2) * step / rate_hz
    return merge_close_spans(edges, MAX_CLOSURE_S)


def merge_close_spans(spans: np.ndarray | Sequence[tuple[float, float]], gap_s: float) -> np.ndarray:
    """Merge spans, (N, 2) seconds in order, whose gaps are at most `gap_s`."""
    spans = np.asarray(spans, float).reshape(-1, 2)
    if len(spans) < 2:
        return spans
    wide = np.flatnonzero(spans[1:, 0] - spans[:-1, 1] > gap_s)
    starts, ends = np.concatenate([[0], wide + 1]), np.concatenate([wide, [len(spans) - 1]])
    return np.column_stack([spans[starts, 0], spans[ends, 1]])


def find_speech_spans(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """Find where somebody speaks, (N, 2) seconds, over music and noise too.

    wave: (S,) float32.
    Raises MissingDependencyError where silero-vad is not installed.
    """
    import soxr

    from mouthpiece.engine.audio.voice_activity import ACTIVITY_HZ, detect_speech_activity
    from mouthpiece.engine.encoders.phonetic import RATE_HZ

    mask = np.concatenate([[False], detect_speech_activity(soxr.resample(wave, rate_hz, RATE_HZ)) > 0.5, [False]])
    return np.flatnonzero(mask[1:] != mask[:-1]).reshape(-1, 2) / ACTIVITY_HZ


def measure_line(line: MeasuredLine, dialogue: Sound, source: Sound | None = None) -> dict[str, Any]:
    """Measure one line of a dub, JSON-ready; what cannot be measured is None. docs/project-file.md explains the keys.

    dialogue: the dialogue stem of the dub.
    source: the film's own sound, with whatever else is in it; None leaves the comparisons out.
    """
    wave, offset_s = _cut_out(dialogue, line)
    spans = find_sounding_spans(wave, dialogue.rate_hz) + offset_s
    edges = find_audible_edges(wave, dialogue.rate_hz) if len(spans) else None
    length_s = line.end_s - line.start_s
    first_s, last_s = line.aimed_s or (line.start_s, line.end_s)
    lufs = measure_wave_lufs(wave, dialogue.rate_hz)
    numbers: dict[str, Any] = {
        "start_err_ms": None if edges is None else round(1000 * (edges[0] + offset_s - first_s), 1),
        "end_err_ms": None if edges is None else round(1000 * (edges[1] + offset_s - last_s), 1),
        "stretch": round(float(line.stretch), 4),
        "adherence": None if line.natural_s is None or length_s <= 0 else _is_near(line.natural_s, length_s),
        "isometry": _is_near(len(line.text), len(line.original)) if line.original else None,
        "lufs": None if lufs is None else round(lufs, 1),
    }
    numbers |= dict.fromkeys(("overlap", "pause_match", "rate_ratio", "f0_correlation"))
    if source is not None and edges is not None:
        film_wave, _ = _cut_out(source, line)
        film_spans = find_speech_spans(film_wave, source.rate_hz) + offset_s
        dub = SpeechSound(wave, dialogue.rate_hz, spans)
        numbers |= _compare_with_film(line, dub, SpeechSound(film_wave, source.rate_hz, film_spans))
    return numbers


def _is_near(value: float, target: float) -> bool:
    return bool(abs(value / target - 1) <= NATURAL_TOLERANCE)


def _cut_out(sound: Sound, line: MeasuredLine) -> tuple[np.ndarray, float]:
    """Cut one channel (S,) around a slot; give it with the second at which it starts."""
    since = max(0.0, line.before_s, line.start_s - CONTEXT_S)
    until = min(line.after_s, line.end_s + CONTEXT_S, float(sound.duration))
    first, last = (count_samples(t, sound.rate_hz) for t in (min(since, line.start_s), max(since, until)))
    return Sound(sound.samples[:, first:last], sound.rate_hz).to_mono().samples[0], first / sound.rate_hz


def _compare_with_film(line: MeasuredLine, dub: SpeechSound, film: SpeechSound) -> dict[str, float | None]:
    """Compare a line with what the film says in its slot."""
    inside = [(max(a, line.start_s), min(b, line.end_s)) for a, b in film.spans]
    film_spans = merge_close_spans([(a, b) for a, b in inside if b > a], 0.0)
    dub_s, film_s = _compute_total_length(dub.spans), _compute_total_length(film_spans)
    dub_rate = count_syllables(line.text) / dub_s if dub_s else 0.0
    film_rate = count_syllables(line.original or line.text) / film_s if film_s else 0.0
    return {
        "overlap": round(_compute_overlap(dub.spans, film_spans) / film_s, 3) if film_s else None,
        "pause_match": compute_pause_match(film_spans, merge_close_spans(dub.spans, PAUSE_TOLERANCE_S)),
        "rate_ratio": round(dub_rate / film_rate, 3) if dub_rate and film_rate else None,
        "f0_correlation": compute_f0_correlation((dub.wave, dub.rate_hz), (film.wave, film.rate_hz)),
    }


def _compute_total_length(spans: np.ndarray) -> float:
    return float(np.sum(spans[:, 1] - spans[:, 0])) if len(spans) else 0.0


def _compute_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the seconds that two sets of spans share."""
    return float(sum(max(0.0, min(x[1], y[1]) - max(x[0], y[0])) for x in a for y in b))


def compute_pause_match(source: np.ndarray, dub: np.ndarray) -> float | None:
    """Compute the share of the film's pauses of at least 300 ms that the dub has within 100 ms; None without any.

    source, dub: (N, 2) seconds of speech.
    """
    pauses = [(a, b) for a, b in zip(source[:-1, 1], source[1:, 0]) if b - a >= MIN_PAUSE_S]
    dub_pauses = list(zip(dub[:-1, 1], dub[1:, 0]))
    kept = sum(
        any(abs(a - c) <= PAUSE_TOLERANCE_S and abs(b - d) <= PAUSE_TOLERANCE_S for c, d in dub_pauses)
        for a, b in pauses
    )
    return round(kept / len(pauses), 3) if pauses else None


def compute_f0_correlation(one: tuple[np.ndarray, int], other: tuple[np.ndarray, int]) -> float | None:
    """Correlate the log F0 of two waves where both are voiced; None with under 0.2 s of that.

    one, other: ((S,) float32, rate in Hz), both from the same instant.
    Source: Praat's autocorrelation, 65 to 600 Hz.
    """
    import parselmouth

    curves = []
    for wave, rate_hz in (one, other):
        if len(wave) < 2 * PITCH_MARGIN_S * rate_hz:
            return None
        low_hz, high_hz = PITCH_RANGE_HZ
        pitch = parselmouth.Sound(wave.astype(np.float64), rate_hz).to_pitch_ac(
            PITCH_STEP_S, low_hz, pitch_ceiling=high_hz
        )
        times_s = np.arange(PITCH_MARGIN_S, len(wave) / rate_hz - PITCH_MARGIN_S, PITCH_STEP_S)
        curves.append(np.array([pitch.get_value_at_time(time_s) for time_s in times_s]))
    count = min(map(len, curves))
    a, b = (curve[:count] for curve in curves)
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < MIN_PITCHES or min(np.ptp(a[both]), np.ptp(b[both])) == 0:
        return None
    return round(float(np.corrcoef(np.log(a[both]), np.log(b[both]))[0, 1]), 3)


def measure_picture_changes(
    before_path: Path,
    after_path: Path,
    get_boxes: Callable[[int], Iterable[tuple[float, float, float, float]]] | None = None,
    levels: int = CODING_TOLERANCE_LEVELS,
) -> dict[str, Any]:
    """Measure what differs between a film and its dub, frame by frame, in constant memory; JSON-ready.

    get_boxes: called with the number of a frame, gives the boxes (x0, y0, x1, y1) in px that may change; None: none.
    levels: 8-bit levels by which coding alone may change a pixel.
    Gives frames, frames_source, frames_match, same_size; outside_changed_share, outside_changed_worst (of the pixels
    outside of the boxes: in all frames, in the worst one); outside_mean_levels (mean difference there);
    inside_changed_share; changed_frames (those with more than 1 in 1000 pixels changed inside).
    Raises InvalidInputError for a file without a moving picture.
    """
    totals, worst, changed = np.zeros(5), 0.0, 0
    frames = frames_source = 0
    with VideoReader(before_path) as before, VideoReader(after_path) as after:
        for index, (old, new) in enumerate(zip_longest(before, after)):
            frames_source += old is not None
            frames += new is not None
            if old is None or new is None or old.pixels.shape != new.pixels.shape:
                continue
            sums = _count_differences(old.pixels, new.pixels, get_boxes(index) if get_boxes else (), levels)
            totals += sums
            worst = max(worst, sums[0] / max(1, sums[1]))
            changed += sums[2] > CHANGED_FRAME_SHARE * sums[3] > 0
        same_size = (before.info.width_px, before.info.height_px) == (after.info.width_px, after.info.height_px)
    outside_changed, outside, inside_changed, inside, outside_levels = totals
    return {
        "frames": frames,
        "frames_source": frames_source,
        "frames_match": frames == frames_source,
        "same_size": same_size,
        "outside_changed_share": round(float(outside_changed / outside), 7) if outside else None,
        "outside_changed_worst": round(float(worst), 6),
        "outside_mean_levels": round(float(outside_levels / outside), 4) if outside else None,
        "inside_changed_share": round(float(inside_changed / inside), 4) if inside else None,
        "changed_frames": int(changed),
    }


def _count_differences(
    old: np.ndarray, new: np.ndarray, boxes: Iterable[tuple[float, float, float, float]], levels: int
) -> np.ndarray:
    """Count pixels changed outside, outside, changed inside, inside; last comes the sum of differences outside."""
    import cv2

    difference = cv2.absdiff(old, new).max(2)
    inside = np.zeros(difference.shape, bool)
    for x0, y0, x1, y1 in boxes or ():
        inside[max(0, int(y0)) : max(0, math.ceil(y1)), max(0, int(x0)) : max(0, math.ceil(x1))] = True
    changed, outside = difference > levels, ~inside
    counts = [np.sum(changed & outside), np.sum(outside), np.sum(changed & inside), np.sum(inside)]
    return np.array([*counts, np.sum(difference[outside], dtype=float)])


def summarize_lines(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarize the metrics of the lines of a dub, JSON-ready.

    lines: with the keys of measure_line, and "status", "lost_words" and "wer" where they are known.
    """

    def list_values(name: str) -> list[Any]:
        return [line[name] for line in lines if line.get(name) is not None]

    def compute_p95(name: str, measure: Callable[[float], float] = abs) -> float | None:
        values = [measure(value) for value in list_values(name)]
        return round(float(np.percentile(values, 95)), 3) if values else None

    def compute_mean(name: str) -> float | None:
        values = list_values(name)
        return round(mean(values), 3) if values else None

    adherent = list_values("adherence")
    return {
        "lines": len(lines),
        "start_err_ms_p95": compute_p95("start_err_ms"),
        "end_err_ms_p95": compute_p95("end_err_ms"),
        "stretch_p95": compute_p95("stretch", lambda value: max(value, 1 / value)),
        "adherence_share": round(sum(adherent) / len(adherent), 3) if adherent else None,
        "overlap_mean": compute_mean("overlap"),
        "pause_match_mean": compute_mean("pause_match"),
        "rate_ratio_mean": compute_mean("rate_ratio"),
        "f0_correlation_mean": compute_mean("f0_correlation"),
        "wer_mean": compute_mean("wer"),
        "lost_words": sum(len(words) for words in list_values("lost_words")),
        "needs_review": sum(line.get("status") == "needs_review" for line in lines),
    }
