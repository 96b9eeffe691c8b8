"""A batch file as items that can be run: every row checked before the first one runs."""

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engine.batch.rows import BadRow, read_rows
from engine.config import check_given, read_preset
from engine.errors import MouthpieceError, UsageProblem
from engine.files import input_file
from engine.provenance import place_of_mark

COMMANDS = ("animate", "lipsync", "speak", "dub", "sound")
MEDIA = ("portrait", "sound", "video")  # inputs that are never plain text
_OURS = ("json", "verbose", "quiet", "progress", "dry_run", "force", "help")  # the batch decides these for all rows
_LONGEST_ID, _MOST_TOLD = 200, 200
KEPT = ("results", "summary")  # stems of the files that a batch itself writes into its folder


@dataclass(frozen=True)
class Item:
    """One job of a batch, known to be possible as far as can be seen without doing it.

    line: int, of the batch file.  id: str, unique.  command: name.
    argv: words for the command line, paths absolute, without --force.
    inputs: Paths of the files it reads, in order.  output: Path, absolute, inside the batch's folder.
    Source: ours.
    """

    line: int
    id: str
    command: str
    argv: tuple
    inputs: tuple
    output: Path

    def settings(self, folder):
        """What is asked for apart from the contents of inputs, JSON-ready: two items that share it and those make the same file.

        folder: Path of the batch; the output counts from there.
        Source: ours.
        """
        names = {str(path): f"input {number}" for number, path in enumerate(self.inputs)}
        names[str(self.output)] = self.output.relative_to(folder).as_posix()
        words = []
        for word in self.argv:
            flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
            words.append(flag + equals + names.get(value, value))
        return words


def read_manifest(path, folder, parser_of):
    """The Items of a batch file, in its order.

    path: str or Path, see rows.read_rows; relative inputs count from its folder, outputs from `folder`.
    folder: Path, where all outputs go.
    parser_of: callable that gives the argparse parser of a command by name.
    Raises UsageProblem that lists every bad row with its line; what rows.read_rows raises.
    Source: ours.
    """
    rows, faults = read_rows(path)
    base, folder = Path(path).resolve().parent, Path(os.path.realpath(folder))
    parser_of, items = cache(parser_of), []
    for row in rows:
        try:
            items.append(_item(row, base, folder, parser_of))
        except BadRow as fault:
            faults.append((row.line, str(fault)))
        except MouthpieceError as error:
            faults.append((row.line, str(error).rstrip(".")))
        except OSError as error:
            faults.append((row.line, f"{error.filename}: {error.strerror}"))
    faults += _conflicts(items, Path(path).resolve(), folder)
    if faults:
        faults = sorted(set(faults))
        told = [f"\n  line {line}: {''.join(c if c.isprintable() else '?' for c in what)[:500]}" for line, what in faults[:_MOST_TOLD]]
        more = f"\n  and {len(faults) - _MOST_TOLD} more" if len(faults) > _MOST_TOLD else ""
        count = len({line for line, _ in faults})
        raise UsageProblem(
            f"{path}: {count} bad row{'s' if count > 1 else ''}, nothing was run:{''.join(told)}{more}\n",
            hint="Correct them and run it again.", code="bad_rows",
        )  # fmt: skip
    return items


def _item(row, base, folder, parser_of):
    fields = dict(row.fields)
    name, command, output = (_text(fields, key) for key in ("id", "command", "output"))
    if len(name) > _LONGEST_ID or not name.isprintable():
        raise BadRow(f"id: need at most {_LONGEST_ID} characters that can be printed")
    if command not in COMMANDS:
        raise BadRow(f"command: '{command[:40]}' is none of {', '.join(COMMANDS)}")
    try:
        parser = parser_of(command)
    except KeyError as error:
        raise BadRow(f"command: {command} is not installed here") from error
    output = _inside(output, folder)
    argv, inputs = _words(fields, parser, base, command)
    argv = (command, *argv, f"--output={output}")
    args = parser.parse_args(list(argv[1:]))
    check_given(getattr(args, "option_classes", ()), vars(args))
    if getattr(args, "preset", None) is not None:
        read_preset(args.preset, command)
    return Item(row.line, name, command, argv, inputs, output)


def _text(fields, key):
    value = fields.pop(key, None)
    if value is None:
        raise BadRow(f"{key}: is missing")
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise BadRow(f"{key}: need text")
    return str(value)


def _inside(name, folder):
    """The absolute path of an output, which may not leave the folder, neither by .. nor through a link."""
    if "\0" in name or len(name) > 1_000 or not name.isprintable():
        raise BadRow("output: need a path of at most 1000 characters that can be printed")
    path = Path(os.path.normpath(folder / name))
    if any(len(os.fsencode(part)) > 200 for part in path.parts):
        raise BadRow("output: a name in it is longer than 200 bytes")
    real = Path(os.path.realpath(path.parent)) / path.name
    if not path.is_relative_to(folder) or not real.is_relative_to(folder) or path == folder or path.is_symlink():
        raise BadRow(f"output: {name} lies outside of the batch's folder")
    if path.stem.split(".")[0].split("-")[0] in KEPT and path.parent == folder:
        raise BadRow(f"output: {name} is kept for what the batch itself writes")
    if path.is_dir():
        raise BadRow(f"output: {name} is a folder")
    return path


def _words(fields, parser, base, command):
    """(words of the command line, input paths) of the fields of a row."""
    actions = {action.dest: action for action in parser._actions}
    places = [action.dest for action in parser._actions if not action.option_strings]
    words, inputs = {}, []
    for key, value in fields.items():
        dest = key.removeprefix("--").replace("-", "_")
        action = actions.get(dest)
        if action is None or dest in _OURS or dest == "output":
            raise BadRow(f"{key}: {command} has no such input or option" if action is None else f"{key}: is not for single rows")
        words[dest] = _flag(action, key, value, base, inputs)
    missing = [dest for dest in places if dest not in words and actions[dest].required]
    if missing:
        raise BadRow(f"{missing[0]}: is missing")
    ordered = [word for dest, found in words.items() if dest not in places for word in found]
    return ordered + [word for dest in places for word in words.get(dest, ())], tuple(inputs)


def _flag(action, key, value, base, inputs):
    values = value if isinstance(value, list) else [value]
    if len(values) > 1 and action.nargs in (None, "?", 0) and type(action).__name__ != "_AppendAction":
        raise BadRow(f"{key}: need one value")
    if action.option_strings and action.nargs == 0:  # a switch
        state = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).lower())
        if state is None:
            raise BadRow(f"{key}: need true or false")
        if len(action.option_strings) > 1 and action.option_strings[-1].startswith("--no-"):
            return [action.option_strings[0] if state else action.option_strings[-1]]
        return [action.option_strings[-1]] if state else []
    texts = []
    for one in values:
        text = _path(action.dest, str(one), base, inputs) if action.type is Path or action.dest == "preset" else str(one)
        if "\0" in text or not action.option_strings and text.startswith("-"):
            raise BadRow(f"{key}: {text[:40]!r} is nothing that can be given")
        texts.append(text)
    return texts if not action.option_strings else [f"{action.option_strings[-1]}={text}" for text in texts]


def _path(dest, text, base, inputs):
    """An input as absolute path, after a look at what is there; the name of a packaged preset stays a name."""
    if "\0" in text or len(text) > 4_000:
        raise BadRow(f"{dest}: is no path")
    path = Path(os.path.normpath(base / text))
    if dest == "preset" and not path.exists():
        return text
    path = input_file(path, dest.replace("_", " "))
    if not path.is_file():
        raise BadRow(f"{dest}: {text} is no file")
    if dest in MEDIA:
        with open(path, "rb") as file:
            head = file.read(512)
        if b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
            raise BadRow(f"{dest}: {text} is plain text")
    inputs.append(path)
    return str(path)


def _conflicts(items, manifest, folder):
    """Faults between rows: ids and outputs given twice, outputs that are inputs of others or lie in the way of others."""
    faults, ids, reads, writes = [], {}, {}, {}
    for item in items:
        for path in item.inputs:
            reads.setdefault(os.path.realpath(path), item.line)
    for item in items:
        if item.id in ids:
            faults.append((item.line, f"id: '{item.id}' is that of line {ids[item.id]} too"))
        ids.setdefault(item.id, item.line)
        for path in {item.output, item.output.with_suffix(".json"), place_of_mark(item.output)}:
            real = os.path.realpath(path)
            if real in reads:
                faults.append((item.line, f"output: writes {path.name}, which is an input of line {reads[real]}; outputs feed no other row"))
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


def key_of(item, folder, contents, version):
    """The key under which an item's result is kept: 64 hex digits.

    item: Item.  folder: Path of the batch.
    contents: SHA-256 of every input, in the order of item.inputs.
    version: text that changes with code and weights.
    Source: ours.
    """
    parts = [version, *item.settings(folder), *contents]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
