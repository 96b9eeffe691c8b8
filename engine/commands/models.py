"""`mouthpiece models`: weights in the package and those that can be fetched."""

import sys

from engine.command import Command, Outcome
from engine.config import refuse_idle
from engine.errors import Missing, UsageProblem

ACTIONS = ("list", "pull", "path", "convert", "licences")
CONVERTERS = {}                        # name in the registry -> function of the model's folder; the door fills it


def add(parser):
    """Adds the arguments of `models`. Source: ours."""
    parser.add_argument("action", choices=ACTIONS, help="pull is the only thing that ever downloads")
    parser.add_argument("name", nargs="?", help="which one, for pull, path and convert")
    parser.add_argument("--yes", action="store_true", help="pull: fetch without asking")
    parser.add_argument("--accept-licence", action="store_true", help="pull: the licence shown is accepted, where it asks for that")


def run(args, progress):
    """Outcome of `models`. Source: ours."""
    from engine.pull import entry_of, registry
    from engine.weights import manifest

    if args.action != "pull":
        refuse_idle(vars(args), ("yes", "accept_licence"), f"with models {args.action}", "It belongs to models pull; leave it out.")
    if args.action in ("list", "licences"):
        if args.name is not None:
            raise UsageProblem(f"models {args.action}: takes no name.", hint="Leave it out.", code="usage")
        return licensed() if args.action == "licences" else listed()
    if args.name is None:
        names = sorted(registry()) if args.action != "path" else sorted([*manifest(), *registry()])
        raise UsageProblem(f"models {args.action}: which one?", hint=f"Give one of: {', '.join(names)}.", code="usage")
    if args.action == "path":
        return placed(args.name)
    entry = entry_of(args.name)
    return pulled(args, entry, progress) if args.action == "pull" else converted(args.name, entry)


def listed():
    """Outcome of `models list`. Source: ours."""
    from engine.pull import at_hand, registry
    from engine.weights import manifest

    rows = {name: {"kind": "embedded", "at_hand": True} | {f: e.get(f) for f in ("bytes", "licence", "description")} for name, e in manifest().items()}
    for name, entry in registry().items():
        sizes = [file.get("bytes") for file in entry["files"]]
        size = None if None in sizes else sum(sizes)
        rows[name] = {"kind": "pull", "at_hand": at_hand(name), "bytes": size, "licence": entry["licence"], "description": entry["title"]}
    lines = (f"{'at hand' if r['at_hand'] else 'missing'}  {name:20} {_megabytes(r['bytes']):>9}  {r['licence']}; {r['description']}" for name, r in rows.items())
    return Outcome(rows, "\n".join(lines))


def licensed():
    """Outcome of `models licences`. Source: ours."""
    from engine.pull import is_accepted, model_path, registry
    from engine.weights import manifest

    rows = {name: {f: entry.get(f) for f in ("licence", "source")} for name, entry in manifest().items()}
    for name, entry in registry().items():
        consent = None if not entry.get("consent") else is_accepted(model_path(name), entry)
        rows[name] = {"licence": entry["licence"], "source": entry["licence_url"], "accepted": consent}
    told = {None: "", True: "; accepted", False: "; must be accepted before a pull"}
    return Outcome(rows, "\n".join(f"{name}: {r['licence']}, {r['source']}{told[r.get('accepted')]}" for name, r in rows.items()))


def placed(name):
    """Outcome of `models path`: of the file, or of the folder where a model has several.

    Raises UsageProblem for a name that is not known, Missing when it is not on this machine.
    Source: ours.
    """
    from engine.pull import at_hand, entry_of, model_file, model_path, registry
    from engine.weights import embedded_path, manifest

    if name not in registry():
        if name not in manifest():
            raise UsageProblem(f"models: '{name}' is not known.", hint=f"Known: {', '.join(sorted([*manifest(), *registry()]))}.", code="no_model")
        path = str(embedded_path(name))
    else:
        single = len(entry_of(name)["files"]) == 1
        if not single and not at_hand(name):
            raise Missing(f"{name}: the model is not on this machine.", hint=f"Run: mouthpiece models pull {name}", code="no_model")
        path = str(model_file(name) if single and "sha256" in entry_of(name)["files"][0] else model_path(name))
    return Outcome({"name": name, "path": path}, path)


def pulled(args, entry, progress):
    """Outcome of `models pull`.

    Raises UsageProblem when nobody said yes, and what engine.pull.pull raises.
    Source: ours.
    """
    from engine.pull import has_parts, is_accepted, is_whole, model_file, model_path, pull, size_of

    folder = model_path(args.name)
    if has_parts(entry):
        model_file(args.name)          # joined out of installed packages: nothing to fetch
    if is_whole(entry, folder) and is_accepted(folder, entry):
        return Outcome({"name": args.name, "folder": str(folder), "fetched": False}, f"{args.name}: already in {folder}, verified")
    told = f"{args.name}: {entry['title']}. {_megabytes(size_of(entry))}, licence {entry['licence']}, {entry['licence_url']}"
    accepted = args.accept_licence or is_accepted(folder, entry)
    if not args.yes:
        told = told if accepted else f"{told}. This licence must be accepted: answering yes accepts it"
        if not _agreed(told, progress):
            raise UsageProblem(f"{told}: not fetched.", hint="Add --yes to fetch it." + ("" if accepted else " Add --accept-licence if you agree."), code="not_agreed")
        accepted = True
    else:
        progress.note(told)
    rows = pull(args.name, entry, folder, progress, accepted)
    for row in rows:
        if row["known"] == "recorded":
            progress.note(f"{row['path']}: SHA-256 {row['sha256']} recorded; this entry pins none, so it is trusted from now on.")
    result = {"name": args.name, "folder": str(folder), "fetched": True, "files": rows}
    if args.name in CONVERTERS:
        result["converted"] = str(CONVERTERS[args.name](folder))
    return Outcome(result, f"{args.name}: {len(rows)} file(s) in {folder}, {_megabytes(sum(row['bytes'] for row in rows))}")


def _agreed(told, progress):
    """Whether whoever sits at the terminal says yes; nobody sits there when standard input is no terminal."""
    if not getattr(sys.stdin, "isatty", lambda: False)():
        return False
    progress.note(f"{told}. Fetch it? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def converted(name, entry):
    """Outcome of `models convert`: what a pull does at its end, done again.

    Raises UsageProblem for a model that needs none, Missing when it was not pulled.
    Source: ours.
    """
    from engine.pull import at_hand, model_path

    if name not in CONVERTERS:
        hint = f"These are converted: {', '.join(sorted(CONVERTERS)) or 'none'}."
        raise UsageProblem(f"models convert: {name} is used as it comes.", hint=hint, code="usage")
    if not at_hand(name):
        raise Missing(f"{name}: the model is not on this machine.", hint=f"Run: mouthpiece models pull {name}", code="no_model")
    made = str(CONVERTERS[name](model_path(name)))
    return Outcome({"name": name, "converted": made}, f"{name}: {made}")


def _megabytes(size):
    return "size not known" if not size else f"{size / 1e6:.1f} MB"


COMMAND = Command("models", "weights: which are at hand, how to fetch the others", add, run)
