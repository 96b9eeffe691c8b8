"""`batch`: what is missing is done, once, whoever dies; failures are told and stop nothing."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_jobs

from mouthpiece.batch import driver
from mouthpiece.batch.job_list import read_job_list
from mouthpiece.batch.ledger import Ledger, read_records
from mouthpiece.batch.pool import WorkerPool
from mouthpiece.batch.summary import format_summary, write_summary
from mouthpiece.engine import version
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.progress import Progress
from mouthpiece.json_values import to_json_value

QUIET = Progress("none")
TESTS = str(Path(tiny_jobs.__file__).parent)


def make_pool(workers, count):
    return WorkerPool(min(workers, count), tiny_jobs.run_request, 1)


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """Runs scripts as a batch with local workers; gives the Tally."""
    monkeypatch.setenv("TINY_NOTES", str(tmp_path / "notes"))
    out = tmp_path / "out"
    out.mkdir()

    def batch(scripts=None, workers=1, row=None, **terms):
        jobs = tmp_path / "jobs.jsonl" if scripts is None else tiny_jobs.write_jobs(tmp_path, scripts, **(row or {}))
        items = driver.select_shard(read_job_list(jobs, out, tiny_jobs.USE_CASES), terms.get("shard", (1, 1)))
        return driver.run_batch(items, out, partial(make_pool, workers), QUIET, **terms)

    batch.out, batch.folder = out, tmp_path
    return batch


def runs(batch):
    """Names of outputs in the order in which they were begun."""
    notes = batch.folder / "notes"
    return [line.split()[0] for line in notes.read_text().splitlines()] if notes.exists() else []


def states(batch):
    return [record["state"] for record in read_records(batch.out / "results.jsonl") if record["state"] != "started"]


def test_everything_is_done_once_and_nothing_again(batch):
    first = batch(["ok", "ok 1", "ok 2"], workers=2)
    assert (len(first.done), first.skipped, first.failed) == (3, 0, []) and sorted(runs(batch)) == [
        "0.wav",
        "1.wav",
        "2.wav",
    ]
    again = batch()
    assert (len(again.done), again.skipped) == (0, 3) and len(runs(batch)) == 3
    assert states(batch) == ["done"] * 3


def test_only_what_changed_or_is_gone_is_done_again(batch):
    batch(["ok", "ok 1", "ok 2", "ok 3"])
    (batch.folder / "1.srt").write_text("ok 9")
    (batch.out / "2.wav").unlink()
    (batch.out / "3.wav").write_text("touched by someone")
    assert batch().skipped == 1 and runs(batch)[4:] == ["1.wav", "2.wav", "3.wav"]
    os.utime(batch.out / "0.wav")
    assert batch().skipped == 4, "another time on the same contents is no change"
    assert len(batch(["ok", "ok 9", "ok 2", "ok 3"], row={"seed": 7}).done) == 4, "another option is another result"


def test_a_failure_stops_nothing_and_is_told_whole(batch):
    tally = batch(["ok", "refuse", "ok 1"])
    assert len(tally.done) == 2 and tally.get_exit_code() == 6
    summary = to_json_value(tally.as_dict())
    row = summary["failures"][0]
    assert (row["id"], row["line"], row["error"]["kind"], row["tries"]) == ("n1", 2, "refused", 1)
    assert summary["output_s"] == 4.0 and summary["output_s_per_work_s"] > 0
    assert "line 2 n1: failed, refused: bad script. Write another." in format_summary(summary)
    assert len(batch().failed) == 1 and runs(batch).count("1.wav") == 2, "what failed is tried in the next run"
    assert len(batch(only_failed=True).failed) == 1 and runs(batch).count("0.wav") == 1
    write_summary(batch.out, summary)
    assert json.loads((batch.out / "summary.json").read_text())["failed"] == 1


def test_a_failure_that_may_pass_is_tried_again_within_the_limit(batch):
    assert batch(["full-once"], max_retries=0).failed[0]["error"]["code"] == "disk_full"
    (batch.out / "0.full").unlink()
    tally = batch(max_retries=1)
    assert tally.done[0]["tries"] == 2 and tally.failed == []


def test_a_worker_that_dies_costs_one_try_and_leaves_no_half_file(batch):
    tally = batch(["ok", "die-once", "ok 1", "ok 2"], workers=2)
    assert len(tally.done) == 4 and tally.get_exit_code() == 0
    batch_again = batch()
    assert batch_again.skipped == 4
    (batch.out / "1.wav").unlink()
    batch()
    assert [path.name for path in batch.out.iterdir() if ".part-" in path.name] == []


def test_an_item_that_kills_two_workers_is_left_alone_until_asked_for(batch):
    tally = batch(["ok", "die"], max_retries=9)
    assert [record["state"] for record in tally.failed] == ["quarantined"] and len(tally.done) == 1
    assert runs(batch).count("1.wav") == 2 and tally.as_dict()["quarantined"] == 1
    assert len(batch().failed) == 1 and runs(batch).count("1.wav") == 2, "a quarantined item is told, not run"
    batch(only_failed=True)
    assert runs(batch).count("1.wav") == 4


def test_a_line_cut_off_at_the_end_of_the_ledger_is_passed_over(batch):
    batch(["ok", "ok 1"])
    path = batch.out / "results.jsonl"
    whole = path.read_bytes()
    for cut in (1, 30, len(whole.splitlines(True)[-1]) - 1):
        path.write_bytes(whole[:-cut])
        tally = batch()
        assert (len(tally.done), tally.skipped) in ((1, 1), (0, 2)), cut
        assert batch().skipped == 2
    path.write_bytes(b"\xff\xfe nonsense\n[]\n" + whole)
    assert batch().skipped == 2


def test_files_that_no_batch_made_are_not_replaced_unless_asked(batch):
    (batch.out / "1.wav").write_text("precious")
    with pytest.raises(UsageError, match="line 2: .*1.wav is already there"):
        batch(["ok", "ok 1"])
    assert (batch.out / "1.wav").read_text() == "precious" and runs(batch) == []
    assert len(batch(force=True).done) == 2


def test_shards_share_a_folder_and_together_do_everything_once(batch):
    scripts = [f"ok {number}" for number in range(7)]
    counts = [len(batch(scripts, shard=(k, 3)).done) for k in (1, 2, 3)]
    assert counts == [3, 2, 2] and sorted(runs(batch)) == sorted(f"{number}.wav" for number in range(7))
    assert batch().skipped == 7, "who takes all reads the ledgers of all"


def test_two_runs_in_one_folder_are_refused(batch):
    with Ledger(batch.out):
        with pytest.raises(InvalidInputError, match="another run is at work there"):
            batch(["ok"])
    assert len(batch().done) == 1


def test_an_input_that_changes_within_the_clock_s_grain_is_read_again(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    os.utime(path, ns=(10**18, 10**18))
    with Ledger(tmp_path) as ledger:
        row = ledger.compute_fingerprint(path)
        ledger.append({"state": "done", "key": "k", "inputs": [row]})
        path.write_text("2")
        os.utime(path, ns=(10**18, 10**18))
        assert ledger.compute_fingerprint(path) == row, "old enough: size and time are believed"
        fresh = tmp_path / "b"
        fresh.write_text("1")
        ledger.append({"state": "done", "key": "k", "inputs": [ledger.compute_fingerprint(fresh)]})
        kept = fresh.stat().st_mtime_ns
        fresh.write_text("2")
        os.utime(fresh, ns=(kept, kept))
        assert (
            ledger.compute_fingerprint(fresh)["sha256"]
            != "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
        )


def test_workers_have_their_threads_set_and_stay_warm(batch):
    batch(["ok", "ok 1", "ok 2"], workers=1)
    assert len({line.split()[1] for line in (batch.folder / "notes").read_text().splitlines()}) == 1
    crew = WorkerPool(1, tiny_jobs.run_request, 3)
    item = read_job_list(batch.folder / "jobs.jsonl", batch.folder / "elsewhere", tiny_jobs.USE_CASES)[0]
    try:
        request = replace(item.request, settings=replace(item.request.settings, dry_run=True))
        crew.submit(SimpleNamespace(request=request))
        reports = []
        while not reports:
            reports = crew.collect(1)
        assert reports[0].document["result"]["threads"] == "3" and os.environ.get("OMP_NUM_THREADS") != "3"
    finally:
        crew.close()


def test_results_of_another_schema_release_or_weights_are_made_again(batch, monkeypatch, tmp_path):
    batch(["ok"])
    assert batch().skipped == 1
    for name, value in (("CACHE_SCHEMA", version.CACHE_SCHEMA + 1), ("__version__", "9.9")):
        monkeypatch.setattr(version, name, value)
        assert (len(batch().done), batch().skipped) == (1, 1), name
    monkeypatch.setenv("MOUTHPIECE_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "core.safetensors").write_text("other")
    assert (len(batch().done), batch().skipped) == (1, 1)


DRIVER = """
import sys; sys.path[:0] = {paths!r}
if __name__ == "__main__":
    import tiny_jobs
    from mouthpiece.batch import driver
    from mouthpiece.batch.job_list import read_job_list
    from mouthpiece.batch.pool import WorkerPool
    from mouthpiece.engine.progress import Progress
    items = read_job_list({jobs!r}, {out!r}, tiny_jobs.USE_CASES)
    make_pool = lambda count: WorkerPool(2, tiny_jobs.run_request, 1)
    sys.exit(driver.run_batch(items, {out!r}, make_pool, Progress("none")).get_exit_code())
"""


@pytest.fixture
def started(tmp_path):
    """A driver in a process of its own, at work on slow items; gives the process."""

    def started(scripts, count):
        jobs, out = tiny_jobs.write_jobs(tmp_path, scripts), tmp_path / "out"
        out.mkdir(exist_ok=True)
        paths = [str(Path(driver.__file__).parents[2]), TESTS]
        (tmp_path / "driver.py").write_text(DRIVER.format(paths=paths, jobs=str(jobs), out=str(out)))
        environment = os.environ | {"TINY_NOTES": str(tmp_path / "notes")}
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "driver.py")], env=environment, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "notes").exists() or len((tmp_path / "notes").read_text().splitlines()) < count:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        return process

    return started


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").is_dir() else True


def test_after_the_driver_is_killed_its_workers_leave_and_the_next_run_does_the_rest(started, batch):
    scripts = ["ok", "ok 1", *[f"slow 30 {number}" for number in range(2)], "ok 4"]
    process = started(scripts, 4)
    pids = {int(line.split()[1]) for line in (batch.folder / "notes").read_text().splitlines()}
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "orphans go on"
        time.sleep(0.05)
    before = len(runs(batch))
    scripts[2:4] = ["ok a", "ok b"]
    tally = batch(scripts)
    assert tally.skipped == 2 and sorted(runs(batch)[before:]) == ["2.wav", "3.wav", "4.wav"] and len(tally.done) == 3


def test_ctrl_c_once_finishes_what_runs_and_twice_stops(started, batch):
    process = started([f"slow 1.5 {number}" for number in range(6)], 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130 and states(batch) == ["done", "done"]
    for path in batch.out.glob("*.wav"):
        path.unlink()
    (batch.folder / "notes").unlink()
    process = started([f"slow 60 {number}" for number in range(3)], 2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT and list(batch.out.glob("*.wav")) == []


def test_no_worker_is_left_behind(batch):
    batch(["ok", "die-once"], workers=2)
    assert multiprocessing.active_children() == []
