"""MMAudio's networks against reference tensors: any folder of the fixture format, whatever its sizes, lengths and
seeds.

  python benchmarks/parity.py mmaudio FOLDER      (or: python benchmarks/parity_mmaudio.py FOLDER)
Every tensor that states a tolerance is computed from the folder's own weights and inputs and compared; one that
cannot be computed counts as missed. Key lists in FOLDER/contract are loaded strictly at full size on the meta device.
"""

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parent))  # last: a benchmark may bear the name of a room

from parity_mmaudio_network import check_network, record_outputs
from parity_row import ParityRow

from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.voice.mmaudio.checkpoints import build_network, build_sync, build_vae, build_vocoder
from mouthpiece.voice.mmaudio.frames import crop_for_sync, normalize_for_sync, resize_for_clip
from mouthpiece.voice.mmaudio.mel import compute_log_mel, make_mel_filterbank
from mouthpiece.voice.mmaudio.network import compute_sync_index
from mouthpiece.voice.mmaudio.sizes import RATES, AudioRates, NetworkSize, SyncSize, VaeSize, VocoderSize, parse_size
from mouthpiece.voice.mmaudio.vae import fuse_weight, sample_posterior, split_moments

MISSED = float("inf")
METRICS = {
    "max_over_rms": lambda a, b: (a - b).abs().max() / b.square().mean().sqrt().clamp_min(1e-300),
    "max_abs": lambda a, b: (a - b).abs().max(),
    "max_rel": lambda a, b: ((a - b).abs() / b.abs()).max(),
}


class FixtureCase(NamedTuple):
    """One fixture: folder, facts of its JSON, tensors of its io file, tensors of its weights file."""

    folder: Path
    facts: dict
    io: dict
    weights: dict


def open_case(path):
    """The Case of a fixture's JSON."""
    facts = json.loads(path.read_text())
    io = load_file(path.with_name(path.stem + ".io.safetensors"))
    weights = load_file(path.parent / facts["weights"]) if "weights" in facts else {}
    return FixtureCase(path.parent, facts, io, weights)


def measure_error(found, wanted, metric):
    """The error of a tensor in the metric that its tolerance is stated in; infinite for another shape or no number."""
    found, wanted = torch.as_tensor(found), torch.as_tensor(wanted)
    if tuple(found.shape) != tuple(wanted.shape) or not torch.isfinite(found.double()).all():
        return MISSED
    error = float(METRICS[metric](found.double(), wanted.double()))
    return error if error == error else MISSED


def compare(case, made, label):
    """A Row for each tensor with a tolerance; `made` maps names to tensors, absent ones count as missed."""
    rows = []
    for name, facts in case.facts["tensors"].items():
        if "tol" in facts:
            tolerance = facts["tol"]["value"]
            error = measure_error(made[name], case.io[name], facts["tol"]["metric"]) if name in made else MISSED
            rows.append(ParityRow(f"{label}/{name}", error, tolerance, error <= tolerance))
    return rows


def check_mel(case):
    config = case.facts["config"]
    rates = AudioRates(
        "",
        config["sampling_rate"],
        config["hop_size"],
        config["n_fft"],
        config["num_mels"],
        config["fmax"],
        10 if config["log"] == "log10" else np.e,
    )
    made = {"mel_basis": make_mel_filterbank(rates)}
    return made | {
        n.replace("waveform", "mel"): compute_log_mel(w, rates) for n, w in case.io.items() if n.endswith(".waveform")
    }


def check_vae(case):
    io, vae = case.io, build_vae(case.weights, parse_size(VaeSize, case.facts["config"]))
    made = {
        f"fused.{name}": fuse_weight(w)
        for name, w in case.weights.items()
        if w.dim() == 3 and w.shape[2] % 2 and name.endswith("weight")
    }
    for name in [name for name in io if re.fullmatch(r"in\.mel\d+", name)]:
        index = name.removeprefix("in.mel")
        mean, log_variance = vae.encode(io[name])
        made |= {f"out.enc{index}.mean": mean, f"out.enc{index}.logvar": log_variance}
        made[f"out.enc{index}.moments_unnormalized_input"] = vae.encoder(io[name])
        if f"in.noise{index}" in io:
            made[f"out.enc{index}.sample"] = sample_posterior(mean, log_variance, io[f"in.noise{index}"])
    if "in.moments" in io:
        made["out.moments.mean"], made["out.moments.logvar"] = split_moments(io["in.moments"])
    made |= {"out.dec.mel": vae.decode(io["in.z"]), "out.dec.mel_standardized": vae.decoder(io["in.z"])}
    if "in.latents_bnc" in io:
        made["out.dec.from_latents_bnc"] = vae.decode(io["in.latents_bnc"].transpose(1, 2))
    for short, trunk, value in (
        ("enc", vae.encoder, (io["in.mel0"] - vae.data_mean) / vae.data_std),
        ("dec", vae.decoder, io["in.z"]),
    ):
        names = {n.removeprefix(f"tap.{short}."): n for n in case.facts["tensors"] if n.startswith(f"tap.{short}.")}
        made |= {n: t[:1] for n, t in record_outputs(trunk, names, lambda: trunk(value)).items()}
    return made


def check_fused_weights(case, label):
    """Rows for the checksums of every fused weight."""
    rows = []
    for name, wanted in case.facts.get("fused_checks", {}).items():
        fused = fuse_weight(case.weights[name]).double()
        found = {"l2": fused.norm(), "sum": fused.sum(), "first": fused.flatten()[0]}
        error = max(abs(float(found[key]) - value) / max(1.0, wanted["l2"]) for key, value in wanted.items())
        rows.append(ParityRow(f"{label}/fused_checks.{name}", error, 1e-5, error <= 1e-5))
    return rows


def check_vocoder(case):
    vocoder = build_vocoder(case.weights, parse_size(VocoderSize, case.facts["config"]))
    names = {n.removeprefix("tap."): n for n in case.facts["tensors"] if n.startswith("tap.")}
    names = {re.sub(r"^ups\.(\d+)$", r"ups.\1.0", inner): n for inner, n in names.items()}
    made = {}
    kept = record_outputs(vocoder, names, lambda: made.update({"out.waveform": vocoder(case.io["in.mel"])}))
    return made | {name: tensor[:1] for name, tensor in kept.items()}


def check_synchformer(case):
    encoder = build_sync(case.weights, parse_size(SyncSize, case.facts["config"]))
    seed, side = case.io["in.frames_seed"], case.facts["config"]["img_size"]
    frames = seed.repeat_interleave(side // seed.shape[-2], -2).repeat_interleave(side // seed.shape[-1], -1)
    names = {n.removeprefix("tap."): n for n in case.facts["tensors"] if n.startswith("tap.")}
    made = {}
    kept = record_outputs(encoder, names, lambda: made.update({"out.features": encoder(frames)}))
    for name, tensor in kept.items():
        tensor = tensor.flatten(2).transpose(1, 2) if tensor.dim() == 5 else tensor.flatten(1, -2)
        found = re.search(r"every (\d+)\w\w token", case.facts["tensors"][name]["doc"])
        every = int(found[1]) if found else -(-tensor.shape[1] // case.io[name].shape[1])
        made[name] = tensor[:1, ::every]
    return made


def check_preprocessing(case):
    made = {}
    for prefix in sorted({name.partition(".")[0] for name in case.io}):
        height, width = case.facts["config"]["frame_size"][int(prefix.removeprefix("f"))]
        seed = case.io[f"{prefix}.in.seed"].numpy()
        pixels = seed.repeat(height // seed.shape[0], 0).repeat(width // seed.shape[1], 1)
        wanted = case.io[f"{prefix}.out.clip"].shape[-1], case.io[f"{prefix}.out.sync"].shape[-1]
        clip = resize_for_clip(pixels, case.facts["config"]["clip_size"]).float() / 255
        sync = normalize_for_sync(crop_for_sync(pixels, case.facts["config"]["sync_size"]))
        for name, full, kept in (("clip", clip, wanted[0]), ("sync", sync, wanted[1])):
            every = -(-full.shape[-1] // kept)
            made[f"{prefix}.out.{name}"] = full[:, ::every, ::every]
    return made


def check_chain(case):
    config, io = case.facts["config"], case.io
    other = {key: open_case(case.folder / f"{config[key]}.json") for key in ("vae", "vocoder")}
    vae = build_vae(other["vae"].weights, parse_size(VaeSize, other["vae"].facts["config"]))
    vocoder = build_vocoder(other["vocoder"].weights, parse_size(VocoderSize, other["vocoder"].facts["config"]))
    mel = vae.decode(io["in.latents"].transpose(1, 2))
    return {"out.mel": mel, "out.waveform": vocoder(mel)}


CASES = {
    "mmaudio_network": check_network,
    "mel_converter": check_mel,
    "mel_vae": check_vae,
    "bigvgan": check_vocoder,
    "synchformer_visual": check_synchformer,
    "frame_preprocessing": check_preprocessing,
    "decode_chain": check_chain,
}


def check_contract(folder):
    """Rows for the key lists of full size, loaded strictly on the meta device, and for the table of lengths."""
    builders = {
        "network": (build_network, NetworkSize),
        "vae": (build_vae, VaeSize),
        "vocoder": (build_vocoder, VocoderSize),
        "synchformer": (build_sync, SyncSize),
    }
    rows = []
    for path in sorted(folder.glob("*_*.json")):
        facts = json.loads(path.read_text())
        if path.stem == "sequence_lengths":
            rows += check_lengths(facts)
            continue
        build, kind = builders[path.stem.partition("_")[0]]
        sizes = dict(facts["hyperparameters"])
        if "joint_blocks" in sizes:
            sizes |= {"fused_depth": sizes["fused_blocks"], "depth": sizes["joint_blocks"] + sizes["fused_blocks"]}
        if "num_mels" in sizes:
            sizes["use_bias_at_final"] = "conv_post.bias" in facts["tensors"]
        state = {name: torch.empty(tensor["shape"], device="meta") for name, tensor in facts["tensors"].items()}
        state |= {name: torch.empty(1, device="meta") for name in facts.get("drop_if_present", ())}
        try:
            build(state, parse_size(kind, sizes), path.stem)
            error = 0.0
        except MouthpieceError as problem:
            print(problem, file=sys.stderr)
            error = MISSED
        rows.append(ParityRow(f"contract/{path.stem}: {facts['num_tensors']} tensors", error, 0.0, error == 0.0))
    return rows


def check_lengths(facts):
    """Rows for stream lengths and for the ties of the sync index."""
    rows = []
    for mode, table in facts.items():
        if mode in RATES:
            rates = RATES[mode]
            wrong = sum(
                (*rates.lengths(d), rates.lengths(d)[0] * rates.latent_samples) != tuple(rest) for d, *rest in table
            )
            rows.append(ParityRow(f"contract/sequence_lengths.{mode}: {len(table)} durations", wrong, 0.0, wrong == 0))
    ties = facts.get("upsampling_ties", {}).values()
    wrong = sum(
        compute_sync_index(t["latent_len"], t["sync_len"])[t["latent_frames"]].tolist() != t["float32_source"]
        for t in ties
    )
    return rows + [ParityRow(f"contract/sequence_lengths.ties: {len(ties)} lengths", wrong, 0.0, wrong == 0)]


@torch.no_grad()
def check(folder):
    """Rows (name, error, tolerance, ok) of every reference tensor in a folder; the comparison holds when all are ok.

    folder: str or Path of a set of MMAudio fixtures.
    Raises MouthpieceError when the folder holds none, or weights that do not fit.
    Source: the format is described by the README of the set.
    """
    folder, rows = Path(folder), []
    for path in sorted(folder.glob("*.json")):
        case = open_case(path)
        try:
            made = CASES[case.facts["kind"]](case)
        # weights or inputs that do not fit: every tensor of it is missed
        except (MouthpieceError, KeyError) as problem:
            print(f"{path.stem}: {problem}", file=sys.stderr)
            made = {}
        rows += compare(case, made, path.stem) + check_fused_weights(case, path.stem)
    if (folder / "contract").is_dir():
        rows += check_contract(folder / "contract")
    if not rows:
        raise MouthpieceError(f"{folder}: holds no reference tensors.", hint="Give a folder of MMAudio fixtures.")
    return rows


if __name__ == "__main__":
    found = check(sys.argv[1])
    for row in found:
        print(f"{'ok  ' if row.ok else 'MISS'} {row.error:10.3g} {row.tolerance:10.3g}  {row.name}")
    missed = sum(not row.ok for row in found)
    print(f"{len(found)} compared, {missed} missed")
    sys.exit(1 if missed else 0)
