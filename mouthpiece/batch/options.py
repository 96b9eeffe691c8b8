"""Options of `mouthpiece batch`."""

from __future__ import annotations

from dataclasses import dataclass

from mouthpiece.engine.config import Options, option
from mouthpiece.engine.errors import UsageError

_CLUSTERS = ("local", "ray", "slurm")
_MAX_SHARDS = 100_000


@dataclass(frozen=True)
class BatchOptions(Options):
    """Options of `mouthpiece batch`.

    Raises UsageError naming the flag, the value and what is accepted.
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
        self.parse_shard()

    def parse_shard(self) -> tuple[int, int]:
        """Parse the shard: (k, n); (1, 1) is all."""
        if self.shard is None:
            return 1, 1
        k, slash, n = self.shard.partition("/")
        are_numbers = all(text.isascii() and text.isdigit() for text in (k, n))
        if not slash or not are_numbers or not 1 <= int(k) <= int(n) <= _MAX_SHARDS:
            raise UsageError(f"--shard {self.shard}: need K/N with K from 1 to N, such as 2/8.", code="bad_option")
        return int(k), int(n)
