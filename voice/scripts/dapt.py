"""DAPT, the W3C's profile of TTML for dubbing scripts, written with characters, both languages and notes."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.voice.scripts.script import clean_text
from mouthpiece.voice.scripts.timestamps import format_timestamp
from mouthpiece.voice.scripts.ttml import ID_PREFIX
from mouthpiece.voice.scripts.ttml_content import DAPTM, TT, XML

if TYPE_CHECKING:
    from lxml import etree

    from mouthpiece.voice.scripts.script import Line, Script

TTM = TT + "#metadata"
TTP = TT + "#parameter"
PROFILE = "http://www.w3.org/ns/ttml/profile/dapt1.0/content"
_PREFIXES = {None: TT, "ttm": TTM, "ttp": TTP, "daptm": DAPTM}
_TYPED_NOTE = re.compile(r"(pronunciationNote|scene|plotSignificance|x-[A-Za-z0-9-]+): (.+)")
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")


class _Languages(NamedTuple):
    """Languages of a document: of the texts to be spoken, and of the originals ("" when there are none)."""

    spoken: str
    source: str


def write(script: Script, suffix: str) -> bytes:
    """Write a DAPT document that reads back with everything a Line holds; return its bytes.

    script: Script with times, kept to the millisecond.
    Source: W3C DAPT (Candidate Recommendation 2025), sections 4 and 5.
    """
    from lxml import etree  # on first use: the table of formats is part of every start

    root = etree.Element(f"{{{TT}}}tt", nsmap=_PREFIXES)
    root.set(f"{{{TTP}}}contentProfiles", PROFILE)
    languages = _set_languages(root, script)
    agents = _add_characters(root, script)
    body = _add(root, f"{{{TT}}}body")
    for line in script.lines:
        _add_event(body, line, agents.get(line.speaker), languages)
    etree.indent(root, space="  ")
    for p in root.iter(f"{{{TT}}}p"):  # white space inside a paragraph would be text
        p.text = None
        for child in p:
            child.tail = None
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=False) + b"\n"


def _set_languages(root: etree._Element, script: Script) -> _Languages:
    """Set what kind of script it is and its languages; return the languages of its events."""
    translated = any(line.original for line in script.lines)
    source = _clean_language(script.original_language, "x-original" if translated else "")
    common = Counter(line.language for line in script.lines if line.language).most_common(1)
    spoken = _clean_language(script.language or (common[0][0] if common else ""), "und")
    root.set(f"{{{DAPTM}}}scriptRepresents", "audio.dialogue")
    root.set(f"{{{DAPTM}}}scriptType", "translatedTranscript" if translated else "originalTranscript")
    root.set(f"{{{XML}}}lang", spoken)
    if source:
        root.set(f"{{{DAPTM}}}langSrc", source)
    return _Languages(spoken, source if translated else "")


def _add_characters(root: etree._Element, script: Script) -> dict[str, str]:
    """Add the head with title and characters; return {speaker: xml:id of the character}."""
    metadata = _add(_add(root, f"{{{TT}}}head"), f"{{{TT}}}metadata")
    if script.title:
        _add(metadata, f"{{{TTM}}}title").text = clean_text(script.title)
    agents = {}
    for number, name in enumerate(script.speakers, 1):
        agents[name] = f"character-{number}"
        agent = _add(metadata, f"{{{TTM}}}agent", {"type": "character", f"{{{XML}}}id": agents[name]})
        _add(agent, f"{{{TTM}}}name", {"type": "alias"}).text = clean_text(name)
    return agents


def _clean_language(text: str, other: str) -> str:
    """Return a text that is a language tag, else `other`."""
    return text if _LANGUAGE.fullmatch(text) else other


def _add(parent: etree._Element, name: str, attributes: dict[str, str] | None = None) -> etree._Element:
    from lxml import etree

    return etree.SubElement(parent, name, attributes or {})


def _add_event(body: etree._Element, line: Line, agent: str | None, languages: _Languages) -> None:
    """Add one script event: a div with notes, the original and the text to be spoken."""
    attributes = {
        f"{{{XML}}}id": ID_PREFIX + line.id,
        "begin": format_timestamp(line.start),
        "end": format_timestamp(line.end),
    }
    if agent:
        attributes[f"{{{TTM}}}agent"] = agent
    if line.on_screen:
        attributes[f"{{{DAPTM}}}onScreen"] = line.on_screen.upper()
    attributes[f"{{{DAPTM}}}represents"] = "audio.dialogue"
    div = _add(body, f"{{{TT}}}div", attributes)
    for row in filter(None, clean_text(line.notes).split("\n")):
        typed = _TYPED_NOTE.fullmatch(row)
        desc = _add(div, f"{{{TTM}}}desc", {f"{{{DAPTM}}}descType": typed[1]} if typed else {})
        desc.text = typed[2] if typed else row
    if line.original:
        _add_paragraph(div, line.original, languages.source, languages.source)
    if line.text or line.original:
        _add_paragraph(div, line.text, _clean_language(line.language, languages.spoken), languages.source)


def _add_paragraph(div: etree._Element, text: str, language: str, source: str) -> None:
    """Add one text of an event. source: language of the original, "" when there is none."""
    p = _add(div, f"{{{TT}}}p", {f"{{{XML}}}lang": language})
    if source:
        p.set(f"{{{DAPTM}}}langSrc", source)
    for number, row in enumerate(clean_text(text).split("\n")):
        if number:
            _add(p, f"{{{TT}}}br")
        if row:
            _add(p, f"{{{TT}}}span").text = row
