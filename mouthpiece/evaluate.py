"""The use case `evaluate`: a video, or a finished dub, measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mouthpiece.engine.config import reject_unused_options
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.job import Result
from mouthpiece.request import Argument, Request, UseCase
from mouthpiece.voice.asr.recognizers import REVIEW_CHOICES

if TYPE_CHECKING:
    from mouthpiece.job import Job
    from mouthpiece.request import ProgressCallback, StrPath

PROJECT_FILE = Path("project.json")  # in the folder OUT.dub beside OUT.mp4
DIALOGUE_FILE = "dialogue.wav"  # the stem beside the project
OTHER_WORDS_REASON = "the film before a dub says other words"
LINE_KEYS = ("start_err_ms_p95", "end_err_ms_p95")
FILM_KEYS = ("overlap_mean", "pause_match_mean", "rate_ratio_mean", "f0_correlation_mean")


@dataclass(frozen=True)
class EvaluateRequest(Request):
    """A video to be measured.

    against: the real clip of the same sound; of a dub the film before it.
    portrait: the picture it was made from.
    project: the video is a dub of this project; None finds the one in OUT.dub beside it.
    recognizer: what recognises the lines of a dub: a name of the table of recognisers, "auto" or "off"; None is "auto"
    for a dub.
    sheet: where a contact sheet is written.
    """

    command: ClassVar[str] = "evaluate"
    video: Path
    against: Path | None
    portrait: Path | None
    project: Path | None
    recognizer: str | None
    sheet: Path | None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Paths of the files that are read."""
        return tuple(path for path in (self.video, self.against, self.portrait) if path is not None)


def run_evaluate(request: EvaluateRequest, job: Job) -> Result:
    """Evaluate a video: sync, stillness, identity, sharpness; of a dub its lines too.

    Raises InvalidInputError for a file that cannot be read, UsageError for arguments that do not fit,
    MissingDependencyError for weights, OutputError for the disk.
    """
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.media.images import WRITE_SUFFIXES

    if request.sheet is not None:
        check_output_file(request.sheet, job.settings.overwrite, job.inputs, WRITE_SUFFIXES)
    project = find_project(request)
    check_inputs(media=(request.video, request.against), pictures=(request.portrait,))
    check_recognizer(request, project)
    from mouthpiece.evaluation.contact_sheet import write_contact_sheet
    from mouthpiece.evaluation.talking_head import evaluate_video, format_table

    with job.progress.stage("measuring", 1, "video") as advance:
        facts = evaluate_video(
            request.video,
            against=None if project else request.against,
            portrait=request.portrait,
            sound=find_dialogue(project),
        )
        advance(1)
    if project is not None and facts["amplitude_ratio"] is None and facts["sync_reference"] is not None:
        facts["reasons"]["amplitude_ratio"] = OTHER_WORDS_REASON
    table = format_table(facts)
    if project is not None:
        dub = measure_dub(request, project, job)
        facts, table = facts | dict(dub=dub), f"{table}\n{format_table(flatten_dub(dub))}"
    if request.sheet is not None:
        write_contact_sheet(request.video, request.sheet, against=request.against)
    return Result("evaluate", facts, table, facts, request.sheet)


def find_project(request: EvaluateRequest) -> Path | None:
    """Find the project of which the video is a dub: the one named, or that in OUT.dub beside it; None without one.

    Raises UsageError for a named project that is not there.
    """
    if request.project is not None:
        if not request.project.is_file():
            raise UsageError(
                f"--project {request.project}: there is no such file.",
                hint="Give the project.json of the dub.",
                code="no_such_file",
            )
        return request.project
    beside = request.video.with_suffix(".dub") / PROJECT_FILE
    return beside if beside.is_file() else None


def find_dialogue(project: Path | None) -> Path | None:
    """Find the dialogue stem beside the project of a dub; None without one."""
    dialogue = None if project is None else project.parent / DIALOGUE_FILE
    return dialogue if dialogue is not None and dialogue.is_file() else None


def check_recognizer(request: EvaluateRequest, project: Path | None) -> None:
    """Check that the lines of a dub can be recognised, before anything is measured.

    Raises UsageError for a recogniser of a video that is no dub, and what dub_evaluation.check_dub raises.
    """
    if project is None:
        reject_unused_options(
            {"recognizer": request.recognizer},
            ("recognizer",),
            "for a video that is no dub",
            "It says what hears the lines of a dub; name its project with --project, or leave it out.",
        )
        return
    from mouthpiece.evaluation.dub_evaluation import check_dub

    check_dub(request.video, project, request.recognizer or "auto")


def measure_dub(request: EvaluateRequest, project: Path, job: Job) -> dict[str, Any]:
    """Measure a dub with the mouth of the film before it: the numbers of dub_evaluation.evaluate_dub, JSON-ready."""
    from mouthpiece.engine.media.probing import probe
    from mouthpiece.evaluation.dub_evaluation import evaluate_dub

    mouth_boxes, reasons = None, {}
    if request.against is None:
        reasons["mouths"] = "needs the film: --against VIDEO"
    elif not probe(request.against).has_video:
        reasons["mouths"] = f"{request.against}: no moving picture in it"
    else:
        from mouthpiece.lipsync.film.dubbing import make_box_lookup

        try:
            mouth_boxes = make_box_lookup(request.against, project.parent / "picture", job.progress)
        except InvalidInputError as problem:
            if problem.code != "no_face":
                raise
            reasons["mouths"] = problem.message
    recognizer = request.recognizer or "auto"
    dub = evaluate_dub(request.video, request.against, project, mouth_boxes, recognizer, job.progress)
    dub["old_mouth_correlation"] = None
    if mouth_boxes and request.against is not None:
        dub["old_mouth_correlation"] = correlate_old_mouth(request.against, request.video)
        if dub["old_mouth_correlation"] is None:
            reasons["old_mouth_correlation"] = "a mouth that does not move, or is not seen"
    return dub | dict(reasons=dub["reasons"] | reasons)


def correlate_old_mouth(film: Path, dub: Path) -> float | None:
    """Correlate the mouth's opening in a dub with that in the film before it; 1 where no lip was moved.

    None where a mouth does not move or is not seen.
    """
    from mouthpiece.evaluation.video_metrics import measure_video
    from mouthpiece.face.measure import compute_correlation

    before, after = (measure_video(path).opening for path in (film, dub))
    count = min(len(before), len(after))
    correlation = float(compute_correlation(before[:count], after[:count]))
    return None if correlation != correlation else correlation


def flatten_dub(dub: dict[str, Any]) -> dict[str, Any]:
    """Flatten the numbers of a dub for the table: every name begins with what it is of."""
    out = dict(
        project=dub["project"],
        measured_in=dub["measured_in"],
        recogniser=dub["recogniser"],
        old_mouth_correlation=dub["old_mouth_correlation"],
    )
    for part in ("file", "loudness", "picture"):
        out |= {part: None} if dub[part] is None else {f"{part}_{name}": value for name, value in dub[part].items()}
    reason_keys: dict[str, tuple[str, ...]] = {f"file_{name}": ("lines",) for name in LINE_KEYS}
    reason_keys |= {f"file_{name}": ("overlap",) for name in FILM_KEYS}
    reason_keys |= {name: ("loudness",) for name in out if name.startswith("loudness_")}
    reason_keys |= {
        "picture": ("picture",),
        "picture_inside_changed_share": ("mouths",),
        "file_wer_mean": ("wer",),
        "recogniser": ("wer",),
        "old_mouth_correlation": ("old_mouth_correlation", "mouths"),
    }
    found = {
        name: [dub["reasons"][key] for key in reason_keys.get(name, ()) if key in dub["reasons"]]
        for name, value in out.items()
        if value is None
    }
    return out | dict(reasons={name: (why or ["nothing to measure"])[0] for name, why in found.items()})


EVALUATE = UseCase(
    EvaluateRequest,
    run_evaluate,
    (
        Argument("video", media=True),
        Argument("against", required=False, media=True),
        Argument("portrait", required=False, media=True),
        Argument("project", required=False),
        Argument("recognizer", required=False, kind=str, choices=REVIEW_CHOICES),
        Argument("sheet", required=False, writes=True),
    ),
    settings=("overwrite",),
)


def evaluate(
    video: StrPath,
    *,
    against: StrPath | None = None,
    portrait: StrPath | None = None,
    project: StrPath | None = None,
    recognizer: str | None = None,
    sheet: StrPath | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Result:
    """Measure a video: sync, stillness, identity, sharpness; of a dub its lines too.

    video: film.  against: the real clip of the same sound; of a dub the film before it.
    portrait: the picture it was made from.  project: the video is a dub of this project; one beside it is found.
    recognizer: what recognises the lines of a dub: auto, whisper, pocketsphinx or off.
    sheet: where a contact sheet is written.  overwrite: replace a sheet that is there.
    progress: called with a ProgressEvent now and then.
    Returns a Result; the numbers are Result.facts.  Raises MouthpieceError as run_evaluate does.

    >>> result = evaluate("film.mp4")
    >>> result.facts["frames"]
    20
    """
    values = dict(video=video, against=against, portrait=portrait, project=project, recognizer=recognizer, sheet=sheet)
    return EVALUATE.call(values | dict(overwrite=overwrite), progress)
