"""A script in memory: lines with speakers and exact times, and what was noticed while reading."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from fractions import Fraction

from mouthpiece.engine.errors import MouthpieceError

ON_SCREEN = ("", "on", "off", "on_off", "off_on")
REMARKS = {  # kind -> does a person have to look at the line
    "encoding": False,
    "format": False,
    "origin": False,
    "split": False,
    "unit": False,
    "placed": False,
    "overlap": True,
    "beyond_end": True,
    "zero_length": True,
    "reversed": True,
    "empty": True,
    "unknown_speaker": True,
    "no_time": True,
}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BREAK = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile(r"[ \t]+")
_NOT_ID = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Line:
    """A line of dialogue.

    id: letters, digits, '.', '_' and '-'; one line of the script has it.
    speaker: as written; "" when the script does not say.
    start, end: Fraction, seconds from the first frame of the film; None where a plain text gives no times.
    text: what is to be spoken, without markup; "\\n" between rows.
    language: such as "en" or "pt-BR"; "" when the script does not say.
    on_screen: is the mouth seen: "on", "off", "on_off", "off_on", or "" for unknown.
    original: the text in the language of the film, where the script has both.
    notes: what the script says to the people who work with it.
    Raises MouthpieceError for parts of the wrong kind.
    Source: ours; on_screen as in DAPT.
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

    @property
    def slot(self) -> Fraction:
        """Length in seconds, a Fraction; 0 without times."""
        return max(Fraction(0), self.end - self.start) if self.start is not None else Fraction(0)


@dataclass(frozen=True)
class Remark:
    """Something noticed about a script that its owner should know.

    kind: a key of REMARKS.  text: one sentence.  line_id: the line it is about; "" for the whole script.
    """

    kind: str
    text: str
    line_id: str = ""

    @property
    def serious(self) -> bool:
        """True when a person has to look at the line."""
        return REMARKS[self.kind]


@dataclass(frozen=True)
class Script:
    """Lines in the order of the file.

    language: of the texts, "" when unknown.  original_language: of the originals.  title: of the film.
    source: name of the file.  remarks: Remarks.
    """

    lines: tuple[Line, ...]
    language: str = ""
    original_language: str = ""
    title: str = ""
    source: str = ""
    remarks: tuple[Remark, ...] = ()

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names in the order of their first line."""
        return tuple(dict.fromkeys(line.speaker for line in self.lines if line.speaker))

    def add_remarks(self, *remarks) -> Script:
        """The script with more remarks."""
        return replace(self, remarks=self.remarks + tuple(remarks))


def clean_text(text: str) -> str:
    """Text as every format can carry it: rows trimmed, single spaces, no empty rows and no control characters.

    text: str.
    Source: ours; an empty row ends a cue in SRT and WebVTT, XML has no control characters.
    """
    rows = _BREAK.split(text)
    kept = ("".join(c for c in row if c == "\t" or unicodedata.category(c) != "Cc" and c != "\ufeff") for row in rows)
    return "\n".join(filter(None, (_SPACES.sub(" ", row).strip() for row in kept)))


def make_unique_ids(wanted: list[str]) -> list[str]:
    """Ids for lines in order: those wanted where they can be, numbers from 1 where nothing was wanted.

    wanted: list of str, possibly empty, repeated or with characters that an id cannot have.
    """
    plain = [_NOT_ID.sub("-", name).strip("-._")[:48] for name in wanted]
    taken, ids = set(), []
    reserved = set(plain)
    for number, name in enumerate(plain, 1):
        if name and name not in taken:
            chosen = name
        else:
            base = name or str(number)
            options = [base] if not name and base not in reserved else []
            chosen = next(
                o
                for o in (*options, *(f"{base}-{k}" for k in range(2, len(plain) + 3)))
                if o not in taken and o not in reserved
            )
        taken.add(chosen)
        ids.append(chosen)
    return ids
