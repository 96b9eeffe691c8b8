"""Animate a portrait with EchoMimic: windows of frames are denoised, decoded, pasted into the portrait and handed to
the
encoder.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mouthpiece.engine.audio.voice_activity import detect_speech_activity
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.face.composite import CropCompositor
from mouthpiece.lipsync.echomimic.audio_encoder import AudioFeatures
from mouthpiece.lipsync.echomimic.face_region import get_face_box, make_face_region_mask, make_paster, make_square_crop
from mouthpiece.lipsync.echomimic.networks import cache_keys_and_values
from mouthpiece.lipsync.echomimic.sampling import PortraitDenoiser, denoise_whole_clip, stream_latents
from mouthpiece.lipsync.echomimic.vae import to_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.progress import Progress
    from mouthpiece.lipsync.echomimic.options import EchoMimicOptions
    from mouthpiece.lipsync.echomimic.weights import EchoMimicModels
    from mouthpiece.lipsync.portrait.animation_job import AnimateJob

TICK_SAMPLES = RATE_HZ // int(ARTICULATION_HZ)


@dataclass(frozen=True, eq=False)
class EncodedScene:
    """Hold a job's portrait and sound, encoded for the denoiser.

    denoiser: with the portrait's keys and values.
    face: (1, C0, h, w), features of the region where the face may be.
    audio: features of the sound.  paster: of the network's square.
    """

    denoiser: PortraitDenoiser
    face: Tensor
    audio: AudioFeatures
    paster: CropCompositor


def mute_silence(wave: np.ndarray) -> np.ndarray:
    """Replace a wave (S,) float32 at 16 kHz by digital silence where nobody speaks or sings.

    The network has learned silence, so noise and music then do not move the mouth.
    """
    activity = detect_speech_activity(wave)
    at = (np.arange(len(wave), dtype=np.float32) + 0.5) / TICK_SAMPLES - 0.5
    return wave * np.interp(at, np.arange(len(activity)), activity).astype(np.float32)


def encode_scene(job: AnimateJob[EchoMimicOptions], models: EchoMimicModels, placement: Placement) -> EncodedScene:
    """Encode a job's scene: the portrait goes through VAE and reference network once.

    job: with EchoMimicOptions.
    Source: EMO, 2402.17485 figure 2.
    """
    options, (height_px, width_px) = job.options, job.pixels.shape[:2]
    box = get_face_box(job)
    crop = make_square_crop(box, width_px, height_px, options.resolution)
    device = placement.device
    pixels = torch.from_numpy(crop.extract(job.pixels)).permute(2, 0, 1)[None].to(device).float() / 127.5 - 1
    region = make_face_region_mask(box, crop, options.head_width, options.head_height)
    mask = torch.from_numpy(region)[None, None].to(device)
    reference = models.reference.to(device)(models.vae.encode(pixels))
    portrait = cache_keys_and_values(models.denoiser, reference)
    models.reference.cpu()  # done with; it takes a third of the memory
    if options.compile:
        models.denoiser.compile_blocks()
    audio = AudioFeatures(models.audio_encoder, mute_silence(job.wave) if options.gate else job.wave)
    return EncodedScene(
        PortraitDenoiser(models.denoiser, portrait),
        models.locator(mask).float(),
        audio,
        make_paster(crop, width_px, height_px),
    )


def generate_latents(job: AnimateJob[EchoMimicOptions], scene: EncodedScene) -> Iterator[torch.Tensor]:
    """Yield latents (k, 4, h, w) of the next frames, in order."""
    options, frames = job.options, job.frames

    def make_conditions(start: int, stop: int) -> dict[str, torch.Tensor]:
        conditions = {"audio": scene.audio.get_tokens(start, stop, options.fps).to(scene.face.device)}
        if options.speed is not None:
            conditions["speed"] = torch.full((1, stop - start), options.speed, device=scene.face.device)
        return conditions

    if options.windows == "closed-loop":
        yield denoise_whole_clip(scene.denoiser, make_conditions, scene.face, frames, options)[0].transpose(0, 1)
        return
    for piece in stream_latents(scene.denoiser, make_conditions, scene.face, frames, options):
        yield piece[0]


def decode_frames(
    pieces: Iterator[torch.Tensor], models: EchoMimicModels, options: EchoMimicOptions
) -> Iterator[np.ndarray]:
    """Decode pieces of latents in batches; yields frames uint8 (size, size, 3)."""
    for piece in pieces:
        for batch in piece.split(options.batch):
            yield from to_pixels(models.vae.decode(batch))


@contextmanager
def explain_out_of_memory(options: EchoMimicOptions) -> Iterator[None]:
    """Turn running out of memory into a MissingDependencyError that names what lowers it."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        text = str(error)
        if (
            not isinstance(error, torch.OutOfMemoryError)
            and "allocate memory" not in text
            and "out of memory" not in text
        ):
            raise
        raise MissingDependencyError(
            f"the device ran out of memory at --resolution {options.resolution}, --window {options.window}, "
            f"--batch {options.batch}.",
            hint="Lower them, in this order: --batch 1, --resolution 384, --window 8; --guidance 1 halves the "
            "network's work; or use --device cpu.",
            code="out_of_memory",
            retryable=True,
        ) from error


@torch.inference_mode()
def animate(
    job: AnimateJob[EchoMimicOptions],
    output: Path,
    models: EchoMimicModels,
    placement: Placement,
    progress: Progress,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Animate a portrait to a sound, write the video, and return the facts for the side-car.

    job: with EchoMimicOptions.  output: path ending in one of VIDEO_SUFFIXES.
    models, placement: from `weights.load_models` and `choose_device`.
    overwrite: replace an existing file.
    Raises UsageError for the name or a speed that these weights have no layers for, OutputError for the disk,
    MissingDependencyError for too little memory.
    Source: EMO, 2402.17485.
    """
    options, (height_px, width_px) = job.options, job.pixels.shape[:2]
    check_speed(options, models)
    with explain_out_of_memory(options):
        with progress.stage("looking and listening", 1, "pass") as advance:
            scene = encode_scene(job, models, placement)
            advance(1)
        with VideoWriter(
            output,
            options.fps,
            width_px,
            height_px,
            job.sound,
            crf=options.quality,
            overwrite=overwrite,
            inputs=job.inputs,
        ) as writer:
            with progress.stage("drawing", job.frames) as advance:
                match = None
                for frame in decode_frames(generate_latents(job, scene), models, options):
                    match = match or scene.paster.match(job.pixels, frame)  # one for the clip: colours must not wander
                    writer.write(scene.paster.paste(job.pixels, frame, match))
                    advance(1)
    hashes = {f"{options.model}/{part}": digest for part, digest in models.hashes.items()}
    return job.plan() | {"weights": hashes, "placement": placement.as_dict()}


def check_speed(options: EchoMimicOptions, models: EchoMimicModels) -> None:
    """Check that the weights have layers for a head speed. Raises UsageError."""
    if options.speed is not None and not models.shape.speed_buckets:
        raise UsageError(
            f"--speed {options.speed:g}: these weights have no speed layers.",
            hint="Leave it out, or train them: docs/models/echomimic.md.",
        )
