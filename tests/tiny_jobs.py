"""A command line of one tiny command for tests of `batch` and its benchmark: it copies, fails, dawdles or dies as its
script says.
"""

import hashlib
import json
import os
import signal
import time
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

from mouthpiece.engine.config import Options, add_flags, option
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.files import atomic_write


@dataclass(frozen=True)
class TinyOptions(Options):
    """Options of the tiny command."""

    seed: int = option(0, "any", low=0)
    pace: float = option(1.0, "any", low=0.5, high=2.0)
    gate: bool = option(True, "any")


class TinyParser(ArgumentParser):
    """argparse whose complaints are our errors."""

    def error(self, message):
        raise UsageError(f"speak: {message}.")


def parser_of(name):
    """The parser of the tiny command, which goes by the name of speak."""
    if name != "speak":
        raise KeyError(name)
    parser = TinyParser(prog=name, allow_abbrev=False)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("script", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    for flag in ("--force", "--dry-run", "--quiet", "--json", "--no-provenance"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--preset")
    add_flags(parser, TinyOptions)
    return parser


def perform(argv):
    """Does what the first word of the script says; gives exit code and document."""
    args = parser_of("speak").parse_args(list(argv[1:]))
    words = args.script.read_text().split() or ["ok"]
    append_note(f"{args.output.name} {os.getpid()}")
    if words[0] == "die" or words[0] == "die-once" and not args.output.with_suffix(".died").exists():
        args.output.with_suffix(".died").write_text("")
        args.output.with_name(f".{args.output.stem}.part-1{args.output.suffix}").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    if words[0] == "slow":
        time.sleep(float(words[1]))
    if words[0] == "spin":  # so much time of a core
        until = time.process_time() + float(words[1])
        while time.process_time() < until:
            hashlib.sha256(bytes(100_000))
    if words[0] == "refuse":
        return 5, {
            "ok": False,
            "error": {
                "kind": "refused",
                "code": "bad",
                "message": "bad script.",
                "hint": "Write another.",
                "retryable": False,
            },
        }
    if words[0] == "full-once" and not args.output.with_suffix(".full").exists():
        args.output.with_suffix(".full").write_text("")
        return 5, {
            "ok": False,
            "error": {"kind": "write", "code": "disk_full", "message": "full.", "hint": "", "retryable": True},
        }
    text = f"{hashlib.sha256(args.script.read_bytes()).hexdigest()} {args.seed or 0}\n" * 50
    if not args.dry_run:
        with atomic_write(args.output, args.force) as part:
            part.write_text(text)
    return 0, {"ok": True, "result": {"facts": {"duration_s": 2.0}, "threads": os.environ.get("OMP_NUM_THREADS")}}


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
