"""`mouthpiece models`: weights in the package and those that can be fetched."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult
from mouthpiece.engine.config import reject_unused_options
from mouthpiece.engine.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mouthpiece.engine.progress import Progress

ACTIONS = ("list", "pull", "path", "convert", "licences")
CONVERTERS = {}  # name in the registry -> function of the model's folder; the door fills it


def add(parser) -> None:
    """Adds the arguments of `models`."""
    parser.add_argument("action", choices=ACTIONS, help="pull is the only thing that ever downloads")
    parser.add_argument("name", nargs="?", help="which one, for pull, path and convert")
    parser.add_argument("--yes", action="store_true", help="pull: fetch without asking")
    parser.add_argument(
        "--accept-licence", action="store_true", help="pull: the licence shown is accepted, where it asks for that"
    )


def run(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `models`."""
    from mouthpiece.engine.weights.download import get_model_entry, load_model_registry
    from mouthpiece.engine.weights.manifest import load_weights_manifest

    if args.action != "pull":
        reject_unused_options(
            vars(args),
            ("yes", "accept_licence"),
            f"with models {args.action}",
            "It belongs to models pull; leave it out.",
        )
    if args.action in ("list", "licences"):
        if args.name is not None:
            raise UsageError(f"models {args.action}: takes no name.", hint="Leave it out.", code="usage")
        return list_licences() if args.action == "licences" else list_models()
    if args.name is None:
        names = (
            sorted(load_model_registry())
            if args.action != "path"
            else sorted([*load_weights_manifest(), *load_model_registry()])
        )
        raise UsageError(f"models {args.action}: which one?", hint=f"Give one of: {', '.join(names)}.", code="usage")
    if args.action == "path":
        return show_model_path(args.name)
    entry = get_model_entry(args.name)
    return pull_model(args, entry, progress) if args.action == "pull" else convert_model(args.name, entry)


def list_models() -> CommandResult:
    """Outcome of `models list`."""
    from mouthpiece.engine.weights.download import is_model_available, load_model_registry
    from mouthpiece.engine.weights.manifest import load_weights_manifest

    rows = {
        name: {"kind": "embedded", "at_hand": True} | {f: e.get(f) for f in ("bytes", "licence", "description")}
        for name, e in load_weights_manifest().items()
    }
    for name, entry in load_model_registry().items():
        sizes = [file.get("bytes") for file in entry["files"]]
        size = None if None in sizes else sum(sizes)
        rows[name] = {
            "kind": "pull",
            "at_hand": is_model_available(name),
            "bytes": size,
            "licence": entry["licence"],
            "description": entry["title"],
        }
    lines = (
        f"{'at hand' if r['at_hand'] else 'missing'}  {name:20} {_format_megabytes(r['bytes']):>9}  {r['licence']}; {r['description']}"
        for name, r in rows.items()
    )
    return CommandResult(rows, "\n".join(lines))


def list_licences() -> CommandResult:
    """Outcome of `models licences`."""
    from mouthpiece.engine.weights.download import get_model_folder, is_licence_accepted, load_model_registry
    from mouthpiece.engine.weights.manifest import load_weights_manifest

    rows = {name: {f: entry.get(f) for f in ("licence", "source")} for name, entry in load_weights_manifest().items()}
    for name, entry in load_model_registry().items():
        consent = None if not entry.get("consent") else is_licence_accepted(get_model_folder(name), entry)
        rows[name] = {"licence": entry["licence"], "source": entry["licence_url"], "accepted": consent}
    told = {None: "", True: "; accepted", False: "; must be accepted before a pull"}
    return CommandResult(
        rows, "\n".join(f"{name}: {r['licence']}, {r['source']}{told[r.get('accepted')]}" for name, r in rows.items())
    )


def show_model_path(name: str) -> CommandResult | None:
    """Outcome of `models path`: of the file, or of the folder where a model has several.

    Raises UsageProblem for a name that is not known, Missing when it is not on this machine.
    """
    from mouthpiece.engine.weights.download import (
        get_model_entry,
        get_model_file,
        get_model_folder,
        is_model_available,
        load_model_registry,
    )
    from mouthpiece.engine.weights.manifest import get_embedded_path, load_weights_manifest

    if name not in load_model_registry():
        if name not in load_weights_manifest():
            raise UsageError(
                f"models: '{name}' is not known.",
                hint=f"Known: {', '.join(sorted([*load_weights_manifest(), *load_model_registry()]))}.",
                code="no_model",
            )
        path = str(get_embedded_path(name))
    else:
        single = len(get_model_entry(name)["files"]) == 1
        if not single and not is_model_available(name):
            raise MissingDependencyError(
                f"{name}: the model is not on this machine.",
                hint=f"Run: mouthpiece models pull {name}",
                code="no_model",
            )
        path = str(
            get_model_file(name) if single and "sha256" in get_model_entry(name)["files"][0] else get_model_folder(name)
        )
    return CommandResult({"name": name, "path": path}, path)


def pull_model(args, entry: dict[str, Any], progress: Progress) -> CommandResult | None:
    """Outcome of `models pull`.

    Raises UsageProblem when nobody said yes, and what mouthpiece.engine.weights.download.download_model raises.
    """
    from mouthpiece.engine.weights.download import (
        download_model,
        get_download_bytes,
        get_model_file,
        get_model_folder,
        has_installed_parts,
        is_complete,
        is_licence_accepted,
    )

    folder = get_model_folder(args.name)
    if has_installed_parts(entry):
        get_model_file(args.name)  # joined out of installed packages: nothing to fetch
    if is_complete(entry, folder) and is_licence_accepted(folder, entry):
        return CommandResult(
            {"name": args.name, "folder": str(folder), "fetched": False}, f"{args.name}: already in {folder}, verified"
        )
    told = f"{args.name}: {entry['title']}. {_format_megabytes(get_download_bytes(entry))}, licence {entry['licence']}, {entry['licence_url']}"
    accepted = args.accept_licence or is_licence_accepted(folder, entry)
    if not args.yes:
        told = told if accepted else f"{told}. This licence must be accepted: answering yes accepts it"
        if not _ask_for_consent(told, progress):
            raise UsageError(
                f"{told}: not fetched.",
                hint="Add --yes to fetch it." + ("" if accepted else " Add --accept-licence if you agree."),
                code="not_agreed",
            )
        accepted = True
    else:
        progress.note(told)
    rows = download_model(args.name, entry, folder, progress, accepted)
    for row in rows:
        if row["known"] == "recorded":
            progress.note(
                f"{row['path']}: SHA-256 {row['sha256']} recorded; this entry pins none, so it is trusted from now on."
            )
    result = {"name": args.name, "folder": str(folder), "fetched": True, "files": rows}
    if args.name in CONVERTERS:
        result["converted"] = str(CONVERTERS[args.name](folder))
    return CommandResult(
        result, f"{args.name}: {len(rows)} file(s) in {folder}, {_format_megabytes(sum(row['bytes'] for row in rows))}"
    )


def _ask_for_consent(told: str, progress: Progress) -> bool:
    """Whether whoever sits at the terminal says yes; nobody sits there when standard input is no terminal."""
    if not getattr(sys.stdin, "isatty", lambda: False)():
        return False
    progress.note(f"{told}. Fetch it? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def convert_model(name: str, entry: dict[str, Any]) -> CommandResult | None:
    """Outcome of `models convert`: what a pull does at its end, done again.

    Raises UsageProblem for a model that needs none, Missing when it was not pulled.
    """
    from mouthpiece.engine.weights.download import get_model_folder, is_model_available

    if name not in CONVERTERS:
        hint = f"These are converted: {', '.join(sorted(CONVERTERS)) or 'none'}."
        raise UsageError(f"models convert: {name} is used as it comes.", hint=hint, code="usage")
    if not is_model_available(name):
        raise MissingDependencyError(
            f"{name}: the model is not on this machine.", hint=f"Run: mouthpiece models pull {name}", code="no_model"
        )
    made = str(CONVERTERS[name](get_model_folder(name)))
    return CommandResult({"name": name, "converted": made}, f"{name}: {made}")


def _format_megabytes(size: int) -> str:
    return "size not known" if not size else f"{size / 1e6:.1f} MB"


COMMAND = Command("models", "weights: which are at hand, how to fetch the others", add, run)
