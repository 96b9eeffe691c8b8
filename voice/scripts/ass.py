"""ASS and SSA, read with the Name of every line; their clock has steps of 10 ms."""

from __future__ import annotations

import warnings
from fractions import Fraction

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import Line, Remark, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.speaker_prefix import split_speakers


def read_ass(text: str, name: str) -> None:
    """Script of an ASS or SSA file: its Dialogue, without comments and drawings.

    text: str.  name: of the file.
    Speakers: the Name of a line; where no line has one, what stands before a colon (speakers.named).
    Raises Refused for a file that pysubs2 cannot read.
    Source: Advanced SubStation Alpha, as pysubs2 reads it.
    """
    import pysubs2

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about margins and layers that nobody speaks
            subs = pysubs2.SSAFile.from_string(text, format_="ass" if "[V4 Styles]" not in text else "ssa")
    except (pysubs2.Pysubs2Error, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InvalidInputError(
            f"{name}: no ASS script can be read from it ({error}).", hint="Export it again.", code="broken_script"
        ) from error
    events = [event for event in subs if event.type == "Dialogue" and not event.is_drawing]
    said = [clean_text(event.plaintext) for event in events]
    names = [event.name.strip() for event in events]
    if not any(names):
        names, said = zip(*split_speakers(said)) if said else ((), ())
    times = [(Fraction(event.start, 1000), Fraction(event.end, 1000)) for event in events]
    lines = (
        Line(i, who, *slot, what) for i, who, slot, what in zip(make_unique_ids([""] * len(events)), names, times, said)
    )
    left = len(subs) - len(events)
    remarks = (Remark("format", f"{name}: {left} comments and drawings left out."),) if left else ()
    return Script(tuple(lines), title=subs.info.get("Title", ""), source=name, remarks=remarks)
