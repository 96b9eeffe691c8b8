"""All networks of one public MMAudio model, found on this machine and placed; whose licence was accepted, and when."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.files import atomic_write, compute_sha256
from mouthpiece.engine.folders import make_cache_folder
from mouthpiece.engine.weights.download import (
    ACCEPTED_FILE,
    MODELS_FOLDER,
    get_model_entry,
    get_model_folder,
    is_licence_accepted,
)
from mouthpiece.engine.weights.records import record_model
from mouthpiece.voice.mmaudio.checkpoints import load_network, load_sync, load_vae, load_vocoder
from mouthpiece.voice.mmaudio.clip_encoder import VOCABULARY_FILES, ClipEncoder, load_clip
from mouthpiece.voice.mmaudio.sizes import VAES, VARIANTS, VOCODERS, ModelVariant

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.device import Placement
    from mouthpiece.voice.mmaudio.network import FlowNetwork
    from mouthpiece.voice.mmaudio.options import SoundOptions
    from mouthpiece.voice.mmaudio.sizes import AudioRates, ClipSize, NetworkSize, SyncSize, VaeSize, VocoderSize

ENCODERS = "mmaudio-encoders"
_CODECS = {"16k": ("v1-16.pth", "best_netG.pt"), "44k": ("v1-44.pth", "bigvgan_generator.pt")}
_ENCODER_FILES = {"sync": "synchformer_state_dict.pth", "clip": "open_clip_pytorch_model.bin"}


@dataclass(frozen=True, eq=False)
class MMAudioModels:
    """The networks of one model, in eval, on the device of the placement.

    network, vae, vocoder, sync: modules.  clip: ClipEncoder.
    heavy: dtype of network, sync encoder and CLIP; VAE, vocoder and the time embedding are float32.
    record: JSON-ready, for side-cars: licences and when they were accepted; whether the weights are random.
    notes: sentences for people.
    """

    variant: ModelVariant
    network: torch.nn.Module
    vae: torch.nn.Module
    vocoder: torch.nn.Module
    sync: torch.nn.Module
    clip: ClipEncoder
    compute_dtype: torch.dtype
    record: dict = field(default_factory=dict)
    notes: tuple = ()

    @property
    def rates(self) -> AudioRates:
        """The Rates of the sound."""
        return self.variant.rates

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.network.latent_mean.device


def list_parts(name: str) -> dict[str, tuple[str, str]]:
    """Part -> (name in the registry, file), of a model. Source: MMAudio's published files."""
    mode = VARIANTS[name].mode
    vae, vocoder = _CODECS[mode]
    parts = {"network": (name, name.replace("-", "_") + ".pth")}
    parts |= {"vae": (f"mmaudio-codec-{mode}", vae), "vocoder": (f"mmaudio-codec-{mode}", vocoder)}
    parts |= {part: (ENCODERS, file) for part, file in _ENCODER_FILES.items()}
    return parts | {file: (ENCODERS, file) for file in VOCABULARY_FILES}


def find_weights(name: str, folder: Path | None = None) -> dict[str, Path] | None:
    """Part -> Path of everything a model needs; of each file the .safetensors of the same name is taken as well.

    name: a key of VARIANTS.  folder: Path that holds all files; None looks in the cache.
    Raises Missing with the commands that get what is not there.
    """
    found, lacking = {}, {}
    for part, (entry, file) in list_parts(name).items():
        path = (get_model_folder(entry) if folder is None else Path(folder)) / file
        choices = [path.with_suffix(".safetensors"), path]
        there = next((choice for choice in choices if choice.is_file()), None)
        if there is None:
            lacking.setdefault(entry, []).append(file)
        found[part] = there
    if lacking:
        files = ", ".join(file for names in lacking.values() for file in names)
        where = "on this machine" if folder is None else f"in {folder}"
        pulls = " and then ".join(f"mouthpiece models pull {entry}" for entry in lacking)
        raise MissingDependencyError(f"{name}: not {where}: {files}.", hint=f"Run: {pulls}.", code="no_model")
    return found


def is_random(path: Path) -> bool:
    """Whether a file holds random weights that we wrote ourselves: nobody's licence covers them."""
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return False
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("config", "{}")).get("random") is True


def check_licences(name: str, paths: dict[str, Path]) -> dict[str, Any] | None:
    """Registry name -> dict with licence, url and when it was accepted, of every part that is other people's.

    name: of the model.  paths: from find.
    Raises Missing for a licence that nobody has accepted on this machine.
    """
    entries = {}
    for part, (entry_name, _) in list_parts(name).items():
        if part not in VOCABULARY_FILES and not is_random(paths[part]):
            entries[entry_name] = get_model_entry(entry_name)
    asked = {key: entry for key, entry in entries.items() if not is_licence_accepted(get_model_folder(key), entry)}
    if asked:
        told = "; ".join(f"{key}: {entry['licence']}, {entry['licence_url']}" for key, entry in asked.items())
        raise MissingDependencyError(
            f"{name}: these licences were not accepted on this machine: {told}.",
            hint="Read them; when you accept them, run the same command once with --accept-licence.",
            code="licence",
        )
    return {
        key: {"licence": entry["licence"], "url": entry["licence_url"], "accepted": get_acceptance_time(key)} for key, entry in entries.items()
    }  # fmt: skip


def get_acceptance_time(entry_name: str) -> str:
    """When a licence was accepted on this machine, ISO 8601 text, or None where it asks for no consent."""
    path = get_model_folder(entry_name) / ACCEPTED_FILE
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds") if path.is_file() else None


def accept_licences(name: str) -> list[str]:
    """Notes, where pulls note it too, that the licences of a model are accepted; gives their registry names.

    Raises WriteFailed for the disk.
    """
    entries = {key: get_model_entry(key) for key, _ in list_parts(name).values()}
    for key, entry in entries.items():
        if not is_licence_accepted(get_model_folder(key), entry):
            with atomic_write(make_cache_folder(MODELS_FOLDER, key) / ACCEPTED_FILE, overwrite=True) as part:
                part.write_text(
                    json.dumps({word: entry[word] for word in ("licence", "licence_url")}), encoding="utf-8"
                )
    return sorted(entries)


def load_models(
    options: SoundOptions, placement: Placement, paths: dict[str, Path], told: dict[str, Any]
) -> MMAudioModels | None:
    """The Models of what find gave, verified, placed.

    options: SoundOptions.  placement: device.Placement.  paths: from find.  told: from licences.
    Raises Missing and Refused as the loaders of checkpoints do.
    """
    variant = VARIANTS[options.model]
    network = load_network(paths["network"], variant)
    vae, vocoder = load_vae(paths["vae"], VAES[variant.mode]), load_vocoder(paths["vocoder"], VOCODERS[variant.mode])
    sync = load_sync(paths["sync"])
    clip = load_clip(paths["clip"], paths[VOCABULARY_FILES[0]].parent)
    check_fit(network.size, vae.size, vocoder.size, sync.size, clip.size)
    notes = [*_compare_digests(options.model, paths)]
    random = is_random(paths["network"])
    if random:
        notes.append("These weights are random: the result is noise, good for trying things out only.")
    heavy = placement.dtype if options.precision == "auto" and placement.dtype == torch.bfloat16 else torch.float32
    device = placement.device
    network = cast_network(network, heavy).to(device)
    clip.module.to(device, heavy)
    record_ = {"licences": told, "random_weights": random, "precision": str(heavy).removeprefix("torch.")}
    return MMAudioModels(
        variant, network, vae.to(device), vocoder.to(device), sync.to(device, heavy), clip, heavy, record_, tuple(notes)
    )


def cast_network(network: FlowNetwork, dtype: torch.dtype) -> FlowNetwork:
    """A FlowNetwork with its heavy layers in a dtype; time embedding and normalisation stay float32."""
    network.to(dtype)
    network.t_embed.float()
    network.latent_mean.data, network.latent_std.data = (
        network.latent_mean.data.float(),
        network.latent_std.data.float(),
    )
    return network


def _compare_digests(name: str, paths: dict[str, Path]):
    """Notes the SHA-256 of every file for side-cars; gives a sentence for each that is not the published one."""
    for part, (entry_name, file) in list_parts(name).items():
        digest = compute_sha256(paths[part])
        record_model(file, paths[part], digest)
        known = next(
            (facts.get("sha256") for facts in get_model_entry(entry_name)["files"] if facts["path"] == file), None
        )
        if known is not None and known != digest and paths[part].name == file:
            yield f"{paths[part]} is not the published file (SHA-256 {digest[:12]}, published {known[:12]})."


def check_fit(network: NetworkSize, vae: VaeSize, vocoder: VocoderSize, sync: SyncSize, clip: ClipSize) -> None:
    """Makes sure that the parts belong together.

    network, vae, vocoder, sync, clip: their sizes.
    Raises Missing naming the two numbers that differ.
    """
    pairs = {
        "latents of network and VAE": (network.latent_dim, vae.embed_dim),
        "mel bands of VAE and vocoder": (vae.data_dim, vocoder.num_mels),
        "sync features of encoder and network": (sync.embed_dim, network.sync_dim),
        "picture features of CLIP and network": (clip.embed_dim, network.clip_dim),
        "text features of CLIP and network": (clip.text_width, network.text_dim),
        "text tokens of CLIP and network": (clip.text_tokens, network.text_seq_len),
    }
    wrong = [f"{what}: {a} and {b}" for what, (a, b) in pairs.items() if a != b]
    if wrong:
        raise MissingDependencyError(
            f"mmaudio: the files do not belong together ({'; '.join(wrong)}).",
            hint="Get one complete set.",
            code="bad_weights",
        )
