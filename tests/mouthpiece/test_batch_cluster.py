"""`batch` on a real local Ray cluster and through submitit's local executor: the same driver, the same ledger."""

import os
from pathlib import Path

import pytest
import tiny_jobs

from mouthpiece.batch import cluster, driver
from mouthpiece.batch.job_list import read_job_list
from mouthpiece.batch.run import BatchOptions, BatchRequest, run_on_slurm
from mouthpiece.batch.summary import collect_shards
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.progress import Progress

HERE = str(Path(tiny_jobs.__file__).parent)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, str(Path(driver.__file__).parents[2])]))
    (tmp_path / "out").mkdir()
    return tmp_path


def begun(desk):
    return [line.split()[0] for line in (desk / "notes").read_text().splitlines()]


def test_ray_does_the_same_and_an_actor_that_dies_is_replaced(desk, monkeypatch):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    jobs, out = tiny_jobs.write_jobs(desk, ["ok", "die-once", "ok 2", "refuse", "die"]), desk / "out"
    items = read_job_list(jobs, out, tiny_jobs.USE_CASES)

    def crew_of(count):
        return cluster.RayPool(min(2, count), tiny_jobs.run_request, 1)

    tally = driver.run_batch(items, out, crew_of, Progress("none"), max_retries=5)
    assert sorted(record["id"] for record in tally.done) == ["n0", "n1", "n2"]
    assert sorted((record["id"], record["state"]) for record in tally.failed) == [
        ("n3", "failed"),
        ("n4", "quarantined"),
    ]
    assert next(record for record in tally.done if record["id"] == "n1")["tries"] == 2
    assert driver.run_batch(items[:3], out, crew_of, Progress("none")).skipped == 3
    import ray

    assert not ray.is_initialized(), "a cluster that was started here is stopped here"


def test_submitit_runs_the_shards_as_jobs_and_their_ledgers_are_counted(desk):
    pytest.importorskip("submitit", reason="submitit is not installed")
    jobs, out = tiny_jobs.write_jobs(desk, ["ok", "ok 1", "refuse", "die-once"]), desk / "out"
    items = read_job_list(jobs, out, tiny_jobs.USE_CASES)
    request = BatchRequest(jobs, out, BatchOptions(cluster="slurm", workers=2), {})
    tally = run_on_slurm(items, request, tiny_jobs.run_request, 2, cluster="local")
    assert sorted(record["id"] for record in tally.done) == ["n0", "n1", "n3"], tally
    assert [(record["id"], record["error"]["code"]) for record in tally.failed] == [
        ("n2", "bad")
    ] and tally.get_exit_code() == 6
    assert sorted(path.name for path in out.glob("results*.jsonl")) == ["results-1of2.jsonl", "results-2of2.jsonl"]
    again = run_on_slurm(items, request, tiny_jobs.run_request, 2, cluster="local")
    assert again.skipped == 3 and begun(desk).count("0.wav") == 1


def test_what_a_job_of_the_queue_left_undone_is_told(desk):
    items = read_job_list(tiny_jobs.write_jobs(desk, ["ok", "ok 1"]), desk / "out", tiny_jobs.USE_CASES)
    tally = collect_shards(items, desk / "out", {"n0"}, ["job 7: out of time"])
    assert tally.skipped == 1 and "out of time" in tally.failed[0]["error"]["message"] and tally.failed[0]["id"] == "n1"


def test_settings_of_the_queue_that_are_none_are_refused(desk):
    pytest.importorskip("submitit", reason="submitit is not installed")
    for options, wanted in (("partition", "is not name=value"), ("wings=2", "--queue wings=2")):
        with pytest.raises(UsageError, match=wanted):
            cluster.submit_shards(print, [(1,)], desk / "out", options, "local")
