"""The demo in Python: the astronaut of scikit-image says a line spoken by hibari-tts, offline, on the CPU.

Writes astronaut.png, line.wav, astronaut.mp4 (with its side-car) and sheet.png into demo-out, and prints what was
measured.
"""

import sys
from pathlib import Path

import numpy as np
import skimage.data
from hibari import SAMPLE_RATE, Hibari

import mouthpiece
from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.media.images import write_image

LINE = "From up here the whole planet fits behind my thumb. Please, could you pass me a map of home?"
PAUSE_S = 0.4  # before and after the line


def show(event: mouthpiece.ProgressEvent) -> None:
    """Show how far a stage is, on one line of the terminal."""
    end = "\n" if event.done == event.total else ""
    print(f"\r{event.stage}: {event.done} of {event.total} {event.unit} ", end=end, file=sys.stderr, flush=True)


def main(folder: Path = Path("demo-out")) -> None:
    """Make the demo in a folder. Raises MouthpieceError."""
    folder.mkdir(exist_ok=True)
    portrait, line = folder / "astronaut.png", folder / "line.wav"
    write_image(portrait, skimage.data.astronaut(), overwrite=True)
    wave = np.asarray(Hibari(threads=1)(LINE), np.float32).reshape(1, -1)
    pause = np.zeros((1, round(SAMPLE_RATE * PAUSE_S)), np.float32)
    write_sound(line, Sound(np.concatenate([pause, wave, pause], 1), SAMPLE_RATE), overwrite=True)
    progress = show if sys.stderr.isatty() else None
    video = mouthpiece.animate(portrait, line, folder / "astronaut.mp4", overwrite=True, progress=progress)
    print(video.summary)
    sheet = folder / "sheet.png"
    measured = mouthpiece.evaluate(video.output, portrait=portrait, sheet=sheet, overwrite=True, progress=progress)
    print(measured.summary)


if __name__ == "__main__":
    try:
        main()
    except mouthpiece.MouthpieceError as error:
        print(f"mouthpiece: {error}", file=sys.stderr)
        sys.exit(int(error.exit_code))
