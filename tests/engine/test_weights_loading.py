from pathlib import Path

import pytest
import torch
from torch import nn

from mouthpiece.engine.errors import MissingDependencyError, MouthpieceError
from mouthpiece.engine.files import compute_sha256
from mouthpiece.engine.weights import digests, loading, manifest
from mouthpiece.engine.weights.records import get_model_hashes, record_models


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A manifest with one small net, as if it shipped with the package."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    path = tmp_path / "engine" / "embedded" / "tiny.safetensors"
    path.parent.mkdir(parents=True)
    loading.save_state(path, net.state_dict(), {"width": 4})
    entry = {"file": "engine/embedded/tiny.safetensors", "sha256": compute_sha256(path)}
    for module in (loading, manifest):
        monkeypatch.setattr(module, "load_weights_manifest", lambda: {"tiny": entry})
    monkeypatch.setattr(manifest, "__file__", str(tmp_path / "engine" / "weights" / "manifest.py"))
    monkeypatch.delenv(manifest.FOLDER_VARIABLE, raising=False)
    with record_models():
        yield net, path


def fresh():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_saved_weights_come_back_with_their_config_to_half_precision(shipped):
    net, path = shipped
    state, config = loading.load_state("tiny")
    assert config == {"width": 4}
    assert state["0.weight"].dtype == torch.float16 and state["1.num_batches_tracked"].dtype == torch.int64
    other = loading.load_state_into(fresh(), state, "tiny")
    for key, value in net.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=1e-3, atol=1e-3)
    assert get_model_hashes() == {"tiny": compute_sha256(path)}


def test_a_changed_file_is_missing_with_the_advice_to_install_again(shipped):
    _, path = shipped
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MissingDependencyError, match="not the file that was shipped.*again"):
        loading.load_state("tiny")
    assert get_model_hashes() == {}


def test_a_file_is_verified_once_a_process(shipped, monkeypatch):
    loading.load_state("tiny")
    monkeypatch.setattr(digests, "compute_sha256", lambda path: pytest.fail("verified twice"))
    with record_models() as records:  # another job of the process
        loading.load_state("tiny")
    assert list(records.get_hashes()) == ["tiny"]


def test_a_name_or_a_file_that_is_not_there_is_missing(shipped):
    _, path = shipped
    with pytest.raises(MissingDependencyError, match="'huge'.*it has: tiny") as caught:
        loading.load_state("huge")
    assert caught.value.exit_code == 3
    path.unlink()
    with pytest.raises(MissingDependencyError, match="tiny.safetensors is not there"):
        manifest.get_embedded_path("tiny")


def test_a_folder_of_the_user_takes_the_place_of_the_package(shipped, tmp_path, monkeypatch):
    own = tmp_path / "own" / "tiny.safetensors"
    own.parent.mkdir()
    loading.save_state(own, fresh().state_dict(), {"width": 9})
    monkeypatch.setenv(manifest.FOLDER_VARIABLE, str(own.parent))
    assert loading.load_state("tiny")[1] == {"width": 9}
    assert get_model_hashes() == {"tiny": compute_sha256(own)}
    own.write_bytes(b"not weights at all")
    with pytest.raises(MissingDependencyError, match="broken"):
        loading.load_state("tiny")


def test_loading_is_strict_and_names_the_first_five_differences():
    state = {f"extra{i}": torch.zeros(1) for i in range(7)} | {"weight": torch.zeros(2, 2)}
    with pytest.raises(MissingDependencyError) as caught:
        loading.load_state_into(nn.Linear(3, 4), state, "tiny")
    text = caught.value.message
    assert "'tiny' do not fit Linear: bias is missing; extra0 is not known" in text
    assert text.count(";") == 4 and "and 4 more" in text
    with pytest.raises(MissingDependencyError, match=r"weight is \(2, 2\), need \(4, 3\)"):
        loading.load_state_into(nn.Linear(3, 4, bias=False), {"weight": torch.zeros(2, 2)}, "tiny")


@pytest.mark.parametrize("value", [1e5, float("nan"), float("inf")])
def test_values_that_half_precision_cannot_hold_are_not_saved(tmp_path, value):
    with pytest.raises(MouthpieceError, match="w: "):
        loading.save_state(tmp_path / "a.safetensors", {"w": torch.tensor([1.0, value])}, {})
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_of_the_package_describes_every_file_that_ships():
    manifest.load_weights_manifest.cache_clear()
    engine = Path(manifest.__file__).parents[1]
    entries = manifest.load_weights_manifest()
    for name, entry in entries.items():
        assert {"file", "sha256", "bytes", "licence", "source", "description"} <= set(entry), name
        path = engine.parent / entry["file"]
        assert compute_sha256(path) == entry["sha256"], name
        assert path.stat().st_size == entry["bytes"], name
    shipped = {path.name for path in (engine / "embedded").glob("*.safetensors")}
    assert shipped and shipped == {entry["file"].rpartition("/")[2] for entry in entries.values()}
