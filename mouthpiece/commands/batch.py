"""`mouthpiece batch`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult
from mouthpiece.engine.config import Options, add_flags, option, reject_unused_options, resolve_options
from mouthpiece.engine.errors import OutputError, UsageError
from mouthpiece.engine.files import make_output_error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from mouthpiece.engine.progress import Progress

_BYTES_PER_WORKER = 1_500_000_000  # what a worker of the embedded models takes, with room
_CLUSTERS = ("local", "ray", "slurm")


@dataclass(frozen=True)
class BatchOptions(Options):
    """Options of `mouthpiece batch`.

    Raises UsageProblem naming the flag, the value and what is accepted.
    """

    workers: int | None = option(
        None, "processes at work; what cores and memory allow when not given", low=1, high=4096
    )
    cluster: str = option("local", "where they run: local, ray, ray://HOST:PORT, slurm")
    only_failed: bool = option(False, "do again what failed in an earlier run, quarantined items too, and nothing else")
    shard: str | None = option(None, "every N-th item from the K-th, as K/N, for machines that share a folder")
    max_retries: int = option(2, "how often an item is tried again after a failure that may pass", low=0, high=20)
    queue: str = option("", "settings of the Slurm queue: partition=gpu,time=120,gpus_per_node=1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cluster not in _CLUSTERS and not self.cluster.startswith("ray://"):
            raise UsageError(f"--cluster {self.cluster}: need local, ray, ray://HOST:PORT or slurm.", code="bad_option")
        self.part()

    def part(self) -> tuple[int, int] | None:
        """(k, n) of the shard; (1, 1) is all."""
        if self.shard is None:
            return 1, 1
        k, slash, n = self.shard.partition("/")
        if (
            not slash
            or not (k.isascii() and k.isdigit() and n.isascii() and n.isdigit())
            or not 1 <= int(k) <= int(n) <= 100_000
        ):
            raise UsageError(f"--shard {self.shard}: need K/N with K from 1 to N, such as 2/8.", code="bad_option")
        return int(k), int(n)


def add(parser) -> None:
    """Adds the arguments of `batch`."""
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


def run(args: argparse.Namespace, progress: Progress) -> None:
    """Outcome of `batch`."""
    from mouthpiece.batch import driver, plan
    from mouthpiece.batch.job_list import read_job_list

    options = resolve_options(BatchOptions, None, vars(args))
    if options.cluster != "slurm":
        reject_unused_options(
            vars(args),
            ("queue",),
            f"with --cluster {options.cluster}",
            "It says what Slurm is asked for; leave it out.",
        )
    parser_of, perform = (_import_function(name) for name in args.door)
    items = read_job_list(args.jobs, args.output, parser_of)
    part = options.part()
    workers = options.workers or _choose_worker_count(len(items[part[0] - 1 :: part[1]]))
    if args.dry_run:
        planned = plan.plan_batch(
            items[part[0] - 1 :: part[1]],
            args.output,
            perform,
            progress,
            workers=workers,
            only_failed=options.only_failed,
        )
        return CommandResult(planned, plan.format_plan(planned))
    _make_folder(args.output)
    if options.cluster == "slurm":
        tally = _run_on_slurm(args, options, items, workers)
    else:
        crew_of = partial(make_pool, options.cluster, workers, args.door[1])
        terms = {
            "shard": part,
            "max_retries": options.max_retries,
            "only_failed": options.only_failed,
            "force": args.force,
        }
        tally = driver.run_batch(items, args.output, crew_of, progress, **terms)
    summary = driver.summarize_batch(tally)
    driver.write_summary(args.output, summary, part)
    return CommandResult(summary, driver.format_summary(summary), driver.get_exit_code(tally))


def _import_function(name: str) -> Callable:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _make_folder(folder):
    """The folder of a batch, made when it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if folder.exists():
            raise OutputError(
                f"{folder}: is not a folder.", hint="Give a folder for the outputs.", code="no_folder"
            ) from error
        raise make_output_error(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"{folder}: no permission to write there.", hint="Choose another folder.", code="not_writable"
        )


def _count_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _choose_worker_count(count):
    """How many processes suit this machine and so many items."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        free = _count_cores() * _BYTES_PER_WORKER
    return max(1, min(_count_cores(), free // _BYTES_PER_WORKER, count))


def make_pool(cluster, workers, entry_point, count):
    """The crew for `count` items: local processes or Ray actors."""
    workers = min(workers, count)
    if cluster == "local":
        from mouthpiece.batch.pool import WorkerPool

        return WorkerPool(workers, entry_point, max(1, _count_cores() // workers))
    from mouthpiece.batch.cluster import RayPool

    return RayPool(workers, entry_point, 1 if cluster == "ray" else 2, None if cluster == "ray" else cluster)


def _run_on_slurm(args, options, items, workers, cluster: str = "slurm"):
    """The Tally of a batch whose shards ran as jobs of a queue; counted from their ledgers."""
    from mouthpiece.batch import driver
    from mouthpiece.batch.cluster import submit_shards

    if options.shard is not None:
        raise UsageError(
            "--shard with --cluster slurm: the shards are made there.", hint="Use --workers for how many.", code="usage"
        )
    count = min(workers, len(items))
    terms = {"max_retries": options.max_retries, "only_failed": options.only_failed, "force": args.force}
    task = partial(run_shard, str(args.jobs.resolve()), str(args.output.resolve()), tuple(args.door), terms)
    before = driver.find_finished_ids(items, args.output)
    problems = submit_shards(task, count, args.output, options.queue, cluster)
    return driver.collect_shards(items, args.output, before, [problem for problem in problems if problem])


def run_shard(jobs, folder, entry_points, terms, shard):
    """One shard of a batch in a process of its own, with one worker: what a job of the queue does."""
    from mouthpiece.batch import driver
    from mouthpiece.batch.job_list import read_job_list
    from mouthpiece.engine.progress import Progress

    items = read_job_list(jobs, folder, _import_function(entry_points[0]))
    driver.run_batch(
        items, folder, partial(make_pool, "local", 1, entry_points[1]), Progress("none"), shard=shard, **terms
    )


COMMAND = Command("batch", "many of the above: resumes; on this machine, Ray or Slurm", add, run)
