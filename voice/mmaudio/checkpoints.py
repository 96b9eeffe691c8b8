"""The public MMAudio weights files, read without running what is in them and loaded strictly; never shipped."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors import SafetensorError, safe_open

from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.weights.loading import load_state_into
from mouthpiece.voice.mmaudio.network import DROPPED_KEYS, FlowNetwork
from mouthpiece.voice.mmaudio.sizes import VARIANTS, NetworkSize, SyncSize, VaeSize, VocoderSize, parse_size
from mouthpiece.voice.mmaudio.synchformer import STATE_PREFIX, SyncEncoder
from mouthpiece.voice.mmaudio.vae import MelVAE
from mouthpiece.voice.mmaudio.vocoder import Vocoder, fold_weight_norm

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.voice.mmaudio.sizes import ModelVariant

T = TypeVar("T", bound=torch.nn.Module)

GENERATOR = "generator"  # key under which vocoder files hold their tensors
_PULL_HINT = "Get the file again with `mouthpiece models pull`."


def read_checkpoint(path: Path, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a weights file: (tensors on the CPU, config of its header).

    path: .safetensors, .pth, .pt or .bin; of pickles only tensors are read.  name: for the error.
    Raises MissingDependencyError when it is not there, InvalidInputError when it is damaged or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDependencyError(f"weights '{name}': {path} is not there.", hint=_PULL_HINT, code="no_weights")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                config = json.loads((file.metadata() or {}).get("config", "{}"))
                return {key: file.get_tensor(key) for key in file.keys()}, config
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        message = f"weights '{name}': {path} holds more than tensors, and is not opened ({str(error).splitlines()[0]})."
        raise InvalidInputError(message, hint="Take the publisher's own file.", code="unsafe_weights") from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError) as error:
        message = f"weights '{name}': {path} is broken or cut off ({str(error).splitlines()[0]})."
        raise InvalidInputError(message, hint=_PULL_HINT, code="bad_weights") from error
    if isinstance(state, dict) and isinstance(state.get(GENERATOR), dict):
        state = state[GENERATOR]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        message = f"weights '{name}': {path} is not a flat list of tensors."
        raise InvalidInputError(message, hint="Take the publisher's own file.", code="bad_weights")
    return state, {}


def _build_from_state(build: Callable[[], T], state: dict[str, torch.Tensor], name: str) -> T:
    """Build a module, float32, in eval, and load the state into it, on the device of the state."""
    with torch.device("meta"):  # no random numbers are drawn for what is replaced at once
        module = build()
    device = next((tensor.device for tensor in state.values()), torch.device("cpu"))
    return load_state_into(module.to_empty(device=device), state, name).eval().requires_grad_(False)


def build_network(state: dict[str, torch.Tensor], size: NetworkSize, name: str = "network") -> FlowNetwork:
    """Build the flow network of a checkpoint's tensors; tables that older files carry are dropped, all else must fit.

    name: for the error.
    Raises MissingDependencyError with the first five differences.
    """
    state = {key: value for key, value in state.items() if key not in DROPPED_KEYS}
    return _build_from_state(lambda: FlowNetwork(size), state, name)


def build_vae(state: dict[str, torch.Tensor], size: VaeSize, name: str = "vae") -> MelVAE:
    """Build the fused mel VAE of a checkpoint's raw tensors. Raises as `build_network`."""
    return _build_from_state(lambda: MelVAE(size), state, name).fuse()


def build_vocoder(state: dict[str, torch.Tensor], size: VocoderSize, name: str = "vocoder") -> Vocoder:
    """Build the vocoder of a checkpoint's tensors, with either names of weight norm. Raises as `build_network`."""
    return _build_from_state(lambda: Vocoder(size), fold_weight_norm(state), name)


def build_sync(state: dict[str, torch.Tensor], size: SyncSize, name: str = "synchformer") -> SyncEncoder:
    """Build the sync encoder of a whole Synchformer's tensors; the others are left out. Raises as `build_network`."""
    own = {key.removeprefix(STATE_PREFIX): value for key, value in state.items() if key.startswith(STATE_PREFIX)}
    return _build_from_state(lambda: SyncEncoder(size), own, name)


def load_network(path: Path, variant: ModelVariant) -> FlowNetwork:
    """Load the flow network of a published file of that variant.

    Raises InvalidInputError naming another variant that the file is, MissingDependencyError with the first five
    differences.
    """
    state, config = read_checkpoint(path, variant.name)
    size = parse_size(NetworkSize, config["network"]) if "network" in config else variant.network
    found = config.get("variant") or identify_variant(state)
    if found is not None and found != variant.name:
        raise InvalidInputError(
            f"{path}: these are the weights of {found}, not of {variant.name}.",
            hint=f"Use --model {found}, or get the right file: mouthpiece models pull {variant.name}.",
            code="wrong_variant",
        )
    return build_network(state, size, variant.name)


def identify_variant(state: dict[str, torch.Tensor]) -> str | None:
    """Identify the public variant of a full-size state by its shapes; None where it is none."""
    if "audio_input_proj.0.weight" not in state or "final_layer.conv.weight" not in state:
        return None
    width, latent_dim = state["audio_input_proj.0.weight"].shape[:2]
    fused = len({key.split(".")[1] for key in state if key.startswith("fused_blocks.")})
    joint = len({key.split(".")[1] for key in state if key.startswith("joint_blocks.")})
    v2 = "clip_input_proj.2.w1.weight" in state
    for variant in VARIANTS.values():
        size = variant.network
        shape = (size.hidden_dim, size.latent_dim, size.fused_depth, size.depth - size.fused_depth, size.v2)
        if shape == (width, latent_dim, fused, joint, v2):
            return variant.name
    return None


def load_vae(path: Path, size: VaeSize) -> MelVAE:
    """Load the fused mel VAE of a published file. size: where its header has none.  Raises as `read_checkpoint`."""
    state, config = read_checkpoint(path, "vae")
    return build_vae(state, parse_size(VaeSize, config["vae"]) if "vae" in config else size, "vae")


def load_vocoder(path: Path, size: VocoderSize) -> Vocoder:
    """Load the vocoder of a published file. size: where its header has none.  Raises as `read_checkpoint`."""
    state, config = read_checkpoint(path, "vocoder")
    return build_vocoder(state, parse_size(VocoderSize, config["vocoder"]) if "vocoder" in config else size, "vocoder")


def load_sync(path: Path, size: SyncSize | None = None) -> SyncEncoder:
    """Load the sync encoder of a published file. size: where its header has none.  Raises as `read_checkpoint`."""
    state, config = read_checkpoint(path, "synchformer")
    size = parse_size(SyncSize, config["sync"]) if "sync" in config else size or SyncSize()
    return build_sync(state, size, "synchformer")
