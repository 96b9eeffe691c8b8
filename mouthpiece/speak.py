"""The use case `speak`: a script becomes speech for a film, or a text becomes speech alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from mouthpiece.engine.config import reject_unused_options
from mouthpiece.engine.errors import ExitCode, InvalidInputError, UsageError
from mouthpiece.job import format_line_count
from mouthpiece.request import Argument, Request, UseCase
from mouthpiece.voice.options import FILM_OPTIONS, SCRIPT_OPTIONS, SpeakOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from mouthpiece.engine.provenance.manifest import Marking
    from mouthpiece.job import Job, Result
    from mouthpiece.request import ProgressCallback, StrPath
    from mouthpiece.voice.mix.mixdown import PlacedSound

MAX_LISTED_LINES = 8  # of which ids are named to people


@dataclass(frozen=True)
class SpeakRequest(Request):
    """A script to be spoken for a film, or a text to be spoken alone.

    video: film, or its sound alone; None with a text.  script: script or project; None with a text.
    output: WAV to write; further takes lie beside it.
    text: spoken instead of a script.  options: of the speech.
    """

    command: ClassVar[str] = "speak"
    video: Path | None
    script: Path | None
    output: Path
    text: str | None
    options: SpeakOptions

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Paths of the files that are read."""
        return tuple(path for path in (self.video, self.script, self.options.dictionary) if path is not None)

    def get_film_and_script(self) -> tuple[Path, Path]:
        """Paths of the film and the script. Raises UsageError where one is missing."""
        if self.video is None or self.script is None:
            raise _make_usage_error()
        return self.video, self.script


def _make_usage_error() -> UsageError:
    return UsageError("speak: need VIDEO and SCRIPT, or --text.", hint="Run 'mouthpiece speak --help'.", code="usage")


class TakeSound(NamedTuple):
    """A take of all lines. sounds: of its lines, placed at 48 kHz.  samples: length of the output at 48 kHz."""

    sounds: list[PlacedSound]
    samples: int


def run_speak(request: SpeakRequest, job: Job) -> Result:
    """Speak a script in the slots of a film, or a text alone: check, speak every take, write and mark the stems.

    Raises InvalidInputError for a film or a script that cannot be used, or where not one line could be spoken;
    UsageError for options that do not fit, OutputError for the disk.
    """
    check_options(request)
    check_outputs(request, job)
    return speak_script(request, job) if request.text is None else speak_alone(request, request.text, job)


def check_options(request: SpeakRequest) -> None:
    """Check that there is a script with its film or a text, and that every option given has an effect.

    Raises UsageError.
    """
    options, given = request.options, request.given
    if request.text is None:
        request.get_film_and_script()
    elif request.video is not None or request.script is not None:
        raise _make_usage_error()
    if request.script is not None and options.slot is not None:
        message = f"--slot {options.slot:g}: a script has the slots of its lines."
        raise UsageError(message, hint="Leave it out; it belongs to --text.", code="usage")
    if request.text is not None:
        reject_unused_options(given, SCRIPT_OPTIONS, "with --text", "It belongs to a SCRIPT; leave it out.")
        hint = "It belongs to a VIDEO with its actor; leave it out."
        reject_unused_options(given, FILM_OPTIONS, "with --text", hint)
    elif options.lip_timing == "off":
        reject_unused_options(given, ("face",), "with --lip-timing off", "No lips are watched; leave it out.")
    options.reject_unused_prosody(given)


def check_outputs(request: SpeakRequest, job: Job) -> None:
    """Check that the output, its side-car and further takes can be written. Raises as Job.check_output does."""
    from mouthpiece.engine.files import check_output_file

    job.check_output(request.output, (".wav",))
    for index in range(1, request.options.takes):
        check_output_file(get_take_path(request.output, index), job.settings.overwrite, job.inputs, (".wav",))


def get_take_path(output: Path, index: int) -> Path:
    """Get the path of take `index` of an output: the output itself for 0, OUT.take2.wav for 1."""
    return output.with_name(f"{output.stem}.take{index + 1}{output.suffix}") if index else output


def speak_alone(request: SpeakRequest, text: str, job: Job) -> Result:
    """Speak a text without a film; return the Result."""
    options = request.options
    marking = job.prepare_marking(request.output, () if options.language is None else (options.language,))
    from mouthpiece.voice.text_to_speech import preview_text, speak_text  # torch: not before the checks

    if job.settings.dry_run:
        document = {"output": str(request.output)} | preview_text(text, options)
        return job.preview(document, f"would write {request.output}")
    with job.progress.stage("speaking", options.takes, "take") as advance:
        takes = [speak_text(text, options, index, advance) for index in range(options.takes)]
    watermark = marking.credentials is not None
    sounds = [TakeSound([take.to_placed_sound(watermark)], take.samples) for take in takes]
    facts = takes[0].facts() | {"takes": [take.facts() for take in takes[1:]]}
    return write_takes(request, sounds, facts, marking, job)


def speak_script(request: SpeakRequest, job: Job) -> Result:
    """Speak the lines of a script in the slots of its film; return the Result."""
    from mouthpiece.engine.media.film import open_film
    from mouthpiece.voice.scripts.formats import read_script_file

    options = request.options
    video, script = request.get_film_and_script()
    film = open_film(video)
    script_file = read_script_file(script, options.encoding)
    marking = job.prepare_marking(request.output, () if options.language is None else (options.language,))
    from mouthpiece.voice.speech_job import prepare_speech  # torch: not before the checks
    from mouthpiece.voice.speech_lines import place_take, speak_lines

    speech = replace(prepare_speech(film, script, options, script_file), consent=marking.consent)
    if not film.info.has_video:
        hint = "There is no picture in it; leave it out."
        reject_unused_options(request.given, ("face",), f"with {video}", hint)
    for remark in speech.script.remarks:
        job.progress.note(remark.text)
    plan = speech.plan()
    if job.settings.dry_run:
        count = format_line_count(len(speech.script.lines))
        return job.preview({"output": str(request.output), "facts": plan}, f"would write {request.output}: {count}")
    lines = list(speak_lines(speech, job.progress))
    watermark = marking.credentials is not None
    placed = [[place_take(line, index, watermark) for line in lines] for index in range(options.takes)]
    sounds = [TakeSound([sound for sound in take if sound is not None], speech.samples) for take in placed]
    rows = [line.as_dict() for line in lines]
    if not sounds[0].sounds:
        reason = f"line {rows[0]['id']}: {rows[0]['why'].rstrip('.')}"
        message = f"{script}: not one of its {format_line_count(len(rows))} could be spoken; {reason}."
        raise InvalidInputError(message, hint="Correct the script.", code="no_speech")
    review = [row["id"] for row in rows if row["needs_review"]]
    return write_takes(request, sounds, plan | {"lines": rows, "needs_review": review}, marking, job)


def write_takes(
    request: SpeakRequest, takes: Sequence[TakeSound], facts: dict[str, Any], marking: Marking, job: Job
) -> Result:
    """Write every take as a stem, mark it and write its side-car; return the Result of the first."""
    from mouthpiece.engine.timeline import DELIVERY_HZ
    from mouthpiece.voice.delivery import report_watermark
    from mouthpiece.voice.mix.mixdown import Programme, write_stems

    outputs = [get_take_path(request.output, index) for index in range(len(takes))]
    levels = [
        write_stems(
            Programme(tuple(take.sounds), None, take.samples, 1),
            {"dialogue": path},
            None,
            job.settings.overwrite,
            job.inputs,
        )
        for path, take in zip(outputs, takes)
    ]
    review = facts.get("needs_review") or []
    length = f"{takes[0].samples / DELIVERY_HZ:.2f} s, {format_line_count(len(takes[0].sounds))}"
    summary = f"{request.output}: {length}{format_line_list('a person should listen to', review)}"
    markings = [
        marking if marking.credentials is None else marking.with_changes(watermark=report_watermark(path))
        for path in outputs
    ]
    results = [
        job.finalize(path, request.options, facts | {"take": index + 1, "sound": levels[index]}, summary, own_marking)
        for index, (path, own_marking) in enumerate(zip(outputs, markings))
    ]
    document = results[0].document | {"outputs": [str(path) for path in outputs]}
    silent = any(not line["takes"] and line["text"].strip() for line in facts.get("lines", ()))
    exit_code = ExitCode.PARTLY if silent else ExitCode.DONE
    return replace(results[0], document=document, takes=tuple(outputs[1:]), exit_code=exit_code)


def format_line_list(what: str, line_ids: Sequence[str]) -> str:
    """Format the end of a sentence that names the first of some lines; "" where there are none."""
    if not line_ids:
        return ""
    return f"; {what} {format_line_count(len(line_ids))}: {', '.join(line_ids[:MAX_LISTED_LINES])}"


SPEAK = UseCase(
    SpeakRequest,
    run_speak,
    (
        Argument("video", required=False, media=True),
        Argument("script", required=False),
        Argument("output", writes=True),
        Argument("text", required=False, kind=str),
    ),
    (SpeakOptions,),
)


def speak(
    video: StrPath | None = None,
    script: StrPath | None = None,
    output: StrPath | None = None,
    *,
    text: str | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    preset: StrPath | None = None,
    consent: StrPath | None = None,
    provenance: bool = True,
    **options: object,
) -> Result:
    """Speak a script in the slots of a film, or a text alone, and write the dialogue stem.

    video: film, or its sound alone.  script: SRT, WebVTT, ASS, cue sheet, DAPT, plain text or project.
    output: WAV to write; further takes lie beside it.  text: spoken instead of a script.
    overwrite: replace an output that is there.  progress: called with a ProgressEvent now and then.
    preset: TOML file, side-car of an earlier result, or the name of a packaged preset.
    consent: file that says who allowed what.  provenance: False leaves the sound without a mark.
    options: every option of `mouthpiece speak`, such as voice="hibari", speed=1.2, takes=3, prosody="neutral";
    also dry_run, signing_key and signing_cert.
    Returns a Result.  Raises MouthpieceError as run_speak does.

    >>> result = speak(output="hello.wav", text="Hello there.", voice="hibari", recognizer="off")
    >>> result.output.name, result.facts["text"], result.facts["timed_by"]
    ('hello.wav', 'Hello there.', 'text')
    """
    return SPEAK.call(
        dict(video=video, script=script, output=output, text=text, overwrite=overwrite, preset=preset)
        | dict(consent=consent, provenance=provenance)
        | options,
        progress,
    )
