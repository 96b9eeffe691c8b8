"""Merging of a newer script into a project: lines keep their ids and takes, only what changed becomes stale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mouthpiece.voice.scripts.project import Project, create_project, mark_stale
from mouthpiece.voice.scripts.script import make_unique_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from mouthpiece.voice.scripts.project import ProjectEntry
    from mouthpiece.voice.scripts.script import Line, Script

_COMPARED_FIELDS = ("speaker", "start", "end", "text", "language", "on_screen", "original", "notes")
# empty in scripts whose format cannot state them: what the project knows is kept
_OPTIONAL_FIELDS = ("speaker", "language", "on_screen", "original", "notes")


@dataclass(frozen=True)
class ScriptChanges:
    """What a newer script changed in a project.

    changed: {id: names of fields}.
    added, removed: ids.
    locked: ids of locked lines that the script would have changed.
    """

    changed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()


def merge_script(project: Project, script: Script) -> tuple[Project, ScriptChanges]:
    """Merge a newer script into a project; return the project and what changed.

    project: Project.
    script: Script; numbers in it may have moved, as they do when a line is put into an SRT.
    Lines are matched by all their fields, then by id and text or times, by times, by text, and by id in the same place.
    Lines no longer there move to `removed`, with their takes, and come back when a script has them again; locked lines
    stay as they are.
    """
    newer = create_project(script, project.film)
    entries = project.entries + project.removed
    partner = _match_entries(entries, newer.entries, len(project.entries))
    taken = {entry.id for entry in entries}
    fresh = [k for k in range(len(newer.entries)) if k not in partner]
    names = iter(make_unique_ids([*taken, *(newer.entries[k].id for k in fresh)])[len(taken) :])
    merged: list[ProjectEntry] = []
    changed: dict[str, tuple[str, ...]] = {}
    added: list[str] = []
    locked: list[str] = []
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
        merged.append(entry)
    used = set(partner.values())
    gone = [entry for j, entry in enumerate(entries) if j not in used]
    kept = [entry for entry in gone if entry.locked and entry in project.entries]
    removed = tuple(entry for entry in gone if entry not in kept)
    lost = tuple(entry.id for entry in removed if entry in project.entries)
    changes = ScriptChanges(changed, tuple(added), lost, tuple(locked + [entry.id for entry in kept]))
    return _rebuild_project(project, newer, _insert_locked(merged, kept), removed), changes


def _insert_locked(entries: list[ProjectEntry], locked: list[ProjectEntry]) -> list[ProjectEntry]:
    """Insert locked lines that the script no longer has among its lines, by time."""
    for entry in locked:
        starts = [other.line.start for other in entries]
        start = entry.line.start
        later = (k for k, other in enumerate(starts) if other is not None and start is not None and other > start)
        entries.insert(next(later, len(entries)), entry)
    return entries


def _rebuild_project(
    project: Project, newer: Project, entries: list[ProjectEntry], removed: tuple[ProjectEntry, ...]
) -> Project:
    """Rebuild a project with other lines; those that changed after their take become stale."""
    titles = ("language", "original_language", "title", "source")
    whole = replace(
        project,
        entries=tuple(entries),
        removed=removed,
        speakers={name: {} for name in newer.speakers} | project.speakers,
        **{name: getattr(newer, name) or getattr(project, name) for name in titles},
    )
    return replace(whole, entries=tuple(mark_stale(whole, entry) for entry in entries))


def _update_entry(old: ProjectEntry, new: ProjectEntry) -> tuple[ProjectEntry, tuple[str, ...]]:
    """Update an entry to a newer one; return it and the names of the fields that changed."""
    line = replace(new.line, id=old.id)
    line = replace(line, **{name: getattr(old.line, name) for name in _OPTIONAL_FIELDS if not getattr(line, name)})
    if line.start is None:
        line = replace(line, start=old.line.start, end=old.line.end)
    changed = tuple(name for name in _COMPARED_FIELDS if getattr(line, name) != getattr(old.line, name))
    return replace(old, line=line, remarks=new.remarks), changed


def _match_entries(old: Sequence[ProjectEntry], new: Sequence[ProjectEntry], current: int) -> dict[int, int]:
    """Match new entries to old ones: {index in new: index in old}.

    current: how many of old are in use; the others were removed before, and are only matched by all they say.
    """

    def times(line: Line) -> Hashable:
        return None if line.start is None else (line.start, line.end)

    rounds: tuple[tuple[Callable[[Line], Hashable], int], ...] = (
        (lambda line: (line.id, line.speaker, times(line), line.text), len(old)),
        (lambda line: (line.speaker, times(line), line.text), len(old)),
        (lambda line: times(line) and (times(line), line.text), current),
        (lambda line: (line.id, line.text), current),
        (lambda line: times(line) and (line.id, times(line)), current),
        (times, current),
        (lambda line: line.text and (line.speaker, line.text), current),
    )
    partner: dict[int, int] = {}
    used: set[int] = set()
    for get_key, count in rounds:
        waiting: dict[Hashable, list[int]] = {}
        for j in range(count):
            if j not in used and get_key(old[j].line) is not None:
                waiting.setdefault(get_key(old[j].line), []).append(j)
        for k, entry in enumerate(new):
            queue = waiting.get(get_key(entry.line)) if k not in partner else None
            if queue:
                partner[k] = queue.pop(0)
                used.add(partner[k])
    _match_by_neighbours(old[:current], new, partner, used)
    return partner


def _match_by_neighbours(
    old: Sequence[ProjectEntry], new: Sequence[ProjectEntry], partner: dict[int, int], used: set[int]
) -> None:
    """Match lines with the same id whose neighbours are already matched in the same order; adds to partner and used."""
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
