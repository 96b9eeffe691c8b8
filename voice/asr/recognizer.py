"""The contract of a speech recogniser, and the row that the table of recognisers holds of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np

    from mouthpiece.engine.device import Placement

RATE_HZ = 16_000  # of all sound that recognisers take


class RecognizedWord(NamedTuple):
    """One word with its punctuation, and its times in seconds of the sound that was recognised."""

    text: str
    start_s: float
    stop_s: float


class Recognizer(Protocol):
    """A speech recogniser of short pieces of sound.

    name: of the recogniser and its weights, for reports.
    why: the reason to use it, for people.
    """

    name: str
    why: str

    def check(self, language: str | None) -> None:
        """Check that a language can be recognised; None lets the recogniser detect it.

        Raises UsageError for a language that it does not know, MissingDependencyError for weights that do not know it.
        """

    def transcribe(self, wave: np.ndarray, language: str | None = None) -> tuple[tuple[RecognizedWord, ...], str]:
        """Transcribe up to half a minute; return its words in order and its language.

        wave: (S,) float32 in [-1, 1] at RATE_HZ.
        language: code such as "en"; None detects it.
        """


@dataclass(frozen=True)
class RecognizerBackend:
    """One row of `recognizers.RECOGNIZERS`.

    name: as asked for.
    open: takes a language or None, a Placement or None for this machine's CPU, and the reason to use it; returns a
    Recognizer. Raises MissingDependencyError for what is not installed.
    supports: takes a language code or None for an unknown one, returns whether it may recognise it.
    missing_code: code of the error that says that its weights are not installed: "auto" then takes the next row.
    fallback_note: what is worse when it stands in for a row above it.
    """

    name: str
    open: Callable[[str | None, Placement | None, str], Recognizer]
    supports: Callable[[str | None], bool]
    missing_code: str
    fallback_note: str = ""
