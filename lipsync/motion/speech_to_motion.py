"""Speech to motion: articulation, voice activity, the AV core over windows, then lids, brows and head, at 25 Hz."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from mouthpiece.engine.audio.voice_activity import detect_speech_activity
from mouthpiece.engine.contracts import Articulation
from mouthpiece.engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, StreamConditions, build_core, pack_streams
from mouthpiece.engine.encoders.motion import BLINK_INDEX, EXPRESSION_WIDTH
from mouthpiece.engine.encoders.phonetic import PhoneticEncoder, extract_articulation
from mouthpiece.engine.sampling import (
    FlowAdapter,
    Guidance,
    draw_tick_noise,
    make_flow_levels,
    plan_windows,
    sample,
    stream_windows,
)
from mouthpiece.engine.timeline import interpolate_track
from mouthpiece.engine.weights.loading import load_state
from mouthpiece.lipsync.motion.accents import generate_gestures
from mouthpiece.lipsync.motion.blinks import BLINK_SHUT, sample_blinks
from mouthpiece.lipsync.motion.closures import postprocess_mouth

if TYPE_CHECKING:
    from mouthpiece.engine.core import AVCore
    from mouthpiece.engine.encoders.motion import MotionSpace
    from mouthpiece.engine.sampling.windows import Window
    from mouthpiece.lipsync.options import AnimateOptions, LipsyncOptions

WINDOW_TICKS = 75  # of 40 ms: 3 s windows, as the core was trained
OVERLAP_TICKS = 25  # of 40 ms: over a second one window blends into the next
LIP_LEAD_TICKS = 6  # of 40 ms: lips part for their sound
LIP_LAG_TICKS = 4  # of 40 ms: and come to rest after it
GATE_SMOOTHING_TICKS = 0.6  # of 40 ms, deviation of the slopes of the mouth gate
VOICE_LEAD_TICKS = 10  # of 20 ms: consonants before a voice that the detector does not count
VOICE_LAG_TICKS = 5  # of 20 ms: the same after it
HELD_TICKS = 2  # of 20 ms: what may lack to the end of the last motion tick is the last value, held
DRIFT_TICKS = 45  # of 40 ms, deviation: head motion slower than 1.8 s is removed
HEAD_SMOOTHING_TICKS = 1.2  # of 40 ms, deviation of the smoothing of the head
PAUSE_MEAN_TICKS = 8  # of 40 ms, deviation of the mean that head and brows follow in pauses
MOUTH_DELAY_S = 0.004  # seconds by which the mouth is shown late, as measured on held-out speakers


@dataclass(frozen=True, eq=False)
class SpeechMotionModels:
    """Hold the networks that turn speech into motion, in eval, on the CPU.

    phonetic_encoder: sound -> articulation.  core: articulation -> motion codes.  space: codes -> lattices and pose.
    """

    phonetic_encoder: PhoneticEncoder
    core: AVCore
    space: MotionSpace


@dataclass(frozen=True)
class FaceMotion:
    """Hold the motion of a face over a clip.

    codes: (T, 32) float32 motion codes at 25 Hz.  active: (T,) voice activity at 25 Hz.  articulation: (2 T, 43) at 50
    Hz.
    """

    codes: np.ndarray
    active: np.ndarray
    articulation: np.ndarray


def load_core() -> AVCore:
    """Load the embedded AV core, in eval. Raises MissingDependencyError."""
    return build_core(*load_state("core"))


def gate_articulation(articulation: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Replace an articulation (T, 43) by silence where there is no voice: phone SIL, unvoiced, no energy.

    active: (T,) voice activity at 50 Hz, in [0, 1].
    """
    silence = Articulation.silence(1).values
    return articulation * active[:, None] + silence * (1 - active[:, None])


def dilate(active: np.ndarray, before: int, after: int) -> np.ndarray:
    """Dilate a track (T,): every value also holds for some ticks before and after it (grey dilation)."""
    size = before + after + 1
    return maximum_filter1d(active, size, mode="nearest", origin=after - size // 2)


def pad_or_trim(track: np.ndarray, length: int) -> np.ndarray:
    """Trim a track (T, ...) to a length, or pad it with its last value."""
    return np.concatenate([track[:length], np.repeat(track[-1:], max(0, length - len(track)), 0)])


def extend_with_silence(articulation: np.ndarray, active: np.ndarray, ticks: int) -> tuple[np.ndarray, np.ndarray]:
    """Trim an articulation (T, 43) and its voice activity (T,) to 2 ticks, or extend them: nobody speaks after the end.

    ticks: of 25 Hz.  Less than a motion tick that is missing to the end is the last value held, not silence.
    """
    held = min(2 * ticks, len(articulation) + HELD_TICKS)
    silent = 2 * ticks - held
    articulation, active = pad_or_trim(articulation, held), pad_or_trim(active, held)
    after = Articulation.silence(silent).values
    return np.concatenate([articulation, after]), np.concatenate([active, np.zeros(silent, active.dtype)])


def recognize_articulation(
    phonetic_encoder: PhoneticEncoder, wave: np.ndarray, ticks: int, gate: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Recognise the articulation (2 ticks, 43) of a wave, and its voice activity (2 ticks,), both at 50 Hz.

    wave: (S,) float32 at 16 kHz.  ticks: of 25 Hz, to which both are trimmed, or extended with silence.
    gate: whether all is silence away from the voice; False: what was recognised there is kept.
    The dilation of the voice was worth 0.02 of correlation, docs/log.md.
    """
    articulation = extract_articulation(phonetic_encoder, wave).values
    active = detect_speech_activity(wave).astype(np.float32) if gate else np.ones(len(articulation), np.float32)
    articulation, active = extend_with_silence(articulation, active, ticks)
    active = active if gate else np.ones(2 * ticks, np.float32)
    return gate_articulation(articulation, dilate(active, VOICE_LEAD_TICKS, VOICE_LAG_TICKS)), active


def pad_planned_articulation(articulation: Articulation, ticks: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad or trim a planned articulation with silence; returns it (2 ticks, 43), and its voice activity (2 ticks,)."""
    placed = articulation.place_in_silence(0, 2 * ticks)
    return placed.values, placed.speech_probability


@torch.inference_mode()
def sample_motion_codes(
    core: AVCore, articulation: np.ndarray, options: AnimateOptions | LipsyncOptions, item: str = "clip"
) -> np.ndarray:
    """Sample motion codes (T, 32) float32 in overlapping windows that blend; noise depends on the tick, not on the
    window.

    articulation: (2 T, 43) at 50 Hz.
    options: steps, guidance, temperature and seed.
    item: name that the noise depends on beside the seed.
    Source: flow matching. Windows conditioned on the codes before them drifted within a minute, docs/log.md.
    """
    ticks = len(articulation) // 2
    sound = torch.from_numpy(articulation)[None]
    levels, adapter = make_flow_levels(options.steps), FlowAdapter(core)

    def make(window: Window, _: object) -> torch.Tensor:
        start, stop = window.start, window.stop
        values = pack_streams(torch.zeros(1, stop - start, CODE_WIDTH), sound[:, 2 * start : 2 * stop])
        motion = torch.full((1, stop - start), GENERATED)
        given = StreamConditions(values, motion, torch.full_like(motion, GIVEN))
        null = StreamConditions(values, motion, torch.full_like(motion, ABSENT))
        noise = draw_tick_noise(start, stop, (values.shape[-1],), options.seed, [item])
        noise[..., :BLINK_INDEX] *= options.temperature
        if options.guidance == 1.0:
            return sample(adapter, noise, levels, given, solver="ab2")
        return sample(adapter, noise, levels, [given], null=null, guidance=Guidance((options.guidance,)), solver="ab2")

    windows = plan_windows(ticks, WINDOW_TICKS, OVERLAP_TICKS)
    return torch.cat(list(stream_windows(windows, make, "blend")), 1)[0, :, :CODE_WIDTH].numpy()


def retime(track: np.ndarray, speed: float) -> np.ndarray:
    """Play a track (T, D) at another speed, reflected at its ends."""
    last = len(track) - 1
    if speed == 1.0 or last < 1:
        return track
    at = np.arange(len(track)) * speed % (2 * last)
    return interpolate_track(track, np.where(at > last, 2 * last - at, at))


def high_pass(head: np.ndarray) -> np.ndarray:
    """Remove slow drift from a head track (T, 6), and the jitter of the landmarks that it was learned from."""
    return gaussian_filter1d(head, HEAD_SMOOTHING_TICKS, axis=0) - gaussian_filter1d(head, DRIFT_TICKS, axis=0)


def damp_in_pauses(track: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Damp a track (T, D) in pauses, where it follows its own slow mean. active: (T,) voice activity."""
    free = gaussian_filter1d(active, PAUSE_MEAN_TICKS / 2)[:, None]
    return free * track + (1 - free) * gaussian_filter1d(track, PAUSE_MEAN_TICKS, axis=0)


def generate_motion(
    models: SpeechMotionModels,
    wave: np.ndarray,
    ticks: int,
    options: AnimateOptions,
    planned: Articulation | None = None,
) -> FaceMotion:
    """Generate the motion of a face from speech, under the options.

    wave: (S,) float32 at 16 kHz.  ticks: length at 25 Hz.
    planned: articulation of planned speech; None: it is recognised from the wave.
    """
    articulation, active = (
        recognize_articulation(models.phonetic_encoder, wave, ticks, options.gate)
        if planned is None
        else pad_planned_articulation(planned, ticks)
    )
    codes = sample_motion_codes(models.core, articulation, options).copy()
    slow = active.reshape(ticks, 2).mean(1)
    codes[:, :BLINK_INDEX] = (
        postprocess_mouth(codes, articulation, models.space.lips[:BLINK_INDEX].numpy(), options)
        * compute_mouth_gate(slow)[:, None]
    )
    codes[:, BLINK_INDEX] = BLINK_SHUT * sample_blinks(ticks, options.blink_rate, slow, options.seed)
    brows, head = codes[:, BLINK_INDEX + 1 : EXPRESSION_WIDTH], retime(codes[:, EXPRESSION_WIDTH:], options.head_speed)
    raised, nods = generate_gestures(articulation, slow, models.space.basis.numpy(), options.accents, options.seed)
    if options.stabilize_head:
        brows, head = damp_in_pauses(brows, slow), damp_in_pauses(head, slow)
    head = high_pass(head + nods) if options.stabilize_head else head + nods
    codes[:, BLINK_INDEX + 1 : EXPRESSION_WIDTH] = brows + raised
    codes[:, EXPRESSION_WIDTH:] = head * options.pose_strength
    return FaceMotion(codes.astype(np.float32), slow, articulation)


def compute_mouth_gate(active: np.ndarray) -> np.ndarray:
    """Compute how far the mouth may leave its rest, (T,) in [0, 1]: 1 in speech and a little around it, 0 in silence.

    active: (T,) voice activity at 25 Hz.  Lips part up to 0.2 s before their sound.
    """
    return gaussian_filter1d(dilate(active, LIP_LEAD_TICKS, LIP_LAG_TICKS), GATE_SMOOTHING_TICKS).astype(np.float32)


def target_expression(codes: np.ndarray, own: np.ndarray, expression: float = 1.0) -> np.ndarray:
    """Compute the expression (T, 26) that a face is to show: motion codes (T, 32) on a face whose own code is own
    (26,).

    Mouth and jaw are absolute: a smile with teeth closes on a closed sound. Brows start from the face's own; lids stay,
    for
    the canvas lowers them (portrait/eyelid_warp.py).
    expression: 0 leaves the face as it is, 1 as learned, more exaggerates.
    """
    out = codes[:, :EXPRESSION_WIDTH].copy()
    out[:, :BLINK_INDEX] = codes[:, :BLINK_INDEX] * expression + own[:BLINK_INDEX] * max(0.0, 1 - expression)
    out[:, BLINK_INDEX] = own[BLINK_INDEX]
    out[:, BLINK_INDEX + 1 :] = own[BLINK_INDEX + 1 :] + codes[:, BLINK_INDEX + 1 : EXPRESSION_WIDTH] * expression
    return out
