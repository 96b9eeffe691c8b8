"""The parity check: a folder of its format passes, whatever its sizes, and a weight that was changed is found."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mouthpiece.voice.mmaudio.sizes import VaeSize, VocoderSize, convert_to_config
from mouthpiece.voice.mmaudio.vae import MelVAE
from mouthpiece.voice.mmaudio.vocoder import Vocoder

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def check():
    before = list(sys.path)
    sys.path.append(str(BENCHMARKS))  # last: a benchmark may bear the name of a room
    try:
        from parity_mmaudio import check
    finally:
        sys.path[:] = before
    return check


def fixture(folder, kind, size, state, tensors, checked):
    """One fixture: io and weights files, and the JSON that says which tensors are outputs."""
    name = f"{kind}_case"
    save_file(state, folder / f"{name}.weights.safetensors")
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.io.safetensors")
    limits = {
        key: {"doc": "", "tol": {"metric": "max_over_rms", "value": 1e-4}} if key in checked else {"doc": ""}
        for key in tensors
    }
    facts = {
        "kind": kind,
        "config": convert_to_config(size),
        "weights": f"{name}.weights.safetensors",
        "tensors": limits,
    }
    (folder / f"{name}.json").write_text(json.dumps(facts))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(11)
    vae, vocoder = MelVAE(VaeSize(9, 3, 5)), Vocoder(VocoderSize(9, (2, 2), (4, 4), 8))
    raw = {key: tensor.clone() for key, tensor in vae.state_dict().items()}
    vae.fuse()
    z, mel = torch.randn(2, 3, 7), torch.randn(1, 9, 6)
    with torch.no_grad():
        fixture(
            tmp_path,
            "mel_vae",
            vae.size,
            raw,
            {"in.z": z, "in.mel0": torch.randn(1, 9, 8), "out.dec.mel": vae.decode(z)},
            ["out.dec.mel"],
        )
        fixture(
            tmp_path,
            "bigvgan",
            vocoder.size,
            vocoder.state_dict(),
            {"in.mel": mel, "out.waveform": vocoder(mel)},
            ["out.waveform"],
        )
    return tmp_path


def test_a_folder_of_its_own_making_passes(check, folder):
    rows = check(folder)
    assert [row.name for row in rows] == ["bigvgan_case/out.waveform", "mel_vae_case/out.dec.mel"] and all(
        row.ok for row in rows
    )


def test_a_changed_weight_is_found_where_it_matters(check, folder):
    path = folder / "mel_vae_case.weights.safetensors"
    state = load_file(path)
    state["decoder.mid.block_1.conv2.weight"][0, 0, 0] += 0.5
    save_file(state, path)
    assert [row.ok for row in check(folder)] == [True, False]


def test_what_is_missing_or_not_known_counts_as_missed(check, folder):
    facts = json.loads((folder / "bigvgan_case.json").read_text())
    facts["tensors"]["out.else"] = {"doc": "", "tol": {"metric": "max_abs", "value": 1.0}}
    (folder / "bigvgan_case.json").write_text(json.dumps(facts))
    assert {row.name: row.ok for row in check(folder)}["bigvgan_case/out.else"] is False
    path = folder / "bigvgan_case.weights.safetensors"
    state = load_file(path)
    state.pop("conv_pre.bias")
    save_file(state, path)
    assert [row.ok for row in check(folder)] == [False, False, True]
