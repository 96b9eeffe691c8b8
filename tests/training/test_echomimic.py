"""EMO's three stages at debug size: each trains what it should, the loss falls, and what it writes can be animated
with.
"""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from debug_echomimic import write_debug_echomimic

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.lipsync.echomimic.config import DEBUG_CONFIG
from mouthpiece.lipsync.echomimic.weights import load_models
from mouthpiece.training import echomimic
from mouthpiece.training.echomimic import (
    EchoMimicExample,
    TrainableNetworks,
    add_speed_layers,
    encode_training_clip,
    train,
)

FRAMES, SIZE = 20, (8, 8)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return write_debug_echomimic(tmp_path_factory.mktemp("start"))


@pytest.fixture
def out(tmp_path):
    """A working folder with one made-up clip: latents that follow the sound."""
    rng = np.random.default_rng(0)
    states = rng.standard_normal((2 * FRAMES, 5, DEBUG_CONFIG.audio_width)).astype(np.float16)
    still = rng.standard_normal((1, 4, *SIZE))
    latents = still + 0.3 * states[::2, 0, :1, None, None]
    (tmp_path / "echomimic-clips").mkdir()
    mask = np.full((64, 64), 255, np.uint8)
    speed = np.linspace(0, 1.5, FRAMES, dtype=np.float32)
    np.savez(
        tmp_path / "echomimic-clips" / "a.npz",
        latents=latents.astype(np.float16),
        states=states,
        mask=mask,
        speed=speed,
    )
    return tmp_path


def fresh(start):
    return load_models(dataclasses.replace(choose_device("cpu"), dtype=torch.float32), "echomimic", start)


def error(models, out, stage):
    """Mean loss of the same eight draws, whatever was learned since."""
    sitting = TrainableNetworks(models)
    sitting.select_parameters(stage)
    rng, generator = np.random.default_rng(5), torch.Generator().manual_seed(5)
    paths = list((out / "echomimic-clips").glob("*.npz"))
    frames = 1 if stage == "image" else 6
    with torch.no_grad():
        return np.mean(
            [sitting.loss(echomimic.sample_example(paths, frames, rng), stage, generator).item() for _ in range(8)]
        )


@pytest.mark.parametrize("stage", echomimic.STAGES)
def test_the_loss_falls_and_a_run_continues_where_it_stopped(out, start, stage, monkeypatch):
    monkeypatch.setattr(echomimic, "WINDOW_FRAMES", 3)
    settings = dict(start=start, device="cpu", batch=1, peak=1e-2, minutes=10.0)
    before = error(add_speed_layers(fresh(start)) if stage == "speed" else fresh(start), out, stage)
    assert train(out, stage, steps=3, **settings)["steps"] == 3
    assert train(out, stage, steps=9, **settings)["steps"] == 9
    models = fresh(out / "echomimic")
    assert models.shape.speed_buckets == (echomimic.SPEED_BUCKETS if stage == "speed" else 0)
    assert error(models, out, stage) < 0.9 * before


def test_each_stage_trains_its_own_layers_and_holds_the_others(start):
    names = {}
    for stage in echomimic.STAGES:
        sitting = TrainableNetworks(add_speed_layers(fresh(start)))
        sitting.select_parameters(stage)
        names[stage] = {name for name, p in sitting.named_parameters() if p.requires_grad}
        assert sitting.denoiser.use_motion is (stage != "image")
    whole = {name for name, _ in sitting.named_parameters()}
    assert names["image"] | names["video"] | names["speed"] == whole
    assert not names["image"] & (names["video"] | names["speed"])
    assert all("attn2" in name or "norm2" in name for name in names["video"] - names["speed"])
    assert all("speed_" in name for name in names["speed"] - names["video"])
    assert any(name.startswith("reference.") for name in names["image"]) and any(
        name.startswith("locator.") for name in names["image"]
    )


def test_gradients_reach_every_layer_that_a_stage_trains(start, monkeypatch):
    monkeypatch.setattr(echomimic, "CONDITION_DROP_SHARE", 0.0)
    rng = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=rng)

    for stage, frames in (("image", 1), ("video", 6), ("speed", 6)):
        sitting = TrainableNetworks(add_speed_layers(fresh(start)))
        if stage == "speed":
            for module in sitting.modules():
                if getattr(module, "speed_attention", None) is not None:
                    torch.nn.init.normal_(module.speed_attention.to_out[0].weight)
        sitting.select_parameters(stage)
        large = (12, 12)  # one place alone in the middle would leave its queries without effect
        latents, portrait, audio = (
            draw(frames, 4, *large),
            draw(1, 4, *large),
            draw(1, frames, 50, DEBUG_CONFIG.audio_width),
        )
        example = EchoMimicExample(latents, portrait, audio, torch.ones(1, 1, 96, 96), draw(1, frames).abs())
        sitting.loss(example, stage, torch.Generator().manual_seed(1)).backward()
        dead = [
            n for n, p in sitting.named_parameters() if p.requires_grad and (p.grad is None or p.grad.abs().max() == 0)
        ]
        last = "reference.up_blocks.3.attentions.1."
        assert all(name.startswith(last) for name in dead), dead
        assert len(dead) == (13 if stage == "image" else 0), dead


def test_new_speed_layers_change_nothing_until_they_are_trained(start):
    models = fresh(start)
    more = add_speed_layers(models)
    assert more.shape.speed_buckets == echomimic.SPEED_BUCKETS and add_speed_layers(more) is more
    x, seen = torch.randn(1, 4, 3, *SIZE), {}
    told = {
        "audio": torch.randn(1, 3, 50, DEBUG_CONFIG.audio_width),
        "face": torch.zeros(1, 16, *SIZE),
        "known": torch.tensor([False]),
    }
    with torch.no_grad():
        old = models.denoiser(x, torch.tensor([300.0]), told, seen)
        new = more.denoiser(x, torch.tensor([300.0]), told | {"speed": torch.ones(1, 3)}, seen)
    torch.testing.assert_close(old, new)


def test_a_talking_clip_becomes_latents_states_region_and_speed(desk, head, start):
    with VideoWriter(desk / "clip.mp4", Fraction(25), 256, 256) as writer:
        for _ in range(4):
            writer.write(head)
    made = encode_training_clip(desk / "clip.mp4", desk / "line.wav", fresh(start), 64, torch.device("cpu"))
    assert (
        made["latents"].shape == (4, 4, 8, 8)
        and made["mask"].shape == (64, 64)
        and made["states"].shape == (20, 5, DEBUG_CONFIG.audio_width)
    )
    assert 0.1 < (made["mask"] > 127).mean() < 0.7 and made["speed"].shape == (4,) and made["speed"].max() < 0.5
    blank = np.zeros_like(head)
    with VideoWriter(desk / "blank.mp4", Fraction(25), 256, 256) as writer:
        writer.write(blank)
    assert encode_training_clip(desk / "blank.mp4", desk / "line.wav", fresh(start), 64, torch.device("cpu")) is None


def test_a_stage_that_is_none_and_clips_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such stage"):
        train(tmp_path, "sing")
    with pytest.raises(UsageError, match="echomimic-clips"):
        train(tmp_path, "image")
    (tmp_path / "echomimic-clips").mkdir()
    with pytest.raises(InvalidInputError, match="no clip with a face"):
        train(tmp_path, "image")


def test_the_command_line_trains_a_stage_and_refuses_what_belongs_elsewhere(call, out, start):
    answer = call(
        "train",
        "echomimic-image",
        "--out",
        str(out),
        "--start",
        str(start),
        "--minutes",
        "0.0001",
        "--device",
        "cpu",
        "-q",
    )
    assert answer.code == 0 and '"steps": ' in answer.out and (out / "echomimic" / "reference.safetensors").is_file()
    answer = call("train", "renderer", "--out", str(out), "--start", str(start), "-q")
    assert answer.code == 2 and "--start belongs" in answer.err
    answer = call("train", "echomimic-clips", "--out", str(out), "-q")
    assert answer.code == 2 and "--data is missing" in answer.err
