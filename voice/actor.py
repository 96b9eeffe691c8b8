"""A line spoken as the actor spoke it: the one call that aligns, transplants and says what became of it."""

from dataclasses import dataclass, replace

from engine.config import Options, option
from engine.errors import UsageProblem
from voice.align import align
from voice.phrases import follow_phrases
from voice.plan import Plan
from voice.prosody import Transplanted, aligned_speech, register_of, transplant

WORDS = {"source": 1.0, "neutral": 0.0}
MOST_SHIFT_ST = 12.0


@dataclass(frozen=True)
class ProsodyOptions(Options):
    """How much of the original actor's way of speaking is kept.

    Source: ours.
    """

    prosody: str = option("source", "follow the original line: source, neutral, or a number from 0 to 1")
    register: str = option("source", "whose register: the actor's or the voice's own", choices=("source", "voice"))
    register_shift: float = option(0.0, "moves the register further", unit="semitones", low=-MOST_SHIFT_ST, high=MOST_SHIFT_ST)

    def __post_init__(self):
        super().__post_init__()
        amount_of(self.prosody)


def amount_of(prosody):
    """0 to 1 for what --prosody takes: source, neutral, or a number as text. Raises UsageProblem for anything else. Source: ours."""
    try:
        amount = WORDS[prosody] if prosody in WORDS else float(prosody)
    except (TypeError, ValueError):
        amount = -1.0
    if not 0 <= amount <= 1:
        raise UsageProblem(f"--prosody {prosody}: need source, neutral or a number from 0 to 1.", hint="0 is the voice's own way, 1 the actor's.", code="bad_option")
    return amount


def follow(voice, plan: Plan, recording, options=ProsodyOptions(), said=None, whisper=None) -> Transplanted:
    """The plan in the actor's prosody, for `speak_as`; with a note instead of an error where the recording is of no use.

    voice: a timed voice.  plan: its natural plan.
    recording: (S,) float32 at 16 kHz, the original line alone; None when there is none.
    options: ProsodyOptions.
    said: language of the recording when it is not the plan's; None when the actor says these very words.
    whisper: a whisper.model.Whisper for plans in other languages than English.
    Source: ours.
    """
    amount = amount_of(options.prosody)
    if recording is None or amount == 0:
        return Transplanted(plan, facts=dict(method="none", amount=amount), note="" if amount == 0 else "There is no recording of this line.")
    shift_st = options.register_shift + (register_of(plan, recording) if options.register == "voice" else 0.0)
    same = said is None or said.lower().split("-")[0] == plan.language.lower().split("-")[0]
    if not same:
        return follow_phrases(plan, recording, amount, shift_st)
    found = align(recording, plan.text, plan.language, whisper)
    if found.ok:
        return transplant(plan, recording, found, aligned_speech(voice, plan, whisper), amount, shift_st)
    loose = follow_phrases(plan, recording, amount, shift_st)
    if loose.note:
        return loose
    return replace(loose, note=f"{found.note} Only pauses and phrases of the recording are followed.")
