"""animate: a portrait and a recording become a video; frames stream to the encoder in constant memory."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from engine.encoders.audio import RATE_HZ
from engine.encoders.vision import BLINK, EXPRESSION, POSE, MotionEncoder, MotionSpace, codes_of, motion_parts
from engine.media import VideoWriter, read_image, read_sound, resampled, sound_duration
from engine.sound import Sound
from engine.timeline import MOTION_HZ, frame_count, read_at, times_s
from engine.weights import load_into, load_state
from face.crop import crop_of
from face.detect import Face, parse_choice, pick_face
from face.matte import matte_of
from lipsync.canvas import Canvas, parts_of, tightened
from lipsync.eyelids import BLINK_SHUT
from lipsync.finder import Finder, find_eyes, find_opening, opened
from lipsync.motion import load_core, load_listener, perform, wish
from lipsync.options import AnimateOptions
from lipsync.patch import WORK_PX
from lipsync.renderer import Renderer, Rendering
from lipsync.teeth import as_tensor, teeth_of, without_teeth

LONGEST_SIDE_PX = 4096
LATE_S = 0.004  # the mouth comes this much late, measured on speakers kept out
HEAD_ABOVE, HEAD_BELOW, HEAD_BESIDE = 0.85, 0.95, 0.85  # what --frame crop shows around the face, in crop sides


@dataclass(frozen=True)
class Models:
    """The embedded model, placed and in eval: the renderer on the device, what runs once a clip on the CPU."""

    listener: torch.nn.Module
    core: torch.nn.Module
    encoder: MotionEncoder
    space: MotionSpace
    renderer: Renderer
    finder: Finder


def load_motion():
    """The embedded (MotionEncoder, MotionSpace), in eval. Source: ours."""
    return motion_parts(*load_state("motion"))


def load_models(placement):
    """All parts of the embedded model from the package's weights.

    placement: device.Placement of the renderer.
    Raises Missing for weights that are not there, broken or of another version.
    Source: ours.
    """
    state, config = load_state("renderer")
    renderer = load_into(Renderer(config["flow_widths"], config["paint_widths"], config["survey_widths"]), state, "renderer").eval().float()
    encoder, space = load_motion()
    renderer = renderer.to(placement.device, memory_format=torch.channels_last)
    state, config = load_state("finder")
    finder = load_into(Finder(config["widths"]), state, "finder").eval().float()
    return Models(load_listener(), load_core(), encoder, space, renderer, finder)


@dataclass(frozen=True, eq=False)
class Job:
    """An animation known to be possible: inputs read and checked, the face chosen; none of our networks has run.

    portrait, sound: paths.
    options: AnimateOptions.
    face: Face, in pixels of the picture as read; shrink: those per pixel of the file, at most 1.
    pixels: (H, W, 3) uint8 at output size.  points: (4, 2) eyes and mouth corners in them.
    wave: (S,) float32 at RATE_HZ.
    duration: Fraction, seconds of the sound, exact at its own rate.
    articulation: (T, 43) at 50 Hz where the speech was planned by us, so that nothing has to be recognised; else None.
    Source: ours.
    """

    portrait: Path
    sound: Path | Sound
    options: AnimateOptions
    face: Face
    shrink: float
    pixels: np.ndarray = field(repr=False)
    points: np.ndarray = field(repr=False)
    wave: np.ndarray = field(repr=False)
    duration: Fraction
    articulation: np.ndarray | None = field(default=None, repr=False)

    @property
    def inputs(self):
        """Paths of the files that are read."""
        return (self.portrait, self.sound) if isinstance(self.sound, Path) else (self.portrait,)

    @property
    def frames(self):
        """How many frames cover the sound."""
        return frame_count(self.duration, self.options.fps)

    def plan(self):
        """What will be written, JSON-ready: frames, rate, duration_s, width_px, height_px, face_at_px, face_source."""
        height_px, width_px = (side + side % 2 for side in self.pixels.shape[:2])  # the writer evens odd sides
        return {
            "frames": self.frames,
            "rate": str(self.options.fps),
            "duration_s": float(self.duration),
            "width_px": width_px,
            "height_px": height_px,
            "face_at_px": [round(float(x) / self.shrink, 1) for x in self.face.centre],  # as --face takes it
            "face_source": self.face.source,
            "face_score": round(float(self.face.score), 4),
        }


def prepare(portrait, sound, options, articulation=None):
    """The Job of a portrait and a sound, after every check of them; the one place where they are read and judged.

    portrait: image file.
    sound: sound or video file, or a Sound.
    options: AnimateOptions.
    articulation: (T, 43) at 50 Hz of a sound that we planned; None listens to it.
    Raises Refused for a picture without face or a sound that is none, UsageProblem for a face out of the picture.
    Source: ours.
    """
    picture = read_image(portrait, max_side_px=LONGEST_SIDE_PX)
    if isinstance(sound, Sound):
        wave, duration = np.concatenate(list(resampled(sound.mono().blocks(1), sound.rate_hz, RATE_HZ)), 1)[0], sound.duration
    else:
        sound = Path(sound)
        wave, duration = read_sound(sound, RATE_HZ, mono=True).samples[0], sound_duration(sound)  # a wave at another rate is rounded to its samples
    shrink = picture.pixels.shape[1] / picture.original_size_px[0]
    face = pick_face(picture.pixels, _as_read(options.face, shrink), str(portrait))
    pixels, points = framed(picture.pixels, face.points, options)
    return Job(Path(portrait), sound, options, face, shrink, pixels, points, wave, duration, articulation)


def _as_read(choice, shrink):
    """The choice of face with its place in the pixels that were read; people count those of the file."""
    choice = parse_choice(choice)
    if choice.point is None:
        return choice
    width_px = None if choice.width_px is None else choice.width_px * shrink
    return choice._replace(point=tuple(shrink * x for x in choice.point), width_px=width_px)


def framed(pixels, points, options):
    """Picture and face points at the size that is asked for: the whole portrait or the head alone.

    pixels: (H, W, 3) uint8.
    points: (4, 2), of the face in them.
    options: AnimateOptions; never enlarged unless its size says so; a size asked for is rounded to even sides.
    Source: ours.
    """
    if options.frame == "crop":
        m = crop_of(points, 100).frame_from_crop
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
class Sitter:
    """A portrait ready to be moved.

    canvas: Canvas of its pixels.
    crop: (1, 3, 192, 192) float32, the working crop in [-1, 1].
    own: (26,) float32, its own expression.  lattice: (1, 2, 32, 32), the same as displacements.
    teeth: (1, 5, 64, 112) float32 on the mouth patch, colours in [-1, 1].
    Source: ours.
    """

    canvas: Canvas
    crop: torch.Tensor
    own: np.ndarray
    lattice: torch.Tensor
    teeth: torch.Tensor


def seat(job, models):
    """The Sitter of a job's portrait: everything that is found out once a clip. Source: ours."""
    crop = crop_of(job.points, WORK_PX)
    taken = crop.take(job.pixels)
    own = opened(codes_of(models.encoder, models.space, taken[None]), models.space, [find_opening(models.finder, job.pixels, crop)])[0]
    portrait = torch.from_numpy(taken).permute(2, 0, 1)[None].float() / 127.5 - 1
    lattice = models.space.lattice(F.pad(torch.from_numpy(own), (0, POSE)))[None]
    device = next(models.renderer.parameters()).device
    with torch.inference_mode():
        logits = models.renderer.float().survey(portrait.to(device))[0].cpu().numpy()
    size_px = int(np.clip(round(WORK_PX / crop.scale / 24), 4, 32)) * 24          # about the picture's own resolution
    large = teeth_of(taken, logits, crop.resized(size_px).take(job.pixels))
    teeth = as_tensor(teeth_of(taken, logits))[None]
    eyes = find_eyes(models.finder, job.pixels, crop)
    canvas = Canvas(without_teeth(job.pixels, crop, logits), crop, matte_of(job.pixels, job.points), large, eyes)
    return Sitter(canvas, portrait, own, lattice, teeth)


@torch.inference_mode()
def parts_at(sitter, models, codes, placement):
    """FrameParts of every code: what the renderer wants moved and painted.

    sitter: Sitter.
    models: Models.
    codes: (N, 32) float32, the face wanted.
    placement: device.Placement of the renderer.
    Source: ours.
    """
    count, device = len(codes), placement.device
    crop, is_now, teeth = (x.to(device).expand(count, -1, -1, -1) for x in (sitter.crop, sitter.lattice, sitter.teeth))
    with placement.autocast():
        made = models.renderer(crop, is_now, models.space.lattice(torch.from_numpy(codes)).to(device), teeth)
    return parts_of(tightened(Rendering(*(x.float().cpu() for x in (made.flow, made.paint, made.mask)))), sitter.teeth[:, 4:])


def render(sitter, models, codes, options, placement):
    """Frames uint8 (H, W, 3), one for each code (N, 32) of a performance, in batches that change nothing.

    Source: ours.
    """
    wanted = codes.copy()
    wanted[:, :EXPRESSION] = wish(codes, sitter.own, options.expression)
    poses, lids = models.space.pose(torch.from_numpy(codes)).numpy(), codes[:, BLINK] / BLINK_SHUT
    for start in range(0, len(codes), options.batch):
        stop = start + options.batch
        for parts, pose, shut in zip(parts_at(sitter, models, wanted[start:stop], placement), poses[start:stop], lids[start:stop]):
            yield sitter.canvas.draw(parts, pose, shut)


def animate(job, output, models, placement, progress, overwrite=False):
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
        sitter = seat(job, models)
        ticks = max(2, frame_count(job.duration, MOTION_HZ) + 1)
        motion = perform((models.listener, models.core, models.space), job.wave, ticks, options, job.articulation)
        advance(1)
    codes = read_at(motion.codes, (times_s(job.frames, options.fps) + LATE_S) * float(MOTION_HZ))
    height_px, width_px = job.pixels.shape[:2]
    with VideoWriter(
        output, options.fps, width_px, height_px, job.sound, crf=options.quality, overwrite=overwrite, inputs=job.inputs
    ) as writer:
        with progress.stage("rendering", job.frames) as advance:
            for frame in render(sitter, models, codes, options, placement):
                writer.write(frame)
                advance(1)
    return job.plan() | {"voiced_share": float(motion.active.mean()), "placement": placement.as_dict()}
