"""Progress of a long job: a bar for people, JSON events for programs, a callback for Python."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TextIO

MODES = ("auto", "bar", "json", "none")


class Progress:
    """Reports stages of a job.

    mode: one of MODES; "auto" is a bar on a terminal and JSON events elsewhere.
    stream: where it is written; None is the process's standard error at the time of the call.
    interval_s: least time between two events of one stage; the first and the last are always reported.
    clock: returns seconds; for tests.
    Raises UsageError for another mode.
    """

    def __init__(
        self,
        mode: str = "auto",
        stream: TextIO | None = None,
        *,
        interval_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"--progress {mode}: need {' or '.join(MODES)}.", code="bad_option")
        self.stream = sys.stderr if stream is None else stream
        terminal = getattr(self.stream, "isatty", lambda: False)()
        self.mode = ("bar" if terminal else "json") if mode == "auto" else mode
        self.notes: list[str] = []
        self._interval_s = interval_s
        self._clock = clock

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "frames") -> Iterator[Callable[..., object]]:
        """Report a stage of the job: a context that gives a callable advance(n=1).

        name: what is being done, for people.
        total: how many units there are; None where that is not known.
        unit: what is counted.
        """
        if self.mode == "bar":
            from tqdm import tqdm

            with tqdm(total=total, desc=name, unit=f" {unit}", file=self.stream, leave=False) as bar:
                yield bar.update
        elif self.mode == "json":
            with self._report_events(name, total, unit) as advance:
                yield advance
        else:
            yield lambda n=1: None

    @contextmanager
    def _report_events(self, name: str, total: int | None, unit: str) -> Iterator[Callable[..., None]]:
        started = reported = self._clock()
        done = 0

        def report(state: str) -> None:
            elapsed_s = round(self._clock() - started, 3)
            event = {"event": state, "stage": name, "done": done, "total": total, "unit": unit, "elapsed_s": elapsed_s}
            self._write_event(event)

        def advance(n: int = 1) -> None:
            nonlocal done, reported
            done += n
            if self._clock() - reported >= self._interval_s:
                reported = self._clock()
                report("progress")

        report("start")
        try:
            yield advance
        except BaseException:
            report("stopped")
            raise
        report("end")

    def note(self, text: str) -> None:
        """Report one line, and keep it in `notes`; nothing is shown with mode "none"."""
        self.notes.append(text)
        if self.mode == "bar":
            from tqdm import tqdm

            tqdm.write(text, file=self.stream)
        elif self.mode == "json":
            self._write_event({"event": "note", "text": text})

    def _write_event(self, event: dict[str, Any]) -> None:
        self.stream.write(json.dumps(event, ensure_ascii=False) + "\n")
        self.stream.flush()


@dataclass(frozen=True)
class ProgressEvent:
    """How far a stage of a job is.

    stage: what is being done.  done: units done.  total: units in all, None where that is not known.
    unit: what is counted.
    """

    stage: str
    done: int
    total: int | None
    unit: str


class CallbackProgress(Progress):
    """Reports stages of a job to a function.

    callback: called with a ProgressEvent when a stage begins and whenever it advances.
    """

    def __init__(self, callback: Callable[[ProgressEvent], None]) -> None:
        super().__init__("none")
        self._callback = callback

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "frames") -> Iterator[Callable[..., None]]:
        """Begin a stage of the job: a context that gives a callable advance(n=1). Parameters as of Progress.stage."""
        done = 0

        def advance(n: int = 1) -> None:
            nonlocal done
            done += n
            self._callback(ProgressEvent(name, done, total, unit))

        advance(0)
        yield advance
