"""Plain text: every row is a line of dialogue without times."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mouthpiece.voice.scripts.script import Line, Script, clean_text
from mouthpiece.voice.scripts.speaker_prefix import split_speakers

if TYPE_CHECKING:
    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

_NAME_ALONE = re.compile(r"[^\W\d_][\w .'’-]{0,39}")


def read(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of a plain text; its lines have no times."""
    return parse_plain_text(file.text, file.name)


def parse_plain_text(text: str, name: str) -> Script:
    """Parse plain text to a Script without times; empty rows are left out.

    text: of the whole file.
    name: of the file.
    Speakers stand before a colon (`split_speakers`), or as a row in capitals that ends in a colon over the rows that
    follow.
    """
    rows, heading = [], ""
    for row in filter(None, (clean_text(row) for row in text.split("\n"))):
        if row.endswith((":", "：")) and row.upper() == row and _NAME_ALONE.fullmatch(row[:-1]):
            heading = row[:-1].strip()
            continue
        rows.append((heading, row))
    spoken = split_speakers([row for _, row in rows])
    lines = tuple(
        Line(str(number), speaker or heading, None, None, said)
        for number, ((heading, _), (speaker, said)) in enumerate(zip(rows, spoken), 1)
    )
    return Script(lines, source=name)
