"""TTML, IMSC and DAPT, read with characters, both languages and the on/off screen marks.

ttconv 1.2.3 reads the times, but drops characters and puts original and translation into one cue.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from lxml import etree

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import ON_SCREEN, Line, Remark, Script, clean_text, make_unique_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

XML = "http://www.w3.org/XML/1998/namespace"
TT = "http://www.w3.org/ns/ttml"
DAPTM = "http://www.w3.org/ns/ttml/profile/dapt#metadata"
UNKNOWN = ("", "und", "x-original")  # languages that say nothing
ID_START = "line-"
_CLOCK = re.compile(r"(\d{2,}):(\d\d):(\d\d)(?:\.(\d+)|:(\d{2,})(?:\.(\d+))?)?")
_OFFSET = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|f|t)")
_MAX_DEPTH = 64


@dataclass(frozen=True)
class _TimeBase:
    """What frames, sub-frames and ticks mean in a document."""

    rate: Fraction
    sub_frames: int
    tick_hz: Fraction
    where: str

    def seconds(self, text: str) -> Fraction:
        """A time expression as Fraction, seconds. Raises Refused. Source: W3C TTML2, section 12.3.1."""
        text = text.strip()
        clock, offset = _CLOCK.fullmatch(text), _OFFSET.fullmatch(text)
        if offset:
            unit = {"h": 3600, "m": 60, "s": 1, "ms": Fraction(1, 1000), "f": 1 / self.rate, "t": 1 / self.tick_hz}[
                offset[2]
            ]
            return Fraction(offset[1]) * unit
        if not clock or int(clock[2]) > 59 or int(clock[3]) > 60:
            raise InvalidInputError(
                f"{self.where}: '{text}' is no time.", hint="Times are hh:mm:ss.sss or 12.5s.", code="bad_time"
            )
        whole = Fraction((int(clock[1]) * 60 + int(clock[2])) * 60 + int(clock[3]))
        if clock[4]:
            return whole + Fraction(int(clock[4]), 10 ** len(clock[4]))
        return whole + (int(clock[5] or 0) + Fraction(int(clock[6] or 0), self.sub_frames)) / self.rate


@dataclass(frozen=True)
class _Context:
    """What an element inherits: its times and the marks of its parents."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    timed: bool = False
    agents: str = ""
    language: str = ""
    source: str = ""
    screen: str = ""
    keep_space: bool = False
    depth: int = 0


@dataclass(frozen=True)
class _Event:
    """A line that is being read: texts as (language, source language, text)."""

    id: str
    place: _Context
    texts: tuple
    notes: str


def parse_xml(raw: bytes, name: str):
    """Root element of XML bytes; nothing outside the file is read and no entity is expanded.

    raw: bytes.  name: of the file.
    Raises Refused for what is malformed and for a document type, where XML bombs live.
    Source: ours; lxml.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
    )
    try:
        root = etree.fromstring(raw, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise InvalidInputError(
            f"{name}: malformed XML ({str(error).split(' (<')[0]}).",
            hint="Export it again, or mend it.",
            code="malformed_xml",
        ) from error
    if root.getroottree().docinfo.doctype or next(root.iter(etree.Entity), None) is not None:
        hint = "Scripts need no DOCTYPE; take it out."
        raise InvalidInputError(f"{name}: it declares a document type or entities.", hint=hint, code="xml_entities")
    return root


def read_ttml(raw: bytes, name: str, language: str = "") -> Script | None:
    """Script of a TTML, IMSC or DAPT document.

    raw: bytes.  name: of the file.
    language: of several texts of a line the one to be spoken; "" takes the translation, else the original.
    Raises Refused for malformed XML, other XML and times that cannot be read.
    Source: W3C TTML2, sections 8, 12 and 14; W3C DAPT, sections 4 and 5.
    """
    root = parse_xml(raw, name)
    if _tag(root) != "tt":
        raise InvalidInputError(
            f"{name}: XML, but <{_tag(root)}> instead of a <tt> script.", hint="Give TTML or DAPT.", code="not_a_script"
        )
    clock = _read_time_base(root, name)
    top = _inherit(root, _Context())
    body = next((child for child in root if _tag(child) == "body"), None)
    dapt = any(key.startswith("{" + DAPTM) for key in root.attrib) or "dapt" in _get(root, "contentProfiles")
    events = [] if body is None else list(_list_events(body, top, clock, dapt))
    chosen = [_choose_texts(event, language, dapt) for event in events]
    names, ids = _read_characters(root), make_unique_ids([_strip_id_prefix(event.id) for event in events])
    lines = tuple(_make_line(i, event, pair, names) for i, event, pair in zip(ids, events, chosen))
    languages = Counter(line.language for line in lines if line.language).most_common(1)
    spoken = languages[0][0] if languages else _clean_language(top.language)
    title = next((clean_text("".join(e.itertext())) for e in root.iter("{*}title")), "")
    remarks = ()
    if language and not any(_is_same_language(line.language, language) for line in lines):
        remarks = (Remark("format", f"{name}: no text in '{language}'; other texts taken."),)
    return Script(lines, spoken, _clean_language(top.source), title, name, remarks)


def _tag(element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _get(element, name: str) -> str:
    """An attribute whatever its namespace, "" when absent."""
    return next((value for key, value in element.attrib.items() if etree.QName(key).localname == name), "")


def _clean_language(language: str) -> str:
    return "" if language in UNKNOWN else language


def _strip_id_prefix(xml_id: str) -> str:
    return xml_id.removeprefix(ID_START)


def _is_same_language(a, b):
    return a.lower().split("-")[0] == b.lower().split("-")[0]


def _read_time_base(root, name: str) -> _TimeBase:
    told = {
        key: _get(root, key) for key in ("frameRate", "frameRateMultiplier", "subFrameRate", "tickRate", "timeBase")
    }
    if told["timeBase"] == "clock":
        raise InvalidInputError(
            f"{name}: its times are times of day.", hint="Export it with timeBase 'media'.", code="wall_clock"
        )
    try:
        rate, sub = Fraction(told["frameRate"] or 30), int(told["subFrameRate"] or 1)
        up, down = (told["frameRateMultiplier"] or "1 1").replace(":", " ").split()
        ticks = Fraction(told["tickRate"]) if told["tickRate"] else rate * sub if told["frameRate"] else Fraction(1)
        rate *= Fraction(int(up), int(down))
        if min(rate, sub, ticks) <= 0:
            raise ValueError("not above zero")
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidInputError(
            f"{name}: its frame or tick rate is no rate ({error}).", hint="Mend the ttp: attributes.", code="bad_rate"
        ) from error
    return _TimeBase(rate, sub, ticks, name)


def _inherit(element, place: _Context, clock: _TimeBase | None = None, since: Fraction | None = None) -> _Context:
    """The _Place of an element in a parent's; `since` is where it starts when it does not say."""
    begin, end, dur = (
        (clock.seconds(t) if t else None for t in (_get(element, k) for k in ("begin", "end", "dur")))
        if clock
        else (None,) * 3
    )
    base = place.start if since is None else since
    start = base + (begin or 0)
    ends = [
        t for t in (base + end if end is not None else None, start + dur if dur is not None else None) if t is not None
    ]
    screen = _get(element, "onScreen").lower()
    return _Context(
        start,
        min(ends) if ends else place.end,
        place.timed or any(t is not None for t in (begin, end, dur)),
        _get(element, "agent") or place.agents,
        element.get(f"{{{XML}}}lang", place.language),
        _get(element, "langSrc") or place.source,
        screen if screen in ON_SCREEN and screen else place.screen,
        element.get(f"{{{XML}}}space", "preserve" if place.keep_space else "") == "preserve",
        place.depth + 1,
    )


def _list_children(element, place: _Context, clock: _TimeBase, names: tuple[str]) -> Iterator[tuple]:
    """(child, _Place) of the children with these names, after one another in a sequence, else side by side."""
    since = place.start
    for child in element:
        if _tag(child) not in names:
            continue
        own = _inherit(child, place, clock, since)
        yield child, own
        if _get(element, "timeContainer") == "seq":
            since = own.end if own.end is not None else own.start


def _list_events(element, place: _Context, clock: _TimeBase, dapt: bool) -> Iterator[_Event]:
    """The _Events of a body or div, in order."""
    if place.depth > _MAX_DEPTH:
        raise InvalidInputError(
            f"{clock.where}: elements nested deeper than {_MAX_DEPTH}.", hint="Export it again.", code="malformed_xml"
        )
    place = place if _tag(element) != "body" else _inherit(element, place, clock)
    paragraphs = list(_list_children(element, place, clock, ("p",)))
    if paragraphs and _is_event(element, paragraphs, dapt):
        yield _Event(
            _get(element, "id"),
            place,
            tuple(_text(p, own) for p, own in paragraphs),
            _notes(element, *(p for p, _ in paragraphs)),
        )
    elif not paragraphs and dapt and _tag(element) == "div" and place.timed and not len(element.findall("{*}div")):
        yield _Event(_get(element, "id"), place, (), _notes(element))
    else:
        for p, own in paragraphs:
            own = own if any(_get(p, key) for key in ("begin", "end", "dur")) else _find_span_times(p, own, clock)
            yield _Event(_get(p, "id"), own, (_text(p, own),), _notes(p))
    for child, own in _list_children(element, place, clock, ("div",)):
        yield from _list_events(child, own, clock, dapt)


def _is_event(element, paragraphs: list[tuple], dapt: bool) -> bool:
    """Do all paragraphs of a div say the same line? In DAPT, and where none has times of its own and no two share a
    language.
    """
    if _tag(element) != "div" or any(_get(p, key) for p, _ in paragraphs for key in ("begin", "end", "dur")):
        return False
    languages = [own.language for _, own in paragraphs]
    return dapt or bool(_get(element, "begin")) and len(set(languages)) == len(languages)


def _find_span_times(p, place, clock):
    spans = [own for _, own in _list_children(p, place, clock, ("span",)) if own.timed]
    if not spans:
        return place
    ends = [own.end for own in spans if own.end is not None]
    return _Context(
        min(own.start for own in spans),
        max(ends) if len(ends) == len(spans) else place.end,
        True,
        place.agents,
        place.language,
        place.source,
        place.screen,
        place.keep_space,
        place.depth,
    )


def _text(p, place: _Context) -> tuple[str, str, str]:
    return place.language, place.source, clean_text("".join(_list_texts(p, place.keep_space)))


def _list_texts(element, keep_space: bool) -> Iterator[str]:
    """Texts of a p or span without its metadata, "\\n" for a br."""

    def spaced(text: str) -> str:
        return text if keep_space else re.sub(r"[ \t\r\n]+", " ", text)

    yield spaced(element.text or "")
    for child in element:
        if _tag(child) == "br":
            yield "\n"
        elif _tag(child) == "span":
            yield from _list_texts(child, keep_space)
        yield spaced(child.tail or "")


def _notes(*elements) -> str:
    rows = []
    for desc in (child for element in elements for child in element if _tag(child) == "desc"):
        kind, said = _get(desc, "descType"), clean_text(" ".join("".join(desc.itertext()).split()))
        rows.append(f"{kind}: {said}" if kind else said)
    return "\n".join(filter(None, rows))


def _read_characters(root) -> dict[str, str]:
    """Names by xml:id of the agents: the alias, else the first name given."""
    names = {}
    for agent in root.iter("{*}agent"):
        found = {_get(e, "type"): clean_text("".join(e.itertext())) for e in reversed(agent.findall("{*}name"))}
        names[_get(agent, "id")] = found.get("alias") or next(iter(reversed(found.values())), "") or _get(agent, "id")
    return names


def _choose_texts(event: _Event, wanted: str, dapt: bool) -> tuple[str, str, str]:
    """(language, text, original) of an event."""
    texts = event.texts
    originals = [t for t in texts if not t[1] or t[0] == t[1]]
    translations = [t for t in texts if t[1] and t[0] != t[1]]
    named = [t for t in texts if wanted and _is_same_language(t[0], wanted)]
    if len(texts) > 1 and not dapt and len({t[0] for t in texts}) == 1:
        return texts[0][0], "\n".join(t[2] for t in texts), ""
    choice = (named or translations or originals[-1:] or [("", "", "")])[-1]
    other = next((t for t in originals if t is not choice), None)
    return choice[0], choice[2], other[2] if other else ""


def _make_line(line_id: str, event: _Event, chosen: tuple[str, str, str], names: dict[str, str]) -> Line:
    language, text, original = chosen
    place = event.place
    speaker = " & ".join(names.get(agent, agent) for agent in place.agents.split())
    times = (place.start, place.start if place.end is None else place.end) if place.timed else (None, None)
    return Line(line_id, speaker, *times, text, _clean_language(language), place.screen, original, event.notes)
