import itertools
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic_clips import CLIPS, SPEECH

from mouthpiece.engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, PACKED_WIDTH, AVCore, StreamConditions
from mouthpiece.engine.encoders.phonetic import PhoneticEncoder, encode_articulation
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.weights.loading import load_state_into, read_state, save_state
from mouthpiece.training import core as recipe
from mouthpiece.training import training_run
from mouthpiece.training.core import (
    compute_flow_loss,
    load_codes,
    make_loss_weights,
    sample_motion,
    score_core,
    train,
)
from mouthpiece.training.core_batches import CoreBatches
from mouthpiece.training.data.forced_alignment import save_labels


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return PhoneticEncoder(16, (1, 1)).eval()


def test_codes_come_back_from_the_file_by_part_and_clip(tmp_path):
    arrays = {
        "clips|talk__x__1|code": np.ones((3, 32)),
        "clips|talk__x__1|mel": np.zeros((80, 12), np.float16),
        "eval|y|code": np.zeros((2, 32)),
    }
    np.savez(tmp_path / "codes.npz", **arrays)
    parts = load_codes(tmp_path / "codes.npz")
    assert set(parts) == {"clips", "eval"} and set(parts["clips"]["talk__x__1"]) == {"code", "mel"}
    assert parts["clips"]["talk__x__1"]["mel"].dtype == np.float32


def test_the_loss_counts_only_what_is_to_be_generated():
    packed = torch.randn(2, 6, PACKED_WIDTH)
    generator = partial(torch.Generator().manual_seed, 5)
    for states, parts in (
        ((GIVEN, GENERATED), (False, True)),
        ((GENERATED, ABSENT), (True, False)),
        ((GIVEN, GIVEN), (False, False)),
    ):
        known = StreamConditions(packed, *(torch.full((2, 6), s) for s in states))
        motion, sound = compute_flow_loss(
            lambda x, time, known: torch.zeros_like(x), packed, known, generator(), make_loss_weights()
        )
        assert (bool(motion > 0), bool(sound > 0)) == parts


def test_the_loss_of_a_net_that_knows_the_velocity_is_nothing():
    packed = torch.randn(3, 5, PACKED_WIDTH)
    known = StreamConditions(packed, torch.full((3, 5), GENERATED), torch.full((3, 5), GENERATED))

    def oracle(x, time, known):
        t = time[:, None, None]
        return (packed - x) / (1 - t)  # x = (1 - t) noise + t data

    assert max(compute_flow_loss(oracle, packed, known, torch.Generator().manual_seed(0), make_loss_weights())) < 1e-6


def test_mouth_numbers_weigh_most_and_the_head_least():
    w = make_loss_weights()
    assert w.shape == (CODE_WIDTH,) and w.argmax() == 0 and torch.equal(w[26:], torch.full((6,), 0.4)) and (w > 0).all()


def test_training_steps_make_the_loss_fall_and_the_mouth_follow_the_sound(encoder):
    torch.manual_seed(0)
    net, batches = AVCore(width=32, depth=1, heads=2), CoreBatches(CLIPS, SPEECH, encoder, 0)
    optimizer, lips = torch.optim.AdamW(net.parameters(), 3e-3), torch.eye(26)[0]
    before, history = score_core(net.eval(), encoder, lips, CLIPS), []
    for _ in range(110):
        packed, known, counted = batches.draw(8)
        motion, sound = compute_flow_loss(net, packed, known, batches.generator, make_loss_weights() * counted)
        optimizer.zero_grad()
        (motion + 0.5 * sound).backward()
        optimizer.step()
        history.append(float(motion))
    after = score_core(net.eval(), encoder, lips, CLIPS)
    assert np.mean(history[-15:]) < 0.5 * np.mean(history[:5])
    assert after["correlation"] > 0.5 > before["correlation"] + 0.2, (before, after)


def test_sampled_motion_depends_on_its_seed_sound_and_guidance(encoder):
    torch.manual_seed(1)
    net = AVCore(width=24, depth=1, heads=2)
    for p in net.parameters():
        p.data += torch.randn(p.shape) * 0.1
    with torch.no_grad():
        heard = encode_articulation(encoder, torch.from_numpy(CLIPS["talk__ann__2"]["mel"])[None, :, :80])[0]
    usual = sample_motion(net, heard, steps=2)
    assert usual.shape == (20, CODE_WIDTH) and torch.equal(usual, sample_motion(net, heard, steps=2))
    for change in (dict(seed=1), dict(guidance=2.0), dict(item="1"), dict(steps=3)):
        assert not torch.allclose(usual, sample_motion(net, heard, **{"steps": 2, **change}))


@pytest.fixture
def folder(tmp_path, monkeypatch, encoder):
    """A working folder with all that comes before the core, and cores of debug size."""
    # a budget is a number of steps
    monkeypatch.setattr(training_run, "time", SimpleNamespace(monotonic=itertools.count(0, 0.2).__next__))
    monkeypatch.setattr(recipe, "AVCore", partial(AVCore, 24, 1, 2))
    save_state(tmp_path / "phonetic.safetensors", encoder.state_dict(), encoder.config)
    said = np.repeat(np.arange(12, dtype=np.uint8), 30)
    save_labels(
        tmp_path / "phones.npz",
        [("a.ogg", "", SPEECH["a.ogg"]["mel"], np.zeros(480, np.uint8), np.zeros(240, np.float16))]
        + [(f"talk/{n.split('__')[2]}.flac", "x", c["mel"], said, np.zeros(180, np.float16)) for n, c in CLIPS.items()],
    )
    (tmp_path / "reads").mkdir()
    for name, c in CLIPS.items():
        np.savez(tmp_path / "reads" / f"{name}.npz", own=c["code"][:, :26])
    np.savez(tmp_path / "space.npz", lips=np.eye(26, dtype=np.float32)[0])
    rows = {
        f"{part}|{name}|{key}": value
        for part, names in (("clips", CLIPS), ("held_clips", list(CLIPS)[:1]))
        for name in names
        for key, value in CLIPS[name].items()
    }
    np.savez(tmp_path / "codes.npz", **rows)
    return tmp_path


def test_the_whole_stage_writes_weights_that_load_with_their_scores(folder):
    facts = train(folder, minutes=0.05, batch=2)
    state, config = read_state(folder / "core.safetensors", "core")
    load_state_into(AVCore(config["width"], config["depth"], config["heads"]), state, "core")
    assert set(facts) == {"held_clips", "lips"} and set(facts["held_clips"]) == {
        "correlation",
        "at_best_lag",
        "lag_ticks",
        "amplitude",
    }
    first = config["steps"]
    train(folder, minutes=0.1, batch=2, weights=folder / "other.safetensors", device="cpu")
    assert first > 3 and read_state(folder / "other.safetensors", "core")[1]["steps"] > first


def test_a_core_that_is_there_without_a_checkpoint_is_trained_on(folder):
    facts = train(folder, minutes=0.05, batch=2)
    (folder / "core.ckpt").unlink()
    state = read_state(folder / "core.safetensors", "core")[0]
    net, average = AVCore(24, 1, 2), AVCore(24, 1, 2)
    recipe.load_earlier_core(folder / "core.safetensors", net, average)
    for module in (net, average):
        assert all(torch.equal(v, state[k].float()) for k, v in module.state_dict().items())
    assert facts["lips"]["held_clips"]["lines"] <= 1


def test_without_reads_the_stage_says_which_stage_makes_them(folder):
    for path in (folder / "reads").iterdir():
        path.unlink()
    (folder / "reads").rmdir()
    with pytest.raises(UsageError, match="train reads"):
        train(folder)


def test_without_codes_the_stage_says_which_stage_makes_them(folder):
    (folder / "codes.npz").unlink()
    with pytest.raises(UsageError, match="codes.npz"):
        train(folder)


def test_nets_batches_and_noise_go_where_the_training_is_placed(folder, elsewhere):
    elsewhere(recipe, folder, minutes=0.05, batch=2)
    assert torch.load(folder / "core.ckpt")["step"] > 3
