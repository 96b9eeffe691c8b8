"""Options of a command: a frozen dataclass, filled from defaults, a preset and then flags; every value is validated."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from typing import Any

OptionsType = TypeVar("OptionsType", bound="Options")

_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "yes or no",
    str: "a word",
    Path: "a path",
    Fraction: "a rate such as 25, 29.97 or 30000/1001",
}
FORMER_OPTIONS = "former_options"  # where a parsed namespace keeps which flags were given under a former name


class RenamedOptionWarning(FutureWarning):
    """An option was given under a former name; the message gives the present one."""


def option(
    default: float | str | Path | Fraction | None,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    formerly: str | None = None,
    advanced: bool = False,
) -> Any:
    """Declare a dataclass field that documents and validates itself.

    default: value when neither preset nor flag gives one; None means "not given".
    help: one line for people.
    unit: "s", "px", "Hz" and the like; empty for plain numbers.
    low, high: smallest and largest value accepted.
    choices: tuple of the values accepted.
    formerly: name of the option in an earlier release, still accepted with a warning.
    advanced: True lists it in the last group of the help page, for research.
    """
    facts = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=facts | {"formerly": formerly, "advanced": advanced})


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of the option dataclasses: validates every field of a new instance.

    Raises UsageError naming the flag, the value and what is accepted.
    """

    def __post_init__(self) -> None:
        check_options(self)

    def settings(self) -> dict[str, Any]:
        """Return all values as a JSON-ready dict; used as a preset it makes the same options."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: str(value) if isinstance(value, Fraction | Path) else value for name, value in plain.items()}


def to_flag(name: str) -> str:
    """Spell a field as on the command line: head_speed -> --head-speed."""
    return "--" + name.replace("_", "-")


def describe_range(facts: Mapping[str, Any]) -> str:
    """Describe the values that an option accepts: choices or a range with its unit. facts: metadata of its field."""
    low, high, unit = facts.get("low"), facts.get("high"), facts.get("unit") or ""
    if facts.get("choices"):
        return " or ".join(str(choice) for choice in facts["choices"])
    if low is not None and high is not None:
        return f"{low} to {high} {unit}".strip()
    if low is not None:
        return f"at least {low} {unit}".strip()
    return f"at most {high} {unit}".strip() if high is not None else ""


def _unwrap_optional(hint: Any) -> type:
    """Return the plain type behind `int` or `int | None`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def get_option_types(cls: type[Options]) -> dict[str, type]:
    """Return {name: type} of all options of a dataclass; of an optional one the type of a value that is given."""
    hints = typing.get_type_hints(cls)
    return {field.name: _unwrap_optional(hints[field.name]) for field in dataclasses.fields(cls)}


def get_former_names(cls: type[Options]) -> dict[str, str]:
    """Return {former name: present name} of the renamed options of a dataclass."""
    return {
        field.metadata["formerly"]: field.name for field in dataclasses.fields(cls) if field.metadata.get("formerly")
    }


def rename_former_options(cls: type[Options], values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys that are former names of options, warning once a call with all present names.

    cls: option dataclass.
    values: dict of option names (with - or _) to values; other keys are left as they are.
    Raises UsageError for an option given under both names with two values.
    """
    present, renamed = get_former_names(cls), {}
    out = dict(values)
    for key in values:
        name = present.get(key.replace("-", "_"))
        if name is None or key in cls.__dataclass_fields__:
            continue
        value = out.pop(key)
        if value is None:  # not given
            continue
        if out.get(name) not in (None, value):
            hint = f"Leave out '{key}', its former name."
            raise UsageError(f"{to_flag(name)}: is given twice, as '{key}' too.", hint=hint, code="given_twice")
        out[name] = value
        renamed[key.replace("_", "-")] = name
    _warn_of_renamed(renamed)
    return out


def warn_of_former_options(flags: Mapping[str, Any]) -> None:
    """Warn of command-line flags given under a former name. flags: vars() of parsed arguments."""
    _warn_of_renamed(flags.get(FORMER_OPTIONS) or {})


def _warn_of_renamed(renamed: Mapping[str, str]) -> None:
    """Issue one RenamedOptionWarning. renamed: {former spelling: present field name}."""
    if renamed:
        pairs = ", ".join(f"--{former} is now {to_flag(name)}" for former, name in renamed.items())
        warnings.warn(f"renamed options: {pairs}.", RenamedOptionWarning, stacklevel=3)


@contextmanager
def note_renamed_options(note: Callable[[str], None]) -> Iterator[None]:
    """Pass the text of every RenamedOptionWarning to a callable, each text once, instead of printing it.

    note: called with one sentence, such as Progress.note.
    """
    noted: set[str] = set()
    with warnings.catch_warnings():
        show_other = warnings.showwarning
        warnings.simplefilter("always", RenamedOptionWarning)

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, RenamedOptionWarning):
                show_other(message, category, *place, **more)
            elif str(message) not in noted:
                noted.add(str(message))
                note(str(message))

        warnings.showwarning = show
        yield


def resolve_options(cls: type[OptionsType], preset: Mapping[str, Any] | None, flags: Mapping[str, Any]) -> OptionsType:
    """Build an instance of `cls` from defaults, overlaid by the preset, overlaid by the flags; None never overlays.

    cls: option dataclass.
    preset: dict from read_preset, or None; a key that is not an option is rejected with the nearest one.
    flags: dict, such as vars() of parsed arguments; keys that are not options are ignored.
    Raises UsageError.
    """
    warn_of_former_options(flags)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values = {}
    for key, value in rename_former_options(cls, preset or {}).items():
        name = key.replace("-", "_")
        if value is None:  # not given: older side-cars name options that no longer exist
            continue
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(fields)}."
            raise UsageError(f"preset: no option is called '{key}'.", hint=hint, code="unknown_option")
        values[name] = value
    flags = rename_former_options(cls, flags)
    values |= {name: value for name, value in flags.items() if name in fields and value is not None}
    hints = typing.get_type_hints(cls)
    return cls(
        **{name: _convert_value(fields[name], value, _unwrap_optional(hints[name])) for name, value in values.items()}
    )


def reject_unused_options(flags: Mapping[str, Any], names: Iterable[str], where: str, hint: str) -> None:
    """Reject a flag that is given but has no effect in the mode asked for.

    A preset may hold options of all modes, so only flags are checked.

    flags: dict, such as vars() of parsed arguments.
    names: of the options without effect.
    where: the mode, such as "with --text".
    hint: what to do.
    Raises UsageError.
    """
    for name in names:
        if flags.get(name) not in (None, False):
            raise UsageError(f"{to_flag(name)}: has no meaning {where}.", hint=hint, code="strange_option")


def _convert_value(field: dataclasses.Field, value: Any, kind: type) -> Any:
    """Convert text from the command line or from JSON to a number, rate, path or bool."""
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
    """Validate type and range of every value.

    options: instance of an option dataclass.
    Raises UsageError naming the flag, the value and what is accepted.
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
            raise _make_option_error(field, value, describe_range(field.metadata) or _TYPE_NAMES[kind])


def _make_option_error(field: dataclasses.Field, value: Any, accepted: str) -> UsageError:
    return UsageError(f"{to_flag(field.name)} {value}: need {accepted}.", code="bad_option")


def read_preset(
    name: str | Path, command: str | None = None, compatible_commands: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Read settings from a TOML file, from the side-car of an earlier output, or from a preset of the package.

    name: path of a .toml or .json file, or the bare name of a packaged preset such as "animate".
    command: whose options it fills; None accepts the side-car of any command.
    compatible_commands: other commands whose side-cars fit, as all their options exist in `command` too.
    Raises UsageError for a file that does not exist or cannot be read, and for a side-car of another command.
    """
    path = Path(name)
    folder = resources.files("mouthpiece.configs") / "presets"
    packaged = {file.name.removesuffix(".toml"): file for file in folder.iterdir() if file.name.endswith(".toml")}
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
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"--preset {name}: cannot be read as settings ({error}).",
            hint="A preset is TOML with one 'option = value' a line, or the .json beside an earlier output.",
            code="broken_preset",
        ) from error
    made_by = document.get("command")
    if isinstance(made_by, str) and command is not None and made_by not in (command, *compatible_commands):
        raise UsageError(
            f"--preset {name}: it belongs to '{made_by}', not to '{command}'.",
            hint=f"Give the side-car of a result of {command}, or a TOML file with the options wanted.",
            code="other_command",
        )
    return document["settings"]
