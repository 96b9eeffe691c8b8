import numpy as np
import pytest
from debug_plans import kokoro_like, spoken

from engine.errors import UsageProblem
from voice.fit import Slot, heard_s, speak_fitted
from voice.pauses import heard_edges, pauses, settled, trimmed
from voice.takes import HIGHEST_HZ, LOWEST_HZ, manner, take, takes


def pitch(plan):
    return 12 * np.log2(plan.f0[plan.f0 > 50])


def test_take_zero_is_the_plan_itself():
    plan = kokoro_like()
    assert take(plan, 0, 7) is plan


def test_the_same_seed_gives_the_same_take_and_another_seed_another():
    a, b, c = take(kokoro_like(), 2, 5), take(kokoro_like(), 2, 5), take(kokoro_like(), 2, 6)
    assert a.durations == b.durations and np.array_equal(a.f0, b.f0) and np.array_equal(a.energy, b.energy)
    assert a.durations != c.durations and not np.array_equal(a.f0[:50], c.f0[:50])


def test_takes_differ_in_tempo_melody_and_pauses_and_neighbours_in_direction():
    plan = settled(kokoro_like())
    made = takes(plan, 5, 3)
    lengths = [heard_s(p) for p in made]
    assert lengths[1] < lengths[0] < lengths[2] and lengths[3] < lengths[0] < lengths[4]
    ranges = [np.std(pitch(p)) for p in made]
    assert max(ranges) / min(ranges) > 1.2
    rests = [sum(q.stop_s - q.start_s for q in pauses(p)) for p in made]
    assert rests[1] < rests[0] < rests[2]


@pytest.mark.parametrize("index", range(1, 13))
def test_every_take_stays_speech_of_the_same_person(index):
    plan = settled(kokoro_like())
    out = take(plan, index, 1)
    assert 0.78 < heard_s(out) / heard_s(plan) < 1.25
    assert abs(np.median(pitch(out)) - np.median(pitch(plan))) < 3 and pitch(out).min() > 12 * np.log2(LOWEST_HZ) - 1e-3
    assert pitch(out).max() < 12 * np.log2(HIGHEST_HZ) and out.phones == plan.phones and out.words == plan.words


def test_one_word_is_accented():
    plan = settled(kokoro_like())
    how = manner(1, 0, len(plan.words))
    out = take(plan, 1, 0)
    word = plan.words[how.word]
    loudest = [out.energy[2 * out.edges[w.start] : 2 * out.edges[w.stop]].max() for w in plan.words]
    assert int(np.argmax(loudest)) == plan.words.index(word)


@pytest.mark.parametrize("index", (1, 2, 3))
def test_every_take_fits_the_same_slot(index):
    slot = Slot(0, 1.1 * heard_s(trimmed(settled(kokoro_like()))))
    _, sound = speak_fitted(spoken, take(kokoro_like(), index, 4), slot)
    onset, offset = heard_edges(sound[0], 24000)
    assert abs(onset) <= 0.02 and abs(offset - float(slot.length_s)) <= 0.02


def test_takes_that_make_no_sense_are_refused():
    for wrong in (lambda: take(kokoro_like(), -1), lambda: take(kokoro_like(), 1, -1), lambda: takes(kokoro_like(), 0), lambda: take(kokoro_like(), 10**6)):
        with pytest.raises(UsageProblem, match="take"):
            wrong()
