"""Weights: which are on this machine, under which licences, how to fetch and convert the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.job import Result

if TYPE_CHECKING:
    from mouthpiece.engine.progress import Progress

ACTIONS = ("list", "pull", "path", "convert", "licences")
Converter = Callable[[Path], Path]  # folder of a pulled model -> where the files that are loaded lie
_BYTES_PER_MEGABYTE = 1e6
_LICENCE_STATES = {None: "", True: "; accepted", False: "; must be accepted before a pull"}


@dataclass(frozen=True)
class ModelsRequest:
    """What is wanted of the models.

    action: one of ACTIONS.  name: of the model, for pull, path and convert.
    yes: fetch without asking.  accept_licence: the licence is accepted.
    """

    action: str
    name: str | None = None
    yes: bool = False
    accept_licence: bool = False


def get_converters() -> dict[str, Converter]:
    """Return {name of a pulled model: function of its folder that makes the files that are loaded}.

    Voice backends say theirs in their table; those of renderers stand here.
    """
    from mouthpiece.voice.backends.registry import BACKENDS

    converters = {name: backend.converter for name, backend in BACKENDS.items() if backend.converter is not None}
    return converters | {"echomimic": _convert_echomimic, "echomimic-acc": _convert_echomimic}


def _convert_echomimic(folder: Path) -> Path:
    from mouthpiece.lipsync.echomimic.weights import convert

    return convert(folder)


def run_models(
    request: ModelsRequest, progress: Progress, ask: Callable[[str], bool] = lambda question: False
) -> Result:
    """List models, fetch one, or say where it lies.

    ask: puts a question to a person; without it a pull needs `yes`.
    Raises UsageError for an action that lacks its name, and what the action raises.
    """
    from mouthpiece.engine.weights.download import load_model_registry
    from mouthpiece.engine.weights.manifest import load_weights_manifest

    action, name = request.action, request.name
    if action in ("list", "licences"):
        if name is not None:
            raise UsageError(f"models {action}: takes no name.", hint="Leave it out.", code="usage")
        return list_licences() if action == "licences" else list_models()
    if name is None:
        embedded = load_weights_manifest() if action == "path" else ()
        names = sorted([*embedded, *load_model_registry()])
        raise UsageError(f"models {action}: which one?", hint=f"Give one of: {', '.join(names)}.", code="usage")
    if action == "path":
        return show_model_path(name)
    if action == "convert":
        return convert_model(name, get_converters())
    return pull_model(request, progress, ask, get_converters())


def list_models() -> Result:
    """List all models: embedded or to be pulled, whether available, bytes, licence, description."""
    from mouthpiece.engine.weights.download import is_model_available, load_model_registry
    from mouthpiece.engine.weights.manifest import load_weights_manifest

    rows: dict[str, dict[str, Any]] = {}
    for name, entry in load_weights_manifest().items():
        facts = {key: entry.get(key) for key in ("bytes", "licence", "description")}
        rows[name] = {"kind": "embedded", "at_hand": True} | facts
    for name, entry in load_model_registry().items():
        sizes = [file.get("bytes") for file in entry["files"]]
        rows[name] = {
            "kind": "pull",
            "at_hand": is_model_available(name),
            "bytes": None if None in sizes else sum(sizes),
            "licence": entry["licence"],
            "description": entry["title"],
        }
    lines = []
    for name, row in rows.items():
        state, size = "available" if row["at_hand"] else "missing", _format_megabytes(row["bytes"])
        lines.append(f"{state:9}  {name:20} {size:>9}  {row['licence']}; {row['description']}")
    return Result("models", rows, "\n".join(lines))


def list_licences() -> Result:
    """List the licence of every model, its source, and whether it was accepted where that is needed."""
    from mouthpiece.engine.weights.download import get_model_folder, is_licence_accepted, load_model_registry
    from mouthpiece.engine.weights.manifest import load_weights_manifest

    rows: dict[str, dict[str, Any]] = {
        name: {key: entry.get(key) for key in ("licence", "source")} for name, entry in load_weights_manifest().items()
    }
    for name, entry in load_model_registry().items():
        accepted = is_licence_accepted(get_model_folder(name), entry) if entry.get("consent") else None
        rows[name] = {"licence": entry["licence"], "source": entry["licence_url"], "accepted": accepted}
    lines = [
        f"{name}: {row['licence']}, {row['source']}{_LICENCE_STATES[row.get('accepted')]}" for name, row in rows.items()
    ]
    return Result("models", rows, "\n".join(lines))


def show_model_path(name: str) -> Result:
    """Return where a model lies: its file, or its folder where it has several.

    Raises UsageError for a name that is not known, MissingDependencyError when it is not on this machine.
    """
    from mouthpiece.engine.weights.download import (
        get_model_file,
        get_model_folder,
        is_model_available,
        load_model_registry,
    )
    from mouthpiece.engine.weights.manifest import get_embedded_path, load_weights_manifest

    registry = load_model_registry()
    if name in registry:
        files = registry[name]["files"]
        if len(files) == 1 and "sha256" in files[0]:
            path = get_model_file(name)
        elif len(files) == 1 or is_model_available(name):
            path = get_model_folder(name)
        else:
            raise _make_missing_error(name)
    elif name in load_weights_manifest():
        path = get_embedded_path(name)
    else:
        known = ", ".join(sorted([*load_weights_manifest(), *registry]))
        raise UsageError(f"models: '{name}' is not known.", hint=f"Known: {known}.", code="no_model")
    return Result("models", {"name": name, "path": str(path)}, str(path))


def pull_model(
    request: ModelsRequest, progress: Progress, ask: Callable[[str], bool], converters: Mapping[str, Converter]
) -> Result:
    """Fetch a model, verified, and convert it where it has a converter. One that is complete is not fetched again.

    ask: puts a question to a person.  converters: from get_converters.
    Raises UsageError when nobody agreed, and what weights.download.download_model raises.
    """
    from mouthpiece.engine.weights.download import (
        download_model,
        get_model_entry,
        get_model_file,
        get_model_folder,
        has_installed_parts,
        is_complete,
        is_licence_accepted,
    )

    name = str(request.name)
    entry, folder = get_model_entry(name), get_model_folder(name)
    if has_installed_parts(entry):
        get_model_file(name)  # joined out of installed packages: nothing to fetch
    if is_complete(entry, folder) and is_licence_accepted(folder, entry):
        document = {"name": name, "folder": str(folder), "fetched": False}
        return Result("models", document, f"{name}: already in {folder}, verified")
    accepted = request.accept_licence or is_licence_accepted(folder, entry)
    _confirm_pull(request, entry, accepted, progress, ask)
    rows = download_model(name, entry, folder, progress, accepted or not request.yes)
    for row in rows:
        if row["known"] == "recorded":
            trust = "this entry pins none, so it is trusted from now on."
            progress.note(f"{row['path']}: SHA-256 {row['sha256']} recorded; {trust}")
    document = {"name": name, "folder": str(folder), "fetched": True, "files": rows}
    if name in converters:
        document["converted"] = str(converters[name](folder))
    size = _format_megabytes(sum(row["bytes"] for row in rows))
    return Result("models", document, f"{name}: {len(rows)} file(s) in {folder}, {size}")


def _confirm_pull(
    request: ModelsRequest, entry: dict[str, Any], accepted: bool, progress: Progress, ask: Callable[[str], bool]
) -> None:
    """Say size and licence, and ask whether to fetch unless that was said before. Raises UsageError for a no."""
    from mouthpiece.engine.weights.download import get_download_bytes

    size = _format_megabytes(get_download_bytes(entry))
    offer = f"{request.name}: {entry['title']}. {size}, licence {entry['licence']}, {entry['licence_url']}"
    if request.yes:
        progress.note(offer)
        return
    offer = offer if accepted else f"{offer}. This licence must be accepted: answering yes accepts it"
    if not ask(offer):
        hint = "Add --yes to fetch it." + ("" if accepted else " Add --accept-licence if you agree.")
        raise UsageError(f"{offer}: not fetched.", hint=hint, code="not_agreed")


def convert_model(name: str, converters: Mapping[str, Converter]) -> Result:
    """Convert a pulled model again, as a pull does at its end. converters: from get_converters.

    Raises UsageError for a model that needs no conversion, MissingDependencyError when it was not pulled.
    """
    from mouthpiece.engine.weights.download import get_model_entry, get_model_folder, is_model_available

    get_model_entry(name)
    if name not in converters:
        hint = f"These are converted: {', '.join(sorted(converters)) or 'none'}."
        raise UsageError(f"models convert: {name} is used as it comes.", hint=hint, code="usage")
    if not is_model_available(name):
        raise _make_missing_error(name)
    converted = str(converters[name](get_model_folder(name)))
    return Result("models", {"name": name, "converted": converted}, f"{name}: {converted}")


def _make_missing_error(name: str) -> MissingDependencyError:
    hint = f"Run: mouthpiece models pull {name}"
    return MissingDependencyError(f"{name}: the model is not on this machine.", hint=hint, code="no_model")


def _format_megabytes(size: int | None) -> str:
    return "size not known" if not size else f"{size / _BYTES_PER_MEGABYTE:.1f} MB"
