"""`mouthpiece transcribe`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult
from mouthpiece.speak import format_line_count
from mouthpiece.engine.config import Options, add_flags, option, read_preset, reject_unused_options, resolve_options
from mouthpiece.engine.errors import InvalidInputError

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress


@dataclass(frozen=True)
class TranscribeOptions(Options):
    """Options of `mouthpiece transcribe`.

    Raises UsageProblem naming the flag, the value and what is accepted.
    """

    model: str = option(
        "auto",
        "what listens; auto takes whisper where its weights are installed",
        choices=("auto", "whisper", "pocketsphinx"),
    )
    language: str | None = option(None, "what is spoken, such as en or de; whisper finds it out")
    device: str = option("cpu", "auto, cpu, or a GPU by name and number")
    line_length: float = option(7.0, "longest line", unit="s", low=1.0, high=30.0)
    line_characters: int = option(84, "most characters in a line", low=20, high=400)


def add(parser) -> None:
    """Adds the arguments of `transcribe`."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="video or recording with speech")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="SCRIPT.srt",
        help=".srt, .vtt, .csv, .ttml and others that scripts have; .json is a project",
    )
    parser.add_argument("--preset", help="TOML file, or side-car of an earlier result")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    add_flags(parser.add_argument_group("transcribe"), TranscribeOptions)


def run(args: argparse.Namespace, progress: Progress) -> None:
    """Outcome of `transcribe`."""
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.provenance.sidecar import build_sidecar, get_sidecar_path, write_sidecar
    from mouthpiece.voice.scripts.formats import WRITTEN_SUFFIXES

    options = resolve_options(
        TranscribeOptions, None if args.preset is None else read_preset(args.preset, "transcribe"), vars(args)
    )
    check_output_file(args.output, args.force, (args.video,), (*WRITTEN_SUFFIXES, ".json"))
    sidecar = None  # a project file is JSON itself
    if args.output.suffix.lower() != ".json":
        sidecar = check_output_file(get_sidecar_path(args.output), args.force, (args.video,))
    check_inputs(sounds=(args.video,))
    from mouthpiece.engine.device import choose_device
    from mouthpiece.voice.asr.script_draft import draft_script
    from mouthpiece.voice.asr.transcription import open_transcriber

    if options.model == "pocketsphinx" and options.device not in ("cpu", "auto"):
        reject_unused_options(
            vars(args), ("device",), "with --model pocketsphinx", "It hears on the processor alone; leave it out."
        )
    placement = choose_device(options.device)
    length_s = _get_duration_s(args.video)
    listener = open_transcriber(options.model, options.language, placement)
    listener.check(options.language)
    heard_by = {"recogniser": listener.name, "why": listener.why}
    progress.note(f"{listener.name}: {listener.why}")
    if args.dry_run:
        return CommandResult(
            {"dry_run": True, "output": str(args.output), "settings": options.settings(), "facts": heard_by},
            f"would write {args.output}: heard by {listener.name}",
        )
    with progress.stage("listening", length_s and round(length_s), "s") as advance:
        phrases = listener.transcribe(args.video, options.language, advance)
    if not phrases:
        raise InvalidInputError(
            f"{args.video}: nobody speaks in it, as far as {listener.name} hears.",
            hint=("" if options.language is None else f"Is '{options.language}' what is spoken? ")
            + "Is it the right sound track? A script can also be written by hand.",
            code="no_speech",
        )
    script = draft_script(phrases, options.line_length, options.line_characters)
    facts = heard_by | {
        "language": script.language,
        "lines": len(script.lines),
        "speakers": "not told apart: all lines are given to S1",
        "words": [[word.text, word.start_s, word.stop_s] for phrase in phrases for word in phrase.words],
    }
    _write(script, args)
    try:
        payload = build_sidecar("transcribe", options.settings(), 0, (args.video,), facts) | {"file": args.output.name}
        if sidecar:
            write_sidecar(args.output, payload)
    except BaseException:
        args.output.unlink(missing_ok=True)
        raise
    lines = f"{args.output}: {format_line_count(len(script.lines))} in '{script.language}' heard by {listener.name}; a draft to read over, speakers are not told apart"
    return CommandResult(payload | {"output": str(args.output), "sidecar": sidecar and str(sidecar)}, lines)


def _write(script, args):
    from mouthpiece.voice.scripts.formats import write_script
    from mouthpiece.voice.scripts.project import create_project, save_project

    if args.output.suffix.lower() == ".json":
        save_project(create_project(script, {"name": args.video.name}), args.output, (args.video,))
    else:
        write_script(script, args.output, args.force, (args.video,))


def _get_duration_s(path: Path) -> float:
    """Seconds of a file, None when it does not say. Raises Refused for a file without sound."""
    from mouthpiece.engine.media.reading import probe

    info = probe(path)
    if not info.has_audio:
        raise InvalidInputError(
            f"{path}: no sound in it.", hint="Give a recording or a video with sound.", code="no_sound"
        )
    return None if info.duration is None else float(info.duration)


COMMAND = Command("transcribe", "video or recording with speech -> draft script with times", add, run)
