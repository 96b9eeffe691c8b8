"""ASS and SSA, read with the Name of every line; their clock has steps of 10 ms."""

import warnings
from fractions import Fraction

from engine.errors import Refused
from voice.scripts.line import Line, Remark, Script, cleaned, unique_ids
from voice.scripts.speakers import named


def read_ass(text, name):
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
        raise Refused(f"{name}: no ASS script can be read from it ({error}).", hint="Export it again.", code="broken_script") from error
    events = [event for event in subs if event.type == "Dialogue" and not event.is_drawing]
    said = [cleaned(event.plaintext) for event in events]
    names = [event.name.strip() for event in events]
    if not any(names):
        names, said = zip(*named(said)) if said else ((), ())
    times = [(Fraction(event.start, 1000), Fraction(event.end, 1000)) for event in events]
    lines = (Line(i, who, *slot, what) for i, who, slot, what in zip(unique_ids([""] * len(events)), names, times, said))
    left = len(subs) - len(events)
    remarks = (Remark("format", f"{name}: {left} comments and drawings left out."),) if left else ()
    return Script(tuple(lines), title=subs.info.get("Title", ""), source=name, remarks=remarks)
