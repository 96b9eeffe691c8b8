"""CLIP through transformers equals the published network written out by hand, from the published names."""

import math

import pytest
import torch
from torch.nn import functional as F

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.voice.mmaudio.clip_encoder import build_clip, load_tokenizer
from mouthpiece.voice.mmaudio.frames import normalize_for_clip
from mouthpiece.voice.mmaudio.random_weights import write_vocabulary
from mouthpiece.voice.mmaudio.sizes import ClipSize

SIZE = ClipSize(8, 28, 14, 12, 2, 2, 10, 2, 2, 514)


def open_clip_state(size):
    """A state dict under open_clip's names."""
    generator = torch.Generator().manual_seed(3)
    patches = (size.image_px // size.patch_px) ** 2 + 1
    shapes = {
        "visual.class_embedding": (size.vision_width,),
        "visual.positional_embedding": (patches, size.vision_width),
        "visual.conv1.weight": (size.vision_width, 3, size.patch_px, size.patch_px),
        "visual.proj": (size.vision_width, size.embed_dim),
        "token_embedding.weight": (size.vocabulary, size.text_width),
        "positional_embedding": (size.text_tokens, size.text_width),
        "text_projection": (size.text_width, size.embed_dim),
        "logit_scale": (),
    }
    for name, width in (
        ("visual.ln_pre", size.vision_width),
        ("visual.ln_post", size.vision_width),
        ("ln_final", size.text_width),
    ):
        shapes |= {f"{name}.{part}": (width,) for part in ("weight", "bias")}
    for prefix, width, layers in (
        ("visual.transformer", size.vision_width, size.vision_layers),
        ("transformer", size.text_width, size.text_layers),
    ):
        for n in range(layers):
            block = f"{prefix}.resblocks.{n}."
            shapes |= {block + f"{norm}.{part}": (width,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
            shapes |= {block + "attn.in_proj_weight": (3 * width, width), block + "attn.in_proj_bias": (3 * width,)}
            for layer, shape in (
                ("attn.out_proj", (width, width)),
                ("mlp.c_fc", (4 * width, width)),
                ("mlp.c_proj", (width, 4 * width)),
            ):
                shapes |= {f"{block}{layer}.weight": shape, f"{block}{layer}.bias": shape[:1]}
    return {key: torch.randn(shape, generator=generator) * 0.4 for key, shape in shapes.items()}


def norm_of(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def transformer(state, prefix, layers, heads, x, mask=None):
    """The residual blocks, written out."""
    for n in range(layers):
        block = f"{prefix}.resblocks.{n}"
        h = norm_of(state, f"{block}.ln_1", x)
        qkv = (h @ state[f"{block}.attn.in_proj_weight"].T + state[f"{block}.attn.in_proj_bias"]).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores if mask is None else scores + mask
        h = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + h @ state[f"{block}.attn.out_proj.weight"].T + state[f"{block}.attn.out_proj.bias"]
        h = norm_of(state, f"{block}.ln_2", x) @ state[f"{block}.mlp.c_fc.weight"].T + state[f"{block}.mlp.c_fc.bias"]
        h = h * torch.sigmoid(1.702 * h)
        x = x + h @ state[f"{block}.mlp.c_proj.weight"].T + state[f"{block}.mlp.c_proj.bias"]
    return x


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    write_vocabulary(folder, SIZE.vocabulary)
    return build_clip(open_clip_state(SIZE), load_tokenizer(folder), SIZE)


def test_pictures_are_encoded_as_the_published_network_does(encoder):
    state = open_clip_state(SIZE)
    frames = torch.randint(0, 256, (3, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    patches = F.conv2d(normalize_for_clip(frames), state["visual.conv1.weight"], stride=14).flatten(2).transpose(1, 2)
    x = torch.cat([state["visual.class_embedding"].expand(3, 1, -1), patches], 1) + state["visual.positional_embedding"]
    x = transformer(state, "visual.transformer", 2, 2, norm_of(state, "visual.ln_pre", x))
    wanted = F.normalize(norm_of(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"], dim=-1)
    torch.testing.assert_close(encoder.encode_images(frames), wanted, rtol=1e-4, atol=1e-5)


def test_every_token_of_a_prompt_is_encoded_filling_included(encoder):
    state = open_clip_state(SIZE)
    tokens, lost = encoder.tokenize("Dog  barks &amp; runs")
    letters = len("dogbarks&runs")
    assert (
        lost == 0 and tokens[0] == 512 and tokens[1 + letters] == 513 and tokens[2 + letters :] == [0] * (75 - letters)
    )
    assert tokens == encoder.tokenize("dog barks & runs")[0]
    x = state["token_embedding.weight"][torch.tensor([tokens])] + state["positional_embedding"]
    mask = torch.full((77, 77), -math.inf).triu(1)
    wanted = F.normalize(norm_of(state, "ln_final", transformer(state, "transformer", 2, 2, x, mask)), dim=-1)
    torch.testing.assert_close(encoder.encode_texts(["Dog barks & runs"]), wanted, rtol=1e-4, atol=1e-5)


def test_a_long_prompt_keeps_its_beginning_and_its_end_mark_and_counts_what_is_lost(encoder):
    tokens, lost = encoder.tokenize("a" * 10 + " b" * 5000)
    assert len(tokens) == 77 and tokens[-1] == 513 and lost == 5010 - 75


def test_a_strange_or_missing_tensor_is_named(encoder):
    state = open_clip_state(SIZE)
    with pytest.raises(MissingDependencyError, match="visual.head.weight is not known"):
        build_clip(state | {"visual.head.weight": torch.zeros(1)}, None, SIZE)
    state.pop("visual.ln_post.bias")
    with pytest.raises(MissingDependencyError, match="vision_model.post_layernorm.bias is missing"):
        build_clip(state, None, SIZE)
    again = build_clip(encoder.module.state_dict(), None, SIZE)
    frames = torch.zeros(1, 3, 28, 28, dtype=torch.uint8)
    assert torch.equal(again.encode_images(frames), encoder.encode_images(frames))
