"""A batch file as items that can be run: every row is a checked Request before the first one runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mouthpiece.batch.rows import InvalidRowError, read_batch_rows
from mouthpiece.engine.config import Options, get_option_types, rename_former_options
from mouthpiece.engine.errors import MouthpieceError, UsageError
from mouthpiece.engine.files import check_input_file
from mouthpiece.engine.provenance.manifest import get_manifest_path

if TYPE_CHECKING:
    from mouthpiece.batch.rows import BatchRow
    from mouthpiece.request import Argument, Request, UseCase

# names that the batch decides for all rows
_BATCH_ONLY_FIELDS = ("json", "verbose", "quiet", "progress", "dry_run", "force", "overwrite", "help")
_MAX_ID_LENGTH = 200  # characters
_MAX_REPORTED = 200  # bad rows that are listed
_MAX_PATH_LENGTH = 4_000  # characters of an input
_HEAD_BYTES = 512  # of a media file, to recognise plain text
RESERVED_STEMS = ("results", "summary")  # stems of the files that a batch itself writes into its folder
_SWITCHES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class BatchItem:
    """One job of a batch, checked as far as that goes without doing it.

    line: of the batch file, from 1.  id: unique in the batch.  command: name of the use case.
    request: what to run; its paths are absolute, it does not overwrite.
    inputs: files that it reads, in order.  output: absolute, inside the batch's folder.
    excerpts: names of the request's inputs of which the beginning is enough to measure the pace of the work.
    """

    line: int
    id: str
    command: str
    request: Request
    inputs: tuple[Path, ...]
    output: Path
    excerpts: tuple[str, ...] = ()

    def describe(self, folder: Path) -> dict[str, Any]:
        """Describe what is asked for without the contents of inputs, JSON-ready.

        Two items with the same description and the same contents of inputs make the same file.
        folder: of the batch; the output counts from there.
        """
        names = {str(path): f"input {number}" for number, path in enumerate(self.inputs)}
        names[str(self.output)] = self.output.relative_to(folder).as_posix()

        def describe_value(value: Any) -> Any:
            if isinstance(value, Options):
                return describe_value(value.settings())
            if isinstance(value, Mapping):
                return {key: describe_value(one) for key, one in value.items()}
            return names.get(str(value), value) if isinstance(value, str | Path) else value

        fields = [field.name for field in dataclasses.fields(self.request) if field.name not in ("given", "settings")]
        settings = dataclasses.asdict(self.request.settings)
        kept = {name: value for name, value in settings.items() if name not in ("overwrite", "dry_run")}
        described = {name: describe_value(getattr(self.request, name)) for name in fields}
        return {"command": self.command, "settings": describe_value(kept)} | described


def compute_item_key(item: BatchItem, folder: Path, contents: list[str], version: str) -> str:
    """Compute the key under which an item's result is kept: 64 hex digits.

    folder: of the batch.
    contents: SHA-256 of every input, in the order of item.inputs.
    version: text that changes with the code and the weights.
    """
    facts = {"version": version, "item": item.describe(folder), "contents": list(contents)}
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_job_list(path: Path | str, folder: Path | str, use_cases: Mapping[str, UseCase]) -> list[BatchItem]:
    """Read and check a batch file; return its items in order.

    path: see rows.read_batch_rows; relative inputs count from its folder, outputs from `folder`.
    folder: of all outputs.
    use_cases: those that a row may name.
    Raises UsageError that lists every bad row with its line, and what rows.read_batch_rows raises.
    """
    rows, faults = read_batch_rows(path)
    base, folder = Path(path).resolve().parent, Path(os.path.realpath(folder))
    items = []
    for row in rows:
        try:
            items.append(_parse_item(row, base, folder, use_cases))
        except InvalidRowError as fault:
            faults.append((row.line, str(fault)))
        except MouthpieceError as error:
            faults.append((row.line, str(error).rstrip(".")))
        except OSError as error:
            faults.append((row.line, f"{error.filename}: {error.strerror}"))
    faults += _find_conflicts(items, Path(path).resolve(), folder)
    if faults:
        raise _make_rows_error(path, sorted(set(faults)))
    return items


def _make_rows_error(path: Path | str, faults: list[tuple[int, str]]) -> UsageError:
    """Make the error that lists bad rows. faults: (line, what is wrong), sorted."""
    listed = [
        f"\n  line {line}: {''.join(c if c.isprintable() else '?' for c in fault)[:500]}"
        for line, fault in faults[:_MAX_REPORTED]
    ]
    more = f"\n  and {len(faults) - _MAX_REPORTED} more" if len(faults) > _MAX_REPORTED else ""
    count = len({line for line, _ in faults})
    message = f"{path}: {count} bad row{'s' if count > 1 else ''}, nothing was run:{''.join(listed)}{more}\n"
    return UsageError(message, hint="Correct them and run it again.", code="bad_rows")


def _parse_item(row: BatchRow, base: Path, folder: Path, use_cases: Mapping[str, UseCase]) -> BatchItem:
    fields = dict(row.fields)
    name, command, output = (_take_text(fields, key) for key in ("id", "command", "output"))
    if len(name) > _MAX_ID_LENGTH or not name.isprintable():
        raise InvalidRowError(f"id: need at most {_MAX_ID_LENGTH} characters that can be printed")
    if command not in use_cases:
        raise InvalidRowError(f"command: '{command[:40]}' is none of {', '.join(use_cases)}")
    use_case, output_path = use_cases[command], _resolve_output(output, folder)
    values, inputs = _convert_fields(_rename_fields(fields, use_case), use_case, base)
    for argument in use_case.arguments:
        if argument.required and not argument.writes and argument.name not in values:
            raise InvalidRowError(f"{argument.name}: is missing")
    request = use_case.from_fields(values | {"output": output_path})
    excerpts = tuple(argument.name for argument in use_case.arguments if argument.excerpt)
    return BatchItem(row.line, name, command, request, inputs, output_path, excerpts)


def _take_text(fields: dict[str, Any], key: str) -> str:
    value = fields.pop(key, None)
    if value is None:
        raise InvalidRowError(f"{key}: is missing")
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise InvalidRowError(f"{key}: need text")
    return str(value)


def _resolve_output(name: str, folder: Path) -> Path:
    """Return the absolute path of an output, which must not leave the folder, neither by .. nor through a link."""
    if "\0" in name or len(name) > 1_000 or not name.isprintable():
        raise InvalidRowError("output: need a path of at most 1000 characters that can be printed")
    path = Path(os.path.normpath(folder / name))
    if any(len(os.fsencode(part)) > 200 for part in path.parts):
        raise InvalidRowError("output: a name in it is longer than 200 bytes")
    real = Path(os.path.realpath(path.parent)) / path.name
    if not path.is_relative_to(folder) or not real.is_relative_to(folder) or path == folder or path.is_symlink():
        raise InvalidRowError(f"output: {name} lies outside of the batch's folder")
    if path.stem.split(".")[0].split("-")[0] in RESERVED_STEMS and path.parent == folder:
        raise InvalidRowError(f"output: {name} is kept for what the batch itself writes")
    if path.is_dir():
        raise InvalidRowError(f"output: {name} is a folder")
    return path


def _rename_fields(fields: dict[str, Any], use_case: UseCase) -> dict[str, Any]:
    """Return the fields of a row by their names in a Request: "head-speed" as "head_speed", former names as present."""
    renamed: dict[str, Any] = {}
    for key, value in fields.items():
        name = key.removeprefix("--").replace("-", "_")
        if name in renamed:
            raise InvalidRowError(f"{key}: given twice")
        renamed[name] = value
    for cls in use_case.option_classes:
        renamed = rename_former_options(cls, renamed)
    return renamed


def _convert_fields(fields: dict[str, Any], use_case: UseCase, base: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Convert the values of a row to those of a Request; return (values, files that are read)."""
    arguments = {argument.name: argument for argument in use_case.arguments}
    options = {name: kind for cls in use_case.option_classes for name, kind in get_option_types(cls).items()}
    values: dict[str, Any] = {}
    inputs: list[Path] = []
    for name, value in fields.items():
        known = name in use_case.field_names or name == "no_provenance" and "provenance" in use_case.settings
        if name in _BATCH_ONLY_FIELDS:
            raise InvalidRowError(f"{name}: is not for single rows")
        if not known:
            raise InvalidRowError(f"{name}: {use_case.name} has no such input or option")
        value = _take_scalar(name, value)
        if name in options:
            values[name] = _convert_option(name, value, options[name], base, inputs)
        elif name in arguments:
            values[name] = _convert_argument(arguments[name], value, base, inputs)
        elif name == "preset":
            values[name] = _resolve_preset(str(value), base, inputs)
        elif name in ("consent", "signing_key", "signing_cert"):
            values[name] = _resolve_input(name, str(value), base, inputs)
        else:
            values[name] = _parse_switch(name, value)
    return values, tuple(inputs)


def _take_scalar(name: str, value: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    if len(values) != 1:
        raise InvalidRowError(f"{name}: need one value")
    return values[0]


def _to_text(name: str, value: Any) -> str:
    text = str(value)
    if "\0" in text:
        raise InvalidRowError(f"{name}: {text[:40]!r} cannot be given")
    return text


def _convert_option(name: str, value: Any, kind: type, base: Path, inputs: list[Path]) -> Any:
    """Convert the value of an option; a file named by one counts from the batch file's folder where it is there."""
    if kind is bool:
        return _parse_switch(name, value)
    text = _to_text(name, value)
    if kind is not Path:
        return text
    path = Path(os.path.normpath(base / text))
    path = path if path.exists() else Path(os.path.abspath(text))
    if path.is_file():
        inputs.append(path)
    return path


def _convert_argument(argument: Argument, value: Any, base: Path, inputs: list[Path]) -> Any:
    if argument.kind is bool:
        return _parse_switch(argument.name, value)
    if argument.kind is not Path:
        return _to_text(argument.name, value)
    return _resolve_input(argument.name, str(value), base, inputs, argument.media)


def _parse_switch(name: str, value: Any) -> bool:
    state = _SWITCHES.get(str(value).lower())
    if state is None:
        raise InvalidRowError(f"{name}: need true or false")
    return state


def _resolve_preset(text: str, base: Path, inputs: list[Path]) -> str | Path:
    """Return a preset as absolute path; the name of a packaged one stays a name."""
    if "\0" not in text and len(text) <= _MAX_PATH_LENGTH and not Path(os.path.normpath(base / text)).exists():
        return text
    return _resolve_input("preset", text, base, inputs)


def _resolve_input(name: str, text: str, base: Path, inputs: list[Path], media: bool = False) -> Path:
    """Return an input as absolute path after a look at the file; add it to `inputs`.

    media: True for a picture, a sound or a video, which is never plain text.
    """
    if "\0" in text or len(text) > _MAX_PATH_LENGTH:
        raise InvalidRowError(f"{name}: is not a path")
    path = check_input_file(Path(os.path.normpath(base / text)), name.replace("_", " "))
    if not path.is_file():
        raise InvalidRowError(f"{name}: {text} is not a file")
    if media:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
        if b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
            raise InvalidRowError(f"{name}: {text} is plain text")
    inputs.append(path)
    return path


def _find_conflicts(items: list[BatchItem], batch_file: Path, folder: Path) -> list[tuple[int, str]]:
    """Find faults between rows, as (line, what is wrong).

    Ids and outputs given twice, outputs that are inputs of other rows or the batch file, outputs where a folder is.
    """
    faults: list[tuple[int, str]] = []
    ids: dict[str, int] = {}
    readers: dict[str, int] = {}  # real path of an input -> first line that reads it
    writers: dict[str, int] = {}  # real path of an output, case folded -> first line that writes it
    for item in items:
        for path in item.inputs:
            readers.setdefault(os.path.realpath(path), item.line)
    for item in items:
        if item.id in ids:
            faults.append((item.line, f"id: '{item.id}' is that of line {ids[item.id]} too"))
        ids.setdefault(item.id, item.line)
        for path in {item.output, item.output.with_suffix(".json"), get_manifest_path(item.output)}:
            real = os.path.realpath(path)
            if real in readers:
                fault = (
                    f"output: writes {path.name}, which is an input of line {readers[real]}; outputs feed no other row"
                )
                faults.append((item.line, fault))
            if real == str(batch_file):
                faults.append((item.line, "output: is the batch file itself"))
            other = writers.setdefault(real.casefold(), item.line)
            if other != item.line:
                faults.append((item.line, f"output: writes {path.name}, as line {other} does"))
    for item in items:
        for parent in item.output.parents:
            if parent == folder:
                break
            if os.path.realpath(parent).casefold() in writers or parent.is_file():
                faults.append((item.line, f"output: {parent.relative_to(folder)} is a file, not a folder"))
    return faults
