"""MMAudio at debug size: random weights of the real classes, a small video, options that are quick."""

from fractions import Fraction

import numpy as np
import pytest

from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.types import Frame
from mouthpiece.voice.mmaudio.generator import SoundtrackGenerator
from mouthpiece.voice.mmaudio.models import find_weights, load_models
from mouthpiece.voice.mmaudio.options import SoundOptions
from mouthpiece.voice.mmaudio.random_weights import write_random_weights

NAME = "mmaudio-small-16k"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_random_weights(tmp_path_factory.mktemp("mmaudio"), NAME)


@pytest.fixture(scope="session")
def models(folder):
    from mouthpiece.engine.device import choose_device

    return load_models(make_options(), choose_device("cpu"), find_weights(NAME, folder), {})


def make_options(**changes):
    return SoundOptions(**({"model": NAME, "precision": "float32", "steps": 2, "device": "cpu"} | changes))


def make_moving_pictures(count, width=64, height=48, seed=0):
    picture = (
        np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    )
    return [np.roll(picture, 2 * n, 1) for n in range(count)]


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "in.mp4"
    with VideoWriter(path, Fraction(25), 64, 48) as writer:
        for picture in make_moving_pictures(40):
            writer.write(picture)
    return path


PICTURES = make_moving_pictures(40)


def make_frames(count=40, **kind):
    return [Frame(n, Fraction(n, 25), pixels) for n, pixels in enumerate(make_moving_pictures(count, **kind))]


def generate_sound(models, chosen, duration=Fraction(8, 5), cuts=(), given=None):
    """(takes, S) sound, and the generator that made it."""
    generator = SoundtrackGenerator(models, chosen, duration, cuts)
    given = make_frames(int(duration * 25)) if given is None else given
    return np.concatenate(list(generator.blocks(iter(given))), 1), generator
