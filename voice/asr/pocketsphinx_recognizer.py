"""Pocketsphinx as a speech recogniser of English."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.weights.records import record_packaged_model
from mouthpiece.voice.asr.recognizer import RecognizedWord
from mouthpiece.voice.asr.wer import get_base_language
from mouthpiece.voice.asr.whisper_weights import INSTALL_HINT

if TYPE_CHECKING:
    import numpy as np
    from pocketsphinx import Decoder

    from mouthpiece.engine.device import Placement

FRAME_S = 0.01
PCM_PEAK = 16_384  # every piece is brought to this level
ACOUSTIC_FILES = tuple(f"en-us/{part}" for part in ("mdef", "means", "variances", "sendump", "transition_matrices"))
LANGUAGE_MODEL = "en-us.lm.bin"


def supports_language(language: str | None) -> bool:
    """Say whether a language is English, or unknown."""
    return language is None or get_base_language(language) == "en"


def open_pocketsphinx(language: str | None, placement: Placement | None, why: str) -> PocketsphinxRecognizer:
    """Open pocketsphinx. why: the reason to use it; language and placement do not matter to it."""
    return PocketsphinxRecognizer(why)


def record_pocketsphinx(*files: str) -> None:
    """Record pocketsphinx's acoustic model of English in the model record of the job, and more of its files.

    files: paths in its folder of models.
    """
    record_packaged_model("pocketsphinx", [f"model/en-us/{file}" for file in (*ACOUSTIC_FILES, *files)])


class PocketsphinxRecognizer:
    """Pocketsphinx with its own general language model: English, lower case, no punctuation.

    why: the reason to use it, for people.
    Source: CMU Sphinx.
    """

    name = "pocketsphinx"

    def __init__(self, why: str = "given") -> None:
        self.why = why
        self._decoder: Decoder | None = None

    def check(self, language: str | None) -> None:
        """Check that a language is English or unknown. Raises MissingDependencyError."""
        if not supports_language(language):
            raise MissingDependencyError(
                f"--language {language}: pocketsphinx knows English alone.", hint=INSTALL_HINT, code="no_recogniser"
            )

    def transcribe(self, wave: np.ndarray, language: str | None = None) -> tuple[tuple[RecognizedWord, ...], str]:
        """Transcribe a piece of English; return its words in order and "en".

        wave: (S,) float32 at 16 kHz, any level.
        """
        import numpy as np  # on use: the table of recognisers is part of every start
        from pocketsphinx import Decoder

        record_pocketsphinx(LANGUAGE_MODEL)
        decoder = self._decoder = self._decoder or Decoder(loglevel="FATAL")
        peak = float(np.abs(wave).max(initial=0.0))
        pcm = (np.asarray(wave) / max(peak, 1e-6) * PCM_PEAK).astype(np.int16)
        decoder.start_utt()
        decoder.process_raw(pcm.tobytes(), full_utt=True)
        decoder.end_utt()
        words = []
        for segment in decoder.seg() or ():
            text = segment.word.split("(")[0]
            if text and text[0] not in "<[+":
                words.append(RecognizedWord(text, segment.start_frame * FRAME_S, (segment.end_frame + 1) * FRAME_S))
        return tuple(words), "en"
