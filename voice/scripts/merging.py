"""A newer script put into a project: lines keep their ids and takes, only what changed becomes stale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mouthpiece.voice.scripts.project import Project, create_project, hash_facts, hash_fields
from mouthpiece.voice.scripts.script import make_unique_ids

if TYPE_CHECKING:
    from fractions import Fraction

    from mouthpiece.voice.scripts.project import ProjectEntry
    from mouthpiece.voice.scripts.script import Line, Script

# empty in a script that cannot say: keep what is known
_OPTIONAL_FIELDS = ("speaker", "language", "on_screen", "original", "notes")


@dataclass(frozen=True)
class ScriptChanges:
    """What a newer script brought.

    changed: {id: names of fields}.  added, removed: ids.  locked: ids of locked lines that the script would have
    changed.
    """

    changed: dict = field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()


def merge_script(project: Project, script: Script) -> tuple[Project, ScriptChanges]:
    """(Project, Changes): the project as a newer script wants it.

    project: Project.
    script: Script; numbers in it may have moved, as they do when a line is put into an SRT.
    Lines are found again by all they say, then by id and text or times, by times, by text, and by id in the same place.
    Lines no longer there move to `removed`, with their takes, and come back when a script has them again; locked lines
    stay as they are.
    """
    newer = create_project(script, project.film)
    entries = project.entries + project.removed
    partner = _match_entries(entries, newer.entries, len(project.entries))
    taken = {entry.id for entry in entries}
    fresh = [k for k in range(len(newer.entries)) if k not in partner]
    names = iter(make_unique_ids([*taken, *(newer.entries[k].id for k in fresh)])[len(taken) :])
    lines, changed, added, locked = [], {}, [], []
    for k, new in enumerate(newer.entries):
        old = entries[partner[k]] if k in partner else None
        if old is None:
            entry = replace(new, line=replace(new.line, id=next(names)))
            added.append(entry.id)
        else:
            entry, names_changed = _update_entry(old, new)
            if names_changed and old.locked:
                locked.append(old.id)
                entry = old
            elif names_changed:
                changed[old.id] = names_changed
            if partner[k] >= len(project.entries):
                added.append(old.id)
        lines.append(entry)
    used = set(partner.values())
    gone = [entry for j, entry in enumerate(entries) if j not in used]
    kept = [entry for entry in gone if entry.locked and entry in project.entries]
    removed = tuple(entry for entry in gone if entry not in kept)
    merged = _rebuild_project(project, newer, _insert_locked(lines, kept), removed)
    lost = tuple(entry.id for entry in removed if entry in project.entries)
    return merged, ScriptChanges(changed, tuple(added), lost, tuple(locked + [entry.id for entry in kept]))


def _insert_locked(lines: list[ProjectEntry], kept: list) -> list[ProjectEntry]:
    """Lines of the script with locked ones that it no longer has, put in by time."""
    for entry in kept:
        where = (
            k
            for k, other in enumerate(lines)
            if None not in (other.line.start, entry.line.start) and other.line.start > entry.line.start
        )
        lines.insert(next(where, len(lines)), entry)
    return lines


def _rebuild_project(
    project: Project, newer: Project, lines: list[ProjectEntry], removed: tuple[ProjectEntry, ...]
) -> Project:
    """The project with other lines; those that changed after their take are stale."""
    told = {
        name: getattr(newer, name) or getattr(project, name)
        for name in ("language", "original_language", "title", "source")
    }
    speakers = {name: {} for name in newer.speakers} | project.speakers
    whole = Project(
        tuple(lines),
        removed=removed,
        film=project.film,
        speakers=speakers,
        revision=project.revision,
        extra=project.extra,
        **told,
    )
    aged = []
    for entry in lines:
        if (
            entry.hash
            and not entry.locked
            and hash_facts(hash_fields(whole, entry)) != entry.hash
            and entry.status != "stale"
        ):
            entry = replace(entry, status="stale", revision=entry.revision + 1)
        aged.append(entry)
    return replace(whole, entries=tuple(aged))


def _update_entry(old: ProjectEntry, new: ProjectEntry) -> tuple:
    """An entry with what a newer one says, and the names of the fields that changed."""
    line = replace(new.line, id=old.id)
    line = replace(line, **{name: getattr(old.line, name) for name in _OPTIONAL_FIELDS if not getattr(line, name)})
    if line.start is None:
        line = replace(line, start=old.line.start, end=old.line.end)
    names = tuple(
        name
        for name in ("speaker", "start", "end", "text", "language", "on_screen", "original", "notes")
        if getattr(line, name) != getattr(old.line, name)
    )
    return replace(old, line=line, remarks=new.remarks), names


def _match_entries(old: tuple[ProjectEntry, ...], new: tuple[ProjectEntry, ...], current: int) -> dict[int, int]:
    """{place in new: place in old}; the first `current` of old are in use, the others were removed before."""

    def times(line: Line) -> tuple[Fraction, Fraction]:
        return None if line.start is None else (line.start, line.end)

    rounds = (
        (lambda line: (line.id, line.speaker, times(line), line.text), len(old)),
        (lambda line: (line.speaker, times(line), line.text), len(old)),
        (lambda line: times(line) and (times(line), line.text), current),
        (lambda line: (line.id, line.text), current),
        (lambda line: times(line) and (line.id, times(line)), current),
        (times, current),
        (lambda line: line.text and (line.speaker, line.text), current),
    )
    partner, used = {}, set()
    for key, many in rounds:
        waiting = {}
        for j in range(many):
            if j not in used and key(old[j].line) is not None:
                waiting.setdefault(key(old[j].line), []).append(j)
        for k, entry in enumerate(new):
            queue = waiting.get(key(entry.line)) if k not in partner else None
            if queue:
                partner[k] = queue.pop(0)
                used.add(partner[k])
    _match_by_neighbours(old[:current], new, partner, used)
    return partner


def _match_by_neighbours(
    old: tuple[ProjectEntry, ...], new: tuple[ProjectEntry, ...], partner: dict[int, int], used: set
) -> None:
    """Pairs lines with the same id whose neighbours are already paired in the same order."""
    by_id = {entry.id: j for j, entry in enumerate(old) if j not in used}
    for k, entry in enumerate(new):
        j = by_id.get(entry.id)
        if k in partner or j is None:
            continue
        before = next((partner[m] for m in range(k - 1, -1, -1) if m in partner), -1)
        after = next((partner[m] for m in range(k + 1, len(new)) if m in partner), len(old))
        if before < j < after:
            partner[k] = j
            used.add(j)
