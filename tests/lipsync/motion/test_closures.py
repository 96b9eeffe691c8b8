import numpy as np
import pytest

from mouthpiece.engine.contracts import ARTICULATION_WIDTH, PHONES
from mouthpiece.engine.encoders.motion import BLINK_INDEX, CODE_WIDTH
from mouthpiece.lipsync.motion.closures import (
    BILABIAL_OPENING,
    LABIODENTAL_OPENING,
    LARGEST_GAIN,
    SMALLEST_GAIN,
    TYPICAL_OPENING_DEVIATION,
    compute_closure,
    enforce_closures,
    normalize_opening,
    postprocess_mouth,
)
from mouthpiece.lipsync.options import AnimateOptions

TICKS = 100
LIPS = np.zeros(BLINK_INDEX, np.float32)
LIPS[:4] = [0.0146, 0.0095, -0.0006, -0.0023]  # as in the embedded motion space


def said(*phones, chance=1.0):
    """Articulation (2 TICKS, 43) of AA throughout, with phones as (name, first tick, last tick) at 50 Hz."""
    out = np.zeros((2 * TICKS, ARTICULATION_WIDTH), np.float32)
    out[:, PHONES.index("AA")] = 1
    for name, start, stop in phones:
        out[start:stop, PHONES.index("AA")] = 1 - chance
        out[start:stop, PHONES.index(name)] = chance
    return out


def open_mouth(opening=0.03):
    """Codes (TICKS, 21) of a mouth held open, by units of the crop."""
    return np.tile(LIPS / (LIPS @ LIPS) * opening, (TICKS, 1)) + np.random.default_rng(0).normal(size=BLINK_INDEX) * (
        LIPS == 0
    )


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("P", BILABIAL_OPENING),
        ("B", BILABIAL_OPENING),
        ("M", BILABIAL_OPENING),
        ("F", LABIODENTAL_OPENING),
        ("V", LABIODENTAL_OPENING),
        ("T", 0.03),
        ("OW", 0.03),
    ],
)
def test_lips_meet_on_p_b_m_nearly_on_f_and_v_and_are_let_be_on_others(name, wanted):
    mouth = enforce_closures(open_mouth(), said((name, 100, 104)), LIPS)
    opening = mouth @ LIPS
    assert opening.min() == pytest.approx(wanted, abs=0.002)
    assert opening[[44, 57]] == pytest.approx(0.03, abs=1e-3)


def test_lips_are_shut_for_two_frames_at_least_and_just_before_the_middle_of_the_sound():
    opening = enforce_closures(open_mouth(), said(("M", 100, 104)), LIPS) @ LIPS
    shut = np.flatnonzero(opening < 0.006)
    assert len(shut) >= 2
    weight = 0.03 - opening
    assert 0.04 * (weight * np.arange(TICKS)).sum() / weight.sum() == pytest.approx(2.0 + 0.04 - 0.02, abs=0.012)


def test_lips_come_and_go_smoothly_and_for_f_only_what_opens_them_changes():
    before = open_mouth()
    after = enforce_closures(before, said(("F", 100, 105)), LIPS)
    held = compute_closure(said(("B", 100, 105)), [PHONES.index("B")])
    assert np.abs(np.diff(held)).max() < 0.75 and held.max() > 0.95
    moved = after - before
    along = moved @ LIPS / np.sqrt(LIPS @ LIPS)
    assert np.abs(along).max() > 0.1 and np.abs(moved - along[:, None] * LIPS / np.sqrt(LIPS @ LIPS)).max() < 1e-5


def test_on_p_b_m_the_shape_of_the_mouth_comes_to_rest_as_far_as_lips_are_held():
    before = open_mouth()
    after = enforce_closures(before, said(("B", 100, 105)), LIPS)
    held = compute_closure(said(("B", 100, 105)), [PHONES.index("B")])
    shape = LIPS == 0
    assert np.allclose(after[:, shape], (1 - held)[:, None] * before[:, shape], atol=1e-5)
    assert np.allclose(after[:40], before[:40], atol=1e-5) and np.allclose(after[60:], before[60:], atol=1e-5)


def test_a_doubtful_sound_shuts_half_way_and_closed_lips_are_never_opened():
    half = (enforce_closures(open_mouth(), said(("P", 100, 104), chance=0.12), LIPS) @ LIPS).min()
    assert 0.01 < half < 0.025
    pressed = open_mouth(-0.01)
    assert np.allclose(enforce_closures(pressed, said(("P", 100, 104)), LIPS) @ LIPS, pressed @ LIPS, atol=1e-6)


def test_strength_is_a_share_and_zero_leaves_the_mouth():
    mouth, sound = open_mouth(), said(("P", 100, 104))
    assert enforce_closures(mouth, sound, LIPS, 0.0) is mouth
    full, half = ((enforce_closures(mouth, sound, LIPS, s) @ LIPS).min() for s in (1.0, 0.5))
    assert half == pytest.approx((0.03 + full) / 2, abs=0.001)


def talking(deviation, ticks=400):
    """(codes (T, 21), articulation (2 T, 43)): a mouth whose opening has that deviation while it speaks."""
    opening = np.random.default_rng(1).normal(size=ticks) * deviation + 0.03
    sound = np.zeros((2 * ticks, ARTICULATION_WIDTH), np.float32)
    sound[:, PHONES.index("AH")] = 1
    return opening[:, None] * LIPS / (LIPS @ LIPS), sound


@pytest.mark.parametrize("deviation", [0.012, 0.0155, 0.02])
def test_a_faint_and_an_excessive_mouth_are_normalized_to_the_typical_opening(deviation):
    mouth, sound = talking(deviation)
    assert (normalize_opening(mouth, sound, LIPS) @ LIPS).std() == pytest.approx(TYPICAL_OPENING_DEVIATION, rel=0.06)


def test_the_gain_stays_within_its_limits_and_a_single_word_hardly_moves_it():
    for deviation, limit in ((0.001, LARGEST_GAIN), (0.1, SMALLEST_GAIN)):
        mouth, sound = talking(deviation)
        assert np.allclose(normalize_opening(mouth, sound, LIPS), limit * mouth, rtol=0.02)
    mouth, sound = talking(0.004, 6)
    assert 1 <= (normalize_opening(mouth, sound, LIPS) @ LIPS).std() / (mouth @ LIPS).std() < 1.15


def test_silence_does_not_change_the_gain():
    mouth, sound = talking(0.012)
    shut = np.concatenate([mouth, 0 * mouth])
    silent = 0 * sound
    silent[:, PHONES.index("SIL")] = 1
    assert np.allclose(
        normalize_opening(shut, np.concatenate([sound, silent]), LIPS)[:400],
        normalize_opening(mouth, sound, LIPS),
        atol=1e-6,
    )
    assert normalize_opening(mouth, silent, LIPS) is mouth


def test_the_options_steer_both():
    codes = np.zeros((TICKS, CODE_WIDTH), np.float32)
    codes[:, :BLINK_INDEX] = open_mouth()
    sound = said(("P", 100, 104))
    plain = postprocess_mouth(codes, sound, LIPS, AnimateOptions(closure=0.0, normalize_mouth=0.0))
    assert np.array_equal(plain, codes[:, :BLINK_INDEX])
    assert (
        postprocess_mouth(codes, sound, LIPS, AnimateOptions(closure=1.0, normalize_mouth=0.0)) @ LIPS
    ).min() < 0.001
    assert not np.allclose(
        postprocess_mouth(codes, sound, LIPS, AnimateOptions(closure=0.0, normalize_mouth=1.0)), plain
    )
