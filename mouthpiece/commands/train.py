"""`mouthpiece train`: stages of the embedded model, in order."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult
from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from mouthpiece.engine.progress import Progress

EMBEDDED_STAGES = (
    "crops",
    "puppets",
    "align",
    "voices",
    "motion",
    "phonetic",
    "codes",
    "reads",
    "core",
    "renderer",
    "finder",
    "embed",
)
# a public model fine-tuned
ECHOMIMIC_STAGES = ("echomimic-clips", "echomimic-image", "echomimic-video", "echomimic-speed")
STAGES_WITH_DATA = ("crops", "align", "voices", "codes", "echomimic-clips")


def add_arguments(parser) -> None:
    """Adds the arguments of `train`."""
    parser.add_argument(
        "stage",
        choices=EMBEDDED_STAGES + ECHOMIMIC_STAGES,
        help="in this order; docs/training.md tells what each reads and writes",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with manifest.jsonl (crops, align, voices, codes, echomimic-clips)",
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


def run(args: argparse.Namespace, progress: Progress) -> None:
    """Outcome of `train`."""
    from mouthpiece.commands.command import to_json

    if args.stage in STAGES_WITH_DATA and args.data is None:
        hint = "Give the folder that holds manifest.jsonl."
        raise UsageError(f"train {args.stage}: --data is missing.", hint=hint, code="usage")
    if args.minutes is not None and not 0 < args.minutes < math.inf:
        raise UsageError(f"--minutes {args.minutes:g}: need a number above 0.", code="bad_option")
    if args.start is not None and args.stage not in ECHOMIMIC_STAGES:
        raise UsageError(
            f"train {args.stage}: --start belongs to the stages of echomimic.", hint="Leave it out.", code="usage"
        )
    if args.workers < 1:
        raise UsageError(f"--workers {args.workers}: need at least 1.", code="bad_option")

    def tell(*facts):
        progress.note(" ".join(json.dumps(f) if isinstance(f, dict) else f"{f:.4g}" for f in facts))

    facts = fine_tune_echomimic(args, tell) if args.stage in ECHOMIMIC_STAGES else run_stage(args, tell)
    return CommandResult({"stage": args.stage, "facts": facts}, f"{args.stage}: {to_json(facts)}")


def fine_tune_echomimic(args, tell):
    """Run one stage of EchoMimic's training; returns what it measured."""
    from mouthpiece.training import echomimic

    stage = args.stage.removeprefix("echomimic-")
    if stage == "clips":
        return echomimic.write_training_clips(args.data, args.out, args.start, device=args.device, progress=tell)
    how = {} if args.minutes is None else {"minutes": args.minutes}
    return echomimic.train(args.out, stage, seed=args.seed, report=tell, start=args.start, device=args.device, **how)


def run_stage(args: argparse.Namespace, tell: Callable) -> None:
    """Run one stage of the training; returns what it measured."""
    from mouthpiece.training import core, embed, finder, motion, phonetic, renderer
    from mouthpiece.training.data import (
        encoded_clips,
        face_crops,
        forced_alignment,
        motion_codes,
        puppets,
        synthetic_voices,
    )

    how = dict(seed=args.seed, report=tell, device=args.device)
    if args.minutes is not None:
        how["minutes"] = args.minutes
    stages = dict(
        crops=lambda: face_crops.write_crops(args.data, args.out, args.workers, tell),
        align=lambda: forced_alignment.align_clips(args.data, args.out, args.workers, tell),
        voices=lambda: synthetic_voices.write_synthetic_voices(args.data, args.out, args.speak, args.seed, tell),
        puppets=lambda: puppets.write_puppets(args.out, workers=args.workers, progress=tell),
        codes=lambda: motion_codes.write_motion_codes(args.data, args.out),
        reads=lambda: encoded_clips.write_encoded_clips(args.out, args.workers, tell),
        embed=lambda: embed.embed_weights(args.out),
        motion=lambda: motion.train(args.out, **how),
        phonetic=lambda: phonetic.train(args.out, **how),
        core=lambda: core.train(args.out, **how),
        renderer=lambda: renderer.train(args.out, **how),
        finder=lambda: finder.train(args.out, **how),
    )
    return stages[args.stage]()


COMMAND = Command(
    "train", "the recipes that made the embedded weights, resumable", add_arguments, run, keep_native_output=True
)
