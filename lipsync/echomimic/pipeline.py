"""animate --model echomimic: windows of frames are denoised, decoded, put back into the portrait and handed to the encoder."""

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.activity import speech_activity
from engine.encoders.audio import RATE_HZ
from engine.errors import Missing, UsageProblem
from engine.media import VideoWriter
from engine.timeline import ARTICULATION_HZ
from face.composite import Paster
from lipsync.echomimic.ears import Hearing
from lipsync.echomimic.loop import Speaking, streamed, whole_clip
from lipsync.echomimic.networks import remember
from lipsync.echomimic.region import box_in, paster_of, region_mask, square_of
from lipsync.echomimic.vae import to_pixels

TICK_SAMPLES = RATE_HZ // int(ARTICULATION_HZ)


@dataclass(frozen=True, eq=False)
class Scene:
    """A portrait that the network has looked at.

    speaking: Speaking, with the portrait's keys and values.
    face: (1, C0, h, w) where the face may be, as features.
    hearing: Hearing of the sound.  paster: Paster of the network's square.
    Source: ours.
    """

    speaking: Speaking
    face: Tensor
    hearing: Hearing
    paster: Paster


def silenced(wave):
    """The wave with digital silence where nobody speaks or sings, so that noise and music do not move the mouth.

    wave: (S,) float32 at 16 kHz.
    Source: ours; the network has seen silence, so it is told of it in its own terms.
    """
    activity = speech_activity(wave)
    at = (np.arange(len(wave), dtype=np.float32) + 0.5) / TICK_SAMPLES - 0.5
    return wave * np.interp(at, np.arange(len(activity)), activity).astype(np.float32)


def look(job, models, placement):
    """The Scene of a job: the portrait goes through reference network and VAE once.

    job: pipeline.Job with EchoOptions.  models: weights.Models.  placement: device.Placement.
    Source: EMO, 2402.17485 figure 2.
    """
    options, (height_px, width_px) = job.options, job.pixels.shape[:2]
    box = box_in(job)
    crop = square_of(box, width_px, height_px, options.detail)
    device = placement.device
    pixels = torch.from_numpy(crop.take(job.pixels)).permute(2, 0, 1)[None].to(device).float() / 127.5 - 1
    mask = torch.from_numpy(region_mask(box, crop, options.swing, options.nod))[None, None].to(device)
    seen = models.reference.to(device)(models.vae.encode(pixels))
    portrait = remember(models.denoiser, seen)
    models.reference.cpu()  # it has nothing more to do, and takes a third of the memory
    if options.compile:
        models.denoiser.compile_blocks()
    hearing = Hearing(models.ears, silenced(job.wave) if options.gate else job.wave)
    return Scene(Speaking(models.denoiser, portrait), models.locator(mask).float(), hearing, paster_of(crop, width_px, height_px))


def latents(job, scene):
    """Latents (k, 4, h, w) of the next frames, in order. Source: ours."""
    options, frames = job.options, job.frames

    def tell(start, stop):
        told = {"audio": scene.hearing.tokens(start, stop, options.fps).to(scene.face.device)}
        if options.speed is not None:
            told["speed"] = torch.full((1, stop - start), options.speed, device=scene.face.device)
        return told

    if options.windows == "closed-loop":
        yield whole_clip(scene.speaking, tell, scene.face, frames, options)[0].transpose(0, 1)
        return
    for piece in streamed(scene.speaking, tell, scene.face, frames, options):
        yield piece[0]


def drawn(pieces, models, options):
    """Frames uint8 (size, size, 3) of pieces of latents, decoded in batches. Source: ours."""
    for piece in pieces:
        for batch in piece.split(options.batch):
            yield from to_pixels(models.vae.decode(batch))


@contextmanager
def roomy(options):
    """Turns running out of memory into a sentence that names what lowers it. Source: ours."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in text and "out of memory" not in text:
            raise
        message = f"the device ran out of memory at --detail {options.detail}, --window {options.window}, --batch {options.batch}."
        hint = "Lower them, in this order: --batch 1, --detail 384, --window 8; --guidance 1 halves the network's work; or use --device cpu."
        raise Missing(message, hint=hint, code="out_of_memory", retryable=True) from error


@torch.inference_mode()
def animate(job, output, models, placement, progress, overwrite=False):
    """Writes OUTPUT, the portrait speaking the sound; gives the facts for the side-car.

    job: pipeline.Job with EchoOptions.  output: path ending in one of media.VIDEO_SUFFIXES.
    models, placement: from weights.load_models and choose_device.  progress: Progress.
    overwrite: True lets an existing file be replaced.
    Raises UsageProblem for the name or a speed that these weights do not know, WriteFailed for the disk, Missing for too little memory.
    Source: ours; EMO, 2402.17485.
    """
    options, (height_px, width_px) = job.options, job.pixels.shape[:2]
    check_speed(options, models)
    with roomy(options):
        with progress.stage("looking and listening", 1, "pass") as advance:
            scene = look(job, models, placement)
            advance(1)
        with VideoWriter(
            output, options.fps, width_px, height_px, job.sound, crf=options.quality, overwrite=overwrite, inputs=job.inputs
        ) as writer:
            with progress.stage("drawing", job.frames) as advance:
                match = None
                for frame in drawn(latents(job, scene), models, options):
                    match = match or scene.paster.match(job.pixels, frame)  # one for the clip: colours must not wander
                    writer.write(scene.paster.paste(job.pixels, frame, match))
                    advance(1)
    hashes = {f"{options.model}/{part}": digest for part, digest in models.hashes.items()}
    return job.plan() | {"weights": hashes, "placement": placement.as_dict()}


def check_speed(options, models):
    """Refuses a head speed that the weights have no layers for. Source: ours."""
    if options.speed is not None and not models.shape.speed_buckets:
        raise UsageProblem(f"--speed {options.speed:g}: these weights have no speed layers.", hint="Leave it out, or train them: docs/models/echomimic.md.")
