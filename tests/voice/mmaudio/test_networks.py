"""MMAudio's networks: closed forms, slow references beside the fast paths, and numbers of a build that matches the
original.
"""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, MouthpieceError, UsageError
from mouthpiece.voice.mmaudio.blocks import (
    FlowTimeEmbedding,
    QKVProjection,
    apply_rotary,
    attend,
    compute_rotary_angles,
)
from mouthpiece.voice.mmaudio.checkpoints import build_network, build_vae, build_vocoder, identify_variant, load_network
from mouthpiece.voice.mmaudio.frames import crop_for_sync, resize_for_clip
from mouthpiece.voice.mmaudio.mel import compute_log_mel, make_mel_filterbank
from mouthpiece.voice.mmaudio.network import FlowNetwork, compute_sync_index
from mouthpiece.voice.mmaudio.sizes import RATES, VAES, VARIANTS, VOCODERS, NetworkSize, SyncSize, VaeSize, VocoderSize
from mouthpiece.voice.mmaudio.synchformer import DividedAttention, SyncEncoder
from mouthpiece.voice.mmaudio.vae import MelVAE, fuse_weight, normalize_pixels
from mouthpiece.voice.mmaudio.vocoder import Vocoder

TINY = NetworkSize(4, 6, 5, 7, 16, 3, 1, 2)
TINY_V2 = NetworkSize(4, 6, 5, 7, 16, 3, 1, 2, True)
TINY_VAE = VaeSize(10, 3, 4)
TINY_VOCODER = VocoderSize(10, (4, 2), (8, 4), 8)
TINY_SYNC = SyncSize(12, 1, 2, 2, 32, 16)
# Numbers of this code when it matched every recorded tensor of the original (benchmarks/parity.py mmaudio).
V1_FLOW = [-0.12544, -0.25746, -0.2107]
V2_FLOW = [-0.10986, -0.33365, -0.21107]
VAE_MEL = [-0.05634, 0.10792, 0.11472]
VOCODER_WAVE = [-0.52583, -0.30982, -0.54861, -0.18796, -0.37581]
SYNC_FEATURES = [-0.2771, -0.27818, -0.27814, -0.27855]


def wave_of(shape, phase):
    """Numbers that need no random generator: a slow irrational rotation."""
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 1.61803 + phase).float().reshape(shape)


def filled(module):
    """A module with weights that any torch makes alike."""
    state = module.state_dict()
    for number, key in enumerate(sorted(state)):
        tensor = state[key]
        fan_in = max(1, tensor[0].numel()) if tensor.dim() > 1 else 4
        state[key] = wave_of(tensor.shape, number) * fan_in**-0.5 + ("norm" in key and "weight" in key)
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def features(batch=2, pictures=5, sync=16, size=TINY):
    return (
        wave_of((batch, pictures, size.clip_dim), 1.0),
        wave_of((batch, sync, size.sync_dim), 2.0),
        wave_of((batch, size.text_seq_len, size.text_dim), 3.0),
    )


@pytest.mark.parametrize(
    "name, values",
    [
        ("mmaudio-small-16k", 157_283_644),
        ("mmaudio-small-44k", 157_409_144),
        ("mmaudio-medium-44k", 621_805_944),
        ("mmaudio-large-44k", 1_030_002_168),
        ("mmaudio-large-44k-v2", 1_030_575_608),
    ],
)
def test_the_networks_have_as_many_numbers_as_the_published_files(name, values):
    with torch.device("meta"):
        state = FlowNetwork(VARIANTS[name].network).state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == values
    assert identify_variant(state) == name


def test_vae_sync_encoder_and_vocoders_have_as_many_numbers_as_the_published_files():
    with torch.device("meta"):
        counts = [sum(t.numel() for t in MelVAE(VAES[mode]).state_dict().values()) for mode in ("16k", "44k")]
        counts.append(sum(t.numel() for t in SyncEncoder(SyncSize()).state_dict().values()))
        vocoders = [Vocoder(VOCODERS[mode]) for mode in ("16k", "44k")]
    assert counts == [171_657_378, 305_479_938, 122_440_704]
    for vocoder, values in zip(vocoders, (112_233_866, 122_187_145)):
        state = vocoder.state_dict()
        magnitudes = sum(t.shape[0] for key, t in state.items() if key.endswith("weight"))
        assert sum(t.numel() for t in state.values()) + magnitudes == values


@pytest.mark.parametrize(
    "mode, duration_s, lengths",
    [
        ("16k", 0.64, (20, 5, 8)),
        ("16k", 7.99, (250, 63, 184)),
        ("16k", 8.0, (250, 64, 192)),
        ("44k", 8.0, (345, 64, 192)),
        ("44k", 32.0, (1379, 256, 792)),
    ],
)
def test_streams_are_as_long_as_the_original_makes_them(mode, duration_s, lengths):
    assert RATES[mode].lengths(duration_s) == lengths


def test_less_than_one_sync_window_has_no_length():
    with pytest.raises(UsageError, match="0.64"):
        RATES["16k"].lengths(0.3)


@pytest.mark.parametrize(
    "latents, sync, places, sources",
    [(345, 192, (57, 172), (31, 95)), (79, 48, (39,), (23,)), (766, 600, (574,), (449,)), (1379, 792, (689,), (395,))],
)
def test_sync_ties_fall_as_in_single_precision(latents, sync, places, sources):
    index = compute_sync_index(latents, sync)
    exact = [math.floor((2 * i + 1) * sync / (2 * latents)) for i in range(latents)]
    assert tuple(index[list(places)].tolist()) == sources
    assert [i for i in range(latents) if int(index[i]) != exact[i]] == list(places)


def test_neighbouring_numbers_turn_as_pairs():
    cos, sin = compute_rotary_angles(5, 4)
    x = torch.zeros(1, 1, 5, 4)
    x[..., 0], x[..., 3] = 1.0, 1.0
    turned = apply_rotary(x, (cos, sin))[0, 0]
    angles = torch.arange(5)[:, None] * torch.tensor([1.0, 0.01])
    wanted = torch.stack([angles[:, 0].cos(), angles[:, 0].sin(), -angles[:, 1].sin(), angles[:, 1].cos()], 1)
    torch.testing.assert_close(turned, wanted)


def test_queries_keys_and_values_are_packed_head_dim_three():
    projection, x = filled(QKVProjection(8, 2)), wave_of((1, 3, 8), 0.5)
    rows = projection.qkv(x)[0]
    q, k, v = projection(x, None)
    for head in range(2):
        for d in range(4):
            assert torch.equal(v[0, head, :, d], rows[:, (head * 4 + d) * 3 + 2])
        block = rows[:, [(head * 4 + d) * 3 for d in range(4)]]
        normed = block / (block.square().mean(1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()
        torch.testing.assert_close(q[0, head], normed * projection.q_norm.weight)
    assert attend(q, k, v).shape == (1, 3, 8)


@pytest.mark.parametrize("speed", [1.0, 10000.0])
def test_the_time_embedding_stays_in_single_precision_under_autocast(speed):
    embedding, time = filled(FlowTimeEmbedding(16, 8, speed)), torch.tensor([0.123456, 0.9991])
    plain = embedding(time)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(embedding(time), plain)
    rates = speed / 10000.0 ** (np.arange(0, 8, 2) / 8)
    angles = time.double().numpy()[:, None] * rates
    found = embedding.sinusoid(time).numpy()
    assert np.abs(found - np.concatenate([np.cos(angles), np.sin(angles)], 1)).max() < 2e-3


def test_a_half_precision_time_would_scramble_the_second_version():
    embedding, time = FlowTimeEmbedding(16, 64, 10000.0), torch.tensor([0.123456])
    rough = time.bfloat16().float()[:, None] * embedding.frequencies().bfloat16().float()
    exact = embedding.sinusoid(time)
    assert (torch.cat([rough.cos(), rough.sin()], -1) - exact).abs().max() > 0.5


@pytest.mark.parametrize("size, numbers", [(TINY, V1_FLOW), (TINY_V2, V2_FLOW)], ids=["v1", "v2"])
def test_the_flow_is_that_of_a_build_which_matches_the_original(size, numbers):
    net = filled(FlowNetwork(size))
    conditions = net.compute_conditions(*features(size=size), 11)
    flow = net(wave_of((2, 11, 4), 0.25), torch.tensor([0.3, 0.8]), conditions)
    torch.testing.assert_close(flow[1, ::5, 1], torch.tensor(numbers), rtol=5e-3, atol=2e-3)


def test_the_flow_depends_on_every_condition_and_every_weight_but_the_dead_ones():
    net = filled(FlowNetwork(TINY))
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    clip, sync, text = features(1)
    no_clip, no_sync, no_text = net.empty(1, 5, 16)
    trees = [net.compute_conditions(clip, sync, text, 11), net.compute_conditions(no_clip, no_sync, no_text, 11)]
    x = net.standardize(wave_of((1, 11, 4), 0.25))
    flow = sum(net(x, torch.tensor([0.4]), tree).square().sum() for tree in trees)
    net.unstandardize(flow).sum().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == [f"joint_blocks.1.{stream}_block.attn.q_norm.weight" for stream in ("clip", "text")]


def test_a_fused_weight_has_unit_gain_and_fusing_again_is_not_the_same():
    weight = wave_of((3, 4, 5), 0.1)
    fused = fuse_weight(weight)
    torch.testing.assert_close(fused.flatten(1).norm(dim=1), torch.ones(3), atol=1e-3, rtol=0)
    assert not torch.equal(fuse_weight(fused), fused)
    vae = filled(MelVAE(TINY_VAE)).fuse()
    before = {key: value.clone() for key, value in vae.state_dict().items()}
    vae.fuse()
    assert all(torch.equal(value, before[key]) for key, value in vae.state_dict().items())


def test_the_vae_refuses_to_run_before_it_is_fused():
    with pytest.raises(MouthpieceError, match="fused"):
        MelVAE(TINY_VAE).decode(torch.zeros(1, 3, 4))


def test_the_vae_halves_time_and_drops_an_odd_frame_and_doubles_it_again():
    vae = filled(MelVAE(TINY_VAE)).fuse()
    mean, log_variance = vae.encode(wave_of((1, 10, 13), 0.0))
    assert mean.shape == log_variance.shape == (1, 3, 6)
    mel = vae.decode(mean)
    assert mel.shape == (1, 10, 12)
    torch.testing.assert_close(mel[0, ::4, 3], torch.tensor(VAE_MEL), rtol=1e-3, atol=1e-4)
    assert normalize_pixels(wave_of((1, 5, 7), 0.0)).square().mean(1).allclose(torch.ones(1, 7), atol=1e-3)


def test_all_three_spellings_of_weight_norm_are_one_vocoder():
    vocoder = filled(Vocoder(TINY_VOCODER))
    plain, waves = vocoder.state_dict(), []
    for g, v in (
        (".weight_g", ".weight_v"),
        (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    ):
        state = {}
        for key, value in plain.items():
            if key.endswith("weight"):
                norm = value.flatten(1).norm(dim=1).view(-1, 1, 1)
                state |= {key.removesuffix(".weight") + g: norm, key.removesuffix(".weight") + v: 3 * value}
            else:
                state[key] = value
        waves.append(build_vocoder(state, TINY_VOCODER)(wave_of((1, 10, 6), 0.3)))
    waves.append(build_vocoder(plain, TINY_VOCODER)(wave_of((1, 10, 6), 0.3)))
    assert waves[0].shape == (1, 1, 6 * 8)
    for wave in waves[:-1]:
        torch.testing.assert_close(wave, waves[-1])
    torch.testing.assert_close(waves[-1][0, 0, ::11], torch.tensor(VOCODER_WAVE), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("over", ["time", "space"])
def test_divided_attention_is_full_attention_with_a_mask(over):
    frames, places, width = 3, 4, 8
    layer, x = filled(DividedAttention(width, 2)), wave_of((2, 1 + frames * places, width), 0.7)
    t, p = torch.meshgrid(torch.arange(frames), torch.arange(places), indexing="ij")
    group = (p if over == "time" else t).flatten()
    mask = torch.ones(len(group) + 1, len(group) + 1, dtype=torch.bool)
    mask[1:, 1:] = group[:, None] == group[None]
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in layer.qkv(x).chunk(3, -1))
    full = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(layer(x, frames, over), layer.proj(full.transpose(1, 2).flatten(2)))


def test_sync_windows_start_eight_frames_apart_and_a_remainder_is_dropped():
    encoder, frames = filled(SyncEncoder(TINY_SYNC)), wave_of((1, 30, 3, 32, 32), 0.2)
    whole = encoder(frames)
    assert whole.shape == (1, 16, 12)
    torch.testing.assert_close(whole[:, 8:], encoder(frames[:, 8:24]))
    torch.testing.assert_close(whole[0, ::5, 2], torch.tensor(SYNC_FEATURES), rtol=1e-3, atol=1e-4)


def test_frames_are_resized_as_bytes_and_a_square_is_cut_from_the_middle():
    pixels = (wave_of((50, 90, 3), 0.4).mul(127).add(128)).byte().numpy()
    wanted = np.asarray(Image.fromarray(pixels).resize((384, 384), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(resize_for_clip(pixels).permute(1, 2, 0).numpy().astype(int) - wanted).max() <= 2
    small = np.asarray(Image.fromarray(pixels).resize((403, 224), Image.Resampling.BICUBIC)).astype(int)
    left = 90  # half of 179 is 89.5, and halves go to the even number
    cut = crop_for_sync(pixels).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(cut - small[:, left : left + 224]).max() <= 2


def test_focus_moves_the_square_and_never_out_of_the_frame():
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 250:] = 200
    assert crop_for_sync(pixels).max() == 0
    assert crop_for_sync(pixels, focus=(299, 50)).float().mean() > 90
    assert torch.equal(crop_for_sync(pixels, focus=(299, 50)), crop_for_sync(pixels, focus=(5000, 50)))
    tall = pixels.transpose(1, 0, 2)
    assert crop_for_sync(tall, focus=(50, 299)).float().mean() > 90


@pytest.mark.parametrize("mode, at_hz", [("16k", 1000.0), ("44k", 5000.0)])
def test_a_tone_lights_the_band_that_holds_it_and_silence_lies_on_the_floor(mode, at_hz):
    rates = RATES[mode]
    t = torch.arange(rates.rate_hz) / rates.rate_hz
    mel = compute_log_mel(torch.stack([0.5 * torch.sin(2 * math.pi * at_hz * t), torch.zeros(rates.rate_hz)]), rates)
    assert mel.shape == (2, rates.bands, rates.rate_hz // rates.hop_samples)
    hz = torch.fft.rfftfreq(rates.n_fft, 1 / rates.rate_hz)
    bank = make_mel_filterbank(rates)
    centres = (bank * hz).sum(1) / bank.sum(1)
    loudest = int(mel[0].mean(1).argmax())
    assert abs(float(centres[loudest]) - at_hz) < 1.2 * float(centres[loudest + 1] - centres[loudest])
    assert float(mel[1].max()) < (-4 if mode == "16k" else -9)
    edges = (bank > 0).float()
    area = (bank.sum(1) * rates.rate_hz / rates.n_fft)[edges.sum(1) > 8]
    # Slaney's filters enclose an area of one
    torch.testing.assert_close(area, torch.ones_like(area), rtol=0.02, atol=0)


def test_tables_of_older_files_are_dropped_and_anything_else_is_refused():
    state = filled(FlowNetwork(TINY)).state_dict()
    assert build_network(state | {"latent_rot": torch.zeros(1), "t_embed.freqs": torch.zeros(1)}, TINY)
    with pytest.raises(MissingDependencyError, match="extra.weight is not known"):
        build_network(state | {"extra.weight": torch.zeros(1)}, TINY)
    state.pop("final_layer.conv.bias")
    with pytest.raises(MissingDependencyError, match="final_layer.conv.bias is missing"):
        build_network(state, TINY)
    with pytest.raises(MissingDependencyError):
        build_vae({"data_mean": torch.zeros(1)}, TINY_VAE)


def test_a_checkpoint_of_another_variant_is_named(tmp_path):
    size = VARIANTS["mmaudio-small-16k"].network
    with torch.device("meta"):
        state = FlowNetwork(size).state_dict()
    state = {key: torch.zeros(1).expand(tensor.shape) for key, tensor in state.items()}  # no memory, little disk
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(InvalidInputError, match="weights of mmaudio-small-16k, not of mmaudio-large-44k-v2"):
        load_network(tmp_path / "x.pth", VARIANTS["mmaudio-large-44k-v2"])


class Trap:
    """A pickle that would run code."""

    def __reduce__(self):
        return (print, ("ran",))


def test_pickles_with_code_and_files_cut_off_are_refused(tmp_path, capsys):
    variant = VARIANTS["mmaudio-small-16k"]
    torch.save({"a": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(InvalidInputError, match="more than tensors"):
        load_network(tmp_path / "trap.pth", variant)
    assert "ran" not in capsys.readouterr().out
    torch.save({"a": torch.zeros(1000)}, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:900])
    for name in ("cut.pth", "text.safetensors"):
        (tmp_path / "text.safetensors").write_text("no weights")
        with pytest.raises(InvalidInputError, match="broken|more than tensors"):
            load_network(tmp_path / name, variant)
    with pytest.raises(MissingDependencyError, match="is not there"):
        load_network(tmp_path / "none.pth", variant)
