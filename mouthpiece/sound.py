"""The use case `sound`: a silent video gets a soundtrack, by public MMAudio weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mouthpiece.engine.config import reject_unused_options
from mouthpiece.request import Argument, Request, UseCase
from mouthpiece.voice.mmaudio.options import SoundOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mouthpiece.engine.progress import Progress
    from mouthpiece.job import Job, Result
    from mouthpiece.request import ProgressCallback, StrPath
    from mouthpiece.voice.mmaudio.models import MMAudioModels


@dataclass(frozen=True)
class SoundRequest(Request):
    """A video that is to get a soundtrack.

    output: .wav for the soundtrack alone, or a video that has it; of further takes the name gets a number.
    accept_licence: the licences of the public weights were read and are accepted; noted once.
    """

    command: ClassVar[str] = "sound"
    video: Path
    output: Path
    accept_licence: bool
    options: SoundOptions

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Paths of the files that are read."""
        return tuple(path for path in (self.video, self.options.under_dialogue) if path is not None)


def run_sound(request: SoundRequest, job: Job) -> Result:
    """Make a soundtrack for a video: check, look through the video, generate every take, mark each.

    Raises InvalidInputError for a file without moving picture, UsageError for options that do not fit,
    MissingDependencyError for weights or a licence that was not accepted, OutputError for the disk.
    """
    from mouthpiece.engine.inputs import check_inputs

    options = request.options
    check_options_in_use(request)
    check_inputs(media=(request.video,), sounds=(options.under_dialogue,))
    from mouthpiece.engine.media.companions import list_losses
    from mouthpiece.voice.mmaudio.models import accept_licences, check_licences, find_weights, load_models
    from mouthpiece.voice.mmaudio.soundtrack import SUFFIXES, list_outputs, prepare_soundtrack, write_soundtracks

    placement = job.choose_device(options.device)
    outputs = list_outputs(request.output, options.takes, options.first_take)
    for output in outputs:
        job.check_output(output, SUFFIXES)
    job.prepare_marking(request.output)
    if request.accept_licence:
        accept_licences(options.model)
    paths = find_weights(options.model, options.weights)
    licences = check_licences(options.model, paths)
    soundtrack = prepare_soundtrack(request.video, options, job.progress)
    note_all(job.progress, soundtrack.notes())
    length = f"{float(soundtrack.duration):.2f} s"
    if job.settings.dry_run:
        document = {"outputs": [str(output) for output in outputs], "settings": options.settings()}
        document["facts"] = soundtrack.inspection.as_dict()
        return job.preview(document, f"would write {', '.join(map(str, outputs))}: {length}")
    models = load_models(options, placement, paths, licences)
    note_all(job.progress, models.notes + check_prompt_lengths(options, models))
    facts = write_soundtracks(soundtrack, outputs, models, job.progress, job.settings.overwrite)
    results = []
    for output, measured in zip(outputs, facts):
        report_speech_filter(job.progress, measured)
        is_sound = output.suffix.lower() == ".wav"
        if not is_sound:
            note_all(job.progress, list_losses(request.video, output))
        marking = job.marking.with_changes(
            None if is_sound else request.video, None if is_sound else ((0, soundtrack.duration),)
        )
        own_options, measured = (
            make_take_options(options, measured["take"]),
            measured | {"placement": placement.as_dict()},
        )
        results.append(job.finalize(output, own_options, measured, f"{output}: {length}, {options.model}", marking))
    first, *others = results
    document = first.document | ({"takes": [other.document for other in others]} if others else {})
    summary = "\n".join(result.summary for result in results)
    return replace(first, document=document, summary=summary, takes=tuple(outputs)[1:])


def check_options_in_use(request: SoundRequest) -> None:
    """Refuse options that would do nothing beside the others. Raises UsageError."""
    options = request.options
    if options.under_dialogue is None:
        reject_unused_options(
            request.given, ("dialogue_gap",), "without --under-dialogue", "No dialogue is kept; leave it out."
        )
    if options.guidance <= 1:
        reject_unused_options(
            request.given,
            ("negative_prompt",),
            f"with --guidance {options.guidance:g}",
            "It has a say above a guidance of 1.",
        )


def note_all(progress: Progress, notes: Iterable[str]) -> None:
    """Note every sentence."""
    for note in notes:
        progress.note(note)


def make_take_options(options: SoundOptions, take: int) -> SoundOptions:
    """Return the options that make one take alone again."""
    return replace(options, takes=1, first_take=take)


def check_prompt_lengths(options: SoundOptions, models: MMAudioModels) -> tuple[str, ...]:
    """Return a sentence for each prompt of which the model does not take in every word."""
    notes = []
    for flag, text in (("--prompt", options.prompt), ("--negative-prompt", options.negative_prompt)):
        lost = models.clip.tokenize(text)[1]
        if lost:
            room = models.clip.size.text_tokens - 2
            notes.append(
                f"{flag} is too long: its first {room} tokens are heard, the last {lost} are not. Say it shorter."
            )
    return tuple(notes)


def report_speech_filter(progress: Progress, facts: dict[str, Any]) -> None:
    """Report what the speech filter did to a take. facts: of the take's side-car."""
    guard = facts["speech_guard"]
    if guard["again"]:
        progress.note(
            f"Take {facts['take']}: speech was heard that nobody asked for; {guard['again']} window(s) were drawn anew."
        )
    if guard["quieter_s"]:
        places = ", ".join(f"{start:.1f}-{stop:.1f} s" for start, stop in guard["quieter_s"][:5])
        progress.note(
            f"Take {facts['take']}: speech was left and is turned down at {places}. "
            "Try another --seed, or --speech-guard off."
        )


SOUND = UseCase(
    SoundRequest,
    run_sound,
    (Argument("video", media=True), Argument("output", writes=True), Argument("accept_licence", False, bool)),
    (SoundOptions,),
)


def sound(
    video: StrPath,
    output: StrPath,
    *,
    accept_licence: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    preset: StrPath | None = None,
    consent: StrPath | None = None,
    provenance: bool = True,
    **options: object,
) -> Result:
    """Make a soundtrack for a silent video, by public MMAudio weights.

    video: film.  output: .wav for the soundtrack alone, or a video that has it.
    accept_licence: the licences of the public weights were read and are accepted; noted once.
    overwrite: replace an output that is there.  progress: called with a ProgressEvent now and then.
    preset: TOML file, side-car of an earlier result, or the name of a packaged preset.
    consent: file that says who allowed what.  provenance: False leaves the output without a mark.
    options: every option of `mouthpiece sound`, such as prompt="rain on a roof" or takes=3; also dry_run,
    signing_key and signing_cert.
    Returns a Result, with further takes in Result.takes.  Raises MouthpieceError as run_sound does.

    >>> result = sound("film.mp4", "rain.wav", prompt="rain on a roof", model="mmaudio-small-16k", steps=2,
    ...                device="cpu", weights="mmaudio")
    >>> result.output.name, result.facts["duration_s"]
    ('rain.wav', 0.8)
    """
    values = dict(video=video, output=output, accept_licence=accept_licence, overwrite=overwrite, preset=preset)
    return SOUND.call(values | dict(consent=consent, provenance=provenance) | options, progress)
