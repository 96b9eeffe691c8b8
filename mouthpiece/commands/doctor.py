"""`mouthpiece doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mouthpiece.engine.progress import Progress


def run(args: argparse.Namespace, progress: Progress) -> CommandResult:
    """Outcome of `doctor`."""
    from mouthpiece.doctor import examine_installation

    rows = examine_installation()
    return CommandResult(rows, "\n".join(f"{format_state(row):7} {row['name']}: {row['detail']}" for row in rows))


def format_state(row: dict[str, Any]) -> str:
    """How a row of the examination begins: "ok", "missing", or "extra" for what works without."""
    return "ok" if row["ok"] else "missing" if row["needed"] else "extra"


COMMAND = Command("doctor", "what works on this machine, what is missing", lambda parser: None, run)
