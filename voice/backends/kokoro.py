"""Kokoro-82M as a timed voice: its graph is split into a planner (durations, F0, energy) and a speaker of plans."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.files import atomic_write, compute_sha256
from mouthpiece.engine.folders import make_cache_folder
from mouthpiece.engine.weights.digests import is_verified
from mouthpiece.engine.weights.download import MODELS_FOLDER, get_model_entry, get_model_file, is_model_available
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.voice.backends.backend import VoiceInfo, VoiceSpec, parse_mix, split_mix
from mouthpiece.voice.backends.onnx_subgraph import FLOAT, extract_subgraph
from mouthpiece.voice.backends.timed_voice import TimedVoice, open_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxruntime import InferenceSession

NAME = "kokoro"
# of the split below; raise it when that changes: cached halves are made anew
SPLIT_VERSION = 1
STYLES_FILE = Path(__file__).parents[1] / "styles" / "kokoro.safetensors"
STYLES_SHA256 = "77341eb74e302f7cd818e1af188be26bc8dbf2057335fd5e05e19a160bf32492"
# Names of the graph's edges at which it is split.
DURATIONS = "/encoder/Clip_output_0"
F0 = "/encoder/Squeeze_output_0"
ENERGY = "/encoder/Squeeze_1_output_0"
LANGUAGE_OF_LETTER = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr",
    "h": "hi",
    "i": "it",
    "j": "ja",
    "p": "pt-br",
    "z": "zh",
}
GENDER_OF_LETTER = {"f": "female", "m": "male"}


class Kokoro(TimedVoice):
    """Speak with a voice of Kokoro, or a mix of several.

    name: as asked for.  language: such as "en-us".
    style: (510, 256) float32, row N - 1 for an utterance of N phones.
    threads: int, or None for what the machine has.
    Raises MissingDependencyError when the model is not there, InvalidInputError when it is damaged.
    Source: hexgrad, Kokoro-82M; split where durations, F0 and energy appear.
    """

    def __init__(self, name: str, language: str, style: np.ndarray, threads: int | None = None) -> None:
        super().__init__(name, language)
        self._style = style
        self._planner, self._speaker = _load_sessions(threads)

    def _predict_prosody(self, ids: np.ndarray, speed: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        given = {"tokens": ids[None], "style": self._get_style_row(ids), "speed": np.array([speed], np.float32)}
        durations, f0, energy = self._planner.run([DURATIONS, F0, ENERGY], given)
        return durations[0], f0[0], energy[0]

    def _synthesize(self, ids: np.ndarray, durations: np.ndarray, f0: np.ndarray, energy: np.ndarray) -> np.ndarray:
        given = {
            "tokens": ids[None],
            "style": self._get_style_row(ids),
            DURATIONS: durations[None],
            F0: f0[None],
            ENERGY: energy[None],
        }
        return self._speaker.run(None, given)[0].reshape(-1)

    def _get_style_row(self, ids: np.ndarray) -> np.ndarray:
        return self._style[min(len(ids) - 2, len(self._style)) - 1][None]


@cache
def list_names() -> list[str]:
    """List the voices whose styles ship with the package, sorted. Source: npm kokoro-js 1.2.1."""
    with safe_open(STYLES_FILE, framework="np") as file:
        return sorted(file.keys())


def mix_styles(weights: dict[str, float]) -> np.ndarray:
    """Mix styles convexly: (510, 256) float32.

    weights: voice name -> share; the shares sum to one.
    Raises MissingDependencyError when the file of styles is not the shipped one.
    Source: StyleTTS 2 styles are vectors; their mixes are voices.
    """
    if not is_verified(STYLES_FILE, STYLES_SHA256):
        raise MissingDependencyError(
            f"styles of the voices: {STYLES_FILE} is not the file that was shipped.",
            hint="Install mouthpiece again.",
            code="bad_weights",
        )
    with safe_open(STYLES_FILE, framework="np") as file:
        return sum(np.float32(share) * file.get_tensor(name).astype(np.float32) for name, share in weights.items())


def convert_pulled_model(folder: Path) -> Path:
    """Split the pulled model into planner and speaker, once; the folder of both. folder: where the model lies."""
    return split_model()[0].parent


class KokoroBackend:
    """The backend of Kokoro-82M: its listed voices and their mixes. Satisfies `VoiceBackend`."""

    name = NAME
    mixable = True
    castable = True
    remedy = "mouthpiece models pull kokoro"
    converter: Callable[[Path], Path] | None = staticmethod(convert_pulled_model)

    def is_available(self) -> bool:
        """Tell whether the model is on this machine; nothing is loaded."""
        return is_model_available(NAME)

    def list_voices(self) -> list[VoiceInfo]:
        """List the voices; the first letter of a name is its language, the second its gender."""
        available = self.is_available()
        note = "speaker not named" if available else f"speaker not named; needs: {self.remedy}"
        return [
            VoiceInfo(name, LANGUAGE_OF_LETTER[name[0]], GENDER_OF_LETTER[name[1]], NAME, available, note)
            for name in list_names()
        ]

    def owns(self, text: str) -> bool:
        """Tell whether a specification names listed voices only."""
        return {name for name, _ in split_mix(text)} <= set(list_names())

    def parse(self, text: str) -> VoiceSpec:
        """Parse a voice or mix. Raises UsageError for shares that make no sense."""
        return VoiceSpec(NAME, parse_mix(text))

    def get_language(self, spec: VoiceSpec) -> str:
        """Get the language of the voice with the largest share."""
        return LANGUAGE_OF_LETTER[spec.main_voice[0]]

    def load(self, spec: VoiceSpec, threads: int | None = None) -> Kokoro:
        """Load a voice or mix.

        Raises MissingDependencyError where model or styles are not there, InvalidInputError for a damaged model.
        """
        mixed = "+".join(f"{name}:{share:.4g}" for name, share in spec.shares)
        name = spec.main_voice if len(spec.shares) == 1 else mixed
        try:
            return Kokoro(name, self.get_language(spec), mix_styles(dict(spec.shares)), threads)
        except MissingDependencyError as error:
            hint = f"{error.hint} Or use --voice hibari, which is always there."
            raise MissingDependencyError(error.message, hint=hint, code=error.code) from error


@cached_model(2)
def _load_sessions(threads: int | None) -> tuple[InferenceSession, InferenceSession]:
    """Load the (planner, speaker) sessions. Raises as `split_model`."""
    planner, speaker = split_model()
    return open_session(planner, threads, NAME), open_session(speaker, threads, NAME)


def split_model() -> tuple[Path, Path]:
    """Split the verified model into planner and speaker, once; their paths in the cache.

    Raises MissingDependencyError with the command that helps, InvalidInputError for a damaged model, OutputError for
    the disk.
    """
    from mouthpiece.engine.weights.records import record_model

    source = get_model_file(NAME)
    record_model(NAME, source, get_model_entry(NAME)["files"][0]["sha256"])
    folder = make_cache_folder(MODELS_FOLDER, NAME, f"cut-{SPLIT_VERSION}")
    halves, ledger = (folder / "planner.onnx", folder / "speaker.onnx"), folder / "sha256.json"
    try:
        known = json.loads(ledger.read_text(encoding="utf-8"))
        if all(is_verified(path, known[path.name]) for path in halves):
            return halves
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing there yet, or not ours: made anew below
    model = source.read_bytes()
    graphs = (
        extract_subgraph(model, {}, [DURATIONS, F0, ENERGY]),
        extract_subgraph(model, dict.fromkeys((DURATIONS, F0, ENERGY), (FLOAT, 2)), ["audio"]),
    )
    for path, graph in zip(halves, graphs):
        with atomic_write(path, overwrite=True) as part:
            part.write_bytes(graph)
    with atomic_write(ledger, overwrite=True) as part:
        part.write_text(json.dumps({path.name: compute_sha256(path) for path in halves}), encoding="utf-8")
    return halves
