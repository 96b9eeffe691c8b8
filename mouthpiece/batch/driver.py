"""A batch from its items to its summary: what is done is skipped, what fails is told, nothing stops the rest."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.batch.job_list import compute_item_key
from mouthpiece.batch.ledger import DONE, FAILED, QUARANTINED, STARTED, Ledger, describe_output
from mouthpiece.engine.errors import ExitCode, UsageError
from mouthpiece.engine.version import get_code_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from mouthpiece.batch.job_list import BatchItem
    from mouthpiece.batch.pool import ItemResult
    from mouthpiece.engine.progress import Progress

MAX_WORKER_DEATHS = 2  # an item that kills so many workers is not tried again


@dataclass
class PendingItem:
    """An item on its way: its key, its inputs' fingerprints, how often it was tried and how many workers died of it."""

    item: object
    key: str
    inputs: list
    tries: int = 0
    worker_deaths: int = 0

    @property
    def argv(self) -> tuple[str, ...]:
        """Words for a worker; an output of ours that is in the way is replaced."""
        return (*self.item.argv, "--force", "--quiet")


@dataclass
class BatchSummary:
    """What became of the items. Lists hold records as the ledger keeps them; skipped and left are counts."""

    done: list = field(default_factory=list)
    failed: list = field(default_factory=list)
    skipped: int = 0
    left: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def run_batch(
    items: list[BatchItem],
    folder: Path,
    make_pool: Callable,
    progress: Progress,
    *,
    shard: tuple[int, int] = (1, 1),
    max_retries: int = 2,
    only_failed: bool = False,
    force: bool = False,
) -> BatchSummary | None:
    """The Tally of a batch, after doing what is missing.

    items: from manifest.read_manifest.  folder: Path, there and writable.
    crew_of: callable that gives a Crew for a number of items.  progress: Progress.
    shard: (k, n): only every n-th item, from the k-th.  max_retries: how often an item is tried again after a failure
    that may pass.
    only_failed: only items that failed in an earlier run, quarantined ones too.
    force: True lets files be replaced that no batch is known to have made.
    Raises UsageProblem for such files, what Ledger raises; KeyboardInterrupt when stopped twice.
    Source: ours; docs/batch.md.
    """
    started, tally = time.monotonic(), BatchSummary()
    folder = Path(os.path.realpath(folder))
    items = items[shard[0] - 1 :: shard[1]]
    with Ledger(folder, shard) as ledger:
        jobs = find_pending(items, folder, ledger, tally, only_failed)
        _reject_foreign_outputs(jobs, folder, ledger, force)
        with _handle_interrupts() as asked, progress.stage("batch", len(jobs), "items") as advance:
            if jobs:
                _run_pending(deque(jobs), (ledger, folder, max_retries), make_pool, tally, (asked, advance, progress))
    tally.seconds = time.monotonic() - started
    return tally


def find_pending(
    items: list[BatchItem], folder: Path, ledger: Ledger, tally: BatchSummary, only_failed: bool
) -> list[PendingItem]:
    """The Jobs of what is not done; the rest is counted in the tally.

    items, folder, only_failed: as for run_batch.  ledger: Ledger that has been read.  tally: Tally.
    """
    jobs = []
    for item in items:
        try:
            inputs = [ledger.compute_fingerprint(path) for path in item.inputs]
        except OSError as error:
            error = {
                "kind": "refused",
                "code": "no_such_file",
                "message": f"{error.filename}: {error.strerror}.",
                "hint": "Was it removed meanwhile?",
            }
            tally.failed.append(_make_record(item, folder, state=FAILED, error=error))
            continue
        key = compute_item_key(item, folder, [row["sha256"] for row in inputs], get_code_version())
        last = ledger.last.get(key, {})
        if ledger.is_done(key, item.output) or only_failed and last.get("state") not in (FAILED, QUARANTINED):
            tally.skipped += 1
        elif last.get("state") == QUARANTINED and not only_failed:
            tally.failed.append(last)
        else:
            jobs.append(PendingItem(item, key, inputs))
    return jobs


def _reject_foreign_outputs(jobs: list[PendingItem], folder: Path, ledger: Ledger, force: bool) -> None:
    """Files in the way that no batch made are the user's; parts that a killed run left are not."""
    foreign = [
        job.item
        for job in jobs
        if job.item.output.exists() and _get_output_name(job.item, folder) not in ledger.started
    ]
    if foreign and not force:
        told = "".join(f"\n  line {item.line}: {item.output} is already there" for item in foreign[:200])
        hint = "Move it away, or use --force to replace it."
        raise UsageError(
            f"{folder}: {len(foreign)} output(s) in the way, not made by this batch:{told}\n",
            hint=hint,
            code="output_exists",
        )
    for job in jobs:
        output = job.item.output
        output.parent.mkdir(parents=True, exist_ok=True)
        for part in output.parent.glob(f".{_escape_glob(output.stem)}.part-*"):
            part.unlink(missing_ok=True)


def _escape_glob(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _get_output_name(item: BatchItem, folder: Path) -> str:
    return item.output.relative_to(folder).as_posix()


def _make_record(item: BatchItem, folder: Path, **more) -> dict[str, Any]:
    return {"id": item.id, "line": item.line, "command": item.command, "output": _get_output_name(item, folder)} | more


def _run_pending(
    waiting,
    terms: tuple[Ledger, Path, int],
    make_pool: Callable,
    tally: BatchSummary,
    watch: tuple[_StopRequest, Callable, Progress],
) -> None:
    """Gives jobs to a crew until none waits and none runs."""
    ledger, folder, _ = terms
    asked, advance, progress = watch
    running, told = 0, False
    crew = make_pool(len(waiting))
    try:
        while running or waiting and not asked.stop:
            if asked.stop and not told:
                progress.note(f"stopping: {running} running items are finished; once more to stop at once")
                told = True
            while waiting and crew.free() and not asked.stop:
                job = waiting.popleft()
                job.tries += 1
                ledger.append(_make_record(job.item, folder, state=STARTED))
                crew.submit(job)
                running += 1
            for report in crew.collect(0.2):
                running -= 1
                if _record_result(report, terms, tally):
                    waiting.append(report.item)
                else:
                    advance(1)
    except BaseException:
        crew.close(now=True)
        raise
    crew.close()
    tally.left, tally.interrupted = len(waiting), asked.stop


def _record_result(report: ItemResult, terms: tuple[Ledger, Path, int], tally: BatchSummary) -> bool:
    """Records how an item ended; True when it is to be tried again."""
    (ledger, folder, max_retries), job = terms, report.item
    facts = {"key": job.key, "inputs": job.inputs, "seconds": round(report.seconds, 4), "tries": job.tries}
    if report.code == ExitCode.DONE and job.item.output.is_file():
        result = report.document.get("result")
        measured = result.get("facts", {}) if isinstance(result, dict) else {}
        facts |= describe_output(job.item.output) | {"duration_s": measured.get("duration_s")}
        record = _make_record(job.item, folder, state=DONE, **facts)
        ledger.append(record)
        tally.done.append(record)
        return False
    job.worker_deaths += report.code is None
    error = _get_error(report)
    quarantined = job.worker_deaths >= MAX_WORKER_DEATHS
    if not quarantined and error["retryable"] and job.tries <= max_retries:
        return True
    record = _make_record(job.item, folder, state=QUARANTINED if quarantined else FAILED, error=error, **facts)
    ledger.append(record)
    tally.failed.append(record)
    return False


def _get_error(report: ItemResult) -> dict[str, str]:
    """The error of a report in the shape of all errors."""
    if report.code is None:
        hint = "Out of memory? Try fewer --workers. An item that kills two workers is left alone until --only-failed."
        return {"kind": "crash", "code": "worker_died", "message": "its worker died.", "hint": hint, "retryable": True}
    error = dict(report.document.get("error") or {})
    if not error:
        error = {"kind": "internal", "code": "no_output", "message": f"ended with {report.code} and without an output."}
    error.setdefault("hint", "")
    error["retryable"] = bool(error.get("retryable")) or error.get("kind") == "internal"
    return error


class _StopRequest:
    stop = False


@contextmanager
def _handle_interrupts() -> Iterator[_StopRequest]:
    """Within it the first Ctrl-C only sets `stop`; the second interrupts."""
    asked = _StopRequest()

    def handle(number, frame):
        if asked.stop:
            raise KeyboardInterrupt
        asked.stop = True

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def summarize_batch(tally: BatchSummary) -> dict[str, int]:
    """What a batch came to, JSON-ready: counts, failures, seconds, and seconds of output per second of work.

    tally: Tally.
    """
    work_s = sum(record["seconds"] for record in tally.done)
    output_s = sum(record["duration_s"] or 0 for record in tally.done)
    failures = [
        {key: record.get(key) for key in ("id", "line", "command", "output", "state", "tries")}
        | {"error": record["error"]}
        for record in tally.failed
    ]
    return {
        "done": len(tally.done), "skipped": tally.skipped, "failed": len(failures), "left": tally.left,
        "quarantined": sum(record["state"] == QUARANTINED for record in failures),
        "seconds": round(tally.seconds, 3), "work_s": round(work_s, 3), "output_s": round(output_s, 3),
        "output_s_per_work_s": round(output_s / work_s, 4) if work_s else None,
        "failures": failures,
    }  # fmt: skip


def format_summary(summary: dict[str, int]) -> str:
    """The same as a table for people."""
    heads = ("done", "skipped", "failed", "quarantined", "left")
    lines = ["  ".join(f"{head:>11}" for head in heads), "  ".join(f"{summary[head]:>11}" for head in heads)]
    if summary["output_s_per_work_s"] is not None:
        lines += [
            f"{summary['output_s']:.1f} s of output in {summary['work_s']:.1f} s of work: {summary['output_s_per_work_s']:.3f} s per second"
        ]
    for row in summary["failures"]:
        error = row["error"]
        lines += [
            f"line {row['line']} {row['id']}: {row['state']}, {error['kind']}: {error['message']} {error['hint']}".rstrip()
        ]
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def get_exit_code(tally: BatchSummary) -> ExitCode:
    """The ExitCode of a batch."""
    if tally.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.PARTLY if tally.failed else ExitCode.DONE


def find_finished_ids(items, folder):
    """Ids of the items that need nothing, by what the ledgers of a folder say now."""
    tally = BatchSummary()
    left = {
        job.item.id for job in find_pending(items, Path(os.path.realpath(folder)), Ledger(folder).read(), tally, False)
    }
    return {item.id for item in items if item.id not in left}


def collect_shards(items, folder, before, problems):
    """The Tally of a run whose shards kept ledgers of their own.

    items, folder: as for run_batch.  before: ids that needed nothing, from `states`.
    problems: sentences on shards that did not end well; what they left undone is told as failed.
    """
    folder, tally = Path(os.path.realpath(folder)), BatchSummary()
    records = {record["id"]: record for record in Ledger(folder).read().last.values()}
    for item in items:
        record = records.get(item.id, {})
        if item.id in before:
            tally.skipped += 1
        elif record.get("state") == DONE:
            tally.done.append(record)
        elif record:
            tally.failed.append(record)
        else:
            error = {
                "kind": "cluster",
                "code": "not_run",
                "message": f"was not run ({'; '.join(problems) or 'its job ended early'}).",
                "hint": "Run it again.",
            }
            tally.failed.append(_make_record(item, folder, state=FAILED, error=error))
    return tally


def write_summary(folder: Path, summary: dict[str, int], shard: tuple[int, int] = (1, 1)) -> None:
    """Writes summary.json into the folder of a batch, or that of a shard."""
    from mouthpiece.engine.files import atomic_write

    name = "summary.json" if shard[1] == 1 else f"summary-{shard[0]}of{shard[1]}.json"
    with atomic_write(Path(folder) / name, overwrite=True) as part:
        part.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
