"""What is said in a recording and when: only where somebody speaks, in windows cut at pauses, in constant memory."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.activity import FRAME_SAMPLES, runs, voiced_frames
from engine.media import sound_stream
from engine.sound import Sound
from voice.ears import RATE_HZ, Heard, choose_ears
from voice.words import WordError, language_of, text_of, word_error

CHUNK_S = 120            # sound held in memory at once
WINDOW_S = 28.0          # heard at once; whisper takes 30
JOIN_S = 0.3             # shorter pauses do not part stretches of speech
PAD_S = 0.25             # heard before and after what the detector takes for speech
TRIM_S = PAD_S - 0.1     # of that is no word's: whisper lets the first word begin with the silence before it
SHORTEST_S = 0.1         # less is a click
SCENE_S = 5.0            # what lies further apart is heard apart
LOOK_BACK_S = 10.0       # where a stretch without pause is cut: at the quietest place in its last seconds
PHRASE_S = 1.0           # a pause this long parts phrases
OUTSIDE_S = 0.3          # a word this far from anybody's voice was made up
_ENDS = ".?!…。？！"


@dataclass(frozen=True)
class Phrase:
    """Something said without a long pause.

    text: str.  start_s, stop_s: seconds from the start of the recording.
    words: tuple of ears.Heard.  language: code, as asked for or as found.
    Source: ours.
    """

    text: str
    start_s: float
    stop_s: float
    words: tuple = field(repr=False, default=())
    language: str = "en"


@dataclass(frozen=True)
class Hearing:
    """A line heard back.

    text: what was heard.  error: WordError against what should be there.
    lost_words: the words that were not heard, nor anything that sounds like them.  ok: bool, none was lost.
    Source: ours.
    """

    text: str
    error: WordError = field(repr=False)
    lost_words: tuple
    ok: bool

    def as_dict(self):
        """JSON-ready: heard, wer, lost, ok."""
        return {"heard": self.text, "wer": round(self.error.rate, 4), "lost": list(self.lost_words), "ok": self.ok}


class Recogniser:
    """Hears recordings of any length.

    ears: what hears one window, such as ears.WhisperEars: has name, why, check(language), hear(wave, language).
    Source: ours.
    """

    def __init__(self, ears):
        self._ears = ears
        self.name, self.why = ears.name, ears.why

    @property
    def whisper(self):
        """The whisper.model.Whisper that hears, None when something else does."""
        return getattr(self._ears, "model", None)

    def check(self, language):
        """Raises UsageProblem or Missing for a language that cannot be heard. language: code, or None. Source: ours."""
        self._ears.check(language)

    def transcribe(self, source, language=None, advance=None):
        """What is said, in order: list of Phrase; empty for silence, noise and music without words.

        source: Sound, or path of a recording or a video, which is streamed.
        language: code such as "en" or "de"; None takes what is found where somebody first speaks.
        advance: called with the seconds that are done since the last call.
        Raises what `check` of the ears and media.sound_stream raise.
        Source: ours.
        """
        self.check(language)
        if isinstance(source, Sound):
            return self._heard(_blocks(source), language, advance)
        with sound_stream(Path(source), RATE_HZ, 1) as (_, blocks):
            return self._heard(blocks, language, advance)

    def _heard(self, blocks, language, advance):
        phrases = []
        for offset, wave, regions in chunks(blocks):
            for window in windows(wave, regions):
                words, found = self._ears.hear(np.concatenate([wave[a:b] for a, b in window]), language)
                language = language or (found if words else None)
                words = _placed(words, window, offset)
                phrases += [_phrase(part, found) for part in _parted(words)]
            if advance:
                advance(len(wave) / RATE_HZ)
        return phrases


def recogniser(choice="auto", language=None, placement=None):
    """The Recogniser asked for, or the best one at hand; its `name` and `why` are for the report.

    choice: one of ears.CHOICES.  language: what is spoken, None for not known.
    placement: engine.device.Placement for whisper; None is this machine's CPU.
    Raises what ears.choose_ears raises.
    Source: ours.
    """
    return Recogniser(choose_ears(choice, language, placement))


def heard_back(recogniser, sound, text, language="en"):
    """Hearing of a spoken line: which words of its text cannot be heard in it.

    recogniser: Recogniser.  sound: Sound.  text: what was to be said.  language: code.
    Raises what `Recogniser.transcribe` raises.
    Source: ours.
    """
    heard = " ".join(phrase.text for phrase in recogniser.transcribe(sound, language_of(language)))
    error = word_error(text, heard, language)
    return Hearing(heard, error, error.lost, not error.lost)


def _blocks(sound):
    """A Sound as blocks of a second at 16 kHz, one channel."""
    wave = sound.mono().samples[0]
    if sound.rate_hz != RATE_HZ:
        from scipy.signal import resample_poly

        common = np.gcd(sound.rate_hz, RATE_HZ)
        wave = resample_poly(wave, RATE_HZ // common, sound.rate_hz // common).astype(np.float32)
    for start in range(0, len(wave), RATE_HZ):
        yield wave[None, start : start + RATE_HZ]


def chunks(blocks, chunk_s=CHUNK_S):
    """Pieces of a long sound that end in pauses: (first sample, (S,) wave, stretches of speech in it as sample pairs).

    blocks: iterable of (1, S) float32 at 16 kHz.  chunk_s: about how long the pieces are.
    Source: ours.
    """
    held, length, offset = [], 0, 0
    for block in blocks:
        held.append(block[0])
        length += block.shape[1]
        if length >= chunk_s * RATE_HZ:
            wave = np.concatenate(held)
            regions, cut = _cut(wave, speech(wave))
            yield offset, wave[:cut], regions
            held, length, offset = [wave[cut:]], length - cut, offset + cut
    if length:
        wave = np.concatenate(held)
        yield offset, wave, speech(wave)


def _cut(wave, regions):
    """Where a chunk ends: before a stretch of speech that its end may cut, or at its quietest place; and the stretches before that."""
    cut = len(wave)
    if regions and cut - regions[-1][1] < JOIN_S * RATE_HZ:
        start = regions[-1][0]
        if cut - start < (WINDOW_S + LOOK_BACK_S) * RATE_HZ and start:
            return regions[:-1], start
        cut = quietest(wave, cut - int(LOOK_BACK_S * RATE_HZ), cut)
        return [(a, min(b, cut)) for a, b in regions if a < cut], cut
    return regions, cut


def speech(wave):
    """Stretches in which somebody speaks or sings, padded by PAD_S: list of (from, to) samples, apart from each other.

    wave: (S,) float32 at 16 kHz.
    Source: ours, on silero-vad.
    """
    found = []
    for a, b in runs(voiced_frames(wave)) * FRAME_SAMPLES:
        if found and a - found[-1][1] < JOIN_S * RATE_HZ:
            found[-1][1] = b
        else:
            found.append([a, b])
    found = [(a, b) for a, b in found if b - a >= SHORTEST_S * RATE_HZ]
    pad = int(PAD_S * RATE_HZ)
    starts = [max(a - pad, 0 if k == 0 else (found[k - 1][1] + a) // 2) for k, (a, _) in enumerate(found)]
    stops = [min(b + pad, len(wave) if k + 1 == len(found) else (b + found[k + 1][0]) // 2) for k, (_, b) in enumerate(found)]
    return [(int(a), int(b)) for a, b in zip(starts, stops)]


def windows(wave, regions, window_s=WINDOW_S):
    """Stretches of speech gathered for hearing: lists of (from, to) samples of at most `window_s` in all; what lies between is not heard.

    wave: (S,) float32 at 16 kHz.  regions: as `speech` gives them.
    Source: ours.
    """
    most, window, length = int(window_s * RATE_HZ), [], 0
    for a, b in regions:
        while b - a > most:
            cut = quietest(wave, a + most - int(min(LOOK_BACK_S, window_s / 2) * RATE_HZ), a + most)
            yield from ([window] if window else [])
            yield [(a, cut)]
            window, length, a = [], 0, cut
        if window and (length + b - a > most or a - window[-1][1] > SCENE_S * RATE_HZ):
            yield window
            window, length = [], 0
        window.append((a, b))
        length += b - a
    if window:
        yield window


def quietest(wave, start, stop):
    """The middle of the quietest 100 ms between two samples: int. wave: (S,) float32 at 16 kHz. Source: ours."""
    width = RATE_HZ // 10
    power = np.convolve(wave[start:stop].astype(np.float64) ** 2, np.ones(width), "valid")
    return start + int(power.argmin()) + width // 2


def _placed(words, window, offset):
    """Words with the times of the recording; a word far from every voice is left out."""
    starts = np.cumsum([0] + [b - a for a, b in window]) / RATE_HZ
    out, last = [], 0.0
    for word in words:
        k = int(np.clip(np.searchsorted(starts, (word.start_s + word.stop_s) / 2, side="right") - 1, 0, len(window) - 1))
        a, b = ((offset + sample) / RATE_HZ for sample in window[k])
        first, final = a + (TRIM_S if window[k][0] else 0), b - TRIM_S
        times = [min(max(a + time - starts[k], first, last), max(final, last)) for time in (word.start_s, word.stop_s)]
        middle = (word.start_s + word.stop_s) / 2
        if middle <= starts[-1] + OUTSIDE_S and times[1] > times[0]:
            out.append(Heard(word.text, round(times[0], 3), round(times[1], 3)))
            last = times[1]
    return out


def _parted(words):
    """Words in groups, parted at pauses of PHRASE_S and at ends of sentences with a pause of JOIN_S."""
    groups = []
    for word in words:
        pause = word.start_s - groups[-1][-1].stop_s if groups else 0
        if not groups or pause >= PHRASE_S or (pause >= JOIN_S and groups[-1][-1].text[-1] in _ENDS):
            groups.append([])
        groups[-1].append(word)
    return groups


def _phrase(words, language):
    text = text_of((word.text for word in words), language)
    return Phrase(text, words[0].start_s, words[-1].stop_s, tuple(words), language)
