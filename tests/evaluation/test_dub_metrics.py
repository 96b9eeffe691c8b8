"""Numbers of a dub on sounds and pictures whose answers are known."""

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.evaluation.dub_metrics import (
    MeasuredLine,
    compute_f0_correlation,
    compute_pause_match,
    find_sounding_spans,
    measure_line,
    measure_picture_changes,
    merge_close_spans,
    summarize_lines,
)

RATE_HZ = 24000


def tone(spans, length_s, hz=150.0, level=0.3):
    """A Sound that is loud in spans only; hz: number, or function of time."""
    t = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(hz(t) if callable(hz) else np.full_like(t, hz)) / RATE_HZ
    wave = sum(np.sin(k * phase) / k for k in range(1, 12)) * level
    mask = np.any([(t >= a) & (t < b) for a, b in spans], axis=0) if spans else np.zeros(len(t), bool)
    return Sound((wave * mask).astype(np.float32)[None], RATE_HZ)


def test_sound_is_found_to_a_few_milliseconds_and_closures_are_no_holes():
    found = find_sounding_spans(tone([(0.5, 0.8), (0.84, 1.2), (1.5, 1.6)], 2.0).samples[0], RATE_HZ)
    assert found.shape == (2, 2) and np.abs(found - [[0.5, 1.2], [1.5, 1.6]]).max() < 0.009
    assert find_sounding_spans(np.zeros(RATE_HZ, np.float32), RATE_HZ).shape == (0, 2) and find_sounding_spans(
        np.zeros(3, np.float32), RATE_HZ
    ).shape == (0, 2)


@pytest.mark.parametrize("late_s", [0.0, 0.03, -0.05])
def test_errors_of_start_and_end_are_signed_late_is_positive(late_s):
    dub = tone([(1.0 + late_s, 2.0 - late_s)], 4.0)
    numbers = measure_line(MeasuredLine(1.0, 2.0, "hello there"), dub)
    assert numbers["start_err_ms"] == pytest.approx(1000 * late_s, abs=12) and numbers["end_err_ms"] == pytest.approx(
        -1000 * late_s, abs=12
    )


def test_a_neighbour_is_not_taken_for_the_line():
    dub = tone([(0.5, 0.95), (1.1, 2.0), (2.05, 3.0)], 4.0)
    numbers = measure_line(MeasuredLine(1.1, 2.0, "x", before_s=0.97, after_s=2.03), dub)
    assert abs(numbers["start_err_ms"]) < 12 and abs(numbers["end_err_ms"]) < 12


def test_a_silent_line_has_no_errors_and_no_loudness():
    numbers = measure_line(
        MeasuredLine(1.0, 2.0, "x", natural_s=1.05, original="y"), tone([], 3.0), tone([(1, 2)], 3.0)
    )
    assert numbers["start_err_ms"] is None and numbers["lufs"] is None and numbers["overlap"] is None
    assert numbers["adherence"] is True and numbers["isometry"] is True


def test_pauses_count_as_kept_within_a_tenth_of_a_second():
    source = np.array([[0, 1], [1.5, 2], [2.1, 3], [3.4, 4]])
    assert compute_pause_match(source, np.array([[0, 1.08], [1.45, 3], [3.2, 4]])) == 0.5
    assert compute_pause_match(source, source) == 1.0 and compute_pause_match(np.array([[0, 4]]), source) is None


def test_melodies_correlate_as_they_go():
    def up(t):
        return 120 + 40 * t

    rising, falling = (tone([(0, 2)], 2.0, hz).samples[0] for hz in (up, lambda t: 200 - 40 * t))
    assert (
        compute_f0_correlation((rising, RATE_HZ), (tone([(0, 2)], 2.0, lambda t: 2 * up(t)).samples[0], RATE_HZ)) > 0.99
    )
    assert compute_f0_correlation((rising, RATE_HZ), (falling, RATE_HZ)) < -0.99
    assert compute_f0_correlation((rising, RATE_HZ), (np.zeros(RATE_HZ, np.float32), RATE_HZ)) is None


def film(path, boxes=(), frames=8):
    rows, columns = np.mgrid[0:96, 0:128]
    with VideoWriter(path, 25, 128, 96, crf=12) as writer:
        for k in range(frames):
            pixels = np.stack([rows + k, columns, rows + columns], 2).astype(np.uint8)
            for x0, y0, x1, y1 in boxes:
                pixels[y0:y1, x0:x1] = 255 - pixels[y0:y1, x0:x1]
            writer.write(pixels)
    return path


def test_changes_outside_of_the_mouth_are_told_from_those_inside(tmp_path):
    plain, mouth, both = (
        film(tmp_path / "a.mp4"),
        film(tmp_path / "b.mp4", [(32, 32, 64, 64)]),
        film(tmp_path / "c.mp4", [(32, 32, 64, 64), (100, 0, 110, 10)]),
    )
    allowed = dict(get_boxes=lambda index: [(24, 24, 72, 72)], levels=24)
    same = measure_picture_changes(plain, plain)
    assert (
        same["outside_changed_share"] == 0
        and same["frames_match"]
        and same["changed_frames"] == 0
        and same["inside_changed_share"] is None
    )
    kept = measure_picture_changes(plain, mouth, **allowed)
    assert kept["outside_changed_share"] < 1e-3 and kept["inside_changed_share"] > 0.2 and kept["changed_frames"] == 8
    assert measure_picture_changes(plain, both, **allowed)["outside_changed_share"] > 0.5 * 100 / (96 * 128)
    assert measure_picture_changes(plain, mouth)["outside_changed_share"] > 0.05


def test_a_lost_frame_is_seen(tmp_path):
    numbers = measure_picture_changes(film(tmp_path / "a.mp4"), film(tmp_path / "b.mp4", frames=7))
    assert (numbers["frames"], numbers["frames_source"], numbers["frames_match"]) == (7, 8, False)


def test_numbers_of_a_file_are_those_of_its_lines():
    lines = [
        {
            "start_err_ms": -20.0 if k else 40.0,
            "stretch": 0.8,
            "adherence": k > 4,
            "lost_words": ["a"] if k == 1 else [],
            "status": "spoken",
        }
        for k in range(10)
    ]
    numbers = summarize_lines(lines + [{"start_err_ms": None, "status": "needs_review"}])
    assert (
        numbers["start_err_ms_p95"] == pytest.approx(31.0)
        and numbers["stretch_p95"] == 1.25
        and numbers["adherence_share"] == 0.5
    )
    assert (
        numbers["lost_words"] == 1
        and numbers["needs_review"] == 1
        and numbers["lines"] == 11
        and numbers["overlap_mean"] is None
    )
    assert summarize_lines([])["start_err_ms_p95"] is None


def test_spans_join_over_short_holes():
    assert merge_close_spans([(0, 1), (1.05, 2), (3, 4)], 0.1).tolist() == [[0, 2], [3, 4]] and merge_close_spans(
        [], 0.1
    ).shape == (0, 2)


def test_a_line_that_follows_the_actor_is_measured_against_his_times_and_compared_in_its_slot():
    dub, film = tone([(1.0, 2.0)], 4.0), tone([(1.0, 2.0)], 4.0)
    told = measure_line(MeasuredLine(1.0, 2.6, "hello there", aimed_s=(0.97, 2.0)), dub, film)
    assert told["start_err_ms"] == pytest.approx(30, abs=12) and abs(told["end_err_ms"]) < 12
    slot = measure_line(MeasuredLine(1.0, 2.6, "hello there"), dub, film)
    assert slot["end_err_ms"] == pytest.approx(-600, abs=12) and {k: v for k, v in slot.items() if "err" not in k} == {
        k: v for k, v in told.items() if "err" not in k
    }
