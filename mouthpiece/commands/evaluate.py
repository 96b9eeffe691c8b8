"""`mouthpiece evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult
from mouthpiece.engine.config import add_former_flag, reject_unused_options, warn_of_former_options
from mouthpiece.engine.errors import InvalidInputError, UsageError

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mouthpiece.engine.progress import Progress

PROJECT_FILE = Path("project.json")  # in the folder OUT.dub beside OUT.mp4
OTHER_WORDS_REASON = "the film before a dub says other words"
RECOGNIZERS = ("auto", "whisper", "pocketsphinx", "off")
LINE_KEYS = ("start_err_ms_p95", "end_err_ms_p95")
FILM_KEYS = ("overlap_mean", "pause_match_mean", "rate_ratio_mean", "f0_correlation_mean")


def add_arguments(parser) -> None:
    """Adds the arguments of `evaluate`."""
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument(
        "--against", type=Path, metavar="VIDEO", help="the real clip of the same sound; of a dub: the film before it"
    )
    parser.add_argument("--portrait", type=Path, metavar="IMAGE", help="the picture it was made from")
    parser.add_argument(
        "--project",
        type=Path,
        metavar="PROJECT",
        help="VIDEO is a dub of this project; one in OUT.dub beside it is found",
    )
    parser.add_argument(
        "--recognizer",
        choices=RECOGNIZERS,
        help="of a dub: what hears its lines; auto where it is not given",
    )
    add_former_flag(parser, "listen", "recognizer", choices=RECOGNIZERS)
    parser.add_argument(
        "--sheet", type=Path, metavar="OUT.png", help="write a contact sheet: frames, waveform, mouth curve"
    )
    parser.add_argument("--force", action="store_true", help="replace a sheet that is there")


def run(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `evaluate`."""
    warn_of_former_options(vars(args))
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.media.images import WRITE_SUFFIXES

    inputs = tuple(path for path in (args.video, args.against, args.portrait) if path is not None)
    if args.sheet is not None:
        check_output_file(args.sheet, args.force, inputs, WRITE_SUFFIXES)
    project = find_project(args)
    check_inputs(media=(args.video, args.against), pictures=(args.portrait,))
    if project is None:
        reject_unused_options(
            vars(args),
            ("recognizer",),
            "for a video that is no dub",
            "It says what hears the lines of a dub; name its project with --project, or leave it out.",
        )
    else:
        args.recognizer = args.recognizer or "auto"
        from mouthpiece.evaluation.dub_evaluation import check_dub

        check_dub(args.video, project, args.recognizer)
    from mouthpiece.evaluation.contact_sheet import write_contact_sheet
    from mouthpiece.evaluation.talking_head import evaluate_video, format_table

    with progress.stage("measuring", 1, "video") as advance:
        dialogue = None if project is None else project.parent / "dialogue.wav"
        sound = dialogue if dialogue is not None and dialogue.is_file() else None
        facts = evaluate_video(
            args.video, against=None if project else args.against, portrait=args.portrait, sound=sound
        )
        advance(1)
    if project is not None and facts["amplitude_ratio"] is None and facts["sync_reference"] is not None:
        facts["reasons"]["amplitude_ratio"] = OTHER_WORDS_REASON
    lines = format_table(facts)
    if project is not None:
        dub = evaluate_dub(args, project, progress)
        facts, lines = facts | dict(dub=dub), f"{lines}\n{format_table(flatten_dub(dub))}"
    if args.sheet is not None:
        write_contact_sheet(args.video, args.sheet, against=args.against)
    return CommandResult(facts, lines)


def find_project(args: argparse.Namespace) -> Path | None:
    """Path of the project of which the video is a dub: the one named, or that in OUT.dub beside it; None where it is no
    dub.
    """
    if args.project is not None:
        if not args.project.is_file():
            raise UsageError(
                f"--project {args.project}: there is no such file.",
                hint="Give the project.json of the dub.",
                code="no_such_file",
            )
        return args.project
    beside = args.video.with_suffix(".dub") / PROJECT_FILE
    return beside if beside.is_file() else None


def evaluate_dub(args: argparse.Namespace, project: Path, progress: Progress) -> dict[str, Any]:
    """What the branch that speaks says of the dub, with the mouth of the film before it. Source:
    mouthpiece.evaluation.dub_evaluation, lent by the command line.
    """
    from mouthpiece.engine.media.reading import probe
    from mouthpiece.evaluation.dub_evaluation import evaluate_dub as judge_dub

    mouths, reasons = None, {}
    if args.against is None:
        reasons["mouths"] = "needs the film: --against VIDEO"
    elif not probe(args.against).has_video:
        reasons["mouths"] = f"{args.against}: no moving picture in it"
    else:
        from mouthpiece.lipsync.film.dubbing import make_box_lookup

        try:
            mouths = make_box_lookup(args.against, project.parent / "picture", progress)
        except InvalidInputError as problem:
            if problem.code != "no_face":
                raise
            reasons["mouths"] = problem.message
    dub = judge_dub(args.video, args.against, project, mouths, args.recognizer, progress)
    dub["old_mouth_correlation"] = correlate_old_mouth(args, reasons) if mouths else None
    return dub | dict(reasons=dub["reasons"] | reasons)


def correlate_old_mouth(args, reasons):
    """Correlation of the mouth's opening with that of the film before; 1 where no lip was moved. Source: Pearson's."""
    from mouthpiece.evaluation.video_metrics import measure_video
    from mouthpiece.face.measure import compute_correlation

    old, new = (measure_video(path).opening for path in (args.against, args.video))
    count = min(len(old), len(new))
    value = float(compute_correlation(old[:count], new[:count]))
    if value == value:
        return value
    reasons["old_mouth_correlation"] = "a mouth that does not move, or is not seen"
    return None


def flatten_dub(dub: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a dub one by one, for the table: names with what they are of in front."""
    out = dict(
        project=dub["project"],
        measured_in=dub["measured_in"],
        recogniser=dub["recogniser"],
        old_mouth_correlation=dub["old_mouth_correlation"],
    )
    for part in ("file", "loudness", "picture"):
        out |= {part: None} if dub[part] is None else {f"{part}_{name}": value for name, value in dub[part].items()}
    because = {f"file_{name}": ("lines",) for name in LINE_KEYS} | {f"file_{name}": ("overlap",) for name in FILM_KEYS}
    because |= {name: ("loudness",) for name in out if name.startswith("loudness_")} | dict(
        picture=("picture",), picture_inside_changed_share=("mouths",)
    )
    because |= dict(
        file_wer_mean=("wer",), recogniser=("wer",), old_mouth_correlation=("old_mouth_correlation", "mouths")
    )
    told = {
        name: [dub["reasons"][key] for key in because.get(name, ()) if key in dub["reasons"]]
        for name, value in out.items()
        if value is None
    }
    return out | dict(reasons={name: (why or ["nothing to measure"])[0] for name, why in told.items()})


COMMAND = Command(
    "evaluate", "sync, stillness, identity, sharpness of a video in numbers; of a dub its lines too", add_arguments, run
)
