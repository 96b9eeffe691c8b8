"""Metrics of a talking-head video: synchrony, stillness, identity, sharpness, jitter, blinks, head and loudness."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import maximum_filter1d

from mouthpiece.engine.audio.loudness import measure_stereo_lufs
from mouthpiece.engine.audio.voice_activity import detect_speech_activity
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import measure_sound_duration, read_sound
from mouthpiece.engine.timeline import ARTICULATION_HZ, DELIVERY_HZ, count_frames
from mouthpiece.evaluation.missing import NotMeasured, check_finite, fill_missing
from mouthpiece.evaluation.mouth_sync import (
    MAX_LAG_FRAMES,
    SYNC_KEYS,
    OpeningCurve,
    compute_amplitude_ratio,
    estimate_opening,
    measure_sync,
)
from mouthpiece.evaluation.video_metrics import measure_portrait, measure_sharpness, measure_video
from mouthpiece.face.crop import make_crop
from mouthpiece.face.identity import compare_embeddings, compare_structure, open_identity
from mouthpiece.face.measure import (
    compute_blink_rate,
    compute_jitter,
    measure_blink_depths,
    measure_stillness,
)

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mouthpiece.evaluation.video_metrics import AlignedFace, VideoMetrics
    from mouthpiece.face.measure import FaceMeasurements

DRIFT_FROM_S = 12.0  # duration from which drift is measured
DRIFT_SHARE = 1 / 6  # of a clip, compared at its start and at its end
SILENT_BELOW = 0.1  # speech activity
SPEECH_ABOVE = 0.5  # speech activity
SPEECH_MARGIN_S = 0.2  # between speech and frames that count as silent
CODEC_PAD_S = Fraction(1024, DELIVERY_HZ)  # AAC comes in blocks; the last may be padded


def evaluate_video(
    video_path: Path,
    *,
    against: Path | None = None,
    portrait: Path | None = None,
    sound: Path | None = None,
    max_lag_frames: int = MAX_LAG_FRAMES,
) -> dict[str, Any]:
    """Measure a talking video: JSON-ready facts; what could not be measured is None, its reason stands in "reasons".

    video_path: the video.
    against: real clip of the same sound, or None: then the mouth's opening is predicted from the sound.
    portrait: picture it was made from, or None.
    sound: recording it was made from, or None for the video's own sound.
    max_lag_frames: how far sync is searched, in frames of 40 ms on either side.
    Raises InvalidInputError for what is not a video, recording or picture.
    docs/evaluate.md defines each number.
    """
    clip = measure_video(video_path)
    facts: dict[str, Any] = {"video": str(video_path)}
    reasons: dict[str, str] = {}
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


def _convert_to_json(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def _measure_file(clip: VideoMetrics, sound: Path | None, has_sound: bool) -> dict[str, Any]:
    """Return frames, rate, duration, and the frames that the sound asks for."""
    frames = len(clip.times_s)
    facts = {"frames": frames, "rate": str(clip.rate), "duration_s": clip.duration_s, "truncated": clip.truncated}
    if not has_sound:
        return facts | fill_missing(("sound_duration_s", "expected_frames", "frames_match"), "no sound")
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
        return facts | fill_missing(FACE_KEYS, "no face found in any frame")
    ranges = [float(np.ptp(np.percentile(v[present], [2, 98]))) for v in (m.yaw_deg, m.pitch_deg, m.roll_deg)]
    middle = clip.points[present].mean(1) / np.median(m.height_px[present])
    travel = float(np.hypot(*np.ptp(np.percentile(middle, [2, 98], axis=0), axis=0)))
    shake = check_finite(compute_jitter(m.points, m.height_px), "fewer than three frames with a face")
    values = (
        shake,
        compute_blink_rate(m.eyes, clip.rate),
        *_measure_blinks(m, clip.rate),
        *ranges,
        travel,
        float(np.nanstd(m.opening)),
    )
    return facts | dict(zip(FACE_KEYS, values))


def _measure_blinks(measures: FaceMeasurements, rate: Fraction) -> tuple[float | NotMeasured, float | NotMeasured]:
    """Return the openness left in a blink over the usual one, and the difference between the eyes."""
    depths = measure_blink_depths(measures.eye_left, measures.eye_right, rate)
    if not len(depths):
        return (NotMeasured("no blink"),) * 2
    return float(np.median(depths)), float(np.abs(depths[:, 0] - depths[:, 1]).mean())


def _measure_sync(
    clip: VideoMetrics, against: Path | None, wave: np.ndarray | None, activity: np.ndarray | None, max_lag_frames: int
) -> dict[str, Any]:
    """Return synchrony with the reference, and the amplitude against that of a real mouth."""
    keys = ("sync_reference", *SYNC_KEYS, "amplitude_ratio")
    real = None if against is None else measure_video(against)
    if not clip.measures.present.any():
        return fill_missing(keys, "no face found in any frame")
    if real is not None and not real.measures.present.any():
        return fill_missing(keys, f"no face found in any frame of {against}")
    if real is not None:
        wanted = OpeningCurve(real.opening, "against")
    elif wave is None or activity is None:
        return fill_missing(keys, "no sound, and no clip to compare with")
    else:
        wanted = estimate_opening(wave, activity)
    facts = {"sync_reference": wanted.source} | measure_sync(wanted.opening, clip.opening, max_lag_frames)
    if real is None:
        return facts | {"amplitude_ratio": NotMeasured("needs a real clip to compare with: --against VIDEO")}
    return facts | {"amplitude_ratio": compute_amplitude_ratio(wanted.opening, clip.opening)}


def _measure_stillness(clip: VideoMetrics, activity: np.ndarray | None) -> dict[str, Any]:
    """Return stillness of the mouth and jitter of the face while nobody speaks."""
    keys = ("speech_share", "stillness_ratio", "jitter_silent_heights_per_frame2")
    if activity is None:
        return fill_missing(keys, "no sound")
    facts: dict[str, Any] = {"speech_share": float(activity.mean())}
    if not clip.measures.present.any():
        return facts | fill_missing(keys[1:], "no face found in any frame")
    silent, speech = find_silent_frames(activity, clip.times_s)
    m = clip.measures
    ratio = measure_stillness(np.where(silent | speech, m.opening, np.nan), silent)
    why = "needs two frames of silence, 0.2 s from speech, and a mouth that moves in speech"
    facts["stillness_ratio"] = check_finite(ratio, why)
    facts["jitter_silent_heights_per_frame2"] = check_finite(
        compute_jitter(m.points, m.height_px, silent), "no silence of three frames"
    )
    return facts


def find_silent_frames(activity: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find silent frames, at least 0.2 s from any speech, and speaking ones: two masks (T,); the rest is neither.

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


def _measure_portrait(clip: VideoMetrics, portrait: Path | None) -> dict[str, Any]:
    """Return identity and sharpness against the portrait."""
    if portrait is None:
        return fill_missing(PORTRAIT_KEYS, "needs the portrait: --portrait IMAGE")
    if clip.crop_px is None:
        return fill_missing(PORTRAIT_KEYS, "no face found in any frame")
    look = measure_portrait(portrait, clip.crop_px)
    if look is None:
        return fill_missing(PORTRAIT_KEYS, f"no face found in {portrait}")
    name, same, similarities = measure_identity(look, clip.aligned_faces)
    sharp = np.nanmedian(clip.sharpness, 0) / np.maximum(measure_sharpness(look.pixels), 1e-6)
    similarity = np.array(similarities)
    values = (
        name,
        float(np.median(similarity)),
        float(similarity.min()),
        same,
        _measure_drift(clip, similarity),
        *map(float, sharp),
    )
    return dict(zip(PORTRAIT_KEYS, values))


DRIFT_KEYS = ("sharpness_mouth_drift", "sharpness_upper_drift", "colour_drift")


def _measure_drifts(clip: VideoMetrics) -> dict[str, Any]:
    """Return the drift of sharpness and skin colour from start to end, as shares: 0 is no change."""
    return dict(zip(DRIFT_KEYS, (_measure_drift(clip, curve) for curve in (*clip.sharpness.T, clip.cheeks))))


def _measure_drift(clip: VideoMetrics, values: np.ndarray) -> float | NotMeasured:
    """Return the relative change from the median of the first sixth of a curve to that of its last; of vectors, the
    norm of the change over that of the first.
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


def measure_identity(portrait: AlignedFace, others: list[AlignedFace]) -> tuple[str, float | NotMeasured, list[float]]:
    """Return (measure, its threshold of one person, similarity of each face to the portrait): by identity embeddings
    where their weights are available, else by structural similarity, which has no threshold.

    portrait, others: aligned faces of the portrait and of the video, crops of the same size.
    """
    try:
        net = open_identity()
    except MissingDependencyError:
        one = [make_crop(o.face.points, o.pixels.shape[0]).extract(o.pixels) for o in (portrait, *others)]
        return "structure", NotMeasured("structure has no such limit"), [compare_structure(one[0], o) for o in one[1:]]
    reference = net.embed(portrait.pixels, portrait.face)
    return (
        net.name,
        float(net.same_person_cosine),
        [compare_embeddings(reference, net.embed(o.pixels, o.face)) for o in others],
    )


def _measure_loudness(path: Path) -> dict[str, Any]:
    if not probe(path).has_audio:
        return fill_missing(("loudness_lufs",), "no sound")
    try:
        value = measure_stereo_lufs(path)
    except InvalidInputError as error:
        return fill_missing(("loudness_lufs",), str(error))
    return {
        "loudness_lufs": check_finite(
            math.nan if value is None else value, "less than 0.4 s of sound, or all of it below -70 LUFS"
        )
    }


def format_table(facts: dict[str, Any]) -> str:
    """Format facts of `evaluate_video` as a table: a line a fact, then what could not be measured and why."""
    reasons, lines = facts["reasons"], []
    missing: dict[str, list[str]] = {}
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
