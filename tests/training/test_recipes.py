"""Whole trainings at debug size on a folder made of one photographed face."""

import itertools
import json
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import soundfile
import torch
from scipy.ndimage import gaussian_filter1d
from skimage import data

from mouthpiece.engine.encoders.motion import CODE_WIDTH, CROP_PX, MotionEncoder
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.media.images import write_image
from mouthpiece.engine.weights.loading import load_state_into, read_state, save_state
from mouthpiece.lipsync.portrait.mouth_patch import MOUTH_PATCH, WORK_PX
from mouthpiece.lipsync.portrait.renderer import Renderer, Rendering
from mouthpiece.training import motion, renderer, training_run
from mouthpiece.training.core import load_codes
from mouthpiece.training.data import puppets
from mouthpiece.training.data.face_crops import crop_portrait
from mouthpiece.training.data.mesh_warp import BORDER_POINTS, map_to_source, rasterize, sample_image
from mouthpiece.training.data.motion_codes import write_motion_codes
from mouthpiece.training.data.puppets import load_portrait
from mouthpiece.training.mesh_geometry import LOWER_LIP_EDGE, POINT_COUNT
from mouthpiece.training.motion import LatticeExamples, flip_lattice, jitter_alignment, jitter_colour
from mouthpiece.training.motion_space import load_space
from mouthpiece.training.renderer import (
    collate,
    compute_gradients,
    compute_render_losses,
    downsample_mouth,
    load_motion_encoder,
    load_puppet_pairs,
    make_weight_map,
)
from mouthpiece.training.training_run import load_earlier_weights

HELD = "GRID_swiz3n"


def talking(who, ticks, seed):
    """A clip (frames (N, 144, 144, 3), marks (N, 478, 3)) of a still face warped to talk, move brows and nod."""
    rng = np.random.default_rng(seed)
    p = who.shut
    centres = np.c_[rng.uniform(0.35, 0.65, 28), np.r_[rng.uniform(0.58, 0.8, 24), rng.uniform(0.22, 0.28, 4)]]
    bumps = np.exp(-((p[None] - centres[:, None]) ** 2).sum(-1) / 0.01)[..., None] * rng.normal(size=(28, 1, 2)) * 0.006
    jaw = np.exp(-((p - [0.5, p[14, 1] + 0.06]) ** 2).sum(-1) / 0.015) * (p[:, 1] >= p[14, 1] - 1e-9)
    jaw[LOWER_LIP_EDGE[1:-1]] = 0.8
    wide = np.clip(gaussian_filter1d(rng.normal(size=ticks), 2) * 3, 0, 1.5) * 0.05
    wide[: ticks // 4] = 0
    size = gaussian_filter1d(rng.normal(size=(ticks, 28)), 2, axis=0) * 2
    marks, frames = [], []
    for k in range(ticks):
        t = p + np.einsum("k,kpd->pd", size[k], bumps) + np.c_[np.zeros(POINT_COUNT), jaw * wide[k]]
        ids, weights = rasterize(np.r_[t, BORDER_POINTS], who.triangles, 144)
        frame = sample_image(who.image, map_to_source(ids, weights, who.triangles, np.r_[who.points, BORDER_POINTS]))
        nod = np.float32([[1, 0, 2 * np.sin(k / 3)], [0, 1, 2 * np.cos(k / 4)]])
        frames.append(cv2.warpAffine(frame, nod, (144, 144), borderMode=cv2.BORDER_REPLICATE))
        depth = 0.4 * (p[:, 0] - 0.5) ** 2 + 0.1 * (p[:, 1] - 0.4) ** 2
        marks.append(np.pad(np.c_[t + nod[:, 2] / 144, depth], ((0, 10), (0, 0))))
    return np.stack(frames), np.array(marks, np.float16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder after `train crops` and `train puppets`: three talkers, one person kept out, one sitter under
    seven names.
    """
    out = tmp_path_factory.mktemp("work")
    for name in ("crops", "puppets"):
        (out / name).mkdir()
    write_image(out / "astronaut.png", data.astronaut())
    frames, marks = crop_portrait(out / "astronaut.png")
    for name in "abcdefg":  # the seventh is kept out
        np.savez(out / "crops" / f"portrait__{name}__{name}.npz", frames=frames, marks=marks)
    who = load_portrait(out / "crops" / "portrait__a__a.npz")
    for seed, name in enumerate(("talk__grid_s1__known", "talk__grid_s1__one", "talk__ann__two", f"talk__bob__{HELD}")):
        frames, marks = talking(who, 36, seed)
        np.savez(out / "crops" / f"{name}.npz", frames=frames, marks=marks)
    clips = [out / "crops" / f"talk__{name}.npz" for name in ("grid_s1__one", "ann__two")]
    chosen = [out / "crops" / f"portrait__{name}__{name}.npz" for name in "ag"]
    assert puppets._write_part((out, chosen, 0, 4, clips)) == 2
    space, _ = load_space(out)
    torch.manual_seed(0)
    tensors = MotionEncoder(8).state_dict() | {f"space.{k}": getattr(space, k) for k in space.__dataclass_fields__}
    save_state(out / "motion.safetensors", tensors, dict(width=8))
    return out


@pytest.fixture
def budget(monkeypatch):
    """A clock that goes on whenever it is looked at: minutes are a number of steps."""
    monkeypatch.setattr(training_run, "time", SimpleNamespace(monotonic=itertools.count(0, 0.2).__next__))


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_mirrored_face_has_a_mirrored_lattice():
    z = torch.randn(2, 2, 32, 32)
    flipped = flip_lattice(z)
    assert torch.equal(flipped[:, 0, :, 0], -z[:, 0, :, 31]) and torch.equal(flipped[:, 1, :, 0], z[:, 1, :, 31])
    assert torch.equal(flip_lattice(flipped), z)


def test_light_changes_alike_for_reference_and_target_and_differs_from_item_to_item():
    x = torch.rand(6, 3, 8, 8)
    both = jitter_colour(torch.cat([x, x], 1), chance())
    assert torch.equal(both[:, :3], both[:, 3:]) and both.min() >= 0 and both.max() <= 1
    assert not torch.allclose(both[0, :3], both[1, :3]) and torch.equal(
        both, jitter_colour(torch.cat([x, x], 1), chance())
    )


def test_shaking_moves_pictures_a_little_and_each_its_own_way():
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), size=64, mode="bilinear").expand(4, -1, -1, -1)
    shaken = jitter_alignment(x, chance())
    assert shaken.shape == x.shape and not torch.allclose(shaken[0], shaken[1])
    assert 0.001 < (shaken - x).abs().mean() < 0.1


def test_examples_pair_pictures_with_lattices_and_thin_out_the_common_speaker(folder):
    _, matrix = load_space(folder)
    clips = [folder / "crops" / f"talk__{name}.npz" for name in ("grid_s1__one", "ann__two")]
    examples = LatticeExamples(folder, matrix, clips, [folder / "puppets" / "portrait__a__a.npz"])
    assert examples.pictures.shape == (12 + 36 + 5, CROP_PX, CROP_PX, 3) and len(examples.lattices) == 53
    assert examples.odds.sum() == pytest.approx(1) and examples.odds[0] == pytest.approx(0.15 * examples.odds[20])
    x, z = examples.draw(6, np.random.default_rng(0), chance())
    assert (
        x.shape == (6, 3, CROP_PX, CROP_PX)
        and z.shape == (6, 2, 32, 32)
        and -1 <= x.min() < -0.3
        and 0.3 < x.max() <= 1
    )
    again, _ = examples.draw(6, np.random.default_rng(0), chance())
    assert torch.equal(x, again)


def test_steps_of_the_motion_encoder_teach_it_a_batch_by_heart(folder):
    _, matrix = load_space(folder)
    examples = LatticeExamples(folder, matrix, [folder / "crops" / "talk__ann__two.npz"], [])
    torch.manual_seed(0)
    net, weight = MotionEncoder(8), motion.make_lattice_weight()
    x, z = examples.draw(6, np.random.default_rng(0), chance())
    optimizer, history = torch.optim.AdamW(net.parameters(), 3e-3), []
    for _ in range(60):
        loss = motion.compute_lattice_loss(net, x, z, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    still = 100 * (z.abs() * weight).mean().item()
    assert np.mean(history[-5:]) < 0.75 * min(history[0], still), (history, still)


def test_the_motion_stage_writes_encoder_and_space_that_load(folder, tmp_path, budget, monkeypatch):
    monkeypatch.setattr(motion, "MotionEncoder", partial(MotionEncoder, 8))
    out = tmp_path / "out"
    out.mkdir()
    for name in ("crops", "puppets", "space.npz"):
        (out / name).symlink_to(folder / name)
    facts = motion.train(out, minutes=0.04, batch=2)
    encoder, space = load_motion_encoder(out / "motion.safetensors")
    assert (
        set(facts) == {"held_clips", "known_clips", "eval"}
        and -1 <= facts["held_clips"] <= 1
        and np.isnan(facts["eval"])
    )
    assert encoder.config["width"] == 8 and space.basis.shape == (26, 2, 32, 32)
    first = read_state(out / "motion.safetensors", "motion")[1]["steps"]
    motion.train(out, minutes=0.08, batch=2, device="cpu")
    assert read_state(out / "motion.safetensors", "motion")[1]["steps"] > first > 2


def test_codes_of_every_clip_lie_beside_its_sound(folder, tmp_path):
    names = ("known", "one", "two", HELD)
    rows = [dict(path=f"{n}.mp4", audio=f"{n}.wav", kind="talk", licence="CC0-1.0", source="here") for n in names]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for n in names:
        soundfile.write(tmp_path / f"{n}.wav", np.random.default_rng(0).normal(size=(30000, 2)) * 0.05, 22050)
    assert write_motion_codes(tmp_path, folder) == {"clips": 2, "held_clips": 1, "known_clips": 1}
    parts = load_codes(folder / "codes.npz")
    assert set(parts["held_clips"]) == {f"talk__bob__{HELD}"}
    for clip in parts["clips"].values():
        assert (
            clip["code"].shape == (36, CODE_WIDTH) and clip["opening"].shape == (36,) and clip["mel"].shape == (80, 144)
        )
        # the sound is 1.36 s long
        assert (clip["mel"][:, 137:] == -2.5).all() and clip["mel"][:, :130].std() > 0.05
        assert np.isfinite(clip["code"]).all()


def test_mirroring_a_batch_mirrors_pictures_lattices_and_flow_together(folder):
    people, held = load_puppet_pairs(folder, limit=2)
    assert len(people.portraits) == len(held.portraits) == 1
    items = [people.draw(np.random.default_rng(1))] * 16
    batch = collate(items, chance(3))
    flow = batch["flow"]
    assert batch["ref"].shape == batch["target"].shape == (16, 3, WORK_PX, WORK_PX) and flow.shape == (16, 2, 96, 96)
    assert batch["teeth"].shape == (16, 5, 64, 112) and batch["cover"].shape == batch["band"].shape == (16, 1, 64, 112)
    straight = np.transpose(items[0]["flow"], (2, 0, 1))
    mirrored = [not torch.equal(f, torch.from_numpy(straight)) for f in flow]
    assert 0 < sum(mirrored) < 16
    turned, kept = mirrored.index(True), mirrored.index(False)
    assert torch.equal(flow[turned], flip_lattice(flow[kept : kept + 1])[0])
    assert torch.equal(batch["wish"][turned], flip_lattice(batch["wish"][kept : kept + 1])[0])
    for name in ("known", "inside", "band", "cover"):
        assert torch.equal(batch[name][turned], batch[name][kept].flip(-1)), name
    top, bottom, left, right = MOUTH_PATCH
    assert torch.equal(batch["teeth"][turned, 3], batch["teeth"][kept, 3].flip(-1)) and left + right == WORK_PX


def test_steps_of_the_renderer_make_every_part_of_its_loss_fall(folder):
    people, _ = load_puppet_pairs(folder, limit=2)
    torch.manual_seed(0)
    net, rng, weight = Renderer((8, 8, 8, 8), (8, 8, 8), (8, 8)), np.random.default_rng(3), make_weight_map()
    batch = collate([people.draw(rng) for _ in range(3)], chance())
    optimizer, history = torch.optim.AdamW(net.parameters(), 4e-3), []
    for _ in range(20):
        losses, picture = compute_render_losses(net, batch, weight)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({k: v.item() for k, v in losses.items()})
    assert set(history[0]) == {"flow", "pixel", "warped", "slope", "inner", "mask", "survey"} and picture.shape == (
        3,
        3,
        WORK_PX,
        WORK_PX,
    )
    assert sum(history[-1].values()) < 0.8 * sum(history[0].values()), (history[0], history[-1])
    assert all(history[-1][k] < history[0][k] for k in ("flow", "pixel", "mask", "survey")), (history[0], history[-1])


class Knowing:
    """A renderer that gives one Rendering, whatever it is asked."""

    def __init__(self, rendering):
        self.rendering = rendering

    def __call__(self, *inputs):
        return self.rendering

    def predict_teeth(self, portrait):
        return torch.zeros(len(portrait), 2, 64, 112)


def test_the_inner_mouth_on_the_flows_grid_is_the_same_mouth():
    inside = np.zeros((64, 112), np.float32)
    inside[20:30, 40:60] = 1
    out = downsample_mouth(inside)
    top, _, left, _ = MOUTH_PATCH
    assert (
        out.shape == (96, 96)
        and out.sum() == 50
        and out[(top + 20) // 2, (left + 40) // 2] == 1
        and out[(top + 18) // 2].sum() == 0
    )


def test_an_earlier_painter_that_saw_no_teeth_is_trained_on(tmp_path):
    torch.manual_seed(0)
    earlier = Renderer((8, 8, 8, 8), (8, 8, 8), (8, 8)).state_dict()
    earlier["paint_net.inlet.weight"] = earlier["paint_net.inlet.weight"][:, :-5]
    save_state(tmp_path / "renderer.safetensors", {k: v for k, v in earlier.items() if not k.startswith("survey")}, {})
    net = Renderer((8, 8, 8, 8), (8, 8, 8), (8, 8))
    load_earlier_weights(tmp_path / "renderer.safetensors", "renderer", net)
    inlet = net.state_dict()["paint_net.inlet.weight"]
    assert torch.allclose(inlet[:, :-5], earlier["paint_net.inlet.weight"], atol=1e-3) and not inlet[:, -5:].any()
    assert torch.allclose(net.flow_out.bias, earlier["flow_out.bias"], atol=1e-3)
    load_earlier_weights(tmp_path / "nothing.safetensors", "renderer", net)
    assert torch.equal(net.state_dict()["paint_net.inlet.weight"], inlet)


def test_a_renderer_that_knows_the_flow_has_no_flow_error_and_the_mouth_weighs_most(folder):
    people, _ = load_puppet_pairs(folder, limit=2)
    drawn = (people.draw(np.random.default_rng(seed)) for seed in range(40))
    batch = collate(list(itertools.islice((item for item in drawn if item["flow"].any()), 2)), chance())
    net = Knowing(Rendering(batch["flow"], torch.zeros(2, 3, 64, 112), torch.full((2, 1, 64, 112), 1e-6)))
    parts, picture = compute_render_losses(net, batch, make_weight_map())
    assert (
        parts["flow"] == 0
        and parts["warped"] < 0.7 * ((batch["ref"] - batch["target"]).abs() * make_weight_map()).mean()
    )
    w = make_weight_map()[0, 0]
    assert w.mean() == pytest.approx(1) and w[130, 96] == w.max() and w[66, 96] > w[20, 20]


def test_slopes_are_differences_downward_and_to_the_right():
    x = torch.arange(12.0).view(1, 1, 3, 4)
    assert (
        (compute_gradients(x)[:, :1] == 4).all()
        and (compute_gradients(x)[:, 1:] == 1).all()
        and compute_gradients(x).shape == (1, 2, 2, 3)
    )


def test_the_renderer_stage_writes_weights_with_errors_on_people_kept_out(folder, tmp_path, budget, monkeypatch):
    monkeypatch.setattr(renderer, "Renderer", partial(Renderer, (8, 8, 8, 8), (8, 8, 8), (8, 8)))
    monkeypatch.setattr(renderer, "score_renderer", partial(renderer.score_renderer, count=8))
    out = tmp_path / "out"
    out.mkdir()
    for name in ("crops", "puppets", "space.npz", "motion.safetensors"):
        (out / name).symlink_to(folder / name)
    facts = renderer.train(out, minutes=0.08, batch=2, limit=2)
    state, config = read_state(out / "renderer.safetensors", "renderer")
    load_state_into(Renderer(config["flow_widths"], config["paint_widths"], config["survey_widths"]), state, "renderer")
    assert set(facts) == {"error", "still", "flow"} and 0 < facts["error"] < 2 * facts["still"] and facts["flow"] > 0
    first = config["steps"]
    renderer.train(out, minutes=0.14, batch=2, limit=2, device="cpu")
    assert read_state(out / "renderer.safetensors", "renderer")[1]["steps"] > first > 2


def test_nets_and_batches_of_both_stages_go_where_the_training_is_placed(
    folder, tmp_path, budget, monkeypatch, elsewhere
):
    monkeypatch.setattr(motion, "MotionEncoder", partial(MotionEncoder, 8))
    monkeypatch.setattr(renderer, "Renderer", partial(Renderer, (8, 8, 8, 8), (8, 8, 8), (8, 8)))
    for name in ("crops", "puppets", "space.npz", "motion.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    elsewhere(motion, tmp_path, minutes=0.05, batch=2)
    elsewhere(renderer, tmp_path, minutes=0.05, batch=2, limit=1)
    assert all(torch.load(tmp_path / f"{name}.ckpt")["step"] > 2 for name in ("motion", "renderer"))


def test_a_stage_before_its_time_names_the_one_to_run(tmp_path):
    for stage, wanted in ((motion.train, "crops"), (renderer.train, "motion"), (puppets.write_puppets, "crops")):
        with pytest.raises(UsageError) as caught:
            stage(tmp_path)
        assert f"train {wanted}" in caught.value.hint
