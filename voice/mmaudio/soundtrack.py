"""sound: a video becomes soundtracks for it; looked at once, composed in windows, delivered beside the untouched picture."""

import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np

from engine.errors import Refused, UsageProblem
from engine.media import VIDEO_SUFFIXES, VideoReader, probe, sound_duration, sound_stream
from engine.mux import copy_with_sound, wave_writer
from engine.sound import Sound
from engine.timeline import DELIVERY_HZ, samples_at
from voice.loudness import Meter
from voice.mix import Placed, Programme, write_stems
from voice.mmaudio.composer import Composer
from voice.mmaudio.options import SoundOptions, focus_of
from voice.mmaudio.survey import Survey, look

SUFFIXES = (*VIDEO_SUFFIXES, ".wav")


@dataclass(frozen=True)
class Job:
    """A soundtrack known to be possible: the video looked through, the length settled; no network has run.

    video: Path.  options: SoundOptions.  survey: Survey.  duration: Fraction, seconds of sound.  has_sound: the video's own.
    Source: ours.
    """

    video: Path
    options: SoundOptions
    survey: Survey
    duration: Fraction
    has_sound: bool

    def notes(self):
        """Sentences for whoever watches. Source: ours."""
        own = ["The video's own sound is replaced; keep it with --under-dialogue VIDEO."]
        return self.survey.warnings() + (own if self.has_sound and self.options.under_dialogue is None else [])


def prepare(video, options, progress):
    """The Job of a video, after every check of it.

    video: path.  options: SoundOptions.  progress: Progress.
    Raises Refused for no moving picture or too short a one, UsageProblem for a focus or a duration beyond it.
    Source: ours.
    """
    info = probe(video)
    check_focus(options, info)
    until = None if options.duration is None else Fraction(options.duration)
    with progress.stage("looking", info.frames) as advance:
        survey = look(video, until, advance)
    duration = survey.duration
    if until is not None:
        if until > duration:
            raise UsageProblem(
                f"--duration {options.duration:g}: {Path(video).name} lasts {float(duration):.2f} s.",
                hint="Ask for at most that, or leave --duration out.",
                code="bad_option",
            )
        duration = until.limit_denominator(10**6)
    if options.under_dialogue is not None:
        sound_duration(options.under_dialogue)
    return Job(Path(video), options, survey, duration, info.has_audio)


def check_focus(options, info):
    """Refuses a focus outside of the picture. Source: ours."""
    focus = focus_of(options.focus)
    if focus is not None and info.has_video and not (focus[0] < info.width_px and focus[1] < info.height_px):
        raise UsageProblem(
            f"--focus {options.focus}: the picture is {info.width_px}x{info.height_px}.", hint="Give a place in it.", code="bad_option"
        )


def outputs_of(output, takes, first_take=1):
    """Path -> number of each take: the first under the name given, the others with take2, take3 before the ending.

    Source: ours.
    """
    output = Path(output)
    names = [output] + [output.with_name(f"{output.stem}.take{first_take + n}{output.suffix}") for n in range(1, takes)]
    return {name: first_take + n for n, name in enumerate(names)}


def make_sound(job, outputs, models, progress, overwrite=False):
    """Writes every output; gives the facts of each for its side-car, in order.

    job: Job.  outputs: from outputs_of.  models: Models.  progress: Progress.  overwrite: lets files be replaced.
    Raises WriteFailed for the disk, Missing for too little memory; nothing is left of a job that did not end.
    Source: ours.
    """
    composer = Composer(models, job.options, job.duration, job.survey.cuts)
    shared = job.survey.as_dict() | models.record | {
        "duration_s": float(job.duration), "rate_hz": models.rates.rate_hz, "windows": len(composer.spans),
        "words_not_heard": [models.clip.tokens(text)[1] for text in (job.options.prompt, job.options.negative_prompt)],
    }  # fmt: skip
    facts, finished = [], []
    try:
        with tempfile.TemporaryDirectory(prefix=".mouthpiece-", dir=next(iter(outputs)).parent) as folder:
            waves = [Path(folder) / f"{number}.wav" for number in outputs.values()]
            compose(job, composer, waves, progress)
            with progress.stage("writing", len(outputs), "takes") as advance:
                for wave, heard, (output, number) in zip(waves, composer.heard, outputs.items()):
                    own = {"take": number, "speech_guard": asdict(heard)}
                    facts.append(shared | own | deliver(job, wave, output, overwrite))
                    finished.append(output)
                    wave.unlink()
                    advance(1)
    except BaseException:
        for output in finished:
            output.unlink(missing_ok=True)
        raise
    return facts


def compose(job, composer, waves, progress):
    """Writes the sound of every take, at the model's rate, as float WAV files of any length.

    job: Job.  composer: Composer.  waves: a path a take.  progress: Progress.
    Source: ours.
    """
    rate_hz, samples = composer.rates.rate_hz, composer.samples
    with ExitStack() as stack:
        writers = [stack.enter_context(wave_writer(wave, rate_hz, 1, samples=samples, subtype="FLOAT")) for wave in waves]
        reader = stack.enter_context(VideoReader(job.video))
        advance = stack.enter_context(progress.stage("sounding", len(composer.spans), "windows"))
        for block in composer.blocks(reader, advance):
            if not np.isfinite(block).all():
                hint = "Use --precision float32; if that does not help, get the weights again."
                raise Refused("the network gave values that are no numbers.", hint=hint, code="not_finite")
            for write, take in zip(writers, block):
                write(take[None])


def deliver(job, wave, output, overwrite):
    """Writes one finished output from the wave of its take; gives what the mixer measured.

    Peaks are held below -1 dBTP; a .wav has 24 bits, 48 kHz and exactly the length asked for.
    Source: ours; the mixer is that of `dub`.
    """
    inputs = [path for path in (job.video, job.options.under_dialogue) if path is not None]
    samples, raw = samples_at(job.duration, DELIVERY_HZ), wave.with_suffix(".raw")
    lines, channels, gain_db = (), 1, 0.0
    if job.options.under_dialogue is not None:
        dialogue = mapped_sound(job.options.under_dialogue, raw)
        lines, channels, gain_db = (Placed(dialogue, 0),), dialogue.channels, gain_under(job, wave)
    programme = Programme(lines, wave, samples, channels, gain_db)
    try:
        if output.suffix.lower() == ".wav":
            facts = write_stems(programme, {"mix": output}, overwrite=overwrite, inputs=inputs)
        else:
            mixed = wave.with_name(f"mixed-{wave.name}")
            facts = write_stems(programme, {"mix": mixed})
            copy_with_sound(job.video, output, mixed, overwrite, inputs)
            mixed.unlink()
    finally:
        raw.unlink(missing_ok=True)
    return {"mix": facts | {"bed_gain_db": round(gain_db, 2)}}


def gain_under(job, wave):
    """Decibels that bring the new sound `dialogue_gap` LU below the dialogue; never above 0. Source: ours."""
    loudness = [metered(path)["lufs"] for path in (job.options.under_dialogue, wave)]
    return 0.0 if None in loudness else min(0.0, loudness[0] - job.options.dialogue_gap - loudness[1])


def metered(path):
    """Loudness and true peak of a sound file, JSON-ready. Source: ITU-R BS.1770-4."""
    with sound_stream(path, DELIVERY_HZ) as (_, blocks):
        first = next(blocks)
        meter = Meter(len(first))
        for block in chain((first,), blocks):
            meter.add(block)
    return meter.result().as_dict()


def mapped_sound(path, raw):
    """A Sound at 48 kHz, one or two channels, whose samples stay on the disk: any length in little memory.

    path: sound or video.  raw: Path of the file to make; the caller removes it.
    Source: ours.
    """
    with sound_stream(path, DELIVERY_HZ, 2) as (_, blocks), open(raw, "wb") as file:
        for block in blocks:
            channels = len(block)
            file.write(np.ascontiguousarray(block.T, np.float32).tobytes())
    return Sound(np.memmap(raw, np.float32, "r").reshape(-1, channels).T, DELIVERY_HZ)
