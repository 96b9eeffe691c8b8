"""The same batch on Ray and on Slurm: other crews, the same items, driver and ledger."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from mouthpiece.batch.pool import _THREAD_VARIABLES, ItemResult, prepare_worker
from mouthpiece.engine.errors import MissingDependencyError, MouthpieceError, UsageError


class RayPool:
    """Ray actors behind the interface of pool.Crew; an actor that dies is started again by Ray, its item comes back as
    such.

    count, perform, threads: as for pool.Crew.
    address: "auto", "ray://host:port" or None for a cluster of this machine alone; RAY_ADDRESS counts where None is
    given.
    Raises Missing without the package, MouthpieceError when the cluster does not answer.
    Source: ours; Ray's actors: an actor's task is run at most once, so retries are the driver's.
    """

    def __init__(self, count, entry_point, threads, address=None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "--cluster ray: Ray is not installed.", hint="pip install 'mouthpiece[ray]'.", code="no_ray"
            ) from error
        self._ray, self._started = ray, not ray.is_initialized()
        if self._started:
            address = address or os.environ.get("RAY_ADDRESS") or "local"
            try:
                ray.init(
                    address,
                    include_dashboard=False if address == "local" else None,
                    log_to_driver=False,
                    logging_level="error",
                )
            except Exception as error:  # Ray raises many kinds here
                hint = "Is it running, and does its version match?"
                raise MouthpieceError(
                    f"--cluster: no Ray cluster at {address} ({error}).", hint=hint, code="no_cluster", retryable=True
                ) from error
        paths = [path for path in sys.path if path and Path(path).is_dir()]
        variables = dict.fromkeys(_THREAD_VARIABLES, str(threads)) | {
            "PYTHONPATH": os.pathsep.join([os.getcwd(), *paths])
        }
        variables |= {name: value for name, value in os.environ.items() if name.startswith("MOUTHPIECE_")}
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        settings = {
            "num_cpus": threads,
            "num_gpus": gpus,
            "max_restarts": -1,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": variables},
        }
        self._make = ray.remote(_RayWorker).options(**settings)
        self._words = (entry_point, threads)
        self._idle, self._running = [self._make.remote(*self._words) for _ in range(count)], {}

    def list_pids(self):
        """Process ids of the actors that are idle."""
        return self._ray.get([actor.pid.remote() for actor in self._idle])

    def free(self):
        """How many items can be given now."""
        return len(self._idle)

    def submit(self, item):
        """Starts an item on a free actor."""
        actor = self._idle.pop()
        self._running[actor.run.remote(list(item.argv))] = actor, item, time.monotonic()

    def collect(self, timeout_s):
        """The Reports of items that ended, after waiting at most timeout_s for one."""
        if not self._running:
            time.sleep(timeout_s)
            return []
        reports = []
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        for reference in ended:
            actor, item, started = self._running.pop(reference)
            seconds = time.monotonic() - started
            try:
                reports.append(ItemResult(item, *self._ray.get(reference), seconds))
            except self._ray.exceptions.RayTaskError as error:
                reports.append(
                    ItemResult(
                        item,
                        1,
                        {"error": {"kind": "internal", "code": "internal", "message": f"{error.cause}."}},
                        seconds,
                    )
                )
            except self._ray.exceptions.RayError:  # the system failed, not the item: its actor or its machine is gone
                reports.append(ItemResult(item, None, {}, seconds))
                actor = self._replace_actor(actor)
            self._idle.append(actor)
        return reports

    def _replace_actor(self, actor):
        """The actor, or a new one where Ray has given it up."""
        try:
            self._ray.get(actor.pid.remote(), timeout=60)
            return actor
        except self._ray.exceptions.RayError:
            return self._make.remote(*self._words)

    def close(self, now: bool = False):
        """Ends the actors, and the cluster when it was started here."""
        for actor in [*self._idle, *(actor for actor, *_ in self._running.values())]:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)
        self._idle, self._running = [], {}
        if self._started:
            self._ray.shutdown()


class _RayWorker:
    """What runs inside an actor."""

    def __init__(self, entry_point, threads) -> None:
        self._run = prepare_worker(entry_point, threads)

    def run(self, argv):
        return self._run(argv)

    def pid(self):
        return os.getpid()


def submit_shards(task, count, folder, options: str = "", cluster: str = "slurm"):
    """Runs a task for every shard as an array of jobs, and waits for all; gives [None or what went wrong in words].

    task: callable that takes (k, n); picklable.  count: int, n.
    folder: Path, shared by all machines; logs go into .jobs below it.
    options: "name=value,..." for the queue, such as "partition=gpu,time=120,gpus_per_node=1".
    cluster: as submitit names it: "slurm", or "local" for processes of this machine.
    Raises Missing without submitit or Slurm, UsageProblem for options that are none.
    Source: submitit; a job that is preempted or runs out of time is queued again and goes on by the ledger.
    """
    try:
        import submitit
    except ImportError as error:
        raise MissingDependencyError(
            "--cluster slurm: submitit is not installed.", hint="pip install submitit.", code="no_submitit"
        ) from error
    try:
        executor = submitit.AutoExecutor(folder=Path(folder) / ".jobs", cluster=cluster)
    except RuntimeError as error:
        raise MissingDependencyError(
            f"--cluster slurm: {error}.", hint="Is sbatch in the path?", code="no_slurm"
        ) from error
    settings = (
        {"name": "mouthpiece", f"{cluster}_array_parallelism": count} if cluster == "slurm" else {"name": "mouthpiece"}
    )
    for pair in filter(None, options.split(",")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(
                f"--queue {options}: '{pair}' is no name=value.",
                hint="Write partition=gpu,time=120.",
                code="bad_option",
            )
        settings[f"{cluster}_{name.strip()}"] = int(value) if value.strip().isdigit() else value.strip()
    try:
        executor.update_parameters(**settings)
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(
            f"--queue {options}: {error}.", hint="Use names that sbatch knows.", code="bad_option"
        ) from error
    jobs = executor.map_array(_SlurmShard(task), [(k, count) for k in range(1, count + 1)])
    try:
        return [_get_job_problem(job) for job in jobs]
    except BaseException:
        for job in jobs:
            with suppress(Exception):
                job.cancel(check=False)
        raise


class _SlurmShard:
    """A task that goes on where it stopped when its job is queued again."""

    def __init__(self, task) -> None:
        self.task = task

    def __call__(self, shard):
        self.task(shard)

    def checkpoint(self, shard):
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, shard)


def _get_job_problem(job):
    try:
        job.result()
        return None
    except Exception as error:  # whatever the shard or the queue came to: the ledger says what is done
        return (
            f"job {job.job_id}: {str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__}"
        )
