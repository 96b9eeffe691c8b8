"""The published schedule and closed loop, and windows that stream: lists and numbers of the original, counts,
memory.
"""

from types import SimpleNamespace

import pytest
import torch
from debug_echomimic import make_networks

from mouthpiece.lipsync.echomimic.config import DEBUG_CONFIG
from mouthpiece.lipsync.echomimic.sampling import (
    ClosedLoopDenoiser,
    PortraitDenoiser,
    compute_betas,
    denoise_latents,
    denoise_whole_clip,
    draw_published_noise,
    find_published_level,
    make_circular_windows,
    make_levels,
    stream_latents,
)

SIZE = (2, 3)
FACE = torch.zeros(1, 16, *SIZE)


def options(**changes):
    return SimpleNamespace(**dict(seed=3, steps=2, guidance=1.0, window=12, overlap=3, carry="noised") | changes)


def tell(start, stop):
    return {"audio": torch.zeros(1, stop - start, 1, 1) + torch.arange(start, stop).view(1, -1, 1, 1)}


class Spy:
    """A network that answers with something of its input and notes what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, x, time, told):
        self.asked.append((x, time, told))
        return 0.3 * x + told["audio"].mean((2, 3))[:, None, :, None, None] * 0.01


def test_the_table_is_the_published_one_with_its_rounding():
    bars = torch.cumprod(1 - compute_betas(), 0)
    wanted = {0: 0.9991499781608582, 29: 0.9688920974731445, 499: 0.14252948760986328, 999: 0.0}
    for step, bar in wanted.items():
        assert bars[step].item() == pytest.approx(bar, abs=1e-12), step


def test_steps_begin_and_land_where_the_published_ones_do():
    assert [level.time for level in make_levels(6)] == [999, 832, 666, 499, 332, 166, None]
    assert [int(find_published_level(t, 6).time or -1) for t in (999, 832, 666)] == [833, 666, 500]
    assert (
        find_published_level(166, 6).time == 0
        and find_published_level(32, 30).sigma == find_published_level(249, 4).sigma == 0
    )
    assert find_published_level(999, 4).alpha ** 2 == pytest.approx(float(torch.cumprod(1 - compute_betas(), 0)[749]))


@pytest.mark.parametrize(("frames", "starts"), [(9, [0]), (12, [0]), (13, [0, 9]), (21, [0, 9, 18]), (27, [0, 9, 18])])
def test_windows_of_the_closed_loop_start_where_the_published_ones_do(frames, starts):
    windows = make_circular_windows(frames)
    assert [w[0] for w in windows] == starts and all(len(w) == min(12, frames) for w in windows)
    assert make_circular_windows(27)[-1] == [18, 19, 20, 21, 22, 23, 24, 25, 26, 0, 1, 2]
    assert [w[0] for w in make_circular_windows(75, overlap=0)] == [0, 12, 24, 36, 48, 60, 72]


def test_the_closed_loop_averages_by_visits_and_moves_its_windows_each_step():
    class Counting:
        def __init__(self):
            self.windows = []

        def __call__(self, x, time, told):
            self.windows.append(told["audio"].flatten().long().tolist())
            return torch.full_like(x, float(len(self.windows)))

    network = Counting()
    loop = ClosedLoopDenoiser(network, steps=4)
    told = tell(0, 13)
    v = loop(torch.zeros(1, 4, 13, *SIZE), torch.tensor([999.0]), told)
    assert network.windows == [list(range(12)), [9, 10, 11, 12, 0, 1, 2, 3, 4, 5, 6, 7]]
    assert v[0, 0, :, 0, 0].tolist() == [1.5] * 8 + [1.0] + [1.5] * 3 + [2.0]
    loop(torch.zeros(1, 4, 13, *SIZE), torch.tensor([499.0]), told)
    assert network.windows[2] == [(k + 4) % 13 for k in range(12)]


def test_the_null_side_runs_only_where_guidance_is_not_one():
    for guidance, items in ((1.0, {1}), (2.5, {2}), (0.0, {1})):
        spy = Spy()
        denoise_latents(spy, torch.zeros(1, 4, 5, *SIZE), tell(0, 5) | {"face": FACE}, 3, guidance)
        assert {len(x) for x, _, _ in spy.asked} == items and len(spy.asked) == 3
    spy = Spy()
    denoise_latents(spy, torch.zeros(1, 4, 5, *SIZE), tell(1, 6) | {"face": FACE + 1}, 1, 2.5)
    told = spy.asked[0][2]
    assert told["known"].tolist() == [False, True]
    assert told["audio"][0].abs().max() == 0 == told["face"][0].abs().max() and told["face"][1].min() == 1


@pytest.mark.parametrize("frames", [1, 5, 12, 13, 30, 31])
def test_streamed_frames_come_in_order_whole_and_once(frames):
    pieces = list(stream_latents(Spy(), tell, FACE, frames, options()))
    assert sum(piece.shape[1] for piece in pieces) == frames
    assert all(piece.shape[0] == 1 and piece.shape[2:] == (4, *SIZE) for piece in pieces)


def test_a_window_keeps_the_frames_that_the_one_before_gave_it():
    answers = []

    class Noting(Spy):
        def __call__(self, x, time, told):
            answers.append((told["audio"][0, :, 0, 0].tolist(), x[0].transpose(0, 1)))
            return super().__call__(x, time, told)

    out = torch.cat(list(stream_latents(Noting(), tell, FACE, 21, options(carry="clean"))), 1)[0]
    second = [x for frames, x in answers if frames[0] == 9]
    assert len(second) == 2
    for x in second:
        torch.testing.assert_close(x[:3], out[9:12])


def test_clean_frames_are_shown_at_time_zero_and_noised_ones_at_the_level_of_the_rest():
    for carry in ("clean", "noised"):
        spy = Spy()
        list(stream_latents(spy, tell, FACE, 21, options(carry=carry, steps=2)))
        times = [time for _, time, told in spy.asked if told["audio"][0, 0, 0, 0] == 9]
        if carry == "clean":
            assert [t[0, :4].tolist() for t in times] == [[0, 0, 0, 999], [0, 0, 0, 499]]
        else:
            assert [t.tolist() for t in times] == [[999], [499]]


def test_a_real_network_continues_the_window_before_and_a_seed_repeats():
    reference, locator, denoiser = make_networks()
    size = (8, 8)
    with torch.no_grad():
        seen, face = reference(torch.randn(1, 4, *size)), locator(torch.ones(1, 1, 64, 64))
    speaking = PortraitDenoiser(denoiser, seen)

    def hear(start, stop):
        rows = [
            torch.randn(50, DEBUG_CONFIG.audio_width, generator=torch.Generator().manual_seed(i))
            for i in range(start, stop)
        ]
        return {"audio": torch.stack(rows)[None]}

    def run(**changes):
        with torch.no_grad():
            return torch.cat(list(stream_latents(speaking, hear, face, 9, options(window=5, overlap=2, **changes))), 1)

    first = run()
    assert torch.equal(first, run()) and not torch.allclose(first, run(seed=4))
    assert not torch.allclose(first, run(carry="clean")) and torch.equal(first[:, :5], run(carry="clean")[:, :5])


def test_memory_holds_two_windows_however_long_the_clip():
    heard = []

    def hear(start, stop):
        heard.append(stop)
        return tell(start, stop)

    stream = stream_latents(Spy(), hear, FACE, 3000, options(steps=1))
    given = 0
    for piece in stream:
        given += piece.shape[1]
        assert heard[-1] - given <= 12  # nothing was drawn ahead of what came out
    assert given == 3000


def test_the_closed_loop_of_a_clip_uses_the_published_noise():
    spy = Spy()
    denoise_whole_clip(spy, tell, FACE, 14, options())
    noise = draw_published_noise(14, SIZE, 3)
    torch.testing.assert_close(spy.asked[0][0], noise.clamp(-1.5, 1.5)[:, :, :12])
    assert noise.abs().max() > 1.5
