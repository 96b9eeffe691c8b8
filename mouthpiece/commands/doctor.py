"""`mouthpiece doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command
from mouthpiece.job import Result

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mouthpiece.engine.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`: none."""


def run(args: argparse.Namespace, progress: Progress) -> Result:
    """Run `doctor`."""
    from mouthpiece.doctor import examine_installation

    rows = examine_installation()
    lines = [f"{format_state(row):7} {row['name']}: {row['detail']}" for row in rows]
    return Result("doctor", rows, "\n".join(lines))


def format_state(row: dict[str, Any]) -> str:
    """Format the state of a row: "ok", "missing", or "extra" for what is optional and missing."""
    return "ok" if row["ok"] else "missing" if row["needed"] else "extra"


COMMAND = Command("doctor", "what works on this machine, what is missing", add_arguments, run)
