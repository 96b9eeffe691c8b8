"""WebVTT, read and written with its voices.

pysubs2 1.8.1 speaks cue names and NOTE blocks, and drops every voice; ttconv 1.2.3 drops the voices.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import Line, Remark, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.script_format import Match
from mouthpiece.voice.scripts.speaker_prefix import split_speakers
from mouthpiece.voice.scripts.srt import TIMING, VOICE_TAG, has_cue_timing, strip_ruby_text
from mouthpiece.voice.scripts.syllables import split_slot
from mouthpiece.voice.scripts.timestamps import format_timestamp, parse_timestamp

if TYPE_CHECKING:
    from fractions import Fraction

    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

SIGNATURE = "WEBVTT"
_UNSPOKEN_BLOCKS = ("NOTE", "STYLE", "REGION")
_EMPTY_ROWS = re.compile(r"\n{2,}")  # a row of blanks is not empty: it belongs to the text of its cue
_BLANKS = " \t"
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^}]*\}")
# a block written where no cue has a voice tag, so that "Remember: be careful" does not become a speaker
_VOICES_ONLY = "NOTE Speakers are named in voice tags only."


class VttCue(NamedTuple):
    """One voice of a cue: its identifier or "", times in seconds, speaker or "", text without markup."""

    id: str
    start: Fraction
    end: Fraction
    speaker: str
    text: str


def sniff(text: str, suffix: str) -> Match:
    """Recognise WebVTT by its signature, or by its suffix where the text has cues without one."""
    signed = text.lstrip().startswith(SIGNATURE)
    return Match.YES if signed or suffix == ".vtt" and has_cue_timing(text) else Match.NO


def read(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of a WebVTT file. Raises InvalidInputError for times that cannot be read."""
    return parse_vtt(file.text, file.name)


def write(script: Script, suffix: str) -> str:
    """Write a WebVTT file that reads back with the same ids, speakers, texts and milliseconds; return its text.

    script: Script with times.
    Source: W3C WebVTT, section 4.
    """
    title = " ".join(script.title.replace("-->", " ").split())
    head = SIGNATURE + (f" {title}" if title else "") + (f"\nLanguage: {script.language}" if script.language else "")
    blocks = [_format_cue(line) for line in script.lines]
    text = "\n\n".join([head, *blocks]) + "\n"
    if [line.speaker for line in parse_vtt(text, "").lines] != [line.speaker for line in script.lines]:
        text = "\n\n".join([head, _VOICES_ONLY, *blocks]) + "\n"
    return text


def parse_vtt(text: str, name: str) -> Script:
    """Parse the text of a WebVTT file to a Script; a cue with several voices becomes several lines.

    text: with "\\n" between rows.
    name: of the file.
    Speakers come from "<v Name>" where the file has one, else from what stands before a colon (`split_speakers`).
    Raises InvalidInputError for times that cannot be read.
    Source: W3C WebVTT, sections 4 and 6.
    """
    blocks = _split_blocks(text)
    title, language = _parse_header(blocks)
    cues: list[VttCue] = []
    shared: list[tuple[int, int]] = []  # index of the first line of a cue with several voices, and how many
    for block in blocks:
        voices = _parse_block(block, name)
        if len(voices) > 1:
            shared.append((len(cues), len(voices)))
        cues += voices
    if not any(VOICE_TAG.search(block) for block in blocks) and _VOICES_ONLY not in blocks:
        spoken = split_speakers([cue.text for cue in cues])
        cues = [cue._replace(speaker=speaker, text=said) for cue, (speaker, said) in zip(cues, spoken)]
    ids = make_unique_ids([cue.id for cue in cues])
    lines = tuple(Line(i, cue.speaker, cue.start, cue.end, cue.text) for i, cue in zip(ids, cues))
    notes = [(f"A cue with {n} voices is now {n} lines from {ids[k]} on.", ids[k]) for k, n in shared]
    remarks = tuple(Remark("split", note, line_id) for note, line_id in notes)
    return Script(lines, language=language, title=title, source=name, remarks=remarks)


def _split_blocks(text: str) -> list[str]:
    """Split a file into its blocks: at empty rows, and before the times of a further cue.

    A row of blanks ends a cue only where the times of the next one follow, with or without a number before them.
    """
    blocks = []
    for block in _EMPTY_ROWS.split(text.strip("\n")):
        rows = block.split("\n")
        while rows and not rows[0].strip():
            rows.pop(0)
        if not rows:
            continue
        timings = [] if _is_unspoken(rows) else [k for k, row in enumerate(rows) if TIMING.match(row)]
        starts = [0, *(_find_cue_start(rows, k) for k in timings[1:])]
        blocks += ["\n".join(rows[a:b]).rstrip("\n") for a, b in zip(starts, [*starts[1:], len(rows)])]
    return blocks


def _find_cue_start(rows: list[str], timing: int) -> int:
    """Find the row where a cue begins whose times stand in rows[timing]: a number after a row of blanks is its id."""
    has_id = timing >= 2 and rows[timing - 1].strip().isdigit() and not rows[timing - 2].strip(_BLANKS)
    return timing - has_id


def _is_unspoken(rows: list[str]) -> bool:
    return rows[0].split(" ")[0].rstrip("\t") in _UNSPOKEN_BLOCKS


def _parse_header(blocks: list[str]) -> tuple[str, str]:
    """Parse title and language from the first block; "" for what it does not say."""
    if not blocks or not blocks[0].startswith(SIGNATURE):
        return "", ""
    first, *rows = blocks[0].split("\n")
    languages = (row.split(":", 1)[1].strip() for row in rows if row.lower().startswith("language:"))
    return first.removeprefix(SIGNATURE).strip(" -\t"), next(languages, "")


def _parse_block(block: str, name: str) -> list[VttCue]:
    """Parse one block to its voices, which share the slot of the cue; [] for a block that is not a cue."""
    timing = TIMING.search(block)
    if timing is None or _is_unspoken(block.split("\n", 1)):
        return []
    start, end = parse_timestamp(timing[1]), parse_timestamp(timing[2])
    if start is None or end is None:
        raise InvalidInputError(
            f"{name}: '{timing[0].strip()}' is not a pair of times.", hint="Mend that cue.", code="bad_time"
        )
    row_before = block[: timing.start()].strip("\n").split("\n")[-1]
    cue_id = "" if row_before.startswith(SIGNATURE) else row_before
    voices = _split_voices(block[timing.end() :])
    if len(voices) == 1:
        return [VttCue(cue_id, start, end, *voices[0])]
    slots = split_slot(start, end, [text for _, text in voices])
    ids = [f"{cue_id}{chr(ord('a') + k)}" if cue_id else "" for k in range(len(voices))]
    return [VttCue(i, *slot, speaker, text) for i, slot, (speaker, text) in zip(ids, slots, voices)]


def _split_voices(body: str) -> list[tuple[str, str]]:
    """Split a cue into (speaker, text); text before the first voice belongs to it."""
    pieces = VOICE_TAG.split(body)
    voices = [("", strip_vtt_markup(pieces[0]))]
    for name, text in zip(pieces[1::2], pieces[2::2]):
        speaker, said = html.unescape(name or "").strip(), strip_vtt_markup(text)
        if voices[-1][0] == speaker or not voices[-1][1]:
            voices[-1] = (speaker, "\n".join(filter(None, (voices[-1][1], said))))
        else:
            voices.append((speaker, said))
    return voices


def strip_vtt_markup(body: str) -> str:
    """Strip markup and the readings of ruby from the text of a cue and resolve character references.

    Source: W3C WebVTT, section 6.4.
    """
    return clean_text(html.unescape(_TAG.sub("", strip_ruby_text(body))))


def _format_cue(line: Line) -> str:
    text = html.escape(clean_text(line.text), quote=False)
    voice = f"<v {html.escape(line.speaker, quote=False)}>" if line.speaker else ""
    return f"{line.id}\n{format_timestamp(line.start)} --> {format_timestamp(line.end)}\n{voice}{text}"
