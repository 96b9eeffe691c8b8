"""The project file: the source of truth of a dub, and what must be done again when it changes."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.contracts import Take
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.timeline import round_half_up
from mouthpiece.voice.scripts.script import REMARKS, Line, Remark, Script

if TYPE_CHECKING:
    from typing import Any

FORMAT, VERSION = "mouthpiece project", 1
STATUSES = ("draft", "spoken", "needs_review", "approved", "stale")
TAKE_FIELDS = ("speaker", "start", "end", "text", "language", "on_screen", "voice")  # what a take depends on
_TIME_FIELDS = ("start", "end")
_TICKS_PER_S = 10**6  # times are kept in whole microseconds
_LINE_FIELDS = tuple(f.name for f in fields(Line))
_RANGE = re.compile(r"\s*([A-Za-z0-9._]+)\s*(?:-\s*([A-Za-z0-9._]+)\s*)?")
_HINT = "docs/project-file.md says what a project holds; mend the file or start again from the script."


@dataclass(frozen=True)
class ProjectEntry:
    """A line of a project: what is to be spoken and what was made of it.

    line: Line.  voice: its own voice, "" for the speaker's.
    take: number of the take in use, from 1; 0 for none.  takes: dicts with file, seed, hash, settings_hash, facts.
    status: one of STATUSES.  locked: True keeps the line as it is.
    revision: how often what is heard has changed.
    hash, hashes, settings_hash: of the line, of each field and of the settings when the take in use was made; empty
    before.
    remarks: Remarks.  extra: what other programs keep here under names that start with "x_".
    Source: ours; after open-dubbing's record and ElevenLabs' revisions.
    """

    line: Line
    voice: str = ""
    take: int = 0
    takes: tuple[dict, ...] = ()
    status: str = "draft"
    locked: bool = False
    revision: int = 0
    hash: str = ""
    hashes: dict = field(default_factory=dict)
    settings_hash: str = ""
    remarks: tuple[Remark, ...] = ()
    extra: dict = field(default_factory=dict)

    @property
    def current_take(self) -> Take | None:
        """Get the take in use; None where there is none."""
        return Take.from_dict(self.takes[self.take - 1]) if self.take else None

    @property
    def id(self) -> str:
        """Id of the line."""
        return self.line.id


@dataclass(frozen=True)
class Project:
    """A dub.

    entries: Entries in order.  removed: those a newer script no longer has.
    speakers: dicts with voice and face by name.  film: facts about it.
    revision: goes up with every saved change.  Other fields as in Script.
    """

    entries: tuple[ProjectEntry, ...]
    language: str = ""
    original_language: str = ""
    title: str = ""
    source: str = ""
    film: dict = field(default_factory=dict)
    speakers: dict = field(default_factory=dict)
    removed: tuple[ProjectEntry, ...] = ()
    revision: int = 0
    extra: dict = field(default_factory=dict)

    @property
    def script(self) -> Script:
        """The Script in it."""
        remarks = tuple(remark for entry in self.entries for remark in entry.remarks)
        return Script(
            tuple(e.line for e in self.entries), self.language, self.original_language, self.title, self.source, remarks
        )

    def entry(self, line_id: str) -> ProjectEntry:
        """The Entry with an id. Raises UsageProblem."""
        found = next((entry for entry in self.entries if entry.id == line_id), None)
        if found is None:
            raise UsageError(
                f"line {line_id}: not in the project.", hint="Give an id from its lines.", code="no_such_line"
            )
        return found

    def replace_entry(self, entry: ProjectEntry) -> Project:
        """The project with one Entry replaced."""
        return replace(self, entries=tuple(entry if old.id == entry.id else old for old in self.entries))

    def get_voice(self, entry: ProjectEntry) -> str:
        """Voice of an entry: its own, else its speaker's, else ""."""
        return entry.voice or self.speakers.get(entry.line.speaker, {}).get("voice", "")


def create_project(script: Script, film: dict[str, Any] | None = None) -> Project:
    """A new project of a script.

    script: Script.
    film: dict of JSON-ready facts (name, sha256, duration_s, rate).
    """
    by_line = {}
    for remark in script.remarks:
        by_line.setdefault(remark.line_id, []).append(remark)
    entries = tuple(ProjectEntry(_round_times(line), remarks=tuple(by_line.get(line.id, ()))) for line in script.lines)
    speakers = {name: {} for name in script.speakers}
    return Project(
        entries, script.language, script.original_language, script.title, script.source, dict(film or {}), speakers
    )


def _round_times(line: Line) -> Line:
    """A line with times as the file keeps them."""
    if line.start is None:
        return line
    return replace(
        line,
        **{name: Fraction(round_half_up(getattr(line, name) * _TICKS_PER_S), _TICKS_PER_S) for name in _TIME_FIELDS},
    )


def hash_fields(project: Project, entry: ProjectEntry) -> dict[str, str]:
    """{field: 16 hex digits} of what a take of an entry depends on: HEARD, with its voice and language resolved.

    project: Project.  entry: Entry.
    Source: ours; SHA-256.
    """
    line = _round_times(entry.line)
    values = {name: getattr(line, name) for name in TAKE_FIELDS[:-1]}
    values |= {"language": entry.line.language or project.language, "voice": project.get_voice(entry)}
    return {name: _compute_digest("" if value is None else str(value)) for name, value in values.items()}


def hash_facts(hashes: dict[str, Any]) -> str:
    """One hash of a dict that JSON can hold: 16 hex digits.

    hashes: dict, of fields or of settings.
    Source: ours; SHA-256 of JSON with sorted names.
    """
    return _compute_digest(json.dumps(hashes, sort_keys=True, ensure_ascii=False, default=str))


def _compute_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def find_changed_lines(project: Project, settings_hash: str = "") -> dict[str, Any]:
    """{id: reasons} of the lines that must be spoken (again), in order; locked ones are never among them.

    project: Project.
    settings_hash: of the settings that a take depends on (hash_of); "" does not look at settings.
    Reasons: "new", names of changed fields, "settings".
    """
    found = {}
    for entry in project.entries:
        if entry.locked or not entry.line.text.strip():
            continue
        if not entry.take or not entry.hash:
            found[entry.id] = ("new",)
            continue
        now = hash_fields(project, entry)
        reasons = tuple(name for name in TAKE_FIELDS if now[name] != entry.hashes.get(name))
        if settings_hash and settings_hash != entry.settings_hash:
            reasons += ("settings",)
        if reasons:
            found[entry.id] = reasons
    return found


def add_take(
    project: Project, line_id: str, take: dict[str, Any], settings_hash: str = "", status: str = "spoken"
) -> Project:
    """The project with one more take of a line, in use from now on.

    project: Project.  line_id: str.
    take: dict with file, and seed and facts where there are any.
    settings_hash: as for changed_lines.  status: "spoken", "needs_review" or "approved".
    Raises UsageProblem for an unknown or locked line.
    """
    entry = project.entry(line_id)
    if entry.locked:
        raise UsageError(
            f"line {line_id}: locked.", hint="Unlock it in the project file to speak it again.", code="locked_line"
        )
    hashes = hash_fields(project, entry)
    take = {**take, "hash": hash_facts(hashes), "settings_hash": settings_hash}
    takes = tuple(old for old in entry.takes if old["file"] != take["file"]) + (take,)
    facts = {"hash": take["hash"], "hashes": hashes, "settings_hash": settings_hash}
    return project.replace_entry(replace(entry, takes=takes, take=len(takes), status=status, **facts))


def parse_lines(text: str, project: Project) -> tuple[str, ...] | None:
    """Ids meant by "3,7-9": ids of the project, else places in it counted from 1; in the order of the project.

    text: str.  project: Project.
    Raises UsageProblem for what is neither.
    """
    ids = [entry.id for entry in project.entries]
    places = {name: k for k, name in reversed(list(enumerate(ids)))}
    chosen = set()
    for part in text.split(","):
        if part.strip() in places:
            chosen.add(places[part.strip()])
            continue
        match = _RANGE.fullmatch(part)
        first, last = (
            (_parse_place(name, places, text) for name in (match[1], match[2] or match[1])) if match else (1, 0)
        )
        if first > last:
            raise UsageError(
                f"--lines {text}: '{part.strip()}' is no line.",
                hint="Give ids or numbers, such as 3,7-9.",
                code="bad_lines",
            )
        chosen.update(range(first, last + 1))
    return tuple(ids[k] for k in sorted(chosen))


def _parse_place(name: str, places: dict[str, int], text: str) -> int | None:
    if name in places:
        return places[name]
    if name.isdecimal() and 1 <= int(name) <= len(places):
        return int(name) - 1
    what = f"--lines {text}: no line '{name}' among {len(places)}"
    raise UsageError(f"{what}.", hint="Give ids or numbers, such as 3,7-9.", code="bad_lines")


def read_project(path: Path) -> Project | None:
    """The Project in a file; lines edited since their take was made become stale.

    path: str or Path.
    Raises Refused for what is missing, no JSON, or against the schema.
    """
    from mouthpiece.voice.scripts.text_decoding import read_text

    text, _, _ = read_text(path)
    return parse_project(text, Path(path).name)


def parse_project_script(text: str, name: str) -> Script | None:
    """The Script in the text of a project file. Raises Refused."""
    return replace(parse_project(text, name).script, source=name)


def parse_project(text: str, name: str) -> Project | None:
    """Project of JSON text, checked against the schema.

    text: str.  name: of the file.
    Raises Refused, naming the place.
    """
    try:
        facts = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name}: no JSON ({error}).", hint=_HINT, code="broken_project") from error
    _validate(facts, name)
    entries, removed = ([_parse_entry(entry, name) for entry in facts.get(key, ())] for key in ("lines", "removed"))
    ids = [entry.id for entry in entries]
    twice = next((i for i in ids if ids.count(i) > 1), None) if len(set(ids)) < len(ids) else None
    if twice:
        raise InvalidInputError(
            f"{name}: two lines have the id '{twice}'.", hint="Give every line its own id.", code="broken_project"
        )
    told = {
        f.name: facts[f.name]
        for f in fields(Project)
        if f.name in facts and f.name not in ("removed", "entries", "extra")
    }
    extra = {key: value for key, value in facts.items() if key.startswith("x_")}
    project = Project(tuple(entries), removed=tuple(removed), extra=extra, **told)
    return replace(project, entries=tuple(_mark_stale(project, entry) for entry in entries))


def _reject_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


@cache
def _load_validator():
    from jsonschema import Draft202012Validator

    return Draft202012Validator(
        json.loads((Path(__file__).parents[1] / "schemas" / "project.schema.json").read_text(encoding="utf-8"))
    )


def _validate(facts: dict[str, Any], name: str) -> None:
    from jsonschema.exceptions import best_match

    error = best_match(_load_validator().iter_errors(facts))
    if error is not None:
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path).lstrip(
            "."
        )
        said = error.message if len(error.message) < 200 else error.message[:200] + " …"
        raise InvalidInputError(
            f"{name}: no valid project: {where + ': ' if where else ''}{said}.", hint=_HINT, code="broken_project"
        )


def _parse_entry(facts: dict[str, Any], name: str) -> ProjectEntry:
    told = {key: facts[key] for key in _LINE_FIELDS if key in facts and key not in _TIME_FIELDS}
    start, end = (None if facts.get(key) is None else Fraction(repr(facts[key])) for key in _TIME_FIELDS)
    if (start is None) != (end is None) or start is not None and min(start, end) < 0:
        raise InvalidInputError(
            f"{name}: line {facts['id']}: its times are {facts.get('start')} and {facts.get('end')}.",
            hint=_HINT,
            code="broken_project",
        )
    line = _round_times(Line(start=start, end=end, **{"speaker": "", **told}))
    own = {
        f.name: facts[f.name]
        for f in fields(ProjectEntry)
        if f.name in facts and f.name not in ("line", "remarks", "takes", "extra")
    }
    remarks = tuple(Remark(r["kind"], r["text"], line.id) for r in facts.get("remarks", ()) if r["kind"] in REMARKS)
    takes, extra = tuple(facts.get("takes", ())), {key: value for key, value in facts.items() if key.startswith("x_")}
    if own.get("take", 0) > len(takes):
        raise InvalidInputError(
            f"{name}: line {line.id}: take {own['take']} of {len(takes)}.", hint=_HINT, code="broken_project"
        )
    return ProjectEntry(line, remarks=remarks, takes=takes, extra=extra, **own)


def _mark_stale(project: Project, entry: ProjectEntry) -> ProjectEntry:
    """An entry marked stale when it changed after its take was made."""
    if (
        not entry.hash
        or entry.locked
        or entry.status == "stale"
        or hash_facts(hash_fields(project, entry)) == entry.hash
    ):
        return entry
    return replace(entry, status="stale", revision=entry.revision + 1)


def convert_to_dict(project: Project) -> dict[str, Any]:
    """The project as the JSON-ready dict that the file holds. Source: ours; voice/schemas/project.schema.json."""
    named = ("title", "source", "language", "original_language", "film", "speakers")
    return {
        "format": FORMAT,
        "version": VERSION,
        "revision": project.revision,
        **{name: getattr(project, name) for name in named},
        "lines": [_convert_entry_to_dict(entry) for entry in project.entries],
        "removed": [_convert_entry_to_dict(entry) for entry in project.removed],
        **project.extra,
    }


def _convert_entry_to_dict(entry: ProjectEntry) -> dict[str, Any]:
    facts = {name: getattr(entry.line, name) for name in _LINE_FIELDS}
    facts |= {name: None if facts[name] is None else float(facts[name]) for name in _TIME_FIELDS}
    own = ("voice", "status", "locked", "revision", "take", "hash", "hashes", "settings_hash")
    facts |= {name: getattr(entry, name) for name in own}
    return facts | {
        "takes": list(entry.takes),
        "remarks": [{"kind": r.kind, "text": r.text} for r in entry.remarks],
        **entry.extra,
    }


def save_project(project: Project, path: Path, inputs: tuple = ()) -> Project | None:
    """Writes the project, its revision one up when anything changed, and gives it as saved.

    project: Project.
    path: str or Path; a project that is there is replaced unless its revision is newer.
    inputs: paths that must not be written over.
    Raises UsageProblem for a newer file or one that is no project, Refused for a project against its schema,
    WriteFailed for the disk.
    Source: ours; a temporary file, then a rename.
    """
    path, there = Path(path), None
    project = replace(
        project, entries=tuple(replace(entry, line=_round_times(entry.line)) for entry in project.entries)
    )
    if path.exists():
        try:
            there = read_project(path)
        except InvalidInputError as error:
            hint = "Give another name, or move the file away."
            raise UsageError(
                f"{path}: already there, and no project ({error.message.rstrip('.')}).", hint=hint, code="output_exists"
            ) from error
    if there is not None and there.revision > project.revision:
        what = f"{path}: saved by something else meanwhile (revision {there.revision}, this is {project.revision})"
        raise UsageError(f"{what}.", hint="Read it again and repeat the change.", code="newer_project")
    if there is not None and convert_to_dict(there) == convert_to_dict(project):
        return project
    project = replace(project, revision=project.revision + 1)
    facts = convert_to_dict(project)
    _validate(facts, path.name)
    with atomic_write(path, True, inputs) as part:
        part.write_text(json.dumps(facts, ensure_ascii=False, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return project
