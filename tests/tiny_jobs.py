"""A use case of tests of `batch` and its benchmark: it copies, fails, dawdles or dies as its script says."""

import hashlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mouthpiece.engine.config import Options, option
from mouthpiece.engine.files import atomic_write
from mouthpiece.request import Argument, Request, UseCase


@dataclass(frozen=True)
class TinyOptions(Options):
    """Options of the tiny use case."""

    seed: int = option(0, "any", low=0)
    pace: float = option(1.0, "any", low=0.5, high=2.0, formerly="tempo")
    gate: bool = option(True, "any")
    dictionary: Path | None = option(None, "any")


@dataclass(frozen=True)
class TinyRequest(Request):
    """Request of the tiny use case, which goes by the name of speak."""

    command: ClassVar[str] = "speak"
    video: Path | None
    script: Path
    output: Path
    options: TinyOptions


def run_tiny(request, job):
    """Never called: workers call run_request."""
    raise AssertionError


TINY = UseCase(
    TinyRequest,
    run_tiny,
    (Argument("video", required=False, media=True), Argument("script"), Argument("output", writes=True)),
    (TinyOptions,),
)
USE_CASES = {"speak": TINY}


def run_request(request):
    """Do what the first word of the script says; return exit code and document."""
    output, words = request.output, request.script.read_text().split() or ["ok"]
    append_note(f"{output.name} {os.getpid()}")
    if words[0] == "die" or words[0] == "die-once" and not output.with_suffix(".died").exists():
        output.with_suffix(".died").write_text("")
        output.with_name(f".{output.stem}.part-1{output.suffix}").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    if words[0] == "slow":
        time.sleep(float(words[1]))
    if words[0] == "spin":  # so much time of a core
        until = time.process_time() + float(words[1])
        while time.process_time() < until:
            hashlib.sha256(bytes(100_000))
    if words[0] == "refuse":
        return 5, make_failure("refused", "bad", "bad script.", "Write another.", False)
    if words[0] == "full-once" and not output.with_suffix(".full").exists():
        output.with_suffix(".full").write_text("")
        return 5, make_failure("write", "disk_full", "full.", "", True)
    text = f"{hashlib.sha256(request.script.read_bytes()).hexdigest()} {request.options.seed}\n" * 50
    if not request.settings.dry_run:
        with atomic_write(output, request.settings.overwrite) as part:
            part.write_text(text)
    return 0, {"ok": True, "result": {"facts": {"duration_s": 2.0}, "threads": os.environ.get("OMP_NUM_THREADS")}}


def make_failure(kind, code, message, hint, retryable):
    """The document of a failure."""
    error = {"kind": kind, "code": code, "message": message, "hint": hint, "retryable": retryable}
    return {"ok": False, "error": error}


def append_note(text):
    """Adds a line to the file that TINY_NOTES names, if it does."""
    if os.environ.get("TINY_NOTES"):
        with open(os.environ["TINY_NOTES"], "a") as file:
            file.write(text + "\n")


def write_jobs(folder, scripts, **more):
    """Scripts and a batch file of one row for each; gives the path of the batch file."""
    rows = []
    for number, script in enumerate(scripts):
        (folder / f"{number}.srt").write_text(script)
        rows.append(
            {"id": f"n{number}", "command": "speak", "script": f"{number}.srt", "output": f"{number}.wav"} | more
        )
    (folder / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "jobs.jsonl"
