"""The parity check on a folder of other seeds, widths, lengths and latent size: it passes, and one changed weight makes
it fail.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from debug_weights import randomize
from safetensors.torch import load_file, save_file

from mouthpiece.engine.sampling import NoiseLevel
from mouthpiece.lipsync.echomimic.config import NetworkConfig
from mouthpiece.lipsync.echomimic.networks import Denoiser, FaceLocator, ReferenceNet
from mouthpiece.lipsync.echomimic.sampling import (
    compute_betas,
    find_published_level,
    make_circular_windows,
    make_levels,
)

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SHAPE = NetworkConfig((16, 32, 16, 32), layers=2, heads=4, groups=4, audio_width=24, locator_widths=(3, 5, 4, 6))
SIZE, FPS, STATES, CAP, STEPS, CFG, CONTEXT, OVERLAP = (4, 6), 24, 23, 11, 3, 1.7, 5, 2
EARS = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 4}
LIMITS = {"max_over_rms": 1e-4, "rel_l2": 2e-5}


def import_benchmark(name):
    """A module of the folder of benchmarks, which is no package: its path is left in place."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)


count_published_frames = import_benchmark("published_echomimic").count_published_frames


@pytest.fixture(scope="module")
def checker():
    return import_benchmark("parity_echomimic")


def outputs(**shapes):
    return {
        name: {"role": "output", "shape": list(shape), "meaning": "", "tol": LIMITS} for name, shape in shapes.items()
    }


def loop_settings(frames):
    windows = make_circular_windows(frames, CONTEXT, OVERLAP)
    return dict(
        fps=FPS,
        cap=CAP,
        frames=frames,
        steps=STEPS,
        cfg=CFG,
        context_frames=CONTEXT,
        overlap=OVERLAP,
        window_starts=[x[0] for x in windows],
        window=CONTEXT,
        timesteps=[int(level.time) for level in make_levels(STEPS)[:-1]],
    )


def denoise_part(draw):
    h, w = SIZE
    mid = {**outputs(**{"a.tap.mid_block": (1, 32, 1, 1, 1), "a.tap.conv_in": (1, 16, 1, 2, 3)})}
    mid["a.tap.conv_in"]["meaning"] = "middle frame (index 1) only, every 2nd row and column"
    mid["a.tap.mid_block"]["meaning"] = "middle frame (index 1) only"
    units = {"motion": "up_blocks.2.motion_modules.1"}
    inputs = {
        "a.in.latents": draw(1, 4, 2, h, w),
        "a.in.audio": draw(1, 2, 50, 24),
        "b.in.latents": draw(1, 4, 3, h, w),
        "b.in.audio": draw(1, 1, 50, 24),
        "unit.in.motion": draw(1, 32, 2, h, w),
        "unit.in.temb": draw(1, 64),
    }
    made = {
        "a.out.v": (1, 4, 2, h, w),
        "b.out.v": (2, 4, 3, h, w),
        "b.out.v_cfg1.7": (1, 4, 3, h, w),
        "unit.out.motion": (1, 32, 2, h, w),
    }
    config = {"t": {"a": 321, "b": 77}, "heads": 4, "norm_num_groups": 4, "units": units}
    return config, inputs, mid | outputs(**made)


def loop_part(draw, mask, frames):
    h, w = SIZE
    clip = (1, 4, frames, h, w)
    inputs = {
        "in.audio_states": draw(STATES, 5, 24),
        "in.mask": mask,
        "in.noise": 2 * draw(*clip),
        "in.ref_latents": draw(1, 4, h, w),
    }
    window = (2, 4, CONTEXT, h, w)
    made = {"out.final": clip, "out.step0.v": clip, "out.step1.latents": clip, "out.step1.window1.v": window}
    return loop_settings(frames), inputs, outputs(**made)


def audio_part(draw):
    one = {"samples": 4000, "mel_frames": 25, "states": 12, "frames_fps30": count_published_frames(12, 30.0)}
    inputs = {
        "one.in.pcm8": (60 * draw(4000)).clamp(-127, 127).to(torch.int8),
        "one.frame_index.fps30": torch.tensor([0, 5], dtype=torch.int32),
    }
    made = {"one.out.logmel": (80, 25), "one.out.states": (12, 5, 16), "one.out.tokens.fps30": (2, 50, 16)}
    return {"clips": {"one": one}, "model": EARS}, inputs, outputs(**made)


def parts():
    """name of a part -> (config, inputs, outputs with their shapes); what the outputs are is filled in later."""
    h, w = SIZE
    rng = torch.Generator().manual_seed(11)

    def draw(*shape):
        return torch.randn(shape, generator=rng)

    frames = count_published_frames(STATES, FPS, CAP)
    mask = torch.randint(0, 255, (8 * h, 8 * w), generator=rng).to(torch.uint8)
    face = {"out.face": (1, 16, 1, h, w), "tap.blocks.3": (1, 4, h, 2 * w)[:1] + (4, 1, 2 * h, 2 * w)}
    bank = {"bank.mid_block.attentions.0": (1, 1, 32), "tap.up_blocks.0": (1, 32, 1, 2)}
    return {
        "locator": ({}, {"in.mask": mask}, outputs(**face)),
        "reference": ({}, {"in.latents": draw(1, 4, h, w)}, outputs(**bank)),
        "denoise": denoise_part(draw),
        "ddim": (
            {"steps": [7]},
            {"in.sample": draw(1, 4, 2, h, w), "in.v": draw(1, 4, 2, h, w)},
            outputs(**{"out.steps7.t142": (1, 4, 2, h, w)}),
        ),
        "loop_own": loop_part(draw, mask, frames),
        "audio": audio_part(draw),
    }


def write_tables(folder, checker):
    """Schedules, windows, counts and the recipe of the ears."""
    bars = torch.cumprod(1 - compute_betas(), 0).tolist()
    steps = [
        {"t": int(level.time), "alpha_prev": find_published_level(level.time, 7).alpha ** 2}
        for level in make_levels(7)[:-1]
    ]
    tables = {
        "ddim": {
            "alphas_cumprod": bars,
            "schedules": {"7": {"timesteps": [step["t"] for step in steps], "steps": steps}},
        },
        "windows": {
            "context_frames": 5,
            "overlap": {"2": {"9": {"starts": [0, 3, 6], "visits": [1] * 9}, "8": {"starts": [0, 3, 6]}}},
        },
        "frame_counts": {"rates": {"24": [count_published_frames(t, 24.0) for t in (1, 2, 3)]}},
        "whisper_recipe": {"seed": 5, "tensors": {}},
    }
    tables["windows"]["overlap"]["2"]["9"]["visits"] = np.bincount(
        np.concatenate(make_circular_windows(9, 5, 2)), minlength=9
    ).tolist()
    ears = checker.WhisperAudioEncoder(*(EARS[key] for key in checker.WHISPER))
    for name, tensor in ears.state_dict().items():
        about = {
            "shape": list(tensor.shape),
            "kind": "normal" if tensor.dim() > 1 else "uniform",
            "c": 2e-6,
            "lo": -0.1,
            "span": 0.2,
            "sha256": None,
        }
        tables["whisper_recipe"]["tensors"][name] = about | ({"kind": "sinusoids"} if "positional" in name else {})
    for name, table in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(table))


def write_part(folder, name, content):
    config, inputs, wanted = content
    zeros = {key: torch.zeros(about["shape"]) for key, about in wanted.items()}
    save_file(inputs | zeros, folder / f"{name}.io.safetensors")
    given = {key: {"role": "input", "shape": list(tensor.shape)} for key, tensor in inputs.items()}
    facts = {"config": config, "tensors": wanted | given}
    (folder / ("ddim_io.json" if name == "ddim" else f"{name}.json")).write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, checker):
    """A complete fixture of our own: what the networks give is recorded into it first."""
    folder = tmp_path_factory.mktemp("fixture")
    write_tables(folder, checker)
    for name, content in parts().items():
        write_part(folder, name, content)
    reference, locator, denoiser = (
        randomize(kind(SHAPE), 1.0, 3 + i) for i, kind in enumerate((ReferenceNet, FaceLocator, Denoiser))
    )
    state = denoiser.state_dict()
    motion = {key: tensor for key, tensor in state.items() if ".motion_modules." in key}
    states = {"reference": reference.state_dict(), "locator": locator.state_dict(), "motion": motion}
    states["denoising"] = {key: tensor for key, tensor in state.items() if key not in motion}
    for name, tensors in states.items():
        eighth = {
            key: tensor.to(torch.float8_e4m3fn) if tensor.dim() > 1 and not key.endswith(".pe") else tensor
            for key, tensor in tensors.items()
        }
        save_file(eighth, folder / f"{name}.weights.safetensors")
    record(folder, checker)
    return folder


def record(folder, checker):
    """Replaces the zeros by what the check computes."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            checker.Fixture,
            "compare",
            lambda self, part, key, mine: made.setdefault(part, {}).update({key: mine.clone()}),
        )
        checker.check(folder)
    for part, tensors in made.items():
        path = folder / f"{part}.io.safetensors"
        whole = load_file(path)
        for key, tensor in tensors.items():
            assert tensor.shape == whole[key].shape, (part, key, tensor.shape)
        save_file(whole | {key: tensor.contiguous() for key, tensor in tensors.items()}, path)


def missed(checker, folder):
    return [row.name for row in checker.check(folder) if not row.ok]


def changed(folder, name, key, change):
    """Changes one tensor of a file; gives what puts it back."""
    path = folder / f"{name}.safetensors"
    old = path.read_bytes()
    tensors = load_file(path)
    save_file(tensors | {key: change(tensors[key].float()).to(tensors[key].dtype)}, path)
    return lambda: path.write_bytes(old)


def test_a_folder_of_other_sizes_passes_and_every_output_in_it_was_compared(checker, folder):
    rows = checker.check(folder)
    assert [row.name for row in rows if not row.ok] == []
    outputs = {f"{part}/{key}" for part, (_, _, wanted) in parts().items() for key in wanted}
    assert outputs <= {row.name for row in rows}


def test_one_changed_weight_or_number_is_found(checker, folder):
    cases = {
        (
            "motion.weights",
            "up_blocks.2.motion_modules.1.temporal_transformer.proj_in.weight",
        ): "denoise/unit.out.motion",
        ("reference.weights", "down_blocks.1.resnets.0.conv1.weight"): "reference/bank.mid_block.attentions.0",
        ("loop_own.io", "out.step1.latents"): "loop_own/out.step1.latents",
        ("ddim.io", "out.steps7.t142"): "ddim/out.steps7.t142",
    }
    undo = [
        changed(folder, *where, lambda tensor: tensor + 0.5 * (torch.arange(tensor.numel()) == 0).view(tensor.shape))
        for where in cases
    ]
    found = missed(checker, folder)
    assert set(cases.values()) <= set(found) and "locator/out.face" not in found
    for restore in undo:
        restore()


def test_what_nobody_compared_misses_and_a_manifest_is_believed(checker, folder):
    facts = json.loads((folder / "locator.json").read_text())
    (folder / "locator.json").write_text(
        json.dumps(facts | {"tensors": facts["tensors"] | outputs(**{"out.new": (1,)})})
    )
    assert missed(checker, folder) == ["locator/out.new (not compared)"]
    (folder / "locator.json").write_text(json.dumps(facts))
    (folder / "manifest.json").write_text(json.dumps({"files": {"ddim.json": {"sha256": "0" * 64}}}))
    assert missed(checker, folder) == ["manifest/ddim.json"]
    (folder / "manifest.json").unlink()


def test_a_step_lands_where_the_recorded_one_does_and_not_at_the_next_one_visited():
    assert int(find_published_level(142, 7).time) == 0 and isinstance(find_published_level(142, 7), NoiseLevel)


def test_the_command_exits_1_where_nothing_is(checker, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["parity.py", "echomimic", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        importlib.import_module("parity").main()
    assert end.value.code == 1 and "no complete fixture" in capsys.readouterr().err


def test_the_command_prints_each_error_beside_its_tolerance_and_exits_by_them(checker, folder, monkeypatch, capsys):
    rows = [
        checker.ParityRow("good", (1e-7, 2e-8), (1e-5, 2e-6), True),
        checker.ParityRow("bad", (1.0, 2.0), (1e-5, 2e-6), False),
    ]
    monkeypatch.setattr(sys, "argv", ["parity.py", "echomimic", str(folder)])
    for some, code in ((rows[:1], 0), (rows, 1), ([], 1)):
        monkeypatch.setattr(checker, "check", lambda folder, some=some: some)
        assert importlib.import_module("parity").main() == code
    assert "MISS bad: 1.0e+00 2.0e+00 (tolerance 1.0e-05 2.0e-06)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("states", "fps", "count"),
    [(50, 25, 27), (50, 24, 26), (100, 25, 52), (100, 24, 50), (68, 25, 36), (68, 24, 35), (1561, 24, 751)],
)
def test_the_published_pipelines_make_more_frames_than_the_sound_lasts(states, fps, count):
    assert count_published_frames(states, float(fps)) == count and count_published_frames(states, float(fps), 9) == 9
