"""Public files become ours once: every name looked at, no code run, what was changed since is noticed."""

import json
import os
import pickle

import pytest
import torch
from debug_echomimic import VAE, make_networks, write_debug_echomimic

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, UsageError
from mouthpiece.lipsync.echomimic import vae as vae_module
from mouthpiece.lipsync.echomimic.audio_encoder import WhisperAudioEncoder
from mouthpiece.lipsync.echomimic.config import DEBUG_CONFIG
from mouthpiece.lipsync.echomimic.vae import Vae, rename_legacy_keys
from mouthpiece.lipsync.echomimic.weights import convert, load_models, locate_files, read_published

CPU = choose_device("cpu")


@pytest.fixture
def published(tmp_path):
    """A folder as on the hub, at debug size; whisper's file holds its decoder too, the VAE has its names of 2022."""
    reference, locator, denoiser = make_networks()
    state = denoiser.state_dict()
    motion = {key: t for key, t in state.items() if ".motion_modules." in key}
    files = {
        "reference_unet.pth": reference.state_dict(),
        "face_locator.pth": locator.state_dict(),
        "denoising_unet.pth": {key: t for key, t in state.items() if key not in motion},
        "motion_module.pth": motion,
        "audio_processor/whisper_tiny.pt": {
            "dims": {"n_mels": 80},
            "model_state_dict": WhisperAudioEncoder().state_dict() | {"decoder.ln.weight": torch.ones(3)},
        },
        "sd-vae-ft-mse/diffusion_pytorch_model.bin": old_names(Vae(VAE).state_dict()),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save(content, tmp_path / name)
    return tmp_path


def old_names(state):
    for old, new in vae_module.LEGACY_NAMES.items():
        state = {key.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): t for key, t in state.items()}
    return state


def test_published_files_are_converted_tensor_by_tensor(published):
    folder = convert(published, shape=DEBUG_CONFIG)
    assert folder == published / "converted"
    assert {path.stem for path in folder.glob("*.safetensors")} == {
        "reference",
        "locator",
        "denoising",
        "motion",
        "vae",
        "ears",
    }
    record = json.loads((folder / "record.json").read_text())["files"]
    assert "OpenRAIL-M" in record["denoising"]["licence"] and record["ears"]["source"] == "whisper_tiny.pt"
    assert len(record["motion"]["sha256"]) == len(record["motion"]["source_sha256"]) == 64
    models = load_models(CPU, "echomimic", folder)
    assert models.shape == DEBUG_CONFIG and models.hashes["vae"] == record["vae"]["sha256"]
    wanted = make_networks()[2].state_dict()
    for key, tensor in models.denoiser.state_dict().items():
        assert torch.equal(tensor, wanted[key].to(tensor.dtype)), key


def test_the_vaes_old_names_are_read(published):
    state = Vae(VAE).state_dict()
    old = old_names(state)
    assert any("attentions.0.query.weight" in key for key in old)
    old = {key: t[:, :, None, None] if key.endswith("query.weight") else t for key, t in old.items()}
    assert {key: tuple(t.shape) for key, t in rename_legacy_keys(old).items()} == {
        key: tuple(t.shape) for key, t in state.items()
    }


def test_a_wrong_file_is_refused_with_its_first_five_names(published):
    state = torch.load(published / "reference_unet.pth")
    wrong = {key.replace("mid_block", "middle"): t for key, t in state.items()}
    torch.save(wrong, published / "reference_unet.pth")
    with pytest.raises(InvalidInputError, match=r"reference_unet\.pth: not EchoMimic's reference") as problem:
        convert(published, shape=DEBUG_CONFIG)
    assert problem.value.message.count("is missing") == 5 and "and " in problem.value.message
    torch.save(state | {"conv_in.weight": torch.zeros(3, 4, 3, 3)}, published / "reference_unet.pth")
    with pytest.raises(InvalidInputError, match=r"conv_in\.weight is \(3, 4, 3, 3\), need \(16, 4, 3, 3\)"):
        convert(published, shape=DEBUG_CONFIG)


def test_the_debug_size_is_no_published_file(published):
    with pytest.raises(InvalidInputError, match="down_blocks.0.resnets.1.norm1.weight is missing"):
        convert(published)


def test_a_truncated_file_is_refused(published):
    path = published / "motion_module.pth"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InvalidInputError, match="truncated, or not a weights file") as problem:
        convert(published, shape=DEBUG_CONFIG)
    assert "models pull" in problem.value.hint
    path.write_bytes(b"no pickle at all")
    with pytest.raises(InvalidInputError, match="not a weights file"):
        read_published(path)
    path.write_bytes(b"")
    with pytest.raises(InvalidInputError, match="empty"):
        read_published(path)


class Trap:
    """Runs a command when it is unpickled by a reader that trusts it."""

    def __reduce__(self):
        return os.system, ("touch trapped",)


@pytest.mark.parametrize("write", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing, 2))])
def test_a_pickle_with_code_in_it_is_refused_and_nothing_runs(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write({"conv_in.weight": Trap()}, tmp_path / "reference_unet.pth")
    with pytest.raises(InvalidInputError, match="could run code") as problem:
        convert(tmp_path, shape=DEBUG_CONFIG)
    assert problem.value.code == "unsafe_pickle" and not (tmp_path / "trapped").exists()


def test_a_folder_without_any_of_the_files_is_said_to_be_so(tmp_path):
    with pytest.raises(UsageError, match="none of EchoMimic's files"):
        convert(tmp_path)


def test_a_file_changed_since_it_was_converted_is_noticed(published):
    convert(published, shape=DEBUG_CONFIG)
    path = published / "converted" / "locator.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MissingDependencyError, match="locator.safetensors is not the file that was converted"):
        load_models(CPU, "echomimic", published / "converted")


def test_missing_weights_name_the_command_and_a_shared_part_may_lie_with_the_other_variant(tmp_path, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="reference.safetensors, locator.safetensors") as problem:
        locate_files("echomimic-acc")
    assert "mouthpiece models pull echomimic-acc" in problem.value.hint and problem.value.exit_code == 3
    whole = tmp_path / "models" / "echomimic" / "converted"
    whole.mkdir(parents=True)
    write_debug_echomimic(whole)
    other = tmp_path / "models" / "echomimic-acc" / "converted"
    other.mkdir(parents=True)
    for part in ("denoising-acc", "motion-acc"):
        (whole / f"{part}.safetensors").rename(other / f"{part}.safetensors")
    assert {path.parent for path in locate_files("echomimic-acc").values()} == {whole, other}
    assert load_models(CPU, "echomimic-acc").shape == DEBUG_CONFIG
    (other / "motion-acc.safetensors").write_bytes(b"broken")
    with pytest.raises(MissingDependencyError, match="motion-acc.safetensors is broken"):
        load_models(CPU, "echomimic-acc")
