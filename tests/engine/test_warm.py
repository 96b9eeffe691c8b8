"""Models kept from job to job: loaded once, named in the side-car of every job that asks for them and of no other."""

import pytest

from engine import warm, weights


@pytest.fixture(autouse=True)
def record_of_this_process():
    """What this process is said to have used is left as it was."""
    before = weights.loaded()
    warm.new_job()
    yield
    weights.resume(before)


def loader(loads):
    """A loader that counts how often each name was loaded."""

    def load(name):
        weights.record(name, f"{name}.bin", name * 4)
        loads.append(name)
        return [name]

    return load


def test_a_kept_model_is_named_by_each_job_that_asks_for_it_and_by_no_other():
    loads = []
    load = warm.kept_warm(2)(loader(loads))
    first = load("a")
    assert weights.hashes() == {"a": "aaaa"}
    warm.new_job()
    assert weights.hashes() == {}
    load("b")
    assert weights.hashes() == {"b": "bbbb"}
    warm.new_job()
    assert load("a") is first and loads == ["a", "b"] and weights.hashes() == {"a": "aaaa"}


def test_what_lies_behind_a_kept_model_is_named_with_it():
    loads = []
    inner = warm.kept_warm(1)(loader(loads))
    outer = warm.kept_warm(1)(lambda name: (name, inner("net")))
    outer("x")
    outer.cache_clear()
    warm.new_job()
    outer("x")  # made anew of a net that was kept
    warm.new_job()
    outer("x")  # kept itself
    assert weights.hashes() == {"net": "netnetnetnet"} and loads == ["net"]


def test_no_more_are_kept_than_was_said():
    loads = []
    load = warm.kept_warm(2)(loader(loads))
    for name in "abca":
        load(name)
    assert loads == ["a", "b", "c", "a"]


def test_weights_of_an_earlier_run_are_named_again_but_not_over_those_of_this_one():
    weights.record("voice", "voice.bin", "new")
    weights.name_again({"voice": "old", "stems": "kept"})
    assert weights.hashes() == {"voice": "new", "stems": "kept"}


def test_a_block_notes_what_it_used_and_takes_nothing_from_the_job():
    weights.record("before", "1", "b")
    with weights.noted() as own:
        weights.record("inside", "2", "i")
    assert list(own) == [("inside", "2")] and weights.hashes() == {"before": "b", "inside": "i"}
