import json
from contextlib import nullcontext
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from mouthpiece.engine.types import Frame
from mouthpiece.training.data import face_crops as stage
from mouthpiece.training.data.face_crops import crop_clip, resample_to_clock
from mouthpiece.training.mesh_geometry import POINT_COUNT, measure_mesh_opening


def frames_at(times):
    return [Frame(i, Fraction(t), np.full((1, 1, 3), i, np.uint8)) for i, t in enumerate(times)]


def shown(times):
    return [int(pixels[0, 0, 0]) for pixels in resample_to_clock(frames_at(times))]


def test_a_video_at_the_clocks_own_rate_is_taken_frame_by_frame():
    assert shown([Fraction(i, 25) for i in range(30)]) == list(range(30))
    rounded = [Fraction(round(1000 * i / 25) + (-1) ** i, 1000) for i in range(1, 30)]
    assert shown([Fraction(0), *rounded]) == list(range(30))


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(50), Fraction(24000, 1001), Fraction(10)])
def test_a_video_of_another_rate_shows_what_was_on_screen_at_each_tick(rate):
    times = [i / rate for i in range(round(2 * rate))]
    seen = shown(times)
    assert len(seen) == int(times[-1] * 25) + 1
    for tick, index in enumerate(seen):
        assert times[index] <= Fraction(tick, 25) + Fraction(1, 1000)
        assert index + 1 == len(times) or times[index + 1] > Fraction(tick, 25)


def test_no_frames_give_no_ticks_and_one_gives_one():
    assert shown([]) == [] and shown([0]) == [0]


def test_a_talking_clip_is_cut_out_under_one_alignment_with_its_mesh(spoken, script):
    frames, marks = crop_clip(spoken)
    assert frames.shape == (40, 144, 144, 3) and frames.dtype == np.uint8
    assert (
        marks.shape == (40, 478, 3) and np.isfinite(marks).all() and 0 < marks[..., :2].min() < marks[..., :2].max() < 1
    )
    assert np.corrcoef(measure_mesh_opening(marks[:, :POINT_COUNT].astype(float)), script)[0, 1] > 0.9
    eyes = marks[:, [33, 133, 362, 263], :2].astype(float)
    assert np.abs(eyes[:, :2].mean(1) - [0.355, 0.34]).max() < 0.04 and np.ptp(eyes.mean(1), axis=0).max() < 0.02


def test_a_clip_without_a_face_gives_nothing(faceless):
    assert crop_clip(faceless) is None


def test_the_whole_stage_names_its_files_skips_what_has_no_face_and_what_is_done(
    tmp_path, portrait, faceless, monkeypatch
):
    here = nullcontext(SimpleNamespace(imap_unordered=map))  # a pool that works in this process
    monkeypatch.setattr(stage.multiprocessing, "get_context", lambda how: SimpleNamespace(Pool=lambda workers: here))
    base = {"licence": "CC0-1.0", "source": "here"}
    rows = [
        base | {"path": str(faceless), "audio": "x.wav", "kind": "talk", "speaker": "ann"},
        base | {"path": str(portrait), "kind": "portrait", "speaker": "bea"},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert stage.write_crops(tmp_path, tmp_path / "out", workers=1) == 1
    made = list((tmp_path / "out" / "crops").iterdir())
    assert [p.name for p in made] == ["portrait__bea__portrait.npz"]
    kept = np.load(made[0])
    assert kept["frames"].shape == (320, 320, 3) and kept["marks"].shape == (478, 3)
    monkeypatch.setattr(stage, "crop_portrait", None)  # would be called if it were made again
    assert stage.write_crops(tmp_path, tmp_path / "out", workers=1) == 1
