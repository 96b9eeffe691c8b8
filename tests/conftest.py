"""What whole-pipeline tests share: weights of debug size, a portrait, a recording, the command line called in this
process.

One thread for the whole suite: results do not depend on the number of cores, and machines stay usable.
"""

import os
from collections import namedtuple

import pytest

pytest_plugins = ["clip_fixtures"]

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

CliResult = namedtuple("Answer", "code out err")
QUICK = ("--size", "96", "--fps", "12")


# of one or few tests that take minutes: begun first, so that no process waits for them at the end
SLOW_FILES = ("test_readme.py", "test_end_to_end.py", "test_wheel.py")


def pytest_collection_modifyitems(items):
    """Begin with the slow files; the order is otherwise as it was."""
    items.sort(key=lambda item: item.path.name not in SLOW_FILES)


@pytest.fixture(scope="session", autouse=True)
def signing_folder(tmp_path_factory):
    """The key that marks outputs is made here, not among the user's own settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUTHPIECE_CONFIG_DIR", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory):
    """A folder of small random weights of the real classes."""
    from debug_weights import write_debug_weights

    return write_debug_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def debug_weights(weights_folder, monkeypatch):
    """The small random weights take the place of the embedded ones."""
    monkeypatch.setenv("MOUTHPIECE_WEIGHTS_DIR", str(weights_folder))
    return weights_folder


@pytest.fixture(scope="session")
def head():
    """A photographed head, (256, 256, 3) uint8."""
    import numpy as np
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[:256, 96:352])


@pytest.fixture
def desk(tmp_path, head):
    """A folder with portrait.png and line.wav: 0.4 s of noise at 16 kHz."""
    import numpy as np

    from mouthpiece.engine.audio.sound import Sound, write_sound
    from mouthpiece.engine.media.images import write_image

    write_image(tmp_path / "portrait.png", head)
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 6_400))
    write_sound(tmp_path / "line.wav", Sound(noise.astype(np.float32), 16_000))
    return tmp_path


@pytest.fixture
def call(capsys, debug_weights):
    """The command line, called with words; gives the exit code and what stood on both streams."""
    from mouthpiece import command_line

    def call(*words):
        capsys.readouterr()
        code = command_line.main(list(words))
        return CliResult(code, *capsys.readouterr())

    return call


@pytest.fixture
def elsewhere(monkeypatch):
    """Places a training on the meta device until it wants its weights back: what was forgotten on the CPU fails;
    numbers read are 0.
    """
    from contextlib import nullcontext
    from types import SimpleNamespace

    import torch

    number = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: 0.0 if self.is_meta else number(self))

    def elsewhere(recipe, *words, **settings):
        away = SimpleNamespace(device=torch.device("meta"), autocast=nullcontext)
        monkeypatch.setattr(recipe, "choose_training_device", lambda device: away)
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            recipe.train(*words, **settings)

    return elsewhere


def read_contents(folder):
    """Every file below a folder, hidden ones too: path -> bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refuse(call, desk):
    """Calls `animate` with something bad; makes sure of one sentence with a remedy and of an untouched folder."""

    def refuse(code, *words, portrait="portrait.png", sound="line.wav", output="out.mp4"):
        before = read_contents(desk)
        names = (str(desk / name) for name in (portrait, sound))
        answer = call("animate", *names, "-o", str(desk / output), *QUICK, *words)
        assert read_contents(desk) == before
        assert (answer.code, answer.out) == (code, "")
        lines = [line for line in answer.err.splitlines() if not line.startswith('{"event"')]
        assert len(lines) == 1 and lines[0].startswith("mouthpiece: ")
        sentence = lines[0].removeprefix("mouthpiece: ").replace(f"{desk}{os.sep}", "")
        assert "Traceback" not in sentence and "rror:" not in sentence
        assert "need " in sentence or len(sentence.rstrip(".").split(". ")) == 2, f"no remedy: {sentence}"
        return sentence

    return refuse


@pytest.fixture
def perform(call, desk):
    """Calls `animate` with something unusual that works; gives the side-car's facts."""
    import json

    def perform(*words, portrait="portrait.png", sound="line.wav", output="out.mp4"):
        before = read_contents(desk)
        names = (str(desk / name) for name in (portrait, sound))
        answer = call("animate", *names, "-o", str(desk / output), "-q", *QUICK, *words)
        assert answer.code == 0, answer.err
        assert answer.err == "" and answer.out.startswith(str(desk / output)) and answer.out.count("\n") == 1
        after = read_contents(desk)
        sidecar = (desk / output).with_suffix(".json")
        assert {path: after[path] for path in before if path in after} == before
        assert set(after) - set(before) == {desk / output, sidecar}
        return json.loads(after[sidecar])["facts"]

    return perform
