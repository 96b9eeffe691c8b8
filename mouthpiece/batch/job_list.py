"""A batch file as items that can be run: every row checked before the first one runs."""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.batch.rows import InvalidRowError, read_batch_rows
from mouthpiece.engine.config import read_preset, validate_given
from mouthpiece.engine.errors import MouthpieceError, UsageError
from mouthpiece.engine.files import check_input_file
from mouthpiece.engine.provenance.manifest import get_manifest_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.batch.rows import BatchRow

BATCH_COMMANDS = ("animate", "lipsync", "speak", "dub", "sound")
MEDIA_INPUTS = ("portrait", "sound", "video")  # inputs that are never plain text
# the batch decides these for all rows
_BATCH_ONLY_FLAGS = ("json", "verbose", "quiet", "progress", "dry_run", "force", "help")
_MAX_ID_LENGTH, _MAX_REPORTED = 200, 200
RESERVED_STEMS = ("results", "summary")  # stems of the files that a batch itself writes into its folder


@dataclass(frozen=True)
class BatchItem:
    """One job of a batch, known to be possible as far as can be seen without doing it.

    line: int, of the batch file.  id: str, unique.  command: name.
    argv: words for the command line, paths absolute, without --force.
    inputs: Paths of the files it reads, in order.  output: Path, absolute, inside the batch's folder.
    """

    line: int
    id: str
    command: str
    argv: tuple
    inputs: tuple
    output: Path

    def settings(self, folder: Path) -> list[str]:
        """What is asked for apart from the contents of inputs, JSON-ready: two items that share it and those make the
        same file.

        folder: Path of the batch; the output counts from there.
        """
        names = {str(path): f"input {number}" for number, path in enumerate(self.inputs)}
        names[str(self.output)] = self.output.relative_to(folder).as_posix()
        words = []
        for word in self.argv:
            flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
            words.append(flag + equals + names.get(value, value))
        return words


def read_job_list(path: Path, folder: Path, get_parser: Callable) -> list[BatchItem] | None:
    """The Items of a batch file, in its order.

    path: str or Path, see rows.read_rows; relative inputs count from its folder, outputs from `folder`.
    folder: Path, where all outputs go.
    parser_of: callable that gives the argparse parser of a command by name.
    Raises UsageProblem that lists every bad row with its line; what rows.read_rows raises.
    """
    rows, faults = read_batch_rows(path)
    base, folder = Path(path).resolve().parent, Path(os.path.realpath(folder))
    get_parser, items = cache(get_parser), []
    for row in rows:
        try:
            items.append(_parse_item(row, base, folder, get_parser))
        except InvalidRowError as fault:
            faults.append((row.line, str(fault)))
        except MouthpieceError as error:
            faults.append((row.line, str(error).rstrip(".")))
        except OSError as error:
            faults.append((row.line, f"{error.filename}: {error.strerror}"))
    faults += _find_conflicts(items, Path(path).resolve(), folder)
    if faults:
        faults = sorted(set(faults))
        told = [
            f"\n  line {line}: {''.join(c if c.isprintable() else '?' for c in what)[:500]}"
            for line, what in faults[:_MAX_REPORTED]
        ]
        more = f"\n  and {len(faults) - _MAX_REPORTED} more" if len(faults) > _MAX_REPORTED else ""
        count = len({line for line, _ in faults})
        raise UsageError(
            f"{path}: {count} bad row{'s' if count > 1 else ''}, nothing was run:{''.join(told)}{more}\n",
            hint="Correct them and run it again.", code="bad_rows",
        )  # fmt: skip
    return items


def _parse_item(row: BatchRow, base: Path, folder: Path, get_parser) -> BatchItem | None:
    fields = dict(row.fields)
    name, command, output = (_take_text(fields, key) for key in ("id", "command", "output"))
    if len(name) > _MAX_ID_LENGTH or not name.isprintable():
        raise InvalidRowError(f"id: need at most {_MAX_ID_LENGTH} characters that can be printed")
    if command not in BATCH_COMMANDS:
        raise InvalidRowError(f"command: '{command[:40]}' is none of {', '.join(BATCH_COMMANDS)}")
    try:
        parser = get_parser(command)
    except KeyError as error:
        raise InvalidRowError(f"command: {command} is not installed here") from error
    output = _resolve_output(output, folder)
    argv, inputs = _make_argv(fields, parser, base, command)
    argv = (command, *argv, f"--output={output}")
    args = parser.parse_args(list(argv[1:]))
    validate_given(getattr(args, "option_classes", ()), vars(args))
    if getattr(args, "preset", None) is not None:
        read_preset(args.preset, command)
    return BatchItem(row.line, name, command, argv, inputs, output)


def _take_text(fields: dict[str, Any], key: str) -> str:
    value = fields.pop(key, None)
    if value is None:
        raise InvalidRowError(f"{key}: is missing")
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise InvalidRowError(f"{key}: need text")
    return str(value)


def _resolve_output(name: str, folder: Path) -> Path | None:
    """The absolute path of an output, which may not leave the folder, neither by .. nor through a link."""
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


def _make_argv(fields: dict[str, Any], parser, base: Path, command: str) -> tuple | None:
    """(words of the command line, input paths) of the fields of a row."""
    former = {
        word.strip("-").replace("-", "_"): action
        for action in parser._actions
        for word in action.option_strings
        if action.help == argparse.SUPPRESS
    }
    actions = former | {action.dest: action for action in parser._actions if action.help != argparse.SUPPRESS}
    places = [action.dest for action in parser._actions if not action.option_strings]
    words, inputs = {}, []
    for key, value in fields.items():
        dest = key.removeprefix("--").replace("-", "_")
        action = actions.get(dest)
        if action is None or dest in _BATCH_ONLY_FLAGS or dest == "output":
            raise InvalidRowError(
                f"{key}: {command} has no such input or option" if action is None else f"{key}: is not for single rows"
            )
        words[dest] = _make_flag(action, key, value, base, inputs)
    missing = [dest for dest in places if dest not in words and actions[dest].required]
    if missing:
        raise InvalidRowError(f"{missing[0]}: is missing")
    ordered = [word for dest, found in words.items() if dest not in places for word in found]
    return ordered + [word for dest in places for word in words.get(dest, ())], tuple(inputs)


def _make_flag(action, key: str, value: str | float | list[str], base: Path, inputs: list[Path]) -> list[str] | None:
    values = value if isinstance(value, list) else [value]
    if len(values) > 1 and action.nargs in (None, "?", 0) and type(action).__name__ != "_AppendAction":
        raise InvalidRowError(f"{key}: need one value")
    if action.option_strings and action.nargs == 0:  # a switch
        state = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).lower())
        if state is None:
            raise InvalidRowError(f"{key}: need true or false")
        if len(action.option_strings) > 1 and action.option_strings[-1].startswith("--no-"):
            return [action.option_strings[0] if state else action.option_strings[-1]]
        return [action.option_strings[-1]] if state else []
    texts = []
    for one in values:
        text = (
            _resolve_input(action.dest, str(one), base, inputs)
            if action.type is Path or action.dest == "preset"
            else str(one)
        )
        if "\0" in text or not action.option_strings and text.startswith("-"):
            raise InvalidRowError(f"{key}: {text[:40]!r} is nothing that can be given")
        texts.append(text)
    return texts if not action.option_strings else [f"{action.option_strings[-1]}={text}" for text in texts]


def _resolve_input(dest: str, text: str, base: Path, inputs: list[Path]) -> str | None:
    """An input as absolute path, after a look at what is there; the name of a packaged preset stays a name."""
    if "\0" in text or len(text) > 4_000:
        raise InvalidRowError(f"{dest}: is no path")
    path = Path(os.path.normpath(base / text))
    if dest == "preset" and not path.exists():
        return text
    path = check_input_file(path, dest.replace("_", " "))
    if not path.is_file():
        raise InvalidRowError(f"{dest}: {text} is no file")
    if dest in MEDIA_INPUTS:
        with open(path, "rb") as file:
            head = file.read(512)
        if b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
            raise InvalidRowError(f"{dest}: {text} is plain text")
    inputs.append(path)
    return str(path)


def _find_conflicts(items: list[BatchItem], manifest: Path, folder: Path) -> list:
    """Faults between rows: ids and outputs given twice, outputs that are inputs of others or lie in the way of others."""
    faults, ids, reads, writes = [], {}, {}, {}
    for item in items:
        for path in item.inputs:
            reads.setdefault(os.path.realpath(path), item.line)
    for item in items:
        if item.id in ids:
            faults.append((item.line, f"id: '{item.id}' is that of line {ids[item.id]} too"))
        ids.setdefault(item.id, item.line)
        for path in {item.output, item.output.with_suffix(".json"), get_manifest_path(item.output)}:
            real = os.path.realpath(path)
            if real in reads:
                faults.append(
                    (
                        item.line,
                        f"output: writes {path.name}, which is an input of line {reads[real]}; outputs feed no other row",
                    )
                )
            if real == str(manifest):
                faults.append((item.line, "output: is the batch file itself"))
            other = writes.setdefault(real.casefold(), item.line)
            if other != item.line:
                faults.append((item.line, f"output: writes {path.name}, as line {other} does"))
    for item in items:
        for parent in item.output.parents:
            if parent == folder:
                break
            if os.path.realpath(parent).casefold() in writes or parent.is_file():
                faults.append((item.line, f"output: {parent.relative_to(folder)} is a file, not a folder"))
    return faults


def compute_item_key(item: BatchItem, folder: Path, contents: tuple[str] | list[str], version: str) -> str:
    """The key under which an item's result is kept: 64 hex digits.

    item: Item.  folder: Path of the batch.
    contents: SHA-256 of every input, in the order of item.inputs.
    version: text that changes with code and weights.
    """
    parts = [version, *item.settings(folder), *contents]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
