"""The generator of soundtracks at debug size: takes, windows, the speech filter, and every option."""

import gc
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from mmaudio_debug import PICTURES, generate_sound, make_frames, make_options

from mouthpiece.engine.sampling import make_flow_levels
from mouthpiece.engine.types import Frame
from mouthpiece.voice.mmaudio import generator as generator_module
from mouthpiece.voice.mmaudio.flow_sampling import sample_latents
from mouthpiece.voice.mmaudio.generator import SoundtrackGenerator


def test_a_take_sounds_the_same_alone_as_among_others(models):
    together, _ = generate_sound(models, make_options(takes=5, speech_guard="off"))
    alone, _ = generate_sound(models, make_options(takes=1, first_take=5, speech_guard="off"))
    assert together.shape == (5, 25_600)
    np.testing.assert_allclose(alone[0], together[4], atol=1e-3)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_takes_drawn_together_are_those_drawn_one_by_one(models):
    network, noise = models.network, torch.randn(3, 40, 20, generator=torch.Generator().manual_seed(0))
    features = [
        torch.randn(1, n, width, generator=torch.Generator().manual_seed(n))
        for n, width in ((10, 16), (24, 48), (77, 24))
    ]
    conditions, null = (
        network.compute_conditions(*features, 40),
        network.compute_conditions(*network.empty(1, 10, 24), 40),
    )
    together = sample_latents(network, noise, conditions, null, levels=make_flow_levels(3))
    for row in range(3):
        alone = sample_latents(network, noise[row : row + 1], conditions, null, levels=make_flow_levels(3))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-4)


def test_takes_and_steps_share_one_look_at_the_video(models, monkeypatch):
    calls = {"clip": 0, "sync": 0, "conditions": 0}

    def counted(key, function):
        def call(*given):
            calls[key] += 1
            return function(*given)

        return call

    monkeypatch.setattr(models.clip, "encode_images", counted("clip", models.clip.encode_images))
    monkeypatch.setattr(models.sync, "window", counted("sync", models.sync.window))
    monkeypatch.setattr(models.network, "compute_conditions", counted("conditions", models.network.compute_conditions))
    generate_sound(models, make_options(takes=3, steps=5))
    assert calls == {"clip": 1, "sync": 1, "conditions": 2}


def test_a_window_goes_on_from_the_latents_of_the_one_before(models, monkeypatch):
    kept = []

    class Noted(SoundtrackGenerator):
        def _generate_window(self, span, seen):
            before = self._last
            piece = super()._generate_window(span, seen)
            kept.append((before, self._last))
            return piece

    generator = Noted(models, make_options(takes=2, speech_guard="off"), Fraction(20), ())
    wave = np.concatenate(list(generator.blocks(iter(make_frames(500)))), 1)
    assert wave.shape == (2, 320_000) and np.isfinite(wave).all() and len(generator.windows) == 3
    for (before, old), (span, new) in ((b, n) for b, n in kept if b is not None):
        assert span.kept > 0
        torch.testing.assert_close(new[:, : span.kept], old[:, span.start - before.start :], rtol=0, atol=1e-5)


def test_a_shot_change_starts_afresh_and_no_more_is_held_for_a_longer_video(models):
    generator = SoundtrackGenerator(models, make_options(), Fraction(12), (Fraction(5),))
    assert [span.kept for span in generator.windows] == [0, 0]
    edge = round(5 * 31.25)
    assert generator.windows[1].start == edge and generator.windows[0].stop == edge + 2
    generator = SoundtrackGenerator(
        models, make_options(steps=1, guidance=0.5, speech_guard="off", overlap=4.0), Fraction(24), ()
    )
    numbered = (Frame(n, Fraction(n, 25), PICTURES[n % 40]) for n in range(600))
    held = [tensor_bytes() for _ in generator.blocks(numbered)]
    assert len(held) == 5 and max(held[3:]) < 1.1 * max(held[:3])


def tensor_bytes():
    """Bytes of all tensors alive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(thing.nbytes for thing in gc.get_objects() if isinstance(thing, torch.Tensor))


@pytest.mark.parametrize("speech_guard", ["resample", "attenuate", "off"])
def test_the_guard_draws_anew_then_turns_down_and_says_so(models, monkeypatch, speech_guard):
    heard = iter([[(0.2, 1.0)], [(0.3, 0.7)], [(0.1, 1.2)]])
    monkeypatch.setattr(generator_module, "detect_speech", lambda wave, rate_hz: next(heard))
    wave, generator = generate_sound(models, make_options(speech_guard=speech_guard))
    monkeypatch.undo()
    plain, _ = generate_sound(models, make_options(speech_guard="off"))
    (report,) = generator.filter_reports
    if speech_guard == "off":
        assert (report.resampled_windows, report.attenuated_s) == (0, []) and np.array_equal(wave, plain)
    elif speech_guard == "attenuate":
        assert (report.resampled_windows, report.attenuated_s) == (0, [[0.2, 1.0]])
        assert np.abs(wave[0, 6_400:12_000]).max() < 0.1 * np.abs(plain[0, 6_400:12_000]).max()
        np.testing.assert_array_equal(wave[0, 20_000:], plain[0, 20_000:])
    else:
        assert (report.resampled_windows, report.attenuated_s) == (2, [[0.3, 0.7]])  # the second drawing had the least


CHANGES = {
    "seed": 1,
    "prompt": "a dog",
    "negative_prompt": "music",
    "first_take": 2,
    "steps": 3,
    "guidance": 1.5,
    "focus": "5,5",
}


@pytest.fixture(scope="module")
def unchanged(models):
    return generate_sound(models, make_options(speech_guard="off"), given=make_frames(40, width=192))[0]


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_changes_the_sound(models, unchanged, name):
    changed, _ = generate_sound(
        models, make_options(speech_guard="off", **{name: CHANGES[name]}), given=make_frames(40, width=192)
    )
    assert changed.shape == unchanged.shape and np.abs(changed - unchanged).max() > 1e-4


def test_overlap_moves_the_windows(models):
    starts = [
        [span.start for span in SoundtrackGenerator(models, make_options(overlap=overlap), Fraction(20), ()).windows]
        for overlap in (1.0, 3.0)
    ]
    assert starts == [[0, 219, 375], [0, 156, 312, 375]]


def test_strength_below_one_never_asks_the_null_side(models):
    rows = []
    hook = models.network.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
    for guidance in (4.5, 1.0, 0.0):
        rows.clear()
        generate_sound(models, make_options(guidance=guidance, takes=2, speech_guard="off"))
        assert set(rows) == ({4} if guidance == 4.5 else {2})
    hook.remove()
