"""All networks of one public MMAudio model, found on this machine and placed; whose licence was accepted, and when."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

from engine.cache import cache_folder
from engine.errors import Missing
from engine.files import replacing, sha256_of
from engine.pull import ACCEPTED, FOLDER, entry_of, is_accepted, model_path
from engine.weights import record
from voice.mmaudio.checkpoints import load_network, load_sync, load_vae, load_vocoder
from voice.mmaudio.clip import VOCABULARY_FILES, ClipEncoder, load_clip
from voice.mmaudio.sizes import VAES, VARIANTS, VOCODERS, Variant

ENCODERS = "mmaudio-encoders"
_CODECS = {"16k": ("v1-16.pth", "best_netG.pt"), "44k": ("v1-44.pth", "bigvgan_generator.pt")}
_ENCODER_FILES = {"sync": "synchformer_state_dict.pth", "clip": "open_clip_pytorch_model.bin"}


@dataclass(frozen=True, eq=False)
class Models:
    """The networks of one model, in eval, on the device of the placement.

    network, vae, vocoder, sync: modules.  clip: ClipEncoder.
    heavy: dtype of network, sync encoder and CLIP; VAE, vocoder and the time embedding are float32.
    record: JSON-ready, for side-cars: licences and when they were accepted; whether the weights are random.
    notes: sentences for people.
    Source: ours.
    """

    variant: Variant
    network: torch.nn.Module
    vae: torch.nn.Module
    vocoder: torch.nn.Module
    sync: torch.nn.Module
    clip: ClipEncoder
    heavy: torch.dtype
    record: dict = field(default_factory=dict)
    notes: tuple = ()

    @property
    def rates(self):
        """The Rates of the sound."""
        return self.variant.rates

    @property
    def device(self):
        """Where the networks are."""
        return self.network.latent_mean.device


def parts_of(name):
    """Part -> (name in the registry, file), of a model. Source: MMAudio's published files."""
    mode = VARIANTS[name].mode
    vae, vocoder = _CODECS[mode]
    parts = {"network": (name, name.replace("-", "_") + ".pth")}
    parts |= {"vae": (f"mmaudio-codec-{mode}", vae), "vocoder": (f"mmaudio-codec-{mode}", vocoder)}
    parts |= {part: (ENCODERS, file) for part, file in _ENCODER_FILES.items()}
    return parts | {file: (ENCODERS, file) for file in VOCABULARY_FILES}


def find(name, folder=None):
    """Part -> Path of everything a model needs; of each file the .safetensors of the same name is taken as well.

    name: a key of VARIANTS.  folder: Path that holds all files; None looks in the cache.
    Raises Missing with the commands that get what is not there.
    Source: ours.
    """
    found, lacking = {}, {}
    for part, (entry, file) in parts_of(name).items():
        path = (model_path(entry) if folder is None else Path(folder)) / file
        choices = [path.with_suffix(".safetensors"), path]
        there = next((choice for choice in choices if choice.is_file()), None)
        if there is None:
            lacking.setdefault(entry, []).append(file)
        found[part] = there
    if lacking:
        files = ", ".join(file for names in lacking.values() for file in names)
        where = "on this machine" if folder is None else f"in {folder}"
        pulls = " and then ".join(f"mouthpiece models pull {entry}" for entry in lacking)
        raise Missing(f"{name}: not {where}: {files}.", hint=f"Run: {pulls}.", code="no_model")
    return found


def is_random(path):
    """Whether a file holds random weights that we wrote ourselves: nobody's licence covers them. Source: ours."""
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return False
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("config", "{}")).get("random") is True


def licences(name, paths):
    """Registry name -> dict with licence, url and when it was accepted, of every part that is other people's.

    name: of the model.  paths: from find.
    Raises Missing for a licence that nobody has accepted on this machine.
    Source: ours.
    """
    entries = {}
    for part, (entry_name, _) in parts_of(name).items():
        if part not in VOCABULARY_FILES and not is_random(paths[part]):
            entries[entry_name] = entry_of(entry_name)
    asked = {key: entry for key, entry in entries.items() if not is_accepted(model_path(key), entry)}
    if asked:
        told = "; ".join(f"{key}: {entry['licence']}, {entry['licence_url']}" for key, entry in asked.items())
        raise Missing(
            f"{name}: these licences were not accepted on this machine: {told}.",
            hint="Read them; when you accept them, run the same command once with --accept-licence.",
            code="licence",
        )
    return {
        key: {"licence": entry["licence"], "url": entry["licence_url"], "accepted": accepted_on(key)} for key, entry in entries.items()
    }  # fmt: skip


def accepted_on(entry_name):
    """When a licence was accepted on this machine, ISO 8601 text, or None where it asks for no consent. Source: ours."""
    path = model_path(entry_name) / ACCEPTED
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds") if path.is_file() else None


def accept(name):
    """Notes, where pulls note it too, that the licences of a model are accepted; gives their registry names.

    Raises WriteFailed for the disk.
    Source: ours.
    """
    entries = {key: entry_of(key) for key, _ in parts_of(name).values()}
    for key, entry in entries.items():
        if not is_accepted(model_path(key), entry):
            with replacing(cache_folder(FOLDER, key) / ACCEPTED, overwrite=True) as part:
                part.write_text(json.dumps({word: entry[word] for word in ("licence", "licence_url")}), encoding="utf-8")
    return sorted(entries)


def load_models(options, placement, paths, told):
    """The Models of what find gave, verified, placed.

    options: SoundOptions.  placement: device.Placement.  paths: from find.  told: from licences.
    Raises Missing and Refused as the loaders of checkpoints do.
    Source: ours.
    """
    variant = VARIANTS[options.model]
    network = load_network(paths["network"], variant)
    vae, vocoder = load_vae(paths["vae"], VAES[variant.mode]), load_vocoder(paths["vocoder"], VOCODERS[variant.mode])
    sync = load_sync(paths["sync"])
    clip = load_clip(paths["clip"], paths[VOCABULARY_FILES[0]].parent)
    check_fit(network.size, vae.size, vocoder.size, sync.size, clip.size)
    notes = [*_compared(options.model, paths)]
    random = is_random(paths["network"])
    if random:
        notes.append("These weights are random: the result is noise, good for trying things out only.")
    heavy = placement.dtype if options.precision == "auto" and placement.dtype == torch.bfloat16 else torch.float32
    device = placement.device
    network = in_precision(network, heavy).to(device)
    clip.module.to(device, heavy)
    record_ = {"licences": told, "random_weights": random, "precision": str(heavy).removeprefix("torch.")}
    return Models(variant, network, vae.to(device), vocoder.to(device), sync.to(device, heavy), clip, heavy, record_, tuple(notes))


def in_precision(network, dtype):
    """A FlowNetwork with its heavy layers in a dtype; time embedding and normalisation stay float32. Source: ours."""
    network.to(dtype)
    network.t_embed.float()
    network.latent_mean.data, network.latent_std.data = network.latent_mean.data.float(), network.latent_std.data.float()
    return network


def _compared(name, paths):
    """Notes the SHA-256 of every file for side-cars; gives a sentence for each that is not the published one."""
    for part, (entry_name, file) in parts_of(name).items():
        digest = sha256_of(paths[part])
        record(file, paths[part], digest)
        known = next((facts.get("sha256") for facts in entry_of(entry_name)["files"] if facts["path"] == file), None)
        if known is not None and known != digest and paths[part].name == file:
            yield f"{paths[part]} is not the published file (SHA-256 {digest[:12]}, published {known[:12]})."


def check_fit(network, vae, vocoder, sync, clip):
    """Makes sure that the parts belong together.

    network, vae, vocoder, sync, clip: their sizes.
    Raises Missing naming the two numbers that differ.
    Source: ours.
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
        raise Missing(f"mmaudio: the files do not belong together ({'; '.join(wrong)}).", hint="Get one complete set.", code="bad_weights")

