"""ASS and SSA, read with the Name of every line; their clock has steps of 10 ms."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.ass_dialogue import select_dialogue
from mouthpiece.voice.scripts.script import Line, Remark, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.script_format import Match
from mouthpiece.voice.scripts.speaker_prefix import split_speakers
from mouthpiece.voice.scripts.srt import resolve_entities

if TYPE_CHECKING:
    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

_SECTIONS = ("[Script Info]", "[V4+ Styles]", "[V4 Styles]", "[Events]")
_SSA_SECTION = "[V4 Styles]"


def sniff(text: str, suffix: str) -> Match:
    """Recognise ASS and SSA by the name of a section."""
    return Match.YES if any(section in text for section in _SECTIONS) else Match.NO


def read(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of an ASS or SSA file. Raises InvalidInputError for a broken one."""
    return parse_ass(file.text, file.name, options.styles)


def parse_ass(text: str, name: str, styles: str | None = None) -> Script:
    """Parse the text of an ASS or SSA file to a Script: its dialogue, without signs, karaoke, comments and drawings.

    text: of the whole file.
    name: of the file.
    styles: names of the styles that are dialogue, "NAME,NAME"; None finds them out (`select_dialogue`).
    Speakers are the Name of a line; where no line has one, what stands before a colon (`split_speakers`).
    Raises InvalidInputError for a file that pysubs2 cannot read and for one without dialogue, UsageError for a style
    that it does not have.
    Source: Advanced SubStation Alpha, as pysubs2 reads it.
    """
    import pysubs2

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about margins and layers that nobody speaks
            subs = pysubs2.SSAFile.from_string(text, format_="ssa" if _SSA_SECTION in text else "ass")
    except (pysubs2.Pysubs2Error, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InvalidInputError(
            f"{name}: no ASS script can be read from it ({error}).", hint="Export it again.", code="broken_script"
        ) from error
    choice = select_dialogue(subs, name, styles)
    events = choice.events
    spoken = [(event.name.strip(), clean_text(resolve_entities(event.plaintext))) for event in events]
    if not any(speaker for speaker, _ in spoken):
        spoken = split_speakers([said for _, said in spoken])
    lines = tuple(
        Line(line_id, speaker, Fraction(event.start, 1000), Fraction(event.end, 1000), said)
        for line_id, event, (speaker, said) in zip(make_unique_ids([""] * len(events)), events, spoken)
    )
    notes = [f"{name}: {count} left out: {reason}." for reason, count in choice.left_out.items()]
    hint = " --styles NAME,NAME names the styles that are spoken."
    notes = [note if "comments" in note or styles else note + hint for note in notes]
    remarks = tuple(Remark("left_out", note) for note in notes)
    return Script(lines, title=subs.info.get("Title", ""), source=name, remarks=remarks)
