"""Portrait renderers: one table, one contract; another renderer is one module and one row."""

import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mouthpiece.engine.device import choose_device
from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.lipsync.options import PortraitOptions, resolve_animate_options
from mouthpiece.lipsync.renderers import (
    DEFAULT_RENDERER,
    RENDERERS,
    PortraitRenderer,
    get_option_classes,
    get_renderer,
    list_option_groups,
)

TOY_MODULE = '''
"""A renderer that only changes the brightness of a portrait."""
from dataclasses import dataclass

import numpy as np

from mouthpiece.engine.config import Options, option
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.lipsync.options import PortraitOptions


@dataclass(frozen=True)
class ToyControls(Options):
    """Options that only the toy has."""

    shade: float = option(1.0, "factor on the brightness", low=0.0, high=1.0)


@dataclass(frozen=True)
class ToyOptions(ToyControls, PortraitOptions):
    """Options of `--model toy`."""

    model: str = option("toy", "which model moves the portrait", choices=("toy",))

    def __post_init__(self):
        PortraitOptions.__post_init__(self)


class ToyRenderer:
    options_class, own_options = ToyOptions, ToyControls

    def check(self, options, placement):
        pass

    def load_models(self, options, placement):
        return options.shade

    def animate(self, job, output, models, placement, progress, overwrite=False):
        height_px, width_px = job.pixels.shape[:2]
        with VideoWriter(output, job.options.fps, width_px, height_px, job.sound, crf=1, overwrite=overwrite) as writer:
            for _ in range(job.frames):
                writer.write((job.pixels * models).astype(np.uint8))
        return job.plan() | {"toy": True}
'''
ROW = """

def _make_toy():
    from toy_renderer import ToyRenderer
    return ToyRenderer()

RENDERERS["toy"] = _make_toy
"""
LAUNCHER = """
import sys
from importlib.machinery import PathFinder, SourceFileLoader

class LongerTable(SourceFileLoader):
    def get_code(self, name):
        return compile(self.get_source(name) + ROW, self.path, "exec")

class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name != "mouthpiece.lipsync.renderers":
            return None
        spec = PathFinder.find_spec(name, path)
        spec.loader = LongerTable(name, spec.origin)
        return spec

sys.meta_path.insert(0, Finder)

from mouthpiece.command_line import main

sys.exit(main(sys.argv[1:]))
"""


def animate_with_toy(folder, *words):
    """Run `mouthpiece animate` in a process where lipsync/renderers.py has one row more, and a module beside."""
    (folder / "toy_renderer.py").write_text(TOY_MODULE, encoding="utf-8")
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", f"ROW = {ROW!r}\n{LAUNCHER}", "animate", "portrait.png", "line.wav", *words]
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_another_renderer_is_one_module_and_one_row(desk):
    words = ("-o", "out.mp4", "--model", "toy", "--shade", "0.25", "--size", "96", "--fps", "10", "--json")
    done = animate_with_toy(desk, *words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert result["facts"]["toy"] is True and result["settings"]["shade"] == 0.25
    with VideoReader(desk / "out.mp4") as reader:
        dark = np.stack([frame.pixels for frame in reader])
    assert len(dark) == 4 and animate_with_toy(desk, *words, "--force", "--shade", "1").returncode == 0
    with VideoReader(desk / "out.mp4") as reader:
        bright = np.stack([frame.pixels for frame in reader])
    assert 0.2 < dark.mean() / bright.mean() < 0.35


def test_options_of_another_renderer_are_refused_and_the_help_has_a_group_for_each(desk):
    done = animate_with_toy(desk, "-o", "out.mp4", "--shade", "0.5")
    assert done.returncode == 2 and "belongs to toy" in done.stderr and not (desk / "out.mp4").exists()
    help_page = animate_with_toy(desk, "--help").stdout
    assert "with --model toy" in help_page and "mini|echomimic|echomimic-acc|toy" in help_page


@pytest.mark.parametrize("name", RENDERERS)
def test_every_row_keeps_the_contract(name):
    renderer = get_renderer(name)
    for method in ("check", "load_models", "animate"):
        asked = list(inspect.signature(getattr(PortraitRenderer, method)).parameters)
        assert list(inspect.signature(getattr(type(renderer), method)).parameters) == asked
    options = renderer.options_class()
    assert (
        isinstance(options, PortraitOptions)
        and options.model == name == resolve_animate_options(None, {"model": name}).model
    )
    assert set(renderer.own_options.__dataclass_fields__) <= set(renderer.options_class.__dataclass_fields__)


def test_the_table_gives_names_classes_and_groups_of_flags():
    assert DEFAULT_RENDERER == "mini" and list(get_option_classes()) == list(RENDERERS)
    assert list(list_option_groups()) == ["animate", "with --model echomimic or echomimic-acc"]
    with pytest.raises(UsageError, match="mini or echomimic or echomimic-acc"):
        get_renderer("oil-paint")


def test_a_check_finds_missing_weights_without_rendering(tmp_path, monkeypatch):
    placement = choose_device("cpu")
    monkeypatch.setenv("MOUTHPIECE_WEIGHTS_DIR", str(tmp_path))
    for name in RENDERERS:
        renderer = get_renderer(name)
        settings = {} if name == "mini" else {"weights": tmp_path}
        with pytest.raises(MissingDependencyError):
            renderer.check(renderer.options_class(**settings), placement)
