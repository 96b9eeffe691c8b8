"""Random weights of the real classes, in any size, written like the public files: for tests and benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from mouthpiece.voice.mmaudio.clip_encoder import VOCABULARY_FILES, make_clip_module
from mouthpiece.voice.mmaudio.models import list_parts
from mouthpiece.voice.mmaudio.network import FlowNetwork
from mouthpiece.voice.mmaudio.sizes import (
    RATES,
    VAES,
    VARIANTS,
    VOCODERS,
    ClipSize,
    NetworkSize,
    SyncSize,
    VaeSize,
    VocoderSize,
    convert_to_config,
)
from mouthpiece.voice.mmaudio.synchformer import STATE_PREFIX, SyncEncoder
from mouthpiece.voice.mmaudio.vae import MelVAE
from mouthpiece.voice.mmaudio.vocoder import Vocoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"


def make_debug_sizes(name: str) -> dict[str, Any]:
    """Make small sizes of a model, part -> size; encoding the video keeps a good share of the cost, as at full size.

    name: a key of VARIANTS.
    """
    variant, rates = VARIANTS[name], RATES[VARIANTS[name].mode]
    clip = ClipSize(16, 84, 14, 48, 2, 2, 24, 1, 2, 514)
    latent_dim = variant.network.latent_dim
    network = NetworkSize(latent_dim, 16, 48, 24, 32, 3, 1, 2, variant.network.v2)
    published = VOCODERS[variant.mode]
    vocoder = VocoderSize(
        num_mels=rates.bands,
        upsample_rates=published.upsample_rates,
        upsample_kernel_sizes=published.upsample_kernel_sizes,
        upsample_initial_channel=64,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),),
        snake_logscale=True,
        use_tanh_at_final=published.use_tanh_at_final,
        use_bias_at_final=published.use_bias_at_final,
    )
    return {
        "network": network,
        "vae": VaeSize(rates.bands, latent_dim, 8),
        "vocoder": vocoder,
        "sync": SyncSize(48, 2, 2, 2, 112, 16),
        "clip": clip,
    }


def get_full_sizes(name: str) -> dict[str, Any]:
    """Get the sizes of the published files, part -> size. name: a key of VARIANTS."""
    variant = VARIANTS[name]
    return {
        "network": variant.network,
        "vae": VAES[variant.mode],
        "vocoder": VOCODERS[variant.mode],
        "sync": SyncSize(),
        "clip": ClipSize(),
    }


_BUILDERS: dict[str, Callable[[Any], torch.nn.Module]] = {
    "network": FlowNetwork,
    "vae": MelVAE,
    "vocoder": Vocoder,
    "sync": SyncEncoder,
    "clip": make_clip_module,
}


def make_random_state(part: str, size: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Make random tensors of one part, scaled so that signals keep their magnitude.

    part: a key of `make_debug_sizes`.  size: its size.  generator: on the CPU.
    """
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in _BUILDERS[part](size).state_dict().items()}
    state = {}
    for key, shape in shapes.items():
        if key.endswith("filter"):
            state[key] = make_low_pass()
        elif key.endswith(("_std", "norm.weight")) or ("norm" in key and key.endswith("weight")):
            state[key] = torch.ones(shape)
        else:
            fan_in = shape[1:].numel() if len(shape) > 1 else 16
            state[key] = torch.randn(shape, generator=generator) * max(1, fan_in) ** -0.5
    return {STATE_PREFIX + key: tensor for key, tensor in state.items()} if part == "sync" else state


def make_low_pass() -> torch.Tensor:
    """Make a half-band low-pass filter by the window method, (1, 1, 12)."""
    from scipy.signal import firwin

    return torch.tensor(firwin(12, 0.5), dtype=torch.float32)[None, None]


def write_random_weights(
    folder: Path, name: str, sizes: dict[str, Any] | None = None, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Path:
    """Write every file that a model needs into one folder, as `sound --weights` takes it; the folder.

    folder: made when it is not there.  name: a key of VARIANTS.
    sizes: from `make_debug_sizes` (None) or `get_full_sizes`.  dtype: in which weights are stored.
    """
    folder, sizes = Path(folder), sizes or make_debug_sizes(name)
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    for part, size in sizes.items():
        state = {key: tensor.to(dtype).contiguous() for key, tensor in make_random_state(part, size, generator).items()}
        config = {part: convert_to_config(size), "variant": name, "random": True}
        path = (folder / list_parts(name)[part][1]).with_suffix(".safetensors")
        save_file(state, path, metadata={"config": json.dumps(config)})
    write_vocabulary(folder, sizes["clip"].vocabulary)
    return folder


def write_vocabulary(folder: Path, count: int) -> None:
    """Write a vocabulary of single bytes (byte-level BPE), of `count` tokens with start and end token last."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in visible] + [chr(256 + n) for n in range(256 - len(visible))]
    words = letters + [letter + "</w>" for letter in letters]
    words = (words + [f"<{n}>" for n in range(max(0, count - 2 - len(words)))])[: count - 2] + [START_TOKEN, END_TOKEN]
    (folder / VOCABULARY_FILES[0]).write_text(json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8")
    (folder / VOCABULARY_FILES[1]).write_text("#version: 0.2\n", encoding="utf-8")
