"""Whisper as a speech recogniser, with times of words and without what it makes up.

NumPy, torch and whisper are imported on use: the table of recognisers is part of every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.voice.asr.recognizer import RATE_HZ, RecognizedWord
from mouthpiece.voice.asr.wer import get_base_language
from mouthpiece.voice.asr.whisper_weights import INSTALL_HINT, locate_whisper_weights, record_whisper_weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from whisper import DecodingResult, Whisper
    from whisper.tokenizer import Tokenizer

    from mouthpiece.engine.device import Placement

TEMPERATURES = (0.0, 0.2, 0.4, 0.6)  # the next one is tried when an answer repeats itself or is unsure
MAX_COMPRESSION_RATIO = 2.4  # a text that packs better than this repeats itself
MIN_MEAN_LOGPROB = -1.0  # mean log probability of a token; less is a guess
NO_SPEECH_PROBABILITY = 0.6  # whisper's own doubt that anybody speaks
NO_SPEECH_MEAN_LOGPROB = -0.5  # so sure of the words, it is not believed
SCRIPT_PROMPTS = {"hi": "यह हिन्दी में लिखा गया है।"}  # small weights write Hindi in Urdu's letters without an example
_SIZES = {  # layers of the decoder -> (name of the size, width): those whose heads for alignment are known
    4: ("tiny", 384),
    6: ("base", 512),
    12: ("small", 768),
    24: ("medium", 1024),
    32: ("large-v2", 1280),
}


def supports_language(language: str | None) -> bool:
    """Say that any language may be recognised; `check` knows once weights are loaded."""
    return True


def open_whisper(language: str | None, placement: Placement | None, why: str) -> WhisperRecognizer:
    """Open whisper with weights for a language, and record them.

    language: code; None when unknown. English-only weights are passed over for others.
    placement: None is this machine's CPU.
    why: not used: where its weights were found is the reason.
    Raises what locate_whisper_weights and load_whisper raise.
    """
    from mouthpiece.engine.device import choose_device
    from mouthpiece.engine.encoders.whisper import load_whisper

    weights = locate_whisper_weights(language is None or get_base_language(language) == "en")
    placement = placement if placement is not None else choose_device("cpu")
    model = load_whisper(weights.path).to(placement.device)
    recognizer = WhisperRecognizer(model, placement, weights.name, weights.why)
    record_whisper_weights(recognizer.name, weights.path)
    return recognizer


class WhisperRecognizer:
    """Whisper: any of its languages, words with punctuation and times; the same sound gives the same words.

    model: whisper.model.Whisper, on the device of the placement.
    placement: where it runs.
    name: of its weights.
    why: the reason to use it, for people.
    Source: Radford et al. 2022, 2212.04356; word times from its cross-attention (openai/whisper, timing.py).
    """

    def __init__(self, model: Whisper, placement: Placement, name: str = "", why: str = "given") -> None:
        from whisper import _ALIGNMENT_HEADS

        self.model, self.placement, self.why = model, placement, why
        self.name = f"whisper {name}".strip()
        size, width = _SIZES.get(model.dims.n_text_layer, ("", 0))
        heads = _ALIGNMENT_HEADS.get(size if model.is_multilingual else f"{size}.en")
        if heads and model.dims.n_text_state == width:
            model.set_alignment_heads(heads)

    def check(self, language: str | None) -> None:
        """Check that a language can be recognised; None is detected.

        Raises UsageError for a language that whisper does not know, MissingDependencyError for weights that do not
        know it.
        """
        from whisper.tokenizer import LANGUAGES

        code = None if language is None else get_base_language(language)
        if code is not None and code not in LANGUAGES:
            hint = f"Give one of: {' '.join(sorted(LANGUAGES))}."
            raise UsageError(f"--language {language}: whisper does not know it.", hint=hint, code="bad_language")
        if code not in (None, "en") and not self.model.is_multilingual:
            raise MissingDependencyError(
                f"--language {language}: {self.name} knows English alone.", hint=INSTALL_HINT, code="no_recogniser"
            )

    def transcribe(self, wave: np.ndarray, language: str | None = None) -> tuple[tuple[RecognizedWord, ...], str]:
        """Transcribe up to half a minute; return its words in order and its language code.

        wave: (S,) float32 at 16 kHz.
        language: code; None detects it.
        What whisper itself takes for silence, repetitions and mere guesses are left out.
        Source: 2212.04356 section 4.5, on one window; whisper.decoding and whisper.timing.
        """
        import torch
        from whisper.tokenizer import get_tokenizer

        with torch.inference_mode():
            features = self._encode(wave)
            language = get_base_language(language or self._detect_language(features))
            result = self._decode(features, language)
            if not _is_confident(result):
                return (), language
            tokenizer = get_tokenizer(
                self.model.is_multilingual, num_languages=self.model.num_languages, language=language, task="transcribe"
            )
            return self._align_words(features, result.tokens, tokenizer, len(wave)), language

    def _detect_language(self, features: torch.Tensor) -> str:
        if not self.model.is_multilingual:
            return "en"
        _, probabilities = self.model.detect_language(features)
        return max(probabilities, key=probabilities.get)

    def _encode(self, wave: np.ndarray) -> torch.Tensor:
        """Encode 30 s, silence after the sound: (1500, C) float32."""
        import numpy as np
        import torch
        from whisper.audio import N_SAMPLES, log_mel_spectrogram, pad_or_trim

        padded = pad_or_trim(torch.as_tensor(np.ascontiguousarray(wave), dtype=torch.float32), N_SAMPLES)
        mel = log_mel_spectrogram(padded, self.model.dims.n_mels).to(self.model.device)
        with self.placement.autocast():
            return self.model.encoder(mel[None])[0].float()

    def _decode(self, features: torch.Tensor, language: str) -> DecodingResult:
        """Decode at the first temperature at which whisper neither repeats itself nor guesses."""
        import torch
        from whisper import DecodingOptions

        device = self.model.device
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            torch.manual_seed(0)
            for temperature in TEMPERATURES:
                options = DecodingOptions(
                    language=language,
                    temperature=temperature,
                    prompt=SCRIPT_PROMPTS.get(language),
                    without_timestamps=True,
                    fp16=False,
                )
                result = self.model.decode(features, options)
                if result.no_speech_prob > NO_SPEECH_PROBABILITY or _is_confident(result):
                    break
        return result

    def _align_words(
        self, features: torch.Tensor, tokens: list[int], tokenizer: Tokenizer, samples: int
    ) -> tuple[RecognizedWord, ...]:
        """Find the times of the words of tokens by dynamic time warping over whisper's cross-attention."""
        from whisper import timing
        from whisper.audio import HOP_LENGTH

        segment: dict[str, Any] = dict(seek=0, start=0.0, end=samples / RATE_HZ, tokens=tokens)
        original_dtw = timing.dtw  # compiled in every process, on all cores
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
            timing.dtw = original_dtw
        words, last_s = [], 0.0
        for word in segment["words"]:  # whisper may set an end before its start, or before the recording
            start_s = max(last_s, float(word["start"]))
            last_s = max(start_s, float(word["end"]))
            if word["word"].strip():
                words.append(RecognizedWord(word["word"].strip(), start_s, last_s))
        return tuple(words)


def compute_dtw_path(costs: np.ndarray) -> np.ndarray:
    """Compute the cheapest path through a table from corner to corner: (2, L) int, rows and columns.

    costs: (N, M) float. A step goes down, right or both at a time.
    Source: dynamic time warping, as dtw_cpu of whisper/timing.py decides between equals; diagonal by diagonal.
    """
    import numpy as np

    rows, columns = costs.shape
    total, steps = np.full((rows + 1, columns + 1), np.inf), np.full((rows + 1, columns + 1), 2)
    total[0, 0], steps[1:, 0] = 0, 1
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        step = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        total[i, j], steps[i, j] = costs[i - 1, j - 1] + np.choose(step, (both, down, right)), step
    path, at = [], (rows, columns)
    while at != (0, 0):
        path.append((at[0] - 1, at[1] - 1))
        step_back = steps[at]
        at = (at[0] - (step_back != 2), at[1] - (step_back != 1))
    return np.array(path)[::-1].T


class _TimingDecoder:
    """The part of a whisper model that times words, given encoded features instead of a spectrogram."""

    def __init__(self, model: Whisper) -> None:
        self.dims = model.dims
        self.device = model.device
        self.alignment_heads = model.alignment_heads
        self.decoder = model.decoder

    def __call__(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.decoder(tokens, features)


def _is_confident(result: DecodingResult) -> bool:
    """Decide whether whisper is sure that somebody speaks, and of the words."""
    doubtful = result.no_speech_prob > NO_SPEECH_PROBABILITY and result.avg_logprob < NO_SPEECH_MEAN_LOGPROB
    return not doubtful and result.avg_logprob >= MIN_MEAN_LOGPROB and result.compression_ratio <= MAX_COMPRESSION_RATIO
