import numpy as np
import pytest
from debug_plans import make_kokoro_plan, render_plan

from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.plan.pauses import find_audible_edges, find_pauses, move_silence_to_marks, trim_plan_silence
from mouthpiece.voice.plan.slot_fitting import TimeSlot, compute_spoken_duration, speak_into_slot
from mouthpiece.voice.plan.variations import MAX_F0_HZ, MIN_F0_HZ, make_variations, sample_style, vary_plan


def pitch(plan):
    return 12 * np.log2(plan.f0[plan.f0 > 50])


def test_take_zero_is_the_plan_itself():
    plan = make_kokoro_plan()
    assert vary_plan(plan, 0, 7) is plan


def test_the_same_seed_gives_the_same_take_and_another_seed_another():
    a, b, c = (
        vary_plan(make_kokoro_plan(), 2, 5),
        vary_plan(make_kokoro_plan(), 2, 5),
        vary_plan(make_kokoro_plan(), 2, 6),
    )
    assert a.durations == b.durations and np.array_equal(a.f0, b.f0) and np.array_equal(a.energy, b.energy)
    assert a.durations != c.durations and not np.array_equal(a.f0[:50], c.f0[:50])


def test_takes_differ_in_tempo_melody_and_pauses_and_neighbours_in_direction():
    plan = move_silence_to_marks(make_kokoro_plan())
    made = make_variations(plan, 5, 3)
    lengths = [compute_spoken_duration(p) for p in made]
    assert lengths[1] < lengths[0] < lengths[2] and lengths[3] < lengths[0] < lengths[4]
    ranges = [np.std(pitch(p)) for p in made]
    assert max(ranges) / min(ranges) > 1.2
    rests = [sum(q.stop_s - q.start_s for q in find_pauses(p)) for p in made]
    assert rests[1] < rests[0] < rests[2]


@pytest.mark.parametrize("index", range(1, 13))
def test_every_take_stays_speech_of_the_same_person(index):
    plan = move_silence_to_marks(make_kokoro_plan())
    out = vary_plan(plan, index, 1)
    assert 0.78 < compute_spoken_duration(out) / compute_spoken_duration(plan) < 1.25
    assert abs(np.median(pitch(out)) - np.median(pitch(plan))) < 3 and pitch(out).min() > 12 * np.log2(MIN_F0_HZ) - 1e-3
    assert pitch(out).max() < 12 * np.log2(MAX_F0_HZ) and out.phones == plan.phones and out.words == plan.words


def test_one_word_is_accented():
    plan = move_silence_to_marks(make_kokoro_plan())
    how = sample_style(1, 0, len(plan.words))
    out = vary_plan(plan, 1, 0)
    word = plan.words[how.word]
    loudest = [out.energy[2 * out.edges[w.start] : 2 * out.edges[w.stop]].max() for w in plan.words]
    assert int(np.argmax(loudest)) == plan.words.index(word)


@pytest.mark.parametrize("index", (1, 2, 3))
def test_every_take_fits_the_same_slot(index):
    slot = TimeSlot(0, 1.1 * compute_spoken_duration(trim_plan_silence(move_silence_to_marks(make_kokoro_plan()))))
    _, sound = speak_into_slot(render_plan, vary_plan(make_kokoro_plan(), index, 4), slot)
    onset, offset = find_audible_edges(sound[0], 24000)
    assert abs(onset) <= 0.02 and abs(offset - float(slot.length_s)) <= 0.02


def test_takes_that_make_no_sense_are_refused():
    for wrong in (
        lambda: vary_plan(make_kokoro_plan(), -1),
        lambda: vary_plan(make_kokoro_plan(), 1, -1),
        lambda: make_variations(make_kokoro_plan(), 0),
        lambda: vary_plan(make_kokoro_plan(), 10**6),
    ):
        with pytest.raises(UsageError, match="take"):
            wrong()
