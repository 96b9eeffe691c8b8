"""Dialogue in an ASS file, told from signs, karaoke and other typesetting by style, effect and place."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysubs2 import SSAEvent, SSAFile

_KARAOKE = re.compile(r"\{[^}]*\\(?:k[fot]?|K)\d")
_PLACED = re.compile(r"\{[^}]*\\(?:pos|move)\s*\(\s*[-\d.]+\s*,\s*(?P<y>[-\d.]+)")
_TYPESET = re.compile(r"\{[^}]*\\(?:i?clip|org|fr[xyz]?-?\d|fa[xy])")
_NO_EFFECT = ("", "!effect")  # as SubStation Alpha 4 writes none
_NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SIGN_WORDS = frozenset(
    "sign signs title titles opening ending karaoke lyric lyrics song songs insert credit credits staff romaji "
    "kanji furigana note notes theme chyron banner typeset typesetting onscreen "
    "logo watermark eyecatch chapter location fx sfx disclaimer "
    "cartel carteles canción cancion letrero panneau chanson schild schilder lied cartello canzone placa "
    "надпись надписи песня 歌 歌詞 看板 注釈 歌词 注释 标题 字幕组".split()
)
_SHORT_SIGN_WORDS = frozenset("op ed kara ts tl OP ED KARA TS TL".split())  # "Ed" and "Kara" are also people
_KARAOKE_TIMES = "they have karaoke times"
_PLACED_APART = "they are placed as signs are"
_PLACED_LOW = "low"
_MIDDLE = (4, 5, 6)  # alignments by the numbers of a keypad
_LOWER_PART = 0.7  # of the picture's height: below it dialogue is placed, too
_DEFAULT_HEIGHT = 288  # pixels, of a script that does not say (PlayResY)
_MAIN_SHARE = 0.5  # of the lines: a style that has so many is dialogue wherever it stands
_PLACED_SHARE = 0.5  # of a style's lines: where so many are put into the lower part, a place says nothing
_NAMED_SHARE = 0.5  # of a style's lines have a Name


@dataclass(frozen=True)
class DialogueChoice:
    """The events of an ASS file that are spoken, and why how many others are not.

    events: in the order of the file.
    left_out: {reason: number of events}, such as {"style 'Sign'": 2}.
    """

    events: tuple[SSAEvent, ...]
    left_out: dict[str, int]


def select_dialogue(subs: SSAFile, name: str, styles: str | None = None) -> DialogueChoice:
    """Select the events of an ASS file that are dialogue.

    name: of the file, for errors.
    styles: names of the styles that are dialogue, "NAME,NAME"; None finds them out.
    Found out: what has an Effect, karaoke times or is turned, clipped or placed above the lower part of the picture is
    typesetting; so are styles whose names say so, smaller styles in the middle of the picture, and those at its top
    without a Name where others have one. A mark that all lines have says nothing. The same text at the same time in
    another layer is left out.
    Raises UsageError for a style that the file does not have, InvalidInputError where nothing is dialogue.
    """
    reasons: Counter[str] = Counter()
    comments = [event for event in subs if event.type != "Dialogue" or event.is_drawing]
    reasons.update({"comments and drawings": len(comments)} if comments else {})
    events = [event for event in subs if event.type == "Dialogue" and not event.is_drawing]
    kept = _select_styles(events, styles, name, reasons) if styles else _find_dialogue(events, subs, reasons)
    if events and not kept:
        found = ", ".join(sorted({event.style for event in events}))
        raise InvalidInputError(
            f"{name}: signs and karaoke, no dialogue (styles: {found}).",
            hint="Name the styles that are spoken: --styles NAME,NAME.",
            code="empty_script",
        )
    return DialogueChoice(tuple(_drop_layers(kept, reasons)), dict(reasons))


def _select_styles(events: Sequence[SSAEvent], styles: str, name: str, reasons: Counter[str]) -> list[SSAEvent]:
    """Select the events of styles that were named. Raises UsageError for one that is not there."""
    asked = [style.strip() for style in styles.split(",") if style.strip()]
    known = {event.style.casefold(): event.style for event in events}
    unknown = [style for style in asked if style.casefold() not in known]
    wanted = {style.casefold() for style in asked}
    if unknown or not wanted:
        raise UsageError(
            f"--styles {styles}: {name} has no style '{', '.join(unknown)}'.",
            hint=f"Its styles: {', '.join(sorted(known.values()))}.",
            code="bad_option",
        )
    reasons.update(f"style '{event.style}'" for event in events if event.style.casefold() not in wanted)
    return [event for event in events if event.style.casefold() in wanted]


def _find_dialogue(events: Sequence[SSAEvent], subs: SSAFile, reasons: Counter[str]) -> list[SSAEvent]:
    """Find the events that are dialogue, and count the reasons against the others."""
    marks = [_find_mark(event) for event in events]
    signs = _find_sign_styles([event for event, mark in zip(events, marks) if not mark], subs)
    if all(marks):  # words with times of their own, as recognisers write them
        marks = ["" if mark == _KARAOKE_TIMES else mark for mark in marks]
        signs = _find_sign_styles([event for event, mark in zip(events, marks) if not mark], subs)
    rest = [event for event, mark in zip(events, marks) if not mark and event.style not in signs]
    places = _find_places(rest, subs)
    for event, mark in zip(events, marks):
        reason = mark or (f"style '{event.style}'" if event.style in signs else places.get(id(event), ""))
        reasons.update([reason] if reason else [])
    return [event for event in rest if id(event) not in places]


def _find_places(events: Sequence[SSAEvent], subs: SSAFile) -> dict[int, str]:
    """Find the events that are put where signs are: {id(event): reason}; {} where that says nothing."""
    places = {id(event): _find_place(event, subs) for event in events}
    apart = {key for key, place in places.items() if place == _PLACED_APART}
    if len(apart) == len(events):
        return {}
    counts = Counter(event.style for event in events)
    low = Counter(event.style for event in events if places[id(event)] == _PLACED_LOW)
    by_hand = {style for style, count in counts.items() if low[style] >= _PLACED_SHARE * count}
    return {id(event): _PLACED_APART for event in events if id(event) in apart and event.style not in by_hand}


def _find_mark(event: SSAEvent) -> str:
    """Find what marks an event as typesetting whatever its style; "" for nothing."""
    if event.effect.strip().lower() not in _NO_EFFECT:
        return "they have an Effect"
    return _KARAOKE_TIMES if _KARAOKE.search(event.text) else ""


def _find_place(event: SSAEvent, subs: SSAFile) -> str:
    """Find out whether an event is put where signs are, or low where dialogue may be; "" when it is not placed."""
    if _TYPESET.search(event.text):
        return _PLACED_APART
    placed = _PLACED.search(event.text)
    if placed is None:
        return ""
    height = _parse_number(subs.info.get("PlayResY", "")) or _DEFAULT_HEIGHT
    y = _parse_number(placed["y"])
    return _PLACED_APART if y is None or y < _LOWER_PART * height else _PLACED_LOW


def _parse_number(text: str) -> float | None:
    """Parse a number of a script; None for anything else."""
    try:
        return float(text)
    except ValueError:
        return None


def _find_sign_styles(events: Sequence[SSAEvent], subs: SSAFile) -> set[str]:
    """Find the styles that are not dialogue: by name, by a place in the middle, or at the top with no Name in it.

    events: without marks.
    """
    counts = Counter(event.style for event in events)
    named = Counter(event.style for event in events if event.name.strip())
    signs, apart = {style for style in counts if _says_sign(style)}, set()
    for style, count in counts.items():
        alignment = int(subs.styles[style].alignment) if style in subs.styles else 2
        unnamed = not named[style] and sum(named.values()) >= _NAMED_SHARE * (len(events) - count) > 0
        if named[style] >= _NAMED_SHARE * count:
            signs.discard(style)
        elif count < _MAIN_SHARE * len(events) and (alignment in _MIDDLE or alignment > max(_MIDDLE) and unnamed):
            apart.add(style)
    if len(counts) == 1:
        return set()
    return signs | apart if len(signs | apart) < len(counts) else signs


def _says_sign(style: str) -> bool:
    """Decide whether the name of a style says that it is for signs, songs or credits: "Sign-2", "OPRomaji"."""
    parts = _NAME_PARTS.findall(re.sub("sub-?titles?", "", style, flags=re.IGNORECASE))
    return any(part.lower() in _SIGN_WORDS or part in _SHORT_SIGN_WORDS for part in parts)


def _drop_layers(events: Sequence[SSAEvent], reasons: Counter[str]) -> list[SSAEvent]:
    """Drop the second of two events that say the same at the same time, unless other people say it."""
    seen: dict[tuple[int, int, str], set[str]] = {}
    kept = []
    for event in events:
        names = seen.setdefault((event.start, event.end, event.plaintext.strip()), set())
        speaker = event.name.strip()
        if names and (speaker in names or not speaker):
            reasons["the same text in another layer"] += 1
            continue
        names.add(speaker)
        kept.append(event)
    return kept
