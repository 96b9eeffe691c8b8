"""The project of a dub: its lines with their takes, and which of them must be spoken again when something changes."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mouthpiece.engine.contracts import Take
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.timeline import round_half_up
from mouthpiece.voice.scripts.script import Line, Remark, Script

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = ("draft", "spoken", "needs_review", "approved", "stale")
TAKE_FIELDS = ("speaker", "start", "end", "text", "language", "on_screen", "voice")  # what a take depends on
TIME_FIELDS = ("start", "end")
_TICKS_PER_S = 10**6  # times are kept in whole microseconds
_RANGE = re.compile(r"\s*([A-Za-z0-9._]+)\s*(?:-\s*([A-Za-z0-9._]+)\s*)?")
_LINES_HINT = "Give ids or numbers, such as 3,7-9."


@dataclass(frozen=True)
class ProjectEntry:
    """A line of a project: what is spoken and the takes made of it.

    line: Line.
    voice: its own voice; "" for the speaker's.
    take: number of the take in use, from 1; 0 for none.
    takes: dicts with file, seed, hash, settings_hash, facts.
    status: one of STATUSES.
    locked: True keeps the line as it is.
    revision: how often what is heard has changed.
    hash, hashes, settings_hash: of the line, of each field and of the settings when the take in use was made; empty
    before.
    remarks: Remarks of the script.
    extra: what other programs keep here under names that start with "x_".
    """

    line: Line
    voice: str = ""
    take: int = 0
    takes: tuple[dict[str, Any], ...] = ()
    status: str = "draft"
    locked: bool = False
    revision: int = 0
    hash: str = ""
    hashes: dict[str, str] = field(default_factory=dict)
    settings_hash: str = ""
    remarks: tuple[Remark, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

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
    """A dub: its lines and what is known of film and speakers.

    entries: ProjectEntry of every line, in order.
    removed: entries that a newer script no longer has.
    speakers: {name: dict with voice and face}.
    film: facts about the film.
    revision: goes up with every saved change.
    extra: what other programs keep here under names that start with "x_".
    Other fields are as in Script.
    """

    entries: tuple[ProjectEntry, ...]
    language: str = ""
    original_language: str = ""
    title: str = ""
    source: str = ""
    film: dict[str, Any] = field(default_factory=dict)
    speakers: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: tuple[ProjectEntry, ...] = ()
    revision: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def script(self) -> Script:
        """Script of its lines."""
        remarks = tuple(remark for entry in self.entries for remark in entry.remarks)
        lines = tuple(entry.line for entry in self.entries)
        return Script(lines, self.language, self.original_language, self.title, self.source, remarks)

    def get_entry(self, line_id: str) -> ProjectEntry:
        """Get the entry with an id. Raises UsageError when there is none."""
        found = next((entry for entry in self.entries if entry.id == line_id), None)
        if found is None:
            raise UsageError(
                f"line {line_id}: not in the project.", hint="Give an id from its lines.", code="no_such_line"
            )
        return found

    def replace_entry(self, entry: ProjectEntry) -> Project:
        """Return the project with the entry of the same id replaced."""
        return replace(self, entries=tuple(entry if old.id == entry.id else old for old in self.entries))

    def get_voice(self, entry: ProjectEntry) -> str:
        """Get the voice of an entry: its own, else its speaker's, else ""."""
        return entry.voice or self.speakers.get(entry.line.speaker, {}).get("voice", "")


def create_project(script: Script, film: Mapping[str, Any] | None = None) -> Project:
    """Create the project of a script, without takes.

    script: Script.
    film: JSON-ready facts about the film: name, sha256, duration_s, rate.
    """
    by_line: dict[str, list[Remark]] = {}
    for remark in script.remarks:
        by_line.setdefault(remark.line_id, []).append(remark)
    entries = tuple(ProjectEntry(round_times(line), remarks=tuple(by_line.get(line.id, ()))) for line in script.lines)
    return Project(
        entries,
        language=script.language,
        original_language=script.original_language,
        title=script.title,
        source=script.source,
        film=dict(film or {}),
        speakers={name: {} for name in script.speakers},
    )


def round_times(line: Line) -> Line:
    """Round the times of a line to whole microseconds, as the file keeps them."""
    if line.start is None or line.end is None:
        return line
    start, end = (Fraction(round_half_up(time * _TICKS_PER_S), _TICKS_PER_S) for time in (line.start, line.end))
    return replace(line, start=start, end=end)


def hash_fields(project: Project, entry: ProjectEntry) -> dict[str, str]:
    """Hash each of the TAKE_FIELDS of an entry: {field: 16 hex digits of its SHA-256}.

    project: resolves voice and language where the entry has none of its own.
    """
    line = round_times(entry.line)
    values = {name: getattr(line, name) for name in TAKE_FIELDS[:-1]}
    values |= {"language": entry.line.language or project.language, "voice": project.get_voice(entry)}
    return {name: _compute_digest("" if value is None else str(value)) for name, value in values.items()}


def hash_facts(facts: Mapping[str, Any]) -> str:
    """Hash a dict that JSON can hold: 16 hex digits of the SHA-256 of its JSON with sorted names.

    facts: hashes of fields, or settings.
    """
    return _compute_digest(json.dumps(facts, sort_keys=True, ensure_ascii=False, default=str))


def _compute_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def find_changed_lines(project: Project, settings_hash: str = "") -> dict[str, tuple[str, ...]]:
    """Find the lines that must be spoken (again): {id: reasons}, in order, without locked ones.

    project: Project.
    settings_hash: of the settings that a take depends on (`hash_facts`); "" does not look at settings.
    Reasons are "new", names of changed fields, "settings".
    """
    changed: dict[str, tuple[str, ...]] = {}
    for entry in project.entries:
        if entry.locked or not entry.line.text.strip():
            continue
        if not entry.take or not entry.hash:
            changed[entry.id] = ("new",)
            continue
        now = hash_fields(project, entry)
        reasons = tuple(name for name in TAKE_FIELDS if now[name] != entry.hashes.get(name))
        if settings_hash and settings_hash != entry.settings_hash:
            reasons += ("settings",)
        if reasons:
            changed[entry.id] = reasons
    return changed


def mark_stale(project: Project, entry: ProjectEntry) -> ProjectEntry:
    """Mark an entry stale, its revision one up, when it changed after its take was made; locked ones stay as they are.

    project: resolves voice and language where the entry has none of its own.
    """
    if not entry.hash or entry.locked or entry.status == "stale":
        return entry
    if hash_facts(hash_fields(project, entry)) == entry.hash:
        return entry
    return replace(entry, status="stale", revision=entry.revision + 1)


def add_take(
    project: Project, line_id: str, take: dict[str, Any], settings_hash: str = "", status: str = "spoken"
) -> Project:
    """Add a take of a line, in use from now on; return the project with it.

    project: Project.
    line_id: of the line.
    take: dict with file, and seed and facts where there are any.
    settings_hash: as for `find_changed_lines`.
    status: "spoken", "needs_review" or "approved".
    Raises UsageError for an unknown or locked line.
    """
    entry = project.get_entry(line_id)
    if entry.locked:
        raise UsageError(
            f"line {line_id}: locked.", hint="Unlock it in the project file to speak it again.", code="locked_line"
        )
    hashes = hash_fields(project, entry)
    take = {**take, "hash": hash_facts(hashes), "settings_hash": settings_hash}
    takes = (*(old for old in entry.takes if old["file"] != take["file"]), take)
    spoken = replace(entry, takes=takes, take=len(takes), status=status)
    return project.replace_entry(replace(spoken, hash=take["hash"], hashes=hashes, settings_hash=settings_hash))


def parse_lines(text: str, project: Project) -> tuple[str, ...]:
    """Parse a choice of lines such as "3,7-9": ids of the project, else places in it counted from 1.

    text: ids or places and ranges of them, with commas between.
    project: Project.
    Returns ids in the order of the project. Raises UsageError for what is neither.
    """
    ids = [entry.id for entry in project.entries]
    places = {name: k for k, name in reversed(list(enumerate(ids)))}
    chosen: set[int] = set()
    for part in text.split(","):
        if part.strip() in places:
            chosen.add(places[part.strip()])
            continue
        match = _RANGE.fullmatch(part)
        if match:
            first, last = (_parse_place(name, places, text) for name in (match[1], match[2] or match[1]))
        if not match or first > last:
            raise UsageError(f"--lines {text}: '{part.strip()}' is not a line.", hint=_LINES_HINT, code="bad_lines")
        chosen.update(range(first, last + 1))
    return tuple(ids[k] for k in sorted(chosen))


def _parse_place(name: str, places: Mapping[str, int], text: str) -> int:
    """Parse an id or a place counted from 1 to an index. Raises UsageError."""
    if name in places:
        return places[name]
    if name.isdecimal() and 1 <= int(name) <= len(places):
        return int(name) - 1
    raise UsageError(f"--lines {text}: no line '{name}' among {len(places)}.", hint=_LINES_HINT, code="bad_lines")
