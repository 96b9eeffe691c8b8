"""Kokoro-82M on our clock: its graph cut in two, a planner (phones to times, melody, loudness) and a speaker of such plans."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from safetensors import safe_open

from engine.cache import cache_folder, is_verified
from engine.errors import Missing
from engine.files import replacing, sha256_of
from engine.pull import FOLDER, entry_of, model_file
from engine.warm import kept_warm
from voice.backends.graph import FLOAT, cut
from voice.backends.timed import TimedVoice, session

NAME = "kokoro"
CUT_VERSION = 1                        # raise it when the cut below changes: files in caches are made anew
STYLES = Path(__file__).parents[1] / "styles" / "kokoro.safetensors"
STYLES_SHA256 = "77341eb74e302f7cd818e1af188be26bc8dbf2057335fd5e05e19a160bf32492"
DURATIONS, F0, ENERGY = "/encoder/Clip_output_0", "/encoder/Squeeze_output_0", "/encoder/Squeeze_1_output_0"
LANGUAGES = {"a": "en-us", "b": "en-gb", "e": "es", "f": "fr", "h": "hi", "i": "it", "j": "ja", "p": "pt-br", "z": "zh"}
GENDERS = {"f": "female", "m": "male"}


class Kokoro(TimedVoice):
    """A voice of Kokoro, or a mix of several.

    name: as asked for.  language: such as "en-us".
    style: (510, 256) float32, one row a number of phones, from 1.
    threads: int, or None for what the machine has.
    Raises Missing or Refused when the model is not there or not whole.
    Source: hexgrad, Kokoro-82M; cut where durations, F0 and energy appear.
    """

    def __init__(self, name, language, style, threads=None):
        super().__init__(name, language)
        self._style = style
        self._planner, self._speaker = _sessions(threads)

    def _planned(self, ids, speed):
        given = {"tokens": ids[None], "style": self._row(ids), "speed": np.array([speed], np.float32)}
        return [out[0] for out in self._planner.run([DURATIONS, F0, ENERGY], given)]

    def _spoken(self, ids, durations, f0, energy):
        given = {"tokens": ids[None], "style": self._row(ids), DURATIONS: durations[None], F0: f0[None], ENERGY: energy[None]}
        return self._speaker.run(None, given)[0].reshape(-1)

    def _row(self, ids):
        return self._style[min(len(ids) - 2, len(self._style)) - 1][None]


@cache
def names():
    """The voices whose styles ship with the package, sorted: a list. Source: npm kokoro-js 1.2.1."""
    with safe_open(STYLES, framework="np") as file:
        return sorted(file.keys())


def mixed_style(weights):
    """The convex mix of styles: (510, 256) float32.

    weights: dict, voice name -> share; the shares sum to one.
    Raises Missing when the file of styles is another than was shipped.
    Source: StyleTTS 2 styles are vectors; their mixes are voices.
    """
    if not is_verified(STYLES, STYLES_SHA256):
        raise Missing(f"styles of the voices: {STYLES} is not the file that was shipped.", hint="Install mouthpiece again.", code="bad_weights")
    with safe_open(STYLES, framework="np") as file:
        return sum(np.float32(share) * file.get_tensor(name).astype(np.float32) for name, share in weights.items())


@kept_warm(2)
def _sessions(threads):
    planner, speaker = cut_files()
    return session(planner, threads, NAME), session(speaker, threads, NAME)


def cut_files():
    """The two halves of the verified model, cut once and kept in the cache: paths of planner and speaker.

    Raises Missing with the command that helps, Refused for a damaged model, WriteFailed for the disk.
    Source: ours.
    """
    from engine.weights import record  # brings torch with it

    source = model_file(NAME)
    record(NAME, source, entry_of(NAME)["files"][0]["sha256"])
    folder = cache_folder(FOLDER, NAME, f"cut-{CUT_VERSION}")
    halves, ledger = (folder / "planner.onnx", folder / "speaker.onnx"), folder / "sha256.json"
    try:
        known = json.loads(ledger.read_text(encoding="utf-8"))
        if all(is_verified(path, known[path.name]) for path in halves):
            return halves
    except (OSError, ValueError, KeyError, TypeError):
        pass                           # nothing there yet, or not ours: made anew below
    model = source.read_bytes()
    graphs = cut(model, {}, [DURATIONS, F0, ENERGY]), cut(model, dict.fromkeys((DURATIONS, F0, ENERGY), (FLOAT, 2)), ["audio"])
    for path, graph in zip(halves, graphs):
        with replacing(path, overwrite=True) as part:
            part.write_bytes(graph)
    with replacing(ledger, overwrite=True) as part:
        part.write_text(json.dumps({path.name: sha256_of(path) for path in halves}), encoding="utf-8")
    return halves
