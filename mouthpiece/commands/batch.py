"""`mouthpiece batch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.batch.run import BatchOptions, BatchRequest, run_batch_file
from mouthpiece.batch.worker import run_request
from mouthpiece.commands.command import Command
from mouthpiece.engine.config import resolve_options
from mouthpiece.engine.option_flags import add_flags
from mouthpiece.use_cases import get_marking_use_cases

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress
    from mouthpiece.job import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `batch`."""
    parser.add_argument(
        "jobs", type=Path, metavar="JOBS.jsonl", help="one job a line, or a table (.csv); docs/batch.md"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of all outputs and of results.jsonl; made when it is not there",
    )
    parser.add_argument("--force", action="store_true", help="replace files in the way that no batch made")
    parser.add_argument(
        "--dry-run", action="store_true", help="check all rows, measure on one excerpt, show the plan; keep nothing"
    )
    add_flags(parser.add_argument_group("batch"), BatchOptions)


def run(args: argparse.Namespace, progress: Progress) -> Result:
    """Run `batch`."""
    options = resolve_options(BatchOptions, None, vars(args))
    request = BatchRequest(args.jobs, args.output, options, vars(args), args.force, args.dry_run)
    return run_batch_file(request, get_marking_use_cases(), run_request, progress)


COMMAND = Command("batch", "many of the above: resumes; on this machine, Ray or Slurm", add_arguments, run)
