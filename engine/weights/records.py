"""Which models a job has used: every loader records its files here, and the job's side-car names them."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.weights.digests import get_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True)
class ModelRecord:
    """One file of weights that was used.

    name: as side-cars name it.  path: of the file; empty where an earlier run used it.  sha256: 64 hex digits.
    """

    name: str
    path: str
    sha256: str


class ModelRecords:
    """The models of one job, each file once, in the order of their first use."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], ModelRecord] = {}

    def __iter__(self) -> Iterator[ModelRecord]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, record: ModelRecord) -> None:
        """Add a record; one of the same name and path is replaced."""
        self._entries[record.name, record.path] = record

    def get_hashes(self) -> dict[str, str]:
        """Return {name: SHA-256} of all models, as a side-car holds them."""
        return {record.name: record.sha256 for record in self}


# the records of the job that runs in this context; None outside of a job. A thread that loads models for a job must
# run in a copy of the job's context (contextvars.copy_context).
_current: ContextVar[ModelRecords | None] = ContextVar("model_records", default=None)


@contextmanager
def record_models() -> Iterator[ModelRecords]:
    """Collect the models used within the block: a context that gives their ModelRecords.

    A block inside another passes its records on to the outer one at its end.
    """
    outer, records = _current.get(), ModelRecords()
    token = _current.set(records)
    try:
        yield records
    finally:
        _current.reset(token)
        if outer is not None:
            for record in records:
                outer.add(record)


def record_model(name: str, path: Path | str, sha256: str) -> None:
    """Record a file of weights that a loader has verified. Nothing is recorded outside of record_models.

    name: as side-cars name it.  path: of the file.  sha256: 64 hex digits.
    """
    add_records([ModelRecord(name, str(path), sha256)])


def add_records(records: Iterable[ModelRecord]) -> None:
    """Add records to those of the current job, such as those of a model that was loaded by an earlier one."""
    current = _current.get()
    if current is not None:
        for record in records:
            current.add(record)


def record_packaged_model(module: str, files: Iterable[str]) -> None:
    """Record networks inside an installed package as "package version file"; files that do not exist are skipped.

    module: name of the package's module, such as "mediapipe".  files: paths in it, with / between folders.
    """
    spec = find_spec(module)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    for path in (Path(folder) / file for folder in folders for file in files):
        if path.is_file():
            record_model(f"{_get_package_version(module)} {path.name}", path, get_sha256(path))


@cache
def _get_package_version(module: str) -> str:
    name = module.replace("_", "-")
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:  # a module that no package manager installed
        return name


def get_model_hashes() -> dict[str, str]:
    """Return {name: SHA-256} of the models that the current job has used, for its side-car."""
    current = _current.get()
    return {} if current is None else current.get_hashes()


def add_model_hashes(hashes: Mapping[str, str]) -> None:
    """Add the model hashes of a cached result to the current job's records; names it already has are kept.

    hashes: {name: SHA-256}, as get_model_hashes returned them when the result was made.
    """
    known = get_model_hashes()
    add_records(ModelRecord(name, "", sha256) for name, sha256 in hashes.items() if name not in known)
