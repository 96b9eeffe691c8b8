"""Chatterbox, an optional voice-cloning model: speaks text like a recording, at its own pace; made for a GPU."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.files import check_input_file
from mouthpiece.engine.weights.digests import get_sha256
from mouthpiece.engine.weights.download import get_model_entry, get_model_folder, is_model_available
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.voice.backends.backend import VoiceInfo, VoiceSpec
from mouthpiece.voice.plan.speech_plan import VOICE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from chatterbox.tts import ChatterboxTTS

    from mouthpiece.voice.plan.speech_plan import SpeechPlan
    from mouthpiece.voice.text.phones import Utterance

NAME = "chatterbox"
LANGUAGE = "en-us"
_HINT = "Run: pip install chatterbox-tts, then: mouthpiece models pull chatterbox. Or use --voice hibari."


class Chatterbox:
    """Speak with the voice of a recording; lines cannot be planned.

    reference: path of a recording of the voice, or None for the model's own.
    device: as for mouthpiece.engine.device.choose_device.
    Raises MissingDependencyError when package or weights are not there, InvalidInputError for an unreadable recording.
    Source: Resemble AI, Chatterbox (MIT).
    """

    timed = False
    rate_hz = VOICE_RATE_HZ
    language = LANGUAGE

    def __init__(self, reference: str | None = None, device: str = "auto") -> None:
        self.name = NAME if reference is None else f"{NAME}:{reference}"
        self._reference = None if reference is None else str(check_input_file(Path(reference), "recording of a voice"))
        self._model = _load_model(device)

    def predict_plan(self, utterance: Utterance, speed: float = 1.0) -> NoReturn:
        """Raise UsageError: the model tells no durations beforehand."""
        self._raise_untimed()

    def speak(self, plan: SpeechPlan) -> NoReturn:
        """Raise UsageError: the model takes no durations."""
        self._raise_untimed()

    def _raise_untimed(self) -> NoReturn:
        hint = "Use speak_utterance, or a voice of Kokoro or hibari."
        raise UsageError(f"voice {self.name}: it cannot be planned.", hint=hint, code="untimed")

    def speak_utterance(self, utterance: Utterance, seed: int = 0) -> np.ndarray:
        """Synthesize an utterance: (1, S) float32 in [-1, 1] at 24 kHz, as long as the voice takes.

        utterance: its text is spoken.  seed: the same seed gives the same samples on the same machine.
        Source: Chatterbox's generate.
        """
        import torch

        devices = [self._model.device] if str(self._model.device) != "cpu" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            wave = self._model.generate(utterance.text, audio_prompt_path=self._reference)
        return np.clip(np.asarray(wave, np.float32).reshape(1, -1), -1, 1)


class ChatterboxBackend:
    """The backend of Chatterbox: "chatterbox" or "chatterbox:FILE". Satisfies `VoiceBackend`."""

    name = NAME
    mixable = False
    castable = False
    remedy = "pip install chatterbox-tts, then mouthpiece models pull chatterbox"
    converter: Callable[[Path], Path] | None = None

    def is_available(self) -> bool:
        """Tell whether package and weights are on this machine; nothing is loaded."""
        return find_spec(NAME) is not None and is_model_available(NAME)

    def list_voices(self) -> list[VoiceInfo]:
        """List the one row that stands for all recordings."""
        available = self.is_available()
        note = "speaks like a recording: chatterbox:FILE; not on our clock"
        note += "" if available else "; needs: pip install chatterbox-tts, a GPU"
        return [VoiceInfo(NAME, LANGUAGE, "", NAME, available, note)]

    def owns(self, text: str) -> bool:
        """Tell whether a specification is "chatterbox" or "chatterbox:FILE"."""
        return text.partition(":")[0].lower() == NAME

    def parse(self, text: str) -> VoiceSpec:
        """Parse a specification: what follows the colon is the path of the recording."""
        return VoiceSpec(NAME, reference=text.partition(":")[2])

    def get_language(self, spec: VoiceSpec) -> None:
        """Get no language: a text of any language is accepted."""

    def load(self, spec: VoiceSpec, threads: int | None = None) -> Chatterbox:
        """Load the voice of a recording. Raises what Chatterbox raises."""
        return Chatterbox(spec.reference or None)


@cached_model(1)
def _load_model(device: str) -> ChatterboxTTS:
    """Load the pulled model. Raises MissingDependencyError with the commands that get it."""
    if find_spec(NAME) is None:
        raise MissingDependencyError(
            "voice chatterbox: the package chatterbox-tts is not installed.", hint=_HINT, code="no_chatterbox"
        )
    if not is_model_available(NAME):
        raise MissingDependencyError(
            "voice chatterbox: its weights are not on this machine.", hint=_HINT, code="no_chatterbox"
        )
    from chatterbox.tts import ChatterboxTTS

    from mouthpiece.engine.device import choose_device
    from mouthpiece.engine.weights.records import record_model

    for file in get_model_entry(NAME)["files"]:
        path = get_model_folder(NAME) / file["path"]
        if path.suffix != ".json":
            record_model(f"{NAME} {path.stem}", path, get_sha256(path))
    return ChatterboxTTS.from_local(get_model_folder(NAME), str(choose_device(device).device))
