from fractions import Fraction

import numpy as np
import pytest
import torch

from engine.core import CODE_WIDTH, GIVEN, PACKED_WIDTH, AVCore
from engine.encoders.audio import ARTICULATION_WIDTH, PHONES, PhoneticEncoder
from engine.encoders.vision import BLINK, EXPRESSION
from engine.sampling import tick_noise
from lipsync.motion import (
    BLINK_SHAPE,
    BLINK_SHUT,
    CARRY_TICKS,
    WINDOW_TICKS,
    at_times,
    blinks,
    fitted,
    gated,
    hear,
    motion_codes,
    near_voice,
    perform,
    sped,
    wish,
)
from lipsync.options import AnimateOptions


def sound_of(ticks, seed=0):
    return np.random.default_rng(seed).normal(size=(2 * ticks, ARTICULATION_WIDTH)).astype(np.float32)


def grown(module, seed=0):
    """A network whose every weight matters, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data += torch.randn(p.shape, generator=generator) * 0.1
    return module.eval()


@pytest.fixture(scope="module")
def core():
    torch.manual_seed(0)
    return grown(AVCore(width=24, depth=1, heads=2))


@pytest.fixture(scope="module")
def listener():
    torch.manual_seed(0)
    return grown(PhoneticEncoder(16, (1, 1)))


class Spy:
    """A core that moves nothing and remembers what it was told."""

    def __init__(self):
        self.told = []

    def __call__(self, x, time, known):
        self.told.append(known)
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ticks", [2, 75, 76, 190])
def test_there_is_one_code_a_tick_however_the_windows_fall(core, ticks):
    codes = motion_codes(core, sound_of(ticks), AnimateOptions(steps=1))
    assert codes.shape == (ticks, CODE_WIDTH) and np.isfinite(codes).all()


def test_each_window_is_told_the_codes_before_it_and_the_true_sound_throughout():
    spy, sound, options = Spy(), sound_of(190), AnimateOptions(steps=2, guidance=1.0)
    codes = motion_codes(spy, sound, options)
    packed = torch.from_numpy(sound.reshape(190, -1))
    starts = [0, 50, 100, 115]
    for index, start in enumerate(starts):
        known = spy.told[2 * index]
        assert torch.equal(known.values[0, :, CODE_WIDTH:], packed[start : start + WINDOW_TICKS])
        assert (known.articulation == GIVEN).all()
        given = int((known.motion == GIVEN).sum())
        assert given == (0 if index == 0 else starts[index - 1] + WINDOW_TICKS - start) and given in (0, CARRY_TICKS, 60)
        assert np.array_equal(known.values[0, :given, :CODE_WIDTH].numpy(), codes[start : start + given])


def test_noise_belongs_to_the_tick_and_not_to_the_window():
    torch.manual_seed(0)
    unborn = AVCore(width=24, depth=1, heads=2).eval()      # its velocity is zero, so noise comes out as it went in
    noise = tick_noise(0, 120, (PACKED_WIDTH,), 5, ["clip"])[0, :, :CODE_WIDTH].numpy()
    for variety in (1.0, 0.25):                             # scatters the mouth, not lids, brows and head
        codes = motion_codes(unborn, sound_of(120), AnimateOptions(steps=2, seed=5, variety=variety))
        assert np.abs(codes[:, :BLINK] - variety * noise[:, :BLINK]).max() < 1e-5
        assert np.abs(codes[:, BLINK:] - noise[:, BLINK:]).max() < 1e-5


def test_sound_seed_steps_and_guidance_change_the_motion_and_nothing_else_does(core):
    sound, options = sound_of(80), dict(steps=3, guidance=1.5, seed=1)
    first = motion_codes(core, sound, AnimateOptions(**options))
    assert np.array_equal(first, motion_codes(core, sound, AnimateOptions(**options)))
    for change in (dict(seed=2), dict(steps=4), dict(guidance=1.0), dict(guidance=3.0), dict(variety=1.0)):
        assert not np.allclose(first, motion_codes(core, sound, AnimateOptions(**{**options, **change})))
    assert not np.allclose(first, motion_codes(core, sound_of(80, 1), AnimateOptions(**options)))


def test_silence_is_silent_whatever_was_heard_in_it():
    sound = np.ones((4, ARTICULATION_WIDTH), np.float32)
    out = gated(sound, np.array([0, 0.5, 1, 0], np.float32))
    assert out[0, PHONES.index("SIL")] == 1 and out[0, : len(PHONES)].sum() == 1
    assert out[0, -3:].tolist() == [0, 0, -1.5] and np.array_equal(out[2], sound[2])
    assert np.allclose(out[1], (out[0] + out[2]) / 2)


def test_a_silent_recording_is_heard_as_silence_for_as_long_as_asked(listener):
    articulation, active = hear(listener, np.zeros(8000, np.float32), 20)
    assert articulation.shape == (40, ARTICULATION_WIDTH) and not active.any()
    assert (articulation[:, PHONES.index("SIL")] == 1).all() and (articulation[:, -1] == -1.5).all()
    assert hear(listener, np.zeros(8000, np.float32), 20, gate=False)[1].all()


def test_a_track_is_cut_or_its_last_value_held():
    track = np.arange(6).reshape(3, 2)
    assert fitted(track, 2).tolist() == [[0, 1], [2, 3]] and fitted(track, 5)[2:].tolist() == [[4, 5]] * 3


def starts_of(lids):
    return np.nonzero((lids == np.float32(BLINK_SHAPE[0])) & (np.r_[0, lids[:-1]] == 0))[0]


@pytest.mark.parametrize("rate", [6, 14, 40])
def test_blinks_come_as_often_as_asked_and_never_crowd(rate):
    minutes = 240
    active = (np.arange(minutes * 1500) // 100 % 4 > 0).astype(np.float32)
    at = starts_of(blinks(len(active), rate, active, 3))
    assert len(at) / minutes == pytest.approx(rate, rel=0.06)
    assert np.diff(at).min() >= 15
    paused = (active[at] < 0.5).sum() / (active < 0.5).sum()
    talking = (active[at] > 0.5).sum() / (active > 0.5).sum()
    assert paused > 1.4 * talking


def test_blinks_depend_on_the_seed_alone_and_a_rate_of_zero_has_none():
    active = np.ones(5000, np.float32)
    assert np.array_equal(blinks(5000, 14, active, 1), blinks(5000, 14, active, 1))
    assert not np.array_equal(blinks(5000, 14, active, 1), blinks(5000, 14, active, 2))
    assert not blinks(5000, 0, active, 1).any()


def test_eyes_shut_wholly_in_a_blink_and_open_again():
    lids = blinks(3000, 20, np.ones(3000), 0)
    at = starts_of(lids)[0]
    assert np.allclose(lids[at : at + 7], BLINK_SHAPE) and lids.max() == 1 and lids[at + 7] == 0


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.7, 3.0])
def test_a_track_at_another_speed_turns_back_at_its_ends(speed):
    track = np.stack([np.arange(11.0), 5 - np.arange(11.0)], 1)
    out = sped(track, speed)
    wanted = 10 - np.abs(np.arange(11) * speed % 20 - 10)
    assert np.allclose(out, np.stack([wanted, 5 - wanted], 1))


def test_a_track_of_one_tick_has_no_speed():
    assert sped(np.ones((1, 6)), 2.0).tolist() == np.ones((1, 6)).tolist()


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(24000, 1001)])
def test_codes_are_read_at_the_instants_of_the_frames(rate):
    track = np.stack([np.arange(50.0), 3 - 2 * np.arange(50.0)], 1)
    times = np.array([float(i / rate) for i in range(int(2.2 * rate))])
    out = at_times(track, times)
    ticks = np.minimum(times * 25, 49)
    assert np.abs(out - np.stack([ticks, 3 - 2 * ticks], 1)).max() < 1e-5


def test_a_face_at_no_expression_stays_its_own_and_at_full_does_what_was_played():
    rng = np.random.default_rng(0)
    codes, own = rng.normal(size=(4, CODE_WIDTH)), rng.normal(size=EXPRESSION)
    codes[:, BLINK] = 0
    assert np.allclose(wish(codes, own, 0.0), own)
    full, half, double = (wish(codes, own, e) for e in (1.0, 0.5, 2.0))
    assert np.allclose(full[:, :BLINK], codes[:, :BLINK])
    assert np.allclose(full[:, BLINK + 1 :], own[BLINK + 1 :] + codes[:, BLINK + 1 : EXPRESSION])
    assert np.allclose(half, (full + own) / 2) and np.allclose(double[:, :BLINK], 2 * codes[:, :BLINK])


def test_a_blink_shuts_eyes_that_were_half_shut_no_further_than_shut():
    codes, own = np.zeros((3, CODE_WIDTH)), np.full(EXPRESSION, 0.8)
    codes[:, BLINK] = [0, BLINK_SHUT / 2, BLINK_SHUT]
    assert np.allclose(wish(codes, own)[:, BLINK], [0.8, 1.4, 2.0])


def test_head_blinks_and_speed_obey_their_options(core, listener):
    wave = np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.1

    def play(**changes):
        return perform((listener, core), wave, 26, AnimateOptions(steps=1, **changes))

    usual = play(blink_rate=60.0)
    assert usual.codes.shape == (26, CODE_WIDTH) and usual.codes.dtype == np.float32 and usual.active.shape == (26,)
    assert not play(blink_rate=0.0).codes[:, BLINK].any()
    assert not play(pose_strength=0.0).codes[:, EXPRESSION:].any()
    assert np.allclose(play(pose_strength=2.0).codes[:, EXPRESSION:], 2 * usual.codes[:, EXPRESSION:], atol=1e-5)
    slow = play(head_speed=0.5).codes[:, EXPRESSION:]
    assert np.allclose(slow[::2], usual.codes[:13, EXPRESSION:], atol=1e-5)
    assert np.array_equal(play(head_speed=0.5).codes[:, :BLINK], usual.codes[:, :BLINK])


def test_the_mouth_rests_in_silence_and_is_free_where_somebody_speaks():
    active = np.zeros(100, np.float32)
    active[40:60] = 1
    free = near_voice(active)
    assert (free[:30] == 0).all() and (free[70:] == 0).all()
    assert free[38:62].min() > 0.9
    assert (np.diff(free[25:45]) >= 0).all() and np.abs(np.diff(free)).max() < 0.35
