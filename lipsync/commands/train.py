"""`mouthpiece train`: stages of the embedded model, in order."""

import json
import math
from pathlib import Path

from engine.command import Command, Outcome
from engine.errors import UsageProblem

TRAININGS = ("crops", "puppets", "align", "voices", "motion", "phonetic", "codes", "reads", "core", "renderer", "finder", "embed")
ECHOMIMIC = ("echomimic-clips", "echomimic-image", "echomimic-video", "echomimic-speed")  # a public model fine-tuned
TRAININGS_WITH_DATA = ("crops", "align", "voices", "codes", "echomimic-clips")


def add(parser):
    """Adds the arguments of `train`. Source: ours."""
    parser.add_argument("stage", choices=TRAININGS + ECHOMIMIC, help="in this order; docs/training.md tells what each reads and writes")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with manifest.jsonl (crops, align, voices, codes, echomimic-clips)")
    parser.add_argument("--start", type=Path, metavar="DIR", help="echomimic: folder of weights to begin with; by default what is in --out, else the pulled ones")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="working folder; a run continues where it stopped")
    parser.add_argument("--minutes", type=float, help="budget of the whole run, earlier parts included")
    parser.add_argument("--workers", type=int, default=2, help="processes that prepare data")
    parser.add_argument("--device", default="auto", help="where networks learn: auto, cpu, or a GPU by name and number; a wrong one lists what is accepted")
    parser.add_argument("--seed", type=int, default=0)


def run(args, progress):
    """Outcome of `train`. Source: ours."""
    from engine.command import document

    if args.stage in TRAININGS_WITH_DATA and args.data is None:
        hint = "Give the folder that holds manifest.jsonl."
        raise UsageProblem(f"train {args.stage}: --data is missing.", hint=hint, code="usage")
    if args.minutes is not None and not 0 < args.minutes < math.inf:
        raise UsageProblem(f"--minutes {args.minutes:g}: need a number above 0.", code="bad_option")
    if args.start is not None and args.stage not in ECHOMIMIC:
        raise UsageProblem(f"train {args.stage}: --start belongs to the stages of echomimic.", hint="Leave it out.", code="usage")
    if args.workers < 1:
        raise UsageProblem(f"--workers {args.workers}: need at least 1.", code="bad_option")

    def tell(*facts):
        progress.note(" ".join(json.dumps(f) if isinstance(f, dict) else f"{f:.4g}" for f in facts))

    facts = fine_tuning(args, tell) if args.stage in ECHOMIMIC else training(args, tell)
    return Outcome({"stage": args.stage, "facts": facts}, f"{args.stage}: {document(facts)}")


def fine_tuning(args, tell):
    """Run one stage of EchoMimic's training; returns what it measured. Source: ours."""
    from lipsync.train import echomimic

    stage = args.stage.removeprefix("echomimic-")
    if stage == "clips":
        return echomimic.clips(args.data, args.out, args.start, device=args.device, progress=tell)
    how = {} if args.minutes is None else {"minutes": args.minutes}
    return echomimic.train(args.out, stage, seed=args.seed, report=tell, start=args.start, device=args.device, **how)


def training(args, tell):
    """Run one stage of the training; returns what it measured. Source: ours."""
    from engine.train import align, core, embed, phonetic, voices
    from lipsync.train import codes, crops, finder, motion, puppets, reads, renderer
    how = dict(seed=args.seed, report=tell, device=args.device)
    if args.minutes is not None:
        how["minutes"] = args.minutes
    stages = dict(
        crops=lambda: crops.crops(args.data, args.out, args.workers, tell),
        align=lambda: align.align(args.data, args.out, args.workers, tell),
        voices=lambda: voices.voices(args.data, args.out, args.speak, args.seed, tell),
        puppets=lambda: puppets.puppets(args.out, workers=args.workers, progress=tell),
        codes=lambda: codes.codes(args.data, args.out),
        reads=lambda: reads.reads(args.out, args.workers, tell),
        embed=lambda: embed.embed(args.out),
        motion=lambda: motion.train(args.out, **how),
        phonetic=lambda: phonetic.train(args.out, **how),
        core=lambda: core.train(args.out, **how),
        renderer=lambda: renderer.train(args.out, **how),
        finder=lambda: finder.train(args.out, **how))
    return stages[args.stage]()


COMMAND = Command("train", "the recipes that made the embedded weights, resumable", add, run, loud=True)
