"""TTML, IMSC and DAPT, read with characters, both languages and the on/off screen marks.

ttconv 1.2.3 reads the times, but drops characters and puts original and translation into one cue.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.script import ON_SCREEN, Line, Remark, Script, clean_text, make_unique_ids
from mouthpiece.voice.scripts.script_format import Match
from mouthpiece.voice.scripts.ttml_content import (
    DAPTM,
    XML,
    drop_ruby_text,
    get_attribute,
    get_tag,
    is_dialogue,
    read_represents,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from mouthpiece.voice.scripts.script_format import ScriptFile, ScriptReadOptions

UNKNOWN_LANGUAGES = ("", "und", "x-original")
ID_PREFIX = "line-"  # an xml:id begins with a letter, an id of a line need not
_CLOCK = re.compile(r"(\d{2,}):(\d\d):(\d\d)(?:\.(\d+)|:(\d{2,})(?:\.(\d+))?)?")
_OFFSET = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|f|t)")
_MAX_DEPTH = 64
_MAX_EXCERPT = 60  # characters of a text in a remark
_TIME_ATTRIBUTES = ("begin", "end", "dur")


@dataclass(frozen=True)
class _TimeBase:
    """What frames, sub-frames and ticks mean in a document.

    rate: frames a second.  sub_frames: in a frame.  tick_hz: ticks a second.  name: of the file, for errors.
    """

    rate: Fraction
    sub_frames: int
    tick_hz: Fraction
    name: str

    def parse_time(self, text: str) -> Fraction:
        """Parse a time expression to seconds. Raises InvalidInputError. Source: W3C TTML2, section 12.3.1."""
        text = text.strip()
        clock, offset = _CLOCK.fullmatch(text), _OFFSET.fullmatch(text)
        if offset:
            metrics: dict[str, Fraction | int] = {
                "h": 3600,
                "m": 60,
                "s": 1,
                "ms": Fraction(1, 1000),
                "f": 1 / self.rate,
                "t": 1 / self.tick_hz,
            }
            return Fraction(offset[1]) * metrics[offset[2]]
        if not clock or int(clock[2]) > 59 or int(clock[3]) > 60:
            raise InvalidInputError(
                f"{self.name}: '{text}' is not a time.", hint="Times are hh:mm:ss.sss or 12.5s.", code="bad_time"
            )
        whole = Fraction((int(clock[1]) * 60 + int(clock[2])) * 60 + int(clock[3]))
        if clock[4]:
            return whole + Fraction(int(clock[4]), 10 ** len(clock[4]))
        return whole + (int(clock[5] or 0) + Fraction(int(clock[6] or 0), self.sub_frames)) / self.rate


@dataclass(frozen=True)
class _Context:
    """What an element inherits from its parents: times and metadata.

    start, end: seconds; end None when open.  timed: True where any parent has times.  agents: ids of characters.
    language: of the text.  source: language it was translated from.  screen: onScreen.  keep_space: xml:space.
    represents: daptm:represents, or a ttm:role that nobody says as "role.sound".
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    timed: bool = False
    agents: str = ""
    language: str = ""
    source: str = ""
    screen: str = ""
    represents: str = ""
    keep_space: bool = False
    depth: int = 0


class _Text(NamedTuple):
    """One text of a script event: its language, the language it was translated from or "", and the text."""

    language: str
    source: str
    text: str


@dataclass(frozen=True)
class _Event:
    """A script event before its texts are chosen. id: xml:id.  notes: its descriptions, one a row."""

    id: str
    context: _Context
    texts: tuple[_Text, ...]
    notes: str


def sniff(text: str, suffix: str) -> Match:
    """Recognise XML, of which TTML and DAPT are the only scripts."""
    return Match.YES if text.lstrip().startswith("<") else Match.NO


def read(file: ScriptFile, options: ScriptReadOptions) -> Script:
    """Read the Script of a TTML, IMSC or DAPT document. Raises what `parse_ttml` raises."""
    return parse_ttml(file.raw, file.name, options.language)


def parse_xml(raw: bytes, name: str) -> etree._Element:
    """Parse XML bytes to their root element; nothing outside the file is read and no entity is expanded.

    raw: all bytes of the file.
    name: of the file.
    Raises InvalidInputError for malformed XML and for a document type, where XML bombs live.
    """
    from lxml import etree  # on first use: the table of formats is part of every start

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


def parse_ttml(raw: bytes, name: str, language: str = "") -> Script:
    """Parse a TTML, IMSC or DAPT document to a Script.

    raw: all bytes of the file; XML states its own encoding.
    name: of the file.
    language: which of several texts of a line is spoken; "" takes the translation, else the original.
    Events that are not dialogue are left out with a remark (`_select_dialogue`).
    Raises InvalidInputError for malformed XML, other XML and times that cannot be read.
    Source: W3C TTML2, sections 8, 12 and 14; W3C DAPT, sections 4 and 5.
    """
    root = parse_xml(raw, name)
    if get_tag(root) != "tt":
        raise InvalidInputError(
            f"{name}: XML, but <{get_tag(root)}> instead of a <tt> script.",
            hint="Give TTML or DAPT.",
            code="not_a_script",
        )
    clock = _read_time_base(root, name)
    top = _inherit(root, _Context())
    body = next((child for child in root if get_tag(child) == "body"), None)
    dapt = any(key.startswith("{" + DAPTM) for key in root.attrib) or "dapt" in get_attribute(root, "contentProfiles")
    drop_ruby_text(root)
    events, remarks = _select_dialogue([] if body is None else list(_list_events(body, top, clock, dapt)), name)
    names, ids = _read_characters(root), make_unique_ids([event.id.removeprefix(ID_PREFIX) for event in events])
    lines = tuple(_make_line(i, event, _choose_texts(event, language, dapt), names) for i, event in zip(ids, events))
    languages = Counter(line.language for line in lines if line.language).most_common(1)
    spoken = languages[0][0] if languages else _clean_language(top.language)
    title = next((clean_text("".join(e.itertext())) for e in root.iter("{*}title")), "")
    if language and lines and not any(_is_same_language(line.language, language) for line in lines):
        remarks += (Remark("format", f"{name}: no text in '{language}'; other texts taken."),)
    return Script(lines, spoken, _clean_language(top.source), title, name, remarks)


def _select_dialogue(events: list[_Event], name: str) -> tuple[list[_Event], tuple[Remark, ...]]:
    """Select the events that are spoken; return (events, a remark for each of the others).

    Sounds and what is written in the picture are not dialogue. A script without dialogue that describes the picture is
    an audio description, whose texts are made to be spoken.
    Source: W3C DAPT, section 4.2 (represents); W3C TTML2, section 14.3.1 (role).
    """
    spoken = [event for event in events if is_dialogue(event.context.represents)]
    remarks: list[Remark] = []
    if not spoken:
        spoken = [event for event in events if event.context.represents.startswith("visual")]
        if spoken:
            remarks.append(Remark("format", f"{name}: no dialogue in it; its descriptions of the picture are spoken."))
    kept = {id(event) for event in spoken}
    for event in (event for event in events if id(event) not in kept):
        text = " ".join(next((text.text for text in event.texts if text.text), "").split())
        what = f"'{text[:_MAX_EXCERPT]}' is {event.context.represents}, not dialogue; left out."
        remarks.append(Remark("left_out", f"{name}: {what}"))
    return spoken, tuple(remarks)


def _has_own_times(element: etree._Element) -> bool:
    return any(get_attribute(element, key) for key in _TIME_ATTRIBUTES)


def _clean_language(language: str) -> str:
    return "" if language in UNKNOWN_LANGUAGES else language


def _is_same_language(a: str, b: str) -> bool:
    return a.lower().split("-")[0] == b.lower().split("-")[0]


def _read_time_base(root: etree._Element, name: str) -> _TimeBase:
    """Read the rates that times of a document count in. Raises InvalidInputError for impossible ones."""
    if get_attribute(root, "timeBase") == "clock":
        raise InvalidInputError(
            f"{name}: its times are times of day.", hint="Export it with timeBase 'media'.", code="wall_clock"
        )
    frame_rate, tick_rate = get_attribute(root, "frameRate"), get_attribute(root, "tickRate")
    try:
        rate, sub_frames = Fraction(frame_rate or 30), int(get_attribute(root, "subFrameRate") or 1)
        up, down = (get_attribute(root, "frameRateMultiplier") or "1 1").replace(":", " ").split()
        tick_hz = Fraction(tick_rate) if tick_rate else rate * sub_frames if frame_rate else Fraction(1)
        rate *= Fraction(int(up), int(down))
        if rate <= 0 or sub_frames <= 0 or tick_hz <= 0:
            raise ValueError("not above zero")
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidInputError(
            f"{name}: its frame or tick rate is not a rate ({error}).",
            hint="Mend the ttp: attributes.",
            code="bad_rate",
        ) from error
    return _TimeBase(rate, sub_frames, tick_hz, name)


def _inherit(
    element: etree._Element, parent: _Context, clock: _TimeBase | None = None, since: Fraction | None = None
) -> _Context:
    """Compute the _Context of an element from that of its parent.

    clock: reads times; None ignores them.
    since: seconds at which the element starts when it does not say; None is the start of the parent.
    """
    texts = (get_attribute(element, key) for key in _TIME_ATTRIBUTES)
    begin, end, dur = (clock.parse_time(text) if clock and text else None for text in texts)
    base = parent.start if since is None else since
    start = base + (begin or 0)
    ends = ([] if end is None else [base + end]) + ([] if dur is None else [start + dur])
    screen = get_attribute(element, "onScreen").lower()
    return _Context(
        start,
        min(ends) if ends else parent.end,
        timed=parent.timed or any(time is not None for time in (begin, end, dur)),
        agents=get_attribute(element, "agent") or parent.agents,
        language=element.get(f"{{{XML}}}lang", parent.language),
        source=get_attribute(element, "langSrc") or parent.source,
        screen=screen if screen in ON_SCREEN and screen else parent.screen,
        represents=read_represents(element) or parent.represents,
        keep_space=element.get(f"{{{XML}}}space", "preserve" if parent.keep_space else "") == "preserve",
        depth=parent.depth + 1,
    )


def _list_children(
    element: etree._Element, context: _Context, clock: _TimeBase, names: tuple[str, ...]
) -> Iterator[tuple[etree._Element, _Context]]:
    """List the children with these names and their contexts: one after another in a sequence, else side by side."""
    since = context.start
    for child in element:
        if get_tag(child) not in names:
            continue
        own = _inherit(child, context, clock, since)
        yield child, own
        if get_attribute(element, "timeContainer") == "seq":
            since = own.end if own.end is not None else own.start


def _list_events(element: etree._Element, context: _Context, clock: _TimeBase, dapt: bool) -> Iterator[_Event]:
    """List the script events of a body or div, in order."""
    if context.depth > _MAX_DEPTH:
        raise InvalidInputError(
            f"{clock.name}: elements nested deeper than {_MAX_DEPTH}.", hint="Export it again.", code="malformed_xml"
        )
    context = context if get_tag(element) != "body" else _inherit(element, context, clock)
    paragraphs = list(_list_children(element, context, clock, ("p",)))
    if paragraphs and _is_event(element, paragraphs, dapt):
        texts = tuple(_read_text(p, own) for p, own in paragraphs)
        represents = {own.represents for _, own in paragraphs}
        context = replace(context, represents=represents.pop() if len(represents) == 1 else context.represents)
        yield _Event(get_attribute(element, "id"), context, texts, _read_notes(element, *(p for p, _ in paragraphs)))
    elif not paragraphs and dapt and get_tag(element) == "div" and context.timed and not len(element.findall("{*}div")):
        yield _Event(get_attribute(element, "id"), context, (), _read_notes(element))
    else:
        for p, own in paragraphs:
            own = own if _has_own_times(p) else _find_span_times(p, own, clock)
            yield _Event(get_attribute(p, "id"), own, (_read_text(p, own),), _read_notes(p))
    for child, own in _list_children(element, context, clock, ("div",)):
        yield from _list_events(child, own, clock, dapt)


def _is_event(element: etree._Element, paragraphs: list[tuple[etree._Element, _Context]], dapt: bool) -> bool:
    """Decide whether all paragraphs of a div are texts of the same line.

    They are in DAPT, and where none has times of its own and no two share a language.
    """
    if get_tag(element) != "div" or any(_has_own_times(p) for p, _ in paragraphs):
        return False
    languages = [own.language for _, own in paragraphs]
    return dapt or bool(get_attribute(element, "begin")) and len(set(languages)) == len(languages)


def _find_span_times(p: etree._Element, context: _Context, clock: _TimeBase) -> _Context:
    """Take the times of a paragraph from its spans, where these have times."""
    spans = [own for _, own in _list_children(p, context, clock, ("span",)) if own.timed]
    if not spans:
        return context
    ends = [own.end for own in spans if own.end is not None]
    end = max(ends) if len(ends) == len(spans) else context.end
    return replace(context, start=min(own.start for own in spans), end=end, timed=True)


def _read_text(p: etree._Element, context: _Context) -> _Text:
    return _Text(context.language, context.source, clean_text("".join(_list_texts(p, context.keep_space))))


def _list_texts(element: etree._Element, keep_space: bool) -> Iterator[str]:
    """List the texts of a p or span without its metadata, "\\n" for a br."""

    def collapse(text: str | None) -> str:
        return (text or "") if keep_space else re.sub(r"[ \t\r\n]+", " ", text or "")

    yield collapse(element.text)
    for child in element:
        if get_tag(child) == "br":
            yield "\n"
        elif get_tag(child) == "span" and is_dialogue(read_represents(child)):
            yield from _list_texts(child, keep_space)
        yield collapse(child.tail)


def _read_notes(*elements: etree._Element) -> str:
    """Read the descriptions of elements, one a row, after their types where they have one."""
    rows = []
    for desc in (child for element in elements for child in element if get_tag(child) == "desc"):
        kind, note = get_attribute(desc, "descType"), clean_text(" ".join("".join(desc.itertext()).split()))
        rows.append(f"{kind}: {note}" if kind else note)
    return "\n".join(filter(None, rows))


def _read_characters(root: etree._Element) -> dict[str, str]:
    """Read the characters: {xml:id: alias, else the first name given}."""
    characters = {}
    for agent in root.iter("{*}agent"):
        names = {
            get_attribute(e, "type"): clean_text("".join(e.itertext())) for e in reversed(agent.findall("{*}name"))
        }
        first = next(iter(reversed(names.values())), "")
        characters[get_attribute(agent, "id")] = names.get("alias") or first or get_attribute(agent, "id")
    return characters


def _choose_texts(event: _Event, language: str, dapt: bool) -> tuple[_Text, str]:
    """Choose the text of an event that is spoken, and the original beside it or "".

    language: wanted; "" takes the translation, else the original.
    """
    texts = event.texts
    if len(texts) > 1 and not dapt and len({text.language for text in texts}) == 1:
        return _Text(texts[0].language, "", "\n".join(text.text for text in texts)), ""
    originals = [text for text in texts if not text.source or text.language == text.source]
    translations = [text for text in texts if text.source and text.language != text.source]
    wanted = [text for text in texts if language and _is_same_language(text.language, language)]
    spoken = (wanted or translations or originals[-1:] or [_Text("", "", "")])[-1]
    original = next((text for text in originals if text is not spoken), None)
    return spoken, original.text if original else ""


def _make_line(line_id: str, event: _Event, chosen: tuple[_Text, str], characters: dict[str, str]) -> Line:
    (language, _, text), original = chosen
    context = event.context
    speaker = " & ".join(characters.get(agent, agent) for agent in context.agents.split())
    start, end = (context.start, context.end) if context.timed else (None, None)
    end = start if end is None else end
    language = _clean_language(language)
    return Line(line_id, speaker, start, end, text, language, context.screen, original, event.notes)
