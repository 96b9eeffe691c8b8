"""A script in memory: lines with speakers and exact times, and remarks of its reader."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from fractions import Fraction

from mouthpiece.engine.errors import MouthpieceError

ON_SCREEN = ("", "on", "off", "on_off", "off_on")
REMARK_KINDS = (
    *("encoding", "format", "origin", "split", "unit", "placed", "left_out"),  # on the whole script: good to know
    # look at the line
    *("overlap", "beyond_end", "zero_length", "reversed", "empty", "unknown_speaker", "no_time", "two_scripts"),
    *("sound", "speaker", "song"),  # marks of captions for the deaf that are not spoken
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ROW_BREAK = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile(r"[ \t]+")
_MAX_WANTED_CHARACTERS = 48  # of an id, before a number is added
_NOT_ID = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Line:
    """A line of dialogue.

    id: letters, digits, '.', '_' and '-'; unique in the script.
    speaker: as written; "" when unknown.
    start, end: seconds from the first frame of the film; None where a plain text gives no times.
    text: what is spoken, without markup; "\\n" between rows.
    language: such as "en" or "pt-BR"; "" when unknown.
    on_screen: whether the mouth is seen, as in DAPT: "on", "off", "on_off", "off_on", or "" for unknown.
    original: the text in the language of the film, where the script has both.
    notes: for the people who work with the script.
    Raises MouthpieceError for parts of the wrong kind.
    """

    id: str
    speaker: str
    start: Fraction | None
    end: Fraction | None
    text: str
    language: str = ""
    on_screen: str = ""
    original: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        times = {type(self.start), type(self.end)}
        if not _ID.fullmatch(self.id) or self.on_screen not in ON_SCREEN or times not in ({Fraction}, {type(None)}):
            raise MouthpieceError(f"line {self.id!r}: {self.start!r} to {self.end!r}, on screen {self.on_screen!r}.")

    @property
    def times(self) -> tuple[Fraction, Fraction] | None:
        """Get (start, end) in seconds; None without times."""
        return None if self.start is None or self.end is None else (self.start, self.end)


@dataclass(frozen=True)
class Remark:
    """A remark of the reader on a script, for its owner.

    kind: one of REMARK_KINDS.
    text: one sentence.
    line_id: the line it is about; "" for the whole script.
    """

    kind: str
    text: str
    line_id: str = ""


@dataclass(frozen=True)
class Script:
    """A script: its lines in the order of the file.

    language: of the texts; "" when unknown.
    original_language: of the originals.
    title: of the film.
    source: name of the file.
    remarks: of its reader.
    """

    lines: tuple[Line, ...]
    language: str = ""
    original_language: str = ""
    title: str = ""
    source: str = ""
    remarks: tuple[Remark, ...] = ()

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers in the order of their first line."""
        return tuple(dict.fromkeys(line.speaker for line in self.lines if line.speaker))

    def add_remarks(self, *remarks: Remark) -> Script:
        """Return the script with more remarks."""
        return replace(self, remarks=self.remarks + tuple(remarks))


def clean_text(text: str) -> str:
    """Clean a text to what every format can carry: rows trimmed, single spaces, no empty rows or control characters.

    An empty row ends a cue in SRT and WebVTT; XML has no control characters.
    """
    rows = _ROW_BREAK.split(text)
    kept = ("".join(c for c in row if c == "\t" or unicodedata.category(c) != "Cc" and c != "\ufeff") for row in rows)
    return "\n".join(filter(None, (_SPACES.sub(" ", row).strip() for row in kept)))


def make_unique_ids(wanted: list[str]) -> list[str]:
    """Make ids for lines in order: those wanted where they can be, numbers from 1 where nothing was wanted.

    wanted: possibly empty, repeated or with characters that an id cannot have.
    """
    names = [_NOT_ID.sub("-", name).strip("-._")[:_MAX_WANTED_CHARACTERS] for name in wanted]
    reserved, taken = set(names), set()
    ids = []
    for number, name in enumerate(names, 1):
        chosen = name
        if not name or name in taken:
            base = name or str(number)
            numbered = (f"{base}-{k}" for k in range(2, len(names) + 3))
            candidates = numbered if name or base in reserved else (base, *numbered)
            chosen = next(c for c in candidates if c not in taken and c not in reserved)
        taken.add(chosen)
        ids.append(chosen)
    return ids
