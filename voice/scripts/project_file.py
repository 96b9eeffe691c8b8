"""The project file: JSON against a schema, read, checked and written without losing a newer revision."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.voice.scripts.project import TIME_FIELDS, Project, ProjectEntry, mark_stale, round_times
from mouthpiece.voice.scripts.script import REMARK_KINDS, Line, Remark, Script
from mouthpiece.voice.scripts.script_format import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonschema import Draft202012Validator

    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

FORMAT = "mouthpiece project"
VERSION = 1
EXTENSION_PREFIX = "x_"  # names of other programs' own facts, kept as they are
_SCHEMA = Path(__file__).parents[1] / "schemas" / "project.schema.json"
_LINE_FIELDS = tuple(f.name for f in fields(Line))
_ENTRY_FIELDS = ("voice", "status", "locked", "revision", "take", "hash", "hashes", "settings_hash")
_PROJECT_FIELDS = ("title", "source", "language", "original_language", "film", "speakers")
_JSON_START = re.compile(r"\s*(?:\[\s*)?\{\s*[\"}]")  # an object with a name, or an empty one: not "{1}" or "{sighs}"
_MAX_MESSAGE_CHARACTERS = 200
_HINT = "docs/project-file.md says what a project holds; mend the file or start again from the script."


def sniff(text: str, suffix: str) -> Match:
    """Recognise JSON, of which project files are the only scripts."""
    return Match.YES if _JSON_START.match(text) else Match.NO


def read(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script in a project file. Raises what `parse_project` raises."""
    return replace(parse_project(file.text, file.name).script, source=file.name)


def read_project(path: str | Path) -> Project:
    """Read the Project in a file; lines edited since their take was made become stale.

    path: of the file.
    Raises InvalidInputError for a file that is missing, not JSON, or against the schema.
    """
    from mouthpiece.voice.scripts.formats import read_script_file  # the table of formats has this file in a row

    return parse_project(read_script_file(path).text, Path(path).name)


def parse_project(text: str, name: str) -> Project:
    """Parse JSON text to a Project, checked against the schema.

    text: of the whole file.
    name: of the file.
    Raises InvalidInputError, naming the place.
    """
    try:
        document = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name}: not JSON ({error}).", hint=_HINT, code="broken_project") from error
    _validate(document, name)
    entries, removed = (
        tuple(_parse_entry(entry, name) for entry in document.get(key, ())) for key in ("lines", "removed")
    )
    ids = [entry.id for entry in entries]
    repeated = next((i for i in ids if ids.count(i) > 1), None) if len(set(ids)) < len(ids) else None
    if repeated:
        raise InvalidInputError(
            f"{name}: two lines have the id '{repeated}'.", hint="Give every line its own id.", code="broken_project"
        )
    known = {key: document[key] for key in (*_PROJECT_FIELDS, "revision") if key in document}
    project = Project(entries, removed=removed, extra=_get_extra(document), **known)
    return replace(project, entries=tuple(mark_stale(project, entry) for entry in entries))


def _get_extra(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key.startswith(EXTENSION_PREFIX)}


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


@cache
def _load_validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(_SCHEMA.read_text(encoding="utf-8")))


def _validate(document: Any, name: str) -> None:
    """Check a document against the schema. Raises InvalidInputError, naming the place."""
    from jsonschema.exceptions import best_match

    error = best_match(_load_validator().iter_errors(document))
    if error is None:
        return
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    where, what = "".join(steps).lstrip("."), error.message
    if len(what) >= _MAX_MESSAGE_CHARACTERS:
        what = what[:_MAX_MESSAGE_CHARACTERS] + " …"
    raise InvalidInputError(
        f"{name}: not a valid project: {where + ': ' if where else ''}{what}.", hint=_HINT, code="broken_project"
    )


def _parse_entry(document: dict[str, Any], name: str) -> ProjectEntry:
    """Parse one line of a project. name: of the file, for errors."""
    start, end = (None if document.get(key) is None else Fraction(repr(document[key])) for key in TIME_FIELDS)
    if (start is None) != (end is None) or start is not None and end is not None and min(start, end) < 0:
        raise InvalidInputError(
            f"{name}: line {document['id']}: its times are {document.get('start')} and {document.get('end')}.",
            hint=_HINT,
            code="broken_project",
        )
    texts = {key: document[key] for key in _LINE_FIELDS if key in document and key not in TIME_FIELDS}
    line = round_times(Line(start=start, end=end, **{"speaker": "", **texts}))
    known = {key: document[key] for key in _ENTRY_FIELDS if key in document}
    remarks = tuple(
        Remark(r["kind"], r["text"], line.id) for r in document.get("remarks", ()) if r["kind"] in REMARK_KINDS
    )
    takes = tuple(document.get("takes", ()))
    if known.get("take", 0) > len(takes):
        raise InvalidInputError(
            f"{name}: line {line.id}: take {known['take']} of {len(takes)}.", hint=_HINT, code="broken_project"
        )
    return ProjectEntry(line, remarks=remarks, takes=takes, extra=_get_extra(document), **known)


def convert_to_dict(project: Project) -> dict[str, Any]:
    """Convert a Project to the JSON-ready dict that the file holds. Source: voice/schemas/project.schema.json."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "revision": project.revision,
        **{name: getattr(project, name) for name in _PROJECT_FIELDS},
        "lines": [_convert_entry(entry) for entry in project.entries],
        "removed": [_convert_entry(entry) for entry in project.removed],
        **project.extra,
    }


def _convert_entry(entry: ProjectEntry) -> dict[str, Any]:
    document = {name: getattr(entry.line, name) for name in _LINE_FIELDS}
    document |= {name: None if document[name] is None else float(document[name]) for name in TIME_FIELDS}
    document |= {name: getattr(entry, name) for name in _ENTRY_FIELDS}
    return document | {
        "takes": list(entry.takes),
        "remarks": [{"kind": r.kind, "text": r.text} for r in entry.remarks],
        **entry.extra,
    }


def save_project(project: Project, path: str | Path, inputs: Sequence[str | Path] = ()) -> Project:
    """Save a Project, its revision one up when anything changed; return it as saved.

    project: Project.
    path: of the file; a project that is there is replaced unless its revision is newer.
    inputs: paths that must not be written over.
    Raises UsageError for a newer file or one that is not a project, InvalidInputError for a project against its schema,
    OutputError for the disk.
    """
    path = Path(path)
    project = replace(project, entries=tuple(replace(entry, line=round_times(entry.line)) for entry in project.entries))
    previous = _read_previous(path)
    if previous is not None and previous.revision > project.revision:
        what = f"{path}: saved by something else meanwhile (revision {previous.revision}, this is {project.revision})"
        raise UsageError(f"{what}.", hint="Read it again and repeat the change.", code="newer_project")
    if previous is not None and convert_to_dict(previous) == convert_to_dict(project):
        return project
    project = replace(project, revision=project.revision + 1)
    document = convert_to_dict(project)
    _validate(document, path.name)
    with atomic_write(path, True, inputs) as part:
        part.write_text(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return project


def _read_previous(path: Path) -> Project | None:
    """Read the Project that a save would replace; None when nothing is there. Raises UsageError for another file."""
    if not path.exists():
        return None
    try:
        return read_project(path)
    except InvalidInputError as error:
        raise UsageError(
            f"{path}: already there, and not a project ({error.message.rstrip('.')}).",
            hint="Give another name, or move the file away.",
            code="output_exists",
        ) from error
