"""Speakers named before the text of a line: "ANNA: Come in."."""

from __future__ import annotations

import re
from collections import Counter

_PREFIX = re.compile(r"(?P<name>[^\W\d_][\w .'’()&/#-]{0,39}?)\s*(?::\s+|：\s*)(?P<rest>\S.*)", re.DOTALL)
MAX_NAME_WORDS = 4


def split_speakers(texts: list[str]) -> list[tuple[str, str]]:
    """Split every text into (speaker, text); the speaker is "" where no name stands before it.

    A word and a colon are a name when the word is written in capitals, begins two texts, or when all texts begin so;
    "Remember: be careful." once in a script stays as it is.
    """
    found = [split_prefix(text) for text in texts]
    counts = Counter(name for name, _ in filter(None, found))
    spoken = sum(1 for text in texts if text)
    everywhere = sum(counts.values()) == spoken > 1 and not any(map(is_upper_case, counts))
    return [
        parts if parts and (everywhere or counts[parts[0]] > 1 or is_upper_case(parts[0])) else ("", text)
        for text, parts in zip(texts, found)
    ]


def is_upper_case(name: str) -> bool:
    """Say whether a name is written in capitals."""
    return name.upper() == name != name.lower()


def split_prefix(text: str) -> tuple[str, str] | None:
    """Split a text at what may be a name and a colon; None where nothing may."""
    match = _PREFIX.fullmatch(text)
    if match is None or len(match["name"].split()) > MAX_NAME_WORDS:
        return None
    return match["name"].strip(), match["rest"]
