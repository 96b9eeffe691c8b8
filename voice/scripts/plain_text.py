"""Plain text: every row is a line of dialogue without times."""

from __future__ import annotations

import re

from mouthpiece.voice.scripts.script import Line, Script, clean_text
from mouthpiece.voice.scripts.speaker_prefix import split_speakers

_NAME_ALONE = re.compile(r"[^\W\d_][\w .'’-]{0,39}")


def read_plain(text: str, name: str) -> Script:
    """Script without times; rows that hold nothing are left out.

    text: str.  name: of the file.
    Speakers stand before a colon (speakers.named), or as a row in capitals that ends in a colon over the rows that
    follow.
    """
    rows, speaker = [], ""
    for row in filter(None, (clean_text(row) for row in text.split("\n"))):
        if row.endswith((":", "：")) and row.upper() == row and _NAME_ALONE.fullmatch(row[:-1]):
            speaker = row[:-1].strip()
            continue
        rows.append((speaker, row))
    spoken = split_speakers([row for _, row in rows])
    lines = (
        Line(str(k), who or over, None, None, said) for k, ((over, _), (who, said)) in enumerate(zip(rows, spoken), 1)
    )
    return Script(tuple(lines), source=name)
