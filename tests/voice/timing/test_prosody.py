"""The actor's prosody on another plan: times, melody, loudness; and what happens when there is none."""

import numpy as np
import pytest
from scipy.signal import resample_poly

from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.backends.registry import load_voice
from mouthpiece.voice.plan.speech_plan import MARKS, PAUSE, SpeechPlan, Word
from mouthpiece.voice.text.phones import make_utterance
from mouthpiece.voice.timing.align import Alignment, align
from mouthpiece.voice.timing.phrase_prosody import measure_intonation, transfer_pauses, transfer_phrase_prosody
from mouthpiece.voice.timing.pitch import (
    HOP_S,
    F0Contour,
    compute_loudness_contour,
    estimate_f0,
    fix_octave_jumps,
    get_curve_times,
)
from mouthpiece.voice.timing.prosody import (
    MIN_VOICED_HZ,
    UNIT_SECONDS,
    align_own_speech,
    apply_gain_curve,
    compute_register_shift,
    correct_f0,
    match_loudness,
    predict_word_times,
    round_edges,
    speak_with_prosody,
    transfer_word_prosody,
)
from mouthpiece.voice.timing.prosody_transfer import ProsodyOptions, parse_prosody_amount, transfer_prosody

RATE_HZ, VOICE_HZ = 16_000, 24_000
LINE = "The old man walked to the harbour, and nobody saw him again."


def resample_to_16_khz(wave):
    return resample_poly(np.asarray(wave).reshape(-1), 2, 3).astype(np.float32)


@pytest.fixture(scope="module")
def voice():
    return load_voice("hibari", 1)


@pytest.fixture(scope="module")
def plan(voice):
    return voice.predict_plan(make_utterance(LINE, "en-us"))


def make_acted_plan(plan):
    """The plan as an actor might say it: the first half slow, half a second more at the comma, another melody a fourth
    lower.
    """
    comma = plan.phones.index(",")
    durations = [round(d * 1.4) if k < comma else d for k, d in enumerate(plan.durations)]
    durations[comma + 1] += 20
    acted = plan.retime(durations)
    at = get_curve_times(acted)
    f0 = np.where(acted.f0 > MIN_VOICED_HZ, 140 * 2 ** ((3 * np.sin(2 * np.pi * 0.7 * at)) / 12), acted.f0)
    energy, edges = acted.energy.copy(), 2 * acted.edges
    f0[edges[comma + 1] + 2 : edges[comma + 2] - 2], energy[edges[comma + 1] + 2 : edges[comma + 2] - 2] = 0, -10
    return acted.replace_curves(f0=f0, energy=energy)


@pytest.fixture(scope="module")
def acted(plan):
    return make_acted_plan(plan)


@pytest.fixture(scope="module")
def recording(voice, acted):
    return resample_to_16_khz(voice.speak(acted))


@pytest.fixture(scope="module")
def spoken(voice, plan):
    return align_own_speech(voice, plan)


@pytest.fixture(scope="module")
def found(recording):
    return align(recording, LINE)


@pytest.fixture(scope="module")
def moved(plan, recording, found, spoken):
    return transfer_word_prosody(plan, recording, found, spoken)


def test_phone_times_follow_the_actor(moved, acted, plan):
    ours, theirs = moved.start_s + moved.plan.edges[1:-1] * UNIT_SECONDS, acted.edges[1:-1] * UNIT_SECONDS
    starts = [k - 1 for w in plan.words for k in range(w.start, w.stop)]
    assert np.median(np.abs(ours - theirs)[starts]) < 0.03
    assert np.quantile(np.abs(ours - theirs)[starts], 0.9) < 0.08
    assert moved.plan.phones == plan.phones and moved.note == ""


def test_the_pause_at_the_comma_is_the_actors_and_silent(moved, acted, plan):
    comma = plan.phones.index(",")
    pause = sum(moved.plan.durations[comma : comma + 2])
    assert abs(pause - sum(acted.durations[comma : comma + 2])) <= 4
    a, b = 2 * moved.plan.edges[comma + 1] + 4, 2 * moved.plan.edges[comma + 2] - 4
    assert (moved.plan.f0[a:b] < MIN_VOICED_HZ).all()


def test_the_melody_heard_is_the_actors(voice, moved, recording):
    wave = speak_with_prosody(voice, moved)
    source, heard, at = estimate_f0(recording, RATE_HZ), estimate_f0(wave[0], VOICE_HZ), get_curve_times(moved.plan)
    both = source.is_voiced_at(moved.start_s + at) & heard.is_voiced_at(at)
    st = 12 * np.log2(np.stack([source.at(moved.start_s + at)[both], heard.at(at)[both]]))
    assert wave.shape == (1, moved.plan.samples) and wave.dtype == np.float32
    # where a sound fades or creaks, Praat is an octave off for a frame or two
    near = np.abs(st[1] - st[0]) < 6
    assert near.mean() > 0.96 and np.corrcoef(st[:, near])[0, 1] > 0.9 and abs(np.median(st[1] - st[0])) < 0.5


def test_the_loudness_heard_is_the_actors(voice, moved, recording):
    at = get_curve_times(moved.plan)
    source = compute_loudness_contour(recording, RATE_HZ, moved.start_s + at)
    heard = compute_loudness_contour(speak_with_prosody(voice, moved, passes=1)[0], VOICE_HZ, at)
    assert np.corrcoef(source, heard)[0, 1] > 0.8


def test_amount_goes_from_the_voices_own_way_to_the_actors(plan, recording, found, spoken, moved):
    none, half = (transfer_word_prosody(plan, recording, found, spoken, amount=a) for a in (0, 0.5))
    assert none.plan is plan and none.loudness_db is None
    assert abs(half.plan.units - (plan.units + moved.plan.units) / 2) <= 1
    pitch = [float(np.median(p.f0[p.f0 > MIN_VOICED_HZ])) for p in (plan, half.plan, moved.plan)]
    assert pitch[0] > pitch[1] > pitch[2]


def test_register_moves_by_the_semitones_asked_for(plan, recording, found, spoken, moved):
    wanted = compute_register_shift(plan, recording)
    high = transfer_word_prosody(plan, recording, found, spoken, register_st=wanted)
    voiced = moved.plan.f0 > MIN_VOICED_HZ
    assert wanted > 2
    assert np.allclose(12 * np.log2(high.plan.f0[voiced] / moved.plan.f0[voiced]), wanted, atol=0.01)


def test_without_an_alignment_of_the_voice_the_words_of_the_plan_do(plan, recording, acted, found):
    loose = transfer_word_prosody(plan, recording, found, None)
    assert [w[0] for w in predict_word_times(plan).words] == [w.text for w in plan.words]
    ours, theirs = loose.start_s + loose.plan.edges * UNIT_SECONDS, acted.edges * UNIT_SECONDS
    starts = [w.start for w in plan.words]
    assert np.median(np.abs(ours - theirs)[starts]) < 0.06


@pytest.mark.parametrize(
    "noise", [np.zeros(32000), 0.1 * np.sin(np.arange(32000) * 0.1), np.zeros(10)], ids=["silence", "tone", "nothing"]
)
def test_a_recording_without_the_line_leaves_the_plan_with_a_reason(voice, plan, noise):
    got = transfer_prosody(voice, plan, noise.astype(np.float32))
    assert got.plan is plan and "no speech" in got.note
    assert np.array_equal(speak_with_prosody(voice, got), voice.speak(plan))


def test_a_recording_of_other_words_is_followed_in_its_phrases_only(voice, plan):
    other = resample_to_16_khz(
        voice.speak(
            voice.predict_plan(
                make_utterance("Photosynthesis is a strange and wonderful business. Everybody knows!", "en-us")
            )
        )
    )
    got = transfer_prosody(voice, plan, other)
    assert got.facts["method"] == "other language" and "Only pauses and phrases" in got.note


def test_neutral_and_no_recording_leave_the_plan(voice, plan, recording):
    assert transfer_prosody(voice, plan, recording, ProsodyOptions(prosody="neutral")).plan is plan
    assert (
        transfer_prosody(voice, plan, None).plan is plan and "no recording" in transfer_prosody(voice, plan, None).note
    )


def test_prosody_is_source_neutral_or_a_share():
    assert (parse_prosody_amount("source"), parse_prosody_amount("neutral"), parse_prosody_amount("0.4")) == (1, 0, 0.4)
    for nonsense in ("loud", "1.5", "-1", "nan", ""):
        with pytest.raises(UsageError, match="source, neutral"):
            ProsodyOptions(prosody=nonsense)


def test_every_option_matters(voice, plan, recording, found, spoken, monkeypatch):
    monkeypatch.setattr("mouthpiece.voice.timing.prosody_transfer.align", lambda *_: found)
    monkeypatch.setattr("mouthpiece.voice.timing.prosody_transfer.align_own_speech", lambda *_: spoken)
    base = transfer_prosody(voice, plan, recording)
    for change in (dict(prosody="0.5"), dict(register="voice"), dict(register_shift=2.0)):
        assert not np.array_equal(
            base.plan.f0, transfer_prosody(voice, plan, recording, ProsodyOptions(**change)).plan.f0
        )


# -- parts in closed form --------------------------------------------------------------------------------------------


def make_toy_plan(durations=(2, 3, 2, 3, 1, 4, 2), f0=200.0):
    phones = (PAUSE, "a", ",", " ", "b", "o", PAUSE)
    units = sum(durations)
    return SpeechPlan(
        "a, bo",
        "en-us",
        phones,
        durations,
        np.full(2 * units, f0),
        np.zeros(2 * units),
        (Word("a", 1, 2, (0, 1)), Word("bo", 4, 6, (3, 5))),
    )


def test_whole_units_keep_their_least_and_the_nearest_edges():
    rng = np.random.default_rng(1)
    for _ in range(50):
        edges = np.r_[0, np.cumsum(rng.exponential(2.0, 30))]
        least = rng.integers(0, 2, 30)
        units = round_edges(edges, least)
        assert (units >= least).all()
    assert round_edges([0, 2.4, 2.4, 5.6], [1, 0, 1]).tolist() == [2, 0, 4]
    assert round_edges([0, 0.1, 0.2, 9.0], [1, 1, 1]).tolist() == [1, 1, 7]


def test_f0_of_a_glide_is_found_and_silence_has_none():
    t = np.arange(RATE_HZ * 2) / RATE_HZ
    hz = 120 * 2 ** (t / 2)
    wave = sum(np.sin(2 * np.pi * k * np.cumsum(hz) / RATE_HZ) / k for k in range(1, 15)) * 0.2
    melody = estimate_f0(wave, RATE_HZ)
    at = np.arange(0.1, 1.9, HOP_S)
    assert np.abs(12 * np.log2(melody.at(at) / np.interp(at, t, hz))).max() < 0.2
    assert (
        not estimate_f0(np.zeros(RATE_HZ), RATE_HZ).voiced.any() and estimate_f0(np.zeros(5), RATE_HZ).median_hz is None
    )


def test_octave_jumps_are_mended_and_accidents_dropped():
    f0 = np.r_[np.full(30, 150.0), np.full(8, 301.0), np.full(30, 149.0), np.zeros(10), np.full(2, 150.0), np.zeros(5)]
    out = fix_octave_jumps(f0)
    assert np.abs(12 * np.log2(out[:68] / 150)).max() < 0.2 and not out[68:].any()
    harmonic = np.r_[np.linspace(110, 90, 30), np.zeros(6), np.full(6, 280.0), np.zeros(4)]
    assert np.allclose(fix_octave_jumps(harmonic), np.where(harmonic == 280, 0, harmonic))
    leap = np.r_[np.linspace(200, 165, 15), np.linspace(105, 90, 40)]
    assert np.allclose(fix_octave_jumps(leap), leap)


def test_f0_is_carried_through_unvoiced_stretches_in_semitones():
    melody = F0Contour(np.array([100, 0, 200], np.float32))
    assert np.allclose(melody.at([0, HOP_S, 2 * HOP_S, 1]), [100, 100 * 2**0.5, 200, 200], rtol=1e-5)


def test_loudness_of_a_sine_is_its_level():
    wave = 0.1 * np.sin(2 * np.pi * 200 * np.arange(RATE_HZ) / RATE_HZ)
    assert np.allclose(compute_loudness_contour(wave, RATE_HZ, [0.3, 0.5]), -23.0, atol=0.1)
    assert compute_loudness_contour(wave, RATE_HZ, [-1, 5]).tolist() == [-70, -70]


def test_the_second_pass_moves_f0_against_the_error_heard():
    plan = make_toy_plan()
    wave = sum(np.sin(2 * np.pi * k * 190 * np.arange(plan.samples) / VOICE_HZ) / k for k in range(1, 12))[None] * 0.1
    new = correct_f0(plan, wave.astype(np.float32), np.full(2 * plan.units, 200.0))
    inner = slice(8, -8)
    assert np.allclose(12 * np.log2(new.f0[inner] / 200), 12 * np.log2(200 / 190), atol=0.15)


def test_a_gain_is_smooth_keeps_the_level_and_never_clips():
    plan = make_toy_plan()
    wave = (0.2 * np.sin(2 * np.pi * 150 * np.arange(plan.samples) / VOICE_HZ))[None].astype(np.float32)
    gain = np.where(np.arange(2 * plan.units) < plan.units, 6.0, -6.0)
    out = apply_gain_curve(wave, plan, gain)
    assert np.isclose((out**2).mean(), (wave**2).mean(), rtol=1e-3) and np.abs(out).max() <= 1
    at = np.array([0.1, plan.samples / VOICE_HZ - 0.1])
    assert np.isclose(np.subtract(*compute_loudness_contour(out[0], VOICE_HZ, at)), 12, atol=0.5)
    same = match_loudness(wave, plan, compute_loudness_contour(wave[0], VOICE_HZ, get_curve_times(plan)))
    assert np.allclose(same, wave, atol=0.01)


def test_the_shape_of_a_phrase_is_its_mean_fall_and_end():
    t = np.arange(0, 2, 0.01)
    st = 80 - 2 * (t - 1) + np.where(t > 1.735, 3.0, 0)
    mean, spread, fall, final = measure_intonation(t, st)
    assert np.allclose([mean, fall, final], [80, -4, 3], atol=0.2) and spread < 0.1


def test_a_pause_of_another_language_goes_to_the_comma_and_others_shrink():
    plan = make_toy_plan((2, 3, 1, 8, 1, 4, 2))
    longer, cuts = transfer_pauses(plan, [0.5], [0.6], 1.5, 1.0)
    assert sum(longer.durations[2:4]) == 20 and cuts == [4]
    shorter, cuts = transfer_pauses(plan, [], [], 1.0, 1.0)
    assert sum(shorter.durations[2:4]) == 4 and cuts == []


def test_phrases_of_another_language_bring_pause_register_and_loudness(voice, plan):
    first, second = (
        resample_to_16_khz(voice.speak(voice.predict_plan(make_utterance(t, "en-us"))))
        for t in ("Nothing at all was left of it,", "we went home in the evening.")
    )
    recording = np.r_[np.zeros(3000), first, np.zeros(RATE_HZ // 2), 0.4 * second].astype(np.float32)
    got = transfer_phrase_prosody(plan, recording, register_st=-4)
    comma = plan.phones.index(",")
    assert got.facts["pauses"] == 1 and sum(got.plan.durations[comma : comma + 2]) * UNIT_SECONDS > 0.4
    same = transfer_phrase_prosody(plan, recording)
    voiced = same.plan.f0 > MIN_VOICED_HZ
    assert np.allclose(12 * np.log2(got.plan.f0[voiced] / same.plan.f0[voiced]), -4, atol=0.01)
    actor_hz = estimate_f0(recording, RATE_HZ).median_hz
    assert abs(12 * np.log2(np.median(same.plan.f0[voiced]) / actor_hz)) < 0.05
    assert got.gain_db[10] > got.gain_db[-10] + 3
    assert all(d >= (0 if p in MARKS else 1) for p, d in zip(got.plan.phones, got.plan.durations))


def test_words_that_the_recording_lacks_are_left_to_their_neighbours(plan, recording, spoken, found):
    whole = found
    part = Alignment(whole.words[:3] + whole.words[5:], whole.phones, whole.confidence, whole.method)
    got = transfer_word_prosody(plan, recording, part, spoken)
    assert (
        got.facts["words"] == len(whole.words) - 2
        and abs(got.plan.units - transfer_word_prosody(plan, recording, whole, spoken).plan.units) <= 6
    )
