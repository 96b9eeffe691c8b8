"""Processes of this machine that run items one after another and keep their models; one may die without harm to the
rest.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mouthpiece.batch.driver import PendingItem

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass
class ItemResult:
    """How an item ended.

    item: as it was given.
    code: exit code, or None when its worker died with it.
    document: what the command answered: {"ok": ..., "result" or "error": ...}; empty when the worker died.
    seconds: how long the worker was at it.
    """

    item: object
    code: int | None
    document: dict = field(default_factory=dict)
    seconds: float = 0.0


class WorkerPool:
    """Local workers behind the interface that all kinds of crews share: free, give, collect, close.

    count: int, how many.  perform: "module:function" that runs words of a command line and gives (exit code, document).
    threads: int, how many threads each may use.
    """

    def __init__(self, count: int, entry_point: str, threads: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._perform, self._threads, self._count = entry_point, threads, count
        self._workers = {}  # connection -> [process, item or None, started]
        self._start_workers()

    def _start_workers(self) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        taken = {place for *_, place in self._workers.values()}
        for place in range(self._count):
            if place in taken:
                continue
            ours, theirs = self._context.Pipe()
            own = (
                cores[place * self._threads : (place + 1) * self._threads]
                if len(cores) >= self._count * self._threads
                else []
            )
            with _ThreadEnvironment(self._threads):
                process = self._context.Process(
                    target=run_worker, args=(theirs, self._perform, self._threads, own), daemon=True
                )
                process.start()
            theirs.close()
            self._workers[ours] = [process, None, 0.0, place]

    def list_pids(self):
        """Process ids of the workers."""
        return [worker[0].pid for worker in self._workers.values()]

    def free(self) -> int:
        """How many items can be given now."""
        return sum(worker[1] is None for worker in self._workers.values())

    def submit(self, item: PendingItem) -> None:
        """Starts an item on a free worker.

        item: has argv, a tuple of words.
        """
        for connection, worker in self._workers.items():
            if worker[1] is None:
                worker[1], worker[2] = item, time.monotonic()
                with suppress(OSError):  # its worker has just died: collect will say so
                    connection.send(list(item.argv))
                return

    def collect(self, timeout_s: float) -> list[ItemResult]:
        """The Reports of items that ended, after waiting at most timeout_s for one."""
        reports = []
        for connection in wait(list(self._workers), timeout_s):
            process, item, started, _ = self._workers[connection]
            seconds = time.monotonic() - started
            try:
                code, document = connection.recv()
                self._workers[connection][1] = None
                reports.append(ItemResult(item, code, document, seconds))
            except (EOFError, OSError):
                connection.close()
                process.join()
                del self._workers[connection]
                if item is not None:
                    reports.append(ItemResult(item, None, {}, seconds))
        self._start_workers()
        return reports

    def close(self, now: bool = False) -> None:
        """Ends the workers; now: True kills those at work."""
        for connection, (process, *_) in self._workers.items():
            if now:
                process.kill()
            connection.close()  # its worker leaves
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()
        self._workers = {}


class _ThreadEnvironment:
    """Within it children are born with the number of threads in their environment, where libraries look when they load."""

    def __init__(self, threads: int) -> None:
        self.wanted = dict.fromkeys(_THREAD_VARIABLES, str(threads))

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.wanted}
        os.environ.update(self.wanted)

    def __exit__(self, *problem) -> None:
        for name, value in self.before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def run_worker(connection, entry_point, threads, cores):
    """The life of a worker: items in, answers out, until nobody is at the other end.

    connection: end of a pipe.  perform: "module:function".  threads: int.  cores: numbers of the cores it may use;
    empty: all.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what it means
    if cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, cores)
    door, answer = prepare_worker(entry_point, threads), threading.Event()
    inbox = []

    def listen():
        while True:
            try:
                inbox.append(connection.recv())
            except (EOFError, OSError):
                os._exit(0)  # the driver is gone or wants us gone: what is half done is of no use to the next run
            answer.set()

    threading.Thread(target=listen, daemon=True).start()
    while True:
        answer.wait()
        answer.clear()
        told = door(inbox.pop())  # never more than one waits: the next is given after the answer
        try:
            connection.send(told)
        except OSError:  # the driver has just gone
            os._exit(0)


def prepare_worker(entry_point, threads):
    """The function called `perform`, in a process that uses so many threads and keeps the models that it loads.

    perform: "module:function".  threads: int.
    """
    from mouthpiece.engine.weights.model_cache import enable_model_cache

    for name in _THREAD_VARIABLES:
        os.environ[name] = str(threads)
    enable_model_cache()
    module, _, name = entry_point.partition(":")
    door = getattr(import_module(module), name)

    def run(argv):
        for library, setting in (("torch", "set_num_threads"), ("cv2", "setNumThreads")):
            if library in sys.modules:
                getattr(sys.modules[library], setting)(threads)
        return door(argv)

    return run
