"""Run a batch file: read and check it, choose workers, run or plan it, summarize."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.batch.options import BatchOptions
from mouthpiece.engine.config import reject_unused_options
from mouthpiece.engine.errors import OutputError, UsageError
from mouthpiece.engine.files import make_output_error
from mouthpiece.engine.progress import Progress
from mouthpiece.job import Result

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.batch.job_list import BatchItem
    from mouthpiece.batch.pool import Pool
    from mouthpiece.batch.summary import BatchSummary
    from mouthpiece.batch.worker import RunRequest
    from mouthpiece.request import UseCase

_BYTES_PER_WORKER = 1_500_000_000  # what a worker of the embedded models takes, with some to spare
_RAY_CORES = 2  # an actor uses so many on a cluster of other machines


@dataclass(frozen=True)
class BatchRequest:
    """A batch to be run.

    jobs: batch file.  output: folder of all outputs, made when it does not exist.
    given: options that were given one by one.
    overwrite: replace files in the way that no batch made.  dry_run: show the plan, keep nothing.
    """

    jobs: Path
    output: Path
    options: BatchOptions
    given: Mapping[str, Any]
    overwrite: bool = False
    dry_run: bool = False

    def get_terms(self) -> dict[str, Any]:
        """Return the arguments of driver.run_batch that the user chose."""
        options = self.options
        return dict(max_retries=options.max_retries, only_failed=options.only_failed, force=self.overwrite)


def run_batch_file(
    request: BatchRequest, use_cases: Mapping[str, UseCase], run: RunRequest, progress: Progress
) -> Result:
    """Run a batch file, or plan it.

    use_cases: those that a row may name.  run: what a worker does with a Request, a function at the top of a module.
    Raises UsageError that lists every bad row, and what driver.run_batch raises.
    """
    from mouthpiece.batch import driver, plan
    from mouthpiece.batch.job_list import read_job_list
    from mouthpiece.batch.summary import format_summary, write_summary

    options, folder = request.options, request.output
    if options.cluster != "slurm":
        hint = "It says what Slurm is asked for; leave it out."
        reject_unused_options(request.given, ("queue",), f"with --cluster {options.cluster}", hint)
    shard = options.parse_shard()
    items = driver.select_shard(read_job_list(request.jobs, folder, use_cases), shard)
    workers = options.workers or choose_worker_count(len(items))
    if request.dry_run:
        planned = plan.plan_batch(items, folder, run, progress, workers=workers, only_failed=options.only_failed)
        return Result("batch", planned, plan.format_plan(planned))
    _make_folder(folder)
    terms = request.get_terms()
    if options.cluster == "slurm":
        summary = run_on_slurm(items, request, run, workers)
    else:
        pool = partial(make_pool, options.cluster, workers, run)
        summary = driver.run_batch(items, folder, pool, progress, shard=shard, **terms)
    document = summary.as_dict()
    write_summary(folder, document, shard)
    return Result("batch", document, format_summary(document), exit_code=summary.get_exit_code())


def _make_folder(folder: Path) -> None:
    """Make the folder of a batch. Raises OutputError when that is not possible or it cannot be written to."""
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


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_worker_count(count: int) -> int:
    """Choose how many processes suit this machine and so many items."""
    try:
        free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        free_bytes = _count_cores() * _BYTES_PER_WORKER
    return max(1, min(_count_cores(), free_bytes // _BYTES_PER_WORKER, count))


def make_pool(cluster: str, workers: int, run: RunRequest, count: int) -> Pool:
    """Make the Pool for `count` items: local processes or Ray actors."""
    workers = min(workers, count)
    if cluster == "local":
        from mouthpiece.batch.pool import WorkerPool

        return WorkerPool(workers, run, max(1, _count_cores() // workers))
    from mouthpiece.batch.cluster import RayPool

    return RayPool(workers, run, 1, None) if cluster == "ray" else RayPool(workers, run, _RAY_CORES, cluster)


def run_on_slurm(
    items: Sequence[BatchItem], request: BatchRequest, run: RunRequest, workers: int, cluster: str = "slurm"
) -> BatchSummary:
    """Run shards of a batch as jobs of a queue; return the summary, counted from their ledgers.

    cluster: as submitit names it.  Raises what cluster.submit_shards raises, UsageError for a shard of one's own.
    """
    from mouthpiece.batch import driver
    from mouthpiece.batch.cluster import submit_shards
    from mouthpiece.batch.summary import collect_shards

    options = request.options
    if options.shard is not None:
        raise UsageError(
            "--shard with --cluster slurm: the shards are made there.", hint="Use --workers for how many.", code="usage"
        )
    count, folder = min(workers, len(items)), request.output.resolve()
    terms = request.get_terms()
    shards = [(k, count) for k in range(1, count + 1)]
    arguments = [(driver.select_shard(items, shard), folder, run, shard, terms) for shard in shards]
    finished = driver.find_finished_ids(items, folder)
    problems = submit_shards(run_shard, arguments, folder, options.queue, cluster)
    return collect_shards(items, folder, finished, [problem for problem in problems if problem])


def run_shard(
    items: Sequence[BatchItem], folder: Path, run: RunRequest, shard: tuple[int, int], terms: dict[str, Any]
) -> None:
    """Run one shard of a batch in a process of its own, with one worker: what a job of the queue does.

    items: of the shard.  terms: further arguments of driver.run_batch.
    """
    from mouthpiece.batch import driver

    driver.run_batch(items, folder, partial(make_pool, "local", 1, run), Progress("none"), shard=shard, **terms)
