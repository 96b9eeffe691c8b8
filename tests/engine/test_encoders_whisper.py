import struct

import numpy as np
import pytest
import torch

from mouthpiece.engine.encoders.whisper import (
    convert_ctranslate2,
    find_whisper_weights,
    load_whisper,
    read_ctranslate2,
)
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError

SIZES = dict(
    n_mels=80,
    n_audio_ctx=60,
    n_audio_state=16,
    n_audio_head=4,
    n_audio_layer=2,
    n_vocab=51,
    n_text_ctx=12,
    n_text_state=16,
    n_text_head=2,
    n_text_layer=3,
)


def toy(seed=0, **sizes):
    """A whisper of debug size, its layers as lively as those of a trained one."""
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(seed)
    model = Whisper(ModelDimensions(**SIZES | sizes)).eval()
    for name, p in model.named_parameters():
        p.data = torch.randn(p.shape) * (0.3 if p.ndim > 1 else 0.1) + name.endswith(("ln.weight", "ln_post.weight"))
    return model


@pytest.fixture(scope="module")
def model():
    return toy()


def test_weights_are_looked_for_where_said_then_in_the_environment_then_missed(tmp_path, monkeypatch):
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    one.touch(), two.touch()
    monkeypatch.delenv("MOUTHPIECE_WHISPER", raising=False)
    with pytest.raises(MissingDependencyError, match="do not ship.*Set MOUTHPIECE_WHISPER") as caught:
        find_whisper_weights()
    assert caught.value.exit_code == 3 and caught.value.hint.count(". ") == 0
    monkeypatch.setenv("MOUTHPIECE_WHISPER", str(one))
    assert find_whisper_weights() == one and find_whisper_weights(str(two)) == two
    with pytest.raises(MissingDependencyError, match="three.pt is not a file"):
        find_whisper_weights(tmp_path / "three.pt")


def test_a_saved_model_loads_here_and_in_the_whisper_package_and_hears_the_same(tmp_path, model):
    import whisper

    torch.save(dict(dims=SIZES, model_state_dict=model.state_dict()), tmp_path / "toy.pt")
    loaded, theirs = load_whisper(tmp_path / "toy.pt"), whisper.load_model(str(tmp_path / "toy.pt"), device="cpu")
    mel = torch.randn(1, 80, 120)
    with torch.no_grad():
        assert not loaded.training and torch.equal(loaded.encoder(mel), model.encoder(mel))
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize("spoil", ["text", "list", "missing", "more", "shape", "dims", "cut"])
def test_a_file_that_does_not_fit_is_named_not_half_loaded(tmp_path, model, spoil):
    path, state = tmp_path / "toy.pt", model.state_dict()
    sizes = SIZES | ({"n_ears": 2} if spoil == "dims" else {"n_text_layer": 4} if spoil == "missing" else {})
    if spoil == "more":
        state["encoder.more"] = torch.ones(1)
    if spoil == "shape":
        state["decoder.ln.bias"] = torch.ones(17)
    torch.save([1, 2] if spoil == "list" else dict(dims=sizes, model_state_dict=state), path)
    if spoil in ("text", "cut"):
        path.write_bytes(b"hello there" if spoil == "text" else path.read_bytes()[:5000])
    with pytest.raises(MissingDependencyError, match="toy.pt: not Whisper weights") as caught:
        load_whisper(path)
    assert len(str(caught.value)) < 400 + len(str(path))


def ctranslate2_tensors(state, sizes):
    """A whisper state dict under CTranslate2's names: what belongs together stacked, keys with a bias of zeros."""
    out = {
        "encoder/num_heads": np.int16(sizes["n_audio_head"]),
        "decoder/num_heads": np.int16(sizes["n_text_head"]),
        "decoder/pre_norm": np.int8(1),
        "decoder/alignment_heads": np.array([1, 0], np.int16),
    }

    def layer(target, *sources, names=("weight", "bias")):
        zeros = torch.zeros(len(state[f"{sources[0]}.weight"]), dtype=state[f"{sources[0]}.weight"].dtype)
        out[f"{target}/{names[0]}"] = torch.cat([state[f"{s}.weight"] for s in sources]).numpy()
        if f"{sources[-1]}.bias" in state:
            out[f"{target}/{names[1]}"] = torch.cat([state.get(f"{s}.bias", zeros) for s in sources]).numpy()

    norm = dict(names=("gamma", "beta"))
    for side, depth in (("encoder", sizes["n_audio_layer"]), ("decoder", sizes["n_text_layer"])):
        out[f"{side}/position_encodings/encodings"] = state[f"{side}.positional_embedding"].numpy()
        for k in range(depth):
            a, b = f"{side}/layer_{k}", f"{side}.blocks.{k}"
            layer(f"{a}/self_attention/linear_0", f"{b}.attn.query", f"{b}.attn.key", f"{b}.attn.value")
            layer(f"{a}/self_attention/linear_1", f"{b}.attn.out")
            layer(f"{a}/self_attention/layer_norm", f"{b}.attn_ln", **norm)
            layer(f"{a}/ffn/linear_0", f"{b}.mlp.0")
            layer(f"{a}/ffn/linear_1", f"{b}.mlp.2")
            layer(f"{a}/ffn/layer_norm", f"{b}.mlp_ln", **norm)
            if side == "decoder":
                layer(f"{a}/attention/linear_0", f"{b}.cross_attn.query")
                layer(f"{a}/attention/linear_1", f"{b}.cross_attn.key", f"{b}.cross_attn.value")
                layer(f"{a}/attention/linear_2", f"{b}.cross_attn.out")
                layer(f"{a}/attention/layer_norm", f"{b}.cross_attn_ln", **norm)
    layer("encoder/layer_norm", "encoder.ln_post", **norm)
    layer("decoder/layer_norm", "decoder.ln", **norm)
    layer("encoder/conv1", "encoder.conv1")
    layer("encoder/conv2", "encoder.conv2")
    layer("decoder/embeddings", "decoder.token_embedding")
    return out


def ctranslate2_bytes(tensors, version=6, spec="WhisperSpec"):
    """The binary that holds tensors, as CTranslate2 writes it."""
    kinds = {np.dtype(t): k for k, t in enumerate((np.float32, np.int8, np.int16, np.int32, np.float16))}

    def text(word):
        return struct.pack("<H", len(word) + 1) + word.encode() + b"\0"

    parts = [struct.pack("<I", version), text(spec), struct.pack("<II", 3, len(tensors))]
    for name, value in sorted(tensors.items()):
        parts += [
            text(name),
            struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape),
            struct.pack("<BI", kinds[value.dtype], value.nbytes),
            value.tobytes(),
        ]
    return b"".join(
        [*parts, struct.pack("<I", 1), text("decoder/projection/weight"), text("decoder/embeddings/weight")]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_of_ctranslate2_come_back_tensor_for_tensor(tmp_path, model, dtype):
    state = {k: v.to(dtype) for k, v in model.state_dict().items()}
    (tmp_path / "model.bin").write_bytes(ctranslate2_bytes(ctranslate2_tensors(state, SIZES)))
    convert_ctranslate2(tmp_path / "model.bin", tmp_path / "toy.pt")
    saved = torch.load(tmp_path / "toy.pt", weights_only=True)
    assert saved["dims"] == SIZES and set(saved["model_state_dict"]) == set(state)
    for name, value in saved["model_state_dict"].items():
        assert value.dtype == dtype and torch.equal(value, state[name]), name
    loaded = load_whisper(tmp_path / "toy.pt").state_dict()
    assert all(torch.equal(loaded[k], v.float()) for k, v in state.items())


def test_tensors_are_read_with_their_shapes_and_types():
    tensors = {
        "a": np.arange(6, dtype=np.float16).reshape(2, 3),
        "b/c": np.int16(-7),
        "d": np.arange(3, dtype=np.int32),
    }
    found = read_ctranslate2(ctranslate2_bytes(tensors))
    assert set(found) == set(tensors)
    assert all(
        found[k].dtype == v.dtype and np.array_equal(found[k], v) and found[k].shape == v.shape
        for k, v in tensors.items()
    )


@pytest.mark.parametrize(
    "spoil, wanted",
    [
        ("version", "version 5"),
        ("spec", "TransformerSpec"),
        ("cut", "not Whisper weights"),
        ("text", "not Whisper weights"),
        ("int8", "int8, need float16 or float32"),
        ("lost", "Missing key"),
        ("more", "not known: encoder/more"),
        ("wide", "size mismatch"),
    ],
)
def test_a_binary_that_cannot_be_converted_is_refused_and_nothing_written(tmp_path, model, spoil, wanted):
    tensors = ctranslate2_tensors(model.state_dict(), SIZES)
    if spoil == "int8":
        tensors["encoder/conv2/weight"] = tensors["encoder/conv2/weight"].astype(np.int8)
    if spoil == "lost":
        del tensors["decoder/layer_1/attention/linear_2/bias"]
    if spoil == "more":
        tensors["encoder/more"] = np.ones(3, np.float32)
    if spoil == "wide":
        tensors["encoder/layer_norm/beta"] = np.ones(3, np.float32)
    data = ctranslate2_bytes(
        tensors, 5 if spoil == "version" else 6, "TransformerSpec" if spoil == "spec" else "WhisperSpec"
    )
    path = tmp_path / "model.bin"
    path.write_bytes(b"hello there" if spoil == "text" else data[: len(data) // 2] if spoil == "cut" else data)
    with pytest.raises(InvalidInputError, match=wanted) as caught:
        convert_ctranslate2(path, tmp_path / "toy.pt")
    assert caught.value.exit_code == 5 and [p.name for p in tmp_path.iterdir()] == ["model.bin"]
