import argparse
import dataclasses
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from mouthpiece.engine.config import Options, option, read_preset, resolve_options
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.option_flags import add_flags


@dataclass(frozen=True)
class Dance(Options):
    steps: int = option(8, "how many", low=1, high=100)
    sway: float = option(1.0, "how much", low=0.0, high=2.0)
    style: str = option("waltz", "which", choices=("waltz", "tango"))
    mirror: bool = option(True, "both sides")
    fps: Fraction = option(Fraction(25), "frames a second")
    size: int | None = option(None, "side of the picture", unit="px", low=32)
    shoes: Path | None = option(None, "a file")


def from_command_line(*words, preset=None):
    parser = argparse.ArgumentParser()
    add_flags(parser, Dance)
    return resolve_options(Dance, preset, vars(parser.parse_args(words)))


def test_the_side_car_of_another_command_says_whose_it_is_and_speaks_is_a_dubs_too(tmp_path):
    path = tmp_path / "out.json"
    path.write_text('{"command": "dub", "settings": {"seed": 3}}')
    with pytest.raises(UsageError, match="it belongs to 'dub', not to 'animate'"):
        read_preset(path, "animate")
    assert read_preset(path, "dub") == read_preset(path) == {"seed": 3}
    path.write_text('{"command": "speak", "settings": {"seed": 4}}')
    assert read_preset(path, "dub", compatible_commands=("speak",)) == {"seed": 4}
    with pytest.raises(UsageError, match="it belongs to 'speak', not to 'dub'"):
        read_preset(path, "dub")


def test_without_preset_and_flags_the_defaults_hold():
    assert from_command_line() == Dance()


def test_flags_win_over_the_preset_and_the_preset_over_defaults():
    options = from_command_line("--steps", "3", preset={"steps": 5, "sway": 0.5})
    assert (options.steps, options.sway, options.style) == (3, 0.5, "waltz")


def test_a_zero_and_a_no_are_given_values():
    options = from_command_line("--sway", "0", "--no-mirror", preset={"sway": 1.5, "mirror": True})
    assert options.sway == 0.0 and options.mirror is False
    assert resolve_options(Dance, {"sway": 0, "mirror": False}, {}).sway == 0.0


def test_a_none_never_overlays():
    assert resolve_options(Dance, {"steps": 5, "size": None}, {"steps": None}).steps == 5


def test_every_flag_changes_its_own_field():
    given = {"steps": "9", "sway": "0.25", "style": "tango", "fps": "29.97", "size": "64", "shoes": "a.png"}
    for name, text in given.items():
        options = from_command_line("--" + name, text)
        changed = [f.name for f in dataclasses.fields(Dance) if getattr(options, f.name) != getattr(Dance(), f.name)]
        assert changed == [name]
    assert from_command_line("--fps", "29.97").fps == Fraction(30000, 1001)
    assert from_command_line("--shoes", "a.png").shoes == Path("a.png")


@pytest.mark.parametrize(
    "words, said",
    [
        (("--steps", "0"), "--steps 0: need 1 to 100"),
        (("--steps", "101"), "--steps 101: need 1 to 100"),
        (("--steps", "many"), "--steps many: need a whole number"),
        (("--steps", "2.5"), "--steps 2.5: need a whole number"),
        (("--sway", "nan"), "--sway nan: need 0.0 to 2.0"),
        (("--style", "polka"), "--style polka: need waltz or tango"),
        (("--fps", "0"), "--fps 0: need a rate such as 25"),
        (("--size", "1"), "--size 1: need at least 32 px"),
    ],
)
def test_nonsense_is_refused_with_flag_value_and_range(words, said):
    with pytest.raises(UsageError, match=said):
        from_command_line(*words)


@pytest.mark.parametrize(
    "values", [{"steps": 0}, {"steps": True}, {"steps": 2.0}, {"mirror": 1}, {"style": None}, {"sway": float("inf")}]
)
def test_options_refuse_nonsense_at_birth(values):
    with pytest.raises(UsageError, match="--" + next(iter(values))):
        Dance(**values)


def test_an_option_that_is_gone_and_was_not_given_in_an_older_side_car_is_passed_over():
    assert from_command_line(preset={"gone_since": None}) == Dance()


def test_an_unknown_key_in_a_preset_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="'stepps'.*Did you mean steps"):
        resolve_options(Dance, {"stepps": 5}, {})
    with pytest.raises(UsageError, match="'zzz'.*Known: steps"):
        resolve_options(Dance, {"zzz": 5}, {})


def test_keys_may_be_written_as_in_flags():
    @dataclass(frozen=True)
    class Two(Options):
        head_speed: float = option(1.0, "x")

    assert resolve_options(Two, {"head-speed": 2}, {}) == Two(head_speed=2.0)


def test_settings_given_back_as_a_side_car_make_the_same_options(tmp_path):
    options = Dance(steps=3, fps=Fraction(30000, 1001), mirror=False, shoes=Path("a.png"))
    path = tmp_path / "out.json"
    path.write_text(json.dumps({"version": "x", "settings": options.settings()}))
    assert resolve_options(Dance, read_preset(path), {}) == options


def test_a_toml_preset_states_only_differences(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('steps = 4\nfps = "30000/1001"\n')
    assert resolve_options(Dance, read_preset(path), {}) == Dance(steps=4, fps=Fraction(30000, 1001))


def test_a_preset_that_is_not_there_or_broken_is_refused_by_name(tmp_path):
    for name in ("nowhere", "weights"):
        with pytest.raises(UsageError, match=f"{name}.*animate"):
            read_preset(name)
    (tmp_path / "a.toml").write_text("steps = = 4")
    (tmp_path / "a.json").write_text("[1, 2]")
    (tmp_path / "b.json").write_text('{"settings": 4}')
    for name in ("a.toml", "a.json", "b.json"):
        with pytest.raises(UsageError, match=name):
            read_preset(tmp_path / name)


def test_the_packaged_preset_is_found_by_its_bare_name():
    assert isinstance(read_preset("animate"), dict)


def test_the_help_page_names_range_unit_and_default():
    parser = argparse.ArgumentParser()
    add_flags(parser, Dance)
    page = " ".join(parser.format_help().split())
    for text in (
        "--steps",
        "[1 to 100; default 8]",
        "[at least 32 px; not set by default]",
        "--no-mirror",
        "waltz or tango",
    ):
        assert text in page
