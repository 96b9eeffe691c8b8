"""`mouthpiece models`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command
from mouthpiece.engine.config import reject_unused_options
from mouthpiece.models import ACTIONS, ModelsRequest, run_models

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress
    from mouthpiece.job import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `models`."""
    parser.add_argument("action", choices=ACTIONS, help="pull is the only thing that ever downloads")
    parser.add_argument("name", nargs="?", help="which one, for pull, path and convert")
    parser.add_argument("--yes", action="store_true", help="pull: fetch without asking")
    parser.add_argument(
        "--accept-licence", action="store_true", help="pull: the licence shown is accepted, where it asks for that"
    )


def run(args: argparse.Namespace, progress: Progress) -> Result:
    """Run `models`."""
    if args.action != "pull":
        hint = "It belongs to models pull; leave it out."
        reject_unused_options(vars(args), ("yes", "accept_licence"), f"with models {args.action}", hint)

    def ask(question: str) -> bool:
        """Ask at the terminal; nobody answers when standard input is not one."""
        if not getattr(sys.stdin, "isatty", lambda: False)():
            return False
        progress.note(f"{question}. Fetch it? [y/N]")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return run_models(ModelsRequest(args.action, args.name, args.yes, args.accept_licence), progress, ask)


COMMAND = Command("models", "weights: which are available, how to fetch the others", add_arguments, run)
