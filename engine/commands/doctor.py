"""`mouthpiece doctor`."""

from engine.command import Command, Outcome


def run(args, progress):
    """Outcome of `doctor`. Source: ours."""
    from engine.doctor import examine

    rows = examine()
    return Outcome(rows, "\n".join(f"{state(row):7} {row['name']}: {row['detail']}" for row in rows))


def state(row):
    """How a row of the examination begins: "ok", "missing", or "extra" for what works without. Source: ours."""
    return "ok" if row["ok"] else "missing" if row["needed"] else "extra"


COMMAND = Command("doctor", "what works on this machine, what is missing", lambda parser: None, run)
