"""Forced alignment: when each word and phone of a known line is said in a recording, and how far that can be believed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from mouthpiece.engine.audio.voice_activity import detect_speech_activity, find_runs
from mouthpiece.engine.encoders.phonetic import PHONES, RATE_HZ, extract_articulation, load_phonetic_encoder
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.voice.asr.recognizers import record_pocketsphinx

TICKS_PER_S = int(ARTICULATION_HZ)
# below this share of phones heard where they should be, text and sound do not belong together
MIN_PHONE_CONFIDENCE = 0.27
MIN_WHISPER_CONFIDENCE = 0.20  # the same for the mean probability whisper gives to the tokens of the text
MIN_SPEECH_S = 0.12  # less speech than this is none
MAX_WHISPER_S = 30  # what whisper hears at once
POCKETSPHINX_FRAME_S = 0.01  # pocketsphinx
# pocketsphinx 5.1.1 loses its way in one of six recordings ("Alignment failed in frame"): narrower beams and other
# margins find it again.
BEAM_RETRIES = ((1e-48, 0.3), (1e-30, 0.3), (1e-30, 0.5), (1e-20, 0.4))  # (beam, seconds of quiet put at both ends)
MIN_PAUSE_FRAMES = 10  # quiet this long at the edge of two words is a pause, not the closure of a stop
FILLER_PREFIXES = "<[(+"  # first letters of what pocketsphinx calls silence and noise
DITHER_AMPLITUDE = 1e-4  # added to the wave: digital silence has no spectrum
MIN_S_PER_LETTER = 0.05  # a word of N letters cannot be said in less than N of these, in the mean
# Kokoro's alphabet in ARPABET, as pocketsphinx and the phonetic encoder name sounds; stress and length are no sounds.
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
    """When the words and phones of a line are said.

    words: (text, start_s, stop_s) in order; empty where nothing could be aligned.
    phones: (ARPABET name without stress, start_s, stop_s) in order, pauses left out; empty where only words are known.
    confidence: 0 to 1; below `TRUST` (pocketsphinx) or `TRUST_WHISPER` the times are guesses: see `ok`.
    method: "pocketsphinx", "whisper" or "none".
    note: why it is not to be believed, a sentence; empty when it is.
    """

    words: tuple = ()
    phones: tuple = ()
    confidence: float = 0.0
    method: str = "none"
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether times and text belong together."""
        return bool(self.words) and not self.note


def align(wave: np.ndarray, text: str, language: str = "en-us", whisper=None) -> Alignment:
    """Alignment of a known line in a recording; silence, music, noise or another text give one with a note, never an
    error.

    wave: (S,) float32 at 16 kHz in [-1, 1], any level.
    text: what is said.
    language: such as "en-us" or "de"; English goes to pocketsphinx and gets phones, the others to whisper and get words
    only.
    whisper: a whisper.model.Whisper for languages other than English; None means not at hand.
    Raises UsageProblem for another shape.
    Source: pocketsphinx two-pass alignment; whisper's cross attention (2212.04356 and whisper.timing); confidence ours.
    """
    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1:
        raise UsageError(f"wave of shape {wave.shape}: need (S,), one channel at 16 kHz.", code="bad_wave")
    said = split_spoken_words(text)
    if not said:
        return Alignment(note="The text has no word to look for.")
    activity = detect_speech_activity(wave) if len(wave) >= RATE_HZ // 10 and np.isfinite(wave).all() else np.zeros(0)
    speech_s = float((activity > 0.5).sum()) / TICKS_PER_S
    if speech_s < MIN_SPEECH_S:
        return Alignment(note=f"The recording ({len(wave) / RATE_HZ:.1f} s) holds no speech: silence, noise or music.")
    letters = sum(len(w) for w in said)
    if letters * MIN_S_PER_LETTER / 2 > speech_s:
        return Alignment(
            note=f"The recording holds {speech_s:.1f} s of speech, too little for the {len(said)} words of the text."
        )
    if language.lower().startswith("en"):
        return _align_english(wave, said, "gb" in language.lower())
    if whisper is None:
        return Alignment(note=f"Lines in '{language}' are aligned by whisper, whose weights are not at hand.")
    return _align_whisper(whisper, wave, " ".join(text.split()), language)


def split_spoken_words(text: str) -> list[str]:
    """Written words that are spoken: what stands between spaces or long dashes and holds a letter or digit."""
    return [w for w in re.split(r"[\s—–]+", text) if any(c.isalnum() for c in w)]


def normalize_word(word: str) -> str:
    """A word without case and punctuation, for comparing: letters, digits and inner apostrophes."""
    return re.sub(r"[^\w']|_", "", word.lower().replace("’", "'")).strip("'")


# -- English ---------------------------------------------------------------------------------------------------------


@cache
def _load_g2p(british: bool):
    from hibari.g2p import G2P

    return G2P(british=british)


def look_up_pronunciation(word: str, british: bool = False) -> str:
    """A word, number or abbreviation in ARPABET, as "N UW N"; empty for what cannot be said.

    word: as written.  british: which accent.
    Source: hibari-tts's G2P.
    """
    return " ".join(ARPABET_OF_PHONE[p] for p in _load_g2p(british)(word) if p in ARPABET_OF_PHONE)


def _align_english(wave: np.ndarray, said: list[str], british: bool) -> Alignment:
    from pocketsphinx import Decoder

    record_pocketsphinx()
    for beam, margin_s in BEAM_RETRIES:
        decoder = Decoder(lm=None, loglevel="FATAL", beam=beam, pbeam=beam, wbeam=beam ** (2 / 3))
        names = _add_words(decoder, said, british)
        if not names:
            return Alignment(note="No word of the text can be pronounced in English.")
        found = _decode(decoder, wave, [name for name, _ in names], margin_s)
        if found:
            break
    else:
        return Alignment(
            method="pocketsphinx", note="Text and recording do not fit each other: no path through the words was found."
        )
    found = _split_at_pauses(found, find_quiet_frames(wave))
    words = tuple((text, parts[0][1], parts[-1][2]) for (_, text), parts in zip(names, found))
    phones = tuple(phone for parts in found for phone in parts)
    confidence = compute_phone_confidence(wave, phones)
    note = (
        ""
        if confidence >= MIN_PHONE_CONFIDENCE
        else f"Only {confidence:.0%} of the phones of the text are heard where they should be: another text?"
    )
    return Alignment(words, phones, round(confidence, 3), "pocketsphinx", note)


def _add_words(decoder, said: list[str], british: bool) -> list[tuple[str, str]]:
    """(name in the decoder's dictionary, written word) of what can be said; numbers and unknown words are added to the
    dictionary.
    """
    names = []
    for k, word in enumerate(said):
        name = normalize_word(word)
        if (
            len(re.findall(r"[\w'’]+", word.strip("'’"))) != 1
            or re.search(r"\d", name)
            or decoder.lookup_word(name) is None
        ):
            name, phones = f"unknown_{k}", look_up_pronunciation(word, british)
            if not phones:
                continue
            decoder.add_word(name, phones, True)
        names.append((name, word))
    return names


def _decode(decoder, wave: np.ndarray, names: list[str], margin_s: float) -> list[list[tuple]] | None:
    """[(phone, start_s, stop_s)] of each word, or None where there is no path."""
    margin = round(margin_s * RATE_HZ)
    padded = (
        np.pad(wave / (np.abs(wave).max() + 1e-6) * 0.5, margin)
        + np.random.default_rng(0).normal(size=len(wave) + 2 * margin) * DITHER_AMPLITUDE
    )
    raw = (np.clip(padded, -1, 1) * 32767).astype(np.int16).tobytes()
    try:
        decoder.set_align_text(" ".join(names))
        for prepare in (lambda: None, decoder.set_alignment):
            prepare()
            decoder.start_utt()
            decoder.process_raw(raw, full_utt=True)
            decoder.end_utt()
        found = [(w.name, [(p.name, p.start, p.duration) for p in w]) for w in decoder.get_alignment()]
    except RuntimeError:
        return None
    longest_s = len(wave) / RATE_HZ

    def at(frame: int) -> float:
        return min(max(0.0, round(frame * POCKETSPHINX_FRAME_S - margin_s, 3)), longest_s)

    timed = [
        [(p, at(start), at(start + length)) for p, start, length in parts]
        for name, parts in found
        if name[0] not in FILLER_PREFIXES
    ]
    return timed if len(timed) == len(names) else None


def find_quiet_frames(wave: np.ndarray) -> np.ndarray:
    """(T,) bool at 100 Hz: frames near the recording's own floor, which is sought below its speaking level.

    wave: (S,) float32 at 16 kHz.
    """
    hop = round(POCKETSPHINX_FRAME_S * RATE_HZ)
    frames = wave[: len(wave) // hop * hop].reshape(-1, hop).astype(np.float64)
    level_db = 10 * np.log10((frames**2).mean(1) + 1e-9)
    low, high = np.quantile(level_db, (0.05, 0.95)) if len(level_db) else (0, 0)
    return level_db < max(low, high - 50) + 0.4 * (high - max(low, high - 50))


def _split_at_pauses(found: list[list[tuple]], quiet: np.ndarray) -> list[list[tuple]]:
    """Words with the pauses between them, where pocketsphinx let a phone last through a pause."""
    for before, after in zip(found, found[1:]):
        (last, a, b), (first, c, d) = before[-1], after[0]
        if b < c:
            continue
        start, stop = round(a / POCKETSPHINX_FRAME_S), round(d / POCKETSPHINX_FRAME_S)
        spans = [(start + i, start + j) for i, j in find_runs(quiet[start:stop]) if j - i >= MIN_PAUSE_FRAMES]
        i, j = max(spans, key=lambda s: s[1] - s[0], default=(0, 0))
        if i < j:
            before[-1] = (last, a, max(i * POCKETSPHINX_FRAME_S, a + POCKETSPHINX_FRAME_S))
            after[0] = (first, min(j * POCKETSPHINX_FRAME_S, d - POCKETSPHINX_FRAME_S), d)
    return found


def compute_phone_confidence(wave: np.ndarray, phones: tuple) -> float:
    """Mean probability, 0 to 1, that the phonetic encoder gives to the phones of an alignment at their times.

    wave: (S,) float32 at 16 kHz.  phones: (name, start_s, stop_s).
    Source: ours; right texts lie near 0.6, others near 0.1 (docs/models/prosody.md).
    """
    posteriors = extract_articulation(load_phonetic_encoder(), wave).phone_posteriors
    shares = []
    for name, start, stop in phones:
        ticks = posteriors[
            int(start * TICKS_PER_S) : max(int(start * TICKS_PER_S) + 1, round(stop * TICKS_PER_S)), PHONES.index(name)
        ]
        shares += ticks.tolist()
    return float(np.mean(shares)) if shares else 0.0


# -- other languages -------------------------------------------------------------------------------------------------


def _align_whisper(model, wave, text, language):
    from whisper.audio import N_SAMPLES, log_mel_spectrogram, pad_or_trim
    from whisper.timing import find_alignment, merge_punctuations
    from whisper.tokenizer import LANGUAGES, get_tokenizer

    code = language.lower().split("-")[0]
    if not model.is_multilingual or code not in LANGUAGES:
        return Alignment(note=f"The whisper weights at hand do not know the language '{language}'.")
    if len(wave) > N_SAMPLES:
        return Alignment(
            note=f"The recording lasts {len(wave) / RATE_HZ:.0f} s; whisper aligns up to {MAX_WHISPER_S} s. Cut it to the line."
        )
    tokenizer = get_tokenizer(True, num_languages=model.num_languages, language=code, task="transcribe")
    tokens = tokenizer.encode(" " + text)
    if len(tokens) + 8 > model.dims.n_text_ctx:
        return Alignment(note=f"The text has {len(tokens)} tokens; whisper aligns up to {model.dims.n_text_ctx - 8}.")
    mel = log_mel_spectrogram(pad_or_trim(wave), model.dims.n_mels)
    found = find_alignment(model, tokenizer, tokens, mel, len(wave) // 160)
    merge_punctuations(found, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
    timed = [
        (t.word.strip(), float(t.start), float(t.end), float(t.probability))
        for t in found
        if any(c.isalnum() for c in t.word)
    ]
    if not timed:
        return Alignment(method="whisper", note="Text and recording do not fit each other: whisper found no word.")
    confidence = float(np.mean([p for *_, p in timed]))
    note = (
        ""
        if confidence >= MIN_WHISPER_CONFIDENCE
        else f"whisper gives the text a probability of {confidence:.0%} a word: another text?"
    )
    return Alignment(
        tuple(_trim_words_to_speech(timed, detect_speech_activity(wave))), (), round(confidence, 3), "whisper", note
    )


def _trim_words_to_speech(timed, activity):
    """Words (text, start_s, stop_s) cut to where speech is: whisper lets a word last through the pause beside it."""
    for text, start, stop, _ in timed:
        a, b = int(start * TICKS_PER_S), max(int(start * TICKS_PER_S) + 1, round(stop * TICKS_PER_S))
        active = np.flatnonzero(activity[a:b] > 0.5)
        yield (
            (text, (a + active[0]) / TICKS_PER_S, (a + active[-1] + 1) / TICKS_PER_S)
            if len(active)
            else (text, start, stop)
        )
