"""`mouthpiece train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command
from mouthpiece.train import STAGES, STAGES_WITH_DATA, TrainRequest, run_train

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress
    from mouthpiece.job import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    parser.add_argument(
        "stage", choices=tuple(STAGES), help="in this order; docs/training.md tells what each reads and writes"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help=f"folder with manifest.jsonl ({', '.join(STAGES_WITH_DATA)})"
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="DIR",
        help="echomimic: folder of weights to begin with; by default what is in --out, else the pulled ones",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="working folder; a run continues where it stopped"
    )
    parser.add_argument("--minutes", type=float, help="budget of the whole run, earlier parts included")
    parser.add_argument("--workers", type=int, default=2, help="processes that prepare data")
    parser.add_argument(
        "--device",
        default="auto",
        help="where networks learn: auto, cpu, or a GPU by name and number; a wrong one lists what is accepted",
    )
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace, progress: Progress) -> Result:
    """Run `train`."""
    request = TrainRequest(
        stage=args.stage,
        out=args.out,
        data=args.data,
        start=args.start,
        minutes=args.minutes,
        workers=args.workers,
        device=args.device,
        seed=args.seed,
    )
    return run_train(request, progress)


COMMAND = Command(
    "train", "the recipes that made the embedded weights, resumable", add_arguments, run, keep_native_output=True
)
