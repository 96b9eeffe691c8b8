"""`mouthpiece evaluate`."""

from pathlib import Path

from engine.command import Command, Outcome
from engine.config import refuse_idle
from engine.errors import Refused, UsageProblem

PROJECT = Path("project.json")         # in the folder OUT.dub beside OUT.mp4
OTHER_WORDS = "the film before a dub says other words"
OF_LINES = ("start_err_ms_p95", "end_err_ms_p95")
OF_FILM = ("overlap_mean", "pause_match_mean", "rate_ratio_mean", "f0_correlation_mean")


def add(parser):
    """Adds the arguments of `evaluate`. Source: ours."""
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument("--against", type=Path, metavar="VIDEO", help="the real clip of the same sound; of a dub: the film before it")
    parser.add_argument("--portrait", type=Path, metavar="IMAGE", help="the picture it was made from")
    parser.add_argument("--project", type=Path, metavar="PROJECT", help="VIDEO is a dub of this project; one in OUT.dub beside it is found")
    parser.add_argument("--listen", choices=("auto", "whisper", "pocketsphinx", "off"), help="of a dub: what hears its lines; auto where it is not given")
    parser.add_argument("--sheet", type=Path, metavar="OUT.png", help="write a contact sheet: frames, waveform, mouth curve")
    parser.add_argument("--force", action="store_true", help="replace a sheet that is there")


def run(args, progress):
    """Outcome of `evaluate`. Source: ours."""
    from engine.files import output_file
    from engine.images import WRITE_SUFFIXES
    from engine.inputs import look_at

    inputs = tuple(path for path in (args.video, args.against, args.portrait) if path is not None)
    if args.sheet is not None:
        output_file(args.sheet, args.force, inputs, WRITE_SUFFIXES)
    project = project_of(args)
    look_at(media=(args.video, args.against), pictures=(args.portrait,))
    if project is None:
        refuse_idle(vars(args), ("listen",), "for a video that is no dub", "It says what hears the lines of a dub; name its project with --project, or leave it out.")
    else:
        args.listen = args.listen or "auto"
        args.check_dub(args.video, project, args.listen)
    from lipsync.evaluate import evaluate, table
    from lipsync.sheet import write_sheet

    with progress.stage("measuring", 1, "video") as advance:
        dialogue = None if project is None else project.parent / "dialogue.wav"
        sound = dialogue if dialogue is not None and dialogue.is_file() else None
        facts = evaluate(args.video, against=None if project else args.against, portrait=args.portrait, sound=sound)
        advance(1)
    if project is not None and facts["amplitude_ratio"] is None and facts["sync_reference"] is not None:
        facts["reasons"]["amplitude_ratio"] = OTHER_WORDS
    lines = table(facts)
    if project is not None:
        dub = judged(args, project, progress)
        facts, lines = facts | dict(dub=dub), f"{lines}\n{table(flat(dub))}"
    if args.sheet is not None:
        write_sheet(args.video, args.sheet, against=args.against)
    return Outcome(facts, lines)


def project_of(args):
    """Path of the project of which the video is a dub: the one named, or that in OUT.dub beside it; None where it is no dub. Source: ours."""
    if args.project is not None:
        if not args.project.is_file():
            raise UsageProblem(f"--project {args.project}: there is no such file.", hint="Give the project.json of the dub.", code="no_such_file")
        return args.project
    beside = args.video.with_suffix(".dub") / PROJECT
    return beside if beside.is_file() else None


def judged(args, project, progress):
    """What the branch that speaks says of the dub, with the mouth of the film before it. Source: voice.evaluation, lent by the command line."""
    from engine.media import probe

    mouths, reasons = None, {}
    if args.against is None:
        reasons["mouths"] = "needs the film: --against VIDEO"
    elif not probe(args.against).has_video:
        reasons["mouths"] = f"{args.against}: no moving picture in it"
    else:
        from lipsync.dubbing import boxes_of

        try:
            mouths = boxes_of(args.against, project.parent / "picture", progress)
        except Refused as problem:
            if problem.code != "no_face":
                raise
            reasons["mouths"] = problem.message
    dub = args.judge_dub(args.video, args.against, project, mouths, args.listen, progress)
    dub["old_mouth_correlation"] = old_mouth(args, reasons) if mouths else None
    return dub | dict(reasons=dub["reasons"] | reasons)


def old_mouth(args, reasons):
    """Correlation of the mouth's opening with that of the film before; 1 where no lip was moved. Source: Pearson's."""
    from face.measure import correlation
    from lipsync.clip import watch

    old, new = (watch(path).opening for path in (args.against, args.video))
    count = min(len(old), len(new))
    value = float(correlation(old[:count], new[:count]))
    if value == value:
        return value
    reasons["old_mouth_correlation"] = "a mouth that does not move, or is not seen"
    return None


def flat(dub):
    """The numbers of a dub one by one, for the table: names with what they are of in front. Source: ours."""
    out = dict(project=dub["project"], measured_in=dub["measured_in"], recogniser=dub["recogniser"], old_mouth_correlation=dub["old_mouth_correlation"])
    for part in ("file", "loudness", "picture"):
        out |= {part: None} if dub[part] is None else {f"{part}_{name}": value for name, value in dub[part].items()}
    because = {f"file_{name}": ("lines",) for name in OF_LINES} | {f"file_{name}": ("overlap",) for name in OF_FILM}
    because |= {name: ("loudness",) for name in out if name.startswith("loudness_")} | dict(picture=("picture",), picture_inside_changed_share=("mouths",))
    because |= dict(file_wer_mean=("wer",), recogniser=("wer",), old_mouth_correlation=("old_mouth_correlation", "mouths"))
    told = {name: [dub["reasons"][key] for key in because.get(name, ()) if key in dub["reasons"]] for name, value in out.items() if value is None}
    return out | dict(reasons={name: (why or ["nothing to measure"])[0] for name, why in told.items()})


COMMAND = Command("evaluate", "sync, stillness, identity, sharpness of a video in numbers; of a dub its lines too", add, run)
