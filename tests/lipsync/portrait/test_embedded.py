"""The weights that ship: whole, and good enough to open a stranger's mouth where the sound is."""

import numpy as np
import skimage.data
from hibari import SAMPLE_RATE, Hibari

from mouthpiece import command_line
from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.media.images import write_image
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.weights.loading import load_state
from mouthpiece.engine.weights.manifest import get_embedded_path, load_weights_manifest
from mouthpiece.face.measure import measure_frames


def test_every_shipped_weight_is_whole_and_small():
    assert sorted(load_weights_manifest()) == ["core", "finder", "motion", "phonetic", "renderer"]
    assert all(load_state(name)[0] for name in load_weights_manifest())
    assert sum(get_embedded_path(name).stat().st_size for name in load_weights_manifest()) <= 40e6


def test_a_portrait_opens_its_mouth_in_speech_and_rests_in_silence(tmp_path):
    wave = np.asarray(Hibari(threads=1)("Papa, mama, baba."), np.float32).reshape(-1)
    quiet = np.zeros(SAMPLE_RATE * 4 // 5, np.float32)
    write_image(tmp_path / "face.png", skimage.data.astronaut()[20:240, 120:340])
    write_sound(tmp_path / "line.wav", Sound(np.concatenate([quiet, wave, quiet])[None], SAMPLE_RATE))
    film = tmp_path / "film.mp4"
    assert (
        command_line.main(
            [
                "animate",
                str(tmp_path / "face.png"),
                str(tmp_path / "line.wav"),
                "-o",
                str(film),
                "--pose-strength",
                "0",
                "-q",
            ]
        )
        == 0
    )
    with VideoReader(film) as reader:
        opening = measure_frames(frame.pixels for frame in reader).opening
    assert np.isfinite(opening).all()
    spoken = opening[20 : 20 + int(25 * len(wave) / SAMPLE_RATE)]
    silent = np.concatenate([opening[:12], opening[-10:]])
    assert spoken.max() > silent.max() + 0.02
    assert silent.std() < 0.25 * spoken.std()
