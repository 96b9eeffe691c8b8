"""DAPT, the W3C's profile of TTML for dubbing scripts, written with characters, both languages and notes."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from lxml import etree

from mouthpiece.voice.scripts.script import clean_text
from mouthpiece.voice.scripts.timestamps import format_timestamp
from mouthpiece.voice.scripts.ttml import DAPTM, ID_START, TT, XML

if TYPE_CHECKING:
    from mouthpiece.voice.scripts.script import Line, Script

TTM, TTP = TT + "#metadata", TT + "#parameter"
PROFILE = "http://www.w3.org/ns/ttml/profile/dapt1.0/content"
_NAMES = {None: TT, "ttm": TTM, "ttp": TTP, "daptm": DAPTM}
_TYPED = re.compile(r"(pronunciationNote|scene|plotSignificance|x-[A-Za-z0-9-]+): (.+)")
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")


def write_dapt(script: Script) -> bytes:
    """Bytes of a DAPT document that reads back with everything a Line holds; times are whole milliseconds.

    script: Script with times.
    Source: W3C DAPT (Candidate Recommendation 2025), sections 4 and 5.
    """
    both = any(line.original for line in script.lines)
    source = _language(script.original_language, "x-original") if both else _language(script.original_language, "")
    common = Counter(line.language for line in script.lines if line.language).most_common(1)
    spoken = _language(script.language or (common[0][0] if common else ""), "und")
    root = etree.Element(f"{{{TT}}}tt", nsmap=_NAMES)
    root.set(f"{{{TTP}}}contentProfiles", PROFILE)
    root.set(f"{{{DAPTM}}}scriptRepresents", "audio.dialogue")
    root.set(f"{{{DAPTM}}}scriptType", "translatedTranscript" if both else "originalTranscript")
    root.set(f"{{{XML}}}lang", spoken)
    if source:
        root.set(f"{{{DAPTM}}}langSrc", source)
    metadata = etree.SubElement(etree.SubElement(root, f"{{{TT}}}head"), f"{{{TT}}}metadata")
    if script.title:
        etree.SubElement(metadata, f"{{{TTM}}}title").text = clean_text(script.title)
    agents = {}
    for number, name in enumerate(script.speakers, 1):
        agents[name] = f"character-{number}"
        agent = etree.SubElement(metadata, f"{{{TTM}}}agent", {"type": "character", f"{{{XML}}}id": agents[name]})
        etree.SubElement(agent, f"{{{TTM}}}name", type="alias").text = clean_text(name)
    body = etree.SubElement(root, f"{{{TT}}}body")
    for line in script.lines:
        _event(body, line, agents.get(line.speaker), (spoken, source if both else ""))
    etree.indent(root, space="  ")
    for p in root.iter(f"{{{TT}}}p"):  # what indentation put into texts comes out again
        p.text = p.tail and None
        for child in p:
            child.tail = None
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=False) + b"\n"


def _language(text: str, other: str) -> str:
    return text if _LANGUAGE.fullmatch(text) else other


def _event(body, line: Line, agent: str | None, languages: tuple[str, str]) -> None:
    """Adds one script event: a div with notes, the original and the text to be spoken."""
    spoken, source = languages
    own = _language(line.language, spoken)
    marks = {
        f"{{{XML}}}id": ID_START + line.id,
        "begin": format_timestamp(line.start),
        "end": format_timestamp(line.end),
    }
    if agent:
        marks[f"{{{TTM}}}agent"] = agent
    if line.on_screen:
        marks[f"{{{DAPTM}}}onScreen"] = line.on_screen.upper()
    div = etree.SubElement(body, f"{{{TT}}}div", marks)
    div.set(f"{{{DAPTM}}}represents", "audio.dialogue")
    for row in filter(None, clean_text(line.notes).split("\n")):
        typed = _TYPED.fullmatch(row)
        desc = etree.SubElement(div, f"{{{TTM}}}desc", {f"{{{DAPTM}}}descType": typed[1]} if typed else {})
        desc.text = typed[2] if typed else row
    if line.original:
        _paragraph(div, line.original, source, source)
    if line.text or line.original:
        _paragraph(div, line.text, own, source)


def _paragraph(div, text: str, language: str, source: str) -> None:
    p = etree.SubElement(div, f"{{{TT}}}p", {f"{{{XML}}}lang": language})
    if source:
        p.set(f"{{{DAPTM}}}langSrc", source)
    for number, row in enumerate(clean_text(text).split("\n")):
        if number:
            etree.SubElement(p, f"{{{TT}}}br")
        if row:
            etree.SubElement(p, f"{{{TT}}}span").text = row
