"""Models kept from job to job: loaded once, named in the side-car of every job that asks for them and of no other."""

import pytest

from mouthpiece.engine.weights import model_cache
from mouthpiece.engine.weights.records import record_model, record_models


def loader(loads):
    """A loader that counts how often each name was loaded."""

    def load(name):
        record_model(name, f"{name}.bin", name * 4)
        loads.append(name)
        return [name]

    return load


def hashes_of(load, *names):
    """{name: digest} that a job records which loads these."""
    with record_models() as records:
        for name in names:
            load(name)
    return records.get_hashes()


def test_a_kept_model_is_named_by_each_job_that_asks_for_it_and_by_no_other():
    loads = []
    load = model_cache.cached_model(2)(loader(loads))
    first = load("a")
    assert hashes_of(load, "a") == {"a": "aaaa"}
    assert hashes_of(load) == {}
    assert hashes_of(load, "b") == {"b": "bbbb"}
    assert load("a") is first and loads == ["a", "b"] and hashes_of(load, "a") == {"a": "aaaa"}


def test_what_lies_behind_a_kept_model_is_named_with_it():
    loads = []
    inner = model_cache.cached_model(1)(loader(loads))
    outer = model_cache.cached_model(1)(lambda name: (name, inner("net")))
    outer("x")
    outer.cache_clear()
    assert hashes_of(outer, "x") == {"net": "netnetnetnet"}, "made anew of a net that was kept"
    assert hashes_of(outer, "x") == {"net": "netnetnetnet"}, "kept itself"
    assert loads == ["net"]


def test_no_more_are_kept_than_was_said():
    loads = []
    load = model_cache.cached_model(2)(loader(loads))
    for name in "abca":
        load(name)
    assert loads == ["a", "b", "c", "a"]


@pytest.fixture
def enabled(monkeypatch):
    monkeypatch.setattr(model_cache, "_models", None)
    yield model_cache.enable_model_cache
    # the value from before is put back by monkeypatch


def test_models_are_kept_in_a_process_that_asks_for_it_and_other_weights_are_loaded_anew(
    enabled, monkeypatch, tmp_path
):
    loads = []
    load = loader(loads)
    for _ in range(2):
        model_cache.get_cached_model(load, "a")
    assert loads == ["a", "a"]
    enabled()
    for _ in range(2):
        assert hashes_of(lambda name: model_cache.get_cached_model(load, name), "a") == {"a": "aaaa"}
    assert loads == ["a"] * 3
    monkeypatch.setenv("MOUTHPIECE_WEIGHTS_DIR", str(tmp_path))
    model_cache.get_cached_model(load, "a")
    assert loads == ["a"] * 4
