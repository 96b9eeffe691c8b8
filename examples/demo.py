"""The demo: the astronaut of scikit-image says a line spoken on the spot by hibari-tts. Everything runs offline on the
CPU.

Writes demo-out/astronaut.png, line.wav, astronaut.mp4 (with its side-car) and sheet.png, and prints what was measured.
"""

import sys
from pathlib import Path

import numpy as np
import skimage.data
from hibari import SAMPLE_RATE, Hibari

from mouthpiece import command_line
from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.media.images import write_image

LINE = "From up here the whole planet fits behind my thumb. Please, could you pass me a map of home?"


def main(folder=Path("demo-out")):
    """Make the demo in a folder; returns the exit code."""
    folder.mkdir(exist_ok=True)
    portrait, line, film, sheet = (
        folder / name for name in ("astronaut.png", "line.wav", "astronaut.mp4", "sheet.png")
    )
    write_image(portrait, skimage.data.astronaut(), overwrite=True)
    wave = np.asarray(Hibari(threads=1)(LINE), np.float32).reshape(1, -1)
    rest = np.zeros((1, SAMPLE_RATE * 2 // 5), np.float32)
    write_sound(line, Sound(np.concatenate([rest, wave, rest], 1), SAMPLE_RATE), overwrite=True)
    steps = (
        ["animate", str(portrait), str(line), "-o", str(film), "--force"],
        ["evaluate", str(film), "--portrait", str(portrait), "--sheet", str(sheet), "--force"],
    )
    return next((code for code in map(command_line.main, steps) if code), 0)


if __name__ == "__main__":
    sys.exit(main())
