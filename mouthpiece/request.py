"""Requests: what a use case is asked for, typed, made from the plain values of a command line, a table or a call."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar

from mouthpiece.engine.config import (
    Options,
    read_preset,
    rename_former_options,
    resolve_options,
    to_flag,
    warn_of_former_options,
)
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.progress import CallbackProgress, Progress, ProgressEvent
from mouthpiece.engine.weights.records import record_models
from mouthpiece.job import Job, OutputSettings, Result
from mouthpiece.json_values import to_json_value

StrPath = str | PathLike[str]
ProgressCallback = Callable[[ProgressEvent], None]
ALL_SETTINGS = tuple(setting.name for setting in fields(OutputSettings))
_SWITCHES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Argument:
    """One argument of a use case beside its options.

    name: of the field of the request.  required: whether it must be given.
    kind: Path, str or bool.
    media: a picture, a sound or a video, never plain text.
    excerpt: the beginning of the file is enough to measure how long the work takes.
    writes: the file is written, not read.
    choices: values accepted; empty: all.
    """

    name: str
    required: bool = True
    kind: type = Path
    media: bool = False
    excerpt: bool = False
    writes: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """Base of the requests.

    settings: how outputs are written.
    given: options that were given one by one, not by a preset: one that would do nothing is refused.
    preset: name of the preset that was given.
    """

    command: ClassVar[str] = ""
    settings: OutputSettings = field(default=OutputSettings(), kw_only=True)
    given: Mapping[str, object] = field(default_factory=dict, kw_only=True)
    preset: StrPath | None = field(default=None, kw_only=True)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Paths of the files that are read."""
        return ()


@dataclass(frozen=True)
class UseCase:
    """A use case: how a Request of it is made, and what runs it.

    request: its Request class.  run: the function of a Request and a Job that gives the Result.
    arguments: what it takes beside options.
    option_classes: option dataclasses, all of their fields are accepted; empty: it has no options and no presets.
    resolve: makes the options of (preset or None, options given); by default an instance of the first class.
    settings: names of the OutputSettings it knows.
    compatible_commands: other use cases whose side-cars may be given as a preset.
    """

    request: type[Request]
    run: Callable[[Any, Job], Result]
    arguments: tuple[Argument, ...]
    option_classes: tuple[type[Options], ...] = ()
    resolve: Callable[[dict[str, Any] | None, dict[str, Any]], Options] | None = None
    settings: tuple[str, ...] = ALL_SETTINGS
    compatible_commands: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the use case, as of its command."""
        return self.request.command

    @property
    def option_names(self) -> tuple[str, ...]:
        """Names of all options, each once, in order."""
        return tuple(dict.fromkeys(option.name for cls in self.option_classes for option in fields(cls)))  # type: ignore[arg-type]

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of everything that from_fields accepts."""
        preset = ("preset",) if self.option_classes else ()
        return (*(argument.name for argument in self.arguments), *preset, *self.option_names, *self.settings)

    def from_fields(self, values: Mapping[str, Any], base: Path | None = None) -> Request:
        """Make a Request of plain values, by name: those of a table, of a call, of a command line.

        values: arguments, options, settings and "preset"; None means not given; text is converted.
            The command line's "force" and "no-provenance" stand for "overwrite" and not "provenance".
        base: folder from which relative paths of arguments, settings and the preset count; None: the current one.
        Raises UsageError for an unknown name, a missing argument, or a value that is not accepted.
        """
        known = {_to_name(key): value for key, value in values.items() if value is not None}
        if "force" in known:
            known["overwrite"] = known.pop("force")
        if "no_provenance" in known:
            known["provenance"] = not _to_bool("no_provenance", known.pop("no_provenance"))
        for cls in self.option_classes:
            known = rename_former_options(cls, known)
        self._reject_unknown(known)
        arguments = {
            argument.name: self._convert(argument, known.get(argument.name), base) for argument in self.arguments
        }
        settings: dict[str, Any] = {
            name: _convert_setting(name, known[name], base) for name in self.settings if name in known
        }
        given = {name: known[name] for name in self.option_names if name in known}
        preset = known.get("preset")
        options = {"options": self._resolve(preset, given, base)} if self.option_classes else {}
        return self.request(**arguments, **options, settings=OutputSettings(**settings), given=given, preset=preset)

    def from_namespace(self, namespace: object) -> Request:
        """Make a Request of parsed arguments of the command line; what is not of this use case is passed over."""
        warn_of_former_options(vars(namespace))
        names = (*self.field_names, "force", "no_provenance")
        return self.from_fields({name: value for name, value in vars(namespace).items() if name in names})

    def execute(self, request: Request, progress: Progress | None = None, *, verbose: bool = False) -> Result:
        """Run a Request; return its Result with the notes made on the way. Raises what the use case raises."""
        progress = progress or Progress("none")
        earlier = len(progress.notes)
        with record_models():
            result = self.run(request, Job(self.name, request.inputs, request.settings, progress, verbose=verbose))
        return replace(result, document=to_json_value(result.document), notes=tuple(progress.notes[earlier:]))

    def call(self, values: Mapping[str, Any], progress: ProgressCallback | None = None) -> Result:
        """Make a Request of plain values and run it: the Python API. progress: called with ProgressEvents."""
        return self.execute(self.from_fields(values), None if progress is None else CallbackProgress(progress))

    def _reject_unknown(self, known: Mapping[str, Any]) -> None:
        unknown = next((name for name in known if name not in self.field_names), None)
        if unknown is not None:
            close = difflib.get_close_matches(unknown, self.field_names, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(self.field_names)}."
            raise UsageError(
                f"{self.name}: no input or option is called '{unknown}'.", hint=hint, code="unknown_option"
            )

    def _convert(self, argument: Argument, value: Any, base: Path | None) -> Any:
        if argument.kind is bool:
            return False if value is None else _to_bool(argument.name, value)
        if value is None:
            if argument.required:
                raise UsageError(f"{self.name}: {argument.name} is missing.", code="usage")
            return None
        if argument.choices and value not in argument.choices:
            raise UsageError(
                f"{to_flag(argument.name)} {value}: need {' or '.join(argument.choices)}.", code="bad_option"
            )
        return _to_path(value, base) if argument.kind is Path else argument.kind(value)

    def _resolve(self, preset: StrPath | None, given: dict[str, Any], base: Path | None) -> Options:
        if preset is not None and base is not None and (base / preset).exists():
            preset = base / preset
        values = None if preset is None else read_preset(fspath(preset), self.name, self.compatible_commands)
        if self.resolve is not None:
            return self.resolve(values, given)
        return resolve_options(self.option_classes[0], values, given)


def _to_name(key: str) -> str:
    return key.removeprefix("--").replace("-", "_")


def _to_path(value: StrPath, base: Path | None) -> Path:
    return Path(value) if base is None else base / value


def _to_bool(name: str, value: Any) -> bool:
    switch = value if isinstance(value, bool) else _SWITCHES.get(str(value).lower())
    if switch is None:
        raise UsageError(f"{to_flag(name)} {value}: need yes or no.", code="bad_option")
    return switch


def _convert_setting(name: str, value: Any, base: Path | None) -> bool | Path:
    return _to_path(value, base) if name in ("consent", "signing_key", "signing_cert") else _to_bool(name, value)
