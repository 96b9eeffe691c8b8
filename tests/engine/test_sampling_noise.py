import pytest
import torch

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling import draw_item_noise, draw_step_noise, draw_tick_noise


def test_an_item_gets_the_same_noise_in_any_batch_and_order():
    whole = draw_item_noise((5, 3), seed=7, items=[0, 1, "line 12", 3])
    assert torch.equal(draw_item_noise((5, 3), seed=7, items=["line 12"])[0], whole[2])
    assert torch.equal(draw_item_noise((5, 3), seed=7, items=[3, 0]), whole[[3, 0]])


def test_seeds_items_and_uses_do_not_share_noise():
    drawn = [
        draw_item_noise((64,), 0, [0])[0],
        draw_item_noise((64,), 0, [1])[0],
        draw_item_noise((64,), 1, [0])[0],
        draw_item_noise((64,), -1, [0])[0],
        draw_tick_noise(0, 64, (), 0, [0])[0],
        draw_tick_noise(64, 128, (), 0, [0])[0],
        *[noise[0] for noise, _ in zip(draw_step_noise((64,), 0, [0]), range(2), strict=False)],
    ]
    correlations = torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))
    assert correlations.abs().max() < 0.5


def test_windows_see_the_same_noise_at_the_same_ticks():
    whole = draw_tick_noise(0, 200, (4,), seed=3, items=[0, 5])
    assert whole.shape == (2, 200, 4)
    for start, stop in ((0, 64), (10, 70), (63, 65), (64, 128), (130, 200), (199, 200)):
        assert torch.equal(draw_tick_noise(start, stop, (4,), seed=3, items=[0, 5]), whole[:, start:stop])


def test_far_ticks_cost_no_more_than_near_ones_and_exist():
    assert draw_tick_noise(10**9, 10**9 + 3, (2,), 0, [0]).shape == (1, 3, 2)


def test_noise_is_standard_normal_float32_on_the_cpu():
    noise = draw_tick_noise(5, 40005, (), 0, [0])
    assert noise.dtype == torch.float32
    assert noise.device.type == "cpu"
    assert abs(noise.mean().item()) < 0.02
    assert abs(noise.std().item() - 1) < 0.02
    assert abs((noise.pow(4).mean() - 3).item()) < 0.15


def test_step_noise_repeats_from_the_start():
    first = [noise for noise, _ in zip(draw_step_noise((3,), 0, [1, 2]), range(3), strict=False)]
    again = [noise for noise, _ in zip(draw_step_noise((3,), 0, [2]), range(3), strict=False)]
    assert all(torch.equal(a[1], b[0]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: draw_item_noise((3,), 0.5, [0]), "seed 0.5"),
        (lambda: draw_item_noise((3,), 0, []), "no batch"),
        (lambda: draw_item_noise((3,), 0, "line"), "no batch"),
        (lambda: draw_tick_noise(5, 5, (), 0, [0]), "not a span"),
        (lambda: draw_tick_noise(-1, 5, (), 0, [0]), "not a span"),
        (lambda: next(draw_step_noise((3,), 0, [])), "no batch"),
    ],
)
def test_nonsense_is_refused_in_words(make, words):
    with pytest.raises(UsageError, match=words) as refusal:
        make()
    assert refusal.value.hint
