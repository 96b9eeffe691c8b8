"""Soundtracks for a video: inspected once, generated in windows, delivered beside the untouched picture."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.loudness import measure_file_loudness
from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.media.containers import VIDEO_SUFFIXES
from mouthpiece.engine.media.mux import copy_with_sound, open_wave_writer
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, measure_sound_duration, open_sound_stream
from mouthpiece.engine.timeline import DELIVERY_HZ, count_samples
from mouthpiece.voice.mix.mixdown import PlacedSound, Programme, write_stems
from mouthpiece.voice.mmaudio.generator import SoundtrackGenerator
from mouthpiece.voice.mmaudio.options import SoundOptions, parse_focus
from mouthpiece.voice.mmaudio.video_inspection import VideoInspection, inspect_video

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.engine.types import MediaInfo
    from mouthpiece.voice.mmaudio.models import MMAudioModels

SUFFIXES = (*VIDEO_SUFFIXES, ".wav")


@dataclass(frozen=True)
class SoundtrackJob:
    """A soundtrack known to be possible: the video is inspected, no network has run.

    duration: seconds of sound.  has_sound: whether the video has sound of its own.
    """

    video: Path
    options: SoundOptions
    inspection: VideoInspection
    duration: Fraction
    has_sound: bool

    def notes(self) -> list[str]:
        """List sentences for the user."""
        own = ["The video's own sound is replaced; keep it with --under-dialogue VIDEO."]
        return self.inspection.warnings() + (own if self.has_sound and self.options.under_dialogue is None else [])


def prepare_soundtrack(video: Path, options: SoundOptions, progress: Progress) -> SoundtrackJob:
    """Prepare a soundtrack: check and inspect the video.

    Raises InvalidInputError for a video without picture or too short, UsageError for a focus or duration beyond it.
    """
    info = probe(video)
    check_focus(options, info)
    until = None if options.duration is None else Fraction(options.duration)
    with progress.stage("looking", info.frames) as advance:
        inspection = inspect_video(video, until, advance)
    duration = inspection.duration
    if until is not None:
        if until > duration:
            raise UsageError(
                f"--duration {options.duration:g}: {Path(video).name} lasts {float(duration):.2f} s.",
                hint="Ask for at most that, or leave --duration out.",
                code="bad_option",
            )
        duration = until.limit_denominator(10**6)
    if options.under_dialogue is not None:
        measure_sound_duration(options.under_dialogue)
    return SoundtrackJob(Path(video), options, inspection, duration, info.has_audio)


def check_focus(options: SoundOptions, info: MediaInfo) -> None:
    """Refuse a focus outside the picture. Raises UsageError."""
    focus = parse_focus(options.focus)
    width_px, height_px = info.width_px or 0, info.height_px or 0
    if focus is not None and info.has_video and not (focus[0] < width_px and focus[1] < height_px):
        raise UsageError(
            f"--focus {options.focus}: the picture is {width_px}x{height_px}.",
            hint="Give a place in it.",
            code="bad_option",
        )


def list_outputs(output: Path, takes: int, first_take: int = 1) -> dict[Path, int]:
    """List the outputs, path -> take: the first under the given name, others with take2, take3 before the suffix."""
    output = Path(output)
    names = [output] + [output.with_name(f"{output.stem}.take{first_take + n}{output.suffix}") for n in range(1, takes)]
    return {name: first_take + n for n, name in enumerate(names)}


def write_soundtracks(
    job: SoundtrackJob, outputs: dict[Path, int], models: MMAudioModels, progress: Progress, overwrite: bool = False
) -> list[dict[str, Any]]:
    """Write every output; the facts of each for its side-car, in order.

    outputs: from `list_outputs`.  overwrite: lets files be replaced.
    Raises OutputError for the disk, MissingDependencyError for too little memory; a failed job leaves nothing behind.
    """
    generator = SoundtrackGenerator(models, job.options, job.duration, job.inspection.cuts)
    prompts = (job.options.prompt, job.options.negative_prompt)
    shared = {
        **job.inspection.as_dict(),
        **models.record,
        "duration_s": float(job.duration),
        "rate_hz": models.rates.rate_hz,
        "windows": len(generator.windows),
        "words_not_heard": [models.clip.tokenize(text)[1] for text in prompts],
    }
    facts, finished = [], []
    try:
        with tempfile.TemporaryDirectory(prefix=".mouthpiece-", dir=next(iter(outputs)).parent) as folder:
            waves = [Path(folder) / f"{number}.wav" for number in outputs.values()]
            write_take_waves(job, generator, waves, progress)
            with progress.stage("writing", len(outputs), "takes") as advance:
                for wave, report, (output, number) in zip(waves, generator.filter_reports, outputs.items()):
                    of_take = {"take": number, "speech_guard": report.as_dict()}
                    facts.append(shared | of_take | write_output(job, wave, output, overwrite))
                    finished.append(output)
                    wave.unlink()
                    advance(1)
    except BaseException:
        for output in finished:
            output.unlink(missing_ok=True)
        raise
    return facts


def write_take_waves(job: SoundtrackJob, generator: SoundtrackGenerator, waves: list[Path], progress: Progress) -> None:
    """Write the sound of every take, at the model's rate, as float WAV files of any length. waves: a path a take."""
    rate_hz, samples = generator.rates.rate_hz, generator.samples
    with ExitStack() as stack:
        writers = [
            stack.enter_context(open_wave_writer(wave, rate_hz, 1, samples=samples, subtype="FLOAT")) for wave in waves
        ]
        reader = stack.enter_context(VideoReader(job.video))
        advance = stack.enter_context(progress.stage("sounding", len(generator.windows), "windows"))
        for block in generator.blocks(reader, advance):
            if not np.isfinite(block).all():
                hint = "Use --precision float32; if that does not help, get the weights again."
                raise InvalidInputError("the network gave values that are no numbers.", hint=hint, code="not_finite")
            for write, take in zip(writers, block):
                write(take[None])


def write_output(job: SoundtrackJob, wave: Path, output: Path, overwrite: bool) -> dict[str, dict[str, Any]]:
    """Write one finished output from the wave of its take, by the mixer of `dub`; what the mixer measured.

    Peaks are limited to -1 dBTP; a .wav has 24 bits, 48 kHz and exactly the job's duration.
    """
    inputs = [path for path in (job.video, job.options.under_dialogue) if path is not None]
    samples, raw = count_samples(job.duration, DELIVERY_HZ), wave.with_suffix(".raw")
    lines: tuple[PlacedSound, ...] = ()
    channels, gain_db = 1, 0.0
    if job.options.under_dialogue is not None:
        dialogue = map_sound(job.options.under_dialogue, raw)
        lines, channels = (PlacedSound(dialogue, 0),), dialogue.channels
        gain_db = compute_bed_gain(job.options.under_dialogue, wave, job.options.dialogue_gap)
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


def compute_bed_gain(dialogue: Path, bed: Path, gap_lu: float) -> float:
    """Compute the gain in dB that brings a bed gap_lu below the dialogue; at most 0, and 0 where one is silent."""
    dialogue_lufs, bed_lufs = (measure_file_loudness(path).as_dict()["lufs"] for path in (dialogue, bed))
    if dialogue_lufs is None or bed_lufs is None:
        return 0.0
    return min(0.0, dialogue_lufs - gap_lu - bed_lufs)


def map_sound(path: Path, raw: Path) -> Sound:
    """Map a sound to the disk: 48 kHz, one or two channels, any length in little memory.

    path: sound or video.  raw: path of the file to make; the caller removes it.
    """
    with open_sound_stream(path, DELIVERY_HZ, 2) as (_, blocks), open(raw, "wb") as file:
        for block in blocks:
            channels = len(block)
            file.write(np.ascontiguousarray(block.T, np.float32).tobytes())
    return Sound(np.memmap(raw, np.float32, "r").reshape(-1, channels).T, DELIVERY_HZ)
