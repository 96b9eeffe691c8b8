"""Scripts of dialogue in the formats that dubbing teams exchange, read and written without losing a speaker or a millisecond."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from engine.errors import Refused, UsageProblem
from engine.files import replacing
from voice.scripts.clock import write_clock
from voice.scripts.decoding import read_text
from voice.scripts.line import ON_SCREEN, REMARKS, Line, Remark, Script, cleaned
from voice.scripts.placing import place, split_slot, syllable_count

__all__ = ["ON_SCREEN", "REMARKS", "Line", "Reading", "Remark", "Script", "inspect", "place", "read_script", "split_slot", "syllable_count", "write_script"]

WRITTEN_SUFFIXES = (".srt", ".vtt", ".csv", ".tsv", ".tab", ".ttml", ".dapt", ".xml")
_HOUR = 3600


@dataclass(frozen=True)
class Reading:
    """What a person says about a script file that the file does not say itself.

    duration: Fraction, seconds of the film; None when there is none.
    cue_rate: Fraction, frames a second of timecodes in a cue sheet; None when not told.
    encoding: name of a character set; None finds it out.
    language: of several texts of a DAPT line the one to be spoken; "" takes the translation.
    speakers: names that have a voice; None when every name will do.
    Source: ours.
    """

    duration: Fraction | None = None
    cue_rate: Fraction | None = None
    encoding: str | None = None
    language: str = ""
    speakers: tuple[str, ...] | None = None


def read_script(path, duration=None, reading=None, said=None):
    """The Script in a file, its format found by its contents and then by its suffix.

    path: str or Path: SRT, WebVTT, ASS, cue sheet (CSV, TAB), DAPT or TTML, plain text, project file.
    duration: Fraction, seconds of the film; None skips what is looked at with it.
    reading: Reading, for more than the duration.  said: what read_text gave of the file, None reads it.
    What is odd but can be worked with becomes a remark: overlaps, empty, zero-length or late cues, older character sets.
    Raises Refused for what is no script, is broken, or belongs to another film; UsageProblem for what must be told.
    Source: ours.
    """
    path, reading = Path(path), reading or Reading()
    if duration is not None:
        reading = replace(reading, duration=Fraction(duration))
    text, raw, remarks = said or read_text(path, reading.encoding)
    kind = format_of(text, path.suffix.lower())
    script = _parsed(kind, text, raw, path.name, reading)
    if reading.cue_rate is not None and kind != "csv":
        remarks += (Remark("format", f"{path.name}: it is no cue sheet; --cue-rate is not used."),)
    if not script.lines:
        raise Refused(f"{path}: no line of dialogue in it.", hint="Look whether the file is complete.", code="empty_script")
    lines = tuple(replace(line, speaker=" ".join(cleaned(line.speaker).split())) for line in script.lines)
    script = replace(script, lines=lines, remarks=remarks + script.remarks)
    if reading.duration is not None:
        script = _on_film(script, path, reading.duration)
    return script.remarked(*inspect(script, reading.duration, reading.speakers))


def format_of(text, suffix):
    """"project", "ttml", "vtt", "ass", "srt", "csv" or "txt": what the text is.

    text: str.  suffix: of the file, such as ".srt"; used only where the text leaves it open.
    Source: ours.
    """
    from voice.scripts.cues import header_of
    from voice.scripts.srt import is_srt

    start = text.lstrip()
    if start.startswith(("{", "[{")):
        return "project"
    if start.startswith("<"):
        return "ttml"
    if suffix in (".csv", ".tsv", ".tab") and header_of(text) is not None:
        return "csv"
    if start.startswith("WEBVTT") or suffix == ".vtt" and is_srt(text):
        return "vtt"
    if any(mark in text for mark in ("[Script Info]", "[V4+ Styles]", "[V4 Styles]", "[Events]")):
        return "ass"
    if is_srt(text):
        return "srt"
    if suffix in (".csv", ".tsv", ".tab") or header_of(text) is not None:
        return "csv"
    known = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ass", ".json": "project", ".ttml": "ttml", ".dapt": "ttml", ".xml": "ttml", ".dfxp": "ttml"}
    return known.get(suffix, "txt")


def _parsed(kind, text, raw, name, reading):
    if kind == "project":
        from voice.project import script_of_text

        return script_of_text(text, name)
    if kind == "ttml":
        from voice.scripts.ttml import read_ttml

        return read_ttml(raw, name, reading.language)
    if kind == "ass":
        from voice.scripts.ass import read_ass

        return read_ass(text, name)
    if kind == "csv":
        from voice.scripts.cues import read_cues

        return read_cues(text, name, reading.cue_rate)
    if kind == "txt":
        from voice.scripts.plain import read_plain

        return read_plain(text, name)
    from voice.scripts.srt import read_srt
    from voice.scripts.vtt import read_vtt

    return (read_vtt if kind == "vtt" else read_srt)(text, name)


def _on_film(script, path, duration):
    """The script on the clock of the film; refused when it belongs to another one."""
    timed = [line for line in script.lines if line.start is not None]
    if not timed:
        return script
    first = min(line.start for line in timed)
    hours = int(first // _HOUR) * _HOUR
    if hours and first >= duration and min(line.end for line in timed) >= hours and max(line.start for line in timed) - hours < duration:
        moved = tuple(line if line.start is None else replace(line, start=line.start - hours, end=line.end - hours) for line in script.lines)
        said = f"{path.name}: its times start in hour {hours // _HOUR}; taken as the start of the film."
        return replace(script, lines=moved, remarks=script.remarks + (Remark("origin", said),))
    late = sum(line.start >= duration for line in timed)
    if late * 2 >= len(timed) and late > 0:
        where = f"{late} of {len(timed)} lines start after the end of the film ({write_clock(duration)})"
        raise Refused(f"{path}: {where}; the first line is at {write_clock(first)}.", hint="Is this the script of another film?", code="other_film")
    return script


def inspect(script, duration=None, speakers=None):
    """Remarks on lines that a person should look at: nothing is changed.

    script: Script.
    duration: Fraction, seconds of the film; None skips cues beyond its end.
    speakers: names that have a voice; None skips unknown ones.
    Source: issue list of dubbing teams.
    """
    remarks = []
    for line in script.lines:
        remarks += (Remark(kind, f"Line {line.id}: {said}", line.id) for kind, said in _oddities(line, duration, speakers))
    return tuple(remarks + _overlaps(script.lines))


def _oddities(line, duration, speakers):
    if not line.text.strip():
        yield "empty", "no text; nothing will be spoken."
    if speakers is not None and line.speaker not in speakers:
        yield "unknown_speaker", f"no voice is given for speaker '{line.speaker}'." if line.speaker else "no speaker and no voice for it."
    if line.start is None:
        return
    span = f"{write_clock(line.start)} to {write_clock(line.end)}"
    if line.end < line.start:
        yield "reversed", f"it ends before it starts ({span})."
    elif line.end == line.start:
        yield "zero_length", f"it has no length ({span})."
    if duration is not None and max(line.start, line.end) > duration:
        yield "beyond_end", f"{span} goes beyond the end of the film ({write_clock(duration)})."


def _overlaps(lines):
    """A remark for every line that starts while another still lasts."""
    latest, remarks = None, []
    for line in sorted((line for line in lines if line.start is not None and line.end > line.start), key=lambda line: (line.start, line.end)):
        if latest is not None and latest.end > line.start:
            said = f"Line {line.id}: it starts {float(min(latest.end, line.end) - line.start):.3f} s before line {latest.id} ends."
            remarks.append(Remark("overlap", said, line.id))
        latest = line if latest is None or line.end > latest.end else latest
    return remarks


def write_script(script, path, overwrite=False, inputs=()):
    """Writes a script in the format of the suffix: .srt, .vtt, .csv, .tsv, .tab, .ttml, .dapt or .xml.

    script: Script whose lines all have times.
    path: str or Path.
    overwrite, inputs: as for files.output_file.
    What survives: all of it in CSV and DAPT; ids, speakers, times and texts in WebVTT; speakers, times and texts in SRT.
    Raises UsageProblem for another suffix or lines without times; WriteFailed for the disk.
    Source: ours; UTF-8, "\\n".
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        raise UsageProblem(f"{path}: scripts are not written as '{suffix}'.", hint=f"Use one of {' '.join(WRITTEN_SUFFIXES)}.", code="output_suffix")
    bare = next((line for line in script.lines if line.start is None), None)
    if bare is not None:
        raise UsageProblem(f"{path}: line {bare.id} has no times.", hint="Place the lines on the speech of a film first.", code="no_times")
    content = _rendered(script, suffix)
    with replacing(path, overwrite, inputs) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def _rendered(script, suffix):
    if suffix == ".srt":
        from voice.scripts.srt import write_srt

        return write_srt(script)
    if suffix == ".vtt":
        from voice.scripts.vtt import write_vtt

        return write_vtt(script)
    if suffix in (".csv", ".tsv", ".tab"):
        from voice.scripts.cues import write_cues

        return write_cues(script, "," if suffix == ".csv" else "\t")
    from voice.scripts.dapt import write_dapt

    return write_dapt(script)
