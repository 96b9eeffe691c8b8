"""Elements of a TTML document: their names and attributes, and what of their text is spoken."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml import etree

XML = "http://www.w3.org/XML/1998/namespace"
TT = "http://www.w3.org/ns/ttml"
DAPTM = "http://www.w3.org/ns/ttml/profile/dapt#metadata"
_MAX_STYLE_CHAIN = 16  # styles of which each names the next
_RUBY_UNSPOKEN = ("text", "textContainer", "delimiter")  # tts:ruby of what repeats the base, or brackets it
_SOUND_ROLES = {"action", "kinesic", "music", "quality", "sound", "source", "suppressed"}  # ttm:role that nobody says


def get_tag(element: etree._Element) -> str:
    """Get the name of an element without its namespace; "" for comments and the like."""
    return get_local_name(element.tag) if isinstance(element.tag, str) else ""


def get_local_name(name: str) -> str:
    """Get the part of an XML name behind its namespace."""
    return name.rpartition("}")[2]


def get_attribute(element: etree._Element, name: str) -> str:
    """Get an attribute whatever its namespace; "" when absent."""
    return next((value for key, value in element.attrib.items() if get_local_name(key) == name), "")


def drop_ruby_text(root: etree._Element) -> None:
    """Drop the readings of ruby from a document: `tts:ruby` of a span, itself or by the styles that it names.

    Source: W3C TTML2, section 10.2.35; IMSC 1.1.
    """
    rubies = _read_style_rubies(root)
    for span in list(root.iter("{*}span")):
        if (get_attribute(span, "ruby") or _get_named_ruby(span, rubies)) in _RUBY_UNSPOKEN:
            for child in list(span):
                span.remove(child)
            span.text = None  # its tail stays: that is the text behind the ruby


def _read_style_rubies(root: etree._Element) -> dict[str, str]:
    """Read the tts:ruby of every style, its own or that of a style that it names: {xml:id: value}."""
    styles = [style for style in root.iter("{*}style") if get_attribute(style, "id")]
    rubies = {get_attribute(style, "id"): get_attribute(style, "ruby") for style in styles}
    for _ in range(_MAX_STYLE_CHAIN):
        found = {get_attribute(style, "id"): _get_named_ruby(style, rubies) for style in styles}
        found = {name: value for name, value in found.items() if value and not rubies[name]}
        if not found:
            break
        rubies |= found
    return rubies


def _get_named_ruby(element: etree._Element, rubies: dict[str, str]) -> str:
    """Get the tts:ruby that the styles give which an element names, "" for none; of several the last decides."""
    named = (rubies.get(name, "") for name in reversed(element.get("style", "").split()))
    return next(filter(None, named), "")


def is_dialogue(represents: str) -> bool:
    """Decide whether content with this daptm:represents is spoken in the film; so is what says nothing about it."""
    first, _, rest = represents.partition(".")
    if first in ("visual", "role"):
        return rest.split(".")[0] == "dialogue"
    return not (first == "audio" and rest.split(".")[0] == "nonDialogueSounds")


def read_represents(element: etree._Element) -> str:
    """Read what the content of an element represents; "" when it does not say."""
    roles = _SOUND_ROLES.intersection(get_attribute(element, "role").split())
    return element.get(f"{{{DAPTM}}}represents", "").strip() or (f"role.{min(roles)}" if roles else "")
