"""A batch from its items to its summary: finished items are skipped, failures are reported and stop nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mouthpiece.batch.job_list import compute_item_key
from mouthpiece.batch.ledger import DONE, FAILED, QUARANTINED, STARTED, Ledger, describe_output
from mouthpiece.batch.summary import BatchSummary, get_output_name, make_record
from mouthpiece.engine.errors import ExitCode, UsageError
from mouthpiece.engine.version import get_code_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mouthpiece.batch.job_list import BatchItem
    from mouthpiece.batch.pool import ItemResult, Pool
    from mouthpiece.engine.progress import Progress
    from mouthpiece.request import Request

MAX_WORKER_DEATHS = 2  # an item that kills so many workers is not tried again
_MAX_REPORTED = 200  # outputs in the way that are listed
_POLL_S = 0.2  # between two looks at the workers


@dataclass
class PendingItem:
    """An item that is not done yet.

    item: as in the batch file.  key: of its result.  inputs: fingerprints of its inputs, as the ledger keeps them.
    tries: how often it was started.  worker_deaths: how many workers died with it.
    """

    item: BatchItem
    key: str
    inputs: list[dict[str, Any]]
    tries: int = 0
    worker_deaths: int = 0

    @property
    def request(self) -> Request:
        """Return the Request for a worker: one of the batch's own outputs that is in the way is replaced."""
        request = self.item.request
        return replace(request, settings=replace(request.settings, overwrite=True))


def select_shard(items: Sequence[BatchItem], shard: tuple[int, int]) -> Sequence[BatchItem]:
    """Return every n-th item from the k-th. shard: (k, n), k from 1."""
    return items[shard[0] - 1 :: shard[1]]


def run_batch(
    items: Sequence[BatchItem],
    folder: Path | str,
    make_pool: Callable[[int], Pool],
    progress: Progress,
    *,
    shard: tuple[int, int] = (1, 1),
    max_retries: int = 2,
    only_failed: bool = False,
    force: bool = False,
) -> BatchSummary:
    """Run what is missing of a batch; return its summary.

    items: from job_list.read_job_list; of a shard its own.
    folder: of the batch; exists and is writable.
    make_pool: makes the Pool for a number of items.
    shard: (k, n) names the ledger of this run.
    max_retries: how often an item is tried again after a failure that may pass.
    only_failed: only items that failed in an earlier run, quarantined ones too.
    force: let files be replaced that no batch is known to have made.
    Raises UsageError for such files, what Ledger raises, and KeyboardInterrupt when stopped twice.
    """
    started, summary = time.monotonic(), BatchSummary()
    folder = Path(os.path.realpath(folder))
    with Ledger(folder, shard) as ledger:
        pending = find_pending(items, folder, ledger, summary, only_failed)
        _reject_foreign_outputs(pending, folder, ledger, force)
        with _handle_interrupts() as stop, progress.stage("batch", len(pending), "items") as advance:
            if pending:
                run = _BatchRun(folder, ledger, summary, max_retries, stop, progress)
                run.run_all(deque(pending), make_pool(len(pending)), advance)
    summary.seconds = time.monotonic() - started
    return summary


def find_pending(
    items: Sequence[BatchItem], folder: Path, ledger: Ledger, summary: BatchSummary, only_failed: bool
) -> list[PendingItem]:
    """Return the items that are not done; count the others in the summary.

    items, folder, only_failed: as for run_batch.  ledger: one that has been read.
    """
    pending, version = [], get_code_version()
    for item in items:
        try:
            inputs = [ledger.compute_fingerprint(path) for path in item.inputs]
        except OSError as error:
            facts = {
                "kind": "refused",
                "code": "no_such_file",
                "message": f"{error.filename}: {error.strerror}.",
                "hint": "Was it removed meanwhile?",
            }
            summary.failed.append(make_record(item, folder, state=FAILED, error=facts))
            continue
        key = compute_item_key(item, folder, [row["sha256"] for row in inputs], version)
        state = ledger.latest_records.get(key, {}).get("state")
        if ledger.is_done(key, item.output) or only_failed and state not in (FAILED, QUARANTINED):
            summary.skipped += 1
        elif state == QUARANTINED and not only_failed:
            summary.failed.append(ledger.latest_records[key])
        else:
            pending.append(PendingItem(item, key, inputs))
    return pending


def _reject_foreign_outputs(pending: list[PendingItem], folder: Path, ledger: Ledger, force: bool) -> None:
    """Reject files in the way that no batch made; remove the parts of outputs that a killed run left.

    Raises UsageError that lists such files, unless force is set.
    """
    foreign = [
        one.item
        for one in pending
        if one.item.output.exists() and get_output_name(one.item, folder) not in ledger.started_outputs
    ]
    if foreign and not force:
        listed = "".join(f"\n  line {item.line}: {item.output} is already there" for item in foreign[:_MAX_REPORTED])
        raise UsageError(
            f"{folder}: {len(foreign)} output(s) in the way, not made by this batch:{listed}\n",
            hint="Move it away, or use --force to replace it.",
            code="output_exists",
        )
    for one in pending:
        output = one.item.output
        output.parent.mkdir(parents=True, exist_ok=True)
        for part in output.parent.glob(f".{_escape_glob(output.stem)}.part-*"):
            part.unlink(missing_ok=True)


def _escape_glob(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


class _StopRequest:
    """Whether the user asked to stop. requested: no new item is started; those at work are finished."""

    requested = False


@dataclass
class _BatchRun:
    """What the items of one run share.

    folder: of the batch.  ledger: open for appending.  summary: filled as items end.
    max_retries: how often an item is tried again.  stop: whether the user asked to stop.
    """

    folder: Path
    ledger: Ledger
    summary: BatchSummary
    max_retries: int
    stop: _StopRequest
    progress: Progress

    def run_all(self, waiting: deque[PendingItem], pool: Pool, advance: Callable[[int], object]) -> None:
        """Submit items to a pool until none waits and none runs. advance: called with how many items ended."""
        running, announced = 0, False
        try:
            while running or waiting and not self.stop.requested:
                if self.stop.requested and not announced:
                    self.progress.note(f"stopping: {running} running items are finished; once more to stop at once")
                    announced = True
                while waiting and pool.count_idle() and not self.stop.requested:
                    pending = waiting.popleft()
                    pending.tries += 1
                    self.ledger.append(make_record(pending.item, self.folder, state=STARTED))
                    pool.submit(pending)
                    running += 1
                for result in pool.collect(_POLL_S):
                    running -= 1
                    if self.record_result(result):
                        waiting.append(result.item)
                    else:
                        advance(1)
        except BaseException:
            pool.close(now=True)
            raise
        pool.close()
        self.summary.left, self.summary.interrupted = len(waiting), self.stop.requested

    def record_result(self, result: ItemResult) -> bool:
        """Record how an item ended; return True when it is to be tried again."""
        pending: PendingItem = result.item
        item = pending.item
        facts = {
            "key": pending.key,
            "inputs": pending.inputs,
            "seconds": round(result.seconds, 4),
            "tries": pending.tries,
        }
        if result.code == ExitCode.DONE and item.output.is_file():
            document = result.document.get("result")
            measured = document.get("facts", {}) if isinstance(document, dict) else {}
            facts |= describe_output(item.output) | {"duration_s": measured.get("duration_s")}
            record = make_record(item, self.folder, state=DONE, **facts)
            self.ledger.append(record)
            self.summary.done.append(record)
            return False
        pending.worker_deaths += result.code is None
        error = _get_error(result)
        quarantined = pending.worker_deaths >= MAX_WORKER_DEATHS
        if not quarantined and error["retryable"] and pending.tries <= self.max_retries:
            return True
        state = QUARANTINED if quarantined else FAILED
        record = make_record(item, self.folder, state=state, error=error, **facts)
        self.ledger.append(record)
        self.summary.failed.append(record)
        return False


def _get_error(result: ItemResult) -> dict[str, Any]:
    """Return the error of a result in the shape of all errors."""
    if result.code is None:
        hint = "Out of memory? Try fewer --workers. An item that kills two workers is left alone until --only-failed."
        return {"kind": "crash", "code": "worker_died", "message": "its worker died.", "hint": hint, "retryable": True}
    error = dict(result.document.get("error") or {})
    if not error:
        message = f"ended with {result.code} and without an output."
        error = {"kind": "internal", "code": "no_output", "message": message}
    error.setdefault("hint", "")
    error["retryable"] = bool(error.get("retryable")) or error.get("kind") == "internal"
    return error


@contextmanager
def _handle_interrupts() -> Iterator[_StopRequest]:
    """Let the first Ctrl-C only request a stop, which the second makes immediate: a context that gives the request."""
    stop = _StopRequest()

    def handle(number: int, frame: object) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def find_finished_ids(items: Sequence[BatchItem], folder: Path | str) -> set[str]:
    """Return the ids of the items that need nothing, by what the ledgers of a folder say now."""
    folder = Path(os.path.realpath(folder))
    pending = find_pending(items, folder, Ledger(folder).read(), BatchSummary(), only_failed=False)
    return {item.id for item in items} - {one.item.id for one in pending}
