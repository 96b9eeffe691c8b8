"""Where the lips of a speaker must meet and where the voice sounds: forced alignment of what is said, recognised first
where no text is known.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.voice.timing.align import align

CLOSURE_PHONES = ("P", "B", "M")
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
VOICELESS = ("P", "T", "K", "F", "TH", "S", "SH", "CH", "HH", "SIL")
# every sentence of the GRID corpus (Cooke, Barker, Cunningham, Shao 2006)
GRID_GRAMMAR = """#JSGF V1.0;
grammar grid;
public <line> = (bin | lay | place | set) (blue | green | red | white) (at | by | in | with)
 (a | b | c | d | e | f | g | h | i | j | k | l | m | n | o | p | q | r | s | t | u | v | x | y | z)
 (zero | one | two | three | four | five | six | seven | eight | nine) (again | now | please | soon);"""


class PhoneSpans(NamedTuple):
    """Stretches of a sound in seconds, (N, 2) each: lips that meet, voice, vowels. text: what was aligned."""

    shut: np.ndarray
    voiced: np.ndarray
    vowels: np.ndarray
    text: str


def recognize_grid(wave):
    """The GRID sentence heard in a recording, or "". wave: (S,) float32 at 16 kHz. Source: pocketsphinx with GRID's
    grammar.
    """
    from pocketsphinx import Decoder

    decoder = Decoder(lm=None, loglevel="FATAL")
    decoder.add_jsgf_string("grid", GRID_GRAMMAR)
    decoder.activate_search("grid")
    decoder.start_utt()
    decoder.process_raw(
        (np.clip(wave / (np.abs(wave).max() + 1e-6) * 0.5, -1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True
    )
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr if found else ""


@cache
def _get_recognizer():
    from mouthpiece.voice.asr.recognizers import open_recognizer

    try:
        return open_recognizer("whisper", "en")
    except MissingDependencyError:
        return None


@cache
def align_recording(path, text, grid):
    """(phones as (name, start_s, stop_s), text) of a recording; none where text and sound do not fit or no text can be
    heard.
    """
    wave = read_sound(path, RATE_HZ, mono=True).samples[0]
    if text is None and grid:
        text = recognize_grid(wave)
    elif text is None:
        recognizer = _get_recognizer()
        text = "" if recognizer is None else " ".join(word.text for word in recognizer.transcribe(wave, "en")[0])
    found = align(wave, text)
    return (found.phones if found.ok else ()), text


def find_phone_spans(lines, duration_s, grid):
    """Spans of what is said.

    lines: (path, text or None, start_s) as in `held_out.HeldOutCase`.  duration_s: what of it is heard.
    grid: whether an unknown text is a sentence of GRID.
    Source: mouthpiece.voice.timing.align.
    """
    phones, texts = [], []
    for path, text, start_s in lines:
        found, heard = align_recording(path, text, grid)
        texts.append(heard)
        phones += [(name, start_s + a, start_s + b) for name, a, b in found if start_s + b <= duration_s]

    def pick(keep):
        return np.array([(a, b) for name, a, b in phones if keep(name)], float).reshape(-1, 2)

    return PhoneSpans(
        pick(CLOSURE_PHONES.__contains__),
        pick(lambda name: name not in VOICELESS),
        pick(VOWELS.__contains__),
        " ".join(texts),
    )
