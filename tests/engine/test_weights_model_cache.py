"""Models kept from job to job: loaded once, named in the side-car of every job that asks for them and of no other."""

import pytest

from mouthpiece.engine.weights import loading, model_cache


@pytest.fixture(autouse=True)
def record_of_this_process():
    """What this process is said to have used is left as it was."""
    before = loading.get_records()
    model_cache.reset_model_records()
    yield
    loading.restore_records(before)


def loader(loads):
    """A loader that counts how often each name was loaded."""

    def load(name):
        loading.record_model(name, f"{name}.bin", name * 4)
        loads.append(name)
        return [name]

    return load


def test_a_kept_model_is_named_by_each_job_that_asks_for_it_and_by_no_other():
    loads = []
    load = model_cache.cached_model(2)(loader(loads))
    first = load("a")
    assert loading.get_model_hashes() == {"a": "aaaa"}
    model_cache.reset_model_records()
    assert loading.get_model_hashes() == {}
    load("b")
    assert loading.get_model_hashes() == {"b": "bbbb"}
    model_cache.reset_model_records()
    assert load("a") is first and loads == ["a", "b"] and loading.get_model_hashes() == {"a": "aaaa"}


def test_what_lies_behind_a_kept_model_is_named_with_it():
    loads = []
    inner = model_cache.cached_model(1)(loader(loads))
    outer = model_cache.cached_model(1)(lambda name: (name, inner("net")))
    outer("x")
    outer.cache_clear()
    model_cache.reset_model_records()
    outer("x")  # made anew of a net that was kept
    model_cache.reset_model_records()
    outer("x")  # kept itself
    assert loading.get_model_hashes() == {"net": "netnetnetnet"} and loads == ["net"]


def test_no_more_are_kept_than_was_said():
    loads = []
    load = model_cache.cached_model(2)(loader(loads))
    for name in "abca":
        load(name)
    assert loads == ["a", "b", "c", "a"]


def test_weights_of_an_earlier_run_are_named_again_but_not_over_those_of_this_one():
    loading.record_model("voice", "voice.bin", "new")
    loading.add_records({"voice": "old", "stems": "kept"})
    assert loading.get_model_hashes() == {"voice": "new", "stems": "kept"}


def test_a_block_notes_what_it_used_and_takes_nothing_from_the_job():
    loading.record_model("before", "1", "b")
    with loading.record_models() as own:
        loading.record_model("inside", "2", "i")
    assert list(own) == [("inside", "2")] and loading.get_model_hashes() == {"before": "b", "inside": "i"}
