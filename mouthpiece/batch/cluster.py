"""The same batch on Ray and on Slurm: other workers, the same items, driver and ledger."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mouthpiece.batch.pool import ItemResult
from mouthpiece.batch.worker import THREAD_VARIABLES, prepare_worker
from mouthpiece.engine.errors import MissingDependencyError, MouthpieceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mouthpiece.batch.pool import PoolItem
    from mouthpiece.batch.worker import RunRequest
    from mouthpiece.request import Request

_RESTART_TIMEOUT_S = 60  # how long Ray may take to start an actor again


class RayPool:
    """A Pool of Ray actors; Ray restarts an actor that dies, and its item is reported as such.

    An actor's task is run at most once: retries are the driver's.

    count, run, threads: as for pool.WorkerPool.
    address: "auto", "ray://host:port" or None for a cluster of this machine alone; RAY_ADDRESS is used where None is
    given.
    Raises MissingDependencyError without the package, MouthpieceError when the cluster does not answer.
    """

    def __init__(self, count: int, run: RunRequest, threads: int, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "--cluster ray: Ray is not installed.", hint="pip install 'mouthpiece[ray]'.", code="no_ray"
            ) from error
        self._ray, self._started = ray, not ray.is_initialized()
        if self._started:
            _start_ray(ray, address or os.environ.get("RAY_ADDRESS") or "local")
        paths = [path for path in sys.path if path and Path(path).is_dir()]
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
        variables["PYTHONPATH"] = os.pathsep.join([os.getcwd(), *paths])
        variables |= {name: value for name, value in os.environ.items() if name.startswith("MOUTHPIECE_")}
        self._actor_class: Any = ray.remote(_RayWorker).options(
            num_cpus=threads,
            num_gpus=1 if ray.cluster_resources().get("GPU") else 0,
            max_restarts=-1,
            max_task_retries=0,
            runtime_env={"env_vars": variables},
        )
        self._arguments = (run, threads)
        self._idle: list[Any] = [self._actor_class.remote(*self._arguments) for _ in range(count)]
        self._running: dict[Any, tuple[Any, PoolItem, float]] = {}  # reference -> actor, item, start (monotonic)

    def list_pids(self) -> list[int]:
        """Return the process ids of the actors that are idle."""
        return self._ray.get([actor.get_pid.remote() for actor in self._idle])

    def count_idle(self) -> int:
        """Return how many items can be submitted now."""
        return len(self._idle)

    def submit(self, item: PoolItem) -> None:
        """Start an item on an idle actor."""
        actor = self._idle.pop()
        self._running[actor.run.remote(item.request)] = actor, item, time.monotonic()

    def collect(self, timeout_s: float) -> list[ItemResult]:
        """Return the results of items that ended, after waiting at most timeout_s for one."""
        if not self._running:
            time.sleep(timeout_s)
            return []
        results = []
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        for reference in ended:
            actor, item, started = self._running.pop(reference)
            seconds = time.monotonic() - started
            try:
                code, document = self._ray.get(reference)
                results.append(ItemResult(item, code, document, seconds))
            except self._ray.exceptions.RayTaskError as error:
                document = {"error": {"kind": "internal", "code": "internal", "message": f"{error.cause}."}}
                results.append(ItemResult(item, 1, document, seconds))
            except self._ray.exceptions.RayError:  # the system failed, not the item: its actor or its machine is gone
                results.append(ItemResult(item, None, {}, seconds))
                actor = self._replace_actor(actor)
            self._idle.append(actor)
        return results

    def _replace_actor(self, actor: Any) -> Any:
        """Return the actor once it is restarted, or a new one where Ray has given it up."""
        try:
            self._ray.get(actor.get_pid.remote(), timeout=_RESTART_TIMEOUT_S)
            return actor
        except self._ray.exceptions.RayError:
            return self._actor_class.remote(*self._arguments)

    def close(self, now: bool = False) -> None:
        """End the actors, and the cluster when it was started here."""
        for actor in [*self._idle, *(actor for actor, *_ in self._running.values())]:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)
        self._idle, self._running = [], {}
        if self._started:
            self._ray.shutdown()


def _start_ray(ray: Any, address: str) -> None:
    """Connect to a Ray cluster. address: "local" starts one on this machine. Raises MouthpieceError."""
    dashboard = False if address == "local" else None
    try:
        ray.init(address, include_dashboard=dashboard, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises many kinds here
        raise MouthpieceError(
            f"--cluster: no Ray cluster at {address} ({error}).",
            hint="Is it running, and does its version match?",
            code="no_cluster",
            retryable=True,
        ) from error


class _RayWorker:
    """What runs inside an actor."""

    def __init__(self, run: RunRequest, threads: int) -> None:
        self._run = prepare_worker(run, threads)

    def run(self, request: Request) -> tuple[int | None, dict[str, Any]]:
        return self._run(request)

    def get_pid(self) -> int:
        return os.getpid()


def submit_shards(
    task: Callable[..., None],
    arguments: Sequence[tuple],
    folder: Path | str,
    queue_settings: str = "",
    cluster: str = "slurm",
) -> list[str | None]:
    """Run a task once a shard as an array of jobs, and wait for all; return [None or what went wrong, in words].

    task: function that is called with the arguments of a shard; picklable.
    arguments: of every shard; picklable.
    folder: shared by all machines; logs go into .jobs below it.
    queue_settings: "name=value,..." for the queue, such as "partition=gpu,time=120,gpus_per_node=1".
    cluster: as submitit names it: "slurm", or "local" for processes of this machine.
    A job that is preempted or runs out of time is queued again and continues by the ledger.
    Raises MissingDependencyError without submitit or Slurm, UsageError for settings that the queue does not know.
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
    settings = {"name": "mouthpiece"} | _parse_queue_settings(queue_settings, cluster)
    if cluster == "slurm":
        settings.setdefault("slurm_array_parallelism", len(arguments))
    try:
        executor.update_parameters(**settings)
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(
            f"--queue {queue_settings}: {error}.", hint="Use names that sbatch knows.", code="bad_option"
        ) from error
    jobs = executor.map_array(_SlurmShard(task), arguments)
    try:
        return [_get_job_problem(job) for job in jobs]
    except BaseException:
        for job in jobs:
            with suppress(Exception):
                job.cancel(check=False)
        raise


def _parse_queue_settings(text: str, cluster: str) -> dict[str, int | str]:
    """Parse "name=value,..." into submitit's parameters. Raises UsageError."""
    settings: dict[str, int | str] = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UsageError(
                f"--queue {text}: '{pair}' is not name=value.", hint="Write partition=gpu,time=120.", code="bad_option"
            )
        settings[f"{cluster}_{name}"] = int(value) if value.isdigit() else value
    return settings


class _SlurmShard:
    """A task that continues where it stopped when its job is queued again."""

    def __init__(self, task: Callable[..., None]) -> None:
        self.task = task

    def __call__(self, arguments: tuple) -> None:
        self.task(*arguments)

    def checkpoint(self, arguments: tuple) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, arguments)


def _get_job_problem(job: Any) -> str | None:
    try:
        job.result()
        return None
    except Exception as error:  # whatever happened to the shard or the queue: the ledger says what is done
        text = str(error).strip()
        return f"job {job.job_id}: {text.splitlines()[-1] if text else type(error).__name__}"
