"""The ledger of a batch: an append-only file of JSON lines on disk that survives being cut off anywhere."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import compute_sha256, make_output_error
from mouthpiece.engine.provenance.sidecar import find_sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

DONE = "done"  # states of an item, as the ledger writes them
FAILED = "failed"
QUARANTINED = "quarantined"  # it killed several workers
STARTED = "started"
_MIN_FILE_AGE_S = 2.0  # a file hashed sooner after its change may have changed again within one tick of its clock


class Ledger:
    """The records of a batch, of this and of earlier runs.

    folder: of the batch.
    shard: (k, n) of this run; each shard of several appends to a file of its own and reads those of all.
    As a context manager it is open for appending; a second run in the same folder and shard is rejected meanwhile.
    A last line that was cut off is skipped; what it would have recorded is done again.
    latest_records: {key of a result: its last record}.  started_outputs: names of outputs that were ever begun.
    Raises InvalidInputError when another run holds it, OutputError for the disk.
    """

    def __init__(self, folder: Path | str, shard: tuple[int, int] = (1, 1)) -> None:
        name = "results.jsonl" if shard[1] == 1 else f"results-{shard[0]}of{shard[1]}.jsonl"
        self.folder, self.path = Path(folder), Path(folder) / name
        self.latest_records: dict[str, dict[str, Any]] = {}
        self.started_outputs: set[str] = set()
        self._fingerprints: dict[str, dict[str, Any]] = {}  # path of an input -> its last fingerprint
        self._descriptor: int | None = None

    def __enter__(self) -> Ledger:
        try:
            descriptor = self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._lock(descriptor)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                os.write(descriptor, b"\n")  # ends the line that was cut off
        except OSError as error:
            self.__exit__()
            raise make_output_error(self.path, error) from error
        except BaseException:
            self.__exit__()
            raise
        return self.read()

    def _lock(self, descriptor: int) -> None:
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        try:
            # released by the system however the process ends
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            hint = "Wait for it, or give another folder; several machines share a batch by --shard."
            raise InvalidInputError(
                f"{self.folder}: another run is at work there.", hint=hint, code="batch_runs", retryable=True
            ) from error

    def __exit__(self, *problem: object) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def read(self) -> Ledger:
        """Read the records of earlier runs, without opening the ledger for appending; return the ledger."""
        for path in sorted(self.folder.glob("results*.jsonl")):
            for record in read_records(path):
                self._apply_record(record)
        return self

    def _apply_record(self, record: dict[str, Any]) -> None:
        if record.get("state") == STARTED:
            self.started_outputs.add(record.get("output", ""))
        elif "key" in record:
            self.latest_records[record["key"]] = record
        for row in record.get("inputs", ()):
            if row["mtime_ns"] < (record["at"] - _MIN_FILE_AGE_S) * 1e9:
                self._fingerprints[row["path"]] = row

    def append(self, record: dict[str, Any]) -> None:
        """Append a record and flush it to the disk.

        record: JSON-ready dict with "state", and "key" for a result.
        Raises OutputError for the disk.
        """
        if self._descriptor is None:
            raise ValueError("the ledger is not open for appending")
        record = {"at": round(time.time(), 3)} | record
        try:
            os.write(
                self._descriptor, (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")
            )
            os.fsync(self._descriptor)
        except OSError as error:
            raise make_output_error(self.path, error) from error
        self._apply_record(record)

    def compute_fingerprint(self, path: Path) -> dict[str, Any]:
        """Compute what identifies an input's contents: dict of path, bytes, mtime_ns, sha256.

        A file is not read again while its size and time stay, unless it changed within two seconds before it was read.
        """
        facts = path.stat()
        known = self._fingerprints.get(str(path))
        if known and (known["bytes"], known["mtime_ns"]) == (facts.st_size, facts.st_mtime_ns):
            return known
        return {
            "path": str(path),
            "bytes": facts.st_size,
            "mtime_ns": facts.st_mtime_ns,
            "sha256": compute_sha256(path),
        }

    def is_done(self, key: str, output: Path) -> bool:
        """Return whether a result is recorded as done and its output is unchanged. key: 64 hex digits."""
        record = self.latest_records.get(key, {})
        if record.get("state") != DONE:
            return False
        try:
            facts = output.stat()
        except OSError:
            return False
        same = record["bytes"] == facts.st_size
        return same and (record["mtime_ns"] == facts.st_mtime_ns or record["sha256"] == compute_sha256(output))


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Read the records of a ledger's file in order; lines that are not records are skipped."""
    with open(path, "rb") as file:
        for line in file:
            with suppress(ValueError, UnicodeDecodeError):
                record = json.loads(line.decode("utf-8"))
                if isinstance(record, dict) and "state" in record:
                    yield record


def describe_output(output: Path) -> dict[str, Any]:
    """Describe a finished output for the ledger: bytes, mtime_ns, sha256, and from its side-car sha256_unmarked.

    Two signatures of one result differ; the SHA-256 before the mark does not.
    """
    facts = output.stat()
    found = {"bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns, "sha256": compute_sha256(output)}
    with suppress(KeyError, TypeError):
        found["sha256_unmarked"] = find_sidecar(output)[1]["provenance"]["sha256_unmarked"]
    return found
