"""EchoMimic's networks: sizes of the published files, what each condition reaches, two paths with one answer."""

import dataclasses
import math

import pytest
import torch
from debug_echomimic import make_networks

from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.lipsync.echomimic.blocks import SpatialTransformer, make_position_table
from mouthpiece.lipsync.echomimic.config import DEBUG_CONFIG, FULL_CONFIG, NetworkConfig, infer_config
from mouthpiece.lipsync.echomimic.networks import Denoiser, FaceLocator, ReferenceNet, cache_keys_and_values
from mouthpiece.lipsync.echomimic.weights import build_network, merge_states

FRAMES, SIZE = 3, (8, 10)


@pytest.fixture(scope="module")
def nets():
    return make_networks()


@pytest.fixture(scope="module")
def given(nets):
    """x, told (of one item that is told everything) and what the reference network saw."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        seen = nets[0](draw(1, 4, *SIZE))
        face = nets[1](torch.rand(1, 1, 8 * SIZE[0], 8 * SIZE[1], generator=generator))
    told = {"audio": draw(1, FRAMES, 50, DEBUG_CONFIG.audio_width), "face": face, "known": torch.tensor([True])}
    return draw(1, 4, FRAMES, *SIZE), told, seen


def ask(net, x, told, seen, time=500.0):
    with torch.no_grad():
        return net(x, torch.full((len(x),), time), told, seen)


def test_the_full_size_has_the_published_number_of_values():
    with torch.device("meta"):
        states = [kind(FULL_CONFIG).state_dict() for kind in (ReferenceNet, FaceLocator, Denoiser)]
    motion = {key: t for key, t in states[2].items() if ".motion_modules." in key}
    rest = {key: t for key, t in states[2].items() if key not in motion}
    counts = [(len(state), sum(t.numel() for t in state.values())) for state in (states[0], states[1], rest, motion)]
    assert counts == [(570, 815_521_280), (16, 1_086_192), (686, 849_936_324), (588, 454_417_600)]
    assert not any(
        "attn2" in key or "norm2.weight" in key and "transformer" in key or "conv_out" in key for key in states[0]
    )
    assert states[2]["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape == (320, 384)


def test_the_same_blocks_see_the_portrait_under_the_same_names_in_both_networks(nets, given):
    assert len(given[2]) == 10 and set(cache_keys_and_values(nets[2], given[2])) == set(given[2])
    with torch.device("meta"):
        for net in (ReferenceNet(FULL_CONFIG), Denoiser(FULL_CONFIG)):
            assert sum(isinstance(module, SpatialTransformer) for module in net.modules()) == 16


def test_keys_and_values_made_once_give_what_making_them_each_time_gives(nets, given):
    x, told, seen = given
    torch.testing.assert_close(
        ask(nets[2], x, told, cache_keys_and_values(nets[2], seen)), ask(nets[2], x, told, seen), rtol=1e-4, atol=1e-5
    )


def test_both_halves_of_guidance_in_one_call_are_the_halves_alone(nets, given):
    x, told, seen = given
    blank = {
        "audio": torch.zeros_like(told["audio"]),
        "face": torch.zeros_like(told["face"]),
        "known": torch.tensor([False]),
    }
    both = ask(nets[2], x.expand(2, -1, -1, -1, -1), {key: torch.cat([blank[key], told[key]]) for key in told}, seen)
    torch.testing.assert_close(both[:1], ask(nets[2], x, blank, {}), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both[1:], ask(nets[2], x, told, seen), rtol=1e-4, atol=1e-5)


def test_every_condition_changes_the_answer(nets, given):
    x, told, seen = given
    plain = ask(nets[2], x, told, seen)
    for change in ({"audio": told["audio"] * 0}, {"face": told["face"] * 0}, {"known": torch.tensor([False])}):
        assert (ask(nets[2], x, told | change, seen) - plain).abs().max() > 1e-2, change
    assert (ask(nets[2], x, told, seen, time=100.0) - plain).abs().max() > 1e-3
    for name in seen:
        assert (ask(nets[2], x, told, seen | {name: seen[name] * 0}) - plain).abs().max() > 1e-4, name


def test_the_sound_of_a_frame_reaches_the_other_frames_through_the_motion_modules_alone(given):
    x, told, seen = given
    net = make_networks()[2]
    louder = told | {"audio": told["audio"].clone()}
    louder["audio"][:, 0] += 1
    change = (ask(net, x, louder, seen) - ask(net, x, told, seen)).abs().amax((0, 1, 3, 4))
    assert (change > 1e-4).all()
    for module in net.modules():
        if hasattr(module, "temporal_transformer"):
            torch.nn.init.zeros_(module.temporal_transformer.proj_out.weight)
            torch.nn.init.zeros_(module.temporal_transformer.proj_out.bias)
    change = (ask(net, x, louder, seen) - ask(net, x, told, seen)).abs().amax((0, 1, 3, 4))
    assert change[0] > 1e-3 and change[1:].max() < 1e-5


def test_a_time_for_each_frame_is_one_time_where_they_agree(nets, given):
    x, told, seen = given
    with torch.no_grad():
        each = nets[2](x, torch.full((1, FRAMES), 500.0), told, seen)
        apart = nets[2](x, torch.tensor([[0.0, 500.0, 500.0]]), told, seen)
    torch.testing.assert_close(each, ask(nets[2], x, told, seen))
    assert (apart - each).abs().max() > 1e-3


def test_a_new_network_ignores_the_region_and_the_speed_until_it_is_trained(given):
    x, told, seen = given
    assert FaceLocator(DEBUG_CONFIG)(torch.rand(1, 1, 64, 64)).abs().max() == 0
    net = Denoiser(dataclasses.replace(DEBUG_CONFIG, speed_buckets=5)).eval()
    fast = told | {"speed": torch.full((1, FRAMES), 1.5)}
    torch.testing.assert_close(ask(net, x, fast, seen), ask(net, x, told, seen))
    for module in net.modules():
        if getattr(module, "speed_attention", None) is not None:
            torch.nn.init.normal_(module.speed_attention.to_out[0].weight)
    assert (ask(net, x, fast, seen) - ask(net, x, told | {"speed": torch.zeros(1, FRAMES)}, seen)).abs().max() > 1e-4


def test_odd_sizes_come_back_as_they_went_in(nets, given):
    _, told, seen = given
    x = torch.randn(1, 4, FRAMES, 5, 7)
    assert ask(nets[2], x, told | {"face": torch.zeros(1, 16, 5, 7)}, seen).shape == x.shape


def test_the_position_table_is_interleaved_sine_and_cosine():
    table = make_position_table(8, 5)
    assert table.shape == (1, 5, 8)
    for place in range(5):
        for pair in range(4):
            angle = place * 10000 ** (-2 * pair / 8)
            assert table[0, place, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[0, place, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_windows_beyond_the_table_and_items_out_of_order_are_refused(nets, given):
    _, told, seen = given
    with pytest.raises(UsageError, match="33 frames"):
        ask(nets[2], torch.zeros(1, 4, 33, *SIZE), told, seen)
    with pytest.raises(UsageError, match="unconditioned items first"):
        ask(nets[2], torch.zeros(2, 4, 1, *SIZE), told | {"known": torch.tensor([True, False])}, seen)
    with pytest.raises(UsageError, match="widths"):
        NetworkConfig(widths=(16, 16, 24, 30))


def test_tables_may_be_left_out_of_the_weights_and_nothing_else(nets):
    state = nets[2].state_dict()
    lean = {key: tensor for key, tensor in state.items() if not key.endswith("pos_encoder.pe")}
    whole = build_network(Denoiser, DEBUG_CONFIG, lean, "debug")
    for key, tensor in whole.state_dict().items():
        if key.endswith("pos_encoder.pe"):
            torch.testing.assert_close(tensor, make_position_table(tensor.shape[2], 32))
        else:
            assert torch.equal(tensor, state[key]), key
    strange = {
        key.replace("conv_out", "conv_last"): tensor for key, tensor in lean.items() if "down_blocks.0" not in key
    }
    with pytest.raises(MissingDependencyError) as problem:
        build_network(Denoiser, DEBUG_CONFIG, strange, "debug")
    assert problem.value.message.count("is missing") == 5 and "more" in problem.value.message


def test_the_sizes_are_inferred_from_the_tensors(nets):
    state = nets[2].state_dict()
    assert infer_config(state, nets[1].state_dict(), DEBUG_CONFIG.heads, DEBUG_CONFIG.groups) == DEBUG_CONFIG
    with pytest.raises(Exception, match="holds? "):
        motion = {key: t for key, t in state.items() if ".motion_modules." in key}
        merge_states(state, motion)


def test_compiling_wraps_every_block_and_leaves_names_and_answers_alone(given):
    x, told, seen = given
    net = make_networks()[2]
    names, plain = list(net.state_dict()), ask(net, x, told, seen)
    # what compilation makes of a block takes minutes; here only the way there counts
    torch.compiler.set_stance("force_eager")
    try:
        net.compile_blocks()
        assert all(block._compiled_call_impl is not None for block in (*net.down_blocks, net.mid_block, *net.up_blocks))
        assert list(net.state_dict()) == names
        torch.testing.assert_close(ask(net, x, told, seen), plain)
    finally:
        torch.compiler.set_stance("default")
