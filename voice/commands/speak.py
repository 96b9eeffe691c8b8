"""`mouthpiece speak`."""

from dataclasses import replace
from pathlib import Path

from engine.command import Command, Outcome, documented, output_flags
from engine.config import add_flags, read_preset, refuse_idle, resolve
from engine.errors import ExitCode, UsageProblem
from engine.provenance import marking_of
from voice.options import OF_FILMS, OF_SCRIPTS, SpeakOptions


def add(parser):
    """Adds the arguments of `speak`. Source: ours."""
    parser.add_argument("video", type=Path, nargs="?", metavar="VIDEO", help="film, or its sound alone; leave it out with --text")
    parser.add_argument("script", type=Path, nargs="?", metavar="SCRIPT", help="SRT, WebVTT, ASS, cue sheet, DAPT, plain text or project")
    parser.add_argument("--text", help="speak this text instead of a script")
    output_flags(parser, "OUT.wav")
    add_flags(parser.add_argument_group("speak"), SpeakOptions)


def run(args, progress):
    """Outcome of `speak`. Source: ours."""
    from engine.files import output_file
    from engine.inputs import look_at
    from engine.report import sidecar_path
    from voice.scripts.decoding import read_text

    options = resolve(SpeakOptions, None if args.preset is None else read_preset(args.preset, "speak"), vars(args))
    inputs = tuple(p for p in (args.video, args.script, options.dictionary) if p is not None)
    if (args.text is None) == (args.video is None) or (args.video is None) != (args.script is None):
        raise UsageProblem("speak: need VIDEO and SCRIPT, or --text.", hint="Run 'mouthpiece speak --help'.", code="usage")
    if args.script is not None and options.slot is not None:
        raise UsageProblem(f"--slot {options.slot:g}: a script has the slots of its lines.", hint="Leave it out; it belongs to --text.", code="usage")
    if args.text is not None:
        refuse_idle(vars(args), OF_SCRIPTS, "with --text", "It belongs to a SCRIPT; leave it out.")
        refuse_idle(vars(args), OF_FILMS, "with --text", "It belongs to a VIDEO with its actor; leave it out.")
    elif options.mouth == "off":
        refuse_idle(vars(args), ("face",), "with --mouth off", "No lips are watched; leave it out.")
    options.refuse_idle_prosody(vars(args))
    output_file(args.output, args.force, inputs, (".wav",))
    output_file(sidecar_path(args.output), args.force, inputs)
    others = [take_path(args.output, k) for k in range(1, options.takes)]
    for path in others:
        output_file(path, args.force, inputs, (".wav",))
    said = None
    if args.script is not None:
        look_at(media=(args.video,))
        said = read_text(args.script, options.encoding)
    marking = marking_of(args, "speak", inputs, () if options.language is None else (options.language,))
    if args.text is not None:
        return _text(args, options, (inputs, marking), progress)
    return _script(args, options, (inputs, marking, said), progress)


def take_path(output, index):
    """Where take `index` (1 or more) of an output goes: OUT.take2.wav for the second. Source: ours."""
    return output.with_name(f"{output.stem}.take{index + 1}{output.suffix}")


def _text(args, options, inputs, progress):
    from voice.line import say_text

    if args.dry_run:
        from voice.line import check_text

        return Outcome(dict(dry_run=True, output=str(args.output)) | check_text(args.text, options), f"would write {args.output}")
    with progress.stage("speaking", options.takes, "take") as advance:
        takes = [say_text(args.text, options, k, advance) for k in range(options.takes)]
    return _written(args, options, inputs, [([t.line_placed(inputs[1].credentials is not None)], t.samples) for t in takes], takes[0].facts() | dict(takes=[t.facts() for t in takes[1:]]))


def _script(args, options, inputs, progress):
    from voice.pipeline import answers, placed, prepare

    job = replace(prepare(args.video, args.script, options, inputs[2]), consent=inputs[1].consent)
    if not job.has_picture:
        refuse_idle(vars(args), ("face",), f"with {args.video}", "There is no picture in it; leave it out.")
    for remark in job.script.remarks:
        progress.note(remark.text)
    if args.dry_run:
        return Outcome(dict(dry_run=True, output=str(args.output), facts=job.plan()), f"would write {args.output}: {counted(len(job.script.lines))}")
    done = list(answers(job, progress))
    takes = [([p for p in (placed(a, k, inputs[1].credentials is not None) for a in done) if p is not None], job.samples) for k in range(options.takes)]
    if not takes[0][0]:
        from engine.errors import Refused

        why = done[0].as_dict()["why"].rstrip(".")
        raise Refused(f"{args.script}: not one of its {counted(len(done))} could be spoken; line {done[0].line.id}: {why}.", hint="Correct the script.", code="no_speech")
    rows = [a.as_dict() for a in done]
    review = [row["id"] for row in rows if row["needs_review"]]
    return _written(args, options, inputs[:2], takes, job.plan() | dict(lines=rows, needs_review=review))


def _written(args, options, inputs, takes, facts):
    """Writes every take as a stem, marks and documents the first; Outcome."""
    from engine.report import sidecar_path
    from voice.mix import Programme, write_stems
    from voice.pipeline import heard_mark

    inputs, marking = inputs
    outputs = [args.output, *(take_path(args.output, k) for k in range(1, len(takes)))]
    sound = [write_stems(Programme(tuple(lines), None, samples, 1), {"dialogue": path}, None, args.force, inputs) for path, (lines, samples) in zip(outputs, takes)]
    told = [marking.of(watermark=heard_mark(path)) if marking.credentials is not None else marking for path in outputs]
    payload = [documented(p, "speak", options, inputs, facts | dict(take=k + 1, sound=sound[k]), told[k]) for k, p in enumerate(outputs)][0]
    review = facts.get("needs_review") or []
    note = f"; a person should listen to {counted(len(review))}: {', '.join(review[:8])}" if review else ""
    said = f"{args.output}: {takes[0][1] / 48000:.2f} s, {counted(len(takes[0][0]))}{note}"
    silent = any(not line["takes"] and line["text"].strip() for line in facts.get("lines", ()))
    result = payload | {"output": str(args.output), "outputs": [str(p) for p in outputs], "sidecar": str(sidecar_path(args.output))}
    return Outcome(result, said, ExitCode.PARTLY if silent else ExitCode.DONE)


def counted(lines):
    """"1 line", "2 lines". Source: ours."""
    return f"{lines} line{'s' * (lines != 1)}"


COMMAND = Command("speak", "speech for a video from its transcript, or for a text", add, run)
