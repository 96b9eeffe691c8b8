"""Forced alignment of a known line with a recording: times of words and phones, and a confidence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.voice_activity import detect_speech_activity, find_runs
from mouthpiece.engine.encoders.phonetic import PHONES, RATE_HZ, extract_articulation, load_phonetic_encoder
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.voice.asr.pocketsphinx_recognizer import record_pocketsphinx
from mouthpiece.voice.text.g2p import load_english_g2p

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from pocketsphinx import Decoder
    from whisper.model import Whisper

    TimedName: TypeAlias = tuple[str, float, float]  # (word or phone, start_s, stop_s)

TICKS_PER_S = int(ARTICULATION_HZ)
# mean probability of the phones at their times, below which text and recording do not belong together
MIN_PHONE_CONFIDENCE = 0.27
# the same for the mean probability that whisper gives to the tokens of the text
MIN_WHISPER_CONFIDENCE = 0.20
MIN_SPEECH_S = 0.12  # a recording with less speech holds none
MAX_WHISPER_S = 30  # window of whisper
POCKETSPHINX_FRAME_S = 0.01
# (beam, seconds of silence padded to both ends), tried in turn: pocketsphinx 5.1.1 fails to align one of six recordings
# ("Alignment failed in frame"), and narrower beams and other margins help.
BEAM_RETRIES = ((1e-48, 0.3), (1e-30, 0.3), (1e-30, 0.5), (1e-20, 0.4))
MIN_PAUSE_FRAMES = 10  # quiet this long between two words is a pause, not the closure of a stop
FILLER_PREFIXES = "<[(+"  # first letters of pocketsphinx's names for silence and noise
DITHER_AMPLITUDE = 1e-4  # added to the wave: digital silence has no spectrum
MIN_S_PER_LETTER = 0.05  # the fastest mean pace of speech
# Kokoro's alphabet in ARPABET, as pocketsphinx and the phonetic encoder name phones; stress and length are left out.
ARPABET_OF_PHONE = {
    "A": "EY",
    "I": "AY",
    "W": "AW",
    "Y": "OY",
    "O": "OW",
    "Q": "OW",
    "S": "SH",
    "T": "D",
    "ʤ": "JH",
    "ʧ": "CH",
    "ʣ": "D Z",
    "ʦ": "T S",
    "i": "IY",
    "ɪ": "IH",
    "ᵻ": "IH",
    "ɨ": "IH",
    "e": "EH",
    "ɛ": "EH",
    "æ": "AE",
    "a": "AE",
    "ɑ": "AA",
    "ɒ": "AO",
    "ɔ": "AO",
    "ʊ": "UH",
    "u": "UW",
    "ʌ": "AH",
    "ə": "AH",
    "ɐ": "AH",
    "ᵊ": "AH",
    "ɜ": "ER",
    "ɚ": "ER",
    "o": "OW",
    "y": "UW",
    "p": "P",
    "b": "B",
    "t": "T",
    "d": "D",
    "ɾ": "D",
    "k": "K",
    "ɡ": "G",
    "f": "F",
    "v": "V",
    "θ": "TH",
    "ð": "DH",
    "s": "S",
    "z": "Z",
    "ʃ": "SH",
    "ʒ": "ZH",
    "h": "HH",
    "x": "K",
    "m": "M",
    "n": "N",
    "ŋ": "NG",
    "l": "L",
    "ɹ": "R",
    "r": "R",
    "w": "W",
    "j": "Y",
    "ʔ": "T",
}


@dataclass(frozen=True)
class Alignment:
    """Times of the words and phones of a line in a recording.

    words: (text, start_s, stop_s) in order; empty where nothing could be aligned.
    phones: (ARPABET name without stress, start_s, stop_s) in order, pauses left out; empty where only words are known.
    confidence: 0 to 1; below MIN_PHONE_CONFIDENCE (pocketsphinx) or MIN_WHISPER_CONFIDENCE the times are guesses.
    method: "pocketsphinx", "whisper" or "none".
    note: why the times cannot be trusted, a sentence; empty when they can.
    """

    words: tuple[TimedName, ...] = ()
    phones: tuple[TimedName, ...] = ()
    confidence: float = 0.0
    method: str = "none"
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the times can be trusted."""
        return bool(self.words) and not self.note


def align(wave: np.ndarray, text: str, language: str = "en-us", whisper: Whisper | None = None) -> Alignment:
    """Align a known line with a recording; silence, music, noise or another text give a note, never an error.

    wave: (S,) float32 at 16 kHz in [-1, 1], any level.
    language: such as "en-us" or "de"; English is aligned by pocketsphinx, with phones, others by whisper, words only.
    whisper: model for languages other than English; None where it is not available.
    Raises UsageError for another shape.
    Source: pocketsphinx's two-pass alignment; whisper's cross attention (2212.04356 and whisper.timing).
    """
    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1:
        raise UsageError(f"wave of shape {wave.shape}: need (S,), one channel at 16 kHz.", code="bad_wave")
    spoken_words = split_spoken_words(text)
    if not spoken_words:
        return Alignment(note="The text has no word to look for.")
    activity = detect_speech_activity(wave) if len(wave) >= RATE_HZ // 10 and np.isfinite(wave).all() else np.zeros(0)
    speech_s = float((activity > 0.5).sum()) / TICKS_PER_S
    if speech_s < MIN_SPEECH_S:
        return Alignment(note=f"The recording ({len(wave) / RATE_HZ:.1f} s) holds no speech: silence, noise or music.")
    letters = sum(len(word) for word in spoken_words)
    if letters * MIN_S_PER_LETTER / 2 > speech_s:
        words = f"the {len(spoken_words)} words of the text"
        return Alignment(note=f"The recording holds {speech_s:.1f} s of speech, too little for {words}.")
    if language.lower().startswith("en"):
        return _align_english(wave, spoken_words, "gb" in language.lower())
    if whisper is None:
        return Alignment(note=f"Lines in '{language}' are aligned by whisper, whose weights are not available.")
    return _align_whisper(whisper, wave, " ".join(text.split()), language)


def split_spoken_words(text: str) -> list[str]:
    """Split a text into spoken words: what stands between spaces or long dashes and holds a letter or digit."""
    return [w for w in re.split(r"[\s—–]+", text) if any(c.isalnum() for c in w)]


def normalize_word(word: str) -> str:
    """Normalize a word for comparison: lower-case letters, digits and inner apostrophes."""
    return re.sub(r"[^\w']|_", "", word.lower().replace("’", "'")).strip("'")


# -- English ---------------------------------------------------------------------------------------------------------


def look_up_pronunciation(word: str, british: bool = False) -> str:
    """Look up a word, number or abbreviation in ARPABET, as "N UW N"; empty for what cannot be pronounced.

    word: as written.  british: which accent.
    """
    return " ".join(ARPABET_OF_PHONE[p] for p in load_english_g2p(british)(word) if p in ARPABET_OF_PHONE)


def _align_english(wave: np.ndarray, spoken_words: list[str], british: bool) -> Alignment:
    """Align English words by pocketsphinx, with phones."""
    from pocketsphinx import Decoder

    record_pocketsphinx()
    for beam, margin_s in BEAM_RETRIES:
        decoder = Decoder(lm=None, loglevel="FATAL", beam=beam, pbeam=beam, wbeam=beam ** (2 / 3))
        names = _add_words(decoder, spoken_words, british)
        if not names:
            return Alignment(note="No word of the text can be pronounced in English.")
        decoded = _decode(decoder, wave, [name for name, _ in names], margin_s)
        if decoded:
            break
    else:
        note = "Text and recording do not fit each other: no path through the words was found."
        return Alignment(method="pocketsphinx", note=note)
    decoded = _split_at_pauses(decoded, find_quiet_frames(wave))
    words = tuple((text, parts[0][1], parts[-1][2]) for (_, text), parts in zip(names, decoded))
    phones = tuple(phone for parts in decoded for phone in parts)
    confidence, note = compute_phone_confidence(wave, phones), ""
    if confidence < MIN_PHONE_CONFIDENCE:
        note = f"Only {confidence:.0%} of the phones of the text are heard where they should be: another text?"
    return Alignment(words, phones, round(confidence, 3), "pocketsphinx", note)


def _add_words(decoder: Decoder, spoken_words: list[str], british: bool) -> list[tuple[str, str]]:
    """Add numbers and unknown words to the dictionary: [(name in it, written word)] of all that can be pronounced."""
    names = []
    for k, word in enumerate(spoken_words):
        name = normalize_word(word)
        single = len(re.findall(r"[\w'’]+", word.strip("'’"))) == 1
        if not single or re.search(r"\d", name) or decoder.lookup_word(name) is None:
            name, phones = f"unknown_{k}", look_up_pronunciation(word, british)
            if not phones:
                continue
            decoder.add_word(name, phones, True)
        names.append((name, word))
    return names


def _decode(decoder: Decoder, wave: np.ndarray, names: list[str], margin_s: float) -> list[list[TimedName]] | None:
    """Decode words in two passes: [(phone, start_s, stop_s)] of each word, or None where there is no path."""
    margin = round(margin_s * RATE_HZ)
    dither = np.random.default_rng(0).normal(size=len(wave) + 2 * margin) * DITHER_AMPLITUDE
    padded = np.pad(wave / (np.abs(wave).max() + 1e-6) * 0.5, margin) + dither
    raw = (np.clip(padded, -1, 1) * 32767).astype(np.int16).tobytes()
    try:
        decoder.set_align_text(" ".join(names))
        for prepare in (lambda: None, decoder.set_alignment):
            prepare()
            decoder.start_utt()
            decoder.process_raw(raw, full_utt=True)
            decoder.end_utt()
        decoded = [(w.name, [(p.name, p.start, p.duration) for p in w]) for w in decoder.get_alignment()]
    except RuntimeError:
        return None
    longest_s = len(wave) / RATE_HZ

    def to_seconds(frame: int) -> float:
        return min(max(0.0, round(frame * POCKETSPHINX_FRAME_S - margin_s, 3)), longest_s)

    timed = [
        [(phone, to_seconds(start), to_seconds(start + length)) for phone, start, length in phones]
        for name, phones in decoded
        if name[0] not in FILLER_PREFIXES
    ]
    return timed if len(timed) == len(names) else None


def find_quiet_frames(wave: np.ndarray) -> np.ndarray:
    """Find frames near the recording's own noise floor: (T,) bool at 100 Hz.

    wave: (S,) float32 at 16 kHz.
    """
    hop = round(POCKETSPHINX_FRAME_S * RATE_HZ)
    frames = wave[: len(wave) // hop * hop].reshape(-1, hop).astype(np.float64)
    level_db = 10 * np.log10((frames**2).mean(1) + 1e-9)
    low, high = np.quantile(level_db, (0.05, 0.95)) if len(level_db) else (0, 0)
    return level_db < max(low, high - 50) + 0.4 * (high - max(low, high - 50))


def _split_at_pauses(words: list[list[TimedName]], quiet: np.ndarray) -> list[list[TimedName]]:
    """Cut pauses out of the phones at the edges of words, where pocketsphinx let a phone last through a pause.

    words: phones of each word, changed in place.  quiet: (T,) of `find_quiet_frames`.
    """
    for before, after in zip(words, words[1:]):
        (last, a, b), (first, c, d) = before[-1], after[0]
        if b < c:
            continue
        start, stop = round(a / POCKETSPHINX_FRAME_S), round(d / POCKETSPHINX_FRAME_S)
        spans = [(start + i, start + j) for i, j in find_runs(quiet[start:stop]) if j - i >= MIN_PAUSE_FRAMES]
        i, j = max(spans, key=lambda s: s[1] - s[0], default=(0, 0))
        if i < j:
            before[-1] = (last, a, max(i * POCKETSPHINX_FRAME_S, a + POCKETSPHINX_FRAME_S))
            after[0] = (first, min(j * POCKETSPHINX_FRAME_S, d - POCKETSPHINX_FRAME_S), d)
    return words


def compute_phone_confidence(wave: np.ndarray, phones: Sequence[TimedName]) -> float:
    """Compute the mean probability, 0 to 1, that the phonetic encoder gives to aligned phones at their times.

    wave: (S,) float32 at 16 kHz.  phones: (name, start_s, stop_s).
    Right texts lie near 0.6, others near 0.1 (docs/models/prosody.md).
    """
    posteriors = extract_articulation(load_phonetic_encoder(), wave).phone_posteriors
    probabilities = []
    for name, start_s, stop_s in phones:
        start = int(start_s * TICKS_PER_S)
        stop = max(start + 1, round(stop_s * TICKS_PER_S))
        probabilities += posteriors[start:stop, PHONES.index(name)].tolist()
    return float(np.mean(probabilities)) if probabilities else 0.0


# -- other languages -------------------------------------------------------------------------------------------------


def _align_whisper(model: Whisper, wave: np.ndarray, text: str, language: str) -> Alignment:
    """Align words by whisper's cross attention."""
    from whisper.audio import N_SAMPLES, log_mel_spectrogram, pad_or_trim
    from whisper.timing import find_alignment, merge_punctuations
    from whisper.tokenizer import LANGUAGES, get_tokenizer

    code = language.lower().split("-")[0]
    if not model.is_multilingual or code not in LANGUAGES:
        return Alignment(note=f"The available whisper weights do not know the language '{language}'.")
    if len(wave) > N_SAMPLES:
        lasts = f"The recording lasts {len(wave) / RATE_HZ:.0f} s"
        return Alignment(note=f"{lasts}; whisper aligns up to {MAX_WHISPER_S} s. Cut it to the line.")
    tokenizer = get_tokenizer(True, num_languages=model.num_languages, language=code, task="transcribe")
    tokens = tokenizer.encode(" " + text)
    if len(tokens) + 8 > model.dims.n_text_ctx:
        return Alignment(note=f"The text has {len(tokens)} tokens; whisper aligns up to {model.dims.n_text_ctx - 8}.")
    mel = log_mel_spectrogram(pad_or_trim(wave), model.dims.n_mels)
    timings = find_alignment(model, tokenizer, tokens, mel, len(wave) // 160)
    merge_punctuations(timings, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
    timed = [
        (t.word.strip(), float(t.start), float(t.end), float(t.probability))
        for t in timings
        if any(c.isalnum() for c in t.word)
    ]
    if not timed:
        return Alignment(method="whisper", note="Text and recording do not fit each other: whisper found no word.")
    confidence, note = float(np.mean([probability for *_, probability in timed])), ""
    if confidence < MIN_WHISPER_CONFIDENCE:
        note = f"whisper gives the text a probability of {confidence:.0%} a word: another text?"
    activity = detect_speech_activity(wave)
    words = tuple(_trim_to_speech(text, start_s, stop_s, activity) for text, start_s, stop_s, _ in timed)
    return Alignment(words, (), round(confidence, 3), "whisper", note)


def _trim_to_speech(text: str, start_s: float, stop_s: float, activity: np.ndarray) -> TimedName:
    """Trim a word to its speech: whisper lets a word last through the pause beside it. activity: (T,) at 50 Hz."""
    start = int(start_s * TICKS_PER_S)
    stop = max(start + 1, round(stop_s * TICKS_PER_S))
    active = np.flatnonzero(activity[start:stop] > 0.5)
    if not len(active):
        return text, start_s, stop_s
    return text, (start + active[0]) / TICKS_PER_S, (start + active[-1] + 1) / TICKS_PER_S
