"""Command-line flags of option dataclasses, for argparse."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.config import FORMER_OPTIONS, describe_range, get_option_types, to_flag

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.config import Options

    ArgumentContainer = argparse.ArgumentParser | argparse._ArgumentGroup

ADVANCED_TITLE = "advanced (for research; the defaults suit almost everybody)"
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH", Fraction: "RATE"}  # how help pages write a value


def add_option_groups(parser: argparse.ArgumentParser, classes: Mapping[str, type[Options]]) -> None:
    """Add the flags of option dataclasses to a parser, one titled group a class and one for all advanced options.

    parser: argparse parser.
    classes: {title of the group: option dataclass}.
    """
    for title, cls in classes.items():
        add_flags(parser.add_argument_group(title), cls, advanced=False)
    if any(field.metadata.get("advanced") for cls in classes.values() for field in dataclasses.fields(cls)):
        group = parser.add_argument_group(ADVANCED_TITLE)
        for cls in classes.values():
            add_flags(group, cls, advanced=True)


def add_flags(parser: ArgumentContainer, cls: type[Options], advanced: bool | None = None) -> None:
    """Add one flag a field to an argparse parser; a flag that is not given stays None.

    parser: argparse.ArgumentParser or an argument group.
    cls: option dataclass.
    advanced: True adds only the advanced options, False only the others, None all.
    """
    types = get_option_types(cls)
    known = parser.get_default("option_classes") or ()
    parser.set_defaults(option_classes=known if cls in known else (*known, cls))
    for field in dataclasses.fields(cls):
        if advanced is not None and bool(field.metadata.get("advanced")) is not advanced:
            continue
        is_switch = types[field.name] is bool
        former = field.metadata.get("formerly")
        text = f"{field.metadata.get('help', '')} {_describe_accepted(field)}".strip().replace("%", "%%")
        if is_switch:
            parser.add_argument(
                to_flag(field.name), dest=field.name, default=None, action=argparse.BooleanOptionalAction, help=text
            )
        else:
            names = "|".join(map(str, field.metadata.get("choices") or ()))
            names = names or (field.metadata.get("unit") or "").upper()
            metavar = names or _METAVARS[types[field.name]]
            parser.add_argument(to_flag(field.name), dest=field.name, default=None, help=text, metavar=metavar)
        if former is not None:
            add_former_flag(parser, former, field.name, is_switch)


def add_former_flag(
    parser: ArgumentContainer,
    former: str,
    name: str,
    is_switch: bool = False,
    choices: tuple[str, ...] | None = None,
) -> None:
    """Add a hidden flag under which an option was known in an earlier release.

    parser: argparse.ArgumentParser or an argument group.
    former, name: the option's former and present field name.
    is_switch: True for an option with --no-....
    choices: values that the parser accepts; None accepts all.
    """
    if not is_switch:
        parser.add_argument(to_flag(former), dest=name, action=_FormerFlag, choices=choices, help=argparse.SUPPRESS)
        return
    for word, value in ((former, True), (f"no_{former}", False)):
        parser.add_argument(to_flag(word), dest=name, action=_FormerFlag, nargs=0, const=value, help=argparse.SUPPRESS)


class _FormerFlag(argparse.Action):
    """Stores the value under the present name and notes the former one for warn_of_former_options."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)
        noted = getattr(namespace, FORMER_OPTIONS, None) or {}
        setattr(namespace, FORMER_OPTIONS, noted | {(option_string or "").removeprefix("--no-").strip("-"): self.dest})


def _describe_accepted(field: dataclasses.Field) -> str:
    """Describe in brackets what may be given, for the help page."""
    parts = [describe_range(field.metadata)] if describe_range(field.metadata) else []
    parts.append("not set by default" if field.default is None else f"default {field.default}")
    return f"[{'; '.join(parts)}]"
