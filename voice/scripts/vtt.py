"""WebVTT, read and written with its voices.

pysubs2 1.8.1 speaks cue names and NOTE blocks, and drops every voice; ttconv 1.2.3 drops the voices.
"""

from __future__ import annotations

import html
import re
from dataclasses import replace

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.line_placement import split_slot
from mouthpiece.voice.scripts.script import Line, Remark, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.speaker_prefix import split_speakers
from mouthpiece.voice.scripts.srt import TAG, TIMING, VOICE_TAG
from mouthpiece.voice.scripts.timestamps import format_timestamp, parse_timestamp

_SKIPPED_BLOCKS = ("NOTE", "STYLE", "REGION")
_VOICES_ONLY = "NOTE Speakers are named in voice tags only."


def read_vtt(text: str, name: str) -> Script:
    """Script of a WebVTT file; a cue with several voices becomes several lines.

    text: str.  name: of the file.
    Speakers: "<v Name>" where the file has one, else what stands before a colon (speakers.named).
    Raises Refused for times that cannot be read.
    Source: W3C WebVTT, section 4 and 6.
    """
    blocks = [block for block in re.split(r"\n[ \t]*(?:\n[ \t]*)+", text.strip("\n")) if block.strip()]
    head = blocks[0].split("\n") if blocks and blocks[0].startswith("WEBVTT") else [""]
    language = next((row.split(":", 1)[1].strip() for row in head[1:] if row.lower().startswith("language:")), "")
    found, remarks = [], []
    for block in blocks:
        timing = TIMING.search(block)
        if (
            timing is None
            or block.split("\n", 1)[0].split(" ")[0] in _SKIPPED_BLOCKS
            and not _is_timing(block.split("\n", 1)[0])
        ):
            continue
        start, end = parse_timestamp(timing[1]), parse_timestamp(timing[2])
        if start is None or end is None:
            raise InvalidInputError(
                f"{name}: '{timing[0].strip()}' is no pair of times.", hint="Mend that cue.", code="bad_time"
            )
        before = block[: timing.start()].strip("\n").split("\n")[-1]
        parts = _split_voices(block[timing.end() :])
        cue_id = "" if before.startswith("WEBVTT") else before
        if len(parts) > 1:
            remarks.append((len(found), len(parts)))
        for k, (who, said) in enumerate(parts):
            slot = split_slot(start, end, [t for _, t in parts])[k]
            found.append((f"{cue_id}{chr(97 + k) if len(parts) > 1 and cue_id else ''}", *slot, who, said))
    if not any(VOICE_TAG.search(block) for block in blocks) and _VOICES_ONLY not in blocks:
        spoken = split_speakers([said for *_, said in found])
        found = [(*cue[:3], *pair) for cue, pair in zip(found, spoken)]
    ids = make_unique_ids([cue[0] for cue in found])
    lines = tuple(Line(i, who, start, end, said) for i, (_, start, end, who, said) in zip(ids, found))
    notes = (Remark("split", f"A cue with {n} voices is now {n} lines from {ids[k]} on.", ids[k]) for k, n in remarks)
    title = head[0].removeprefix("WEBVTT").strip(" -\t")
    return Script(lines, language=language, title=title, source=name, remarks=tuple(notes))


def _is_timing(row):
    return TIMING.match(row) is not None


def _split_voices(body: str) -> list[tuple[str, str]]:
    """[(speaker, text)] of a cue; what stands before the first voice belongs to it."""
    pieces = VOICE_TAG.split(body)
    parts = [("", strip_vtt_markup(pieces[0]))]
    for who, said in zip(pieces[1::2], pieces[2::2]):
        who, said = html.unescape(who or "").strip(), strip_vtt_markup(said)
        if parts and (parts[-1][0] == who or not parts[-1][1]):
            parts[-1] = (who, "\n".join(filter(None, (parts[-1][1], said))))
        else:
            parts.append((who, said))
    return parts


def strip_vtt_markup(body: str) -> str:
    """Text of a cue without markup and with characters in place of their names. Source: W3C WebVTT, section 6.4."""
    return clean_text(html.unescape(TAG.sub("", body)))


def write_vtt(script: Script) -> str:
    """Text of a WebVTT file that reads back with the same ids, speakers, texts and milliseconds.

    script: Script with times.
    Source: W3C WebVTT, section 4.
    """
    title = " ".join(script.title.replace("-->", " ").split())
    head = "WEBVTT" + (f" {title}" if title else "") + (f"\nLanguage: {script.language}" if script.language else "")
    blocks = [head] + [_format_cue(line) for line in script.lines]
    text = "\n\n".join(blocks) + "\n"
    bare = replace(script, lines=tuple(replace(line, text=clean_text(line.text)) for line in script.lines))
    if [line.speaker for line in read_vtt(text, "").lines] != [line.speaker for line in bare.lines]:
        text = "\n\n".join([head, _VOICES_ONLY, *blocks[1:]]) + "\n"
    return text


def _format_cue(line: Line) -> str:
    said = html.escape(clean_text(line.text), quote=False)
    voice = f"<v {html.escape(line.speaker, quote=False)}>" if line.speaker else ""
    return f"{line.id}\n{format_timestamp(line.start)} --> {format_timestamp(line.end)}\n{voice}{said}"
