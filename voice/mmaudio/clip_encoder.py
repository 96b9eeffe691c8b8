"""CLIP features of images and prompts, by transformers' networks from the public open_clip file, loaded strictly.

transformers rather than open_clip_torch: it is kept by more people, is a dependency already, and brings no second
collection of image models. The published file has open_clip's names, which `rename_open_clip_keys` translates.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.weights.loading import load_state_into
from mouthpiece.voice.mmaudio.checkpoints import read_checkpoint
from mouthpiece.voice.mmaudio.frames import normalize_for_clip
from mouthpiece.voice.mmaudio.sizes import ClipSize, parse_size

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPTokenizer

VOCABULARY_FILES = ("vocab.json", "merges.txt")
IMAGE_BATCH = 16  # images encoded together
_PADDING = 0  # open_clip pads with token 0, and the features of the padding are read as well
_BLOCK_KEYS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_WHOLE_KEYS = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
_NORM_KEYS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
_PROJECTION_KEYS = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_TOWER_PREFIXES = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}


def rename_open_clip_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename tensors to transformers' names; unknown ones stay as they are, and the strict load refuses them.

    state: tensors under either names.
    """
    renamed = {}
    for key, tensor in state.items():
        stem, _, kind = key.rpartition(".")
        side = next((prefix for prefix in _TOWER_PREFIXES if key.startswith(prefix)), None)
        if key in _WHOLE_KEYS:
            renamed[_WHOLE_KEYS[key]] = tensor
        elif key in _PROJECTION_KEYS:
            renamed[_PROJECTION_KEYS[key]] = tensor.T
        elif stem in _NORM_KEYS:
            renamed[f"{_NORM_KEYS[stem]}.{kind}"] = tensor
        elif side is not None:
            renamed |= _rename_block_key(key.removeprefix(side), _TOWER_PREFIXES[side], tensor)
        elif not key.endswith("position_ids"):  # a count from 0, in files of older versions
            renamed[key] = tensor
    return renamed


def _rename_block_key(key: str, prefix: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Rename one tensor of a block; packed projections are split in three."""
    layer, _, rest = key.partition(".")
    for part in ("weight", "bias"):
        if rest == f"attn.in_proj_{part}":
            return {f"{prefix}{layer}.self_attn.{n}_proj.{part}": t for n, t in zip("qkv", tensor.chunk(3))}
    stem, _, part = rest.rpartition(".")
    return {f"{prefix}{layer}.{_BLOCK_KEYS.get(stem, stem)}.{part}": tensor}


class ClipEncoder:
    """Encode images and prompts as rows of unit norm.

    module: transformers' CLIPModel in eval.
    Source: CLIP, 2103.00020; DFN, 2309.17425.
    """

    def __init__(self, module: CLIPModel, tokenizer: CLIPTokenizer | None, size: ClipSize) -> None:
        self.module, self.tokenizer, self.size = module, tokenizer, size

    @torch.no_grad()
    def encode_images(self, frames: torch.Tensor) -> torch.Tensor:
        """Encode uint8 frames (N, 3, image_px, image_px) as (N, embed_dim) float32. Source: MMAudio."""
        module, rows = self.module, []
        device = module.logit_scale.device
        for start in range(0, len(frames), IMAGE_BATCH):
            pixels = normalize_for_clip(frames[start : start + IMAGE_BATCH].to(device))
            pooled = module.vision_model(pixel_values=pixels).pooler_output
            rows.append(F.normalize(module.visual_projection(pooled).float(), dim=-1))
        return torch.cat(rows)

    @torch.no_grad()
    def encode_texts(self, prompts: list[str]) -> torch.Tensor:
        """Encode prompts as (len(prompts), text_tokens, text_width): every token after the last norm, padding included,
        without projection.

        Source: MMAudio.
        """
        tokens = torch.tensor([self.tokenize(prompt)[0] for prompt in prompts], device=self.module.logit_scale.device)
        hidden = self.module.text_model(input_ids=tokens).last_hidden_state
        return F.normalize(hidden.float(), dim=-1)

    def tokenize(self, prompt: str) -> tuple[list[int], int]:
        """Tokenize a prompt: (text_tokens ids, how many of the prompt's own tokens did not fit).

        Source: open_clip's tokenizer: single spaces, padding with 0, the last token always the end.
        """
        assert self.tokenizer is not None  # set by load_clip
        plain = " ".join(html.unescape(html.unescape(prompt)).split())
        first, *own, last = self.tokenizer(plain)["input_ids"]
        room = self.size.text_tokens - 2
        kept = [first, *own[:room], last]
        return kept + [_PADDING] * (self.size.text_tokens - len(kept)), max(0, len(own) - room)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> ClipEncoder:
        """Move the networks to a device and, where given, cast them; the encoder itself."""
        torch.nn.Module.to(self.module, device=device, dtype=dtype)
        return self


def make_clip_module(size: ClipSize) -> CLIPModel:
    """Make an empty CLIPModel of transformers. Raises MissingDependencyError when transformers is not installed."""
    try:
        from transformers import CLIPConfig, CLIPModel
    except ImportError as error:
        hint = "Install mouthpiece again, or: pip install transformers."
        raise MissingDependencyError("mmaudio: transformers is not installed.", hint=hint, code="no_package") from error

    shared = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": size.embed_dim}
    vision = shared | {
        "hidden_size": size.vision_width,
        "intermediate_size": 4 * size.vision_width,
        "num_hidden_layers": size.vision_layers,
        "num_attention_heads": size.vision_heads,
        "image_size": size.image_px,
        "patch_size": size.patch_px,
    }
    text = shared | {
        "hidden_size": size.text_width,
        "intermediate_size": 4 * size.text_width,
        "num_hidden_layers": size.text_layers,
        "num_attention_heads": size.text_heads,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": size.text_tokens,
        "bos_token_id": size.vocabulary - 2,
        "eos_token_id": size.vocabulary - 1,
        "pad_token_id": 0,
    }
    with torch.device("meta"):
        return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.embed_dim))


def build_clip(
    state: dict[str, torch.Tensor],
    tokenizer: CLIPTokenizer | None,
    size: ClipSize = ClipSize(),
    name: str = "clip",
) -> ClipEncoder:
    """Build the encoder of a checkpoint's tensors, under either names.

    Raises MissingDependencyError with the first five differences.
    """
    device = next(iter(state.values())).device if state else torch.device("cpu")
    module = load_state_into(make_clip_module(size).to_empty(device=device), rename_open_clip_keys(state), name)
    for part in module.modules():  # not in the file, and left undefined by to_empty
        positions = getattr(part, "position_ids", None)
        if isinstance(positions, torch.Tensor) and positions.device.type != "meta":
            positions.copy_(torch.arange(positions.shape[-1])[None])
    return ClipEncoder(module.eval().requires_grad_(False), tokenizer, size)


def load_clip(path: Path, folder: Path) -> ClipEncoder:
    """Load the encoder of a published file.

    path: of the weights.  folder: that holds VOCABULARY_FILES.
    Raises MissingDependencyError for what is not there or not installed, InvalidInputError for a damaged file.
    """
    state, config = read_checkpoint(path, "clip")
    size = parse_size(ClipSize, config["clip"]) if "clip" in config else ClipSize()
    encoder = build_clip(state, None, size)
    encoder.tokenizer = load_tokenizer(Path(folder))
    return encoder


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer of the files in a folder. Raises MissingDependencyError naming the one that is not there."""
    from transformers import CLIPTokenizer

    for name in VOCABULARY_FILES:
        if not (folder / name).is_file():
            hint = "Get it again with `mouthpiece models pull mmaudio-encoders`."
            raise MissingDependencyError(f"clip: {folder / name} is not there.", hint=hint, code="no_weights")
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
