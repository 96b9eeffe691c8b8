"""How good a talking video is, in numbers: sync, stillness, identity, sharpness, jitter, blinks, head, loudness, frame
count.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from mouthpiece.engine.audio.loudness import measure_stereo_lufs
from mouthpiece.engine.audio.voice_activity import detect_speech_activity
from mouthpiece.engine.encoders.articulatory_features import MOUTH_SHAPES
from mouthpiece.engine.encoders.phonetic import PHONES, RATE_HZ, extract_articulation
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import measure_sound_duration, read_sound
from mouthpiece.engine.timeline import ARTICULATION_HZ, DELIVERY_HZ, MOTION_HZ, count_frames
from mouthpiece.evaluation.video_metrics import measure_portrait, measure_sharpness, measure_video
from mouthpiece.face.crop import make_crop
from mouthpiece.face.identity import compare_embeddings, compare_structure, open_identity
from mouthpiece.face.measure import (
    compute_blink_rate,
    compute_correlation,
    compute_jitter,
    find_best_lag,
    measure_blink_depths,
    measure_stillness,
)

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mouthpiece.evaluation.video_metrics import AlignedFace, VideoMetrics
    from mouthpiece.face.measure import FaceMeasurements

MAX_LAG_FRAMES, NEAR_LAG_FRAMES = 5, 2  # of 40 ms, either side
DRIFT_FROM_S, DRIFT_SHARE = 12.0, 1 / 6  # shorter clips do not drift; what is taken of a clip's start and of its end
SILENT_BELOW, SPEECH_ABOVE, SPEECH_MARGIN_S = 0.1, 0.5, 0.2
CODEC_PAD_S = Fraction(1024, DELIVERY_HZ)  # AAC comes in blocks; the last may be padded
BLEND_TICKS = 2  # neighbouring sounds share the mouth


class NotMeasured(str):
    """The reason why a fact could not be measured, in its place."""


class OpeningCurve(NamedTuple):
    """What the mouth should do. opening: (N,) at 25 Hz.  source: "against", "articulation" or "energy"."""

    opening: np.ndarray
    source: str


def evaluate_video(
    video_path: Path,
    *,
    against: Path | None = None,
    portrait: Path | None = None,
    sound: Path | None = None,
    max_lag_frames: int = MAX_LAG_FRAMES,
) -> dict[str, Any]:
    """Return facts about a talking video, JSON-ready; what could not be measured is None and its reason stands in
    "reasons".

    video_path: the video.
    against: real clip of the same sound, or None: then the sound itself says what the mouth should do.
    portrait: picture it was made from, or None.
    sound: recording it was made from, or None for the video's own sound.
    max_lag_frames: how far sync is searched, in frames of 40 ms on either side.
    Raises InvalidInputError for what is no video, recording or picture.
    Source: ours; docs/evaluate.md says what each number means.
    """
    clip = measure_video(video_path)
    facts, reasons = {"video": str(video_path)}, {}
    wave = _read_wave(video_path if sound is None else sound, reasons, sound is not None)
    activity = None if wave is None else detect_speech_activity(wave)
    for part in (
        _measure_file(clip, sound, wave is not None),
        _measure_face(clip),
        _measure_sync(clip, against, wave, activity, max_lag_frames),
        _measure_stillness(clip, activity),
        _measure_portrait(clip, portrait),
        _measure_drifts(clip),
        _measure_loudness(video_path),
    ):
        for key, value in part.items():
            if isinstance(value, NotMeasured):
                reasons[key], value = str(value), None
            facts[key] = _convert_to_json(value)
    return facts | {"reasons": reasons}


def _convert_to_json(value: str | float | None) -> str | float | None:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fill_missing(keys: tuple[str, ...], why: str) -> dict[str, NotMeasured]:
    return dict.fromkeys(keys, NotMeasured(why))


def _check_finite(value: float, why: str) -> float | NotMeasured:
    return value if math.isfinite(value) else NotMeasured(why)


def _read_wave(path: Path, reasons: dict, given: bool) -> np.ndarray | None:
    """Return (S,) sound at 16 kHz, or None when a video has none."""
    if not given and not probe(path).has_audio:
        return None
    try:
        return read_sound(path, RATE_HZ, mono=True).samples[0]
    except InvalidInputError as error:
        if given:
            raise
        reasons["sound"] = str(error)
        return None


def _measure_file(clip: VideoMetrics, sound: Path | None, heard: bool) -> dict[str, Any]:
    """Return frames, rate, duration, and the frames that the sound asks for."""
    frames = len(clip.times_s)
    facts = {"frames": frames, "rate": str(clip.rate), "duration_s": clip.duration_s, "truncated": clip.truncated}
    if not heard:
        return facts | _fill_missing(("sound_duration_s", "expected_frames", "frames_match"), "no sound")
    duration = measure_sound_duration(clip.path if sound is None else sound)
    wanted = count_frames(duration, clip.rate)
    fewest = wanted if sound is not None else count_frames(max(Fraction(0), duration - CODEC_PAD_S), clip.rate)
    wanted = min(max(frames, fewest), wanted)
    return facts | {"sound_duration_s": float(duration), "expected_frames": wanted, "frames_match": frames == wanted}


FACE_KEYS = (
    *("jitter_heights_per_frame2", "blinks_per_minute", "blink_openness", "blink_unevenness", "yaw_range_deg"),
    *("pitch_range_deg", "roll_range_deg", "head_travel_heights", "opening_std_heights"),
)


def _measure_face(clip: VideoMetrics) -> dict[str, Any]:
    """Return the share of frames with a face, and what eyes and head do."""
    m, present = clip.measures, clip.measures.present
    facts = {"face_share": float(present.mean())}
    if not present.any():
        return facts | _fill_missing(FACE_KEYS, "no face found in any frame")
    ranges = [float(np.ptp(np.percentile(v[present], [2, 98]))) for v in (m.yaw_deg, m.pitch_deg, m.roll_deg)]
    middle = clip.points[present].mean(1) / np.median(m.height_px[present])
    travel = float(np.hypot(*np.ptp(np.percentile(middle, [2, 98], axis=0), axis=0)))
    shake = _check_finite(compute_jitter(m.points, m.height_px), "fewer than three frames with a face")
    values = (
        shake,
        compute_blink_rate(m.eyes, clip.rate),
        *_measure_blinks(m, clip.rate),
        *ranges,
        travel,
        float(np.nanstd(m.opening)),
    )
    return facts | dict(zip(FACE_KEYS, values))


def _measure_blinks(measures: FaceMeasurements, rate: Fraction) -> tuple[NotMeasured, NotMeasured]:
    """Return how open the eyes stay in a blink over their usual openness, and by how much the two differ."""
    depths = measure_blink_depths(measures.eye_left, measures.eye_right, rate)
    if not len(depths):
        return (NotMeasured("no blink"),) * 2
    return float(np.median(depths)), float(np.abs(depths[:, 0] - depths[:, 1]).mean())


SYNC_KEYS = (
    "sync_correlation",
    "sync_near_correlation",
    "sync_best_correlation",
    "sync_lag_frames",
    "sync_lag_ms",
    "av_offset_ms",
)


def _measure_sync(
    clip: VideoMetrics, against: Path | None, wave: np.ndarray | None, activity: np.ndarray | None, max_lag_frames: int
) -> dict[str, Any] | None:
    """Return how the mouth follows the reference, and how much it moves against a real mouth."""
    keys = ("sync_reference", *SYNC_KEYS, "amplitude_ratio")
    real = None if against is None else measure_video(against)
    if not clip.measures.present.any():
        return _fill_missing(keys, "no face found in any frame")
    if real is not None and not real.measures.present.any():
        return _fill_missing(keys, f"no face found in any frame of {against}")
    if real is None and wave is None:
        return _fill_missing(keys, "no sound, and no clip to compare with")
    wanted = OpeningCurve(real.opening, "against") if real is not None else estimate_opening(wave, activity)
    facts = {"sync_reference": wanted.source} | measure_sync(wanted.opening, clip.opening, max_lag_frames)
    if real is None:
        return facts | {"amplitude_ratio": NotMeasured("needs a real clip to compare with: --against VIDEO")}
    return facts | {"amplitude_ratio": compute_amplitude_ratio(wanted.opening, clip.opening)}


def measure_sync(wanted: np.ndarray, opening: np.ndarray, max_lag_frames: int = MAX_LAG_FRAMES) -> dict[str, Any]:
    """Return how a mouth follows another: correlation as it stands, the best within two frames, the best of all, its
    lag;
    positive when the mouth is late.

    wanted, opening: (N,), (M,) at 25 Hz, NaN allowed; the common part counts.
    max_lag_frames: frames of 40 ms.
    Returns a dict with SYNC_KEYS; av_offset_ms is the lag between frames, by a parabola through three correlations.
    Source: Pearson's correlation.
    """
    n = min(len(wanted), len(opening))
    wanted, opening = wanted[:n], opening[:n]
    usual = compute_correlation(wanted, opening)
    reach = min(max_lag_frames, max(0, n - 3))
    best, lag = find_best_lag(wanted, opening, reach)
    if not math.isfinite(best):
        return _fill_missing(
            SYNC_KEYS, "the mouth or its reference does not move, or fewer than three frames can be compared"
        )
    near, _ = find_best_lag(wanted, opening, min(NEAR_LAG_FRAMES, reach))
    sides = [_correlate_at_lag(wanted, opening, lag + d) for d in (-1, 0, 1)] if abs(lag) < reach else [math.nan]
    step_ms = 1000 / float(MOTION_HZ)
    near = _check_finite(near, "the mouth or its reference does not move")
    values = (usual, near, best, lag, lag * step_ms, (lag + _interpolate_peak(sides)) * step_ms)
    return dict(zip(SYNC_KEYS, values))


def _correlate_at_lag(a: np.ndarray, b: np.ndarray, lag: int) -> float:
    return compute_correlation(a[max(0, -lag) : len(a) - max(0, lag)], b[max(0, lag) : len(b) - max(0, -lag)])


def _interpolate_peak(sides: list[float]) -> float:
    """Return where between -1 and 1 a parabola through three values has its top; 0 when it has none."""
    if len(sides) < 3 or not np.isfinite(sides).all():
        return 0.0
    left, middle, right = sides
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < -1e-12 else 0.0


def compute_amplitude_ratio(wanted: np.ndarray, opening: np.ndarray) -> float | NotMeasured:
    """Return the deviation of a mouth's opening over that of the real one, both over face height, in the common part.

    wanted, opening: (N,), (M,) at 25 Hz, NaN allowed.  Returns a float, or a Why where the real mouth stands still.
    """
    n = min(len(wanted), len(opening))
    both = np.isfinite(wanted[:n]) & np.isfinite(opening[:n])
    if both.sum() < 3 or wanted[:n][both].std() < 1e-9:
        return NotMeasured("the real mouth does not move, or fewer than three frames can be compared")
    return float(opening[:n][both].std() / wanted[:n][both].std())


def estimate_opening(wave: np.ndarray, activity: np.ndarray) -> OpeningCurve:
    """Return the Curve of how far a mouth is open for a sound: phones heard by the embedded encoder, or loudness
    without its
    weights.

    wave: (S,) float32 at 16 kHz.  activity: (T,) as `detect_speech_activity` gives it.
    Phones are weighted by their measured openings (`MOUTH_SHAPES`).
    """
    try:
        from mouthpiece.engine.encoders.phonetic import load_phonetic_encoder

        curve, source = (
            compute_phone_opening(extract_articulation(load_phonetic_encoder(), wave).phone_posteriors),
            "articulation",
        )
    except MissingDependencyError:
        curve, source = compute_energy_curve(wave), "energy"
    n = min(len(curve), len(activity))
    curve = curve[:n] * activity[:n]
    return OpeningCurve(curve[: n // 2 * 2].reshape(-1, 2).mean(1), source)


def compute_phone_opening(posteriors: np.ndarray) -> np.ndarray:
    """Compute the expected opening, (T,) in [0, 1] at 50 Hz, blended over 80 ms. posteriors: (T, 40) of PHONES."""
    return gaussian_filter1d(
        posteriors @ np.array([MOUTH_SHAPES[phone].measured_opening for phone in PHONES]), BLEND_TICKS
    )


def compute_energy_curve(wave: np.ndarray) -> np.ndarray:
    """Return (T,) in [0, 1] at 50 Hz: level within 40 dB below the loudest tick, smoothed over 80 ms. wave: (S,) at 16
    kHz.
    """
    unit = RATE_HZ // int(ARTICULATION_HZ)
    wave = np.pad(wave, (0, -len(wave) % unit)).reshape(-1, unit)
    level_db = 10 * np.log10((wave**2).mean(1) + 1e-10)
    return gaussian_filter1d(np.clip(1 + (level_db - level_db.max(initial=-100)) / 40, 0, 1), BLEND_TICKS)


def _measure_stillness(clip: VideoMetrics, activity: np.ndarray | None) -> dict[str, Any]:
    """Return what the face does while nobody speaks."""
    keys = ("speech_share", "stillness_ratio", "jitter_silent_heights_per_frame2")
    if activity is None:
        return _fill_missing(keys, "no sound")
    facts = {"speech_share": float(activity.mean())}
    if not clip.measures.present.any():
        return facts | _fill_missing(keys[1:], "no face found in any frame")
    silent, speech = find_silent_frames(activity, clip.times_s)
    m = clip.measures
    ratio = measure_stillness(np.where(silent | speech, m.opening, np.nan), silent)
    why = "needs two frames of silence, 0.2 s from speech, and a mouth that moves in speech"
    facts["stillness_ratio"] = _check_finite(ratio, why)
    facts["jitter_silent_heights_per_frame2"] = _check_finite(
        compute_jitter(m.points, m.height_px, silent), "no silence of three frames"
    )
    return facts


def find_silent_frames(activity: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ((T,) bool silent, (T,) bool speaking): frames at least 0.2 s from any speech, and frames in it; the rest
    is
    neither.

    activity: (N,) at 50 Hz.  times: (T,) seconds.
    """
    reach = 2 * round(SPEECH_MARGIN_S * float(ARTICULATION_HZ)) + 1
    near = maximum_filter1d(activity, reach, mode="nearest")
    tick = np.minimum((times * float(ARTICULATION_HZ)).astype(int), len(activity) - 1)
    return near[tick] < SILENT_BELOW, activity[tick] > SPEECH_ABOVE


PORTRAIT_KEYS = (
    *("identity_measure", "identity_median", "identity_lowest", "identity_same_from"),
    *("identity_drift", "sharpness_mouth_ratio", "sharpness_upper_ratio"),
)


def _measure_portrait(clip: VideoMetrics, portrait: Path | None) -> dict[str, Any] | None:
    """Whether it is still the same person, and as sharp."""
    if portrait is None:
        return _fill_missing(PORTRAIT_KEYS, "needs the portrait: --portrait IMAGE")
    if clip.crop_px is None:
        return _fill_missing(PORTRAIT_KEYS, "no face found in any frame")
    look = measure_portrait(portrait, clip.crop_px)
    if look is None:
        return _fill_missing(PORTRAIT_KEYS, f"no face found in {portrait}")
    name, same, likeness = measure_identity(look, clip.aligned_faces)
    sharp = np.nanmedian(clip.sharpness, 0) / np.maximum(measure_sharpness(look.pixels), 1e-6)
    likeness = np.array(likeness)
    values = (
        name,
        float(np.median(likeness)),
        float(likeness.min()),
        same,
        _measure_drift(clip, likeness),
        *map(float, sharp),
    )
    return dict(zip(PORTRAIT_KEYS, values))


DRIFT_KEYS = ("sharpness_mouth_drift", "sharpness_upper_drift", "colour_drift")


def _measure_drifts(clip: VideoMetrics) -> dict[str, Any]:
    """Return what has become of sharpness and skin at the end against the start, as shares: 0 is no change."""
    return dict(zip(DRIFT_KEYS, (_measure_drift(clip, curve) for curve in (*clip.sharpness.T, clip.cheeks))))


def _measure_drift(clip: VideoMetrics, values: np.ndarray) -> NotMeasured:
    """Return the median of the last sixth of a curve over that of the first, less 1; of vectors the length of their
    difference
    over that of the first.
    """
    if clip.crop_px is None:
        return NotMeasured("no face found in any frame")
    if clip.duration_s < DRIFT_FROM_S:
        return NotMeasured(f"needs a clip of {DRIFT_FROM_S:g} s")
    count = max(1, round(len(values) * DRIFT_SHARE))
    first, last = np.nanmedian(values[:count], axis=0), np.nanmedian(values[-count:], axis=0)
    if not (np.isfinite(first).all() and np.isfinite(last).all()):
        return NotMeasured("no face found at its start or end")
    change = float(last - first) if values.ndim == 1 else float(np.linalg.norm(last - first))
    return change / max(float(np.linalg.norm(first)), 1e-9)


def measure_identity(look: AlignedFace, others: list[AlignedFace]) -> tuple:
    """Return (measure, value from which it is one person or Why there is none, likeness of each): embeddings where
    weights are
    at hand, else structure.

    look: `Look` of the portrait.  others: `Look`s of the video, crops of the same size.
    """
    try:
        net = open_identity()
    except MissingDependencyError:
        one = [make_crop(o.face.points, o.pixels.shape[0]).extract(o.pixels) for o in (look, *others)]
        return "structure", NotMeasured("structure has no such limit"), [compare_structure(one[0], o) for o in one[1:]]
    own = net.embed(look.pixels, look.face)
    return (
        net.name,
        float(net.same_person_cosine),
        [compare_embeddings(own, net.embed(o.pixels, o.face)) for o in others],
    )


def _measure_loudness(path: Path) -> dict[str, Any]:
    if not probe(path).has_audio:
        return _fill_missing(("loudness_lufs",), "no sound")
    try:
        value = measure_stereo_lufs(path)
    except InvalidInputError as error:
        return _fill_missing(("loudness_lufs",), str(error))
    return {
        "loudness_lufs": _check_finite(
            math.nan if value is None else value, "less than 0.4 s of sound, or all of it below -70 LUFS"
        )
    }


def format_table(facts: dict[str, Any]) -> str:
    """Return one table for people: a line a fact, then what could not be measured and why. facts: as `evaluate_video`
    gives them.
    """
    reasons, missing, lines = facts["reasons"], {}, []
    width = max(map(len, facts))
    for key, value in facts.items():
        if key == "reasons":
            continue
        if value is None:
            missing.setdefault(reasons.get(key, "unknown"), []).append(key)
            continue
        if isinstance(value, float):
            value = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
        lines.append(f"{key:<{width}}  {value}")
    lines += [f"not measured: {', '.join(keys)} ({why})" for why, keys in missing.items()]
    return "\n".join(lines)
