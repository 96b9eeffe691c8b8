"""`sound` from end to end at debug size: real classes, random weights, the command line in this process."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
import torch
from mmaudio_debug import NAME, generate_sound, make_moving_pictures, make_options

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.voice.mmaudio.generator import SoundtrackGenerator
from mouthpiece.voice.mmaudio.models import accept_licences, check_licences, find_weights, load_models
from mouthpiece.voice.mmaudio.options import SoundOptions
from mouthpiece.voice.mmaudio.random_weights import make_debug_sizes, make_random_state, write_random_weights
from mouthpiece.voice.mmaudio.sizes import VARIANTS
from mouthpiece.voice.mmaudio.soundtrack import list_outputs, map_sound

QUICK = ("--model", NAME, "--device", "cpu", "--precision", "float32", "--steps", "2")


def test_sound_is_written_beside_the_untouched_picture_and_its_side_car_makes_it_again(call, video, folder, tmp_path):
    output = tmp_path / "out.mp4"
    words = (
        str(video),
        "-o",
        str(output),
        "--weights",
        str(folder),
        *QUICK,
        "--takes",
        "2",
        "--prompt",
        "steps",
        "--json",
    )
    answer = call("sound", *words)
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)["result"]
    assert result["output"] == str(output) and result["takes"][0]["output"].endswith("out.take2.mp4")
    facts = json.loads((tmp_path / "out.json").read_text())["facts"]
    assert (
        facts["take"] == 1
        and facts["random_weights"]
        and facts["duration_s"] == 1.6
        and facts["speech_guard"]["again"] == 0
    )

    def packets(path):
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]

    assert packets(output) == packets(video) == packets(tmp_path / "out.take2.mp4")
    wave = read_sound(output)
    assert wave.rate_hz == 48_000 and abs(float(wave.duration) - 1.6) < 0.05 and np.abs(wave.samples).max() > 0.01
    second = np.abs(np.fft.rfft(read_sound(tmp_path / "out.take2.mp4").samples[0]))
    for n in (1, 2):  # the side-car of a take makes that take again, to the bit when nothing else is made with it
        answer = call(
            "sound", str(video), "-o", str(tmp_path / f"again{n}.mp4"), "--preset", str(tmp_path / "out.take2.json")
        )
        assert answer.code == 0, answer.err
    first, again = (read_sound(tmp_path / f"again{n}.mp4").samples for n in (1, 2))
    spectrum = np.abs(np.fft.rfft(first[0]))
    assert np.array_equal(first, again) and np.corrcoef(spectrum, second)[0, 1] > 0.99
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_wave_is_as_long_as_asked_and_dialogue_stays_on_top(call, video, folder, tmp_path):
    line = 0.2 * np.sin(2 * np.pi * 440 * np.arange(3 * 24_000) / 24_000)
    write_sound(tmp_path / "line.wav", Sound(line.astype(np.float32)[None], 24_000))
    output = tmp_path / "out.wav"
    words = ("sound", str(video), "-o", str(output), "--weights", str(folder), *QUICK, "--duration", "1.25")
    assert call(*words).code == 0
    assert soundfile.info(output).frames == 60_000
    assert call(*words, "--force", "--under-dialogue", str(tmp_path / "line.wav"), "--dialogue-gap", "20").code == 0
    facts = json.loads((tmp_path / "out.json").read_text())["facts"]
    before = facts["mix"]["before"]
    assert before["dialogue"]["lufs"] - before["bed"]["lufs"] > 19
    wave, _ = soundfile.read(output)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert abs(spectrum.argmax() * 48_000 / len(wave) - 440) < 2
    assert "cut" in " ".join(facts["mix"]["notes"])


@pytest.mark.parametrize(
    "words, code, sentence",
    [
        (("--duration", "5"), 2, "lasts 1.60 s"),
        (("--duration", "0.3"), 2, "at least 0.64 s"),
        (("--focus", "100,10"), 2, "64x48"),
        (("--focus", "left"), 2, "need x,y"),
        (("--takes", "0"), 2, "--takes 0"),
        (("--model", "mmaudio-tiny"), 2, "mmaudio-small-16k"),
        (("--model", "mmaudio-large-44k"), 3, "mouthpiece models pull mmaudio-large-44k"),
        (("--under-dialogue", "nowhere.wav"), 5, "no such file"),
        (("-o", "out.avi"), 2, ".avi"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(call, video, folder, tmp_path, words, code, sentence):
    answer = call("sound", str(video), "-o", str(tmp_path / "out.mp4"), "--weights", str(folder), *QUICK, *words)
    assert answer.code == code and sentence in answer.err and "Traceback" not in answer.err
    assert list(tmp_path.iterdir()) == []


def test_videos_that_cannot_be_used_are_refused(call, video, folder, tmp_path):
    desk = tmp_path / "desk"
    desk.mkdir()
    with VideoWriter(desk / "short.mp4", Fraction(30), 64, 48) as writer:
        for picture in make_moving_pictures(9):
            writer.write(picture)
    (desk / "text.mp4").write_text("no video")
    (desk / "empty.mp4").write_bytes(b"")
    write_sound(desk / "line.wav", Sound(np.zeros((1, 48_000), np.float32), 48_000))
    cases = {
        "short.mp4": "0.30 s of video",
        "text.mp4": "not a",
        "empty.mp4": "empty",
        "line.wav": "no moving picture",
        "none.mp4": "no such file",
    }
    for name, sentence in cases.items():
        answer = call("sound", str(desk / name), "-o", str(tmp_path / "out.mp4"), "--weights", str(folder), *QUICK)
        assert answer.code == 5 and sentence in answer.err, (name, answer.err)
    assert not (tmp_path / "out.mp4").exists()


def test_a_prompt_of_ten_thousand_letters_is_cut_and_said_so(call, video, folder, tmp_path):
    answer = call(
        "sound",
        str(video),
        "-o",
        str(tmp_path / "out.wav"),
        "--weights",
        str(folder),
        *QUICK,
        "--prompt",
        "rain " * 2000,
    )
    assert answer.code == 0
    assert "--prompt is too long: its first 75 tokens are heard, the last 7925 are not." in answer.err
    assert json.loads((tmp_path / "out.json").read_text())["facts"]["words_not_heard"] == [7925, 0]


def test_a_dry_run_writes_nothing_and_a_video_with_sound_is_told(call, folder, tmp_path):
    with VideoWriter(
        tmp_path / "in.mp4", Fraction(25), 64, 48, Sound(np.full((1, 48_000), 0.1, np.float32), 48_000)
    ) as writer:
        for picture in make_moving_pictures(20):
            writer.write(picture)
    answer = call(
        "sound",
        str(tmp_path / "in.mp4"),
        "-o",
        str(tmp_path / "out.mp4"),
        "--weights",
        str(folder),
        *QUICK,
        "--dry-run",
        "--takes",
        "2",
    )
    assert answer.code == 0 and "out.take2.mp4" in answer.out and "own sound is replaced" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_licences_are_asked_once_and_recorded(call, video, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", str(tmp_path / "cache"))
    other = tmp_path / "other"
    write_random_weights(other, NAME)
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    for path in other.glob("*.safetensors"):  # as if somebody had made them
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["config"])
        save_file(load_file(path), path, {"config": json.dumps({**config, "random": False})})
    words = ("sound", str(video), "-o", str(tmp_path / "out.wav"), "--weights", str(other), *QUICK)
    answer = call(*words)
    assert answer.code == 3 and "CC BY-NC 4.0" in answer.err and "--accept-licence" in answer.err
    assert call(*words, "--accept-licence").code == 0
    assert call(*words, "--force").code == 0
    licences = json.loads((tmp_path / "out.json").read_text())["facts"]["licences"]
    assert set(licences) == {NAME, "mmaudio-codec-16k", "mmaudio-encoders"} and all(
        row["accepted"] for row in licences.values()
    )
    assert check_licences(NAME, find_weights(NAME, folder)) == {} and accept_licences(NAME)


def test_parts_of_different_sets_are_refused(folder, tmp_path):
    from mouthpiece.engine.device import choose_device

    write_random_weights(
        tmp_path, NAME, make_debug_sizes("mmaudio-small-44k") | {"network": make_debug_sizes(NAME)["network"]}
    )
    with pytest.raises(MissingDependencyError, match="latents of network and VAE: 20 and 40"):
        load_models(make_options(), choose_device("cpu"), find_weights(NAME, tmp_path), {})


def test_weights_that_give_no_numbers_are_refused_and_leave_nothing(call, video, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = write_random_weights(tmp_path / "bad", NAME)
    path = folder / "mmaudio_small_16k.safetensors"
    state = load_file(path)
    state["final_layer.conv.bias"] = torch.full_like(state["final_layer.conv.bias"], float("nan"))
    config = {"network": vars(make_debug_sizes(NAME)["network"]), "variant": NAME, "random": True}
    save_file(state, path, {"config": json.dumps(config)})
    answer = call("sound", str(video), "-o", str(tmp_path / "out.mp4"), "--weights", str(folder), *QUICK)
    assert answer.code == 5 and "no numbers" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_too_little_memory_is_said_with_a_way_out(models, monkeypatch):
    def full(*given):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(models.vae, "decode", full)
    with pytest.raises(MissingDependencyError, match="fewer --takes"):
        generate_sound(models, make_options())


def test_names_of_takes_and_sound_on_the_disk(tmp_path):
    assert [path.name for path in list_outputs(tmp_path / "a.b.mp4", 3, 4)] == [
        "a.b.mp4",
        "a.b.take5.mp4",
        "a.b.take6.mp4",
    ]
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4_800)).astype(np.float32)
    write_sound(tmp_path / "x.wav", Sound(wave, 48_000), bits=24)
    mapped = map_sound(tmp_path / "x.wav", tmp_path / "x.raw")
    assert isinstance(mapped.samples.base, np.memmap | np.ndarray) and mapped.channels == 2
    np.testing.assert_allclose(mapped.samples, wave, atol=1e-6)


def test_all_variants_run_in_half_precision_with_their_time_in_full(tmp_path):
    from mouthpiece.engine.device import Placement

    for name in ("mmaudio-large-44k-v2", "mmaudio-small-44k"):
        folder = write_random_weights(tmp_path / name, name)
        chosen = SoundOptions(model=name, steps=2, speech_guard="off", weights=folder)
        half = load_models(
            chosen, Placement(torch.device("cpu"), torch.bfloat16, "test"), find_weights(name, folder), {}
        )
        assert half.network.t_embed.mlp[0].weight.dtype == half.network.latent_mean.dtype == torch.float32
        assert half.network.audio_input_proj[0].weight.dtype == torch.bfloat16
        wave, _ = generate_sound(half, chosen, Fraction(4, 5))
        assert wave.shape == (1, 35_280) and np.isfinite(wave).all()
        assert VARIANTS[name].network.v2 == half.network.size.v2


def test_the_reader_of_a_video_is_asked_once(models, video, monkeypatch):
    opened = []
    real = VideoReader.__iter__
    monkeypatch.setattr(VideoReader, "__iter__", lambda self: opened.append(1) or real(self))
    with VideoReader(video) as reader:
        generator = SoundtrackGenerator(models, make_options(takes=2), Fraction(8, 5), ())
        assert sum(block.shape[1] for block in generator.blocks(reader)) == 25_600
    assert len(opened) == 1 and probe(video).frames == 40


def test_nonsense_options_are_refused_at_birth():
    for wrong in ({"focus": "1"}, {"focus": "-1,2"}, {"takes": 33}, {"duration": 0.5}, {"guidance": -1.0}):
        with pytest.raises(UsageError):
            SoundOptions(**wrong)


def test_random_states_fill_every_tensor_of_the_real_classes():
    sizes = make_debug_sizes(NAME)
    state = make_random_state("network", sizes["network"], torch.Generator().manual_seed(0))
    assert state["latent_std"].eq(1).all() and state["audio_input_proj.0.weight"].std() > 0
