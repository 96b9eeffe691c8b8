"""`mouthpiece speak`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult, add_output_flags, finalize_output
from mouthpiece.engine.config import add_option_groups, read_preset, reject_unused_options, resolve_options
from mouthpiece.engine.errors import ExitCode, UsageError
from mouthpiece.engine.provenance.manifest import make_marking
from mouthpiece.voice.options import FILM_OPTIONS, SCRIPT_OPTIONS, SpeakOptions

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.engine.provenance.manifest import Marking


def add_arguments(parser) -> None:
    """Adds the arguments of `speak`."""
    parser.add_argument(
        "video", type=Path, nargs="?", metavar="VIDEO", help="film, or its sound alone; leave it out with --text"
    )
    parser.add_argument(
        "script",
        type=Path,
        nargs="?",
        metavar="SCRIPT",
        help="SRT, WebVTT, ASS, cue sheet, DAPT, plain text or project",
    )
    parser.add_argument("--text", help="speak this text instead of a script")
    add_output_flags(parser, "OUT.wav")
    add_option_groups(parser, {"speak": SpeakOptions})


def run(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `speak`."""
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.provenance.sidecar import get_sidecar_path
    from mouthpiece.voice.scripts.text_decoding import read_text

    options = resolve_options(
        SpeakOptions, None if args.preset is None else read_preset(args.preset, "speak"), vars(args)
    )
    inputs = tuple(p for p in (args.video, args.script, options.dictionary) if p is not None)
    if (args.text is None) == (args.video is None) or (args.video is None) != (args.script is None):
        raise UsageError(
            "speak: need VIDEO and SCRIPT, or --text.", hint="Run 'mouthpiece speak --help'.", code="usage"
        )
    if args.script is not None and options.slot is not None:
        raise UsageError(
            f"--slot {options.slot:g}: a script has the slots of its lines.",
            hint="Leave it out; it belongs to --text.",
            code="usage",
        )
    if args.text is not None:
        reject_unused_options(vars(args), SCRIPT_OPTIONS, "with --text", "It belongs to a SCRIPT; leave it out.")
        reject_unused_options(
            vars(args), FILM_OPTIONS, "with --text", "It belongs to a VIDEO with its actor; leave it out."
        )
    elif options.lip_timing == "off":
        reject_unused_options(vars(args), ("face",), "with --lip-timing off", "No lips are watched; leave it out.")
    options.reject_unused_prosody(vars(args))
    check_output_file(args.output, args.force, inputs, (".wav",))
    check_output_file(get_sidecar_path(args.output), args.force, inputs)
    others = [get_take_path(args.output, k) for k in range(1, options.takes)]
    for path in others:
        check_output_file(path, args.force, inputs, (".wav",))
    said = None
    if args.script is not None:
        check_inputs(media=(args.video,))
        said = read_text(args.script, options.encoding)
    marking = make_marking(args, "speak", inputs, () if options.language is None else (options.language,))
    if args.text is not None:
        return _speak_text(args, options, (inputs, marking), progress)
    return _speak_script(args, options, (inputs, marking, said), progress)


def get_take_path(output: Path, index: int) -> Path:
    """Where take `index` (1 or more) of an output goes: OUT.take2.wav for the second."""
    return output.with_name(f"{output.stem}.take{index + 1}{output.suffix}")


def _speak_text(
    args: argparse.Namespace, options: SpeakOptions, inputs: tuple, progress: Progress
) -> CommandResult | None:
    from mouthpiece.voice.text_to_speech import speak_text

    if args.dry_run:
        from mouthpiece.voice.text_to_speech import preview_text

        return CommandResult(
            dict(dry_run=True, output=str(args.output)) | preview_text(args.text, options), f"would write {args.output}"
        )
    with progress.stage("speaking", options.takes, "take") as advance:
        takes = [speak_text(args.text, options, k, advance) for k in range(options.takes)]
    return _write_takes(
        args,
        options,
        inputs,
        [([t.to_placed_sound(inputs[1].credentials is not None)], t.samples) for t in takes],
        takes[0].facts() | dict(takes=[t.facts() for t in takes[1:]]),
    )


def _speak_script(
    args: argparse.Namespace,
    options: SpeakOptions,
    inputs: tuple[tuple[Path, Path], Marking, tuple[str, bytes, tuple]],
    progress: Progress,
) -> CommandResult | None:
    from mouthpiece.voice.speech_lines import place_take, prepare_speech, speak_lines

    job = replace(prepare_speech(args.video, args.script, options, inputs[2]), consent=inputs[1].consent)
    if not job.has_picture:
        reject_unused_options(vars(args), ("face",), f"with {args.video}", "There is no picture in it; leave it out.")
    for remark in job.script.remarks:
        progress.note(remark.text)
    if args.dry_run:
        return CommandResult(
            dict(dry_run=True, output=str(args.output), facts=job.plan()),
            f"would write {args.output}: {format_line_count(len(job.script.lines))}",
        )
    done = list(speak_lines(job, progress))
    takes = [
        ([p for p in (place_take(a, k, inputs[1].credentials is not None) for a in done) if p is not None], job.samples)
        for k in range(options.takes)
    ]
    if not takes[0][0]:
        from mouthpiece.engine.errors import InvalidInputError

        why = done[0].as_dict()["why"].rstrip(".")
        raise InvalidInputError(
            f"{args.script}: not one of its {format_line_count(len(done))} could be spoken; line {done[0].line.id}: {why}.",
            hint="Correct the script.",
            code="no_speech",
        )
    rows = [a.as_dict() for a in done]
    review = [row["id"] for row in rows if row["needs_review"]]
    return _write_takes(args, options, inputs[:2], takes, job.plan() | dict(lines=rows, needs_review=review))


def _write_takes(
    args: argparse.Namespace, options: SpeakOptions, inputs: tuple, takes: list[tuple[list, int]], facts: dict[str, Any]
) -> CommandResult:
    """Writes every take as a stem, marks and documents the first; Outcome."""
    from mouthpiece.engine.provenance.sidecar import get_sidecar_path
    from mouthpiece.voice.mix.mixdown import Programme, write_stems
    from mouthpiece.voice.speech_lines import report_watermark

    inputs, marking = inputs
    outputs = [args.output, *(get_take_path(args.output, k) for k in range(1, len(takes)))]
    sound = [
        write_stems(Programme(tuple(lines), None, samples, 1), {"dialogue": path}, None, args.force, inputs)
        for path, (lines, samples) in zip(outputs, takes)
    ]
    told = [
        marking.of(watermark=report_watermark(path)) if marking.credentials is not None else marking for path in outputs
    ]
    payload = [
        finalize_output(p, "speak", options, inputs, facts | dict(take=k + 1, sound=sound[k]), told[k])
        for k, p in enumerate(outputs)
    ][0]
    review = facts.get("needs_review") or []
    note = f"; a person should listen to {format_line_count(len(review))}: {', '.join(review[:8])}" if review else ""
    said = f"{args.output}: {takes[0][1] / 48000:.2f} s, {format_line_count(len(takes[0][0]))}{note}"
    silent = any(not line["takes"] and line["text"].strip() for line in facts.get("lines", ()))
    result = payload | {
        "output": str(args.output),
        "outputs": [str(p) for p in outputs],
        "sidecar": str(get_sidecar_path(args.output)),
    }
    return CommandResult(result, said, ExitCode.PARTLY if silent else ExitCode.DONE)


def format_line_count(lines: int) -> str:
    """ "1 line", "2 lines"."""
    return f"{lines} line{'s' * (lines != 1)}"


COMMAND = Command("speak", "speech for a video from its transcript, or for a text", add_arguments, run)
