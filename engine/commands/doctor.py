"""`mouthpiece doctor`."""

from engine.command import Command, Outcome


def run(args, progress):
    """Outcome of `doctor`. Source: ours."""
    from engine.doctor import examine

    rows = examine()
    return Outcome(rows, "\n".join(f"{'ok     ' if r['ok'] else 'missing'} {r['name']}: {r['detail']}" for r in rows))


COMMAND = Command("doctor", "what works on this machine, what is missing", lambda parser: None, run)
