"""The README's commands, one after the other as they stand there, in a fresh clone."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
# What `make setup` does with a package index: an environment with the dependencies and the checkout in it.
PREPARE = """
"$PYTHON" -m venv --without-pip .venv
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\\n' "$PWD" "$DEPENDENCIES" > "$site/mouthpiece.pth"
printf '#!/bin/sh\\nexec "%s/.venv/bin/python" -m mouthpiece "$@"\\n' "$PWD" > .venv/bin/mouthpiece
chmod +x .venv/bin/mouthpiece
touch .venv/.ready
"""
QUICK = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with one commit: what of this checkout is under version control, as it is now."""
    folder = tmp_path_factory.mktemp("repository")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if names.returncode:
        pytest.skip("not a git checkout: which files belong to the project is not known")
    for name in filter(None, names.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def clone(repository, weights_folder, tmp_path_factory):
    """The folder in which a newcomer has run every block of the README, with weights of debug size."""
    folder = tmp_path_factory.mktemp("newcomer")
    script = ["set -eu"]
    for language, text in BLOCKS:
        script.append(text if language == "sh" else f"python - <<'PROGRAM'\n{text}PROGRAM")
    whole = (
        "\n".join(script).replace("REPOSITORY", str(repository)).replace("cd mouthpiece\n", f"cd mouthpiece\n{PREPARE}")
    )
    assert PREPARE in whole
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= QUICK | {"MOUTHPIECE_WEIGHTS_DIR": str(weights_folder), "PYTHON": sys.executable}
    environment |= {"DEPENDENCIES": sysconfig.get_path("purelib")}
    done = subprocess.run(["bash", "-c", whole], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return folder / "mouthpiece"


def test_the_blocks_begin_with_a_clone_and_hold_a_portrait_a_dub_and_a_program():
    text = "".join(text for _, text in BLOCKS)
    assert BLOCKS[0][1].startswith("git clone")
    assert all(words in text for words in ("make demo", "mouthpiece animate", "mouthpiece dub", "mouthpiece.animate("))


def test_every_block_runs_and_leaves_what_it_names(clone):
    written = set(re.findall(r"-o (\S+)", "".join(text for _, text in BLOCKS)))
    for name in written | {"again.mp4", "demo-out/astronaut.mp4", "demo-out/sheet.png", "dub.dub/report.html"}:
        assert (clone / name).stat().st_size > 500, name


def test_the_second_dub_speaks_the_changed_line(clone):
    assert "morning" in (clone / "dub.dub" / "report.html").read_text(encoding="utf-8")
    takes = sorted(path.name for path in (clone / "dub.dub" / "lines").glob("*.wav"))
    assert takes == ["1.1.wav", "1.2.wav"]


def test_commands_in_tables_are_commands_of_the_program():
    from mouthpiece.command_line import load_commands

    named = {words.split()[1] for words in re.findall(r"`(mouthpiece [a-z]+[^`]*)`", README)}
    assert named - {"COMMAND"} <= set(load_commands())
    assert set(load_commands()) - {"train"} <= named
