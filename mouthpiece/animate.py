"""The use case `animate`: a portrait and speech or song become a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mouthpiece.engine.errors import UsageError
from mouthpiece.lipsync.options import PortraitOptions, resolve_animate_options
from mouthpiece.lipsync.renderers import get_renderer, list_option_groups
from mouthpiece.request import Argument, Request, UseCase

if TYPE_CHECKING:
    from mouthpiece.job import Job, Result
    from mouthpiece.request import ProgressCallback, StrPath
    from mouthpiece.voice.text_to_speech import FaceSpeech


@dataclass(frozen=True)
class AnimateRequest(Request):
    """A portrait to be animated.

    portrait: picture with a face.  sound: recording of speech or song, or a video that lends its sound;
    None where the options have a text to speak.  output: video to write.
    options: those of the model asked for.
    """

    command: ClassVar[str] = "animate"
    portrait: Path
    sound: Path | None
    output: Path
    options: PortraitOptions

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Paths of the files that are read."""
        return (self.portrait,) if self.sound is None else (self.portrait, self.sound)


def run_animate(request: AnimateRequest, job: Job) -> Result:
    """Animate a portrait: check, speak the text where there is one, move and render the face, mark the video.

    Raises InvalidInputError for a picture without a face or a file without sound, UsageError for options that do not
    fit, MissingDependencyError for weights, OutputError for the disk.
    """
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.media.containers import VIDEO_SUFFIXES

    options, output = request.options, request.output
    check_speech_source(request)
    sidecar = job.check_output(output, VIDEO_SUFFIXES)
    check_inputs(pictures=(request.portrait,), sounds=(request.sound,))
    from mouthpiece.lipsync.portrait.animation_job import prepare_animation  # torch: not before the inputs were checked

    placement = job.choose_device(options.device)
    job.prepare_marking(output)
    speech = synthesize_speech(options)
    sound, articulation = (request.sound, None) if speech is None else (speech.sound, speech.articulation)
    assert sound is not None  # check_speech_source
    animation = prepare_animation(request.portrait, sound, options, articulation)
    renderer = get_renderer(options.model)
    models = (renderer.check if job.settings.dry_run else renderer.load_models)(options, placement)
    plan = animation.plan()
    job.note_settings(placement, options.settings() | plan)
    size = f"{plan['frames']} frames, {plan['duration_s']:.2f} s, {plan['width_px']}x{plan['height_px']}"
    if job.settings.dry_run:
        document = {"output": str(output), "sidecar": str(sidecar), "settings": options.settings(), "facts": plan}
        return job.preview(document, f"would write {output}: {size}")
    facts = renderer.animate(animation, output, models, placement, job.progress, overwrite=job.settings.overwrite)
    facts |= {} if speech is None else {"speech": speech.facts}
    return job.finalize(output, options, facts, f"{output}: {size}")


def synthesize_speech(options: PortraitOptions) -> FaceSpeech | None:
    """Speak the text of the options; None where there is none, as the sound was given."""
    if options.text is None:
        return None
    from mouthpiece.voice.text_to_speech import synthesize_for_face

    return synthesize_for_face(options.text, options.voice, options.seed)


def check_speech_source(request: AnimateRequest) -> None:
    """Check that there is a sound or a text to speak, and not both. Raises UsageError."""
    options = request.options
    if (request.sound is None) == (options.text is None):
        raise UsageError(
            "animate: need a SOUND or --text, one of them.", hint="Run 'mouthpiece animate --help'.", code="usage"
        )
    if options.text is None and options.voice is not None:
        raise UsageError(
            f"--voice {options.voice}: nothing is spoken, the sound is given.",
            hint="It belongs to --text; leave it out.",
            code="usage",
        )


ANIMATE = UseCase(
    AnimateRequest,
    run_animate,
    (
        Argument("portrait", media=True),
        Argument("sound", required=False, media=True, excerpt=True),
        Argument("output", writes=True),
    ),
    tuple(list_option_groups().values()),
    resolve_animate_options,
)


def animate(
    portrait: StrPath,
    sound: StrPath | None = None,
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
    """Animate a portrait with speech or song, and write the video.

    portrait: picture with a face.  sound: recording, or a video that lends its sound.  output: video to write.
    text: spoken by an embedded voice instead of a sound.
    overwrite: replace an output that is there.  progress: called with a ProgressEvent now and then.
    preset: TOML file, side-car of an earlier result, or the name of a packaged preset.
    consent: file that says who allowed what.  provenance: False leaves the video without a mark.
    options: every option of `mouthpiece animate`, such as expression=1.4, head_speed=0.8, fps=30, model="echomimic";
    also dry_run, signing_key and signing_cert.
    Returns a Result.  Raises MouthpieceError as run_animate does.

    >>> result = animate("portrait.png", "line.wav", "out.mp4", size=96, fps=12, expression=1.4)
    >>> result.output.name, result.facts["frames"], result.document["settings"]["expression"]
    ('out.mp4', 5, 1.4)
    """
    return ANIMATE.call(
        dict(portrait=portrait, sound=sound, output=output, text=text, overwrite=overwrite, preset=preset)
        | dict(consent=consent, provenance=provenance)
        | options,
        progress,
    )
