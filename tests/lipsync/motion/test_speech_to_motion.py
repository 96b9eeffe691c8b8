import numpy as np
import pytest
import torch
from debug_weights import make_motion_space

from mouthpiece.engine.contracts import ARTICULATION_WIDTH, Articulation
from mouthpiece.engine.core import CODE_WIDTH, GENERATED, GIVEN, PACKED_WIDTH, AVCore
from mouthpiece.engine.encoders.motion import BLINK_INDEX, EXPRESSION_WIDTH, MotionSpace
from mouthpiece.engine.encoders.phonetic import PHONES, PhoneticEncoder
from mouthpiece.engine.sampling import Window, draw_tick_noise, overlap_add
from mouthpiece.lipsync.motion.blinks import BLINK_SHUT
from mouthpiece.lipsync.motion.speech_to_motion import (
    HELD_TICKS,
    WINDOW_TICKS,
    SpeechMotionModels,
    compute_mouth_gate,
    damp_in_pauses,
    dilate,
    extend_with_silence,
    gate_articulation,
    generate_motion,
    high_pass,
    pad_or_trim,
    recognize_articulation,
    retime,
    sample_motion_codes,
    target_expression,
)
from mouthpiece.lipsync.options import AnimateOptions


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


@pytest.fixture(scope="module")
def space():
    return MotionSpace(**make_motion_space(0))


class Spy:
    """A core that moves nothing and remembers what it was told."""

    def __init__(self):
        self.told = []

    def __call__(self, x, time, known):
        self.told.append(known)
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ticks", [2, 75, 76, 190])
def test_there_is_one_code_a_tick_however_the_windows_fall(core, ticks):
    codes = sample_motion_codes(core, sound_of(ticks), AnimateOptions(steps=1))
    assert codes.shape == (ticks, CODE_WIDTH) and np.isfinite(codes).all()


def test_each_window_is_conditioned_on_its_own_sound_alone_and_blends_into_the_next():
    spy, sound, options = Spy(), sound_of(190), AnimateOptions(steps=2, guidance=1.0)
    codes = sample_motion_codes(spy, sound, options)
    packed = torch.from_numpy(sound.reshape(190, -1))
    starts = [0, 50, 100, 115]
    for index, start in enumerate(starts):
        known = spy.told[2 * index]
        assert torch.equal(known.values[0, :, CODE_WIDTH:], packed[start : start + WINDOW_TICKS])
        assert (known.articulation == GIVEN).all() and (known.motion == GENERATED).all()
    alone = [
        sample_motion_codes(Spy(), sound[: 2 * WINDOW_TICKS], options) - noise_of(0, options) + noise_of(start, options)
        for start in starts
    ]
    windows = [Window(start, start + WINDOW_TICKS) for start in starts]
    assert np.abs(codes - overlap_add([torch.from_numpy(a)[None] for a in alone], windows)[0].numpy()).max() < 1e-4


def noise_of(start, options):
    """Noise of the codes in a window, as the sampler starts from it."""
    noise = draw_tick_noise(start, start + WINDOW_TICKS, (PACKED_WIDTH,), options.seed, ["clip"])[
        0, :, :CODE_WIDTH
    ].numpy()
    noise[:, :BLINK_INDEX] *= options.temperature
    return noise


def test_a_long_take_is_at_its_end_what_it_was_at_its_start(core):
    sound = np.tile(sound_of(75), (20, 1))
    codes = sample_motion_codes(core, sound, AnimateOptions(steps=2, temperature=0.0, guidance=2.0))
    first, last = (codes[t : t + 300, :BLINK_INDEX].mean(0) for t in (75, 1125))
    assert np.abs(last - first).max() < 0.25 * codes[:, :BLINK_INDEX].std()


def test_noise_belongs_to_the_tick_and_not_to_the_window():
    torch.manual_seed(0)
    unborn = AVCore(width=24, depth=1, heads=2).eval()  # its velocity is zero, so noise comes out as it went in
    noise = draw_tick_noise(0, 120, (PACKED_WIDTH,), 5, ["clip"])[0, :, :CODE_WIDTH].numpy()
    for temperature in (1.0, 0.25):  # scatters the mouth, not lids, brows and head
        codes = sample_motion_codes(unborn, sound_of(120), AnimateOptions(steps=2, seed=5, temperature=temperature))
        assert np.abs(codes[:, :BLINK_INDEX] - temperature * noise[:, :BLINK_INDEX]).max() < 1e-5
        assert np.abs(codes[:, BLINK_INDEX:] - noise[:, BLINK_INDEX:]).max() < 1e-5


def test_sound_seed_steps_and_guidance_change_the_motion_and_nothing_else_does(core):
    sound, options = sound_of(80), dict(steps=3, guidance=1.5, seed=1)
    first = sample_motion_codes(core, sound, AnimateOptions(**options))
    assert np.array_equal(first, sample_motion_codes(core, sound, AnimateOptions(**options)))
    for change in (dict(seed=2), dict(steps=4), dict(guidance=1.0), dict(guidance=3.0), dict(temperature=1.0)):
        assert not np.allclose(first, sample_motion_codes(core, sound, AnimateOptions(**{**options, **change})))
    assert not np.allclose(first, sample_motion_codes(core, sound_of(80, 1), AnimateOptions(**options)))


def test_gating_replaces_whatever_was_recognised_in_silence():
    sound = np.ones((4, ARTICULATION_WIDTH), np.float32)
    out = gate_articulation(sound, np.array([0, 0.5, 1, 0], np.float32))
    assert out[0, PHONES.index("SIL")] == 1 and out[0, : len(PHONES)].sum() == 1
    assert out[0, -3:].tolist() == [0, 0, -1.5] and np.array_equal(out[2], sound[2])
    assert np.allclose(out[1], (out[0] + out[2]) / 2)


def test_a_silent_recording_is_recognised_as_silence_of_the_wanted_length(listener):
    articulation, active = recognize_articulation(listener, np.zeros(8000, np.float32), 20)
    assert articulation.shape == (40, ARTICULATION_WIDTH) and not active.any()
    assert (articulation[:, PHONES.index("SIL")] == 1).all() and (articulation[:, -1] == -1.5).all()
    assert recognize_articulation(listener, np.zeros(8000, np.float32), 20, gate=False)[1].all()


def test_a_track_is_trimmed_or_padded_with_its_last_value():
    track = np.arange(6).reshape(3, 2)
    assert pad_or_trim(track, 2).tolist() == [[0, 1], [2, 3]] and pad_or_trim(track, 5)[2:].tolist() == [[4, 5]] * 3


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.7, 3.0])
def test_retiming_reflects_at_the_ends(speed):
    track = np.stack([np.arange(11.0), 5 - np.arange(11.0)], 1)
    out = retime(track, speed)
    wanted = 10 - np.abs(np.arange(11) * speed % 20 - 10)
    assert np.allclose(out, np.stack([wanted, 5 - wanted], 1))


def test_a_track_of_one_tick_has_no_speed():
    assert retime(np.ones((1, 6)), 2.0).tolist() == np.ones((1, 6)).tolist()


def test_a_face_at_no_expression_stays_its_own_and_at_full_does_what_was_played():
    rng = np.random.default_rng(0)
    codes, own = rng.normal(size=(4, CODE_WIDTH)), rng.normal(size=EXPRESSION_WIDTH)
    codes[:, BLINK_INDEX] = 0
    assert np.allclose(target_expression(codes, own, 0.0), own)
    full, half, double = (target_expression(codes, own, e) for e in (1.0, 0.5, 2.0))
    assert np.allclose(full[:, :BLINK_INDEX], codes[:, :BLINK_INDEX])
    assert np.allclose(
        full[:, BLINK_INDEX + 1 :], own[BLINK_INDEX + 1 :] + codes[:, BLINK_INDEX + 1 : EXPRESSION_WIDTH]
    )
    assert np.allclose(half, (full + own) / 2) and np.allclose(double[:, :BLINK_INDEX], 2 * codes[:, :BLINK_INDEX])


def test_lids_stay_the_portraits_own_for_the_canvas_lowers_them():
    codes, own = np.zeros((3, CODE_WIDTH)), np.full(EXPRESSION_WIDTH, 0.8)
    codes[:, BLINK_INDEX] = [0, BLINK_SHUT / 2, BLINK_SHUT]
    assert (target_expression(codes, own)[:, BLINK_INDEX] == 0.8).all()


def test_head_blinks_and_speed_obey_their_options(core, listener, space):
    wave = np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.1

    def play(**changes):
        return generate_motion(SpeechMotionModels(listener, core, space), wave, 26, AnimateOptions(steps=1, **changes))

    usual = play(blink_rate=60.0)
    assert usual.codes.shape == (26, CODE_WIDTH) and usual.codes.dtype == np.float32 and usual.active.shape == (26,)
    assert not play(blink_rate=0.0).codes[:, BLINK_INDEX].any()
    assert not play(pose_strength=0.0).codes[:, EXPRESSION_WIDTH:].any()
    assert np.allclose(
        play(pose_strength=2.0).codes[:, EXPRESSION_WIDTH:], 2 * usual.codes[:, EXPRESSION_WIDTH:], atol=1e-5
    )
    plain = dict(stabilize_head=False, accents=0.0)
    slow, fast = play(head_speed=0.5, **plain).codes, play(**plain).codes
    assert np.allclose(slow[::2, EXPRESSION_WIDTH:], fast[:13, EXPRESSION_WIDTH:], atol=1e-5)
    assert np.array_equal(slow[:, :BLINK_INDEX], fast[:, :BLINK_INDEX])


def test_closure_normalization_accents_and_stabilization_can_be_switched_off_one_by_one(core, listener, space):
    wave = np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.1
    plain = dict(
        steps=1,
        gate=False,
        closure=0.0,
        normalize_mouth=0.0,
        accents=0.0,
        stabilize_head=False,
        blink_rate=0.0,
        temperature=1.0,
    )

    def play(**changes):
        return generate_motion(
            SpeechMotionModels(listener, core, space), wave, 26, AnimateOptions(**{**plain, **changes})
        ).codes

    usual = play()
    mouth, brows, head = slice(0, BLINK_INDEX), slice(BLINK_INDEX + 1, EXPRESSION_WIDTH), slice(EXPRESSION_WIDTH, None)
    reach = {"closure": (mouth,), "normalize_mouth": (mouth,), "accents": (head,), "stabilize_head": (head,)}
    for name, parts in reach.items():
        changed = play(**{name: True if name == "stabilize_head" else 1.0})
        for part in (mouth, brows, head):
            same = np.array_equal(changed[:, part], usual[:, part])
            assert same == (part not in parts) or (name == "accents" and part == brows), (name, part)


def test_a_head_keeps_its_place_and_its_quick_turns():
    t = np.arange(2000)
    drift, turn = 3 * np.sin(t / 600), np.sin(t / 8)
    out = high_pass(np.stack([drift + turn] * 6, 1))
    assert np.abs(out[200:-200, 0] - turn[200:-200]).max() < 0.25
    assert np.abs(out[:1750].reshape(7, 250, 6).mean(1)).max() < 0.3


def test_head_and_brows_come_to_rest_in_a_pause_and_are_free_in_speech():
    track = np.random.default_rng(0).normal(size=(300, 6))
    active = np.r_[np.ones(150), np.zeros(150)]
    out = damp_in_pauses(track, active)
    assert np.allclose(out[:120], track[:120], atol=1e-3)
    assert out[190:].std() < 0.3 * track[190:].std()


def test_the_mouth_rests_in_silence_and_is_free_where_somebody_speaks():
    active = np.zeros(100, np.float32)
    active[40:60] = 1
    free = compute_mouth_gate(active)
    assert (free[:32] == 0).all() and (free[67:] == 0).all()
    assert free[36:63].min() > 0.95
    assert (np.diff(free[25:45]) >= 0).all() and np.abs(np.diff(free)).max() < 0.7


def test_dilation_holds_before_and_after_and_does_not_wrap():
    track = np.zeros(12)
    track[[4, 11]] = 0.5, 1.0
    assert dilate(track, 2, 1).tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 1, 1, 1]
    assert np.array_equal(dilate(track, 0, 0), track)
    assert dilate(np.array([1.0, 0, 0]), 5, 1).tolist() == [1, 1, 0] and dilate(np.zeros(0), 2, 1).shape == (0,)


def test_a_consonant_at_the_edge_of_a_voice_is_kept_and_sound_far_from_it_is_not(listener, monkeypatch):
    active = np.zeros(60, np.float32)
    active[30:40] = 1
    monkeypatch.setattr("mouthpiece.lipsync.motion.speech_to_motion.detect_speech_activity", lambda wave: active)
    wave = np.random.default_rng(0).normal(size=19200).astype(np.float32) * 0.1
    articulation, told = recognize_articulation(listener, wave, 30)
    free, _ = recognize_articulation(listener, wave, 30, gate=False)
    assert np.array_equal(told, active)
    assert np.array_equal(articulation[20:45], free[20:45]) and not np.allclose(free[20:45, -1], -1.5)
    assert (articulation[:20, -1] == -1.5).all() and (articulation[45:, -1] == -1.5).all()


def test_after_a_sound_that_ends_in_voice_nobody_speaks():
    articulation = np.zeros((50, 43), np.float32)
    articulation[:, 5], articulation[:, -1] = 1, 2  # a vowel, loud, to the last tick
    longer, active = extend_with_silence(articulation, np.ones(50, np.float32), 50)
    assert longer.shape == (100, 43) and (longer[:50] == articulation).all()
    assert (longer[50 + HELD_TICKS :] == Articulation.silence(50 - HELD_TICKS).values).all()
    assert (active[: 50 + HELD_TICKS] == 1).all() and (active[50 + HELD_TICKS :] == 0).all()


def test_a_sound_that_lacks_less_than_a_motion_tick_is_held_and_a_longer_one_trimmed():
    articulation, active = np.random.default_rng(0).random((49, 43)).astype(np.float32), np.ones(49, np.float32)
    held, voiced = extend_with_silence(articulation, active, 25)
    assert (held[-1] == articulation[-1]).all() and voiced[-1] == 1
    trimmed, voiced = extend_with_silence(articulation, active, 20)
    assert (trimmed == articulation[:40]).all() and len(voiced) == 40
