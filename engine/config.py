"""Options: a frozen dataclass a branch, filled from defaults, a preset, then flags; nonsense is refused at birth."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from typing import Any

_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "yes or no",
    str: "a word",
    Path: "a path",
    Fraction: "a rate such as 25, 29.97 or 30000/1001",
}
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH", Fraction: "RATE"}  # how help pages write a value
_COMPATIBLE_COMMANDS = {"dub": ("speak",)}  # commands that have all options of another
_NOT_PRESETS = ("weights.toml", "held_out.toml", "models.toml", "voices.toml")


def option(
    default: float | str | Fraction | None,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
):
    """A dataclass field that knows how to explain and check itself.

    default: value when neither preset nor flag gives one; None means "not given".
    help: one line for people.
    unit: "s", "px", "Hz" and the like; empty for plain numbers.
    low, high: smallest and largest value accepted.
    choices: tuple of the values accepted.
    """
    facts = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=facts)


class Options:
    """Base of the option dataclasses: checks every field when an instance is born.

    Raises UsageProblem naming the flag, the value and what is accepted.
    """

    def __post_init__(self) -> None:
        check_options(self)

    def settings(self) -> dict[str, Any]:
        """All values as a JSON-ready dict; given back as a preset it makes the same options."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: str(value) if isinstance(value, Fraction | Path) else value for name, value in plain.items()}


def to_flag(name: str) -> str:
    """The command-line spelling of a field: head_speed -> --head-speed.

    name: field name.
    """
    return "--" + name.replace("_", "-")


def add_flags(parser, cls) -> None:
    """Adds one flag a field to an argparse parser; a flag that is not given stays None.

    parser: argparse.ArgumentParser or an argument group.
    cls: option dataclass.
    """
    hints = typing.get_type_hints(cls)
    parser.set_defaults(option_classes=(*(parser.get_default("option_classes") or ()), cls))
    for field in dataclasses.fields(cls):
        if _unwrap_optional(hints[field.name]) is bool:
            action, extra = argparse.BooleanOptionalAction, {}
        else:
            names = (
                "|".join(map(str, field.metadata.get("choices") or ())) or (field.metadata.get("unit") or "").upper()
            )
            action, extra = "store", {"metavar": names or _METAVARS[_unwrap_optional(hints[field.name])]}
        text = f"{field.metadata.get('help', '')} {_describe_accepted(field)}".strip().replace("%", "%%")
        parser.add_argument(to_flag(field.name), dest=field.name, default=None, action=action, help=text, **extra)


def _describe_accepted(field) -> str:
    """What may be given, in brackets, for the help page."""
    parts = [_describe_range(field.metadata)] if _describe_range(field.metadata) else []
    parts.append("not set by default" if field.default is None else f"default {field.default}")
    return f"[{'; '.join(parts)}]"


def _describe_range(facts) -> str:
    low, high, unit = facts.get("low"), facts.get("high"), facts.get("unit") or ""
    if facts.get("choices"):
        return " or ".join(str(choice) for choice in facts["choices"])
    if low is not None and high is not None:
        return f"{low} to {high} {unit}".strip()
    if low is not None:
        return f"at least {low} {unit}".strip()
    return f"at most {high} {unit}".strip() if high is not None else ""


def _unwrap_optional(hint) -> type:
    """The plain type behind `int` or `int | None`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def resolve_options(cls, preset, flags: dict[str, Any]) -> Options | None:
    """An instance of `cls`: defaults, overlaid by the preset, overlaid by the flags; None never overlays.

    cls: option dataclass.
    preset: dict from read_preset, or None; a key that is no option is refused with the nearest one.
    flags: dict, such as vars() of parsed arguments; keys that are no options are left to others.
    Raises UsageProblem.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values = {}
    for key, value in (preset or {}).items():
        name = key.replace("-", "_")
        if value is None:  # not given: older side-cars name options that are gone
            continue
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(fields)}."
            raise UsageError(f"preset: no option is called '{key}'.", hint=hint, code="unknown_option")
        values[name] = value
    values |= {name: value for name, value in flags.items() if name in fields and value is not None}
    hints = typing.get_type_hints(cls)
    return cls(
        **{name: _convert_value(fields[name], value, _unwrap_optional(hints[name])) for name, value in values.items()}
    )


def validate_given(classes: tuple[type, ...], flags: dict[str, Any]) -> None:
    """Makes sure that every flag that is given could be a value of its option; options that depend on one another are
    not looked at.

    classes: option dataclasses, as add_flags leaves them in the parser's default `option_classes`.
    flags: dict, such as vars() of parsed arguments.
    A rate "source" is left to the command.
    Raises UsageProblem.
    """
    for name in {field.name for cls in classes for field in dataclasses.fields(cls)}:
        if flags.get(name) is None or flags[name] == "source":
            continue
        problems = []
        knowing = [cls for cls in classes if name in cls.__dataclass_fields__]
        for cls in knowing:
            try:
                resolve_options(cls, None, {name: flags[name]})
            except UsageError as problem:
                problems.append(problem)
        if len(problems) == len(knowing):
            raise problems[0]


def reject_unused_options(flags: dict[str, Any], names: tuple[str, ...], where: str, hint: str) -> None:
    """Refuses a flag that is given and would do nothing, instead of ignoring it; what a preset says is for all modes
    and may stay.

    flags: dict, such as vars() of parsed arguments.  names: of the options that do nothing here.
    where: when that is so, such as "with --text".  hint: what to do.
    Raises UsageProblem.
    """
    for name in names:
        if flags.get(name) not in (None, False):
            raise UsageError(f"{to_flag(name)}: has no meaning {where}.", hint=hint, code="strange_option")


def _convert_value(field, value: str | bool, kind: type) -> str | float | Fraction | None:
    """The value in its type; text from the command line and from JSON becomes numbers, rates and paths."""
    try:
        if kind is Fraction:
            from mouthpiece.engine.timeline import parse_rate  # numpy: not for who only lists options

            return parse_rate(value)
        if kind is bool and isinstance(value, str):
            return {"yes": True, "true": True, "no": False, "false": False}[value.lower()]
        if isinstance(value, str) and kind in (int, float, Path):
            return kind(value)
    except (ValueError, KeyError, UsageError) as error:
        raise _make_option_error(field, value, _TYPE_NAMES[kind]) from error
    return float(value) if kind is float and type(value) is int else value


def check_options(options: Options) -> None:
    """Makes sure that every value has its type and lies in its range.

    options: instance of an option dataclass.
    Raises UsageProblem naming the flag, the value and what is accepted.
    """
    hints = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        value, kind = getattr(options, field.name), _unwrap_optional(hints[field.name])
        if value is None and (field.default is None or kind is not hints[field.name]):
            continue
        accepted = (int, float) if kind is float else (int, Fraction) if kind is Fraction else (kind,)
        if kind in _TYPE_NAMES and (not isinstance(value, accepted) or isinstance(value, bool) is not (kind is bool)):
            raise _make_option_error(field, value, _TYPE_NAMES[kind])
        low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
        outside = kind is float and not math.isfinite(value)
        outside |= (low is not None and value < low) or (high is not None and value > high)
        if outside or (choices is not None and value not in choices):
            raise _make_option_error(field, value, _describe_range(field.metadata) or _TYPE_NAMES[kind])


def _make_option_error(field, value: float | str | None, accepted: str) -> UsageError:
    return UsageError(f"{to_flag(field.name)} {value}: need {accepted}.", code="bad_option")


def read_preset(name: str | Path, command: str | None = None) -> dict[str, Any] | None:
    """Settings from a TOML file, from the side-car of an earlier output, or from a preset of the package.

    name: path of a .toml or .json file, or the bare name of a packaged preset such as "animate".
    command: whose options it shall fill; None takes a side-car of any.
    Raises UsageProblem for what is not there or cannot be read, and for a side-car of another command.
    """
    path = Path(name)
    files = [file for file in resources.files("mouthpiece.configs").iterdir() if file.name.endswith(".toml")]
    packaged = {file.name[:-5]: file for file in files if file.name not in _NOT_PRESETS}
    if not path.exists() and str(name) in packaged:
        return tomllib.loads(packaged[str(name)].read_text(encoding="utf-8"))
    if not path.is_file():
        raise UsageError(
            f"--preset {name}: no such file.",
            hint=f"Give a .toml or .json file, or one of: {', '.join(sorted(packaged))}.",
            code="no_preset",
        )
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() != ".json":
            return tomllib.loads(text)
        document = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("settings"), dict):
            raise ValueError("no 'settings' in it")
        _check_command(name, document.get("command"), command)
        return document["settings"]
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"--preset {name}: cannot be read as settings ({error}).",
            hint="A preset is TOML with one 'option = value' a line, or the .json beside an earlier output.",
            code="broken_preset",
        ) from error


def _check_command(name: str | Path, made_by: str | None, command: str | None) -> None:
    """Refuses the side-car of a command that has other options."""
    if (
        isinstance(made_by, str)
        and command is not None
        and made_by not in (command, *_COMPATIBLE_COMMANDS.get(command, ()))
    ):
        raise UsageError(
            f"--preset {name}: it belongs to '{made_by}', not to '{command}'.",
            hint=f"Give the side-car of a result of {command}, or a TOML file with the options wanted.",
            code="other_command",
        )
