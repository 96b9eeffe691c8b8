"""The finder's training at debug size, on one photographed face."""

import itertools
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from mouthpiece.engine.media.images import write_image
from mouthpiece.engine.weights.loading import load_state_into, read_state
from mouthpiece.lipsync.portrait.opening_segmenter import (
    EYE_WINDOW,
    HEIGHT_PX,
    MOUTH_WINDOW,
    WIDTH_PX,
    OpeningSegmenter,
)
from mouthpiece.training import finder, training_run
from mouthpiece.training.data.face_crops import crop_portrait
from mouthpiece.training.finder import (
    OutlineExamples,
    compute_loss,
    degrade,
    get_eye_outline,
    list_mouth_items,
    occlude,
    render_example,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder after `train crops`: one sitter under seven names, and a clip in which she blinks."""
    out = tmp_path_factory.mktemp("eyes")
    (out / "crops").mkdir()
    write_image(out / "astronaut.png", data.astronaut())
    frames, marks = crop_portrait(out / "astronaut.png")
    for name in "abcdefg":  # the seventh is kept out
        np.savez(out / "crops" / f"portrait__{name}__{name}.npz", frames=frames, marks=marks)
    small = cv2.resize(frames, (144, 144), interpolation=cv2.INTER_AREA)
    shut = marks.copy()
    for eye in range(2):
        shut[finder.LID_UPPER[eye]] = marks[finder.LID_LOWER[eye]]
    np.savez(
        out / "crops" / "talk__ann__two.npz",
        frames=np.stack([small] * 40),
        marks=np.stack([marks] * 30 + [shut] * 2 + [marks] * 8),
    )
    return out


def crop_of_portrait(folder):
    d = np.load(folder / "crops" / "portrait__a__a.npz")
    return d["frames"], d["marks"][:, :2].astype(np.float32)


def test_what_is_wanted_lies_on_the_eye_however_the_picture_is_moved(folder):
    frame, marks = crop_of_portrait(folder)
    for how in ((1.0, 0.0, 0.0, 0.0), (1.2, 0.25, 0.02, -0.015)):
        picture, share = render_example(frame, get_eye_outline(marks, 0), EYE_WINDOW, how)
        assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3) and share.shape == picture.shape[:2]
        inside, outside = picture[share > 0.9].astype(float), picture[(share == 0)].astype(float)
        assert (
            200 < (share > 0.5).sum() < 1800
            and np.ptp(inside.mean(-1)) > 80
            and inside.std(0).mean() > outside[:300].std(0).mean()
        )
    grown = [render_example(frame, get_eye_outline(marks, 0), EYE_WINDOW, (k, 0, 0, 0))[1].sum() for k in (1.0, 1.2)]
    assert grown[1] == pytest.approx(1.44 * grown[0], rel=0.03)
    right = render_example(frame, get_eye_outline(marks, 0), EYE_WINDOW, (1.0, 0, 0.02, 0))[1]
    at = [
        np.average(np.arange(WIDTH_PX), weights=s.sum(0))
        for s in (render_example(frame, get_eye_outline(marks, 0), EYE_WINDOW, (1.0, 0, 0, 0))[1], right)
    ]
    assert at[0] - at[1] == pytest.approx(8, abs=0.3)


def test_a_clip_is_seen_now_and_then_and_where_its_eyes_are_most_shut(folder):
    examples = OutlineExamples(
        "eyes", [folder / "crops" / "talk__ann__two.npz"], [folder / "crops" / "portrait__a__a.npz"]
    )
    assert len(examples.items) == len(examples.odds) == 2 * (3 + 1)  # ticks 0, 25 and the blink; and a portrait
    open_by = [np.ptp(points[:, 1]) for _, points in examples.items]
    assert min(open_by) == pytest.approx(min(open_by[4:6])) and examples.odds[:6].max() < examples.odds[6:].min()
    x, y = examples.draw(5, torch.Generator().manual_seed(0))
    assert x.shape == (5, 3, HEIGHT_PX, WIDTH_PX) and y.shape == (5, 1, HEIGHT_PX, WIDTH_PX)
    assert 0 <= x.min() and x.max() <= 1 and 0 <= y.min() and y.max() <= 1


def test_an_eye_behind_dark_glass_is_not_wanted():
    generator = torch.Generator().manual_seed(0)
    x, y = occlude(torch.full((400, 3, 2, 2), 0.9), torch.ones(400, 1, 2, 2), generator)
    covered = y.amax((1, 2, 3)) == 0
    assert 4 < covered.sum() < 40 and x[covered].max() < 0.5 and (x[~covered] == 0.9).all()


def test_worse_pictures_differ_and_stay_pictures():
    x = torch.rand(30, 3, HEIGHT_PX, WIDTH_PX)
    out = degrade(x.clone(), torch.Generator().manual_seed(0))
    assert out.shape == x.shape and 0 <= out.min() and out.max() <= 1
    assert 3 < ((out - x).abs().mean((1, 2, 3)) > 0.05).sum() < 25


def test_the_loss_falls_towards_what_is_wanted():
    wanted = torch.zeros(2, 1, 8, 8)
    wanted[:, :, 2:5, 2:6] = 1
    losses = [compute_loss(k * (2 * wanted - 1), wanted).item() for k in (-2.0, 0.0, 2.0, 8.0)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.02


def test_the_stage_writes_weights_with_a_score_on_portraits_kept_out_and_goes_on(folder, monkeypatch):
    monkeypatch.setattr(training_run, "time", SimpleNamespace(monotonic=itertools.count(0, 0.2).__next__))
    monkeypatch.setattr(finder, "OpeningSegmenter", partial(OpeningSegmenter, (8, 8)))
    facts = finder.train(folder, minutes=0.2, batch=4, device="cpu")
    state, config = read_state(folder / "finder.safetensors", "finder")
    load_state_into(OpeningSegmenter(config["widths"]), state, "finder")
    assert (
        facts["eyes_held_portraits"]["pictures"] == 2
        and 0 <= facts["mouth_held_portraits"]["overlap"] <= 1
        and config["steps"] > 2
    )
    finder.train(folder, minutes=0.4, batch=4, device="cpu")
    assert read_state(folder / "finder.safetensors", "finder")[1]["steps"] > config["steps"]


def test_a_mouths_outline_lies_on_it_and_its_mirror_image_on_the_mirrored_face(folder):
    frame, marks = crop_of_portrait(folder)
    (one, outline), (other, turned) = list_mouth_items(frame, marks)
    shares = [render_example(f, p, MOUTH_WINDOW)[1] for f, p in ((one, outline), (other, turned))]
    assert shares[0].sum() > 100 and np.abs(shares[0] - shares[1][:, ::-1]).mean() < 0.02
    assert np.abs(np.array(np.nonzero(shares[0] > 0.5)).mean(1) - [HEIGHT_PX / 2, WIDTH_PX / 2]).max() < 8
