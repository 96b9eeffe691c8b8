"""Scripts of dialogue in the formats that dubbing teams exchange, read and written without losing a speaker or a
millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.voice.scripts.line_placement import count_syllables, place_lines, split_slot
from mouthpiece.voice.scripts.script import ON_SCREEN, REMARKS, Line, Remark, Script, clean_text
from mouthpiece.voice.scripts.text_decoding import read_text
from mouthpiece.voice.scripts.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ON_SCREEN",
    "REMARKS",
    "Line",
    "ScriptReadOptions",
    "Remark",
    "Script",
    "check_script",
    "place_lines",
    "read_script",
    "split_slot",
    "count_syllables",
    "write_script",
]

WRITTEN_SUFFIXES = (".srt", ".vtt", ".csv", ".tsv", ".tab", ".ttml", ".dapt", ".xml")
_HOUR_S = 3600


@dataclass(frozen=True)
class ScriptReadOptions:
    """What a person says about a script file that the file does not say itself.

    duration: Fraction, seconds of the film; None when there is none.
    cue_rate: Fraction, frames a second of timecodes in a cue sheet; None when not told.
    encoding: name of a character set; None finds it out.
    language: of several texts of a DAPT line the one to be spoken; "" takes the translation.
    speakers: names that have a voice; None when every name will do.
    """

    duration: Fraction | None = None
    cue_rate: Fraction | None = None
    encoding: str | None = None
    language: str = ""
    speakers: tuple[str, ...] | None = None


def read_script(
    path: Path, duration=None, options: ScriptReadOptions | None = None, decoded: tuple[str, bytes, tuple] | None = None
) -> Script:
    """The Script in a file, its format found by its contents and then by its suffix.

    path: str or Path: SRT, WebVTT, ASS, cue sheet (CSV, TAB), DAPT or TTML, plain text, project file.
    duration: Fraction, seconds of the film; None skips what is looked at with it.
    reading: Reading, for more than the duration.  said: what read_text gave of the file, None reads it.
    What is odd but can be worked with becomes a remark: overlaps, empty, zero-length or late cues, older character
    sets.
    Raises Refused for what is no script, is broken, or belongs to another film; UsageProblem for what must be told.
    """
    path, options = Path(path), options or ScriptReadOptions()
    if duration is not None:
        options = replace(options, duration=Fraction(duration))
    text, raw, remarks = decoded or read_text(path, options.encoding)
    kind = detect_format(text, path.suffix.lower())
    script = _parse(kind, text, raw, path.name, options)
    if options.cue_rate is not None and kind != "csv":
        remarks += (Remark("format", f"{path.name}: it is no cue sheet; --cue-rate is not used."),)
    if not script.lines:
        raise InvalidInputError(
            f"{path}: no line of dialogue in it.", hint="Look whether the file is complete.", code="empty_script"
        )
    lines = tuple(replace(line, speaker=" ".join(clean_text(line.speaker).split())) for line in script.lines)
    script = replace(script, lines=lines, remarks=remarks + script.remarks)
    if options.duration is not None:
        script = _align_to_film(script, path, options.duration)
    return script.add_remarks(*check_script(script, options.duration, options.speakers))


def detect_format(text: str, suffix: str) -> str:
    """ "project", "ttml", "vtt", "ass", "srt", "csv" or "txt": what the text is.

    text: str.  suffix: of the file, such as ".srt"; used only where the text leaves it open.
    """
    from mouthpiece.voice.scripts.cue_sheet import find_header
    from mouthpiece.voice.scripts.srt import is_srt

    start = text.lstrip()
    if start.startswith(("{", "[{")):
        return "project"
    if start.startswith("<"):
        return "ttml"
    if suffix in (".csv", ".tsv", ".tab") and find_header(text) is not None:
        return "csv"
    if start.startswith("WEBVTT") or suffix == ".vtt" and is_srt(text):
        return "vtt"
    if any(mark in text for mark in ("[Script Info]", "[V4+ Styles]", "[V4 Styles]", "[Events]")):
        return "ass"
    if is_srt(text):
        return "srt"
    if suffix in (".csv", ".tsv", ".tab") or find_header(text) is not None:
        return "csv"
    known = {
        ".srt": "srt",
        ".vtt": "vtt",
        ".ass": "ass",
        ".ssa": "ass",
        ".json": "project",
        ".ttml": "ttml",
        ".dapt": "ttml",
        ".xml": "ttml",
        ".dfxp": "ttml",
    }
    return known.get(suffix, "txt")


def _parse(kind: str, text: str, raw: bytes, name: str, reading: ScriptReadOptions) -> Script:
    if kind == "project":
        from mouthpiece.voice.scripts.project import parse_project_script

        return parse_project_script(text, name)
    if kind == "ttml":
        from mouthpiece.voice.scripts.ttml import read_ttml

        return read_ttml(raw, name, reading.language)
    if kind == "ass":
        from mouthpiece.voice.scripts.ass import read_ass

        return read_ass(text, name)
    if kind == "csv":
        from mouthpiece.voice.scripts.cue_sheet import read_cues

        return read_cues(text, name, reading.cue_rate)
    if kind == "txt":
        from mouthpiece.voice.scripts.plain_text import read_plain

        return read_plain(text, name)
    from mouthpiece.voice.scripts.srt import read_srt
    from mouthpiece.voice.scripts.vtt import read_vtt

    return (read_vtt if kind == "vtt" else read_srt)(text, name)


def _align_to_film(script: Script, path: Path, duration: Fraction) -> Script | None:
    """The script on the clock of the film; refused when it belongs to another one."""
    timed = [line for line in script.lines if line.start is not None]
    if not timed:
        return script
    first = min(line.start for line in timed)
    hours = int(first // _HOUR_S) * _HOUR_S
    if (
        hours
        and first >= duration
        and min(line.end for line in timed) >= hours
        and max(line.start for line in timed) - hours < duration
    ):
        moved = tuple(
            line if line.start is None else replace(line, start=line.start - hours, end=line.end - hours)
            for line in script.lines
        )
        said = f"{path.name}: its times start in hour {hours // _HOUR_S}; taken as the start of the film."
        return replace(script, lines=moved, remarks=script.remarks + (Remark("origin", said),))
    late = sum(line.start >= duration for line in timed)
    if late * 2 >= len(timed) and late > 0:
        where = f"{late} of {len(timed)} lines start after the end of the film ({format_timestamp(duration)})"
        raise InvalidInputError(
            f"{path}: {where}; the first line is at {format_timestamp(first)}.",
            hint="Is this the script of another film?",
            code="other_film",
        )
    return script


def check_script(script: Script, duration: Fraction | None = None, speakers=None) -> tuple[Remark, ...]:
    """Remarks on lines that a person should look at: nothing is changed.

    script: Script.
    duration: Fraction, seconds of the film; None skips cues beyond its end.
    speakers: names that have a voice; None skips unknown ones.
    Source: issue list of dubbing teams.
    """
    remarks = []
    for line in script.lines:
        remarks += (
            Remark(kind, f"Line {line.id}: {said}", line.id) for kind, said in _find_issues(line, duration, speakers)
        )
    return tuple(remarks + _find_overlaps(script.lines))


def _find_issues(line: Line, duration: Fraction | None, speakers) -> Iterator[tuple[str, str]]:
    if not line.text.strip():
        yield "empty", "no text; nothing will be spoken."
    if speakers is not None and line.speaker not in speakers:
        yield (
            "unknown_speaker",
            f"no voice is given for speaker '{line.speaker}'." if line.speaker else "no speaker and no voice for it.",
        )
    if line.start is None:
        return
    span = f"{format_timestamp(line.start)} to {format_timestamp(line.end)}"
    if line.end < line.start:
        yield "reversed", f"it ends before it starts ({span})."
    elif line.end == line.start:
        yield "zero_length", f"it has no length ({span})."
    if duration is not None and max(line.start, line.end) > duration:
        yield "beyond_end", f"{span} goes beyond the end of the film ({format_timestamp(duration)})."


def _find_overlaps(lines: tuple[Line, ...]) -> list:
    """A remark for every line that starts while another still lasts."""
    latest, remarks = None, []
    for line in sorted(
        (line for line in lines if line.start is not None and line.end > line.start),
        key=lambda line: (line.start, line.end),
    ):
        if latest is not None and latest.end > line.start:
            said = f"Line {line.id}: it starts {float(min(latest.end, line.end) - line.start):.3f} s before line {latest.id} ends."
            remarks.append(Remark("overlap", said, line.id))
        latest = line if latest is None or line.end > latest.end else latest
    return remarks


def write_script(script: Script, path: Path, overwrite: bool = False, inputs: tuple = ()) -> Path | None:
    """Writes a script in the format of the suffix: .srt, .vtt, .csv, .tsv, .tab, .ttml, .dapt or .xml.

    script: Script whose lines all have times.
    path: str or Path.
    overwrite, inputs: as for files.output_file.
    What survives: all of it in CSV and DAPT; ids, speakers, times and texts in WebVTT; speakers, times and texts in
    SRT.
    Raises UsageProblem for another suffix or lines without times; WriteFailed for the disk.
    Source: ours; UTF-8, "\\n".
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        raise UsageError(
            f"{path}: scripts are not written as '{suffix}'.",
            hint=f"Use one of {' '.join(WRITTEN_SUFFIXES)}.",
            code="output_suffix",
        )
    bare = next((line for line in script.lines if line.start is None), None)
    if bare is not None:
        raise UsageError(
            f"{path}: line {bare.id} has no times.",
            hint="Place the lines on the speech of a film first.",
            code="no_times",
        )
    content = _format_script(script, suffix)
    with atomic_write(path, overwrite, inputs) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def _format_script(script: Script, suffix: str) -> str | bytes:
    if suffix == ".srt":
        from mouthpiece.voice.scripts.srt import write_srt

        return write_srt(script)
    if suffix == ".vtt":
        from mouthpiece.voice.scripts.vtt import write_vtt

        return write_vtt(script)
    if suffix in (".csv", ".tsv", ".tab"):
        from mouthpiece.voice.scripts.cue_sheet import write_cues

        return write_cues(script, "," if suffix == ".csv" else "\t")
    from mouthpiece.voice.scripts.dapt import write_dapt

    return write_dapt(script)
