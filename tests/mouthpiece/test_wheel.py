"""A built wheel in an environment of its own: what lands there, and that it works without the checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("PYTHONPATH", "MOUTHPIECE_WEIGHTS_DIR")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that this checkout builds, made from a copy of what is under version control."""
    folder = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if names.returncode:
        pytest.skip("not a git checkout: which files belong to the project is not known")
    for name in filter(None, names.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/", "docs/")):
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(ROOT / name, target) if os.stat(ROOT).st_dev == os.stat(folder).st_dev else target.write_bytes(
                (ROOT / name).read_bytes()
            )
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), "."]
    done = subprocess.run(command, cwd=folder / "source", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An empty environment with the wheel; dependencies are those of the environment that tests run in."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    # a path file adds the folder of the dependencies, but runs no path file in it: the checkout stays out
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-deps"]
    done = subprocess.run(
        [*command, "--no-index", "--no-compile", "-q", str(wheel)], capture_output=True, text=True, env=_surroundings()
    )
    assert done.returncode == 0, done.stderr
    return folder


def _surroundings():
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT}


def run(environment, *words, cwd):
    command = [str(environment / "bin" / words[0]), *words[1:]]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=_surroundings())


def test_a_wheel_brings_one_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"mouthpiece", next(name for name in tops if name.endswith(".dist-info"))}
    rooms = {name.split("/")[1] for name in names if name.startswith("mouthpiece/") and name.count("/") > 1}
    assert rooms >= {"engine", "face", "lipsync", "voice", "training", "evaluation", "configs", "commands"}


def test_a_wheel_has_every_module_and_every_data_file_of_the_rooms(wheel):
    with zipfile.ZipFile(wheel) as file:
        inside = {name.removeprefix("mouthpiece/") for name in file.namelist()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    rooms = ("engine/", "face/", "lipsync/", "voice/", "training/", "evaluation/", "configs/", "mouthpiece/")
    wanted = {
        name.removeprefix("mouthpiece/") for name in tracked if name.startswith(rooms) and (ROOT / name).is_file()
    }
    assert {name for name in wanted - inside if not name.endswith("README.md")} == set()


def test_the_installed_package_is_imported_from_its_own_environment(environment, tmp_path):
    code = "import mouthpiece.engine.core; print(mouthpiece.engine.core.__file__)"
    done = run(environment, "python", "-c", code, cwd=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(environment), done.stderr


def test_doctor_and_a_small_animation_run_from_the_wheel(environment, head, tmp_path):
    import numpy as np
    import soundfile
    from PIL import Image

    Image.fromarray(head).save(tmp_path / "portrait.png")
    tone = 0.1 * np.random.default_rng(0).standard_normal(6_400)
    soundfile.write(tmp_path / "line.wav", tone, 16_000)
    doctor = run(environment, "mouthpiece", "doctor", cwd=tmp_path)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    words = ("animate", "portrait.png", "line.wav", "-o", "out.mp4", "--size", "96", "--fps", "12")
    done = run(environment, "mouthpiece", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 1_000 and (tmp_path / "out.json").is_file()
