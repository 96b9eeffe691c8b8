"""The use case `transcribe`: speech becomes a draft script with times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mouthpiece.engine.config import Options, option, reject_unused_options
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.job import Result, format_line_count
from mouthpiece.request import Argument, Request, UseCase
from mouthpiece.voice.asr.recognizers import RECOGNIZER_CHOICES

if TYPE_CHECKING:
    from mouthpiece.job import Job
    from mouthpiece.request import ProgressCallback, StrPath
    from mouthpiece.voice.scripts.script import Script


@dataclass(frozen=True)
class TranscribeOptions(Options):
    """Options of `mouthpiece transcribe`.

    Raises UsageError naming the flag, the value and what is accepted.
    """

    model: str = option(
        "auto",
        "what listens; auto takes whisper where its weights are installed",
        choices=RECOGNIZER_CHOICES,
    )
    language: str | None = option(None, "what is spoken, such as en or de; whisper finds it out")
    device: str = option("cpu", "auto, cpu, or a GPU by name and number")
    line_length: float = option(7.0, "longest line", unit="s", low=1.0, high=30.0)
    line_characters: int = option(84, "most characters in a line", low=20, high=400)


@dataclass(frozen=True)
class TranscribeRequest(Request):
    """A recording whose speech is to be written down.

    video: video or recording with speech.  output: script in one of the formats that are written; .json is a project.
    """

    command: ClassVar[str] = "transcribe"
    video: Path
    output: Path
    options: TranscribeOptions

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Paths of the files that are read."""
        return (self.video,)


def run_transcribe(request: TranscribeRequest, job: Job) -> Result:
    """Transcribe a recording: check, recognise the words, draft lines of them, write the script and its side-car.

    Raises InvalidInputError for a file without sound or without speech, UsageError for options that do not fit,
    MissingDependencyError for weights, OutputError for the disk.
    """
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.voice.scripts.formats import list_written_suffixes

    options, output = request.options, request.output
    suffixes, sidecar = (*list_written_suffixes(), ".json"), None
    if output.suffix.lower() == ".json":  # a project is JSON itself, and has no side-car
        check_output_file(output, job.settings.overwrite, job.inputs, suffixes)
    else:
        sidecar = job.check_output(output, suffixes)
    check_inputs(sounds=(request.video,))
    from mouthpiece.voice.asr.script_draft import draft_script
    from mouthpiece.voice.asr.transcription import open_transcriber

    if options.model == "pocketsphinx" and options.device not in ("cpu", "auto"):
        reject_unused_options(
            request.given,
            ("device",),
            "with --model pocketsphinx",
            "It hears on the processor alone; leave it out.",
        )
    placement = job.choose_device(options.device)
    duration_s = get_duration_s(request.video)
    transcriber = open_transcriber(options.model, options.language, placement)
    transcriber.check(options.language)
    facts: dict[str, Any] = {"recogniser": transcriber.name, "why": transcriber.why}
    job.progress.note(f"{transcriber.name}: {transcriber.why}")
    if job.settings.dry_run:
        document = {"output": str(output), "settings": options.settings(), "facts": facts}
        return job.preview(document, f"would write {output}: heard by {transcriber.name}")
    with job.progress.stage("listening", None if duration_s is None else round(duration_s), "s") as advance:
        phrases = transcriber.transcribe(request.video, options.language, advance)
    if not phrases:
        raise make_no_speech_error(request, transcriber.name)
    script = draft_script(phrases, options.line_length, options.line_characters)
    facts |= {
        "language": script.language,
        "lines": len(script.lines),
        "speakers": "not told apart: all lines are given to S1",
        "words": [[word.text, word.start_s, word.stop_s] for phrase in phrases for word in phrase.words],
    }
    payload = write_draft(request, script, facts, job)
    summary = (
        f"{output}: {format_line_count(len(script.lines))} in '{script.language}' heard by {transcriber.name}; "
        "a draft to read over, speakers are not told apart"
    )
    document = payload | {"output": str(output), "sidecar": sidecar and str(sidecar)}
    return Result("transcribe", document, summary, facts, output, sidecar)


def make_no_speech_error(request: TranscribeRequest, recognizer: str) -> InvalidInputError:
    """Return the error of a recording in which nothing was recognised. recognizer: its name."""
    language = request.options.language
    question = "" if language is None else f"Is '{language}' what is spoken? "
    return InvalidInputError(
        f"{request.video}: nobody speaks in it, as far as {recognizer} hears.",
        hint=f"{question}Is it the right sound track? A script can also be written by hand.",
        code="no_speech",
    )


def write_draft(request: TranscribeRequest, script: Script, facts: dict[str, Any], job: Job) -> dict[str, Any]:
    """Write the script and its side-car; return the contents of the latter. The script is removed when it fails."""
    from mouthpiece.engine.provenance.sidecar import build_sidecar, write_sidecar
    from mouthpiece.voice.scripts.formats import write_script
    from mouthpiece.voice.scripts.project import create_project
    from mouthpiece.voice.scripts.project_file import save_project

    is_project = request.output.suffix.lower() == ".json"
    if is_project:
        save_project(create_project(script, {"name": request.video.name}), request.output, job.inputs)
    else:
        write_script(script, request.output, job.settings.overwrite, job.inputs)
    try:
        payload = build_sidecar("transcribe", request.options.settings(), 0, job.inputs, facts)
        payload |= {"file": request.output.name}
        if not is_project:
            write_sidecar(request.output, payload)
        return payload
    except BaseException:
        request.output.unlink(missing_ok=True)
        raise


def get_duration_s(path: Path) -> float | None:
    """Return the seconds of a file, None when it does not say. Raises InvalidInputError for a file without sound."""
    from mouthpiece.engine.media.probing import probe

    info = probe(path)
    if not info.has_audio:
        raise InvalidInputError(
            f"{path}: no sound in it.", hint="Give a recording or a video with sound.", code="no_sound"
        )
    return None if info.duration is None else float(info.duration)


TRANSCRIBE = UseCase(
    TranscribeRequest,
    run_transcribe,
    (Argument("video", media=True), Argument("output", writes=True)),
    (TranscribeOptions,),
    settings=("overwrite", "dry_run"),
)


def transcribe(
    video: StrPath,
    output: StrPath,
    *,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    preset: StrPath | None = None,
    **options: object,
) -> Result:
    """Write down the speech of a recording as a draft script with times.

    video: video or recording with speech.  output: script, such as .srt, .vtt, .csv, .ttml; .json is a project.
    overwrite: replace an output that is there.  progress: called with a ProgressEvent now and then.
    preset: TOML file, or side-car of an earlier result.
    options: every option of `mouthpiece transcribe`, such as language="de" or line_length=5; also dry_run.
    Returns a Result.  Raises MouthpieceError as run_transcribe does.

    >>> result = transcribe("speech.wav", "speech.srt", model="pocketsphinx")
    >>> result.facts["recogniser"], result.facts["language"], result.facts["lines"]
    ('pocketsphinx', 'en', 1)
    """
    values = dict(video=video, output=output, overwrite=overwrite, preset=preset)
    return TRANSCRIBE.call(values | options, progress)
