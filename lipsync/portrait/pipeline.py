"""animate: a portrait and a recording become a video; frames stream to the encoder in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.encoders.motion import (
    BLINK_INDEX,
    EXPRESSION_WIDTH,
    POSE_WIDTH,
    MotionEncoder,
    MotionSpace,
    build_motion_encoder,
    encode_crops,
)
from mouthpiece.engine.encoders.phonetic import RATE_HZ, load_phonetic_encoder
from mouthpiece.engine.media.images import read_image
from mouthpiece.engine.media.reading import measure_sound_duration, read_sound, resample_blocks
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.timeline import MOTION_HZ, count_frames, interpolate_track, make_frame_times
from mouthpiece.engine.weights.loading import load_state, load_state_into
from mouthpiece.face.crop import make_crop
from mouthpiece.face.detect import Face, parse_face_choice, pick_face
from mouthpiece.face.matte import compute_matte
from mouthpiece.lipsync.motion.blinks import BLINK_SHUT
from mouthpiece.lipsync.motion.speech_to_motion import (
    generate_motion,
    load_core,
    target_expression,
)
from mouthpiece.lipsync.options import AnimateOptions
from mouthpiece.lipsync.portrait.canvas import Canvas, tighten_mask, to_frame_parts
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX
from mouthpiece.lipsync.portrait.opening_segmenter import OpeningSegmenter, correct_opening, estimate_opening, find_eyes
from mouthpiece.lipsync.portrait.renderer import Renderer, Rendering
from mouthpiece.lipsync.portrait.teeth import build_teeth, inpaint_teeth, to_teeth_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from mouthpiece.engine.contracts import Articulation
    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.progress import Progress
    from mouthpiece.face.detect import FaceChoice
    from mouthpiece.lipsync.portrait.canvas import FrameParts

MAX_SIDE_PX = 4096
MOUTH_DELAY_S = 0.004  # the mouth comes this much late, measured on speakers kept out
HEAD_ABOVE, HEAD_BELOW, HEAD_BESIDE = 0.85, 0.95, 0.85  # what --frame crop shows around the face, in crop sides


@dataclass(frozen=True)
class PortraitModels:
    """The embedded model, placed and in eval: the renderer on the device, what runs once a clip on the CPU."""

    phonetic_encoder: torch.nn.Module
    core: torch.nn.Module
    encoder: MotionEncoder
    space: MotionSpace
    renderer: Renderer
    opening_segmenter: OpeningSegmenter


def load_motion_encoder() -> tuple[MotionEncoder, MotionSpace]:
    """The embedded (MotionEncoder, MotionSpace), in eval."""
    return build_motion_encoder(*load_state("motion"))


def load_models(placement: Placement) -> PortraitModels | None:
    """All parts of the embedded model from the package's weights.

    placement: device.Placement of the renderer.
    Raises Missing for weights that are not there, broken or of another version.
    """
    state, config = load_state("renderer")
    renderer = (
        load_state_into(
            Renderer(config["flow_widths"], config["paint_widths"], config["survey_widths"]), state, "renderer"
        )
        .eval()
        .float()
    )
    encoder, space = load_motion_encoder()
    renderer = renderer.to(placement.device, memory_format=torch.channels_last)
    state, config = load_state("finder")
    finder = load_state_into(OpeningSegmenter(config["widths"]), state, "finder").eval().float()
    return PortraitModels(load_phonetic_encoder(), load_core(), encoder, space, renderer, finder)


@dataclass(frozen=True, eq=False)
class AnimateJob:
    """An animation known to be possible: inputs read and checked, the face chosen; none of our networks has run.

    portrait, sound: paths.
    options: AnimateOptions.
    face: Face, in pixels of the picture as read; shrink: those per pixel of the file, at most 1.
    pixels: (H, W, 3) uint8 at output size.  points: (4, 2) eyes and mouth corners in them.
    wave: (S,) float32 at RATE_HZ.
    duration: Fraction, seconds of the sound, exact at its own rate.
    articulation: of speech that was synthesized by its plan, so that nothing has to be recognized; else None.
    """

    portrait: Path
    sound: Path | Sound
    options: AnimateOptions
    face: Face
    input_scale: float
    pixels: np.ndarray = field(repr=False)
    points: np.ndarray = field(repr=False)
    wave: np.ndarray = field(repr=False)
    duration: Fraction
    articulation: Articulation | None = field(default=None, repr=False)

    @property
    def inputs(self) -> tuple[Path, Path]:
        """Paths of the files that are read."""
        return (self.portrait, self.sound) if isinstance(self.sound, Path) else (self.portrait,)

    @property
    def frames(self) -> int:
        """How many frames cover the sound."""
        return count_frames(self.duration, self.options.fps)

    def plan(self) -> dict[str, Any]:
        """What will be written, JSON-ready: frames, rate, duration_s, width_px, height_px, face_at_px, face_source."""
        height_px, width_px = (side + side % 2 for side in self.pixels.shape[:2])  # the writer evens odd sides
        return {
            "frames": self.frames,
            "rate": str(self.options.fps),
            "duration_s": float(self.duration),
            "width_px": width_px,
            "height_px": height_px,
            "face_at_px": [round(float(x) / self.input_scale, 1) for x in self.face.centre],  # as --face takes it
            "face_source": self.face.source,
            "face_score": round(float(self.face.score), 4),
        }


def prepare_animation(
    portrait: Path, sound: Path | Sound, options: AnimateOptions, articulation: Articulation | None = None
) -> AnimateJob:
    """The Job of a portrait and a sound, after every check of them; the one place where they are read and judged.

    portrait: image file.
    sound: sound or video file, or a Sound.
    options: AnimateOptions.
    articulation: of a sound that was synthesized by its plan; None recognizes it.
    Raises Refused for a picture without face or a sound that is none, UsageProblem for a face out of the picture.
    """
    picture = read_image(portrait, max_side_px=MAX_SIDE_PX)
    if isinstance(sound, Sound):
        wave, duration = (
            np.concatenate(list(resample_blocks(sound.to_mono().blocks(1), sound.rate_hz, RATE_HZ)), 1)[0],
            sound.duration,
        )
    else:
        sound = Path(sound)
        # a wave at another rate is rounded to its samples
        wave, duration = read_sound(sound, RATE_HZ, mono=True).samples[0], measure_sound_duration(sound)
    shrink = picture.pixels.shape[1] / picture.original_size_px[0]
    face = pick_face(picture.pixels, _to_read_pixels(options.face, shrink), str(portrait))
    pixels, points = frame_portrait(picture.pixels, face.points, options)
    return AnimateJob(Path(portrait), sound, options, face, shrink, pixels, points, wave, duration, articulation)


def _to_read_pixels(choice: str, shrink: float) -> FaceChoice:
    """The choice of face with its place in the pixels that were read; people count those of the file."""
    choice = parse_face_choice(choice)
    if choice.point is None:
        return choice
    width_px = None if choice.width_px is None else choice.width_px * shrink
    return choice._replace(point=tuple(shrink * x for x in choice.point), width_px=width_px)


def frame_portrait(pixels: np.ndarray, points: np.ndarray, options: AnimateOptions) -> tuple[np.ndarray, np.ndarray]:
    """Picture and face points at the size that is asked for: the whole portrait or the head alone.

    pixels: (H, W, 3) uint8.
    points: (4, 2), of the face in them.
    options: AnimateOptions; never enlarged unless its size says so; a size asked for is rounded to even sides.
    """
    if options.frame == "crop":
        m = make_crop(points, 100).frame_from_crop
        side_px = 100 * np.hypot(*m[:, 0])
        centre = m[:, :2] @ [49.5, 49.5] + m[:, 2]
        beside = HEAD_BESIDE * side_px
        x0, y0 = np.maximum(0, np.round(centre - [beside, HEAD_ABOVE * side_px])).astype(int)
        x1, y1 = np.minimum(pixels.shape[1::-1], np.round(centre + [beside, HEAD_BELOW * side_px])).astype(int)
        pixels, points = np.ascontiguousarray(pixels[y0:y1, x0:x1]), points - [x0, y0]
    if options.size is not None:
        h, w = pixels.shape[:2]
        scale = options.size / max(h, w)
        new = tuple(max(2, 2 * round(side * scale / 2)) for side in (w, h))
        pixels = cv2.resize(pixels, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        points = (points + 0.5) * [new[0] / w, new[1] / h] - 0.5
    return pixels, points


@dataclass(frozen=True, eq=False)
class PreparedPortrait:
    """A portrait ready to be moved.

    canvas: Canvas of its pixels.
    crop: (1, 3, 192, 192) float32, the working crop in [-1, 1].
    expression: (26,) float32, its own expression.  lattice: (1, 2, 32, 32), the same as displacements.
    teeth: (1, 5, 64, 112) float32 on the mouth patch, colours in [-1, 1].
    """

    canvas: Canvas
    crop: torch.Tensor
    expression: np.ndarray
    lattice: torch.Tensor
    teeth: torch.Tensor


def prepare_portrait(job: AnimateJob, models: PortraitModels) -> PreparedPortrait:
    """The Sitter of a job's portrait: everything that is found out once a clip."""
    crop = make_crop(job.points, WORK_PX)
    taken = crop.take(job.pixels)
    own = correct_opening(
        encode_crops(models.encoder, models.space, taken[None]),
        models.space,
        [estimate_opening(models.opening_segmenter, job.pixels, crop)],
    )[0]
    portrait = torch.from_numpy(taken).permute(2, 0, 1)[None].float() / 127.5 - 1
    lattice = models.space.lattice(F.pad(torch.from_numpy(own), (0, POSE_WIDTH)))[None]
    device = next(models.renderer.parameters()).device
    with torch.inference_mode():
        logits = models.renderer.float().predict_teeth(portrait.to(device))[0].cpu().numpy()
    size_px = int(np.clip(round(WORK_PX / crop.scale / 24), 4, 32)) * 24  # about the picture's own resolution
    large = build_teeth(taken, logits, crop.with_size(size_px).take(job.pixels))
    teeth = to_teeth_tensor(build_teeth(taken, logits))[None]
    eyes = find_eyes(models.opening_segmenter, job.pixels, crop)
    canvas = Canvas(inpaint_teeth(job.pixels, crop, logits), crop, compute_matte(job.pixels, job.points), large, eyes)
    return PreparedPortrait(canvas, portrait, own, lattice, teeth)


@torch.inference_mode()
def render_parts(
    sitter: PreparedPortrait, models: PortraitModels, codes: np.ndarray, placement: Placement
) -> list[FrameParts]:
    """FrameParts of every code: what the renderer wants moved and painted.

    sitter: Sitter.
    models: Models.
    codes: (N, 32) float32, the face wanted.
    placement: device.Placement of the renderer.
    """
    count, device = len(codes), placement.device
    crop, is_now, teeth = (x.to(device).expand(count, -1, -1, -1) for x in (sitter.crop, sitter.lattice, sitter.teeth))
    with placement.autocast():
        made = models.renderer(crop, is_now, models.space.lattice(torch.from_numpy(codes)).to(device), teeth)
    return to_frame_parts(
        tighten_mask(Rendering(*(x.float().cpu() for x in (made.flow, made.paint, made.mask)))), sitter.teeth[:, 4:]
    )


def render_frames(
    sitter: PreparedPortrait, models: PortraitModels, codes: np.ndarray, options: AnimateOptions, placement: Placement
) -> Iterator[np.ndarray]:
    """Frames uint8 (H, W, 3), one for each code (N, 32) of a performance, in batches that change nothing."""
    wanted = codes.copy()
    wanted[:, :EXPRESSION_WIDTH] = target_expression(codes, sitter.expression, options.expression)
    poses, lids = models.space.pose(torch.from_numpy(codes)).numpy(), codes[:, BLINK_INDEX] / BLINK_SHUT
    for start in range(0, len(codes), options.batch):
        stop = start + options.batch
        for parts, pose, shut in zip(
            render_parts(sitter, models, wanted[start:stop], placement), poses[start:stop], lids[start:stop]
        ):
            yield sitter.canvas.draw(parts, pose, shut)


def animate(
    job: AnimateJob,
    output: Path,
    models: PortraitModels,
    placement: Placement,
    progress: Progress,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Writes OUTPUT, the portrait speaking the sound; gives the facts for the side-car.

    job: Job, from prepare.
    output: path ending in one of media.VIDEO_SUFFIXES.
    models, placement: from load_models and choose_device.
    progress: Progress.
    overwrite: True lets an existing file be replaced.
    Raises UsageProblem for the name, WriteFailed for the disk.
    Source: ours; docs/architecture.md.
    """
    options = job.options
    with progress.stage("listening", 1, "pass") as advance:
        sitter = prepare_portrait(job, models)
        ticks = max(2, count_frames(job.duration, MOTION_HZ) + 1)
        motion = generate_motion(
            (models.phonetic_encoder, models.core, models.space), job.wave, ticks, options, job.articulation
        )
        advance(1)
    codes = interpolate_track(
        motion.codes, (make_frame_times(job.frames, options.fps) + MOUTH_DELAY_S) * float(MOTION_HZ)
    )
    height_px, width_px = job.pixels.shape[:2]
    with VideoWriter(
        output, options.fps, width_px, height_px, job.sound, crf=options.quality, overwrite=overwrite, inputs=job.inputs
    ) as writer:
        with progress.stage("rendering", job.frames) as advance:
            for frame in render_frames(sitter, models, codes, options, placement):
                writer.write(frame)
                advance(1)
    return job.plan() | {"voiced_share": float(motion.active.mean()), "placement": placement.as_dict()}
