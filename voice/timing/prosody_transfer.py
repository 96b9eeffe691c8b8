"""Prosody transfer: a line aligned with the actor's recording, and its times, F0 and loudness taken from there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mouthpiece.engine.config import Options, option
from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.plan.speech_plan import SpeechPlan
from mouthpiece.voice.timing.align import align
from mouthpiece.voice.timing.phrase_prosody import transfer_phrase_prosody
from mouthpiece.voice.timing.prosody import (
    ProsodyTarget,
    align_own_speech,
    compute_register_shift,
    transfer_word_prosody,
)

if TYPE_CHECKING:
    import numpy as np
    from whisper.model import Whisper

    from mouthpiece.voice.backends.backend import Voice

PROSODY_AMOUNTS = {"source": 1.0, "neutral": 0.0}  # words that --prosody takes
MAX_REGISTER_SHIFT_ST = 12.0


@dataclass(frozen=True)
class ProsodyOptions(Options):
    """How much of the original actor's way of speaking is kept."""

    prosody: str = option("source", "follow the original line: source, neutral, or a number from 0 to 1")
    register: str = option("source", "whose register: the actor's or the voice's own", choices=("source", "voice"))
    register_shift: float = option(
        0.0, "moves the register further", unit="semitones", low=-MAX_REGISTER_SHIFT_ST, high=MAX_REGISTER_SHIFT_ST
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_prosody_amount(self.prosody)


def parse_prosody_amount(prosody: str) -> float:
    """Parse the value of --prosody, source, neutral or a number as text, into 0 to 1. Raises UsageError."""
    try:
        amount = PROSODY_AMOUNTS[prosody] if prosody in PROSODY_AMOUNTS else float(prosody)
    except (TypeError, ValueError):
        amount = -1.0
    if not 0 <= amount <= 1:
        raise UsageError(
            f"--prosody {prosody}: need source, neutral or a number from 0 to 1.",
            hint="0 is the voice's own way, 1 the actor's.",
            code="bad_option",
        )
    return amount


def transfer_prosody(
    voice: Voice,
    plan: SpeechPlan,
    recording: np.ndarray | None,
    options: ProsodyOptions = ProsodyOptions(),
    recording_language: str | None = None,
    whisper: Whisper | None = None,
) -> ProsodyTarget:
    """Transfer the actor's prosody to a plan, for `speak_with_prosody`; a recording that does not help gives a note,
    never an error.

    voice: a timed voice.  plan: its natural plan.
    recording: (S,) float32 at 16 kHz, the original line alone; None when there is none.
    recording_language: of the recording when it is not the plan's; None when the actor says these very words.
    whisper: model for plans in other languages than English.
    """
    amount = parse_prosody_amount(options.prosody)
    if recording is None or amount == 0:
        note = "" if amount == 0 else "There is no recording of this line."
        return ProsodyTarget(plan, facts=dict(method="none", amount=amount), note=note)
    shift_st = options.register_shift
    shift_st += compute_register_shift(plan, recording) if options.register == "voice" else 0.0
    same = recording_language is None or recording_language.lower().split("-")[0] == plan.language.lower().split("-")[0]
    if not same:
        return transfer_phrase_prosody(plan, recording, amount, shift_st)
    alignment = align(recording, plan.text, plan.language, whisper)
    if alignment.ok:
        own_speech = align_own_speech(voice, plan, whisper)
        return transfer_word_prosody(plan, recording, alignment, own_speech, amount, shift_st)
    by_phrases = transfer_phrase_prosody(plan, recording, amount, shift_st)
    if by_phrases.note:
        return by_phrases
    return replace(by_phrases, note=f"{alignment.note} Only pauses and phrases of the recording are followed.")
