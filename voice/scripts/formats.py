"""Script formats: one table from which detection, reading, writing, help and errors derive.

A new format is one new file with `read` (and `sniff`, `write` where it has them) and one row in FORMATS.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.voice.scripts import (
    ass,
    broadcast_captions,
    cue_sheet,
    dapt,
    lrc,
    plain_text,
    project_file,
    sbv,
    srt,
    ttml,
    vtt,
)
from mouthpiece.voice.scripts.rolling_captions import unroll_captions
from mouthpiece.voice.scripts.script import Remark, Script, clean_text
from mouthpiece.voice.scripts.script_checks import align_to_film, check_script
from mouthpiece.voice.scripts.script_format import Match, ScriptFile, ScriptFormat, ScriptReadOptions
from mouthpiece.voice.scripts.sdh import DROP, resolve_sdh
from mouthpiece.voice.scripts.text_decoding import decode_text, read_bytes
from mouthpiece.voice.scripts.unread_formats import reject_broken_cue_times, reject_timed_text, reject_unread_format

if TYPE_CHECKING:
    from collections.abc import Sequence

# From the general to the specific. Detection starts at the last row; what no row claims is read by the first.
FORMATS: tuple[ScriptFormat, ...] = (
    ScriptFormat("txt", "plain text", (".txt",), plain_text.read),
    ScriptFormat("lrc", "LRC", (".lrc",), lrc.read, lrc.sniff),
    ScriptFormat("sbv", "SBV", (".sbv",), sbv.read, sbv.sniff),
    ScriptFormat("scc", "SCC", (".scc",), broadcast_captions.read_scc, broadcast_captions.sniff_scc),
    ScriptFormat(
        "stl", "EBU STL", (".stl",), broadcast_captions.read_ebu_stl, sniff_bytes=broadcast_captions.sniff_ebu_stl
    ),
    ScriptFormat("srt", "SRT", (".srt",), srt.read, srt.sniff, write=srt.write),
    ScriptFormat("ass", "ASS", (".ass", ".ssa"), ass.read, ass.sniff, has_styles=True),
    ScriptFormat("vtt", "WebVTT", (".vtt",), vtt.read, vtt.sniff, write=vtt.write),
    ScriptFormat(
        "csv",
        "cue sheet (CSV or TAB)",
        cue_sheet.SUFFIXES,
        cue_sheet.read,
        cue_sheet.sniff,
        write=cue_sheet.write,
        has_timecodes=True,
    ),
    ScriptFormat(
        "ttml",
        "DAPT or TTML",
        (".ttml", ".dapt", ".xml", ".dfxp"),
        ttml.read,
        ttml.sniff,
        write=dapt.write,
        read_only_suffixes=(".dfxp",),
    ),
    ScriptFormat("project", "project file", (".json",), project_file.read, project_file.sniff, is_edited=True),
)
_ARROW_FORMATS = ("txt", "srt", "vtt")  # where a row of times that is none would become text


def describe_formats() -> str:
    """List the titles of all script formats, for help and errors: "plain text, SRT, … or project file"."""
    titles = [row.title for row in FORMATS]
    return f"{', '.join(titles[:-1])} or {titles[-1]}"


def list_written_suffixes() -> tuple[str, ...]:
    """List the suffixes under which a script can be written, such as ".srt"."""
    return tuple(suffix for row in FORMATS for suffix in row.written_suffixes)


def read_script_file(path: str | Path, encoding: str | None = None) -> ScriptFile:
    """Load a script file and detect its format, without parsing its lines.

    path: of a file in any of the FORMATS.
    encoding: name of a character set for text formats; None detects it.
    Raises InvalidInputError for a file that is missing, empty, too large, neither text nor a known binary format, in a
    format that is not read, or with times that cannot be read; UsageError for an unknown encoding.
    """
    hint = f"Give {describe_formats()}; from a spreadsheet export CSV."
    path, raw = read_bytes(path, hint)
    for row in reversed(FORMATS):
        if row.sniff_bytes is not None and row.sniff_bytes(raw):
            return ScriptFile(path, raw, "", (), row)
    text, remarks = decode_text(path, raw, encoding, hint)
    reject_unread_format(path, text)
    format = detect_format(text, path.suffix.lower())
    if format.name in _ARROW_FORMATS:
        reject_broken_cue_times(path, text)
    if format is FORMATS[0]:
        reject_timed_text(path, text, hint)
    return ScriptFile(path, raw, text, remarks, format)


def detect_format(text: str, suffix: str) -> ScriptFormat:
    """Detect the ScriptFormat of a text by its contents, then by its suffix.

    text: of the whole file.
    suffix: of the file in lower case, such as ".srt"; decides only what the text leaves open.
    """
    possible = None
    for row in reversed(FORMATS):
        match = row.sniff(text, suffix) if row.sniff is not None else Match.NO
        if match is Match.YES:
            return row
        if match is Match.MAYBE and possible is None:
            possible = row
    named = (row for row in FORMATS if suffix in row.suffixes and row.sniff_bytes is None)
    return possible or next(named, FORMATS[0])


def read_script(
    path: str | Path,
    duration: Fraction | int | None = None,
    options: ScriptReadOptions | None = None,
    file: ScriptFile | None = None,
) -> Script:
    """Read the Script in a file of any known format.

    path: of the file.
    duration: seconds of the film; None skips the checks against the film.
    options: ScriptReadOptions; None for no facts beside the file.
    file: the same file as `read_script_file` loaded it; None loads it.
    Oddities become remarks: overlaps, empty, zero-length or late cues, older character sets.
    Raises InvalidInputError for a file that is no script, is broken, or belongs to another film; UsageError for facts
    that the options must supply.
    """
    path, options = Path(path), options or ScriptReadOptions()
    if duration is not None:
        options = replace(options, duration=Fraction(duration))
    file = file or read_script_file(path, options.encoding)
    script, remarks = file.format.read(file, options), file.remarks
    if options.cue_rate is not None and not file.format.has_timecodes:
        remarks += (Remark("format", f"{path.name}: not a cue sheet; --cue-rate is not used."),)
    if options.styles is not None and not file.format.has_styles:
        remarks += (Remark("format", f"{path.name}: no ASS script; --styles is not used."),)
    if not script.lines:
        raise InvalidInputError(
            f"{path}: no line of dialogue in it.", hint="Look whether the file is complete.", code="empty_script"
        )
    lines = tuple(replace(line, speaker=" ".join(clean_text(line.speaker).split())) for line in script.lines)
    script = replace(script, lines=lines, remarks=remarks + script.remarks)
    if not file.format.is_edited:
        script = unroll_captions(script)
    if options.duration is not None:
        script = align_to_film(script, path, options.duration)
    if options.sdh == DROP and not file.format.is_edited:
        script = resolve_sdh(script)
        if not script.lines:
            raise InvalidInputError(
                f"{path}: sounds and music alone, no line of dialogue.",
                hint="--sdh keep speaks what stands in brackets.",
                code="empty_script",
            )
    return script.add_remarks(*check_script(script, options.duration, options.speakers))


def write_script(script: Script, path: str | Path, overwrite: bool = False, inputs: Sequence[str | Path] = ()) -> Path:
    """Write a Script in the format that the suffix of the path names; return the path.

    script: Script whose lines all have times.
    path: ends in one of `list_written_suffixes()`.
    overwrite, inputs: as for mouthpiece.engine.files.check_output_file.
    Cue sheets and DAPT keep everything; WebVTT keeps ids, speakers, times and texts; SRT speakers, times and texts.
    Text is UTF-8 with "\\n" between rows.
    Raises UsageError for another suffix or lines without times; OutputError for the disk.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    row = next((row for row in FORMATS if suffix in row.written_suffixes), None)
    if row is None or row.write is None:
        raise UsageError(
            f"{path}: scripts are not written as '{suffix}'.",
            hint=f"Use one of {' '.join(list_written_suffixes())}.",
            code="output_suffix",
        )
    untimed = next((line for line in script.lines if line.start is None), None)
    if untimed is not None:
        raise UsageError(
            f"{path}: line {untimed.id} has no times.",
            hint="Place the lines on the speech of a film first.",
            code="no_times",
        )
    content = row.write(script, suffix)
    with atomic_write(path, overwrite, inputs) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path
