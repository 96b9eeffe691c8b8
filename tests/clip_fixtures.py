"""A photographed person made to speak: the mouth is stretched open as far as a spoken line is loud."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly
from speaking_face import SIDE_PX, load_speaking_face

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.images import write_image
from mouthpiece.engine.media.writing import VideoWriter

SOUND_HZ = 48_000
FRAMES = 40


def write_clip(path, puppet, script, samples, rate=Fraction(25)):
    """A clip of the puppet. script: openings, one a frame.  samples: (1, S) at 48 kHz."""
    with VideoWriter(path, rate, SIDE_PX, SIDE_PX, Sound(samples, SOUND_HZ), crf=12) as writer:
        for opening in script:
            writer.write(puppet.frame(opening))
    return path


@pytest.fixture(scope="session")
def voice():
    """(1, 76800) 1.6 s at 48 kHz: 0.3 s of silence, two words, silence."""
    from hibari import Hibari

    spoken = resample_poly(Hibari(threads=1)("Papa, mama."), 2, 1)
    loud = np.flatnonzero(np.abs(spoken) > 0.02)
    spoken = spoken[loud[0] : loud[-1]][: int(0.8 * SOUND_HZ)]
    out = np.zeros((1, FRAMES * SOUND_HZ // 25), np.float32)
    out[0, int(0.3 * SOUND_HZ) :][: len(spoken)] = spoken
    return out


@pytest.fixture(scope="session")
def script(voice):
    """(40,) what the mouth does at 25 Hz, 0 shut to 1 open: as loud as the voice is."""
    power = (voice[0].reshape(2 * FRAMES, -1) ** 2).mean(1)
    level = gaussian_filter1d(np.clip(1 + (10 * np.log10(power + 1e-10) - 10 * np.log10(power.max())) / 40, 0, 1), 2)
    return level[::2] / level.max()


@pytest.fixture(scope="session")
def puppet():
    return load_speaking_face()


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def portrait(clips, puppet):
    write_image(clips / "portrait.png", puppet.pixels)
    return clips / "portrait.png"


@pytest.fixture(scope="session")
def spoken(clips, puppet, script, voice):
    """40 frames at 25 Hz, in sync with its sound."""
    return write_clip(clips / "spoken.mp4", puppet, script, voice)


@pytest.fixture(scope="session")
def late(clips, puppet, script, voice):
    """The same sound, the mouth two frames late and two thirds as wide."""
    return write_clip(clips / "late.mp4", puppet, 0.66 * np.r_[0, 0, script[:-2]], voice)


@pytest.fixture(scope="session")
def faceless(clips, voice):
    """12 grey frames with sound."""
    path = clips / "faceless.mp4"
    with VideoWriter(path, Fraction(25), 96, 64, Sound(voice[:, :23040], SOUND_HZ)) as writer:
        for _ in range(12):
            writer.write(np.full((64, 96, 3), 128, np.uint8))
    return path


@pytest.fixture(scope="session")
def silent_film(clips, puppet):
    """8 frames without sound."""
    path = clips / "silent_film.mp4"
    with VideoWriter(path, Fraction(25), SIDE_PX, SIDE_PX) as writer:
        for opening in np.linspace(0, 1, 8):
            writer.write(puppet.frame(opening))
    return path
