"""animate: a portrait and a recording become a video; frames stream to the encoder in constant memory."""
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from engine.encoders.audio import RATE_HZ
from engine.encoders.vision import EXPRESSION, POSE, MotionEncoder, MotionSpace, codes_of
from engine.media import VideoWriter, read_image, read_sound
from engine.timeline import MOTION_HZ, frame_count, frame_time
from engine.weights import load_into, load_state
from face.crop import crop_of
from face.detect import pick_face
from lipsync.canvas import Canvas, parts_of
from lipsync.motion import at_times, load_core, load_listener, perform, wish
from lipsync.renderer import WORK_PX, Renderer

LONGEST_SIDE_PX = 4096


@dataclass(frozen=True)
class Models:
    """The embedded model, placed and in eval."""
    listener: torch.nn.Module
    core: torch.nn.Module
    encoder: MotionEncoder
    space: MotionSpace
    renderer: Renderer


def load_motion():
    """The embedded (MotionEncoder, MotionSpace), in eval."""
    state, config = load_state("motion")
    space = MotionSpace(**{k: state.pop(f"space.{k}").float() for k in MotionSpace.__dataclass_fields__})
    return load_into(MotionEncoder(config["width"]), state, "motion").eval().float(), space


def load_models():
    """All parts of the embedded model from the package's weights."""
    state, config = load_state("renderer")
    renderer = load_into(Renderer(config["flow_widths"], config["paint_widths"]), state, "renderer").eval().float()
    encoder, space = load_motion()
    return Models(load_listener(), load_core(), encoder, space, renderer.to(memory_format=torch.channels_last))


@dataclass(frozen=True)
class Sitter:
    """A portrait ready to be moved: its picture, canvas, working crop in [-1, 1] and its own expression code (26,)."""
    canvas: Canvas
    crop: torch.Tensor
    own: np.ndarray
    face: object


def seat(path, models, options):
    """The Sitter of a portrait file; refuses a picture without a face, naming what to do."""
    pixels = read_image(path, max_side_px=LONGEST_SIDE_PX).pixels
    face = pick_face(pixels, options.face, str(path))
    pixels, points = framed(pixels, face.points, options)
    crop = crop_of(points, WORK_PX)
    taken = crop.take(pixels)
    own = codes_of(models.encoder, models.space, taken[None])[0]
    portrait = torch.from_numpy(taken).permute(2, 0, 1)[None].float() / 127.5 - 1
    return Sitter(Canvas(pixels, crop), portrait, own, face)


def framed(pixels, points, options):
    """Picture and face points at the size that is asked for: the whole portrait or the head alone; never enlarged unless --size says so."""
    if options.frame == "crop":
        m = crop_of(points, 100).frame_from_crop
        side = 100 * np.hypot(*m[:, 0])
        centre = m[:, :2] @ [49.5, 49.5] + m[:, 2]
        x0, y0 = np.maximum(0, np.round(centre - [0.85 * side, 0.85 * side])).astype(int)
        x1, y1 = np.minimum(pixels.shape[1::-1], np.round(centre + [0.85 * side, 0.95 * side])).astype(int)
        pixels, points = np.ascontiguousarray(pixels[y0:y1, x0:x1]), points - [x0, y0]
    if options.size is not None:
        h, w = pixels.shape[:2]
        scale = options.size / max(h, w)
        new = (max(2, 2 * round(w * scale / 2)), max(2, 2 * round(h * scale / 2)))
        pixels = cv2.resize(pixels, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        points = (points + 0.5) * [new[0] / w, new[1] / h] - 0.5
    return pixels, points


@torch.inference_mode()
def render(sitter, models, codes, options, placement):
    """Frames uint8 (H, W, 3), one for each code (N, 32), in batches."""
    wanted = codes.copy()
    wanted[:, :EXPRESSION] = wish(codes, sitter.own, options.expression)
    lattice_is = models.space.lattice(F.pad(torch.from_numpy(sitter.own), (0, POSE)))[None]
    for start in range(0, len(codes), options.batch):
        c = torch.from_numpy(wanted[start : start + options.batch])
        n = len(c)
        with placement.autocast():
            made = models.renderer(sitter.crop.expand(n, -1, -1, -1), lattice_is.expand(n, -1, -1, -1), models.space.lattice(c))
        for parts, pose in zip(parts_of(made), models.space.pose(c).numpy()):
            yield sitter.canvas.draw(parts, pose)


def preflight(portrait, sound, options):
    """What a job would make, after every check that needs no network: {"frames", "rate", "duration_s", "width_px", "height_px"}.

    Raises what `animate` would raise for its inputs, before any long work. Source: ours.
    """
    pixels = read_image(portrait, max_side_px=LONGEST_SIDE_PX).pixels
    face = pick_face(pixels, options.face, str(portrait))
    pixels, _ = framed(pixels, face.points, options)
    wave = read_sound(sound, RATE_HZ, mono=True)
    return dict(frames=frame_count(wave.duration, options.fps), rate=str(options.fps), duration_s=float(wave.duration),
                width_px=pixels.shape[1], height_px=pixels.shape[0])


def animate(portrait, sound, output, options, models, placement, progress, overwrite=False):
    """Write OUTPUT: the portrait speaking the sound; returns facts for the side-car.

    portrait: image file.  sound: sound or video file.  output: .mp4, .mov or .mkv.
    Raises Refused for a picture without face or a sound that is none, UsageProblem for names, WriteFailed for the disk.
    Source: ours; docs/architecture.md.
    """
    sitter = seat(portrait, models, options)
    wave = read_sound(sound, RATE_HZ, mono=True)
    duration = wave.duration
    frames = frame_count(duration, options.fps)
    ticks = max(2, frame_count(duration, MOTION_HZ) + 1)
    with progress.stage("listening", 1, "pass") as advance:
        motion = perform((models.listener, models.core), wave.samples[0], ticks, options)
        advance(1)
    times = np.array([float(frame_time(i, options.fps)) for i in range(frames)])
    codes = at_times(motion.codes, times).astype(np.float32)
    h, w = sitter.canvas.pixels.shape[:2]
    with VideoWriter(output, options.fps, w, h, sound, crf=options.quality, overwrite=overwrite, inputs=(portrait, sound)) as writer:
        with progress.stage("rendering", frames) as advance:
            for frame in render(sitter, models, codes, options, placement):
                writer.write(frame)
                advance(1)
    return dict(frames=frames, rate=str(options.fps), duration_s=float(duration), width_px=w, height_px=h, face_score=sitter.face.score,
                face_source=sitter.face.source, voiced_share=float(motion.active.mean()), placement=placement.as_dict())


assert EXPRESSION + POSE == 32
