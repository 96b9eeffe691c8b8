"""The use cases by name; what runs, checks or lists them all reads their names from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.animate import ANIMATE
from mouthpiece.dub import DUB
from mouthpiece.evaluate import EVALUATE
from mouthpiece.lip_sync import LIPSYNC
from mouthpiece.sound import SOUND
from mouthpiece.speak import SPEAK
from mouthpiece.transcribe import TRANSCRIBE

if TYPE_CHECKING:
    from mouthpiece.request import Request, UseCase

USE_CASES: dict[str, UseCase] = {
    case.name: case for case in (ANIMATE, LIPSYNC, SPEAK, DUB, SOUND, TRANSCRIBE, EVALUATE)
}


def list_marking_commands() -> tuple[str, ...]:
    """List the use cases whose output is marked, and that a consent may name."""
    return tuple(get_marking_use_cases())


def get_use_case(request: Request) -> UseCase:
    """Return the UseCase of a Request."""
    return USE_CASES[request.command]


def get_marking_use_cases() -> dict[str, UseCase]:
    """Return the use cases whose output is generated media: it carries a mark, may need a consent, and fits a batch."""
    return {name: case for name, case in USE_CASES.items() if "provenance" in case.settings}
