"""`mouthpiece dub`."""

import shlex
from dataclasses import replace
from pathlib import Path

from engine.command import Command, Outcome, documented, output_flags
from engine.config import add_flags, flag_of, read_preset, refuse_idle, resolve
from engine.errors import ExitCode, UsageProblem
from engine.provenance import marking_of
from voice.commands.speak import counted
from voice.options import OF_SCRIPTS, DubOptions

REPEATED = (*(name for name in DubOptions.__dataclass_fields__ if name not in ("lips", "auto")), "preset", "consent", "signing_key", "signing_cert")   # by command_after


def add(parser):
    """Adds the arguments of `dub`. Source: ours."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="film")
    parser.add_argument("script", type=Path, nargs="?", metavar="SCRIPT", help="script or project; without one a draft is written for you to edit")
    output_flags(parser)
    add_flags(parser.add_argument_group("dub"), DubOptions)


def run(args, progress):
    """Outcome of `dub`. Source: ours."""
    from engine.files import output_file
    from engine.inputs import look_at
    from engine.media import VIDEO_SUFFIXES
    from engine.report import sidecar_path
    from voice.bed import check_bed
    from voice.scripts.decoding import read_text

    options = resolve(DubOptions, None if args.preset is None else read_preset(args.preset, "dub"), vars(args))
    check_idle(args, options)
    inputs = tuple(p for p in (args.video, args.script, options.dictionary) if p is not None)
    output_file(args.output, args.force, inputs, VIDEO_SUFFIXES)
    output_file(sidecar_path(args.output), args.force, inputs)
    look_at(media=(args.video,))
    if args.script is None:
        return _without_script(args, options, progress)
    check_bed(options.bed)
    said = read_text(args.script, options.encoding)
    from voice.dub import prepare

    dub = prepare(args.video, args.script, args.output, options, said)
    for remark in dub.job.script.remarks:
        progress.note(remark.text)
    if args.dry_run:
        return Outcome(dict(dry_run=True, output=str(args.output), facts=dub.plan()), f"would write {args.output}: {len(dub.todo)} of {len(dub.job.script.lines)} lines to speak")
    return made(args, dub, inputs, progress)


def check_idle(args, options):
    """Refuses flags that would do nothing in the mode asked for. options: DubOptions. Source: ours."""
    flags = vars(args)
    if args.script is None:
        refuse_idle(flags, OF_SCRIPTS, "without a SCRIPT", "It says how a SCRIPT is read; leave it out.")
    else:
        refuse_idle(flags, ("auto",), "with a SCRIPT", "It belongs to a dub without one; leave it out.")
    options.refuse_idle_prosody(flags)
    if not options.lips:
        refuse_idle(flags, ("quality", "on_missing_face", "device"), "with --no-lips", "The picture is copied bit by bit; leave it out.")
        if options.mouth == "off":
            refuse_idle(flags, ("face", "map"), "with --no-lips and --mouth off", "No face is looked for; leave it out.")


def _without_script(args, options, progress):
    from voice.dub import draft, prepare

    path = args.output.with_suffix(".srt")
    if path.exists() and not args.force:
        raise UsageProblem(f"{path}: a draft is already there.", hint="Give it as SCRIPT, or --force to draft again.", code="output_exists")
    if args.dry_run:
        return Outcome(dict(dry_run=True, draft=str(path)), f"would draft {path}")
    with progress.stage("recognising", 1, "film") as advance:
        script = draft(args.video, path, options)
        advance(1)
    if options.auto:
        return made(args, prepare(args.video, path, args.output, options), (args.video, path), progress)
    said = f"{path}: a draft of {counted(len(script.lines))}. Edit it, then run: {command_after(args, path)}"
    return Outcome(dict(draft=str(path), lines=len(script.lines)), said)


def command_after(args, script):
    """The command line that goes on once a draft is edited: the same flags, with the script. Source: ours."""
    words = [f"./{path}" if str(path).startswith("-") else str(path) for path in (args.video, script)] + ["-o", str(args.output)]
    given = {name: value for name in REPEATED if (value := getattr(args, name)) is not None}
    for name, value in given.items():
        words += [f"{flag_of(name)}={value}"] if str(value).startswith("-") else [flag_of(name), str(value)]
    words += ["--no-lips"] * (args.lips is False) + ["--no-provenance"] * args.no_provenance
    return shlex.join(["mouthpiece", "dub", *words])


def made(args, dub, inputs, progress):
    """Outcome of a dub that is prepared: speaks, mixes, moves lips, reports. Source: ours."""
    from engine.report import sidecar_path
    from voice.dub import PICTURE, PROJECT, mixed, speak_changed, takes_in_use
    from voice.pipeline import heard_mark
    from voice.report import line_rows, report_of, write_report

    marking = marking_of(args, "dub", inputs, (dub.job.language,))
    folder = dub.folder / PICTURE
    dub = replace(dub, job=replace(dub.job, consent=marking.consent, follow=lambda face: args.follow(args.video, face, folder, progress)))
    todo, wanted = dict(dub.todo), marking.credentials is not None
    dub = speak_changed(dub, progress)
    if not takes_in_use(dub):
        from engine.errors import Refused

        raise Refused(f"{args.script or args.video}: not one line could be spoken.", hint=f"Look at {dub.folder / PROJECT}: every line says why.", code="no_speech")
    paths, sound = mixed(dub, progress, wanted)
    picture = pictured(args, dub, paths, progress)
    rows = line_rows(dub, paths)
    report = report_of(dub, rows, sound, picture)
    page = write_report(dub, report, paths, picture.pop("mouths", ()))
    generated = tuple((f["start_s"], f["start_s"] + f["duration_s"]) for _, f in takes_in_use(dub))
    facts = report | dict(spoken_again=todo, project=str(dub.folder / PROJECT), stems={k: str(p) for k, p in paths.items()}, page=str(page))
    marking = marking.of(source=args.video, spans_s=generated, watermark=heard_mark(args.output) if wanted else None)
    payload = documented(args.output, "dub", dub.options, inputs, facts, marking)
    review = [row["id"] for row in rows if row["status"] == "needs_review"]
    unspoken = [e.id for e in dub.project.entries if not e.take and e.line.text.strip()]
    said = f"{args.output}: {counted(len(rows))}, {len(todo)} spoken now; report {page}" + (f"; a person should look at {counted(len(review))}: {', '.join(review[:8])}" if review else "")
    said += f"; not spoken: {counted(len(unspoken))}: {', '.join(unspoken[:8])}" if unspoken else ""
    result = payload | dict(output=str(args.output), sidecar=str(sidecar_path(args.output)), needs_review=review, unspoken=unspoken)
    return Outcome(result, said, ExitCode.PARTLY if unspoken else ExitCode.DONE)


def pictured(args, dub, paths, progress):
    """Writes the film with the mix; facts of its picture. Where no lip has to move the picture is copied bit by bit. Source: ours."""
    from engine.mux import copy_with_sound
    from voice.dub import PICTURE, faces_for, lip_lines

    lines = lip_lines(dub) if dub.options.lips and dub.job.has_picture else []
    if not lines:
        packets = copy_with_sound(args.video, args.output, paths["mix"], args.force)
        return dict(lips="picture copied", frames=packets, frames_source=packets, frames_match=True)
    job = dict(lines=lines, dialogue=paths["dialogue"], faces=faces_for(dub), options=dub.options, cache=dub.folder / PICTURE)
    return args.relip(args.video, paths["mix"], args.output, job, progress, args.force)


COMMAND = Command("dub", "speak + mix with the bed + lips + mux, with a report", add, run)
