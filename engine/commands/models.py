"""`mouthpiece models`."""

from engine.command import Command, Outcome
from engine.errors import UsageProblem


def add(parser):
    """Adds the arguments of `models`. Source: ours."""
    parser.add_argument("action", choices=("list", "path", "licences"))
    parser.add_argument("name", nargs="?", help="for path: which one")


def run(args, progress):
    """Outcome of `models`. Source: ours."""
    from engine.weights import embedded_path, manifest

    if args.action == "path":
        if args.name is None:
            hint = f"Give one of: {', '.join(sorted(manifest())) or 'none is there'}."
            raise UsageProblem("models path: which one?", hint=hint, code="usage")
        path = str(embedded_path(args.name))
        return Outcome({"name": args.name, "path": path}, path)
    if args.name is not None:
        raise UsageProblem(f"models {args.action}: takes no name.", hint="Leave it out.", code="usage")
    fields = ("licence", "source") if args.action == "licences" else ("bytes", "licence", "description")
    rows = {name: {f: entry.get(f) for f in fields} for name, entry in manifest().items()}
    return Outcome(rows, "\n".join(f"{name}: " + ", ".join(str(v) for v in row.values()) for name, row in rows.items()))


COMMAND = Command("models", "the weights at hand", add, run)
