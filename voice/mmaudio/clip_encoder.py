"""CLIP features of pictures and prompts, by transformers' networks from the public open_clip file; strict both ways.

transformers rather than open_clip_torch: it is kept by more people, is among our tools already, and brings no second
collection of image models with it. The published file has open_clip's names; `renamed` turns them into transformers'.
"""

from __future__ import annotations

import html
from pathlib import Path

import torch
from torch.nn import functional as F

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.weights.loading import load_state_into
from mouthpiece.voice.mmaudio.checkpoints import read_checkpoint
from mouthpiece.voice.mmaudio.frames import normalize_for_clip
from mouthpiece.voice.mmaudio.sizes import ClipSize, parse_size

VOCABULARY_FILES = ("vocab.json", "merges.txt")
IMAGE_BATCH = 16
_PADDING = 0  # open_clip fills up with token 0, and the features of the filling are read as well
_BLOCK_KEYS = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj",
}  # fmt: skip
_WHOLE_KEYS = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
_NORM_KEYS = {
    "visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm", "ln_final": "text_model.final_layer_norm",
}  # fmt: skip
_PROJECTION_KEYS = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_TOWER_PREFIXES = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}


def rename_open_clip_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under transformers' names; those that open_clip does not know stay as they are, for the strict load to
    judge.

    state: dict of tensors, in either spelling.
    Source: open_clip's and transformers' modules.
    """
    made = {}
    for key, tensor in state.items():
        stem, _, kind = key.rpartition(".")
        side = next((prefix for prefix in _TOWER_PREFIXES if key.startswith(prefix)), None)
        if key in _WHOLE_KEYS:
            made[_WHOLE_KEYS[key]] = tensor
        elif key in _PROJECTION_KEYS:
            made[_PROJECTION_KEYS[key]] = tensor.T
        elif stem in _NORM_KEYS:
            made[f"{_NORM_KEYS[stem]}.{kind}"] = tensor
        elif side is not None:
            made |= _rename_block_key(key.removeprefix(side), _TOWER_PREFIXES[side], tensor)
        elif not key.endswith("position_ids"):  # a count from 0, in files of older versions
            made[key] = tensor
    return made


def _rename_block_key(key, prefix, tensor):
    layer, _, rest = key.partition(".")
    for part in ("weight", "bias"):
        if rest == f"attn.in_proj_{part}":
            return {f"{prefix}{layer}.self_attn.{n}_proj.{part}": t for n, t in zip("qkv", tensor.chunk(3))}
    stem, _, part = rest.rpartition(".")
    return {f"{prefix}{layer}.{_BLOCK_KEYS.get(stem, stem)}.{part}": tensor}


class ClipEncoder:
    """Pictures and prompts to rows of unit norm.

    module: transformers' CLIPModel in eval.  tokenizer: CLIPTokenizer or what answers like it.  size: sizes.ClipSize.
    Source: CLIP, 2103.00020; DFN, 2309.17425.
    """

    def __init__(self, module: torch.nn.Module, tokenizer, size: ClipSize) -> None:
        self.module, self.tokenizer, self.size = module, tokenizer, size

    @torch.no_grad()
    def pictures(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, embed_dim) of uint8 frames (N, 3, image_px, image_px), in float32. Source: MMAudio."""
        module, rows = self.module, []
        device = module.logit_scale.device
        for start in range(0, len(frames), IMAGE_BATCH):
            pixels = normalize_for_clip(frames[start : start + IMAGE_BATCH].to(device))
            pooled = module.vision_model(pixel_values=pixels).pooler_output
            rows.append(F.normalize(module.visual_projection(pooled).float(), dim=-1))
        return torch.cat(rows)

    @torch.no_grad()
    def texts(self, prompts: list[str]) -> torch.Tensor:
        """(len(prompts), text_tokens, text_width): every token after the last norm, filling included, without
        projection.

        Source: MMAudio.
        """
        tokens = torch.tensor([self.tokens(prompt)[0] for prompt in prompts], device=self.module.logit_scale.device)
        hidden = self.module.text_model(input_ids=tokens).last_hidden_state
        return F.normalize(hidden.float(), dim=-1)

    def tokens(self, prompt: str) -> tuple[list[int], int]:
        """(token numbers, how many of the prompt's own tokens did not fit) of a prompt; text_tokens numbers.

        Source: open_clip's tokenizer: spaces made single, padding with 0, the last token always the end.
        """
        plain = " ".join(html.unescape(html.unescape(prompt)).split())
        first, *own, last = self.tokenizer(plain)["input_ids"]
        room = self.size.text_tokens - 2
        kept = [first, *own[:room], last]
        return kept + [_PADDING] * (self.size.text_tokens - len(kept)), max(0, len(own) - room)

    def to(self, device):
        """Itself, moved."""
        self.module.to(device)
        return self


def make_clip_module(size: ClipSize) -> torch.nn.Module:
    """An empty CLIPModel of transformers. Raises Missing when transformers is not installed."""
    try:
        from transformers import CLIPConfig, CLIPModel
    except ImportError as error:
        hint = "Install mouthpiece again, or: pip install transformers."
        raise MissingDependencyError("mmaudio: transformers is not installed.", hint=hint, code="no_package") from error

    shared = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": size.embed_dim}
    vision = shared | {
        "hidden_size": size.vision_width, "intermediate_size": 4 * size.vision_width, "num_hidden_layers": size.vision_layers,
        "num_attention_heads": size.vision_heads, "image_size": size.image_px, "patch_size": size.patch_px,
    }  # fmt: skip
    text = shared | {
        "hidden_size": size.text_width, "intermediate_size": 4 * size.text_width, "num_hidden_layers": size.text_layers,
        "num_attention_heads": size.text_heads, "vocab_size": size.vocabulary, "max_position_embeddings": size.text_tokens,
        "bos_token_id": size.vocabulary - 2, "eos_token_id": size.vocabulary - 1, "pad_token_id": 0,
    }  # fmt: skip
    with torch.device("meta"):
        return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.embed_dim))


def build_clip(
    state: dict[str, torch.Tensor], tokenizer, size: ClipSize = ClipSize(), name: str = "clip"
) -> ClipEncoder:
    """The ClipEncoder of a checkpoint's tensors, in either spelling.

    Raises Missing with the first five differences.
    """
    device = next(iter(state.values())).device if state else torch.device("cpu")
    module = load_state_into(make_clip_module(size).to_empty(device=device), rename_open_clip_keys(state), name)
    for part in module.modules():  # not in the file, and left undefined by to_empty
        if hasattr(part, "position_ids") and part.position_ids.device.type != "meta":
            part.position_ids.copy_(torch.arange(part.position_ids.shape[-1])[None])
    return ClipEncoder(module.eval().requires_grad_(False), tokenizer, size)


def load_clip(path: Path, folder: Path) -> ClipEncoder:
    """The ClipEncoder of a published file and of the vocabulary beside it.

    path: Path of the weights.  folder: Path that holds VOCABULARY_FILES.
    Raises Missing for what is not there or not installed, Refused for what is broken.
    """
    state, config = read_checkpoint(path, "clip")
    size = parse_size(ClipSize, config["clip"]) if "clip" in config else ClipSize()
    encoder = build_clip(state, None, size)
    encoder.tokenizer = load_tokenizer(Path(folder))
    return encoder


def load_tokenizer(folder: Path):
    """transformers' CLIPTokenizer of the files in a folder. Raises Missing naming the one that is not there."""
    from transformers import CLIPTokenizer

    for name in VOCABULARY_FILES:
        if not (folder / name).is_file():
            hint = "Get it again with `mouthpiece models pull mmaudio-encoders`."
            raise MissingDependencyError(f"clip: {folder / name} is not there.", hint=hint, code="no_weights")
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
