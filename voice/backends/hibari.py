"""The voice of hibari-tts, always installed and fast; its graph is split into a planner and a speaker of plans."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.weights.digests import is_verified
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.voice.backends.backend import VoiceInfo, VoiceSpec, parse_mix, split_mix
from mouthpiece.voice.backends.onnx_subgraph import FLOAT, extract_subgraph
from mouthpiece.voice.backends.timed_voice import TimedVoice, open_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxruntime import InferenceSession

NAME = "hibari"
LANGUAGE = "en-us"
MODEL_SHA256 = "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"
# Names of the graph's edges at which it is split.
DURATIONS = "/Clip_output_0"
F0 = "f0"
ENERGY = "/Mul_62_output_0"
SPECTRUM_OUTPUTS = ["lh", "theta", "ln", "lr", "phi"]


class Hibari(TimedVoice):
    """Speak with the voice of hibari-tts, American English.

    threads: int, or None for what the machine has.
    seed: int, of the noise in breath and fricatives; the same seed gives the same samples.
    Raises MissingDependencyError when the package is broken.
    Source: hibari-tts 0.2.1, distilled from Kokoro-82M: the same units, F0 in Hz, energy.
    """

    def __init__(self, threads: int | None = None, seed: int = 0) -> None:
        super().__init__(NAME, LANGUAGE)
        self._planner, self._speaker = _load_sessions(threads)
        self._seed = seed

    def _predict_prosody(self, ids: np.ndarray, speed: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        durations, f0, energy = self._planner.run(
            [DURATIONS, F0, ENERGY], {"ids": ids[None], "speed": np.array([speed], np.float32)}
        )
        return durations, f0[0], energy[0]

    def _synthesize(self, ids: np.ndarray, durations: np.ndarray, f0: np.ndarray, energy: np.ndarray) -> np.ndarray:
        from hibari import dsp

        shape = dict(zip((DURATIONS, F0, ENERGY), (durations, f0[None], energy[None])))
        spectra = [out[0] for out in self._speaker.run(SPECTRUM_OUTPUTS, {"ids": ids[None]} | shape)]
        return dsp.synth(*spectra, f0, np.random.default_rng(self._seed))


class HibariBackend:
    """The backend of hibari: one voice, always available. Satisfies `VoiceBackend`."""

    name = NAME
    mixable = False
    castable = False
    remedy = ""
    converter: Callable[[Path], Path] | None = None

    def is_available(self) -> bool:
        """Tell whether the voice can speak: always."""
        return True

    def list_voices(self) -> list[VoiceInfo]:
        """List the one voice."""
        note = "always there; fast; speaker not named (made after af_heart)"
        return [VoiceInfo(NAME, LANGUAGE, "female", NAME, True, note)]

    def owns(self, text: str) -> bool:
        """Tell whether a specification names this voice alone."""
        return {name for name, _ in split_mix(text)} == {NAME}

    def parse(self, text: str) -> VoiceSpec:
        """Parse "hibari". Raises UsageError for a share that makes no sense."""
        return VoiceSpec(NAME, parse_mix(text))

    def get_language(self, spec: VoiceSpec) -> str:
        """Get "en-us"."""
        return LANGUAGE

    def load(self, spec: VoiceSpec, threads: int | None = None) -> Hibari:
        """Load the voice. Raises MissingDependencyError when the package is broken."""
        return Hibari(threads)


@cached_model(2)
def _load_sessions(threads: int | None) -> tuple[InferenceSession, InferenceSession]:
    """Load the (planner, speaker) sessions. Raises MissingDependencyError when the package is broken."""
    from mouthpiece.engine.weights.records import record_model

    spec = find_spec("hibari")
    assert spec is not None and spec.submodule_search_locations  # a dependency of the package
    path = Path(spec.submodule_search_locations[0]) / "assets" / "hibari.onnx"
    if not is_verified(path, MODEL_SHA256):
        hint = "Run: pip install --force-reinstall hibari-tts==0.2.1"
        raise MissingDependencyError(f"{NAME}: {path} is damaged or of another version.", hint=hint, code="bad_weights")
    record_model(NAME, path, MODEL_SHA256)
    model = path.read_bytes()
    planner = extract_subgraph(model, {}, [DURATIONS, F0, ENERGY])
    speaker = extract_subgraph(model, {DURATIONS: (FLOAT, 1), F0: (FLOAT, 2), ENERGY: (FLOAT, 2)}, SPECTRUM_OUTPUTS)
    return open_session(planner, threads, NAME), open_session(speaker, threads, NAME)
