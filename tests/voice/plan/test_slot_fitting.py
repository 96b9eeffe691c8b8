from fractions import Fraction

import numpy as np
import pytest
from debug_plans import SOUNDING_UNITS, make_kokoro_plan, make_plan, render_plan

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.voice.plan.pauses import (
    find_audible_edges,
    find_offset,
    find_onset,
    find_pauses,
    move_silence_to_marks,
    trim_plan_silence,
)
from mouthpiece.voice.plan.phone_durations import (
    PHONE_ELASTICITY,
    classify_phones,
    compute_spoken_duration,
    distribute_durations,
    get_duration_bounds,
    retime_to_duration,
    round_cumulatively,
)
from mouthpiece.voice.plan.slot_fitting import (
    FitLimits,
    TimeSlot,
    borrow_silence,
    correct_placement,
    fit_to_slot,
    render_into_slot,
    speak_into_slot,
)
from mouthpiece.voice.plan.speech_plan import UNIT_S

NATURAL_S = compute_spoken_duration(trim_plan_silence(move_silence_to_marks(make_kokoro_plan())))


def make_slot(ratio, **more):
    return TimeSlot(2.0, 2.0 + ratio * NATURAL_S, **more)


def names(fitted):
    return [rung.name for rung in fitted.rungs]


@pytest.mark.parametrize("ratio", (0.75, 0.83, 0.91, 1.0, 1.08, 1.22, 1.35))
@pytest.mark.parametrize("rate_hz", (24000, 48000))
def test_a_spoken_line_has_exactly_the_samples_of_its_slot_and_starts_and_ends_with_it(ratio, rate_hz):
    slot = make_slot(ratio)
    fitted, sound = speak_into_slot(
        lambda plan: np.repeat(render_plan(plan), rate_hz // 24000, 1), make_kokoro_plan(), slot, rate_hz=rate_hz
    )
    assert sound.shape == (1, int(slot.length_s * rate_hz + Fraction(1, 2))) and sound.dtype == np.float32
    onset, offset = find_audible_edges(sound[0], rate_hz)
    assert abs(onset) <= 0.02 and abs(offset - float(slot.length_s)) <= 0.02
    assert abs(fitted.start_error_s - onset) < 0.004 and fitted.stretch == 1.0


@pytest.mark.parametrize("ratio", (0.82, 1.25))
def test_pauses_give_more_than_vowels_and_these_more_than_consonants_and_stops_least(ratio):
    plan = trim_plan_silence(move_silence_to_marks(make_kokoro_plan()))
    kinds = np.array(classify_phones(plan))
    natural = np.array(plan.durations, float)
    give, low, high = get_duration_bounds(plan, kinds)
    inner = kinds != ""
    lengths = natural.copy()
    lengths[inner] = distribute_durations(
        natural[inner], give[inner], low[inner], high[inner], natural[inner].sum() * ratio
    )
    change = {
        kind: abs(1 - lengths[kinds == kind].sum() / natural[kinds == kind].sum())
        for kind in ("pause", "vowel", "consonant", "stop")
    }
    assert change["pause"] > change["vowel"] > change["consonant"] > change["stop"]


@pytest.mark.parametrize("ratio", (0.5, 0.75, 1.35, 1.6))
def test_no_phone_leaves_its_limits(ratio):
    plan = trim_plan_silence(move_silence_to_marks(make_kokoro_plan()))
    out = retime_to_duration(plan, ratio * compute_spoken_duration(plan))
    for kind, before, after in zip(classify_phones(plan), plan.durations, out.durations):
        if kind:
            _, shortest, longest, floor_ms, ceiling_ms = PHONE_ELASTICITY[kind]
            unit_ms = float(UNIT_S) * 1000
            assert after >= min(before, max(1, np.floor(max(before * shortest, floor_ms / unit_ms))))
            assert after <= max(before, np.ceil(min(before * longest, ceiling_ms / unit_ms))) + 1
        else:
            assert after == before


def test_what_is_shared_out_sums_to_what_is_wanted_and_follows_the_closed_form():
    natural, give = np.array([4.0, 4.0, 2.0]), np.array([1.0, 0.5, 0.25])
    free = distribute_durations(natural, give, natural * 0, natural * 9, 13.0)
    step = 3 / (natural * give).sum()
    assert np.allclose(free, natural * (1 + step * give), atol=1e-6)
    bound = distribute_durations(natural, give, natural * 0.9, np.array([4.5, 9, 9]), 13.0)
    assert bound[0] == pytest.approx(4.5) and bound.sum() == pytest.approx(13.0)
    assert distribute_durations(natural, give, natural, natural, 99.0).sum() == 10


def test_whole_units_keep_the_sum_and_leave_no_sound_without_time():
    lengths = np.random.default_rng(0).uniform(1, 3, 200)
    units = round_cumulatively(lengths)
    assert units.min() >= 1 and abs(units.sum() - lengths.sum()) <= 0.5
    assert abs(np.cumsum(units) - np.cumsum(lengths)).max() <= 0.5 + 1e-6


def test_silence_that_hides_in_a_phone_moves_to_its_mark_and_nothing_else_changes():
    plan = make_kokoro_plan()
    out = move_silence_to_marks(plan)
    assert out.units == plan.units and np.array_equal(out.energy, plan.energy) and np.array_equal(out.f0, plan.f0)
    assert (
        out.durations[13] == SOUNDING_UNITS[13] + 1
        and out.durations[14] == plan.durations[14] + plan.durations[13] - SOUNDING_UNITS[13] - 1
    )
    changed = [k for k in range(len(plan.phones)) if out.durations[k] != plan.durations[k]]
    assert changed == [13, 14, 29, 30]


def test_the_pause_at_the_comma_is_found_and_the_closure_inside_a_word_is_not():
    plan = make_kokoro_plan()
    energy = plan.energy.copy()
    energy[2 * plan.edges[3] : 2 * plan.edges[4]] = -9.6  # the p of "open", shut for longer than any
    plan = plan.retime([d if p != "p" else 6 for p, d in zip(plan.phones, plan.durations)])
    found = find_pauses(plan)
    assert [plan.phones[p.phone] for p in found] == [","]
    assert 0.2 < found[0].stop_s - found[0].start_s < 0.4


def test_onset_and_offset_are_where_the_wave_is_heard():
    plan = make_kokoro_plan()
    onset, offset = find_audible_edges(render_plan(plan)[0], 24000)
    assert abs(find_onset(plan) - onset) < 0.025 and abs(find_offset(plan) - offset) < 0.025


def test_trimming_takes_only_silence_at_the_ends():
    plan = move_silence_to_marks(make_kokoro_plan())
    out = trim_plan_silence(plan, 4, 4)
    assert compute_spoken_duration(out) == pytest.approx(compute_spoken_duration(plan), abs=1e-6)
    assert out.units < plan.units and out.phones == plan.phones and out.durations[-1] >= 1
    assert out.durations[1:30] == plan.durations[1:30]


def test_a_slot_as_long_as_the_line_leaves_it_at_its_natural_rate():
    fitted = fit_to_slot(make_kokoro_plan(), make_slot(1.0))
    assert (
        names(fitted) == ["natural"]
        and fitted.plan.durations == trim_plan_silence(move_silence_to_marks(make_kokoro_plan())).durations
    )


@pytest.mark.parametrize(
    "ratio, note, review",
    ((0.95, False, False), (0.86, True, False), (0.78, True, True), (1.15, True, False), (1.3, True, True)),
)
def test_small_changes_are_silent_larger_are_noted_and_the_largest_want_a_listener(ratio, note, review):
    fitted = fit_to_slot(make_kokoro_plan(), make_slot(ratio))
    rung = next(r for r in fitted.rungs if r.name == "retime")
    assert (bool(rung.note), fitted.needs_review, bool(fitted.why)) == (note, review, review)


def test_silence_beside_the_line_is_borrowed_before_it_is_spoken_faster_than_may_be_noted():
    fitted = fit_to_slot(make_kokoro_plan(), make_slot(0.9, gap_after_s=1.0))
    assert names(fitted) == ["natural", "retime"] and fitted.end_s == make_slot(0.9).end_s
    fitted = fit_to_slot(make_kokoro_plan(), make_slot(0.7, gap_after_s=1.0))
    assert names(fitted)[:2] == ["natural", "borrow"] and fitted.end_s > make_slot(0.7).end_s
    assert 1.1 < fitted.tempo <= 1.2 and not fitted.needs_review


def test_borrowing_keeps_its_distance_takes_its_share_and_the_end_first():
    wanted = NATURAL_S
    start, end, taken = borrow_silence(make_slot(0.5, gap_before_s=0.2, gap_after_s=0.2), wanted, FitLimits())
    assert (float(end) - make_slot(0.5).end_s, 2.0 - float(start)) == pytest.approx(
        (0.08, 0.08)
    ) and taken == pytest.approx(0.16)
    same = borrow_silence(make_slot(0.5, gap_after_s=0.2, same_speaker_after=True), wanted, FitLimits())
    assert same[2] == pytest.approx(0.12)
    much = borrow_silence(make_slot(0.5, gap_after_s=0.5), wanted, FitLimits())
    assert much[2] == pytest.approx(0.3)
    little = borrow_silence(make_slot(0.99, gap_before_s=5.0, gap_after_s=5.0), wanted, FitLimits())
    assert little[0] == 2 and little[2] == pytest.approx(0.01 * NATURAL_S, abs=0.002)


def test_a_seen_mouth_borrows_nothing_across_a_cut():
    end = make_slot(0.5).end_s
    slot = make_slot(0.5, gap_after_s=2.0, gap_before_s=2.0, shot_cuts_s=(2.0, end + 0.1))
    assert borrow_silence(slot, NATURAL_S, FitLimits())[2] > 0.5
    seen = TimeSlot(slot.start_s, end, 2.0, 2.0, shot_cuts_s=slot.shot_cuts_s, on_screen=True)
    assert borrow_silence(seen, NATURAL_S, FitLimits())[:2] == (
        2,
        Fraction(round(1000 * (end + 0.1))) / 1000,
    ) or borrow_silence(seen, NATURAL_S, FitLimits())[2] == pytest.approx(0.1, abs=0.002)


def test_phones_that_cannot_be_shorter_hand_the_rest_to_the_wave():
    plan = make_plan("lalalalalalalalala", 1)
    slot = TimeSlot(0, compute_spoken_duration(trim_plan_silence(plan)) / 1.25)
    fitted, sound = speak_into_slot(render_plan, plan, slot)
    assert names(fitted)[-2:] == ["stretch", "review"] and 1.2 < 1 / fitted.stretch < 1.31
    assert sound.shape[1] == round(slot.length_s * 24000)


@pytest.mark.parametrize("length_s", (0.02, 0.001, 0.3))
def test_a_slot_far_too_short_is_outlasted_without_losing_a_sound(length_s):
    fitted, sound = speak_into_slot(render_plan, make_kokoro_plan(), TimeSlot(1.0, 1.0 + length_s))
    assert fitted.needs_review and "nothing was cut" in fitted.why and fitted.end_error_s > 0.5
    assert fitted.tempo <= 1.5
    whole_wave = render_plan(fitted.plan)
    assert np.sum(sound**2) == pytest.approx(np.sum(whole_wave**2), rel=0.01)


def test_a_slot_far_too_long_is_spoken_slowly_not_droned_and_the_rest_is_silence():
    fitted, sound = speak_into_slot(render_plan, make_kokoro_plan(), TimeSlot(0, 60))
    assert sound.shape == (1, 60 * 24000) and names(fitted)[-2:] == ["silence", "review"] and "silence" in fitted.why
    assert find_audible_edges(sound[0], 24000)[1] < 1.35 * NATURAL_S and not sound[0, 24000 * 4 :].any()
    assert 1 / 1.25 < fitted.tempo < 1


@pytest.mark.parametrize(
    "times", ((1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, float("nan")), (0.0, float("inf")), ("0", 1.0))
)
def test_a_slot_without_time_is_refused_in_words(times):
    with pytest.raises(InvalidInputError, match="slot from"):
        TimeSlot(*times)


def test_a_voice_that_swallows_the_end_is_asked_once_more():
    calls = []

    def speak(plan):
        calls.append(plan)
        return render_plan(plan, cut_units=3)

    slot = make_slot(1.1)
    fitted, sound = speak_into_slot(speak, make_kokoro_plan(), slot)
    onset, offset = find_audible_edges(sound[0], 24000)
    assert len(calls) == 2 and abs(onset) <= 0.02 and abs(offset - float(slot.length_s)) <= 0.02


def test_a_voice_that_says_nothing_is_never_passed_off_as_speech():
    fitted, _ = speak_into_slot(
        lambda plan: np.zeros((1, plan.samples), np.float32), make_kokoro_plan(), make_slot(1.0)
    )
    assert fitted.needs_review and "nothing that can be heard" in fitted.why


def test_placing_follows_what_is_heard_not_what_was_planned():
    fitted = fit_to_slot(make_kokoro_plan(), make_slot(1.1))
    late = np.pad(render_plan(fitted.plan)[0], (2400, 0))
    moved = correct_placement(fitted, late)
    assert float(fitted.lead_s - moved.lead_s) == pytest.approx(0.1, abs=0.03)
    onset, _ = find_audible_edges(render_into_slot(moved, late)[0], 24000)
    assert abs(onset) < 0.02


def test_a_limit_changes_the_fit_and_nonsense_is_refused():
    assert fit_to_slot(make_kokoro_plan(), make_slot(0.78), FitLimits(tempo_noted=1.4)).needs_review is False
    assert fit_to_slot(make_kokoro_plan(), make_slot(0.6), FitLimits(tempo_most=1.2)).tempo < 1.25
    assert fit_to_slot(make_kokoro_plan(), make_slot(1.4), FitLimits(tempo_least=0.9)).rungs[-2].name == "silence"
    assert fit_to_slot(make_kokoro_plan(), make_slot(0.95), FitLimits(tempo_silent_fast=1.0)).rungs[1].note
    assert fit_to_slot(make_kokoro_plan(), make_slot(1.05), FitLimits(tempo_silent_slow=1.0)).rungs[1].note
    with pytest.raises(UsageError, match="borrow-share"):
        FitLimits(borrow_share=2.0)


def test_facts_of_a_fit_are_ready_for_json():
    import json

    facts = json.loads(json.dumps(fit_to_slot(make_kokoro_plan(), make_slot(0.8)).as_dict()))
    assert facts["needs_review"] is True and facts["rungs"][1]["name"] == "retime"
