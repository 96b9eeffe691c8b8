"""hibari: the voice that is there right after install, and fast; on our clock too, for its net has the same seams as its teacher's."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from engine.cache import is_verified
from engine.errors import Missing
from engine.warm import kept_warm
from voice.backends.graph import FLOAT, cut
from voice.backends.timed import TimedVoice, session

NAME, LANGUAGE = "hibari", "en-us"
MODEL_SHA256 = "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"
DURATIONS, F0, ENERGY = "/Clip_output_0", "f0", "/Mul_62_output_0"
SPECTRA = ["lh", "theta", "ln", "lr", "phi"]


class Hibari(TimedVoice):
    """The voice of hibari-tts, American English.

    threads: int, or None for what the machine has.
    seed: int, of the noise in its breath and fricatives; the same seed gives the same samples.
    Raises Missing when the package is broken.
    Source: hibari-tts 0.2.1, distilled from Kokoro-82M: the same units, F0 in Hz, energy.
    """

    def __init__(self, threads=None, seed=0):
        super().__init__(NAME, LANGUAGE)
        self._planner, self._speaker = _sessions(threads)
        self._seed = seed

    def _planned(self, ids, speed):
        durations, f0, energy = self._planner.run([DURATIONS, F0, ENERGY], {"ids": ids[None], "speed": np.array([speed], np.float32)})
        return durations, f0[0], energy[0]

    def _spoken(self, ids, durations, f0, energy):
        from hibari import dsp

        shape = dict(zip((DURATIONS, F0, ENERGY), (durations, f0[None], energy[None])))
        spectra = [out[0] for out in self._speaker.run(SPECTRA, {"ids": ids[None]} | shape)]
        return dsp.synth(*spectra, f0, np.random.default_rng(self._seed))


@kept_warm(2)
def _sessions(threads):
    from engine.weights import record  # brings torch with it

    path = Path(find_spec("hibari").submodule_search_locations[0]) / "assets" / "hibari.onnx"
    if not is_verified(path, MODEL_SHA256):
        hint = "Run: pip install --force-reinstall hibari-tts==0.2.1"
        raise Missing(f"{NAME}: {path} is damaged or of another version.", hint=hint, code="bad_weights")
    record(NAME, path, MODEL_SHA256)
    model = path.read_bytes()
    planner = cut(model, {}, [DURATIONS, F0, ENERGY])
    speaker = cut(model, {DURATIONS: (FLOAT, 1), F0: (FLOAT, 2), ENERGY: (FLOAT, 2)}, SPECTRA)
    return session(planner, threads, NAME), session(speaker, threads, NAME)
