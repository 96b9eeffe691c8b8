"""Speech recognisers: one table; a new one is one new file with a Recognizer and one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.voice.asr import pocketsphinx_recognizer, whisper_recognizer
from mouthpiece.voice.asr.recognizer import Recognizer, RecognizerBackend

if TYPE_CHECKING:
    from mouthpiece.engine.device import Placement

AUTO = "auto"  # the first row whose weights are installed
# in the order of quality
RECOGNIZERS: tuple[RecognizerBackend, ...] = (
    RecognizerBackend(
        "whisper", whisper_recognizer.open_whisper, whisper_recognizer.supports_language, missing_code="no_whisper"
    ),
    RecognizerBackend(
        "pocketsphinx",
        pocketsphinx_recognizer.open_pocketsphinx,
        pocketsphinx_recognizer.supports_language,
        missing_code="no_recogniser",
        fallback_note="words are less often right",
    ),
)
RECOGNIZER_CHOICES = (AUTO, *(row.name for row in RECOGNIZERS))
REVIEW_CHOICES = (*RECOGNIZER_CHOICES, "off")  # where speech need not be recognised


def open_recognizer(choice: str = AUTO, language: str | None = None, placement: Placement | None = None) -> Recognizer:
    """Open the Recognizer asked for, or the best one that is installed; its `why` says which and why.

    choice: name of a row of RECOGNIZERS, or "auto".
    language: what is spoken; None when unknown.
    placement: where a network runs; None is this machine's CPU.
    Raises UsageError for another choice, MissingDependencyError for what is not installed or cannot be read.
    """
    if choice != AUTO:
        row = next((row for row in RECOGNIZERS if row.name == choice), None)
        if row is None:
            names = (AUTO, *(row.name for row in RECOGNIZERS))
            raise UsageError(f"--model {choice}: need {' or '.join(names)}.", code="bad_option")
        return row.open(language, placement, "asked for")
    missing: MissingDependencyError | None = None
    for row in RECOGNIZERS:
        if missing is not None and not row.supports(language):
            continue
        why = f"{missing.message.rstrip('.')}; {row.fallback_note}" if missing else "the best one installed"
        try:
            return row.open(language, placement, why)
        except MissingDependencyError as error:
            if error.code != row.missing_code:
                raise
            missing = missing or error
    raise missing or MissingDependencyError("no speech recogniser.", code="no_recogniser")
