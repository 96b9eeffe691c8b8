"""`mouthpiece evaluate`."""

from pathlib import Path

from engine.command import Command, Outcome
from engine.errors import Refused, UsageProblem

PROJECT = Path("project.json")         # in the folder OUT.dub beside OUT.mp4


def add(parser):
    """Adds the arguments of `evaluate`. Source: ours."""
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument("--against", type=Path, metavar="VIDEO", help="the real clip of the same sound; of a dub: the film before it")
    parser.add_argument("--portrait", type=Path, metavar="IMAGE", help="the picture it was made from")
    parser.add_argument("--project", type=Path, metavar="PROJECT", help="VIDEO is a dub of this project; one in OUT.dub beside it is found")
    parser.add_argument("--listen", choices=("auto", "whisper", "pocketsphinx", "off"), default="auto", help="of a dub: what hears its lines")
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
    from lipsync.evaluate import evaluate, table
    from lipsync.sheet import write_sheet

    with progress.stage("measuring", 1, "video") as advance:
        dialogue = None if project is None else project.parent / "dialogue.wav"
        sound = dialogue if dialogue is not None and dialogue.is_file() else None
        facts = evaluate(args.video, against=None if project else args.against, portrait=args.portrait, sound=sound)
        advance(1)
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
    if args.against is not None and probe(args.against).has_video:
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
        out |= {f"{part}_{name}": value for name, value in (dub[part] or {}).items()}
    because = dict(file_start_err_ms_p95="lines", file_end_err_ms_p95="lines", file_wer_mean="wer", recogniser="wer", old_mouth_correlation="mouths")
    why = {name: dub["reasons"].get(because.get(name, "overlap"), "nothing to measure") for name, value in out.items() if value is None}
    return out | dict(reasons=why)


COMMAND = Command("evaluate", "sync, stillness, identity, sharpness of a video in numbers; of a dub its lines too", add, run)
