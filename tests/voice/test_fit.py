from fractions import Fraction

import numpy as np
import pytest
from debug_plans import HELD, kokoro_like, simple, spoken

from engine.errors import Refused, UsageProblem
from voice.fit import (
    GIVE,
    Limits,
    Slot,
    borrowed,
    bounds_of,
    corrected,
    delivered,
    fit,
    heard_s,
    kinds_of,
    paced,
    speak_fitted,
    spread,
    whole,
)
from voice.pauses import heard_edges, offset_s, onset_s, pauses, settled, trimmed
from voice.plan import UNIT_S

NATURAL_S = heard_s(trimmed(settled(kokoro_like())))


def slot_of(ratio, **more):
    return Slot(2.0, 2.0 + ratio * NATURAL_S, **more)


def names(fitted):
    return [rung.name for rung in fitted.rungs]


@pytest.mark.parametrize("ratio", (0.75, 0.83, 0.91, 1.0, 1.08, 1.22, 1.35))
@pytest.mark.parametrize("rate_hz", (24000, 48000))
def test_a_spoken_line_has_exactly_the_samples_of_its_slot_and_starts_and_ends_with_it(ratio, rate_hz):
    slot = slot_of(ratio)
    fitted, sound = speak_fitted(lambda plan: np.repeat(spoken(plan), rate_hz // 24000, 1), kokoro_like(), slot, rate_hz=rate_hz)
    assert sound.shape == (1, int(slot.length_s * rate_hz + Fraction(1, 2))) and sound.dtype == np.float32
    onset, offset = heard_edges(sound[0], rate_hz)
    assert abs(onset) <= 0.02 and abs(offset - float(slot.length_s)) <= 0.02
    assert abs(fitted.start_error_s - onset) < 0.004 and fitted.stretch == 1.0


@pytest.mark.parametrize("ratio", (0.82, 1.25))
def test_pauses_give_more_than_vowels_and_these_more_than_consonants_and_stops_least(ratio):
    plan = trimmed(settled(kokoro_like()))
    kinds = np.array(kinds_of(plan))
    natural = np.array(plan.durations, float)
    give, low, high = bounds_of(plan, kinds)
    inner = kinds != ""
    lengths = natural.copy()
    lengths[inner] = spread(natural[inner], give[inner], low[inner], high[inner], natural[inner].sum() * ratio)
    change = {kind: abs(1 - lengths[kinds == kind].sum() / natural[kinds == kind].sum()) for kind in ("pause", "vowel", "consonant", "stop")}
    assert change["pause"] > change["vowel"] > change["consonant"] > change["stop"]


@pytest.mark.parametrize("ratio", (0.5, 0.75, 1.35, 1.6))
def test_no_phone_leaves_its_limits(ratio):
    plan = trimmed(settled(kokoro_like()))
    out = paced(plan, ratio * heard_s(plan))
    for kind, before, after in zip(kinds_of(plan), plan.durations, out.durations):
        if kind:
            _, shortest, longest, floor_ms, ceiling_ms = GIVE[kind]
            unit_ms = float(UNIT_S) * 1000
            assert after >= min(before, max(1, np.floor(max(before * shortest, floor_ms / unit_ms))))
            assert after <= max(before, np.ceil(min(before * longest, ceiling_ms / unit_ms))) + 1
        else:
            assert after == before


def test_what_is_shared_out_sums_to_what_is_wanted_and_follows_the_closed_form():
    natural, give = np.array([4.0, 4.0, 2.0]), np.array([1.0, 0.5, 0.25])
    free = spread(natural, give, natural * 0, natural * 9, 13.0)
    step = 3 / (natural * give).sum()
    assert np.allclose(free, natural * (1 + step * give), atol=1e-6)
    bound = spread(natural, give, natural * 0.9, np.array([4.5, 9, 9]), 13.0)
    assert bound[0] == pytest.approx(4.5) and bound.sum() == pytest.approx(13.0)
    assert spread(natural, give, natural, natural, 99.0).sum() == 10


def test_whole_units_keep_the_sum_and_leave_no_sound_without_time():
    lengths = np.random.default_rng(0).uniform(1, 3, 200)
    units = whole(lengths)
    assert units.min() >= 1 and abs(units.sum() - lengths.sum()) <= 0.5
    assert abs(np.cumsum(units) - np.cumsum(lengths)).max() <= 0.5 + 1e-6


def test_silence_that_hides_in_a_phone_moves_to_its_mark_and_nothing_else_changes():
    plan = kokoro_like()
    out = settled(plan)
    assert out.units == plan.units and np.array_equal(out.energy, plan.energy) and np.array_equal(out.f0, plan.f0)
    assert out.durations[13] == HELD[13] + 1 and out.durations[14] == plan.durations[14] + plan.durations[13] - HELD[13] - 1
    changed = [k for k in range(len(plan.phones)) if out.durations[k] != plan.durations[k]]
    assert changed == [13, 14, 29, 30]


def test_the_pause_at_the_comma_is_found_and_the_closure_inside_a_word_is_not():
    plan = kokoro_like()
    energy = plan.energy.copy()
    energy[2 * plan.edges[3] : 2 * plan.edges[4]] = -9.6       # the p of "open", shut for longer than any
    plan = plan.retimed([d if p != "p" else 6 for p, d in zip(plan.phones, plan.durations)])
    found = pauses(plan)
    assert [plan.phones[p.phone] for p in found] == [","]
    assert 0.2 < found[0].stop_s - found[0].start_s < 0.4


def test_onset_and_offset_are_where_the_wave_is_heard():
    plan = kokoro_like()
    onset, offset = heard_edges(spoken(plan)[0], 24000)
    assert abs(onset_s(plan) - onset) < 0.025 and abs(offset_s(plan) - offset) < 0.025


def test_trimming_takes_only_silence_at_the_ends():
    plan = settled(kokoro_like())
    out = trimmed(plan, 4, 4)
    assert heard_s(out) == pytest.approx(heard_s(plan), abs=1e-6)
    assert out.units < plan.units and out.phones == plan.phones and out.durations[-1] >= 1
    assert out.durations[1:30] == plan.durations[1:30]


def test_a_slot_as_long_as_the_line_leaves_it_at_its_natural_rate():
    fitted = fit(kokoro_like(), slot_of(1.0))
    assert names(fitted) == ["natural"] and fitted.plan.durations == trimmed(settled(kokoro_like())).durations


@pytest.mark.parametrize("ratio, note, review", ((0.95, False, False), (0.86, True, False), (0.78, True, True), (1.15, True, False), (1.3, True, True)))
def test_small_changes_are_silent_larger_are_noted_and_the_largest_want_a_listener(ratio, note, review):
    fitted = fit(kokoro_like(), slot_of(ratio))
    rung = next(r for r in fitted.rungs if r.name == "retime")
    assert (bool(rung.note), fitted.needs_review, bool(fitted.why)) == (note, review, review)


def test_silence_beside_the_line_is_borrowed_before_it_is_spoken_faster_than_may_be_noted():
    fitted = fit(kokoro_like(), slot_of(0.9, gap_after_s=1.0))
    assert names(fitted) == ["natural", "retime"] and fitted.end_s == slot_of(0.9).end_s
    fitted = fit(kokoro_like(), slot_of(0.7, gap_after_s=1.0))
    assert names(fitted)[:2] == ["natural", "borrow"] and fitted.end_s > slot_of(0.7).end_s
    assert 1.1 < fitted.tempo <= 1.2 and not fitted.needs_review


def test_borrowing_keeps_its_distance_takes_its_share_and_the_end_first():
    wanted = NATURAL_S
    start, end, taken = borrowed(slot_of(0.5, gap_before_s=0.2, gap_after_s=0.2), wanted, Limits())
    assert (float(end) - slot_of(0.5).end_s, 2.0 - float(start)) == pytest.approx((0.08, 0.08)) and taken == pytest.approx(0.16)
    same = borrowed(slot_of(0.5, gap_after_s=0.2, same_after=True), wanted, Limits())
    assert same[2] == pytest.approx(0.12)
    much = borrowed(slot_of(0.5, gap_after_s=0.5), wanted, Limits())
    assert much[2] == pytest.approx(0.3)
    little = borrowed(slot_of(0.99, gap_before_s=5.0, gap_after_s=5.0), wanted, Limits())
    assert little[0] == 2 and little[2] == pytest.approx(0.01 * NATURAL_S, abs=0.002)


def test_a_seen_mouth_borrows_nothing_across_a_cut():
    end = slot_of(0.5).end_s
    slot = slot_of(0.5, gap_after_s=2.0, gap_before_s=2.0, cuts_s=(2.0, end + 0.1))
    assert borrowed(slot, NATURAL_S, Limits())[2] > 0.5
    seen = Slot(slot.start_s, end, 2.0, 2.0, cuts_s=slot.cuts_s, on_screen=True)
    assert borrowed(seen, NATURAL_S, Limits())[:2] == (2, Fraction(round(1000 * (end + 0.1))) / 1000) or borrowed(seen, NATURAL_S, Limits())[2] == pytest.approx(0.1, abs=0.002)


def test_phones_that_cannot_be_shorter_hand_the_rest_to_the_wave():
    plan = simple("lalalalalalalalala", 1)
    slot = Slot(0, heard_s(trimmed(plan)) / 1.25)
    fitted, sound = speak_fitted(spoken, plan, slot)
    assert names(fitted)[-2:] == ["stretch", "review"] and 1.2 < 1 / fitted.stretch < 1.31
    assert sound.shape[1] == round(slot.length_s * 24000)


@pytest.mark.parametrize("length_s", (0.02, 0.001, 0.3))
def test_a_slot_far_too_short_is_outlasted_without_losing_a_sound(length_s):
    fitted, sound = speak_fitted(spoken, kokoro_like(), Slot(1.0, 1.0 + length_s))
    assert fitted.needs_review and "nothing was cut" in fitted.why and fitted.end_error_s > 0.5
    assert fitted.tempo <= 1.5
    whole_wave = spoken(fitted.plan)
    assert np.sum(sound**2) == pytest.approx(np.sum(whole_wave**2), rel=0.01)


def test_a_slot_far_too_long_is_spoken_slowly_not_droned_and_the_rest_is_silence():
    fitted, sound = speak_fitted(spoken, kokoro_like(), Slot(0, 60))
    assert sound.shape == (1, 60 * 24000) and names(fitted)[-2:] == ["silence", "review"] and "silence" in fitted.why
    assert heard_edges(sound[0], 24000)[1] < 1.35 * NATURAL_S and not sound[0, 24000 * 4 :].any()
    assert 1 / 1.25 < fitted.tempo < 1


@pytest.mark.parametrize("times", ((1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, float("nan")), (0.0, float("inf")), ("0", 1.0)))
def test_a_slot_without_time_is_refused_in_words(times):
    with pytest.raises(Refused, match="slot from"):
        Slot(*times)


def test_a_voice_that_swallows_the_end_is_asked_once_more():
    calls = []

    def speak(plan):
        calls.append(plan)
        return spoken(plan, cut_units=3)

    slot = slot_of(1.1)
    fitted, sound = speak_fitted(speak, kokoro_like(), slot)
    onset, offset = heard_edges(sound[0], 24000)
    assert len(calls) == 2 and abs(onset) <= 0.02 and abs(offset - float(slot.length_s)) <= 0.02


def test_a_voice_that_says_nothing_is_never_passed_off_as_speech():
    fitted, _ = speak_fitted(lambda plan: np.zeros((1, plan.samples), np.float32), kokoro_like(), slot_of(1.0))
    assert fitted.needs_review and "nothing that can be heard" in fitted.why


def test_placing_follows_what_is_heard_not_what_was_planned():
    fitted = fit(kokoro_like(), slot_of(1.1))
    late = np.pad(spoken(fitted.plan)[0], (2400, 0))
    moved = corrected(fitted, late)
    assert float(fitted.lead_s - moved.lead_s) == pytest.approx(0.1, abs=0.03)
    onset, _ = heard_edges(delivered(moved, late)[0], 24000)
    assert abs(onset) < 0.02


def test_a_limit_changes_the_fit_and_nonsense_is_refused():
    assert fit(kokoro_like(), slot_of(0.78), Limits(tempo_noted=1.4)).needs_review is False
    assert fit(kokoro_like(), slot_of(0.6), Limits(tempo_most=1.2)).tempo < 1.25
    assert fit(kokoro_like(), slot_of(1.4), Limits(tempo_least=0.9)).rungs[-2].name == "silence"
    assert fit(kokoro_like(), slot_of(0.95), Limits(tempo_silent_fast=1.0)).rungs[1].note
    assert fit(kokoro_like(), slot_of(1.05), Limits(tempo_silent_slow=1.0)).rungs[1].note
    with pytest.raises(UsageProblem, match="borrow-share"):
        Limits(borrow_share=2.0)


def test_facts_of_a_fit_are_ready_for_json():
    import json

    facts = json.loads(json.dumps(fit(kokoro_like(), slot_of(0.8)).as_dict()))
    assert facts["needs_review"] is True and facts["rungs"][1]["name"] == "retime"
