import struct
from itertools import pairwise

import numpy as np
import pytest
import torch

from mouthpiece.engine.encoders import whisper as ears
from mouthpiece.engine.encoders.whisper import (
    convert_ctranslate2,
    extract_whisper_features,
    find_whisper_weights,
    load_whisper,
    read_ctranslate2,
    split_into_windows,
)
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, UsageError

SIZES = dict(n_mels=80, n_audio_ctx=60, n_audio_state=16, n_audio_head=4, n_audio_layer=2,
             n_vocab=51, n_text_ctx=12, n_text_state=16, n_text_head=2, n_text_layer=3)  # fmt: skip


def toy(seed=0, **sizes):
    """A whisper of debug size, its layers as lively as those of a trained one."""
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(seed)
    model = Whisper(ModelDimensions(**SIZES | sizes)).eval()
    for name, p in model.named_parameters():
        p.data = torch.randn(p.shape) * (0.3 if p.ndim > 1 else 0.1) + name.endswith(("ln.weight", "ln_post.weight"))
    return model


def noise(samples, seed=0):
    return (np.random.default_rng(seed).normal(size=samples) * np.linspace(0.02, 0.2, samples)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return toy()


def test_features_are_those_of_the_blocks_run_by_hand_on_the_true_length(model):
    from whisper.audio import log_mel_spectrogram

    wave = noise(320 * 41 - 100)
    with torch.no_grad():
        x = log_mel_spectrogram(np.pad(wave, (0, 100)))[None]
        x = torch.nn.functional.gelu(model.encoder.conv1(x))
        x = torch.nn.functional.gelu(model.encoder.conv2(x)).permute(0, 2, 1)
        x = x + model.encoder.positional_embedding[:41]
        for block in model.encoder.blocks:
            x = block(x)
        wanted = model.encoder.ln_post(x)[0].numpy()
    made = extract_whisper_features(model, wave)
    assert made.shape == (41, 16) and made.dtype == np.float32 and np.abs(made - wanted).max() < 1e-4


def test_sound_that_fills_all_positions_is_heard_as_by_the_encoder_itself(model):
    from whisper.audio import log_mel_spectrogram

    wave = noise(320 * 60)
    with torch.no_grad():
        wanted = model.encoder(log_mel_spectrogram(wave)[None])[0].numpy()
    assert np.abs(extract_whisper_features(model, wave) - wanted).max() < 1e-4


@pytest.mark.parametrize(
    "samples, ticks", [(0, 1), (1, 1), (320, 1), (321, 2), (19200, 60), (19201, 61), (100000, 313)]
)
def test_there_is_one_feature_a_20_ms_begun_and_at_least_one(model, samples, ticks):
    made = extract_whisper_features(model, noise(samples))
    assert made.shape == (ticks, 16) and np.isfinite(made).all()


def test_windows_keep_every_tick_once_with_margins_and_are_never_longer_than_the_encoder_reaches():
    assert list(split_into_windows(60, 60, 15)) == [(0, 60, 0, 60)]
    for ticks in (61, 90, 91, 150, 457):
        spans = list(split_into_windows(ticks, 60, 15))
        assert spans[0][2] == 0 and spans[-1][3] == ticks and all(p[3] == q[2] for p, q in pairwise(spans))
        for a, b, start, stop in spans:
            assert b - a == 60 and (start - a >= 15 or a == 0) and (b - stop >= 15 or b == ticks)


def test_the_log_mel_of_windows_is_that_of_the_whole_sound(model, monkeypatch):
    from whisper.audio import log_mel_spectrogram

    wave, heard = noise(320 * 150), []
    # the peak, and with it the floor of all windows, lies late
    wave[320 * 100 : 320 * 105] *= 30
    wave[:9600] *= 1e-4
    monkeypatch.setattr(
        ears, "_encode_mel", lambda encoder, mel: heard.append(mel) or torch.zeros(mel.shape[1] // 2, 16)
    )
    extract_whisper_features(model, wave)
    whole = log_mel_spectrogram(wave)
    spans = list(split_into_windows(150, 60, 15))
    assert len(heard) == len(spans) > 3 and (whole[:, :40] == whole.min()).all()
    for mel, (a, b, _, _) in zip(heard, spans):
        assert (mel - whole[:, 2 * a : 2 * b]).abs().max() < 1e-4


def test_windows_of_a_longer_sound_are_put_together_in_order(model):
    wave = noise(320 * 150)
    made, alone = extract_whisper_features(model, wave), extract_whisper_features(model, wave[: 320 * 60])
    assert made.shape == (150, 16) and np.abs(made[:40] - alone[:40]).mean() < 0.05 * alone.std()


def test_sound_of_two_channels_is_refused(model):
    with pytest.raises(UsageError, match=r"\(2, 640\), need \(S,\)"):
        extract_whisper_features(model, np.zeros((2, 640), np.float32))


def test_weights_are_looked_for_where_said_then_in_the_environment_then_missed(tmp_path, monkeypatch):
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    one.touch(), two.touch()
    monkeypatch.delenv("MOUTHPIECE_WHISPER", raising=False)
    with pytest.raises(MissingDependencyError, match="do not ship.*Set MOUTHPIECE_WHISPER") as caught:
        find_whisper_weights()
    assert caught.value.exit_code == 3 and caught.value.hint.count(". ") == 0
    monkeypatch.setenv("MOUTHPIECE_WHISPER", str(one))
    assert find_whisper_weights() == one and find_whisper_weights(str(two)) == two
    with pytest.raises(MissingDependencyError, match="three.pt is no file"):
        find_whisper_weights(tmp_path / "three.pt")


def test_a_saved_model_loads_here_and_in_the_whisper_package_and_hears_the_same(tmp_path, model):
    import whisper

    torch.save(dict(dims=SIZES, model_state_dict=model.state_dict()), tmp_path / "toy.pt")
    loaded, theirs = load_whisper(tmp_path / "toy.pt"), whisper.load_model(str(tmp_path / "toy.pt"), device="cpu")
    wave = noise(9000)
    assert not loaded.training and np.array_equal(
        extract_whisper_features(loaded, wave), extract_whisper_features(model, wave)
    )
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
    with pytest.raises(MissingDependencyError, match="toy.pt: no whisper weights") as caught:
        load_whisper(path)
    assert len(str(caught.value)) < 400 + len(str(path))


def ctranslate2_tensors(state, sizes):
    """A whisper state dict under CTranslate2's names: what belongs together stacked, keys with a bias of zeros."""
    out = {"encoder/num_heads": np.int16(sizes["n_audio_head"]), "decoder/num_heads": np.int16(sizes["n_text_head"]),
           "decoder/pre_norm": np.int8(1), "decoder/alignment_heads": np.array([1, 0], np.int16)}  # fmt: skip

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
        parts += [text(name), struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape),
                  struct.pack("<BI", kinds[value.dtype], value.nbytes), value.tobytes()]  # fmt: skip
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
    [("version", "version 5"), ("spec", "TransformerSpec"), ("cut", "no whisper weights"), ("text", "no whisper weights"),
     ("int8", "int8, need float16 or float32"), ("lost", "Missing key"), ("more", "not known: encoder/more"), ("wide", "size mismatch")],
)  # fmt: skip
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
