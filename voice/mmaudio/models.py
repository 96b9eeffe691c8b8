"""The networks of one public MMAudio model: files, licences, loading and placing."""

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
    from mouthpiece.voice.mmaudio.synchformer import SyncEncoder
    from mouthpiece.voice.mmaudio.vae import MelVAE
    from mouthpiece.voice.mmaudio.vocoder import Vocoder

ENCODERS = "mmaudio-encoders"  # registry entry of CLIP and the sync encoder
_CODECS = {"16k": ("v1-16.pth", "best_netG.pt"), "44k": ("v1-44.pth", "bigvgan_generator.pt")}
_ENCODER_FILES = {"sync": "synchformer_state_dict.pth", "clip": "open_clip_pytorch_model.bin"}


@dataclass(frozen=True, eq=False)
class MMAudioModels:
    """The networks of one model, in eval, on the device of the placement.

    compute_dtype: of network, sync encoder and CLIP; VAE, vocoder and the time embedding are float32.
    record: JSON-ready, for side-cars: licences and when they were accepted; whether the weights are random.
    notes: sentences for people.
    """

    variant: ModelVariant
    network: FlowNetwork
    vae: MelVAE
    vocoder: Vocoder
    sync: SyncEncoder
    clip: ClipEncoder
    compute_dtype: torch.dtype
    record: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def rates(self) -> AudioRates:
        """Rates of the sound."""
        return self.variant.rates

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.network.latent_mean.device


def list_parts(name: str) -> dict[str, tuple[str, str]]:
    """List the parts of a model: part -> (registry entry, file). Source: MMAudio's published files."""
    mode = VARIANTS[name].mode
    vae, vocoder = _CODECS[mode]
    parts = {"network": (name, name.replace("-", "_") + ".pth")}
    parts |= {"vae": (f"mmaudio-codec-{mode}", vae), "vocoder": (f"mmaudio-codec-{mode}", vocoder)}
    parts |= {part: (ENCODERS, file) for part, file in _ENCODER_FILES.items()}
    return parts | {file: (ENCODERS, file) for file in VOCABULARY_FILES}


def find_weights(name: str, folder: Path | None = None) -> dict[str, Path]:
    """Find all files of a model, part -> path; a .safetensors of the same name is taken as well.

    name: a key of VARIANTS.  folder: that holds all files; None looks in the cache.
    Raises MissingDependencyError with the commands that get what is not there.
    """
    found: dict[str, Path] = {}
    missing: dict[str, list[str]] = {}
    for part, (entry, file) in list_parts(name).items():
        path = (get_model_folder(entry) if folder is None else Path(folder)) / file
        choices = [path.with_suffix(".safetensors"), path]
        there = next((choice for choice in choices if choice.is_file()), None)
        if there is None:
            missing.setdefault(entry, []).append(file)
        else:
            found[part] = there
    if missing:
        files = ", ".join(file for names in missing.values() for file in names)
        where = "on this machine" if folder is None else f"in {folder}"
        pulls = " and then ".join(f"mouthpiece models pull {entry}" for entry in missing)
        raise MissingDependencyError(f"{name}: not {where}: {files}.", hint=f"Run: {pulls}.", code="no_model")
    return found


def is_random(path: Path) -> bool:
    """Tell whether a file holds random weights of `write_random_weights`, which no licence covers."""
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return False
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("config", "{}")).get("random") is True


def check_licences(name: str, paths: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Check the licences of a model's parts: registry entry -> licence, url and when it was accepted.

    name: of the model.  paths: from `find_weights`.
    Raises MissingDependencyError for a licence that was not accepted on this machine.
    """
    entries = {}
    for part, (entry_name, _) in list_parts(name).items():
        if part not in VOCABULARY_FILES and not is_random(paths[part]):
            entries[entry_name] = get_model_entry(entry_name)
    open_entries = {key: e for key, e in entries.items() if not is_licence_accepted(get_model_folder(key), e)}
    if open_entries:
        licences = "; ".join(
            f"{key}: {entry['licence']}, {entry['licence_url']}" for key, entry in open_entries.items()
        )
        raise MissingDependencyError(
            f"{name}: these licences were not accepted on this machine: {licences}.",
            hint="Read them; when you accept them, run the same command once with --accept-licence.",
            code="licence",
        )
    return {
        key: {"licence": entry["licence"], "url": entry["licence_url"], "accepted": get_acceptance_time(key)}
        for key, entry in entries.items()
    }


def get_acceptance_time(entry_name: str) -> str | None:
    """Get when a licence was accepted on this machine, ISO 8601; None where it asks for no consent."""
    path = get_model_folder(entry_name) / ACCEPTED_FILE
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds") if path.is_file() else None


def accept_licences(name: str) -> list[str]:
    """Record that the licences of a model are accepted, where pulls record it too; the registry entries.

    Raises OutputError for the disk.
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
    options: SoundOptions, placement: Placement, paths: dict[str, Path], licences: dict[str, Any]
) -> MMAudioModels:
    """Load and place the networks of a model.

    paths: from `find_weights`.  licences: from `check_licences`.
    Raises MissingDependencyError and InvalidInputError as the loaders of checkpoints do.
    """
    variant = VARIANTS[options.model]
    network = load_network(paths["network"], variant)
    vae, vocoder = load_vae(paths["vae"], VAES[variant.mode]), load_vocoder(paths["vocoder"], VOCODERS[variant.mode])
    sync = load_sync(paths["sync"])
    clip = load_clip(paths["clip"], paths[VOCABULARY_FILES[0]].parent)
    check_fit(network.size, vae.size, vocoder.size, sync.size, clip.size)
    notes = _compare_digests(options.model, paths)
    random = is_random(paths["network"])
    if random:
        notes.append("These weights are random: the result is noise, good for trying things out only.")
    half = options.precision == "auto" and placement.dtype == torch.bfloat16
    compute_dtype, device = placement.dtype if half else torch.float32, placement.device
    precision = str(compute_dtype).removeprefix("torch.")
    return MMAudioModels(
        variant=variant,
        network=cast_network(network, compute_dtype).to(device),
        vae=vae.to(device),
        vocoder=vocoder.to(device),
        sync=sync.to(device, compute_dtype),
        clip=clip.to(device, compute_dtype),
        compute_dtype=compute_dtype,
        record={"licences": licences, "random_weights": random, "precision": precision},
        notes=tuple(notes),
    )


def cast_network(network: FlowNetwork, dtype: torch.dtype) -> FlowNetwork:
    """Cast the heavy layers of a network; time embedding and normalisation stay float32."""
    network.to(dtype)
    network.t_embed.float()
    network.latent_mean.data = network.latent_mean.data.float()
    network.latent_std.data = network.latent_std.data.float()
    return network


def _compare_digests(name: str, paths: dict[str, Path]) -> list[str]:
    """Record the SHA-256 of every file for side-cars; a sentence for each that is not the published one."""
    notes = []
    for part, (entry_name, file) in list_parts(name).items():
        digest = compute_sha256(paths[part])
        record_model(file, paths[part], digest)
        published = next((f.get("sha256") for f in get_model_entry(entry_name)["files"] if f["path"] == file), None)
        if published is not None and published != digest and paths[part].name == file:
            digests = f"SHA-256 {digest[:12]}, published {published[:12]}"
            notes.append(f"{paths[part]} is not the published file ({digests}).")
    return notes


def check_fit(network: NetworkSize, vae: VaeSize, vocoder: VocoderSize, sync: SyncSize, clip: ClipSize) -> None:
    """Check that the parts belong together by their sizes.

    Raises MissingDependencyError naming the two numbers that differ.
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
