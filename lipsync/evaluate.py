"""How good a talking video is, in numbers: sync, stillness, identity, sharpness, jitter, blinks, head, loudness, frame count."""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.signal import lfilter

from engine.activity import speech_activity
from engine.encoders.audio import PHONES, RATE_HZ, listen
from engine.errors import Missing, Refused
from engine.media import probe, read_sound, sound_duration, sound_stream
from engine.timeline import ARTICULATION_HZ, DELIVERY_HZ, MOTION_HZ, frame_count
from face.crop import crop_of
from face.identity import open_identity, similarity, structure
from face.measure import best_lag, blink_depths, blink_rate, correlation, jitter, stillness
from lipsync.clip import portrait_look, sharpness_of, watch

MAX_LAG_FRAMES, NEAR_LAG_FRAMES = 5, 2  # of 40 ms, either side
DRIFT_FROM_S, DRIFT_SHARE = 12.0, 1 / 6  # shorter clips do not drift; what is taken of a clip's start and of its end
SILENT_BELOW, SPEECH_ABOVE, MARGIN_S = 0.1, 0.5, 0.2
BLOCK_S, STEP_S = 0.4, 0.1  # of loudness
CODEC_PAD_S = Fraction(1024, DELIVERY_HZ)  # AAC comes in blocks; the last may be padded
BLEND_TICKS = 2  # neighbouring sounds share the mouth

# How far the mouth is open, typically: 1 as in "father", 0 with the lips together. Rounded from one speaker's clips.
OPENNESS = {
    **{"AA": 1.0, "AE": 0.9, "AW": 0.8, "AY": 0.95, "AO": 0.7, "AH": 0.65, "EH": 0.9, "EY": 0.85, "OY": 0.6, "OW": 0.5},
    **{"ER": 0.4, "IH": 0.5, "IY": 0.6, "UH": 0.35, "UW": 0.25, "HH": 0.45, "Y": 0.35, "L": 0.5, "R": 0.2, "W": 0.15},
    **{"D": 0.4, "T": 0.4, "N": 0.4, "G": 0.4, "K": 0.5, "NG": 0.4, "DH": 0.3, "TH": 0.3, "S": 0.35, "Z": 0.35},
    **{"CH": 0.25, "JH": 0.3, "SH": 0.25, "ZH": 0.25, "F": 0.05, "V": 0.05, "B": 0.0, "M": 0.0, "P": 0.0, "SIL": 0.0},
}


class Why(str):
    """The reason why a fact could not be measured, in its place."""


class Curve(NamedTuple):
    """What the mouth should do. opening: (N,) at 25 Hz.  source: "against", "articulation" or "energy"."""

    opening: np.ndarray
    source: str


def evaluate(video_path, *, against=None, portrait=None, sound=None, max_lag_frames=MAX_LAG_FRAMES):
    """Facts about a talking video, JSON-ready; what could not be measured is None and its reason stands in "reasons".

    video_path: the video.
    against: real clip of the same sound, or None: then the sound itself says what the mouth should do.
    portrait: picture it was made from, or None.
    sound: recording it was made from, or None for the video's own sound.
    max_lag_frames: how far sync is searched, in frames of 40 ms on either side.
    Raises Refused for what is no video, recording or picture.
    Source: ours; docs/evaluate.md says what each number means.
    """
    clip = watch(video_path)
    facts, reasons = {"video": str(video_path)}, {}
    wave = _wave(video_path if sound is None else sound, reasons, sound is not None)
    activity = None if wave is None else speech_activity(wave)
    for part in (
        _file_facts(clip, sound, wave is not None),
        _face_facts(clip),
        _sync_facts(clip, against, wave, activity, max_lag_frames),
        _still_facts(clip, activity),
        _portrait_facts(clip, portrait),
        _drift_facts(clip),
        _loudness_facts(video_path),
    ):
        for key, value in part.items():
            if isinstance(value, Why):
                reasons[key], value = str(value), None
            facts[key] = _plain(value)
    return facts | {"reasons": reasons}


def _plain(value):
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _filled(keys, why):
    return dict.fromkeys(keys, Why(why))


def _or_why(value, why):
    return value if math.isfinite(value) else Why(why)


def _wave(path, reasons, given):
    """(S,) sound at 16 kHz, or None when a video has none."""
    if not given and not probe(path).has_audio:
        return None
    try:
        return read_sound(path, RATE_HZ, mono=True).samples[0]
    except Refused as error:
        if given:
            raise
        reasons["sound"] = str(error)
        return None


def _file_facts(clip, sound, heard):
    """Frames, rate, duration, and the frames that the sound asks for."""
    frames = len(clip.times_s)
    facts = {"frames": frames, "rate": str(clip.rate), "duration_s": clip.duration_s, "truncated": clip.truncated}
    if not heard:
        return facts | _filled(("sound_duration_s", "expected_frames", "frames_match"), "no sound")
    duration = sound_duration(clip.path if sound is None else sound)
    wanted = frame_count(duration, clip.rate)
    fewest = wanted if sound is not None else frame_count(max(Fraction(0), duration - CODEC_PAD_S), clip.rate)
    wanted = min(max(frames, fewest), wanted)
    return facts | {"sound_duration_s": float(duration), "expected_frames": wanted, "frames_match": frames == wanted}


FACE_KEYS = (
    *("jitter_heights_per_frame2", "blinks_per_minute", "blink_openness", "blink_unevenness", "yaw_range_deg"),
    *("pitch_range_deg", "roll_range_deg", "head_travel_heights", "opening_std_heights"),
)


def _face_facts(clip):
    """Share of frames with a face, and what eyes and head do."""
    m, present = clip.measures, clip.measures.present
    facts = {"face_share": float(present.mean())}
    if not present.any():
        return facts | _filled(FACE_KEYS, "no face found in any frame")
    ranges = [float(np.ptp(np.percentile(v[present], [2, 98]))) for v in (m.yaw_deg, m.pitch_deg, m.roll_deg)]
    middle = clip.points[present].mean(1) / np.median(m.height_px[present])
    travel = float(np.hypot(*np.ptp(np.percentile(middle, [2, 98], axis=0), axis=0)))
    shake = _or_why(jitter(m.points, m.height_px), "fewer than three frames with a face")
    values = (shake, blink_rate(m.eyes, clip.rate), *_blink_facts(m, clip.rate), *ranges, travel, float(np.nanstd(m.opening)))
    return facts | dict(zip(FACE_KEYS, values))


def _blink_facts(measures, rate):
    """How open the eyes stay in a blink over their usual openness, and by how much the two differ."""
    depths = blink_depths(measures.eye_left, measures.eye_right, rate)
    if not len(depths):
        return (Why("no blink"),) * 2
    return float(np.median(depths)), float(np.abs(depths[:, 0] - depths[:, 1]).mean())


SYNC_KEYS = ("sync_correlation", "sync_near_correlation", "sync_best_correlation", "sync_lag_frames", "sync_lag_ms", "av_offset_ms")


def _sync_facts(clip, against, wave, activity, max_lag_frames):
    """How the mouth follows the reference, and how much it moves against a real mouth."""
    keys = ("sync_reference", *SYNC_KEYS, "amplitude_ratio")
    real = None if against is None else watch(against)
    if not clip.measures.present.any():
        return _filled(keys, "no face found in any frame")
    if real is not None and not real.measures.present.any():
        return _filled(keys, f"no face found in any frame of {against}")
    if real is None and wave is None:
        return _filled(keys, "no sound, and no clip to compare with")
    wanted = Curve(real.opening, "against") if real is not None else expected_opening(wave, activity)
    facts = {"sync_reference": wanted.source} | sync(wanted.opening, clip.opening, max_lag_frames)
    if real is None:
        return facts | {"amplitude_ratio": Why("needs a real clip to compare with: --against VIDEO")}
    return facts | {"amplitude_ratio": amplitude_ratio(wanted.opening, clip.opening)}


def sync(wanted, opening, max_lag_frames=MAX_LAG_FRAMES):
    """How a mouth follows another: correlation as it stands, the best within two frames, the best of all, its lag; positive when the mouth is late.

    wanted, opening: (N,), (M,) at 25 Hz, NaN allowed; the common part counts.
    max_lag_frames: frames of 40 ms.
    Returns a dict with SYNC_KEYS; av_offset_ms is the lag between frames, by a parabola through three correlations.
    Source: Pearson's correlation.
    """
    n = min(len(wanted), len(opening))
    wanted, opening = wanted[:n], opening[:n]
    usual = correlation(wanted, opening)
    reach = min(max_lag_frames, max(0, n - 3))
    best, lag = best_lag(wanted, opening, reach)
    if not math.isfinite(best):
        return _filled(SYNC_KEYS, "the mouth or its reference does not move, or fewer than three frames can be compared")
    near, _ = best_lag(wanted, opening, min(NEAR_LAG_FRAMES, reach))
    sides = [_at_lag(wanted, opening, lag + d) for d in (-1, 0, 1)] if abs(lag) < reach else [math.nan]
    step_ms = 1000 / float(MOTION_HZ)
    near = _or_why(near, "the mouth or its reference does not move")
    values = (usual, near, best, lag, lag * step_ms, (lag + _summit(sides)) * step_ms)
    return dict(zip(SYNC_KEYS, values))


def _at_lag(a, b, lag):
    return correlation(a[max(0, -lag) : len(a) - max(0, lag)], b[max(0, lag) : len(b) - max(0, -lag)])


def _summit(sides):
    """Where between -1 and 1 a parabola through three values has its top; 0 when it has none."""
    if len(sides) < 3 or not np.isfinite(sides).all():
        return 0.0
    left, middle, right = sides
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < -1e-12 else 0.0


def amplitude_ratio(wanted, opening):
    """Deviation of a mouth's opening over that of the real one, both over face height, in the common part.

    wanted, opening: (N,), (M,) at 25 Hz, NaN allowed.  Returns a float, or a Why where the real mouth stands still.
    Source: ours.
    """
    n = min(len(wanted), len(opening))
    both = np.isfinite(wanted[:n]) & np.isfinite(opening[:n])
    if both.sum() < 3 or wanted[:n][both].std() < 1e-9:
        return Why("the real mouth does not move, or fewer than three frames can be compared")
    return float(opening[:n][both].std() / wanted[:n][both].std())


def expected_opening(wave, activity):
    """The Curve of how far a mouth is open for a sound: phones heard by the embedded encoder, or loudness without its weights.

    wave: (S,) float32 at 16 kHz.  activity: (T,) as `speech_activity` gives it.
    Source: ours; OPENNESS is a table of the average vowel and consonant.
    """
    try:
        from lipsync.motion import load_listener

        curve, source = articulated_opening(listen(load_listener(), wave).posteriors), "articulation"
    except Missing:
        curve, source = loudness_curve(wave), "energy"
    n = min(len(curve), len(activity))
    curve = curve[:n] * activity[:n]
    return Curve(curve[: n // 2 * 2].reshape(-1, 2).mean(1), source)


def articulated_opening(posteriors):
    """(T,) expected opening in [0, 1] at 50 Hz. posteriors: (T, 40) of PHONES. Source: ours; OPENNESS, blended over 80 ms."""
    return gaussian_filter1d(posteriors @ np.array([OPENNESS[phone] for phone in PHONES]), BLEND_TICKS)


def loudness_curve(wave):
    """(T,) in [0, 1] at 50 Hz: level within 40 dB below the loudest tick, smoothed over 80 ms. wave: (S,) at 16 kHz."""
    unit = RATE_HZ // int(ARTICULATION_HZ)
    wave = np.pad(wave, (0, -len(wave) % unit)).reshape(-1, unit)
    level_db = 10 * np.log10((wave**2).mean(1) + 1e-10)
    return gaussian_filter1d(np.clip(1 + (level_db - level_db.max(initial=-100)) / 40, 0, 1), BLEND_TICKS)


def _still_facts(clip, activity):
    """What the face does while nobody speaks."""
    keys = ("speech_share", "stillness_ratio", "jitter_silent_heights_per_frame2")
    if activity is None:
        return _filled(keys, "no sound")
    facts = {"speech_share": float(activity.mean())}
    if not clip.measures.present.any():
        return facts | _filled(keys[1:], "no face found in any frame")
    silent, speech = quiet_frames(activity, clip.times_s)
    m = clip.measures
    ratio = stillness(np.where(silent | speech, m.opening, np.nan), silent)
    why = "needs two frames of silence, 0.2 s from speech, and a mouth that moves in speech"
    facts["stillness_ratio"] = _or_why(ratio, why)
    facts["jitter_silent_heights_per_frame2"] = _or_why(jitter(m.points, m.height_px, silent), "no silence of three frames")
    return facts


def quiet_frames(activity, times):
    """((T,) bool silent, (T,) bool speaking): frames at least 0.2 s from any speech, and frames in it; the rest is neither.

    activity: (N,) at 50 Hz.  times: (T,) seconds.
    Source: ours.
    """
    reach = 2 * round(MARGIN_S * float(ARTICULATION_HZ)) + 1
    near = maximum_filter1d(activity, reach, mode="nearest")
    tick = np.minimum((times * float(ARTICULATION_HZ)).astype(int), len(activity) - 1)
    return near[tick] < SILENT_BELOW, activity[tick] > SPEECH_ABOVE


PORTRAIT_KEYS = (
    *("identity_measure", "identity_median", "identity_lowest", "identity_same_from"),
    *("identity_drift", "sharpness_mouth_ratio", "sharpness_upper_ratio"),
)


def _portrait_facts(clip, portrait):
    """Whether it is still the same person, and as sharp."""
    if portrait is None:
        return _filled(PORTRAIT_KEYS, "needs the portrait: --portrait IMAGE")
    if clip.crop_px is None:
        return _filled(PORTRAIT_KEYS, "no face found in any frame")
    look = portrait_look(portrait, clip.crop_px)
    if look is None:
        return _filled(PORTRAIT_KEYS, f"no face found in {portrait}")
    name, same, likeness = likeness_of(look, clip.looks)
    sharp = np.nanmedian(clip.sharpness, 0) / np.maximum(sharpness_of(look.pixels), 1e-6)
    likeness = np.array(likeness)
    values = (name, float(np.median(likeness)), float(likeness.min()), same, _drift(clip, likeness), *map(float, sharp))
    return dict(zip(PORTRAIT_KEYS, values))


DRIFT_KEYS = ("sharpness_mouth_drift", "sharpness_upper_drift", "colour_drift")


def _drift_facts(clip):
    """What has become of sharpness and skin at the end against the start, as shares: 0 is no change."""
    return dict(zip(DRIFT_KEYS, (_drift(clip, curve) for curve in (*clip.sharpness.T, clip.cheeks))))


def _drift(clip, values):
    """Median of the last sixth of a curve over that of the first, less 1; of vectors the length of their difference over that of the first."""
    if clip.crop_px is None:
        return Why("no face found in any frame")
    if clip.duration_s < DRIFT_FROM_S:
        return Why(f"needs a clip of {DRIFT_FROM_S:g} s")
    count = max(1, round(len(values) * DRIFT_SHARE))
    first, last = np.nanmedian(values[:count], axis=0), np.nanmedian(values[-count:], axis=0)
    if not (np.isfinite(first).all() and np.isfinite(last).all()):
        return Why("no face found at its start or end")
    change = float(last - first) if values.ndim == 1 else float(np.linalg.norm(last - first))
    return change / max(float(np.linalg.norm(first)), 1e-9)


def likeness_of(look, others):
    """(measure, value from which it is one person or Why there is none, likeness of each): embeddings where weights are at hand, else structure.

    look: `Look` of the portrait.  others: `Look`s of the video, crops of the same size.
    Source: ours.
    """
    try:
        net = open_identity()
    except Missing:
        one = [crop_of(o.face.points, o.pixels.shape[0]).take(o.pixels) for o in (look, *others)]
        return "structure", Why("structure has no such limit"), [structure(one[0], o) for o in one[1:]]
    own = net.embed(look.pixels, look.face)
    return net.name, float(net.same), [similarity(own, net.embed(o.pixels, o.face)) for o in others]


def _loudness_facts(path):
    if not probe(path).has_audio:
        return _filled(("loudness_lufs",), "no sound")
    try:
        value = loudness_lufs(path)
    except Refused as error:
        return _filled(("loudness_lufs",), str(error))
    return {"loudness_lufs": _or_why(value, "less than 0.4 s of sound, or all of it below -70 LUFS")}


def loudness_lufs(path):
    """Integrated loudness of a file's sound, gated; -inf or NaN when nothing passes the gate. Constant memory.

    path: any container; more than two channels are mixed to two.
    Source: ITU-R BS.1770-4, filters by pyloudnorm.
    """
    from pyloudnorm import Meter

    with sound_stream(path, DELIVERY_HZ, 2) as (rate_hz, blocks):
        stages = list(Meter(rate_hz)._filters.values())
        step = round(STEP_S * rate_hz)
        states, rest, powers = None, np.zeros((2, 0)), []
        for block in blocks:
            states = states or [np.zeros((len(block), max(len(s.a), len(s.b)) - 1)) for s in stages]
            block = block.astype(float)
            for i, stage in enumerate(stages):
                block, states[i] = lfilter(stage.b, stage.a, block, axis=1, zi=states[i])
                block = block * stage.passband_gain
            rest = np.concatenate([rest[: len(block)], block], 1)
            whole = rest.shape[1] // step
            powers += list((rest[:, : whole * step] ** 2).reshape(len(rest), whole, step).mean(2).sum(0))
            rest = rest[:, whole * step :]
    return gated_lufs(np.array(powers))


def gated_lufs(powers):
    """Loudness from the K-weighted power of each 0.1 s, (N,), summed over channels; NaN when nothing passes. Source: BS.1770-4."""
    per_block = round(BLOCK_S / STEP_S)
    if len(powers) < per_block:
        return math.nan
    z = np.convolve(powers, np.ones(per_block) / per_block, "valid")
    loud = z[z > 10 ** ((-70 + 0.691) / 10)]
    if not len(loud):
        return math.nan
    loud = loud[loud > 0.1 * loud.mean()]
    return float(-0.691 + 10 * np.log10(loud.mean()))


def table(facts):
    """One table for people: a line a fact, then what could not be measured and why. facts: as `evaluate` gives them."""
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
