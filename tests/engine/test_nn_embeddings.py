import math

import pytest
import torch

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.nn import LevelEmbedding, apply_rotary, embed_sinusoidal, make_rotary


def turned(vector, time_s):
    return apply_rotary(vector.expand(1, 1, 1, -1), make_rotary(torch.tensor([time_s], dtype=torch.float64), 16))


def test_rotary_products_depend_on_time_differences_alone():
    query, key = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    early = (turned(query, 0.30) * turned(key, 0.10)).sum()
    late = (turned(query, 3600.30) * turned(key, 3600.10)).sum()
    other = (turned(query, 0.30) * turned(key, 0.14)).sum()
    assert torch.allclose(early, late, atol=1e-4)
    assert abs(early - other) > 1e-2


def test_rotary_agrees_with_complex_multiplication():
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(1))
    times_s = torch.arange(5) / 25
    pairs = torch.complex(x[..., :4], x[..., 4:])
    rad_per_s = torch.tensor([50.0 * 10000.0 ** (-k / 4) for k in range(4)])
    slow = pairs * torch.exp(1j * times_s[:, None] * rad_per_s)
    fast = apply_rotary(x, make_rotary(times_s, 8))
    assert torch.allclose(fast, torch.cat([slow.real, slow.imag], dim=-1), atol=1e-5)


def test_streams_at_25_and_50_hz_share_one_clock():
    motion = make_rotary(torch.arange(10) / 25, 8)
    articulation = make_rotary(torch.arange(20) / 50, 8)
    assert torch.equal(motion.cos, articulation.cos[::2])
    assert torch.equal(motion.sin, articulation.sin[::2])


def test_rotary_accepts_times_per_item_and_keeps_lengths_and_dtype():
    x = torch.randn(2, 3, 4, 8).bfloat16()
    times_s = torch.tensor([[0.0, 0.1, 0.2, 0.3], [5.0, 5.1, 5.2, 5.3]])
    y = apply_rotary(x, make_rotary(times_s, 8))
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.float().norm(dim=-1), x.float().norm(dim=-1), rtol=0.02)
    assert torch.equal(y[0, :, 0], x[0, :, 0])


def test_sinusoids_stay_float32_and_tell_near_levels_apart_from_half_precision_input():
    levels = torch.tensor([0.0, 0.5, 0.998, 0.999])
    vectors = embed_sinusoidal(levels, 32)
    assert vectors.dtype == torch.float32
    assert embed_sinusoidal(levels.double(), 32).dtype == torch.float32
    assert embed_sinusoidal(levels.half(), 32).dtype == torch.float32
    assert torch.allclose(vectors[0], torch.tensor([1.0] * 16 + [0.0] * 16))
    assert math.isclose(vectors[1, 0].item(), math.cos(500.0), abs_tol=1e-4)
    assert (vectors[2] - vectors[3]).abs().max() > 0.1


def test_level_embedding_takes_levels_of_any_shape():
    embed = LevelEmbedding(12, sinusoids=8)
    assert embed(torch.rand(2)).shape == (2, 12)
    assert embed(torch.rand(2, 5)).shape == (2, 5, 12)
    assert embed.bfloat16()(torch.rand(2)).dtype == torch.bfloat16


@pytest.mark.parametrize("make", [lambda: make_rotary(torch.zeros(1), 7), lambda: embed_sinusoidal(torch.zeros(1), 5)])
def test_odd_widths_are_refused_in_words(make):
    with pytest.raises(UsageError, match="width"):
        make()


def test_rotary_base_of_one_is_refused_in_words():
    with pytest.raises(UsageError, match="must exceed 1"):
        make_rotary(torch.zeros(1), 8, base=1.0)
