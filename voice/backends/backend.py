"""The contract of a voice backend: what it lists and loads, and what a loaded voice can do.

A new backend is one file with a class that satisfies `VoiceBackend`, and one row of
`mouthpiece.voice.backends.registry.BACKENDS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from mouthpiece.voice.plan.speech_plan import SpeechPlan
    from mouthpiece.voice.text.phones import Utterance

SPEC_HINT = "Run 'mouthpiece voices list' to see them; mixes are written 'af_heart:0.6+bf_emma:0.4'."


class Voice(Protocol):
    """A loaded voice.

    name: as asked for.  language: of its speech, such as "en-us".  rate_hz: sample rate of its waves.
    timed: whether it speaks plans; a voice that does not raises UsageError in `predict_plan` and `speak`.
    """

    name: str
    language: str
    rate_hz: int
    timed: bool

    def predict_plan(self, utterance: Utterance, speed: float = 1.0) -> SpeechPlan:
        """Predict durations, F0 and energy of the utterance's phones. speed: 0.5 slow to 2 fast."""
        ...

    def speak(self, plan: SpeechPlan) -> np.ndarray:
        """Synthesize a plan: (1, S) float32 in [-1, 1] at `rate_hz`, S exactly `plan.samples`."""
        ...

    def speak_utterance(self, utterance: Utterance, seed: int = 0) -> np.ndarray:
        """Synthesize an utterance at the voice's own pace: (1, S) float32 in [-1, 1]. seed: of voices that sample."""
        ...


@dataclass(frozen=True)
class VoiceInfo:
    """One row of the list of voices.

    name: for --voice.  language: such as "en-us".  gender: "female", "male" or "".  backend: name of its backend.
    available: whether it can speak on this machine.  note: a remark for people, and what is missing.
    """

    name: str
    language: str
    gender: str
    backend: str
    available: bool
    note: str

    def speaks(self, language: str) -> bool:
        """Tell whether the voice speaks a language, whatever the region. language: such as "en-gb"."""
        return self.language.split("-")[0] == language.split("-")[0]

    def as_dict(self) -> dict[str, str | bool]:
        """Convert to the JSON row of `mouthpiece voices list`."""
        return {
            "name": self.name,
            "language": self.language,
            "gender": self.gender,
            "backend": self.backend,
            "at_hand": self.available,
            "note": self.note,
        }


@dataclass(frozen=True)
class VoiceSpec:
    """A parsed voice specification; hashable.

    backend: name of the backend that loads it.
    shares: ((voice name, share), ...) sorted by name, the shares sum to one; empty for a voice that is not listed.
    reference: path of the recording that a cloned voice sounds like; "" for none.
    """

    backend: str
    shares: tuple[tuple[str, float], ...] = ()
    reference: str = ""

    @property
    def main_voice(self) -> str:
        """Name of the voice with the largest share; "" without shares."""
        return max(self.shares, key=lambda row: row[1])[0] if self.shares else ""


class VoiceBackend(Protocol):
    """What speaks: one model with its voices.

    name: in lists and error messages.
    mixable: whether its voices can be mixed ("af_heart:0.6+bf_emma:0.4").
    castable: whether its voices are given to speakers for whom none was chosen, and searched by --voice match.
    remedy: command that makes it available; "" where nothing can be missing.
    converter: function of the folder of the pulled model that has the backend's name; makes the files that are loaded,
    once, and returns their folder. None where the model is loaded as pulled.
    """

    name: str
    mixable: bool
    castable: bool
    remedy: str
    converter: Callable[[Path], Path] | None

    def is_available(self) -> bool:
        """Tell whether package and weights are on this machine; nothing is loaded."""
        ...

    def list_voices(self) -> list[VoiceInfo]:
        """List the voices, whether available or not."""
        ...

    def owns(self, text: str) -> bool:
        """Tell whether a voice specification is spelled for this backend. text: stripped, of any case."""
        ...

    def parse(self, text: str) -> VoiceSpec:
        """Parse a specification that the backend owns. Raises UsageError for shares that make no sense."""
        ...

    def get_language(self, spec: VoiceSpec) -> str | None:
        """Get the language that the voice speaks; None where a text of any language is accepted."""
        ...

    def load(self, spec: VoiceSpec, threads: int | None = None) -> Voice:
        """Load a voice. threads: int, or None for what the machine has.

        Raises MissingDependencyError with the command that helps.
        """
        ...


def split_mix(text: str) -> list[tuple[str, str | None]]:
    """Split a mix into voices: [(name in lower case, share as written or None)].

    text: "af_heart", "af_heart+bf_emma" or "af_heart:0.6+bf_emma:0.4".
    """
    parts = [part.partition(":") for part in text.split("+")]
    return [(name.strip().lower(), share.strip() if colon else None) for name, colon, share in parts]


def parse_mix(text: str) -> tuple[tuple[str, float], ...]:
    """Parse a mix into ((name, share), ...), sorted by name, the shares summing to one; no share counts as 1.

    text: as for `split_mix`.
    Raises UsageError for a share that is not a number above 0.
    """
    shares: dict[str, float] = {}
    for name, written in split_mix(text):
        try:
            value = 1.0 if written is None else float(written)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise UsageError(
                f"--voice {text}: '{written}' is not a share of {name}; need a number above 0.",
                hint=SPEC_HINT,
                code="bad_voice",
            )
        shares[name] = shares.get(name, 0.0) + value
    total = sum(shares.values())
    return tuple(sorted((name, value / total) for name, value in shares.items()))
