"""Plain text: every row is a line of dialogue without times."""

import re

from voice.scripts.line import Line, Script, cleaned
from voice.scripts.speakers import named

_BARE_NAME = re.compile(r"[^\W\d_][\w .'’-]{0,39}")


def read_plain(text, name):
    """Script without times; rows that hold nothing are left out.

    text: str.  name: of the file.
    Speakers stand before a colon (speakers.named), or as a row in capitals that ends in a colon over the rows that follow.
    Source: ours.
    """
    rows, speaker = [], ""
    for row in filter(None, (cleaned(row) for row in text.split("\n"))):
        if row.endswith((":", "：")) and row.upper() == row and _BARE_NAME.fullmatch(row[:-1]):
            speaker = row[:-1].strip()
            continue
        rows.append((speaker, row))
    spoken = named([row for _, row in rows])
    lines = (Line(str(k), who or over, None, None, said) for k, ((over, _), (who, said)) in enumerate(zip(rows, spoken), 1))
    return Script(tuple(lines), source=name)
