"""What runs inside a process of a batch: one Request after another, with models kept between them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mouthpiece.engine.errors import ExitCode, MouthpieceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from mouthpiece.request import Request

    RunRequest = Callable[[Request], tuple[int | None, dict[str, Any]]]

# read by numeric libraries when they load
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def run_request(request: Request) -> tuple[int, dict[str, Any]]:
    """Run one Request silently; return its exit code and the document that `--json` would show."""
    from mouthpiece.json_values import to_json_value
    from mouthpiece.native_output import silence_native_output
    from mouthpiece.use_cases import get_use_case

    try:
        with silence_native_output():
            result = get_use_case(request).execute(request)
        return int(result.exit_code), {
            "ok": result.exit_code == ExitCode.DONE,
            "result": to_json_value(result.document),
        }
    except MouthpieceError as error:
        return int(error.exit_code), {"ok": False, "error": error.as_dict()}
    except Exception as error:
        hint = "Run the item alone with -vv and report what it shows."
        internal = MouthpieceError(f"internal error: {type(error).__name__}: {error}.", hint=hint)
        return int(internal.exit_code), {"ok": False, "error": internal.as_dict()}


def run_worker(connection: Connection, run: RunRequest, threads: int, cores: Sequence[int]) -> None:
    """Receive Requests and send back how they ended, until the other end of the pipe is closed.

    connection: end of a pipe.  run: what is done with a Request.
    threads: how many threads numeric libraries may use.
    cores: numbers of the cores that the process may use; empty: all.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what it means
    if cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, cores)
    run, received = prepare_worker(run, threads), threading.Event()
    requests: list[Request] = []

    def receive() -> None:
        while True:
            try:
                requests.append(connection.recv())
            except (EOFError, OSError):
                os._exit(
                    0
                )  # the driver has ended or wants this process to: half an output is of no use to the next run
            received.set()

    threading.Thread(target=receive, daemon=True).start()
    while True:
        received.wait()
        received.clear()
        answer = run(requests.pop())  # never more than one waits: the next is sent after the answer
        try:
            connection.send(answer)
        except OSError:  # the driver has just ended
            os._exit(0)


def prepare_worker(run: RunRequest, threads: int) -> RunRequest:
    """Set up this process to keep models and to use so many threads; return the function that runs a Request in it.

    run: what is done with a Request.  threads: int.
    """
    from mouthpiece.engine.weights.model_cache import enable_model_cache

    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    enable_model_cache()

    def run_with_threads(request: Request) -> tuple[int | None, dict[str, Any]]:
        for library, setting in (("torch", "set_num_threads"), ("cv2", "setNumThreads")):
            if library in sys.modules:
                getattr(sys.modules[library], setting)(threads)
        return run(request)

    return run_with_threads
