"""What is said in a recording and when: only where somebody speaks, in windows cut at pauses, in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.audio.voice_activity import FRAME_SAMPLES, detect_voiced_frames, find_runs
from mouthpiece.engine.media.reading import open_sound_stream
from mouthpiece.voice.asr.recognizers import RATE_HZ, RecognizedWord, open_recognizer
from mouthpiece.voice.asr.wer import WordErrors, count_word_errors, get_base_language, join_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from mouthpiece.engine.device import Placement
    from mouthpiece.voice.asr.recognizers import PocketsphinxRecognizer

CHUNK_S = 120  # sound held in memory at once
WINDOW_S = 28.0  # heard at once; whisper takes 30
MAX_JOINED_GAP_S = 0.3  # shorter pauses do not part stretches of speech
PAD_S = 0.25  # heard before and after what the detector takes for speech
TRIM_S = PAD_S - 0.1  # of that is no word's: whisper lets the first word begin with the silence before it
MIN_SPEECH_S = 0.1  # less is a click
MAX_WINDOW_GAP_S = 5.0  # what lies further apart is heard apart
LOOK_BACK_S = 10.0  # where a stretch without pause is cut: at the quietest place in its last seconds
PHRASE_PAUSE_S = 1.0  # a pause this long parts phrases
MAX_OUTSIDE_S = 0.3  # a word this far from anybody's voice was made up
_ENDS = ".?!…。？！"


@dataclass(frozen=True)
class TranscribedPhrase:
    """Something said without a long pause.

    text: str.  start_s, stop_s: seconds from the start of the recording.
    words: tuple of ears.Heard.  language: code, as asked for or as found.
    """

    text: str
    start_s: float
    stop_s: float
    words: tuple = field(repr=False, default=())
    language: str = "en"


@dataclass(frozen=True)
class IntelligibilityCheck:
    """A line heard back.

    text: what was heard.  error: WordError against what should be there.
    lost_words: the words that were not heard, nor anything that sounds like them.  ok: bool, none was lost.
    """

    text: str
    error: WordErrors = field(repr=False)
    lost_words: tuple
    ok: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: heard, wer, lost, ok."""
        return {"heard": self.text, "wer": round(self.error.rate, 4), "lost": list(self.lost_words), "ok": self.ok}


class Transcriber:
    """Hears recordings of any length.

    ears: what hears one window, such as ears.WhisperEars: has name, why, check(language), hear(wave, language).
    """

    def __init__(self, recognizer: PocketsphinxRecognizer) -> None:
        self._recognizer = recognizer
        self.name, self.why = recognizer.name, recognizer.why

    @property
    def whisper(self):
        """The whisper.model.Whisper that hears, None when something else does."""
        return getattr(self._recognizer, "model", None)

    def check(self, language: str | None) -> None:
        """Raises UsageProblem or Missing for a language that cannot be heard. language: code, or None."""
        self._recognizer.check(language)

    def transcribe(
        self, source: Sound | Path, language: str | None = None, advance: Callable | None = None
    ) -> list[TranscribedPhrase] | None:
        """What is said, in order: list of Phrase; empty for silence, noise and music without words.

        source: Sound, or path of a recording or a video, which is streamed.
        language: code such as "en" or "de"; None takes what is found where somebody first speaks.
        advance: called with the seconds that are done since the last call.
        Raises what `check` of the ears and media.sound_stream raise.
        """
        self.check(language)
        if isinstance(source, Sound):
            return self._heard(_iterate_blocks(source), language, advance)
        with open_sound_stream(Path(source), RATE_HZ, 1) as (_, blocks):
            return self._heard(blocks, language, advance)

    def _heard(self, blocks: Iterator, language: str | None, advance: Callable | None) -> list[TranscribedPhrase]:
        phrases = []
        for offset, wave, regions in split_at_pauses(blocks):
            for window in pack_windows(wave, regions):
                words, found = self._recognizer.transcribe(np.concatenate([wave[a:b] for a, b in window]), language)
                language = language or (found if words else None)
                words = _map_to_recording(words, window, offset)
                phrases += [_make_phrase(part, found) for part in _split_phrases(words)]
            if advance:
                advance(len(wave) / RATE_HZ)
        return phrases


def open_transcriber(
    choice: str = "auto", language: str | None = None, placement: Placement | None = None
) -> Transcriber:
    """The Recogniser asked for, or the best one at hand; its `name` and `why` are for the report.

    choice: one of ears.CHOICES.  language: what is spoken, None for not known.
    placement: mouthpiece.engine.device.Placement for whisper; None is this machine's CPU.
    Raises what ears.choose_ears raises.
    """
    return Transcriber(open_recognizer(choice, language, placement))


def check_intelligibility(
    recogniser: Transcriber, sound: Sound, text: str, language: str = "en"
) -> IntelligibilityCheck:
    """Hearing of a spoken line: which words of its text cannot be heard in it.

    recogniser: Recogniser.  sound: Sound.  text: what was to be said.  language: code.
    Raises what `Recogniser.transcribe` raises.
    """
    heard = " ".join(phrase.text for phrase in recogniser.transcribe(sound, get_base_language(language)))
    error = count_word_errors(text, heard, language)
    return IntelligibilityCheck(heard, error, error.lost, not error.lost)


def _iterate_blocks(sound: Sound) -> Iterator[np.ndarray]:
    """A Sound as blocks of a second at 16 kHz, one channel."""
    wave = resample(sound.to_mono().samples[0], sound.rate_hz, RATE_HZ)
    for start in range(0, len(wave), RATE_HZ):
        yield wave[None, start : start + RATE_HZ]


def split_at_pauses(blocks: Iterator | list[np.ndarray], chunk_s: int = CHUNK_S) -> Iterator:
    """Pieces of a long sound that end in pauses: (first sample, (S,) wave, stretches of speech in it as sample pairs).

    blocks: iterable of (1, S) float32 at 16 kHz.  chunk_s: about how long the pieces are.
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


def _choose_chunk_end(wave: np.ndarray, regions: list[tuple[int, int]]) -> tuple[list[tuple], int]:
    """Where a chunk ends: before a stretch of speech that its end may cut, or at its quietest place; and the stretches
    before that.
    """
    cut = len(wave)
    if regions and cut - regions[-1][1] < MAX_JOINED_GAP_S * RATE_HZ:
        start = regions[-1][0]
        if cut - start < (WINDOW_S + LOOK_BACK_S) * RATE_HZ and start:
            return regions[:-1], start
        cut = find_quietest(wave, cut - int(LOOK_BACK_S * RATE_HZ), cut)
        return [(a, min(b, cut)) for a, b in regions if a < cut], cut
    return regions, cut


def find_speech_regions(wave: np.ndarray) -> list[tuple[int, int]]:
    """Stretches in which somebody speaks or sings, padded by PAD_S: list of (from, to) samples, apart from each other.

    wave: (S,) float32 at 16 kHz.
    Source: ours, on silero-vad.
    """
    found = []
    for a, b in find_runs(detect_voiced_frames(wave)) * FRAME_SAMPLES:
        if found and a - found[-1][1] < MAX_JOINED_GAP_S * RATE_HZ:
            found[-1][1] = b
        else:
            found.append([a, b])
    found = [(a, b) for a, b in found if b - a >= MIN_SPEECH_S * RATE_HZ]
    pad = int(PAD_S * RATE_HZ)
    starts = [max(a - pad, 0 if k == 0 else (found[k - 1][1] + a) // 2) for k, (a, _) in enumerate(found)]
    stops = [
        min(b + pad, len(wave) if k + 1 == len(found) else (b + found[k + 1][0]) // 2) for k, (_, b) in enumerate(found)
    ]
    return [(int(a), int(b)) for a, b in zip(starts, stops)]


def pack_windows(
    wave: np.ndarray, regions: list[tuple[int, int]], window_s: float = WINDOW_S
) -> Iterator[list[tuple[int, int]]]:
    """Stretches of speech gathered for hearing: lists of (from, to) samples of at most `window_s` in all; what lies
    between is not heard.

    wave: (S,) float32 at 16 kHz.  regions: as `speech` gives them.
    """
    most, window, length = int(window_s * RATE_HZ), [], 0
    for a, b in regions:
        while b - a > most:
            cut = find_quietest(wave, a + most - int(min(LOOK_BACK_S, window_s / 2) * RATE_HZ), a + most)
            yield from ([window] if window else [])
            yield [(a, cut)]
            window, length, a = [], 0, cut
        if window and (length + b - a > most or a - window[-1][1] > MAX_WINDOW_GAP_S * RATE_HZ):
            yield window
            window, length = [], 0
        window.append((a, b))
        length += b - a
    if window:
        yield window


def find_quietest(wave: np.ndarray, start: int, stop: int) -> int:
    """The middle of the quietest 100 ms between two samples: int. wave: (S,) float32 at 16 kHz."""
    width = RATE_HZ // 10
    power = np.convolve(wave[start:stop].astype(np.float64) ** 2, np.ones(width), "valid")
    return start + int(power.argmin()) + width // 2


def _map_to_recording(
    words: tuple[RecognizedWord, ...], window: list[tuple[int, int]], offset: int
) -> list[RecognizedWord]:
    """Words with the times of the recording; a word far from every voice is left out."""
    starts = np.cumsum([0] + [b - a for a, b in window]) / RATE_HZ
    out, last = [], 0.0
    for word in words:
        k = int(
            np.clip(np.searchsorted(starts, (word.start_s + word.stop_s) / 2, side="right") - 1, 0, len(window) - 1)
        )
        a, b = ((offset + sample) / RATE_HZ for sample in window[k])
        first, final = a + (TRIM_S if window[k][0] else 0), b - TRIM_S
        times = [min(max(a + time - starts[k], first, last), max(final, last)) for time in (word.start_s, word.stop_s)]
        middle = (word.start_s + word.stop_s) / 2
        if middle <= starts[-1] + MAX_OUTSIDE_S and times[1] > times[0]:
            out.append(RecognizedWord(word.text, round(times[0], 3), round(times[1], 3)))
            last = times[1]
    return out


def _split_phrases(words: list[RecognizedWord]) -> list[list[RecognizedWord]]:
    """Words in groups, parted at pauses of PHRASE_S and at ends of sentences with a pause of JOIN_S."""
    groups = []
    for word in words:
        pause = word.start_s - groups[-1][-1].stop_s if groups else 0
        if not groups or pause >= PHRASE_PAUSE_S or (pause >= MAX_JOINED_GAP_S and groups[-1][-1].text[-1] in _ENDS):
            groups.append([])
        groups[-1].append(word)
    return groups


def _make_phrase(words: list[RecognizedWord], language: str) -> TranscribedPhrase:
    text = join_words((word.text for word in words), language)
    return TranscribedPhrase(text, words[0].start_s, words[-1].stop_s, tuple(words), language)
