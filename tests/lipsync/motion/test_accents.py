import numpy as np
import pytest

from mouthpiece.engine.contracts import ARTICULATION_WIDTH, ENERGY_COLUMN, F0_COLUMN, PHONES, VOICING_COLUMN
from mouthpiece.engine.encoders.motion import BLINK_INDEX, EXPRESSION_WIDTH, LATTICE_NODES
from mouthpiece.lipsync.motion.accents import (
    detect_accents,
    find_track_peaks,
    generate_gestures,
    sample_head_postures,
    solve_brow_raise,
    sum_gaussian_bumps,
)


def voice(*stressed_s, seconds=6.0, louder=0.6, higher=0.5):
    """Articulation (T, 43) of a monotone voice with syllables of 0.2 s that are louder and higher."""
    t = np.arange(int(seconds * 50)) / 50
    out = np.zeros((len(t), ARTICULATION_WIDTH), np.float32)
    out[:, PHONES.index("AH")] = out[:, VOICING_COLUMN] = 1
    for at in stressed_s:
        syllable = np.exp(-0.5 * ((t - at) / 0.08) ** 2)
        out[:, ENERGY_COLUMN] += louder * syllable
        out[:, F0_COLUMN] += higher * syllable
    return out


def basis():
    """A motion space whose third brow number raises the brows, whose first does so and moves all else too."""
    out = np.zeros((EXPRESSION_WIDTH, 2, LATTICE_NODES, LATTICE_NODES), np.float32)
    out[BLINK_INDEX + 3, 1, 6:10, 7:25] = -0.001
    out[BLINK_INDEX + 1, 1] = -0.001
    out[BLINK_INDEX + 2, 0, :12] = 0.001
    out[BLINK_INDEX + 4, 0, 3, 3] = 0.001
    return out


def test_accents_are_where_a_syllable_is_louder_and_higher_and_nowhere_else():
    found = detect_accents(voice(1.5, 3.0, 4.4))
    assert np.abs(found.times_s - [1.5, 3.0, 4.4]).max() < 0.07
    assert not len(detect_accents(voice()).times_s)


def test_a_strong_accent_is_stronger_and_a_whisper_of_one_is_none():
    weak, strong = (detect_accents(voice(2.0, louder=k * 0.6, higher=k * 0.5)).strengths for k in (0.5, 1.5))
    assert len(weak) == len(strong) == 1 and 0.4 < weak[0] < strong[0] <= 1
    assert not len(detect_accents(voice(2.0, louder=0.1, higher=0.1)).times_s)


def test_silence_and_voiceless_noise_have_no_accent():
    noise = voice(2.0)
    noise[:, VOICING_COLUMN] = 0
    assert not len(detect_accents(noise).times_s)
    silent = np.zeros((200, ARTICULATION_WIDTH), np.float32)
    silent[:, PHONES.index("SIL")], silent[:, ENERGY_COLUMN] = 1, -1.5
    assert not len(detect_accents(silent).times_s)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 40, 3000])
def test_peaks_are_those_that_scipy_finds(length):
    import scipy.signal

    for seed in range(8):
        rng = np.random.default_rng([length, seed])
        rough = rng.normal(size=length)
        for track in (rough, np.convolve(rough, np.ones(9) / 3, "same") if length > 9 else rough):
            wanted = scipy.signal.find_peaks(track, height=0.4, distance=25)[0] if length > 2 else []
            assert find_track_peaks(track, 0.4, 25).tolist() == list(wanted)


def test_a_bump_is_highest_after_its_time_and_steeper_before_than_after():
    track = sum_gaussian_bumps(100, [2.0], [1.5], (0.12, 0.08, 0.2))
    assert np.argmax(track) == 53 and track.max() == pytest.approx(1.5, abs=0.01)
    assert track[50] < track[56]


def test_brows_are_raised_by_what_raises_them_and_moves_little_else():
    code = solve_brow_raise(basis())
    moved = np.tensordot(code, basis()[BLINK_INDEX + 1 : EXPRESSION_WIDTH], 1)
    assert moved[1, 6:10, 7:25].mean() == pytest.approx(-1, abs=1e-6)
    assert np.abs(moved[:, 16:]).max() < 0.2 and abs(code[2]) > 5 * abs(code[0])


def test_head_and_brows_follow_the_stress_and_the_head_goes_down():
    active = np.ones(150, np.float32)
    brows, head = (
        np.mean([generate_gestures(voice(2.0), active, basis(), 1.0, seed)[k] for seed in range(40)], 0) for k in (0, 1)
    )
    assert np.argmax(brows[:, 2]) == 51
    nod = head[:, 5] - np.median(head[:, 5])
    assert np.argmax(nod) in (52, 53, 54) and nod.max() > 0.7
    assert head[53, 1] > np.median(head[:, 1])


def test_postures_change_from_phrase_to_phrase_and_not_within_one():
    active = np.zeros(400, np.float32)
    active[20:120] = active[125:180] = active[220:380] = 1  # the first pause is too short to part phrases
    head = sample_head_postures(active, np.random.default_rng(0))
    assert np.abs(head[60:100] - head[140:175][:, None].mean(1).mean(0)).max() < 1e-2
    assert np.abs(head[300] - head[150]).max() > 0.2
    assert np.abs(np.diff(head, axis=0)).max() < 0.15


def test_gestures_grow_with_their_strength_depend_on_the_seed_and_zero_has_none():
    sound, active = voice(1.5, 3.0), np.ones(150, np.float32)
    one, two = (generate_gestures(sound, active, basis(), s, 3) for s in (1.0, 2.0))
    assert all(np.allclose(2 * a, b, atol=1e-5) for a, b in zip(one, two))
    assert not np.allclose(one[1], generate_gestures(sound, active, basis(), 1.0, 4)[1])
    assert not any(part.any() for part in generate_gestures(sound, active, basis(), 0.0, 3))
