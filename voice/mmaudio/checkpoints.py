"""The public MMAudio files, read without running what is in them and loaded strictly; other people's weights, never shipped."""

import json
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from engine.errors import Missing, Refused
from engine.weights import load_into
from voice.mmaudio.network import DROPPED_KEYS, FlowNetwork
from voice.mmaudio.sizes import VARIANTS, NetworkSize, SyncSize, VaeSize, VocoderSize, size_of
from voice.mmaudio.synchformer import PREFIX, SyncEncoder
from voice.mmaudio.vae import MelVAE
from voice.mmaudio.vocoder import Vocoder, folded

GENERATOR = "generator"  # key under which vocoder files hold their tensors
_AGAIN = "Get the file again with `mouthpiece models pull`."


def read_checkpoint(path, name):
    """The tensors and the header's config of a weights file: (dict of tensors on the CPU, dict).

    path: Path of .safetensors, .pth, .pt or .bin; pickles are read for tensors alone and refuse everything else.
    name: what to call it in the error.
    Raises Missing when it is not there, Refused when it is broken or holds more than tensors.
    Source: ours.
    """
    path = Path(path)
    if not path.is_file():
        raise Missing(f"weights '{name}': {path} is not there.", hint=_AGAIN, code="no_weights")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                config = json.loads((file.metadata() or {}).get("config", "{}"))
                return {key: file.get_tensor(key) for key in file.keys()}, config
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        message = f"weights '{name}': {path} holds more than tensors, and is not opened ({str(error).splitlines()[0]})."
        raise Refused(message, hint="Take the publisher's own file.", code="unsafe_weights") from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError) as error:
        message = f"weights '{name}': {path} is broken or cut off ({str(error).splitlines()[0]})."
        raise Refused(message, hint=_AGAIN, code="bad_weights") from error
    if isinstance(state, dict) and isinstance(state.get(GENERATOR), dict):
        state = state[GENERATOR]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        message = f"weights '{name}': {path} is no flat list of tensors."
        raise Refused(message, hint="Take the publisher's own file.", code="bad_weights")
    return state, {}


def _filled(build, state, name):
    """The module that `build` makes, float32, in eval, filled from the state, on the device of the state."""
    with torch.device("meta"):  # no random numbers are drawn for what is replaced at once
        module = build()
    device = next((tensor.device for tensor in state.values()), torch.device("cpu"))
    return load_into(module.to_empty(device=device), state, name).eval().requires_grad_(False)


def network_of(state, size, name="network"):
    """The FlowNetwork of a checkpoint's tensors; tables that older files carry are dropped, all else must fit.

    state: dict of tensors.  size: NetworkSize.  name: for the error.
    Raises Missing with the first five differences.
    Source: ours.
    """
    state = {key: value for key, value in state.items() if key not in DROPPED_KEYS}
    return _filled(lambda: FlowNetwork(size), state, name)


def vae_of(state, size, name="vae"):
    """The MelVAE of a checkpoint's raw tensors, fused. Raises Missing as network_of. Source: ours."""
    vae = _filled(lambda: MelVAE(size), state, name)
    return vae.fuse()


def vocoder_of(state, size, name="vocoder"):
    """The Vocoder of a checkpoint's tensors in any spelling of weight norm. Raises Missing as network_of. Source: ours."""
    return _filled(lambda: Vocoder(size), folded(state), name)


def sync_of(state, size, name="synchformer"):
    """The SyncEncoder of a whole Synchformer's tensors; what does not belong to it is left out.

    Raises Missing as network_of.
    Source: ours.
    """
    own = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    return _filled(lambda: SyncEncoder(size), own, name)


def load_network(path, variant):
    """The FlowNetwork of a published file, which must be the variant asked for.

    path: Path.  variant: sizes.Variant.
    Raises Refused naming the variant that the file is, Missing with the first five differences.
    Source: ours.
    """
    state, config = read_checkpoint(path, variant.name)
    size = size_of(NetworkSize, config["network"]) if "network" in config else variant.network
    found = config.get("variant") or recognised(state)
    if found is not None and found != variant.name:
        raise Refused(
            f"{path}: these are the weights of {found}, not of {variant.name}.",
            hint=f"Use --model {found}, or get the right file: mouthpiece models pull {variant.name}.",
            code="wrong_variant",
        )
    return network_of(state, size, variant.name)


def recognised(state):
    """Which public variant a state dict of full size is by its shapes, or None.

    Source: ours.
    """
    if "audio_input_proj.0.weight" not in state or "final_layer.conv.weight" not in state:
        return None
    width, latent_dim = state["audio_input_proj.0.weight"].shape[:2]
    fused = len({key.split(".")[1] for key in state if key.startswith("fused_blocks.")})
    joint = len({key.split(".")[1] for key in state if key.startswith("joint_blocks.")})
    v2 = "clip_input_proj.2.w1.weight" in state
    for variant in VARIANTS.values():
        size = variant.network
        if (size.hidden_dim, size.latent_dim, size.fused_depth, size.depth - size.fused_depth, size.v2) == (
            width, latent_dim, fused, joint, v2
        ):  # fmt: skip
            return variant.name
    return None


def load_vae(path, size):
    """The fused MelVAE of a published file. path: Path.  size: VaeSize.  Raises as read_checkpoint. Source: ours."""
    state, config = read_checkpoint(path, "vae")
    return vae_of(state, size_of(VaeSize, config["vae"]) if "vae" in config else size, "vae")


def load_vocoder(path, size):
    """The Vocoder of a published file. path: Path.  size: VocoderSize.  Raises as read_checkpoint. Source: ours."""
    state, config = read_checkpoint(path, "vocoder")
    return vocoder_of(state, size_of(VocoderSize, config["vocoder"]) if "vocoder" in config else size, "vocoder")


def load_sync(path, size=None):
    """The SyncEncoder of a published file. path: Path.  size: SyncSize.  Raises as read_checkpoint. Source: ours."""
    state, config = read_checkpoint(path, "synchformer")
    size = size_of(SyncSize, config["sync"]) if "sync" in config else size or SyncSize()
    return sync_of(state, size, "synchformer")
