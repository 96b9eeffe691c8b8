"""The use case `lipsync`: the lips of a video are moved to new sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mouthpiece.lipsync.options import LipsyncOptions
from mouthpiece.request import Argument, Request, UseCase

if TYPE_CHECKING:
    from mouthpiece.job import Job, Result
    from mouthpiece.request import ProgressCallback, StrPath


@dataclass(frozen=True)
class LipsyncRequest(Request):
    """A video whose lips are to follow another sound.

    video: film with a face.  sound: its new sound; a video lends its own.  output: video to write.
    lips_from: recording that the lips follow instead of the sound, such as the dialogue of a mix.
    """

    command: ClassVar[str] = "lipsync"
    video: Path
    sound: Path
    lips_from: Path | None
    output: Path
    options: LipsyncOptions

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Paths of the files that are read."""
        return (self.video, self.sound) + (() if self.lips_from is None else (self.lips_from,))


def run_lipsync(request: LipsyncRequest, job: Job) -> Result:
    """Move the lips of a video to new sound: check, find face and spans, redraw the mouths, mark the changed seconds.

    Raises InvalidInputError for a video without a face or a file without sound, UsageError for options that do not
    fit, MissingDependencyError for weights, OutputError for the disk.
    """
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.media.containers import VIDEO_SUFFIXES

    options, output = request.options, request.output
    sidecar = job.check_output(output, VIDEO_SUFFIXES)
    check_inputs(media=(request.video,), sounds=(request.sound, request.lips_from))
    from mouthpiece.engine.media.companions import list_losses
    from mouthpiece.engine.weights.model_cache import get_cached_model
    from mouthpiece.lipsync.film.lipsync_job import prepare_lipsync
    from mouthpiece.lipsync.film.resync import resync
    from mouthpiece.lipsync.models import load_models

    placement = job.choose_device(options.device)
    marking = job.prepare_marking(output)
    film = prepare_lipsync(request.video, request.sound, options, lips_from=request.lips_from)
    models = get_cached_model(load_models, placement)
    plan = film.plan()
    job.note_settings(placement, options.settings() | plan)
    if job.settings.dry_run:
        document = {"output": str(output), "sidecar": str(sidecar), "settings": options.settings(), "facts": plan}
        return job.preview(document, f"would write {output}: {plan['width_px']}x{plan['height_px']} at {plan['rate']}")
    facts = resync(film, output, models, placement, job.progress, overwrite=job.settings.overwrite)
    facts["notes"] += list_losses(request.video, output)
    marking = marking.with_changes(source=request.video, spans_s=facts["changed_s"])
    result = job.finalize(output, options, facts, summarize_changes(output, facts), marking)
    for note in facts["notes"]:
        job.progress.note(note)
    return result


def summarize_changes(output: Path, facts: dict[str, Any]) -> str:
    """Say in one line how much of the video was changed. facts: of the side-car."""
    if facts["copied"]:
        why = f" ({facts['notes'][0]})" if facts["notes"] else ""
        return f"{output}: {facts['frames']} frames, no lips changed, picture copied{why}"
    changed_s = sum(stop - start for start, stop in facts["changed_s"])
    return (
        f"{output}: {facts['frames']} frames, {facts['width_px']}x{facts['height_px']}, "
        f"lips changed for {changed_s:.2f} of {facts['duration_s']:.2f} s"
    )


LIPSYNC = UseCase(
    LipsyncRequest,
    run_lipsync,
    (
        Argument("video", media=True, excerpt=True),
        Argument("sound", media=True, excerpt=True),
        Argument("lips_from", required=False, excerpt=True),
        Argument("output", writes=True),
    ),
    (LipsyncOptions,),
)


def lipsync(
    video: StrPath,
    sound: StrPath,
    output: StrPath,
    *,
    lips_from: StrPath | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    preset: StrPath | None = None,
    consent: StrPath | None = None,
    provenance: bool = True,
    **options: object,
) -> Result:
    """Move the lips of a video to new sound, and write the video with that sound.

    video: film with a face.  sound: its new sound; a video lends its own.  output: video to write.
    lips_from: recording that the lips follow instead, such as the dialogue of a mix.
    overwrite: replace an output that is there.  progress: called with a ProgressEvent now and then.
    preset: TOML file, side-car of an earlier result, or the name of a packaged preset.
    consent: file that says who allowed what.  provenance: False leaves the video without a mark.
    options: every option of `mouthpiece lipsync`, such as expression=1.0 or spans="1.2-3.4"; also dry_run,
    signing_key and signing_cert.
    Returns a Result.  Raises MouthpieceError as run_lipsync does.

    >>> result = lipsync("film.mp4", "line.wav", "synced.mp4")
    >>> result.output.name, result.facts["copied"]
    ('synced.mp4', False)
    """
    values = dict(video=video, sound=sound, output=output, lips_from=lips_from, overwrite=overwrite, preset=preset)
    return LIPSYNC.call(values | dict(consent=consent, provenance=provenance) | options, progress)
