"""What is finished, on disk: an append-only file of JSON lines that survives being cut off anywhere."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from engine.errors import Refused
from engine.files import sha256_of, write_problem
from engine.report import find_sidecar

DONE, FAILED, QUARANTINED, STARTED = "done", "failed", "quarantined", "started"
_SETTLED_S = 2.0  # a file changed this shortly before it was hashed may have changed again within one tick of its clock


class Ledger:
    """The results of a batch: records of this and of earlier runs, and a place to append.

    folder: Path of the batch.
    shard: (k, n) of this run; each shard of several appends to a file of its own and reads those of all.
    Use it as a context manager; a second run in the same folder and shard is refused meanwhile.
    A last line that was cut off is passed over; what it would have said is done again.
    Raises Refused when another run holds it, WriteFailed for the disk.
    Source: ours.
    """

    def __init__(self, folder, shard=(1, 1)):
        name = "results.jsonl" if shard[1] == 1 else f"results-{shard[0]}of{shard[1]}.jsonl"
        self.folder, self.path = Path(folder), Path(folder) / name
        self.last, self.started, self._hashed = {}, set(), {}
        self._descriptor = None

    def __enter__(self):
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._hold()
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                os.write(self._descriptor, b"\n")  # ends the line that was cut off
        except OSError as error:
            self.__exit__()
            raise write_problem(self.path, error) from error
        except BaseException:
            self.__exit__()
            raise
        return self.read()

    def _hold(self):
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the system however the process ends
        except OSError as error:
            hint = "Wait for it, or give another folder; several machines share a batch by --shard."
            raise Refused(f"{self.folder}: another run is at work there.", hint=hint, code="batch_runs", retryable=True) from error

    def __exit__(self, *problem):
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def read(self):
        """Takes in what earlier runs recorded; enough for whoever only looks. Gives the ledger. Source: ours."""
        for path in sorted(self.folder.glob("results*.jsonl")):
            for record in records_of(path):
                self._take(record)
        return self

    def _take(self, record):
        if record.get("state") == STARTED:
            self.started.add(record.get("output"))
        elif "key" in record:
            self.last[record["key"]] = record
        for row in record.get("inputs", ()):
            if row["mtime_ns"] < (record["at"] - _SETTLED_S) * 1e9:
                self._hashed[row["path"]] = row

    def append(self, record):
        """Writes a record and makes sure that it is on the disk before it returns.

        record: JSON-ready dict with "state", and "key" for a result.
        Raises WriteFailed for the disk.
        Source: ours.
        """
        record = {"at": round(time.time(), 3)} | record
        try:
            os.write(self._descriptor, (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape"))
            os.fsync(self._descriptor)
        except OSError as error:
            raise write_problem(self.path, error) from error
        self._take(record)

    def fingerprint(self, path):
        """What identifies a file's contents: dict of path, bytes, mtime_ns, sha256; not read again while size and time stay.

        path: Path of an input.
        Source: ours; a file that changed within two seconds before it was read is always read again.
        """
        facts = path.stat()
        known = self._hashed.get(str(path))
        if known and (known["bytes"], known["mtime_ns"]) == (facts.st_size, facts.st_mtime_ns):
            return known
        return {"path": str(path), "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns, "sha256": sha256_of(path)}

    def is_done(self, key, output):
        """Whether the result with this key is recorded as done and still lies there as it was.

        key: 64 hex digits.  output: Path.
        Source: ours.
        """
        record = self.last.get(key, {})
        if record.get("state") != DONE:
            return False
        try:
            facts = output.stat()
        except OSError:
            return False
        same = record["bytes"] == facts.st_size
        return same and (record["mtime_ns"] == facts.st_mtime_ns or record["sha256"] == sha256_of(output))


def records_of(path):
    """The records of a ledger's file in order; lines that are no records are passed over.

    path: Path.
    Source: ours.
    """
    with open(path, "rb") as file:
        for line in file:
            with suppress(ValueError, UnicodeDecodeError):
                record = json.loads(line.decode("utf-8"))
                if isinstance(record, dict) and "state" in record:
                    yield record


def result_of(output):
    """What the ledger keeps of a finished output: bytes, mtime_ns, sha256, and from its side-car sha256_unmarked.

    output: Path.
    Source: ours; two signatures of one result differ, the SHA-256 before the mark does not.
    """
    facts = output.stat()
    found = {"bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns, "sha256": sha256_of(output)}
    with suppress(KeyError, TypeError):
        found["sha256_unmarked"] = find_sidecar(output)[1]["provenance"]["sha256_unmarked"]
    return found

