"""The plan of a spoken line: durations, F0 and energy of its phones; all that a timed voice needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

VOICE_RATE_HZ = 24000
UNIT_SAMPLES = 600  # samples of one duration unit
UNIT_S = Fraction(UNIT_SAMPLES, VOICE_RATE_HZ)  # 25 ms
CURVE_VALUES_PER_UNIT = 2  # of F0 and of energy
PAUSE = "$"  # the silence at both ends, and between words where a plan asks for one
# F0 and energy curve values of a pause, in the voice's own measures (articulation has another energy of silence).
SILENT_F0_HZ = 0.0
SILENT_PLAN_ENERGY = -10.0
MARKS = frozenset(';:,.!?—…"()“” ' + PAUSE)  # symbols without a speech sound: they may hold a pause


@dataclass(frozen=True)
class Word:
    """A written word and the phones that speak it.

    text: as written.  start, stop: phones[start:stop] of its plan or utterance.
    chars: (from, to) in the text.
    """

    text: str
    start: int
    stop: int
    chars: tuple[int, int]


@dataclass(frozen=True, eq=False)
class SpeechPlan:
    """Durations, F0 and energy of a line in units of 25 ms, those of Kokoro-82M; frozen: changing it makes another.

    text: as written.  language: such as "en-us".
    phones: N symbols of the voice's alphabet, spaces and punctuation among them; the first and the last are PAUSE.
    durations: N whole units; 0 only for marks.
    f0: (2 sum(durations),) float32, Hz; inaudible in unvoiced sounds.
    energy: (2 sum(durations),) float32, the voice's own measure.
    words: in order; pauses and punctuation lie between them.
    Raises InvalidInputError for parts that do not fit each other.
    """

    text: str
    language: str
    phones: tuple[str, ...]
    durations: tuple[int, ...]
    f0: np.ndarray = field(repr=False)
    energy: np.ndarray = field(repr=False)
    words: tuple[Word, ...] = ()

    def __post_init__(self) -> None:
        wanted = CURVE_VALUES_PER_UNIT * self.units
        fits = len(self.phones) == len(self.durations) and len(self.f0) == len(self.energy) == wanted
        fits = fits and all(d >= (0 if p in MARKS else 1) for p, d in zip(self.phones, self.durations))
        fits = fits and len(self.phones) >= 3 and self.phones[0] == self.phones[-1] == PAUSE
        if not fits:
            hint = f"Need one duration a phone, at least 1 for a sound, and {wanted} values of F0 and energy."
            raise InvalidInputError(f"plan of '{self.text[:40]}': its parts do not fit.", hint=hint, code="bad_plan")

    @property
    def units(self) -> int:
        """Duration in units."""
        return int(sum(self.durations))

    @property
    def duration(self) -> Fraction:
        """Duration in seconds."""
        return self.units * UNIT_S

    @property
    def samples(self) -> int:
        """Duration in samples at VOICE_RATE_HZ."""
        return self.units * UNIT_SAMPLES

    @property
    def edges(self) -> np.ndarray:
        """Units at which the phones start, and the end: (N + 1,) int64."""
        return np.concatenate([[0], np.cumsum(self.durations)]).astype(np.int64)

    def retime(self, durations: np.ndarray | Sequence[int]) -> SpeechPlan:
        """Give the phones other durations (N,); the curves are stretched phone by phone."""
        units = tuple(int(d) for d in durations)
        f0, energy = (stretch_curve(curve, self.durations, units) for curve in (self.f0, self.energy))
        return replace(self, durations=units, f0=f0, energy=energy)

    def replace_curves(self, f0: np.ndarray | None = None, energy: np.ndarray | None = None) -> SpeechPlan:
        """Replace F0 (2 U,) in Hz, energy (2 U,), or both."""
        f0, energy = (
            old if new is None else np.asarray(new, np.float32) for new, old in ((f0, self.f0), (energy, self.energy))
        )
        return replace(self, f0=f0, energy=energy)

    def as_dict(self) -> dict[str, Any]:
        """Convert to JSON-ready facts, from which `read_plan` makes the plan again."""
        return dict(
            text=self.text,
            language=self.language,
            phones=list(self.phones),
            durations=list(self.durations),
            f0=[round(float(v), 2) for v in self.f0],
            energy=[round(float(v), 4) for v in self.energy],
            words=[[w.text, w.start, w.stop, *w.chars] for w in self.words],
        )


def read_plan(facts: dict[str, Any]) -> SpeechPlan:
    """Read a plan from `SpeechPlan.as_dict`. Raises InvalidInputError."""
    try:
        words = tuple(Word(text, start, stop, (a, b)) for text, start, stop, a, b in facts["words"])
        f0, energy = (np.array(facts[name], np.float32) for name in ("f0", "energy"))
        phones, durations = tuple(facts["phones"]), tuple(facts["durations"])
        return SpeechPlan(facts["text"], facts["language"], phones, durations, f0, energy, words)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"not a plan of a line ({error}).", hint="Give the 'plan' of a side-car.", code="bad_plan"
        ) from error


def stretch_curve(curve: np.ndarray, old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """Stretch a curve (2 sum(old),) phone by phone to other durations, linearly: (2 sum(new),) float32.

    A phone that had no time takes the value beside it.
    """
    edges, parts = CURVE_VALUES_PER_UNIT * np.concatenate([[0], np.cumsum(old)]).astype(int), []
    for k, units in enumerate(new):
        part = curve[edges[k] : edges[k + 1]]
        if not len(part):
            part = curve[max(0, min(edges[k], len(curve) - 1)) :][:1]
        parts.append(
            np.interp(np.linspace(0, len(part) - 1, CURVE_VALUES_PER_UNIT * int(units)), np.arange(len(part)), part)
        )
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
