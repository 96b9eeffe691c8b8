"""Animate a portrait with the embedded model; frames stream to the encoder in constant memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.encoders.motion import BLINK_INDEX, EXPRESSION_WIDTH, POSE_WIDTH, encode_crops
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.timeline import MOTION_HZ, count_frames, interpolate_track, make_frame_times
from mouthpiece.face.crop import make_crop
from mouthpiece.face.matte import compute_matte
from mouthpiece.lipsync.motion.blinks import BLINK_SHUT
from mouthpiece.lipsync.motion.speech_to_motion import MOUTH_DELAY_S, generate_motion, target_expression
from mouthpiece.lipsync.portrait.canvas import Canvas
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX
from mouthpiece.lipsync.portrait.opening_segmenter import correct_opening, estimate_opening, find_eyes
from mouthpiece.lipsync.portrait.teeth import build_teeth, inpaint_teeth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.progress import Progress
    from mouthpiece.lipsync.models import LipsyncModels
    from mouthpiece.lipsync.options import AnimateOptions
    from mouthpiece.lipsync.portrait.animation_job import AnimateJob
    from mouthpiece.lipsync.portrait.frame_parts import ReferenceFace

TEETH_STEP_PX = 24  # teeth are prepared on a crop whose side is a multiple of this
TEETH_STEPS_RANGE = (4, 32)  # such multiples: a side of 96 to 768 px


@dataclass(frozen=True, eq=False)
class PreparedPortrait:
    """Hold a portrait that is ready to be moved.

    canvas: of its pixels.  reference: its working crop, analysed.
    expression: (26,) float32 code of its own expression.  lattice: (1, 2, 32, 32), the same as displacements.
    """

    canvas: Canvas
    reference: ReferenceFace
    expression: np.ndarray
    lattice: torch.Tensor


def prepare_portrait(job: AnimateJob[AnimateOptions], models: LipsyncModels) -> PreparedPortrait:
    """Analyse a job's portrait: everything that is computed once a clip."""
    crop = make_crop(job.points, WORK_PX)
    pixels = crop.extract(job.pixels)
    openings = [estimate_opening(models.opening_segmenter, job.pixels, crop)]
    code = correct_opening(encode_crops(models.encoder, models.space, pixels[None]), models.space, openings)[0]
    lattice = models.space.to_lattice(F.pad(torch.from_numpy(code), (0, POSE_WIDTH)))[None]
    reference = models.renderer.prepare_reference(pixels, precise=True)
    steps = round(WORK_PX / crop.scale / TEETH_STEP_PX)  # about the picture's own resolution
    large = crop.with_size(int(np.clip(steps, *TEETH_STEPS_RANGE)) * TEETH_STEP_PX).extract(job.pixels)
    teeth = build_teeth(pixels, reference.mouth, large)
    eyes = find_eyes(models.opening_segmenter, job.pixels, crop)
    without_teeth = inpaint_teeth(job.pixels, crop, reference.mouth)
    canvas = Canvas(without_teeth, crop, compute_matte(job.pixels, job.points), teeth, eyes)
    return PreparedPortrait(canvas, reference, code, lattice)


def render_frames(
    portrait: PreparedPortrait, models: LipsyncModels, codes: np.ndarray, options: AnimateOptions
) -> Iterator[np.ndarray]:
    """Render frames uint8 (H, W, 3), one for each motion code (N, 32); the size of batches changes nothing."""
    targets = codes.copy()
    targets[:, :EXPRESSION_WIDTH] = target_expression(codes, portrait.expression, options.expression)
    poses, closures = models.space.to_pose(torch.from_numpy(codes)).numpy(), codes[:, BLINK_INDEX] / BLINK_SHUT
    for start in range(0, len(codes), options.batch):
        batch = slice(start, start + options.batch)
        with (
            models.renderer.placement.autocast()
        ):  # as outputs so far were made: the lattice has the network's precision
            wanted = models.space.to_lattice(torch.from_numpy(targets[batch]))
        frames = models.renderer.render(portrait.reference, portrait.lattice, wanted, paint_teeth=False)
        for parts, pose, lid_closure in zip(frames, poses[batch], closures[batch]):
            yield portrait.canvas.draw(parts, pose, lid_closure)


def animate(
    job: AnimateJob[AnimateOptions],
    output: Path,
    models: LipsyncModels,
    placement: Placement,
    progress: Progress,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Animate a portrait to a sound, write the video, and return the facts for the side-car.

    job: from `prepare_animation`, with AnimateOptions.
    output: path ending in one of VIDEO_SUFFIXES.
    models, placement: from `load_models` and `choose_device`.
    overwrite: replace an existing file.
    Raises UsageError for the name, OutputError for the disk.
    """
    options = job.options
    with progress.stage("listening", 1, "pass") as advance:
        portrait = prepare_portrait(job, models)
        ticks = max(2, count_frames(job.duration, MOTION_HZ) + 1)
        motion = generate_motion(models, job.wave, ticks, options, job.articulation)
        advance(1)
    times_s = make_frame_times(job.frames, options.fps) + MOUTH_DELAY_S
    codes = interpolate_track(motion.codes, times_s * float(MOTION_HZ))
    height_px, width_px = job.pixels.shape[:2]
    with VideoWriter(
        output, options.fps, width_px, height_px, job.sound, crf=options.quality, overwrite=overwrite, inputs=job.inputs
    ) as writer:
        with progress.stage("rendering", job.frames) as advance:
            for frame in render_frames(portrait, models, codes, options):
                writer.write(frame)
                advance(1)
    return job.plan() | {"voiced_share": float(motion.active.mean()), "placement": placement.as_dict()}
