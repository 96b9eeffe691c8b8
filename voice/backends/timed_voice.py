"""The base of voices that speak plans: phone indices, a natural plan from one graph, sound from another."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, UsageError
from mouthpiece.voice.plan.speech_plan import (
    CURVE_VALUES_PER_UNIT,
    MARKS,
    PAUSE,
    SILENT_F0_HZ,
    SILENT_PLAN_ENERGY,
    UNIT_S,
    VOICE_RATE_HZ,
    SpeechPlan,
)
from mouthpiece.voice.text.phones import load_alphabet

if TYPE_CHECKING:
    from pathlib import Path

    from onnxruntime import InferenceSession

    from mouthpiece.voice.text.phones import Utterance

MAX_MODEL_PHONES = 510  # between the two pauses at the ends
SPEED_RANGE = (0.5, 2.0)  # accepted tempo factors
THREADS_VARIABLE = "OMP_NUM_THREADS"


class TimedVoice(ABC):
    """Base of voices that speak plans, exact to the sample. Satisfies `mouthpiece.voice.backends.backend.Voice`.

    name: as asked for.  language: such as "en-us".
    A subclass implements `_predict_prosody` and `_synthesize`.
    """

    timed = True
    rate_hz = VOICE_RATE_HZ

    def __init__(self, name: str, language: str) -> None:
        self.name, self.language = name, language

    def predict_plan(self, utterance: Utterance, speed: float = 1.0) -> SpeechPlan:
        """Predict the plan that the voice itself would speak: durations, F0 and energy of the utterance's phones.

        utterance: pauses that it asks for have their length.  speed: 0.5 slow to 2 fast.
        Raises UsageError for the speed, InvalidInputError for more phones than the voice takes at once.
        """
        if not SPEED_RANGE[0] <= speed <= SPEED_RANGE[1]:
            raise UsageError(f"speed {speed:g}: need {SPEED_RANGE[0]} to {SPEED_RANGE[1]}.", code="bad_option")
        phones = utterance.phones
        durations, f0, energy = self._predict_prosody(encode_phones(_replace_pauses(phones)), speed)
        plan = SpeechPlan(
            utterance.text, utterance.language, phones, tuple(int(d) for d in durations), f0, energy, utterance.words
        )
        return _set_pauses(plan, dict(utterance.pauses))

    def speak(self, plan: SpeechPlan) -> np.ndarray:
        """Synthesize a plan: (1, S) float32 in [-1, 1] at 24 kHz, S exactly plan.samples; deterministic.

        Raises InvalidInputError for a symbol outside the alphabet or more phones than the voice takes at once.
        """
        wave = self._synthesize(encode_phones(plan.phones), np.array(plan.durations, np.float32), plan.f0, plan.energy)
        if wave.shape != (plan.samples,):
            raise MouthpieceError(f"voice {self.name}: {wave.shape} samples for a plan of {plan.samples}.")
        return np.clip(wave, -1, 1)[None].astype(np.float32)

    def speak_utterance(self, utterance: Utterance, seed: int = 0) -> np.ndarray:
        """Synthesize an utterance by its own plan: (1, S) float32 in [-1, 1] at 24 kHz.

        seed: changes nothing; the same utterance always gives the same samples.
        """
        return self.speak(self.predict_plan(utterance))

    @abstractmethod
    def _predict_prosody(self, ids: np.ndarray, speed: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict durations (N,) in units, F0 in Hz and energy (2 * sum of durations,) of phone indices (N,)."""

    @abstractmethod
    def _synthesize(self, ids: np.ndarray, durations: np.ndarray, f0: np.ndarray, energy: np.ndarray) -> np.ndarray:
        """Synthesize samples (S,) of phone indices with given durations and curves."""


def encode_phones(phones: list[str] | tuple[str, ...]) -> np.ndarray:
    """Encode phones as indices of the alphabet: (N,) int64.

    Raises InvalidInputError for an unknown symbol, and for more than MAX_MODEL_PHONES between the ends.
    """
    known = load_alphabet()
    strange = sorted({p for p in phones if p not in known})
    if strange:
        raise InvalidInputError(
            f"phones {' '.join(strange)}: not in the voice's alphabet.",
            hint=f"It has: {''.join(known)}",
            code="bad_phones",
        )
    if len(phones) - 2 > MAX_MODEL_PHONES:
        hint = "Speak it in pieces: mouthpiece.voice.text.phones.split_into_utterances splits text at sentences."
        raise InvalidInputError(
            f"{len(phones) - 2} phones at once; the voice holds {MAX_MODEL_PHONES}.", hint=hint, code="too_long"
        )
    return np.array([known[p] for p in phones], np.int64)


def _replace_pauses(phones: tuple[str, ...]) -> list[str]:
    """Replace pauses inside by what the planner knows: a comma, or a space after a mark."""
    out = list(phones)
    for k in range(1, len(out) - 1):
        if out[k] == PAUSE:
            before = next((p for p in reversed(out[:k]) if p != " "), PAUSE)
            out[k] = " " if before in MARKS else ","
    return out


def _set_pauses(plan: SpeechPlan, lengths_s: dict[int, Fraction]) -> SpeechPlan:
    """Make the pauses inside a plan silent and as long as asked for. lengths_s: {phone index: seconds}."""
    inside = [k for k in range(1, len(plan.phones) - 1) if plan.phones[k] == PAUSE]
    if not inside and not lengths_s:
        return plan
    durations = list(plan.durations)
    for k, length_s in lengths_s.items():
        durations[k] = max(1, round(Fraction(length_s) / UNIT_S))
    plan = plan.retime(durations)
    f0, energy, edges = plan.f0.copy(), plan.energy.copy(), CURVE_VALUES_PER_UNIT * plan.edges
    for k in inside:
        f0[edges[k] : edges[k + 1]], energy[edges[k] : edges[k + 1]] = SILENT_F0_HZ, SILENT_PLAN_ENERGY
    return plan.replace_curves(f0, energy)


def open_session(model: bytes | Path, threads: int | None, name: str) -> InferenceSession:
    """Open an onnxruntime session on the CPU.

    model: path, or bytes of an ONNX file.  threads: int, or None for OMP_NUM_THREADS, else all cores.
    name: for the error.
    Raises InvalidInputError when it cannot be loaded.
    """
    import onnxruntime  # slow to import

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = get_thread_count() if threads is None else threads
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own types share no base but this
        raise InvalidInputError(
            f"{name}: the model cannot be loaded ({str(error)[:200]}).", hint="Get the model again.", code="bad_model"
        ) from error


def get_thread_count() -> int:
    """Get the number of threads to run on: OMP_NUM_THREADS where it is a number, else the cores of this machine."""
    named = os.environ.get(THREADS_VARIABLE, "")
    return int(named) if named.isdigit() and int(named) > 0 else os.cpu_count() or 1
