"""The user's folders: the same paths as release 0.1.0 on Linux, and the variables that name others."""

import sys
from pathlib import Path

import pytest

from mouthpiece.engine import folders
from mouthpiece.engine.errors import OutputError


@pytest.fixture
def bare(monkeypatch, tmp_path):
    for name in (folders.CACHE_VARIABLE, folders.CONFIG_VARIABLE, "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="paths of Linux")
def test_paths_on_linux(bare, monkeypatch):
    assert folders.get_cache_path() == bare / ".cache" / "mouthpiece"
    assert folders.get_cache_path("models", "net") == bare / ".cache" / "mouthpiece" / "models" / "net"
    assert folders.get_config_folder() == bare / ".config" / "mouthpiece"
    monkeypatch.setenv("XDG_CACHE_HOME", str(bare / "c"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(bare / "d"))
    assert folders.get_cache_path("x") == bare / "c" / "mouthpiece" / "x"
    assert folders.get_config_folder() == bare / "d" / "mouthpiece"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert folders.get_cache_path() == bare / ".cache" / "mouthpiece"


def test_variables_name_other_folders(bare, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", "relative/cache")
    monkeypatch.setenv("MOUTHPIECE_CONFIG_DIR", str(bare / "settings"))
    assert folders.get_cache_path("a") == Path("relative/cache/a")
    assert folders.get_config_folder() == bare / "settings"


def test_a_cache_folder_is_made_and_one_that_cannot_be_made_is_an_output_error(bare, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", str(bare / "cache"))
    assert folders.make_cache_folder("a", "b").is_dir()
    (bare / "cache" / "file").write_text("")
    with pytest.raises(OutputError):
        folders.make_cache_folder("file", "b")
