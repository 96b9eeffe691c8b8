"""Transcription of recordings of any length: only where somebody speaks, cut at pauses, in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.audio.voice_activity import FRAME_SAMPLES, detect_voiced_frames, find_runs
from mouthpiece.engine.media.reading import open_sound_stream
from mouthpiece.engine.timeline import merge_spans
from mouthpiece.voice.asr.recognizer import RATE_HZ, RecognizedWord
from mouthpiece.voice.asr.recognizers import open_recognizer
from mouthpiece.voice.asr.wer import WordErrors, count_word_errors, get_base_language, join_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from whisper import Whisper

    from mouthpiece.engine.device import Placement
    from mouthpiece.voice.asr.recognizer import Recognizer

CHUNK_S = 120  # sound held in memory at once
WINDOW_S = 28.0  # recognised at once; whisper takes 30
MAX_JOINED_GAP_S = 0.3  # shorter pauses do not part stretches of speech
PAD_S = 0.25  # recognised before and after what the detector takes for speech
TRIM_S = PAD_S - 0.1  # of that belongs to no word: whisper lets the first word begin with the silence before it
MIN_SPEECH_S = 0.1  # less is a click
MAX_WINDOW_GAP_S = 5.0  # what lies further apart is recognised apart
LOOK_BACK_S = 10.0  # where a stretch without pause is cut: at the quietest place in its last seconds
PHRASE_PAUSE_S = 1.0  # a pause this long parts phrases
MAX_OUTSIDE_S = 0.3  # a word this far from all speech was made up
_SENTENCE_ENDS = ".?!…。？！"

Region = tuple[int, int]  # (from, to) samples at 16 kHz in which somebody speaks


@dataclass(frozen=True)
class TranscribedPhrase:
    """A piece of speech without a long pause.

    text: its words.
    start_s, stop_s: seconds from the start of the recording.
    words: RecognizedWords with times of the recording.
    language: code, as asked for or as detected.
    """

    text: str
    start_s: float
    stop_s: float
    words: tuple[RecognizedWord, ...] = field(repr=False, default=())
    language: str = "en"


@dataclass(frozen=True)
class IntelligibilityCheck:
    """What a recogniser understood of a spoken line.

    text: what was recognised.
    error: WordErrors against what should be there.
    lost_words: words that were not recognised, nor anything that sounds like them.
    ok: True when none was lost.
    """

    text: str
    error: WordErrors = field(repr=False)
    lost_words: tuple[str, ...]
    ok: bool

    def as_dict(self) -> dict[str, Any]:
        """Convert to a JSON-ready dict: heard, wer, lost, ok."""
        return {"heard": self.text, "wer": round(self.error.rate, 4), "lost": list(self.lost_words), "ok": self.ok}


class Transcriber:
    """Transcribe recordings of any length with a recogniser of short pieces.

    recognizer: Recognizer.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self.name, self.why = recognizer.name, recognizer.why

    @property
    def whisper(self) -> Whisper | None:
        """The whisper model of the recogniser, for alignment; None when it is another one."""
        return getattr(self._recognizer, "model", None)

    def check(self, language: str | None) -> None:
        """Check that a language code can be recognised; None is detected. Raises as Recognizer.check does."""
        self._recognizer.check(language)

    def transcribe(
        self, source: Sound | Path, language: str | None = None, advance: Callable[[float], object] | None = None
    ) -> list[TranscribedPhrase]:
        """Transcribe a recording; return its phrases in order, [] for silence, noise and music without words.

        source: Sound, or path of a recording or a video, which is streamed.
        language: code such as "en" or "de"; None takes what is detected where somebody first speaks.
        advance: called with the seconds that are done since the last call.
        Raises what Recognizer.check and open_sound_stream raise.
        """
        self.check(language)
        if isinstance(source, Sound):
            return self._transcribe_blocks(_iterate_blocks(source), language, advance)
        with open_sound_stream(Path(source), RATE_HZ, 1) as (_, blocks):
            return self._transcribe_blocks(blocks, language, advance)

    def _transcribe_blocks(
        self, blocks: Iterable[np.ndarray], language: str | None, advance: Callable[[float], object] | None
    ) -> list[TranscribedPhrase]:
        phrases = []
        for offset, wave, regions in split_at_pauses(blocks):
            for window in pack_windows(wave, regions):
                words, found = self._recognizer.transcribe(np.concatenate([wave[a:b] for a, b in window]), language)
                language = language or (found if words else None)
                placed = _map_to_recording(words, window, offset)
                phrases += [_make_phrase(part, found) for part in _split_phrases(placed)]
            if advance:
                advance(len(wave) / RATE_HZ)
        return phrases


def open_transcriber(
    choice: str = "auto", language: str | None = None, placement: Placement | None = None
) -> Transcriber:
    """Open a Transcriber with the recogniser asked for, or the best one installed.

    choice, language, placement: as for `open_recognizer`.
    Raises what `open_recognizer` raises.
    """
    return Transcriber(open_recognizer(choice, language, placement))


def check_intelligibility(
    transcriber: Transcriber, sound: Sound, text: str, language: str = "en"
) -> IntelligibilityCheck:
    """Check which words of its text a recogniser does not understand in a spoken line.

    sound: of the line.
    text: what was to be said.
    language: code.
    Raises what Transcriber.transcribe raises.
    """
    heard = " ".join(phrase.text for phrase in transcriber.transcribe(sound, get_base_language(language)))
    error = count_word_errors(text, heard, language)
    return IntelligibilityCheck(heard, error, error.lost, not error.lost)


def _iterate_blocks(sound: Sound) -> Iterator[np.ndarray]:
    """Yield a Sound as (1, S) blocks of a second at 16 kHz."""
    wave = resample(sound.to_mono().samples[0], sound.rate_hz, RATE_HZ)
    for start in range(0, len(wave), RATE_HZ):
        yield wave[None, start : start + RATE_HZ]


def split_at_pauses(
    blocks: Iterable[np.ndarray], chunk_s: float = CHUNK_S
) -> Iterator[tuple[int, np.ndarray, list[Region]]]:
    """Split a long sound into chunks that end in pauses: (first sample, (S,) wave, speech regions of the chunk).

    blocks: (1, S) float32 at 16 kHz.
    chunk_s: about how long the chunks are.
    """
    held, length, offset = [], 0, 0
    for block in blocks:
        held.append(block[0])
        length += block.shape[1]
        if length >= chunk_s * RATE_HZ:
            wave = np.concatenate(held)
            regions, cut = _choose_chunk_end(wave, find_speech_regions(wave))
            yield offset, wave[:cut], regions
            held, length, offset = [wave[cut:]], length - cut, offset + cut
    if length:
        wave = np.concatenate(held)
        yield offset, wave, find_speech_regions(wave)


def _choose_chunk_end(wave: np.ndarray, regions: list[Region]) -> tuple[list[Region], int]:
    """Choose where a chunk ends: before a speech region that its end may cut, or at the quietest place of a long one.

    Returns the regions before the end, and the end in samples.
    """
    cut = len(wave)
    if regions and cut - regions[-1][1] < MAX_JOINED_GAP_S * RATE_HZ:
        start = regions[-1][0]
        if cut - start < (WINDOW_S + LOOK_BACK_S) * RATE_HZ and start:
            return regions[:-1], start
        cut = find_quietest(wave, cut - int(LOOK_BACK_S * RATE_HZ), cut)
        return [(a, min(b, cut)) for a, b in regions if a < cut], cut
    return regions, cut


def find_speech_regions(wave: np.ndarray) -> list[Region]:
    """Find the regions in which somebody speaks or sings, padded by PAD_S: (from, to) samples, apart from each other.

    wave: (S,) float32 at 16 kHz.
    Raises what detect_voiced_frames raises.
    """
    runs = (find_runs(detect_voiced_frames(wave)) * FRAME_SAMPLES).tolist()
    joined = merge_spans(runs, gap=int(MAX_JOINED_GAP_S * RATE_HZ) - 1)  # a pause of just that length parts
    spoken = [(a, b) for a, b in joined if b - a >= MIN_SPEECH_S * RATE_HZ]
    pad = int(PAD_S * RATE_HZ)
    middles = [(b + a) // 2 for (_, b), (a, _) in zip(spoken, spoken[1:])]  # of the pauses between
    limits = zip([0, *middles], [*middles, len(wave)])
    return [(max(a - pad, low), min(b + pad, high)) for (a, b), (low, high) in zip(spoken, limits)]


def pack_windows(wave: np.ndarray, regions: list[Region], window_s: float = WINDOW_S) -> Iterator[list[Region]]:
    """Pack speech regions into windows of at most `window_s` of speech; what lies between is left out.

    wave: (S,) float32 at 16 kHz; a region that is too long is cut where it is quiet.
    regions: as `find_speech_regions` gives them.
    """
    longest, length = int(window_s * RATE_HZ), 0
    window: list[Region] = []
    for a, b in regions:
        while b - a > longest:
            cut = find_quietest(wave, a + longest - int(min(LOOK_BACK_S, window_s / 2) * RATE_HZ), a + longest)
            if window:
                yield window
            yield [(a, cut)]
            window, length, a = [], 0, cut
        if window and (length + b - a > longest or a - window[-1][1] > MAX_WINDOW_GAP_S * RATE_HZ):
            yield window
            window, length = [], 0
        window.append((a, b))
        length += b - a
    if window:
        yield window


def find_quietest(wave: np.ndarray, start: int, stop: int) -> int:
    """Find the middle of the quietest 100 ms between two samples. wave: (S,) float32 at 16 kHz."""
    width = RATE_HZ // 10
    power = np.convolve(wave[start:stop].astype(np.float64) ** 2, np.ones(width), "valid")
    return start + int(power.argmin()) + width // 2


def _map_to_recording(words: Iterable[RecognizedWord], window: list[Region], offset: int) -> list[RecognizedWord]:
    """Map words from the time of a window to that of the recording; a word far from all speech is left out.

    offset: first sample of the chunk in the recording.
    """
    starts_s = np.cumsum([0] + [b - a for a, b in window]) / RATE_HZ
    mapped, last_s = [], 0.0
    for word in words:
        middle_s = (word.start_s + word.stop_s) / 2
        k = int(np.clip(np.searchsorted(starts_s, middle_s, side="right") - 1, 0, len(window) - 1))
        a_s, b_s = ((offset + sample) / RATE_HZ for sample in window[k])
        first_s, final_s = a_s + (TRIM_S if window[k][0] else 0), b_s - TRIM_S
        start_s, stop_s = (
            min(max(a_s + time - starts_s[k], first_s, last_s), max(final_s, last_s))
            for time in (word.start_s, word.stop_s)
        )
        if middle_s <= starts_s[-1] + MAX_OUTSIDE_S and stop_s > start_s:
            mapped.append(RecognizedWord(word.text, round(start_s, 3), round(stop_s, 3)))
            last_s = stop_s
    return mapped


def _split_phrases(words: list[RecognizedWord]) -> list[list[RecognizedWord]]:
    """Split words at pauses of PHRASE_PAUSE_S, and at ends of sentences with a pause of MAX_JOINED_GAP_S."""
    phrases: list[list[RecognizedWord]] = []
    for word in words:
        pause_s = word.start_s - phrases[-1][-1].stop_s if phrases else 0.0
        ended = bool(phrases) and phrases[-1][-1].text[-1] in _SENTENCE_ENDS
        if not phrases or pause_s >= PHRASE_PAUSE_S or (pause_s >= MAX_JOINED_GAP_S and ended):
            phrases.append([])
        phrases[-1].append(word)
    return phrases


def _make_phrase(words: list[RecognizedWord], language: str) -> TranscribedPhrase:
    text = join_words((word.text for word in words), language)
    return TranscribedPhrase(text, words[0].start_s, words[-1].stop_s, tuple(words), language)
