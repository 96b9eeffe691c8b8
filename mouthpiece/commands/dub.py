"""`mouthpiece dub`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult, add_output_flags, finalize_output
from mouthpiece.commands.speak import format_line_count
from mouthpiece.engine.config import add_option_groups, read_preset, reject_unused_options, resolve_options, to_flag
from mouthpiece.engine.errors import ExitCode, UsageError
from mouthpiece.engine.provenance.manifest import make_marking
from mouthpiece.voice.options import SCRIPT_OPTIONS, DubOptions

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.voice.dub_project import DubJob

# by command_after
RESUMED_OPTIONS = (
    *(name for name in DubOptions.__dataclass_fields__ if name not in ("lips", "auto")),
    "preset",
    "consent",
    "signing_key",
    "signing_cert",
)


def add_arguments(parser) -> None:
    """Adds the arguments of `dub`."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="film")
    parser.add_argument(
        "script",
        type=Path,
        nargs="?",
        metavar="SCRIPT",
        help="script or project; without one a draft is written for you to edit",
    )
    add_output_flags(parser)
    add_option_groups(parser, {"dub": DubOptions})


def run(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `dub`."""
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.media.reading import VIDEO_SUFFIXES
    from mouthpiece.engine.provenance.sidecar import get_sidecar_path
    from mouthpiece.voice.mix.bed import check_bed
    from mouthpiece.voice.scripts.text_decoding import read_text

    options = resolve_options(
        DubOptions, None if args.preset is None else read_preset(args.preset, "dub", ("speak",)), vars(args)
    )
    reject_unused_flags(args, options)
    inputs = tuple(p for p in (args.video, args.script, options.dictionary) if p is not None)
    check_output_file(args.output, args.force, inputs, VIDEO_SUFFIXES)
    check_output_file(get_sidecar_path(args.output), args.force, inputs)
    check_inputs(media=(args.video,))
    if args.script is None:
        return _draft_script(args, options, progress)
    check_bed(options.bed)
    said = read_text(args.script, options.encoding)
    from mouthpiece.voice.dub_project import prepare_dub

    dub = prepare_dub(args.video, args.script, args.output, options, said)
    for remark in dub.job.script.remarks:
        progress.note(remark.text)
    if args.dry_run:
        return CommandResult(
            dict(dry_run=True, output=str(args.output), facts=dub.plan()),
            f"would write {args.output}: {len(dub.pending)} of {len(dub.job.script.lines)} lines to speak",
        )
    return run_dub(args, dub, inputs, progress)


def reject_unused_flags(args: argparse.Namespace, options: DubOptions) -> None:
    """Refuses flags that would do nothing in the mode asked for. options: DubOptions."""
    flags = vars(args)
    if args.script is None:
        reject_unused_options(flags, SCRIPT_OPTIONS, "without a SCRIPT", "It says how a SCRIPT is read; leave it out.")
    else:
        reject_unused_options(flags, ("auto",), "with a SCRIPT", "It belongs to a dub without one; leave it out.")
    options.reject_unused_prosody(flags)
    if not options.lips:
        reject_unused_options(
            flags,
            ("quality", "on_missing_face", "device"),
            "with --no-lips",
            "The picture is copied bit by bit; leave it out.",
        )
        if options.lip_timing == "off":
            reject_unused_options(
                flags, ("face", "faces"), "with --no-lips and --lip-timing off", "No face is looked for; leave it out."
            )


def _draft_script(args: argparse.Namespace, options: DubOptions, progress: Progress) -> None:
    from mouthpiece.voice.dub_project import prepare_dub, write_draft

    path = args.output.with_suffix(".srt")
    if path.exists() and not args.force:
        raise UsageError(
            f"{path}: a draft is already there.",
            hint="Give it as SCRIPT, or --force to draft again.",
            code="output_exists",
        )
    if args.dry_run:
        return CommandResult(dict(dry_run=True, draft=str(path)), f"would draft {path}")
    with progress.stage("recognising", 1, "film") as advance:
        script = write_draft(args.video, path, options)
        advance(1)
    if options.auto:
        return run_dub(args, prepare_dub(args.video, path, args.output, options), (args.video, path), progress)
    said = f"{path}: a draft of {format_line_count(len(script.lines))}. Edit it, then run: {format_resume_command(args, path)}"
    return CommandResult(dict(draft=str(path), lines=len(script.lines)), said)


def format_resume_command(args: argparse.Namespace, script: str) -> str:
    """The command line that goes on once a draft is edited: the same flags, with the script."""
    words = [f"./{path}" if str(path).startswith("-") else str(path) for path in (args.video, script)] + [
        "-o",
        str(args.output),
    ]
    given = {name: value for name in RESUMED_OPTIONS if (value := getattr(args, name)) is not None}
    for name, value in given.items():
        words += [f"{to_flag(name)}={value}"] if str(value).startswith("-") else [to_flag(name), str(value)]
    words += ["--no-lips"] * (args.lips is False) + ["--no-provenance"] * args.no_provenance
    return shlex.join(["mouthpiece", "dub", *words])


def run_dub(
    args: argparse.Namespace, dub: DubJob, inputs: tuple[Path, Path], progress: Progress
) -> CommandResult | None:
    """Outcome of a dub that is prepared: speaks, mixes, moves lips, reports."""
    from mouthpiece.engine.provenance.sidecar import get_sidecar_path
    from mouthpiece.evaluation.dub_report import build_dub_report, measure_dub_lines, write_dub_report
    from mouthpiece.voice.dub_project import (
        PICTURE_FOLDER,
        PROJECT_FILE,
        get_current_takes,
        speak_pending_lines,
        write_mix,
    )
    from mouthpiece.voice.speech_lines import report_watermark

    marking = make_marking(args, "dub", inputs, (dub.job.language,))
    folder = dub.folder / PICTURE_FOLDER
    dub = replace(
        dub,
        job=replace(
            dub.job, consent=marking.consent, follow=lambda face: args.follow(args.video, face, folder, progress)
        ),
    )
    todo, wanted = dict(dub.pending), marking.credentials is not None
    dub = speak_pending_lines(dub, progress)
    if not get_current_takes(dub):
        from mouthpiece.engine.errors import InvalidInputError

        raise InvalidInputError(
            f"{args.script or args.video}: not one line could be spoken.",
            hint=f"Look at {dub.folder / PROJECT_FILE}: every line says why.",
            code="no_speech",
        )
    paths, sound = write_mix(dub, progress, wanted)
    picture = write_picture(args, dub, paths, progress)
    rows = measure_dub_lines(dub, paths)
    report = build_dub_report(dub, rows, sound, picture)
    page = write_dub_report(dub, report, paths, picture.pop("mouths", ()))
    generated = tuple((f["start_s"], f["start_s"] + f["duration_s"]) for _, f in get_current_takes(dub))
    facts = report | dict(
        spoken_again=todo,
        project=str(dub.folder / PROJECT_FILE),
        stems={k: str(p) for k, p in paths.items()},
        page=str(page),
    )
    marking = marking.of(
        source=args.video, spans_s=generated, watermark=report_watermark(args.output) if wanted else None
    )
    payload = finalize_output(args.output, "dub", dub.options, inputs, facts, marking)
    review = [row["id"] for row in rows if row["status"] == "needs_review"]
    unspoken = [e.id for e in dub.project.entries if not e.take and e.line.text.strip()]
    said = f"{args.output}: {format_line_count(len(rows))}, {len(todo)} spoken now; report {page}" + (
        f"; a person should look at {format_line_count(len(review))}: {', '.join(review[:8])}" if review else ""
    )
    said += f"; not spoken: {format_line_count(len(unspoken))}: {', '.join(unspoken[:8])}" if unspoken else ""
    result = payload | dict(
        output=str(args.output), sidecar=str(get_sidecar_path(args.output)), needs_review=review, unspoken=unspoken
    )
    return CommandResult(result, said, ExitCode.PARTLY if unspoken else ExitCode.DONE)


def write_picture(args: argparse.Namespace, dub: DubJob, paths: dict[str, Path], progress: Progress) -> dict[str, Any]:
    """Writes the film with the mix; facts of its picture. Where no lip has to move the picture is copied bit by bit."""
    from mouthpiece.engine.media.mux import copy_with_sound
    from mouthpiece.voice.dub_project import PICTURE_FOLDER, get_speaker_faces, select_lip_lines

    lines = select_lip_lines(dub) if dub.options.lips and dub.job.has_picture else []
    if not lines:
        packets = copy_with_sound(args.video, args.output, paths["mix"], args.force)
        return dict(lips="picture copied", frames=packets, frames_source=packets, frames_match=True)
    job = dict(
        lines=lines,
        dialogue=paths["dialogue"],
        faces=get_speaker_faces(dub),
        options=dub.options,
        cache=dub.folder / PICTURE_FOLDER,
    )
    return args.relip(args.video, paths["mix"], args.output, job, progress, args.force)


COMMAND = Command("dub", "speak + mix with the bed + lips + mux, with a report", add_arguments, run)
