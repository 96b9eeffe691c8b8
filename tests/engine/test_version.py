"""The version of the code: what caches and batches keep survives a comment, and no change of results."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mouthpiece.engine import version
from mouthpiece.engine.weights import manifest

ROOT = Path(version.__file__).parents[1]
ROOMS = ("engine", "face", "lipsync", "voice", "configs", "mouthpiece")
KEYS = """
from mouthpiece.engine.version import get_code_version
from mouthpiece.lipsync.film.cache import DubCache
print(get_code_version(), DubCache(None, "film").make_key("patch", 1))
"""


def keys_of(root):
    """The version and a key of a dub's cache, of the sources below a folder."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", KEYS], env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_comment_in_every_source_file_changes_no_key_and_a_weights_entry_or_the_schema_does(tmp_path):
    for room in ROOMS:
        shutil.copytree(
            ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("embedded", "__pycache__", "styles")
        )
    for path in tmp_path.rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\n# another comment\n", encoding="utf-8")
    before = keys_of(ROOT)
    assert keys_of(tmp_path) == before
    weights = tmp_path / "configs" / "weights.toml"
    entries = weights.read_text(encoding="utf-8")
    weights.write_text(entries.replace('sha256 = "', 'sha256 = "0', 1), encoding="utf-8")
    assert all(one != other for one, other in zip(keys_of(tmp_path).split(), before.split(), strict=True))
    weights.write_text(entries, encoding="utf-8")
    source = tmp_path / "engine" / "version.py"
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace(f"CACHE_SCHEMA = {version.CACHE_SCHEMA}", "CACHE_SCHEMA = 999"), encoding="utf-8")
    assert all(one != other for one, other in zip(keys_of(tmp_path).split(), before.split(), strict=True))


def test_release_schema_and_weights_each_change_the_version(monkeypatch, tmp_path):
    monkeypatch.delenv(manifest.FOLDER_VARIABLE, raising=False)
    found = [version.get_code_version(), version.get_code_version()]
    assert found[0] == found.pop() and found[0].startswith(f"{version.__version__}+{version.CACHE_SCHEMA}.")
    for name, value in (("CACHE_SCHEMA", version.CACHE_SCHEMA + 1), ("__version__", "9.9")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(version, name, value)
            found.append(version.get_code_version())
    monkeypatch.setenv(manifest.FOLDER_VARIABLE, str(tmp_path))
    for content in ("one", "other"):
        (tmp_path / "core.safetensors").write_text(content)
        found.append(version.get_code_version())
    assert len(set(found)) == 5


def test_a_description_of_weights_does_not_change_the_version(monkeypatch):
    monkeypatch.delenv(manifest.FOLDER_VARIABLE, raising=False)
    before = version.get_code_version()
    entries = {name: entry | {"description": "other words"} for name, entry in manifest.load_weights_manifest().items()}
    monkeypatch.setattr(manifest, "load_weights_manifest", lambda: entries)
    assert version.get_code_version() == before
