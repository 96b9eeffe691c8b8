"""Captions for the deaf (SDH): sounds are left out, names become speakers, turns lines, and songs are marked.

It works on the lines of any format after reading. Source: style guides for such captions of Netflix and the BBC.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mouthpiece.voice.scripts.script import Remark, clean_text, make_unique_ids
from mouthpiece.voice.scripts.sdh_words import (
    MAX_ASIDE_WORDS,
    get_speaker_name,
    is_direction,
    is_sentence,
    is_singing,
    is_sound,
    is_speaker_name,
)
from mouthpiece.voice.scripts.speaker_prefix import is_upper_case, split_prefix
from mouthpiece.voice.scripts.syllables import split_slot
from mouthpiece.voice.scripts.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from mouthpiece.voice.scripts.script import Line, Script

DROP = "drop"
KEEP = "keep"
SDH_CHOICES = (DROP, KEEP)
SUNG_NOTE = "sung"  # in the notes of a line
_GROUP = re.compile(r"\[([^\[\]]*)\]|［([^［］]*)］|【([^【】]*)】|\(([^()]*)\)|（([^（）]*)）|\*([^*\n]+)\*")
_EMPTY_GROUP = re.compile(r"\[\s*\]|\(\s*\)")  # around a group that was left out
_MUSIC = re.compile("[♩♪♫♬¶\U0001f3b5\U0001f3b6]")
_HASHED_SONG = re.compile(r"#\s+(.*\S)\s+#|#\s+(.*\S)#", re.DOTALL)  # as the BBC marks songs
_TURN = re.compile(r"(?:^|(?<=\s))>{2,3}[ \t]*", re.MULTILINE)
_DASH = re.compile(r"(--|[-‐‑–—])(?:[ \t]*(?=[^\W\d_]|[\"'“‘«¿¡♪♫\[(（［…])|[ \t]+(?=\d))")  # not "-5"
_TIGHT_DASHES = ("-", "‐", "‑", "–")  # em dashes and "--" go on with a sentence as often as they change the speaker
_DIRECTED_NAME = re.compile(r"(.*\S)\s*[(（]([^()（）]+)[)）]")
_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class _Turn:
    """What one speaker says in a cue.

    text: what is spoken.  speaker: "" when it does not say.  sounds, names: the marks left out, as written.
    sung: True for a song.
    """

    text: str
    speaker: str = ""
    sounds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    sung: bool = False

    @property
    def is_marked(self) -> bool:
        """Say whether the text had any mark of SDH."""
        return bool(self.sounds or self.names or self.sung)


def resolve_sdh(script: Script) -> Script:
    """Resolve the marks of captions for the deaf in a Script, each with a Remark; a text without marks stays as it is.

    script: Script whose times count from the start of the film.
    "[door slams]", "(sighs)" and "♪ ♪" are left out, and a line that holds nothing else goes. "[MARTHA]", ">> JOHN:"
    and names on a later row become speakers. Dashed rows, ">>" and named rows of one cue become
    lines that share its slot.
    "♪ words ♪" are spoken, with "sung" in the notes of the line.
    """
    known = _find_prefixed_names([line.text for line in script.lines])
    known |= {line.speaker.casefold(): line.speaker for line in reversed(script.lines) if line.speaker}
    lines: list[Line] = []
    wanted: list[str] = []  # ids of the lines
    remarks: list[tuple[int | None, str, str]] = []  # index of the line or None, kind, text
    first: dict[str, int] = {}  # index of the first line of each former id
    for line in script.lines:
        turns = _read_turns(line.text, line.speaker, known)
        spoken = [turn for turn in turns if turn.text or not turn.is_marked]
        remarks += [(None, "sound", _describe_lost_cue(line, turn)) for turn in turns[: 0 if spoken else None]]
        if not spoken:
            continue
        first[line.id] = len(lines)
        unspoken = tuple(sound for turn in turns if turn not in spoken for sound in turn.sounds)
        spoken[0] = replace(spoken[0], sounds=unspoken + spoken[0].sounds)
        for piece, turn, name in zip(_lay_turns(line, spoken, known), spoken, _name_turns(line.id, len(spoken))):
            remarks += [(len(lines), kind, text) for kind, text in _describe_turn(turn)]
            lines.append(piece)
            wanted.append(name)
        if len(spoken) > 1:
            remarks.append((first[line.id], "split", f"{len(spoken)} speakers in one cue are now {len(spoken)} lines."))
    if not remarks:
        return script
    ids = make_unique_ids(wanted)
    kept = tuple(
        replace(remark, line_id=ids[first[remark.line_id]] if remark.line_id in first else "")
        for remark in script.remarks
    )
    added = tuple(
        Remark(kind, text if at is None else f"Line {ids[at]}: {text}", "" if at is None else ids[at])
        for at, kind, text in remarks
    )
    named = tuple(replace(line, id=name) for line, name in zip(lines, ids))
    return replace(script, lines=named, remarks=kept + added)


def _find_prefixed_names(texts: list[str]) -> dict[str, str]:
    """Find names before a colon on any row, after the marks of a turn, in capitals or more than once.

    They are given as written, by what `casefold` makes of them.
    """
    rows = (_DASH.sub("", _TURN.sub("", row).strip(), count=1) for text in texts for row in text.split("\n"))
    counts = Counter(parts[0] for parts in map(split_prefix, rows) if parts)
    return {name.casefold(): name for name, count in counts.items() if count > 1 or is_upper_case(name)}


def _name_turns(line_id: str, count: int) -> list[str]:
    """Make ids of the lines that a cue becomes: 2a, 2b; one keeps its own."""
    return [line_id] if count == 1 else [f"{line_id}{chr(ord('a') + k) if k < 26 else k}" for k in range(count)]


def _lay_turns(line: Line, turns: list[_Turn], known: Mapping[str, str]) -> list[Line]:
    """Make the lines of the turns of a cue, which share its slot and its original."""
    originals = [turn.text for turn in _read_turns(line.original, line.speaker, known) if turn.text]
    if len(originals) != len(turns):
        originals = [line.original] * len(turns)
    slots: list[tuple[Fraction, Fraction] | None] = [line.times] * len(turns)
    if line.times is not None and len(turns) > 1:
        slots = [*split_slot(*line.times, [turn.text for turn in turns])]
    pieces = []
    for turn, slot, original in zip(turns, slots, originals):
        start, end = slot or (None, None)
        notes = "\n".join(filter(None, (line.notes, SUNG_NOTE if turn.sung else "")))
        pieces.append(
            replace(line, speaker=turn.speaker, start=start, end=end, text=turn.text, original=original, notes=notes)
        )
    return pieces


def _describe_lost_cue(line: Line, turn: _Turn) -> str:
    at = "" if line.start is None else f" at {format_timestamp(line.start)}"
    what = " ".join(turn.sounds) or line.text
    return f'Cue {line.id}: "{what}"{at} is a sound, left out; `mouthpiece sound --prompt` can make it.'


def _describe_turn(turn: _Turn) -> list[tuple[str, str]]:
    """Describe the marks of a turn: (kind of Remark, sentence)."""
    notes = [("sound", f'"{sound}" is a sound, not spoken.') for sound in turn.sounds]
    notes += [("speaker", f'"{name}" says who speaks; not spoken.') for name in turn.names]
    return notes + ([("song", "a song: marked as sung.")] if turn.sung else [])


def _read_turns(text: str, speaker: str, known: Mapping[str, str]) -> list[_Turn]:
    """Read the turns of a cue; a text without marks is one turn as it stands.

    speaker: of the cue, who says its first turn.
    """
    pieces = _split_turns(text, known)
    named, direction = _split_direction(speaker)
    turns = []
    for k, (mark, piece) in enumerate(pieces):
        turn = _read_turn(mark, piece, known)
        owner = known.get(turn.speaker.casefold(), turn.speaker) or (named if k == 0 else "")
        turns.append(replace(turn, speaker=owner, names=turn.names + (direction if k == 0 else ())))
    if len(turns) == 1 and not turns[0].is_marked:
        return [_Turn(text, speaker)]
    return turns


def _split_direction(speaker: str) -> tuple[str, tuple[str, ...]]:
    """Split "MARTHA (whispering)" into the name and the direction; a part of the name stays: "ANNA (child)"."""
    found = _DIRECTED_NAME.fullmatch(speaker)
    if found and is_direction(found[2]):
        return found[1], (f"({found[2]})",)
    return speaker, ()


def _split_turns(text: str, known: Mapping[str, str]) -> list[tuple[str, str]]:
    """Split a cue where the speaker changes: (mark, text) of every turn; mark is ">>", "-" for a row, or ""."""
    pieces, at = [], 0
    marks = list(_TURN.finditer(text))
    for mark, stop in zip(marks, [m.start() for m in marks[1:]] + [len(text)]):
        if text[at : mark.start()].strip():
            pieces += _split_rows(text[at : mark.start()], known)
        pieces.append((mark[0].strip(), text[mark.end() : stop].strip()))
        at = stop
    return pieces or _split_rows(text, known)


def _split_rows(text: str, known: Mapping[str, str]) -> list[tuple[str, str]]:
    """Split a text at rows that begin with a dash or with a name, where one of them is not the first."""
    rows = text.strip().split("\n")
    dashes = [_DASH.match(row) for row in rows]
    many = sum(map(bool, dashes)) > 1
    begins = [
        k
        for k, (row, dash) in enumerate(zip(rows, dashes))
        if k > 0 and (dash and (many or dash[1] in _TIGHT_DASHES) or _begins_with_name(row, known))
    ]
    if not begins:
        return [("-", text.strip()[dashes[0].end() :])] if dashes[0] else [("", text.strip())]
    edges = [0, *begins, len(rows)]
    pieces = []
    for start, stop in zip(edges, edges[1:]):
        dash = dashes[start]
        piece = "\n".join(rows[start:stop])
        pieces.append(("-", piece[dash.end() :] if dash else piece))
    return pieces


def _begins_with_name(row: str, known: Mapping[str, str]) -> bool:
    parts = split_prefix(row)
    if parts is not None:
        return is_upper_case(parts[0]) or parts[0].casefold() in known
    group = _GROUP.match(row)
    return group is not None and _is_name(group, row[group.end() :], known)


def _is_name(group: re.Match[str], rest: str, known: Mapping[str, str]) -> bool:
    """Decide whether a group in brackets at the start of a turn names who says the rest."""
    content = _read_content(group)
    if group[0].startswith("*") or not _WORD.search(_GROUP.sub("", rest)):
        return False
    if rest.lstrip(" \t").startswith((":", "：")):
        return True
    if group[0].startswith("(") and not is_upper_case(content) and content.casefold() not in known:
        return False
    return is_speaker_name(content, known)


def _read_content(group: re.Match[str]) -> str:
    return " ".join(next(filter(None, group.groups()), "").split())


def _read_turn(mark: str, text: str, known: Mapping[str, str]) -> _Turn:
    """Read the marks in the text of one turn."""
    speaker, singing, at = "", False, 0
    sounds: list[str] = []
    names: list[str] = []
    kept: list[str] = []
    for group in _GROUP.finditer(text):
        before = "".join((*kept, text[at : group.start()]))
        if not speaker and not _WORD.search(before) and _is_name(group, text[group.end() :], known):
            speaker = get_speaker_name(_read_content(group), known)
            names.append(group[0])
        elif _is_left_out(group, before, text[group.end() :]):
            singing = singing or is_singing(_read_content(group))
            sounds.append(" ".join(group[0].split()))
        else:
            continue
        kept.append(text[at : group.start()])
        at = group.end()
    rest = "".join((*kept, text[at:]))
    rest = _EMPTY_GROUP.sub("", rest) if kept else rest
    rest, sung = _strip_music(rest)
    if kept:
        rest = re.sub(r"[ \t]+(?=[:：,.!?;…])", "", rest)
    rest = clean_text(rest).lstrip(":： \n") if kept else clean_text(rest)
    if not _WORD.search(rest) and (kept or sung):
        music = (" ".join(text.split()),) if sung and not sounds else ()
        return _Turn("", speaker, (*sounds, *music), tuple(names))
    heading = rest[:-1].rstrip() if sounds and rest.endswith((":", "：")) else ""
    if heading and "\n" not in heading and (is_upper_case(heading) or heading.casefold() in known):
        return _Turn("", heading, tuple(sounds), tuple(names))
    parts = split_prefix(rest) if not speaker and (mark or kept or sung) else None
    if parts and (mark.startswith(">") or is_upper_case(parts[0]) or parts[0].casefold() in known):
        speaker, rest = parts
        names.append(f"{mark} {speaker}:" if mark.startswith(">") else f"{speaker}:")
    elif mark.startswith(">"):
        names.append(mark)
    return _Turn(rest, speaker, tuple(sounds), tuple(names), sung or singing)


def _strip_music(text: str) -> tuple[str, bool]:
    """Strip the signs of a song; return the text and whether it had any."""
    hashed = _HASHED_SONG.fullmatch(text.strip())
    if hashed:
        return re.sub(r"(?:^|(?<=\s))#(?=\s|$)", "", hashed[1] or hashed[2]), True
    stripped = _MUSIC.sub(" ", text)
    return (stripped, True) if stripped != text else (text, False)


def _is_left_out(group: re.Match[str], before: str, after: str) -> bool:
    """Decide whether a group is a sound or a manner of speaking, not words that somebody says.

    before, after: the text beside it. Square brackets are no words of anybody; round ones hold asides, too.
    """
    content, sign = _read_content(group), group[0][0]
    if not content:
        return True
    if sign in "[［【":
        return before[-1:].isspace() or not before or not before[-1].isalnum()
    starts = not before.strip(" \t-–—♪♫") or before.rstrip(" \t-♪♫").endswith("\n")
    if is_sound(content) if starts else is_sound(content, MAX_ASIDE_WORDS):
        return True
    if sign == "*" or is_sentence(content):
        return False
    if not starts:
        return False
    alone = not after.split("\n")[0].strip(" \t♪♫.!?…")
    return alone or content[0].islower() or is_upper_case(content)
