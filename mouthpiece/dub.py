"""The use case `dub`: a film and a script become a film that is spoken anew, its lips moved, with a report."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mouthpiece.engine.config import reject_unused_options, to_flag
from mouthpiece.engine.errors import ExitCode, InvalidInputError, UsageError
from mouthpiece.job import Result, format_line_count
from mouthpiece.request import Argument, Request, UseCase
from mouthpiece.speak import format_line_list
from mouthpiece.voice.options import SCRIPT_OPTIONS, DubOptions

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.media.film import Film
    from mouthpiece.engine.provenance.manifest import Marking
    from mouthpiece.face.film_tracks import FilmFaceTracker
    from mouthpiece.job import Job
    from mouthpiece.lipsync.film.dubbing import DubPicture
    from mouthpiece.request import ProgressCallback, StrPath
    from mouthpiece.voice.dub_mix import DubMix
    from mouthpiece.voice.dub_project import DubJob

# repeated in the command line that goes on from a draft
RESUMED_OPTIONS = tuple(one.name for one in fields(DubOptions) if one.name not in ("lips", "auto"))


@dataclass(frozen=True)
class DubRequest(Request):
    """A film to be dubbed.

    video: the film.  script: script or project; None drafts one from what is recognized in the film.
    output: video to write; the project, its takes and stems, and the report lie in OUT.dub beside it.
    options: of the dub.
    """

    command: ClassVar[str] = "dub"
    video: Path
    script: Path | None
    output: Path
    options: DubOptions

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Paths of the files that are read."""
        return tuple(path for path in (self.video, self.script, self.options.dictionary) if path is not None)


def run_dub(request: DubRequest, job: Job) -> Result:
    """Dub a film: speak its lines, mix them over its bed, move its lips, report, mark the video.

    What an earlier run made of the same lines is used again. Without a script a draft is written for you to edit.
    Raises InvalidInputError for a film or a script that cannot be used, or where not one line could be spoken;
    UsageError for options that do not fit, OutputError for the disk.
    """
    from mouthpiece.engine.media.companions import list_losses
    from mouthpiece.engine.media.containers import VIDEO_SUFFIXES
    from mouthpiece.engine.media.film import open_film
    from mouthpiece.evaluation.dub_report import build_dub_report, measure_dub_lines, write_dub_report
    from mouthpiece.face.film_tracks import FilmFaceTracker
    from mouthpiece.voice.dub_mix import write_mix
    from mouthpiece.voice.dub_project import prepare_dub, speak_pending_lines
    from mouthpiece.voice.mix.bed import check_bed
    from mouthpiece.voice.scripts.formats import read_script_file

    check_options(request)
    job.check_output(request.output, VIDEO_SUFFIXES)
    film = open_film(request.video)
    script = request.script or draft_script(request, film, job)
    if isinstance(script, Result):
        return script
    check_bed(request.options.bed)
    script_file = read_script_file(script, request.options.encoding)
    dub = prepare_dub(film, script, request.output, request.options, script_file)
    for remark in dub.speech.script.remarks:
        job.progress.note(remark.text)
    if job.settings.dry_run:
        counts = f"{len(dub.pending)} of {len(dub.speech.script.lines)} lines to speak"
        document = {"output": str(request.output), "facts": dub.plan()}
        return job.preview(document, f"would write {request.output}: {counts}")
    marking = job.prepare_marking(request.output, (dub.speech.language,))
    tracker = FilmFaceTracker(film, dub.picture_folder)
    dub = replace(dub, speech=replace(dub.speech, consent=marking.consent, face_tracker=tracker))
    dub = speak_pending_lines(dub, job.progress)
    check_spoken(dub, script)
    mix = write_mix(dub, job.progress, watermark=marking.credentials is not None)
    picture = write_picture(dub, mix, request.output, tracker, job)
    losses = list_losses(request.video, request.output)
    for note in losses:
        job.progress.note(note)
    report = build_dub_report(dub, measure_dub_lines(dub, mix), mix, picture.facts)
    page = write_dub_report(dub, report, mix.stems, picture.mouths)
    return finalize_dub(dub, request, mix, report | {"page": str(page), "notes": losses}, marking, job)


def check_options(request: DubRequest) -> None:
    """Check that every option given has an effect in the mode that was asked for. Raises UsageError."""
    options, given = request.options, request.given
    if request.script is None:
        reject_unused_options(given, SCRIPT_OPTIONS, "without a SCRIPT", "It says how a SCRIPT is read; leave it out.")
    else:
        reject_unused_options(given, ("auto",), "with a SCRIPT", "It belongs to a dub without one; leave it out.")
    options.reject_unused_prosody(given)
    if options.lips:
        return
    hint = "The picture is copied bit by bit; leave it out."
    reject_unused_options(given, ("quality", "on_missing_face", "device"), "with --no-lips", hint)
    if options.lip_timing == "off":
        where = "with --no-lips and --lip-timing off"
        reject_unused_options(given, ("face", "faces"), where, "No face is looked for; leave it out.")


def draft_script(request: DubRequest, film: Film, job: Job) -> Path | Result:
    """Draft a script of the film beside the output.

    Return its path where the options say to go on, else the Result that ends the run.
    Raises UsageError where a draft is already there.
    """
    from mouthpiece.voice.dub_project import write_draft

    path = request.output.with_suffix(".srt")
    if path.exists() and not job.settings.overwrite:
        hint = "Give it as SCRIPT, or --force to draft again."
        raise UsageError(f"{path}: a draft is already there.", hint=hint, code="output_exists")
    if job.settings.dry_run:
        return job.preview({"draft": str(path)}, f"would draft {path}")
    with job.progress.stage("recognising", 1, "film") as advance:
        script = write_draft(film, path, request.options)
        advance(1)
    if request.options.auto:
        job.inputs = replace(request, script=path).inputs
        return path
    count, command = format_line_count(len(script.lines)), format_resume_command(request, path)
    summary = f"{path}: a draft of {count}. Edit it, then run: {command}"
    return Result(request.command, {"draft": str(path), "lines": len(script.lines)}, summary)


def format_resume_command(request: DubRequest, script: Path) -> str:
    """Format the command line that goes on once a draft is edited: the same flags, with the script."""
    settings = request.settings
    given: dict[str, object] = {name: request.given.get(name) for name in RESUMED_OPTIONS}
    given |= {"preset": request.preset, "consent": settings.consent}
    given |= {"signing_key": settings.signing_key, "signing_cert": settings.signing_cert}
    words = [f"./{path}" if str(path).startswith("-") else str(path) for path in (request.video, script)]
    words += ["-o", str(request.output)]
    for name, value in given.items():
        if value is not None:
            flag, text = to_flag(name), str(value)
            words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    words += ["--no-lips"] * (request.given.get("lips") is False) + ["--no-provenance"] * (not settings.provenance)
    return shlex.join(["mouthpiece", "dub", *words])


def check_spoken(dub: DubJob, script: Path) -> None:
    """Check that there is anything to be heard. Raises InvalidInputError where not one line could be spoken."""
    if not any(entry.take for entry in dub.project.entries):
        raise InvalidInputError(
            f"{script}: not one line could be spoken.",
            hint=f"Look at {dub.project_path}: every line says why.",
            code="no_speech",
        )


def write_picture(dub: DubJob, mix: DubMix, output: Path, tracker: FilmFaceTracker, job: Job) -> DubPicture:
    """Write the film with the mix, and the lips of lines moved that need it; without any its picture is copied."""
    from mouthpiece.lipsync.film.dubbing import DubLipsJob, copy_picture, lipsync_dub
    from mouthpiece.lipsync.options import LipsyncOptions
    from mouthpiece.voice.dub_project import select_lip_lines

    options = dub.options
    lip_options = LipsyncOptions(
        seed=options.seed,
        device=options.device,
        on_missing_face=options.on_missing_face,
        quality=options.quality,
        long_sound="cut",
    )
    lines = select_lip_lines(dub) if options.lips else []
    stems, language = mix.stems, dub.speech.language
    lips = DubLipsJob(
        dub.film, lines, stems["mix"], stems["dialogue"], lip_options, dub.picture_folder, language=language
    )
    picture = lipsync_dub(lips, output, tracker, job.progress, job.settings.overwrite) if lines else None
    return picture or copy_picture(lips, output, job.settings.overwrite)


def finalize_dub(
    dub: DubJob, request: DubRequest, mix: DubMix, report: dict[str, Any], marking: Marking, job: Job
) -> Result:
    """Mark the finished film and write its side-car; return the Result with what a person should look at."""
    from mouthpiece.voice.delivery import report_watermark
    from mouthpiece.voice.dub_project import get_current_takes

    output, spoken_now = request.output, dub.pending
    facts = report | {
        "spoken_again": spoken_now,
        "project": str(dub.project_path),
        "stems": {name: str(path) for name, path in mix.stems.items()},
    }
    generated = tuple((take.start_s, take.end_s) for _, take in get_current_takes(dub))
    watermark = report_watermark(output) if marking.credentials is not None else None
    marking = marking.with_changes(source=request.video, spans_s=generated, watermark=watermark)
    review = [line["id"] for line in report["lines"] if line["status"] == "needs_review"]
    unspoken = [entry.id for entry in dub.project.entries if not entry.take and entry.line.text.strip()]
    counts = f"{format_line_count(len(report['lines']))}, {len(spoken_now)} spoken now; report {report['page']}"
    summary = f"{output}: {counts}{format_line_list('a person should look at', review)}"
    summary += format_line_list("not spoken:", unspoken)
    result = job.finalize(output, dub.options, facts, summary, marking)
    document = result.document | {"needs_review": review, "unspoken": unspoken}
    return replace(result, document=document, exit_code=ExitCode.PARTLY if unspoken else ExitCode.DONE)


DUB = UseCase(
    DubRequest,
    run_dub,
    (
        Argument("video", media=True),
        Argument("script", required=False),
        Argument("output", writes=True),
    ),
    (DubOptions,),
    compatible_commands=("speak",),
)


def dub(
    video: StrPath,
    script: StrPath | None = None,
    output: StrPath | None = None,
    *,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    preset: StrPath | None = None,
    consent: StrPath | None = None,
    provenance: bool = True,
    **options: object,
) -> Result:
    """Dub a film: speak a script in its place, over the film's own bed, with the lips moved; write the video.

    video: the film.  script: SRT, WebVTT, ASS, cue sheet, DAPT, plain text or the project of an earlier dub; None
    writes a draft beside the output for you to edit.  output: video to write.
    overwrite: replace an output that is there.  progress: called with a ProgressEvent now and then.
    preset: TOML file, side-car of an earlier result, or the name of a packaged preset.
    consent: file that says who allowed what.  provenance: False leaves the video without a mark.
    options: every option of `mouthpiece dub`, such as voice="ANNA=hibari", bed="keep", lips=False, lines="3,7-9";
    also dry_run, signing_key and signing_cert.
    Returns a Result.  Raises MouthpieceError as run_dub does.

    >>> result = dub("film.mp4", "script.srt", "dub.mp4", voice="hibari", bed="keep", lips=False, recognizer="off")
    >>> result.output.name, [line["text"] for line in result.facts["lines"]]
    ('dub.mp4', ['Hello.'])
    """
    return DUB.call(
        dict(video=video, script=script, output=output, overwrite=overwrite, preset=preset)
        | dict(consent=consent, provenance=provenance)
        | options,
        progress,
    )
