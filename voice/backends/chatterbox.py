"""Chatterbox behind the same door: speaks text in the voice of a recording, in its own time; for a GPU, where its package is installed."""

from importlib.util import find_spec

import numpy as np

from engine.cache import digest_of
from engine.errors import Missing, UsageProblem
from engine.files import input_file
from engine.pull import at_hand, entry_of, model_path
from engine.warm import kept_warm
from voice.plan import RATE_HZ

NAME, LANGUAGE = "chatterbox", "en-us"
_REMEDY = "Run: pip install chatterbox-tts, then: mouthpiece models pull chatterbox. Or use --voice hibari."


class Chatterbox:
    """A voice that clones a recording; its lines cannot be planned.

    reference: path of a recording of the voice, or None for the model's own.
    device: as for engine.device.choose_device.
    Raises Missing when the package or its weights are not there, Refused for an unreadable recording.
    Source: Resemble AI, Chatterbox (MIT).
    """

    timed = False
    rate_hz = RATE_HZ
    language = LANGUAGE

    def __init__(self, reference=None, device="auto"):
        self.name = NAME if reference is None else f"{NAME}:{reference}"
        self._reference = None if reference is None else str(input_file(reference, "recording of a voice"))
        self._model = _loaded(device)

    def natural(self, utterance, speed=1.0):
        """Raises UsageProblem: this voice tells no times beforehand."""
        raise UsageProblem(f"voice {self.name}: it cannot be planned.", hint="Use say(utterance), or a voice of Kokoro or hibari.", code="untimed")

    speak = natural

    def say(self, utterance, seed=0):
        """The utterance as sound: (1, S) float32 in [-1, 1] at 24 kHz, as long as the voice takes.

        utterance: voice.phones.Utterance; its text is spoken.  seed: int; the same seed gives the same samples on the same machine.
        Source: Chatterbox's generate.
        """
        import torch

        devices = [self._model.device] if str(self._model.device) != "cpu" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            wave = self._model.generate(utterance.text, audio_prompt_path=self._reference)
        return np.clip(np.asarray(wave, np.float32).reshape(1, -1), -1, 1)


def installed():
    """Whether package and weights are there; nothing is loaded. Source: ours."""
    return find_spec(NAME) is not None and at_hand(NAME)


@kept_warm(1)
def _loaded(device):
    if find_spec(NAME) is None:
        raise Missing("voice chatterbox: the package chatterbox-tts is not installed.", hint=_REMEDY, code="no_chatterbox")
    if not at_hand(NAME):
        raise Missing("voice chatterbox: its weights are not on this machine.", hint=_REMEDY, code="no_chatterbox")
    from chatterbox.tts import ChatterboxTTS

    from engine.device import choose_device
    from engine.weights import record

    for file in entry_of(NAME)["files"]:
        path = model_path(NAME) / file["path"]
        if path.suffix != ".json":
            record(f"{NAME} {path.stem}", path, digest_of(path))
    return ChatterboxTTS.from_local(model_path(NAME), str(choose_device(device).device))
