"""Evaluation: closed forms for every number, a clip that was made to be in sync, late, silent or without a face."""

import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.encoders import phonetic
from mouthpiece.engine.encoders.articulatory_features import MOUTH_SHAPES
from mouthpiece.engine.encoders.phonetic import PHONES, PhoneticEncoder
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.evaluation import talking_head
from mouthpiece.evaluation.missing import NotMeasured
from mouthpiece.evaluation.mouth_sync import (
    SYNC_KEYS,
    compute_amplitude_ratio,
    compute_energy_curve,
    compute_phone_opening,
    estimate_opening,
    measure_sync,
)
from mouthpiece.evaluation.talking_head import (
    DRIFT_KEYS,
    evaluate_video,
    find_silent_frames,
    format_table,
    measure_identity,
    measure_sound_duration,
)
from mouthpiece.evaluation.video_metrics import measure_video
from mouthpiece.face import identity

RATE_HZ = 25


@pytest.fixture
def no_listener(monkeypatch):
    """The package without its phonetic weights."""

    def missing():
        raise MissingDependencyError("weights 'phonetic': not there.")

    monkeypatch.setattr(phonetic, "load_phonetic_encoder", missing)


def mouth(count=80, seed=3):
    rng = np.random.default_rng(seed)
    return 0.05 + 0.02 * np.convolve(rng.normal(size=count + 6), np.ones(5) / 5, "valid")[:count]


# closed forms


def test_a_copy_of_the_reference_is_in_sync():
    facts = measure_sync(mouth(), 0.3 + 2 * mouth())
    assert facts["sync_correlation"] == pytest.approx(1)
    assert facts["sync_lag_frames"] == 0 and abs(facts["av_offset_ms"]) < 1


@pytest.mark.parametrize("lag", [-4, -1, 2, 5])
def test_a_shifted_mouth_shows_its_lag_with_the_sign_positive_when_late(lag):
    long = mouth(100)
    facts = measure_sync(long[10:90], long[10 - lag : 90 - lag])
    assert facts["sync_lag_frames"] == lag and facts["sync_lag_ms"] == 40 * lag
    assert facts["sync_best_correlation"] == pytest.approx(1)
    assert facts["sync_correlation"] < 0.95


def test_near_is_the_best_within_two_frames():
    long = mouth(100)
    for lag, near in ((2, True), (-4, False)):
        facts = measure_sync(long[10:90], long[10 - lag : 90 - lag])
        assert (facts["sync_near_correlation"] == pytest.approx(1)) == near
        assert facts["sync_correlation"] <= facts["sync_near_correlation"] <= facts["sync_best_correlation"]


def test_the_offset_is_finer_than_a_frame():
    t = np.arange(100) / RATE_HZ
    wanted, late = np.sin(2 * np.pi * 1.3 * t), np.sin(2 * np.pi * 1.3 * (t - 0.053))
    facts = measure_sync(wanted, late)
    assert facts["sync_lag_frames"] == 1
    assert facts["av_offset_ms"] == pytest.approx(53, abs=2)


def test_a_mouth_that_does_not_move_has_no_sync_but_a_reason():
    for facts in (measure_sync(mouth(), np.full(80, 0.1)), measure_sync(mouth()[:2], mouth()[:2])):
        assert set(facts) == set(SYNC_KEYS) and all(isinstance(v, NotMeasured) for v in facts.values())


def test_the_common_part_counts_when_lengths_differ():
    assert measure_sync(mouth(80), mouth(80)[:50])["sync_correlation"] == pytest.approx(1)


def test_the_amplitude_ratio_is_that_of_the_deviations():
    real = mouth()
    assert compute_amplitude_ratio(real, 0.2 + 0.5 * real[:60]) == pytest.approx(0.5)
    gaps = 3 * real
    gaps[10:20] = np.nan
    assert compute_amplitude_ratio(real, gaps) == pytest.approx(3)
    assert isinstance(compute_amplitude_ratio(np.ones(80), real), NotMeasured)


def test_frames_near_speech_are_neither_silent_nor_speaking():
    activity = np.zeros(100)
    activity[50:75] = 1
    silent, speech = find_silent_frames(activity, np.arange(50) / RATE_HZ)
    assert np.flatnonzero(speech).tolist() == list(range(25, 38))
    assert silent[:20].all() and not silent[21:42].any() and silent[43:].all()


def test_open_vowels_open_the_mouth_and_closures_shut_it():
    openings = {phone: shape.measured_opening for phone, shape in MOUTH_SHAPES.items()}
    assert set(openings) == set(PHONES)
    assert openings["AA"] == 1 and all(openings[p] == 0 for p in ("P", "B", "M", "SIL"))
    assert all(0 <= value <= 1 for value in openings.values())
    spoken = np.zeros((60, len(PHONES)))
    spoken[:20, PHONES.index("M")] = spoken[20:40, PHONES.index("AA")] = spoken[40:, PHONES.index("M")] = 1
    curve = compute_phone_opening(spoken)
    assert curve[5] < 0.01 and curve[30] > 0.99 and curve[55] < 0.01
    assert curve[20] == pytest.approx(0.6, abs=0.1)


def test_loudness_is_a_curve_between_silence_and_the_loudest():
    wave = np.zeros(16_000, np.float32)
    wave[6400:9600] = np.sin(np.arange(3200))
    curve = compute_energy_curve(wave)
    assert curve.shape == (50,) and curve[:15].max() < 0.01 and curve[25] == pytest.approx(1, abs=0.02)
    assert compute_energy_curve(np.zeros(16_000, np.float32)).shape == (50,)


# clips


def test_a_clip_made_in_sync_measures_so(spoken, portrait, no_listener):
    facts = evaluate_video(spoken, portrait=portrait)
    assert facts["frames"] == facts["expected_frames"] == 40 and facts["frames_match"] is True
    assert (facts["rate"], facts["duration_s"], facts["face_share"]) == ("25", 1.6, 1.0)
    assert facts["sync_reference"] == "energy"
    assert facts["sync_correlation"] > 0.8 and abs(facts["sync_lag_frames"]) <= 1
    assert facts["stillness_ratio"] < 0.35
    assert 0.8 < facts["sharpness_mouth_ratio"] < 1.25 and 0.8 < facts["sharpness_upper_ratio"] < 1.25
    assert facts["identity_lowest"] > 0.6
    assert facts["jitter_silent_heights_per_frame2"] < 1.3 * facts["jitter_heights_per_frame2"] < 0.01
    assert facts["yaw_range_deg"] < 4 and facts["head_travel_heights"] < 0.05
    assert -40 < facts["loudness_lufs"] < -5 and 0.2 < facts["speech_share"] < 0.8
    assert "amplitude_ratio" in facts["reasons"] and facts["amplitude_ratio"] is None


def test_against_the_real_clip_a_late_and_narrow_mouth_shows_both(spoken, late):
    facts = evaluate_video(late, against=spoken)
    assert facts["sync_reference"] == "against"
    assert facts["sync_lag_frames"] == 2 and facts["sync_best_correlation"] > 0.95
    assert facts["av_offset_ms"] == pytest.approx(80, abs=10)
    assert 0.45 < facts["amplitude_ratio"] < 0.9
    assert evaluate_video(late, against=spoken, max_lag_frames=1)["sync_lag_frames"] == 1


def test_rates_may_differ(spoken, puppet, script, voice, tmp_path):
    slow = tmp_path / "slow.mp4"
    with VideoWriter(slow, Fraction(25, 2), 192, 192, Sound(voice, 48_000)) as writer:
        for opening in script[::2]:
            writer.write(puppet.frame(opening))
    facts = evaluate_video(slow, against=spoken)
    assert facts["rate"] == "25/2" and facts["frames"] == facts["expected_frames"] == 20
    assert facts["sync_correlation"] > 0.85 and facts["sync_lag_frames"] == 0


def test_a_recording_beside_the_video_sets_the_frames_that_are_expected(spoken, voice, tmp_path, no_listener):
    write_sound(tmp_path / "longer.wav", Sound(np.pad(voice, ((0, 0), (0, 4_800))), 48_000))
    facts = evaluate_video(spoken, sound=tmp_path / "longer.wav")
    assert (facts["expected_frames"], facts["frames_match"]) == (43, False)
    assert measure_sound_duration(tmp_path / "longer.wav") == Fraction(81_600, 48_000)


def test_the_sounds_own_articulation_is_the_reference_when_there_are_weights(spoken, voice, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(phonetic, "load_phonetic_encoder", lambda: PhoneticEncoder(16, (1, 1)).eval())
    facts = evaluate_video(spoken)
    assert facts["sync_reference"] == "articulation" and -1 <= facts["sync_correlation"] <= 1
    curve = estimate_opening(voice[0, ::3].copy(), np.zeros(80))
    assert curve.opening.shape == (40,) and not curve.opening.any()


def test_a_clip_that_blurs_and_darkens_towards_its_end_drifts(puppet, tmp_path, monkeypatch, portrait):
    monkeypatch.setattr(talking_head, "DRIFT_FROM_S", 0.9)
    films = {}
    for name, change in (
        ("steady", lambda f: f),
        ("spoilt", lambda f: (cv2.GaussianBlur(f, (0, 0), 1.5) * 0.8).astype(np.uint8)),
    ):
        with VideoWriter(tmp_path / f"{name}.mp4", Fraction(25), 192, 192, crf=12) as writer:
            for k in range(24):
                writer.write(change(puppet.frame(0.3)) if k >= 16 else puppet.frame(0.3))
        films[name] = evaluate_video(tmp_path / f"{name}.mp4", portrait=portrait)
    steady, spoilt = films["steady"], films["spoilt"]
    assert {key: steady[key] for key in (*DRIFT_KEYS, "identity_drift") if abs(steady[key]) >= 0.05} == {}
    assert (
        spoilt["sharpness_mouth_drift"] < -0.5
        and spoilt["sharpness_upper_drift"] < -0.5
        and spoilt["identity_drift"] < -0.03
    )
    assert 0.1 < spoilt["colour_drift"] < 0.3
    assert "of 0.9 s" in evaluate_video(_short(puppet, tmp_path / "short.mp4"))["reasons"]["colour_drift"]


def _short(puppet, path):
    with VideoWriter(path, Fraction(25), 192, 192) as writer:
        for _ in range(4):
            writer.write(puppet.frame(0.3))
    return path


def test_without_a_face_the_facts_say_so_and_nothing_crashes(faceless, spoken, portrait):
    facts = evaluate_video(faceless, against=spoken, portrait=portrait)
    assert facts["face_share"] == 0 and facts["frames"] == 12
    for key in ("sync_correlation", "stillness_ratio", "identity_median", "jitter_heights_per_frame2"):
        assert facts[key] is None and facts["reasons"][key] == "no face found in any frame"
    facts = evaluate_video(spoken, against=faceless)
    assert facts["sync_correlation"] is None and "faceless.mp4" in facts["reasons"]["sync_correlation"]


def test_without_sound_the_picture_is_still_measured(silent_film):
    facts = evaluate_video(silent_film)
    assert facts["frames"] == 8 and facts["opening_std_heights"] > 0
    for key in ("expected_frames", "speech_share", "loudness_lufs"):
        assert facts["reasons"][key] == "no sound"


def test_facts_are_json_and_every_gap_has_its_reason(spoken, faceless, silent_film, portrait, no_listener):
    keys = set(evaluate_video(spoken, portrait=portrait))
    for facts in (
        evaluate_video(spoken),
        evaluate_video(faceless),
        evaluate_video(silent_film),
        evaluate_video(spoken, against=spoken),
    ):
        json.dumps(facts, allow_nan=False)
        assert set(facts) == keys
        assert {key for key, value in facts.items() if value is None} == set(facts["reasons"])


def test_the_table_has_a_line_a_fact_and_the_reasons_at_the_end(silent_film):
    lines = format_table(evaluate_video(silent_film)).splitlines()
    assert any(line.split() == ["frames", "8"] for line in lines)
    assert lines[-1].startswith("not measured:")
    assert any("loudness_lufs" in line and "(no sound)" in line for line in lines)


def test_without_recognition_weights_likeness_is_structure(spoken, monkeypatch):
    def missing():
        raise MissingDependencyError("none")

    looks = measure_video(spoken).aligned_faces[:3]
    monkeypatch.setattr(talking_head, "open_identity", missing)
    name, limit, values = measure_identity(looks[0], looks)
    assert name == "structure" and isinstance(limit, NotMeasured)
    assert values[0] == pytest.approx(1) and len(values) == 3


def test_with_recognition_weights_likeness_is_the_cosine_of_embeddings(spoken, monkeypatch):
    class PixelEmbedding:
        name, same_person_cosine = "pixels", 0.5

        def embed(self, image, face):
            return identity._normalize(image[face.points[:, 1].astype(int), face.points[:, 0].astype(int)].ravel())

    looks = measure_video(spoken).aligned_faces[:2]
    monkeypatch.setattr(talking_head, "open_identity", PixelEmbedding)
    name, limit, values = measure_identity(looks[0], looks)
    assert (name, limit) == ("pixels", 0.5) and values[0] == pytest.approx(1)


def test_a_portrait_without_a_face_is_a_reason(spoken, tmp_path):
    from mouthpiece.engine.media.images import write_image

    write_image(tmp_path / "wall.png", np.full((90, 90, 3), 180, np.uint8))
    facts = evaluate_video(spoken, portrait=tmp_path / "wall.png")
    assert facts["identity_median"] is None and "wall.png" in facts["reasons"]["identity_median"]


def test_what_is_no_video_sound_or_picture_is_refused(spoken, tmp_path):
    words = tmp_path / "words.mp4"
    words.write_text("no media at all")
    for call in (
        lambda: evaluate_video(words),
        lambda: evaluate_video(tmp_path / "missing.mp4"),
        lambda: evaluate_video(spoken, against=words),
        lambda: evaluate_video(spoken, sound=words),
        lambda: evaluate_video(spoken, portrait=words),
    ):
        with pytest.raises(InvalidInputError):
            call()
