"""`animate --model echomimic` whole, at debug size from the real classes: every option matters, exact frames, what
fails says why.
"""

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from debug_echomimic import write_debug_echomimic

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.device import choose_device
from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.progress import Progress
from mouthpiece.engine.timeline import count_frames
from mouthpiece.lipsync.echomimic import pipeline
from mouthpiece.lipsync.echomimic.config import DEBUG_CONFIG
from mouthpiece.lipsync.echomimic.options import EchoMimicAccOptions, EchoMimicControls, EchoMimicOptions
from mouthpiece.lipsync.echomimic.pipeline import animate, decode_frames, mute_silence
from mouthpiece.lipsync.echomimic.weights import load_models
from mouthpiece.lipsync.options import AnimateOptions, PortraitOptions, resolve_animate_options
from mouthpiece.lipsync.portrait.animation_job import prepare_animation

QUICK = EchoMimicOptions(resolution=64, fps=Fraction(10), steps=1, guidance=2.0, window=3, overlap=1, gate=False)
SILENT = Progress("none")


@pytest.fixture(scope="session")
def echo_folder(tmp_path_factory):
    shape = dataclasses.replace(DEBUG_CONFIG, speed_buckets=3)
    return write_debug_echomimic(tmp_path_factory.mktemp("echo"), shape)


@pytest.fixture
def make(desk, echo_folder):
    """Animates the desk's portrait under options that differ from QUICK; gives the frames as they are in the file."""
    placement = dataclasses.replace(choose_device("cpu"), dtype=torch.float32)
    models = load_models(placement, "echomimic", echo_folder)

    def make(name="out.mp4", sound="line.wav", **differing):
        job = prepare_animation(desk / "portrait.png", desk / sound, dataclasses.replace(QUICK, **differing))
        facts = animate(job, desk / name, models, placement, SILENT, overwrite=True)
        with VideoReader(desk / name) as reader:
            frames = np.stack([frame.pixels for frame in reader])
        assert len(frames) == facts["frames"] and frames.shape[1:3] == (facts["height_px"], facts["width_px"])
        assert set(facts["weights"]) == {
            f"echomimic/{part}" for part in ("reference", "locator", "vae", "ears", "denoising", "motion")
        }
        return frames

    return make


FLIPS = {
    "seed": {"seed": 1},
    "steps": {"steps": 2},
    "guidance": {"guidance": 1.0},
    "fps": {"fps": Fraction(20)},
    "size": {"size": 128},
    "frame": {"frame": "crop"},
    "face": {"face": "40,200,60"},
    "gate": {"gate": True},
    "quality": {"quality": 40},
    "resolution": {"resolution": 80},
    "windows": {"windows": "closed-loop"},
    "window": {"window": 2},
    "overlap": {"window": 2, "overlap": 0},
    "carry": {"carry": "clean"},
    "head_width": {"head_width": 1.5},
    "head_height": {"head_height": 1.5},
    "speed": {"speed": 1.0},
}


def test_every_option_changes_the_picture(make):
    fields = set(EchoMimicOptions.__dataclass_fields__)
    assert fields - set(FLIPS) <= {"model", "device", "batch", "weights", "compile", "text", "voice"}
    standard, short = make(), make(window=2)
    for name, change in FLIPS.items():
        plain, changed = short if name == "overlap" else standard, make(**change)
        assert changed.shape != plain.shape or np.abs(changed.astype(int) - plain).max() > 1, name


def test_batches_change_nothing_and_a_seed_repeats(make, echo_folder):
    assert np.array_equal(make(), make())
    models = load_models(dataclasses.replace(choose_device("cpu"), dtype=torch.float32), "echomimic", echo_folder)
    latents = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, ones = (
            np.stack(list(decode_frames([latents], models, dataclasses.replace(QUICK, batch=n)))) for n in (3, 1)
        )
    assert whole.shape == (5, 64, 64, 3) and np.abs(whole.astype(int) - ones).max() <= 1


def test_only_the_square_around_the_face_moves(make, head):
    frames = make(face="128,110,40")
    still = np.abs(frames.astype(int) - head[: frames.shape[1], : frames.shape[2]]).max(0).max(-1)
    assert still[:20].mean() < 6 < still[95:125, 110:146].mean()
    assert frames[1:].std(0).max() > 0


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30), Fraction(60)])
def test_frames_cover_the_sound_exactly_in_both_ways(make, desk, fps):
    for windows in ("causal", "closed-loop"):
        make(fps=fps, windows=windows, steps=1, guidance=1.0, window=12)
        assert probe(desk / "out.mp4").frames == count_frames(Fraction(6400, 16000), fps)


def test_the_reference_network_runs_once_and_the_denoiser_once_a_step_and_window(make, monkeypatch):
    calls = {"reference": 0, "denoiser": []}
    look, speak = pipeline.encode_scene, pipeline.PortraitDenoiser.__call__

    def counted(job, models, placement):
        hook = models.reference.register_forward_hook(lambda *_: calls.update(reference=calls["reference"] + 1))
        scene = look(job, models, placement)
        hook.remove()
        return scene

    monkeypatch.setattr(pipeline, "encode_scene", counted)
    monkeypatch.setattr(
        pipeline.PortraitDenoiser,
        "__call__",
        lambda self, x, *rest: calls["denoiser"].append(len(x)) or speak(self, x, *rest),
    )
    make(steps=2, guidance=1.0)  # 4 frames: windows 0-3 and 1-4
    assert calls == {"reference": 1, "denoiser": [1] * 4}


def test_noise_and_music_are_muted():
    rng = np.random.default_rng(0)
    assert np.abs(mute_silence((0.1 * rng.standard_normal(16_000)).astype(np.float32))).max() == 0


def test_a_gpu_without_room_says_what_to_lower(make, monkeypatch, desk):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(pipeline, "cache_keys_and_values", full)
    with pytest.raises(MissingDependencyError) as problem:
        make()
    assert "--resolution 64" in problem.value.message and "--batch 1" in problem.value.hint and problem.value.retryable
    assert not list(desk.glob("*out*"))


def test_other_errors_of_the_network_stay_what_they_are(make, monkeypatch):
    def broken(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(pipeline, "cache_keys_and_values", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        make()


def test_defaults_are_those_of_the_published_pipelines():
    normal, acc = (
        resolve_animate_options(None, {"model": "echomimic"}),
        resolve_animate_options({"model": "echomimic-acc"}, {}),
    )
    assert (type(normal), normal.steps, normal.guidance) == (EchoMimicOptions, 30, 2.5)
    assert (type(acc), acc.steps, acc.guidance) == (EchoMimicAccOptions, 6, 1.0)
    assert (normal.resolution, normal.window, normal.overlap) == (512, 12, 3)
    assert resolve_animate_options(acc.settings(), {}) == acc
    assert type(resolve_animate_options(None, {})) is AnimateOptions


def test_options_of_another_model_and_nonsense_are_refused():
    with pytest.raises(UsageError, match="--blink-rate: has no meaning with --model echomimic"):
        resolve_animate_options(None, {"model": "echomimic", "blink_rate": 3.0})
    with pytest.raises(UsageError, match="--head-height: has no meaning with --model mini"):
        resolve_animate_options(None, {"head_height": 2.0})
    with pytest.raises(UsageError, match="--model wav2lip"):
        resolve_animate_options(None, {"model": "wav2lip"})
    for wrong in (
        {"resolution": 100},
        {"window": 3, "overlap": 3},
        {"head_width": 0.1},
        {"carry": "loud"},
        {"face": "nobody"},
    ):
        with pytest.raises(UsageError):
            resolve_animate_options(None, {"model": "echomimic"} | wrong)
    own = set(EchoMimicControls.__dataclass_fields__)
    assert own.isdisjoint(PortraitOptions.__dataclass_fields__)


def test_a_speed_needs_weights_with_speed_layers(make, desk, tmp_path):
    placement = choose_device("cpu")
    models = load_models(placement, "echomimic", write_debug_echomimic(tmp_path))
    job = prepare_animation(desk / "portrait.png", desk / "line.wav", dataclasses.replace(QUICK, speed=0.5))
    with pytest.raises(UsageError, match="no speed layers"):
        animate(job, desk / "out.mp4", models, placement, SILENT)


def test_the_command_line_animates_and_its_side_car_makes_the_same_file_again(call, desk, echo_folder):
    words = ("animate", str(desk / "portrait.png"), str(desk / "line.wav"), "-q")
    write_sound(desk / "line.wav", Sound(np.zeros((1, 3200), np.float32), 16_000), overwrite=True)
    flags = (
        "--model",
        "echomimic-acc",
        "--weights",
        str(echo_folder),
        "--resolution",
        "64",
        "--steps",
        "1",
        "--fps",
        "10",
    )
    assert call(*words, "-o", str(desk / "a.mp4"), *flags).code == 0
    payload = json.loads((desk / "a.json").read_text())
    assert payload["settings"]["model"] == "echomimic-acc" and payload["settings"]["guidance"] == 1.0
    assert len(payload["facts"]["weights"]["echomimic-acc/denoising-acc"]) == 64
    assert call(*words, "-o", str(desk / "b.mp4"), "--preset", str(desk / "a.json")).code == 0
    with VideoReader(desk / "a.mp4") as a, VideoReader(desk / "b.mp4") as b:
        assert all(np.array_equal(x.pixels, y.pixels) for x, y in zip(a, b, strict=True))


def test_without_weights_the_command_line_says_which_command_gets_them(call, desk, tmp_path, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", str(tmp_path / "cache"))
    for dry in ((), ("--dry-run",)):
        words = ("animate", str(desk / "portrait.png"), str(desk / "line.wav"), "-o", str(desk / "o.mp4"))
        answer = call(*words, "--model", "echomimic", *dry)
        assert answer.code == 3 and "mouthpiece models pull echomimic" in answer.err and "Traceback" not in answer.err
    assert not list(desk.glob("*o.mp4"))
