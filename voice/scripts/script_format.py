"""The contract between the table of script formats and the file of each format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from pathlib import Path

from mouthpiece.voice.scripts.script import Remark, Script


class Match(IntEnum):
    """How sure a format is that a text is written in it."""

    NO = 0
    MAYBE = 1  # unless another format is sure
    YES = 2


@dataclass(frozen=True)
class ScriptReadOptions:
    """Facts about a script file that the file does not state itself.

    duration: Fraction, seconds of the film; None when there is none.
    cue_rate: Fraction, frames a second of timecodes in a cue sheet; None when unknown.
    encoding: name of a character set; None detects it.
    language: which of several texts of a DAPT line is spoken; "" takes the translation.
    speakers: names that have a voice; None accepts every name.
    styles: names of the styles of an ASS file that are dialogue, "NAME,NAME"; None finds them out.
    sdh: what becomes of the marks of captions for the deaf, "drop" or "keep" (mouthpiece.voice.scripts.sdh).
    """

    duration: Fraction | None = None
    cue_rate: Fraction | None = None
    encoding: str | None = None
    language: str = ""
    speakers: tuple[str, ...] | None = None
    styles: str | None = None
    sdh: str = "drop"


@dataclass(frozen=True)
class ScriptFile:
    """A script file in memory, its format known, its lines not yet parsed.

    path: Path of the file.
    raw: all bytes of the file.
    text: the decoded text with "\\n" between rows and no byte order mark; "" for a binary format.
    remarks: Remarks of the decoding.
    format: ScriptFormat that reads it.
    """

    path: Path
    raw: bytes = field(repr=False)
    text: str = field(repr=False)
    remarks: tuple[Remark, ...]
    format: ScriptFormat

    @property
    def name(self) -> str:
        """Name of the file without its folder, for errors and `Script.source`."""
        return self.path.name


@dataclass(frozen=True)
class ScriptFormat:
    """One row of `formats.FORMATS`: how a script format is recognised, read and written.

    name: short and unique, such as "srt".
    title: as people call it, in help and errors.
    suffixes: lower case, with the dot; they decide where contents leave the format open.
    read: takes a ScriptFile and ScriptReadOptions, returns a Script. Raises InvalidInputError for a broken file,
    UsageError for facts that the options must supply.
    sniff: takes the text and the suffix of the file, returns a Match; None for a format without marks of its own.
    sniff_bytes: takes the bytes of the file, returns whether they are this binary format: asked before any text is
    decoded; None for a text format.
    write: takes a Script whose lines have times and the suffix of the file, returns str or bytes; None when the format
    is only read.
    read_only_suffixes: those of the suffixes under which it is never written.
    has_timecodes: True when times may need `ScriptReadOptions.cue_rate`.
    has_styles: True when lines have styles, of which `ScriptReadOptions.styles` chooses.
    is_edited: True where every text is what is spoken: neither marks of captions nor rolling rows are looked for.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    read: Callable[[ScriptFile, ScriptReadOptions], Script]
    sniff: Callable[[str, str], Match] | None = None
    sniff_bytes: Callable[[bytes], bool] | None = None
    write: Callable[[Script, str], str | bytes] | None = None
    read_only_suffixes: tuple[str, ...] = ()
    has_timecodes: bool = False
    has_styles: bool = False
    is_edited: bool = False

    @property
    def written_suffixes(self) -> tuple[str, ...]:
        """Suffixes under which the format is written; () when it is only read."""
        return () if self.write is None else tuple(s for s in self.suffixes if s not in self.read_only_suffixes)
