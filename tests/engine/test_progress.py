import io
import json

import pytest

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.progress import Progress


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self):
        return True


def events(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_events_tell_start_some_progress_and_end():
    stream, clock = io.StringIO(), Clock()
    with Progress("json", stream, interval_s=0.5, clock=clock).stage("frames", 100) as advance:
        for _ in range(8):
            clock.now_s += 0.25
            advance(12)
        advance(4)
    told = events(stream)
    assert [event["event"] for event in told] == ["start"] + ["progress"] * 4 + ["end"]
    assert told[0]["done"] == 0 and told[-1]["done"] == told[-1]["total"] == 100
    assert told[-1]["elapsed_s"] == pytest.approx(2.0)
    assert [event["done"] for event in told] == sorted(event["done"] for event in told)


def test_a_stage_that_fails_says_stopped_and_never_end():
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        with Progress("json", stream).stage("frames", 10) as advance:
            advance(3)
            raise KeyboardInterrupt
    assert [(event["event"], event["done"]) for event in events(stream)] == [("start", 0), ("stopped", 3)]


def test_auto_draws_a_bar_on_a_terminal_and_writes_events_elsewhere():
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        with Progress("auto", stream).stage("drawing", 4) as advance:
            advance(4)
    assert "drawing" in terminal.getvalue() and "{" not in terminal.getvalue()
    assert events(file)[-1]["stage"] == "drawing"


def test_notes_reach_whoever_watches():
    file, terminal, nothing = io.StringIO(), Terminal(), io.StringIO()
    Progress("json", file).note("two faces")
    Progress("bar", terminal).note("two faces")
    Progress("none", nothing).note("two faces")
    assert events(file) == [{"event": "note", "text": "two faces"}]
    assert terminal.getvalue().strip() == "two faces"
    assert nothing.getvalue() == ""


def test_none_is_silent_and_still_counts_for_its_caller():
    stream = io.StringIO()
    with Progress("none", stream).stage("frames") as advance:
        advance()
        advance(5)
    assert stream.getvalue() == ""


def test_another_mode_is_refused():
    with pytest.raises(UsageError, match="--progress loud: need auto or bar"):
        Progress("loud")
