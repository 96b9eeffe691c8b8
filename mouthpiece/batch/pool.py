"""Processes of this machine that run items one after another and keep their models; one may die without harm."""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol

from mouthpiece.batch.worker import THREAD_VARIABLES, run_worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess

    from mouthpiece.batch.worker import RunRequest
    from mouthpiece.request import Request

_JOIN_S = 10  # how long a process that was told to end may take


class PoolItem(Protocol):
    """What a pool takes: anything with a Request to run."""

    @property
    def request(self) -> Request:
        """Return the Request to run."""


@dataclass
class ItemResult:
    """How an item ended.

    item: as it was submitted.
    code: exit code, or None when its worker died with it.
    document: what the use case answered: {"ok": ..., "result" or "error": ...}; empty when the worker died.
    seconds: how long the worker took.
    """

    item: Any
    code: int | None
    document: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Pool(Protocol):
    """Workers of any kind: processes of this machine or of a cluster."""

    def count_idle(self) -> int:
        """Return how many items can be submitted now."""

    def submit(self, item: PoolItem) -> None:
        """Start an item on an idle worker."""

    def collect(self, timeout_s: float) -> list[ItemResult]:
        """Return the results of items that ended, after waiting at most timeout_s for one."""

    def close(self, now: bool = False) -> None:
        """End the workers. now: True stops those at work."""


@dataclass
class _Worker:
    """A process, its place among the cores, and what it runs: an item or None, since when (time.monotonic)."""

    process: BaseProcess
    place: int
    item: PoolItem | None = None
    started: float = 0.0


class WorkerPool:
    """A Pool of local processes; one that dies is replaced.

    count: how many.  run: function at the top of a module, called in a worker with a Request; returns (exit code,
    document).
    threads: how many threads each may use.
    """

    def __init__(self, count: int, run: RunRequest, threads: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._run, self._threads, self._count = run, threads, count
        self._workers: dict[Connection, _Worker] = {}
        self._start_workers()

    def _start_workers(self) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(cores) < self._count * self._threads:
            cores = []
        taken = {worker.place for worker in self._workers.values()}
        for place in range(self._count):
            if place in taken:
                continue
            ours, theirs = self._context.Pipe()
            own_cores = cores[place * self._threads : (place + 1) * self._threads]
            arguments = (theirs, self._run, self._threads, own_cores)
            with _set_thread_environment(self._threads):
                process = self._context.Process(target=run_worker, args=arguments, daemon=True)
                process.start()
            theirs.close()
            self._workers[ours] = _Worker(process, place)

    def list_pids(self) -> list[int | None]:
        """Return the process ids of the workers."""
        return [worker.process.pid for worker in self._workers.values()]

    def count_idle(self) -> int:
        """Return how many items can be submitted now."""
        return sum(worker.item is None for worker in self._workers.values())

    def submit(self, item: PoolItem) -> None:
        """Start an item on an idle worker."""
        for connection, worker in self._workers.items():
            if worker.item is None:
                worker.item, worker.started = item, time.monotonic()
                with suppress(OSError):  # its worker has just died: collect will say so
                    connection.send(item.request)
                return

    def collect(self, timeout_s: float) -> list[ItemResult]:
        """Return the results of items that ended, after waiting at most timeout_s for one."""
        results = []
        ready = set(wait(list(self._workers), timeout_s))
        for connection, worker in [(one, worker) for one, worker in self._workers.items() if one in ready]:
            seconds = time.monotonic() - worker.started
            try:
                code, document = connection.recv()
                results.append(ItemResult(worker.item, code, document, seconds))
                worker.item = None
            except (EOFError, OSError):
                connection.close()
                worker.process.join()
                del self._workers[connection]
                if worker.item is not None:
                    results.append(ItemResult(worker.item, None, {}, seconds))
        self._start_workers()
        return results

    def close(self, now: bool = False) -> None:
        """End the workers. now: True kills those at work."""
        for connection, worker in self._workers.items():
            if now:
                worker.process.kill()
            connection.close()  # its worker ends by itself
            worker.process.join(_JOIN_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = {}


@contextmanager
def _set_thread_environment(threads: int) -> Iterator[None]:
    """Set the number of threads in the environment, where libraries look when they load, for processes begun within."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
