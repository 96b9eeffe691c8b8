"""Records of models: what a job used is named by its side-car, and by no other job's."""

import threading
from contextvars import copy_context
from importlib.metadata import version
from pathlib import Path

from mouthpiece.engine.files import compute_sha256
from mouthpiece.engine.weights.records import (
    ModelRecord,
    add_model_hashes,
    get_model_hashes,
    record_model,
    record_models,
    record_packaged_model,
)


def test_networks_in_installed_packages_are_named_with_version_and_digest():
    with record_models() as records:
        record_packaged_model("silero_vad", ("data/silero_vad.onnx", "data/none.onnx"))
        record_packaged_model("no_such_package", ("net.onnx",))
    (record,) = records
    assert record.name == f"silero-vad {version('silero-vad')} silero_vad.onnx"
    assert Path(record.path).parts[-3:] == ("silero_vad", "data", "silero_vad.onnx")
    assert record.sha256 == compute_sha256(record.path)


def test_nothing_is_recorded_outside_of_a_job():
    record_model("stray", "stray.bin", "s")
    add_model_hashes({"other": "o"})
    assert get_model_hashes() == {}


def test_a_model_used_twice_is_named_once_with_its_last_digest():
    with record_models() as records:
        record_model("a", "a.bin", "1")
        record_model("b", "b.bin", "2")
        record_model("a", "a.bin", "3")
    assert list(records) == [ModelRecord("a", "a.bin", "3"), ModelRecord("b", "b.bin", "2")]


def test_weights_of_an_earlier_run_are_named_again_but_not_over_those_of_this_one():
    with record_models():
        record_model("voice", "voice.bin", "new")
        add_model_hashes({"voice": "old", "stems": "kept"})
        assert get_model_hashes() == {"voice": "new", "stems": "kept"}


def test_a_block_records_what_it_used_and_passes_it_on_to_the_job():
    with record_models():
        record_model("before", "1", "b")
        with record_models() as inner:
            assert get_model_hashes() == {}
            record_model("inside", "2", "i")
        assert inner.get_hashes() == {"inside": "i"} and get_model_hashes() == {"before": "b", "inside": "i"}


def test_a_block_that_fails_passes_on_what_it_used():
    with record_models() as outer:
        try:
            with record_models():
                record_model("a", "a.bin", "1")
                raise OSError
        except OSError:
            pass
    assert outer.get_hashes() == {"a": "1"} and get_model_hashes() == {}


def test_jobs_in_two_threads_do_not_mix_and_a_copied_context_belongs_to_its_job():
    found, barrier = {}, threading.Barrier(2)

    def job(name):
        with record_models() as records:
            barrier.wait(10)
            worker = threading.Thread(target=copy_context().run, args=(record_model, name, f"{name}.bin", name))
            worker.start()
            worker.join()
            barrier.wait(10)
        found[name] = records.get_hashes()

    threads = [threading.Thread(target=job, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"a": {"a": "a"}, "b": {"b": "b"}}
