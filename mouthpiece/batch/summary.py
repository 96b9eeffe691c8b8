"""What became of a batch: counts and failures, for programs and for people."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mouthpiece.batch.ledger import DONE, FAILED, QUARANTINED, Ledger
from mouthpiece.engine.errors import ExitCode
from mouthpiece.engine.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mouthpiece.batch.job_list import BatchItem

_COUNTS = ("done", "skipped", "failed", "quarantined", "left")  # columns of the table for people
_COLUMN_WIDTH = 11  # characters


@dataclass
class BatchSummary:
    """What became of the items.

    done, failed: records as the ledger keeps them.
    skipped: how many were done before.  left: how many were not started.
    seconds: how long the run took.  interrupted: whether the user stopped it.
    """

    done: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    skipped: int = 0
    left: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def get_exit_code(self) -> ExitCode:
        """Return the exit code of the batch."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.PARTLY if self.failed else ExitCode.DONE

    def as_dict(self) -> dict[str, Any]:
        """Return the summary JSON-ready: counts, failures, seconds, and seconds of output per second of work."""
        work_s = sum(record["seconds"] for record in self.done)
        output_s = sum(record["duration_s"] or 0 for record in self.done)
        keys = ("id", "line", "command", "output", "state", "tries")
        failures = [{key: row.get(key) for key in keys} | {"error": row["error"]} for row in self.failed]
        return {
            "done": len(self.done),
            "skipped": self.skipped,
            "failed": len(failures),
            "left": self.left,
            "quarantined": sum(row["state"] == QUARANTINED for row in failures),
            "seconds": round(self.seconds, 3),
            "work_s": round(work_s, 3),
            "output_s": round(output_s, 3),
            "output_s_per_work_s": round(output_s / work_s, 4) if work_s else None,
            "failures": failures,
        }


def format_summary(summary: dict[str, Any]) -> str:
    """Format a summary as a table for people. summary: from BatchSummary.as_dict."""
    lines = [
        "  ".join(f"{name:>{_COLUMN_WIDTH}}" for name in _COUNTS),
        "  ".join(f"{summary[name]:>{_COLUMN_WIDTH}}" for name in _COUNTS),
    ]
    if summary["output_s_per_work_s"] is not None:
        lines.append(
            f"{summary['output_s']:.1f} s of output in {summary['work_s']:.1f} s of work: "
            f"{summary['output_s_per_work_s']:.3f} s per second"
        )
    for row in summary["failures"]:
        error = row["error"]
        text = f"line {row['line']} {row['id']}: {row['state']}, {error['kind']}: {error['message']} {error['hint']}"
        lines.append(text.rstrip())
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def write_summary(folder: Path | str, summary: dict[str, Any], shard: tuple[int, int] = (1, 1)) -> None:
    """Write summary.json into the folder of a batch, or the file of a shard. summary: from BatchSummary.as_dict."""
    name = "summary.json" if shard[1] == 1 else f"summary-{shard[0]}of{shard[1]}.json"
    with atomic_write(Path(folder) / name, overwrite=True) as part:
        part.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def collect_shards(
    items: Iterable[BatchItem], folder: Path | str, finished_ids: set[str], problems: Sequence[str]
) -> BatchSummary:
    """Summarize a run whose shards kept ledgers of their own.

    items, folder: as for driver.run_batch.
    finished_ids: of items that needed nothing before the run.
    problems: sentences on shards that did not end well; what they left undone is reported as failed.
    """
    folder, summary = Path(os.path.realpath(folder)), BatchSummary()
    records = {record["id"]: record for record in Ledger(folder).read().latest_records.values()}
    for item in items:
        record = records.get(item.id, {})
        if item.id in finished_ids:
            summary.skipped += 1
        elif record.get("state") == DONE:
            summary.done.append(record)
        elif record:
            summary.failed.append(record)
        else:
            message = f"was not run ({'; '.join(problems) or 'its job ended early'})."
            error = {"kind": "cluster", "code": "not_run", "message": message, "hint": "Run it again."}
            summary.failed.append(make_record(item, folder, state=FAILED, error=error))
    return summary


def make_record(item: BatchItem, folder: Path, **facts: Any) -> dict[str, Any]:
    """Make a record of an item for the ledger. folder: of the batch."""
    record = {"id": item.id, "line": item.line, "command": item.command, "output": get_output_name(item, folder)}
    return record | facts


def get_output_name(item: BatchItem, folder: Path) -> str:
    """Return the path of an item's output below the folder of the batch, as the ledger names it."""
    return item.output.relative_to(folder).as_posix()
