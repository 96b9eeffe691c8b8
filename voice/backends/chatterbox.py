"""Chatterbox behind the same door: speaks text in the voice of a recording, in its own time; for a GPU, where its
package is installed.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.files import check_input_file
from mouthpiece.engine.weights.download import get_model_entry, get_model_folder, is_model_available
from mouthpiece.engine.weights.file_cache import get_sha256
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.voice.plan.speech_plan import VOICE_RATE_HZ

NAME, LANGUAGE = "chatterbox", "en-us"
_REMEDY = "Run: pip install chatterbox-tts, then: mouthpiece models pull chatterbox. Or use --voice hibari."


class Chatterbox:
    """A voice that clones a recording; its lines cannot be planned.

    reference: path of a recording of the voice, or None for the model's own.
    device: as for mouthpiece.engine.device.choose_device.
    Raises Missing when the package or its weights are not there, Refused for an unreadable recording.
    Source: Resemble AI, Chatterbox (MIT).
    """

    timed = False
    rate_hz = VOICE_RATE_HZ
    language = LANGUAGE

    def __init__(self, reference=None, device: str = "auto") -> None:
        self.name = NAME if reference is None else f"{NAME}:{reference}"
        self._reference = None if reference is None else str(check_input_file(reference, "recording of a voice"))
        self._model = _load_model(device)

    def predict_plan(self, utterance, speed: float = 1.0):
        """Raises UsageProblem: this voice tells no times beforehand."""
        raise UsageError(
            f"voice {self.name}: it cannot be planned.",
            hint="Use say(utterance), or a voice of Kokoro or hibari.",
            code="untimed",
        )

    speak = predict_plan

    def speak_utterance(self, utterance, seed: int = 0):
        """The utterance as sound: (1, S) float32 in [-1, 1] at 24 kHz, as long as the voice takes.

        utterance: mouthpiece.voice.text.phones.Utterance; its text is spoken.  seed: int; the same seed gives the same
        samples on the same machine.
        Source: Chatterbox's generate.
        """
        import torch

        devices = [self._model.device] if str(self._model.device) != "cpu" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            wave = self._model.generate(utterance.text, audio_prompt_path=self._reference)
        return np.clip(np.asarray(wave, np.float32).reshape(1, -1), -1, 1)


def is_installed() -> bool:
    """Whether package and weights are there; nothing is loaded."""
    return find_spec(NAME) is not None and is_model_available(NAME)


@cached_model(1)
def _load_model(device: str) -> None:
    if find_spec(NAME) is None:
        raise MissingDependencyError(
            "voice chatterbox: the package chatterbox-tts is not installed.", hint=_REMEDY, code="no_chatterbox"
        )
    if not is_model_available(NAME):
        raise MissingDependencyError(
            "voice chatterbox: its weights are not on this machine.", hint=_REMEDY, code="no_chatterbox"
        )
    from chatterbox.tts import ChatterboxTTS

    from mouthpiece.engine.device import choose_device
    from mouthpiece.engine.weights.loading import record_model

    for file in get_model_entry(NAME)["files"]:
        path = get_model_folder(NAME) / file["path"]
        if path.suffix != ".json":
            record_model(f"{NAME} {path.stem}", path, get_sha256(path))
    return ChatterboxTTS.from_local(get_model_folder(NAME), str(choose_device(device).device))
