"""Sound into motion: articulation, voice activity, the AV core over windows, lids, brows and head, on the 25 Hz clock.
"""

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
    from mouthpiece.lipsync.options import AnimateOptions

WINDOW_TICKS, OVERLAP_TICKS = 75, 25  # 3 s windows, as the core was trained; a second goes over from one to the next
LIP_LEAD_TICKS, LIP_LAG_TICKS = 6, 4  # of 40 ms: lips part for their sound, and come to rest after it
GATE_SMOOTHING_TICKS = 0.6  # deviation of the two slopes
# of 20 ms: consonants at the edge of a voice that the detector does not count
VOICE_LEAD_TICKS, VOICE_LAG_TICKS = 10, 5
DRIFT_TICKS = 45  # 1.8 s: what moves the head more slowly than this is taken out
HEAD_SMOOTHING_TICKS = 1.2  # deviation of what smoothes the head
PAUSE_MEAN_TICKS = 8  # 0.3 s: deviation of the mean that head and brows follow in pauses
MOUTH_DELAY_S = 0.004  # the mouth is shown this much late, as measured on held-out speakers


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
    """Codes of a performance. codes: (T, 32) float32 at 25 Hz.  active: (T,) share of voice in each tick.
    articulation: (2 T, 43).
    """

    codes: np.ndarray
    active: np.ndarray
    articulation: np.ndarray


def load_core() -> AVCore:
    """The embedded AV core, in eval."""
    return build_core(*load_state("core"))


def gate_articulation(articulation: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Articulation (T, 43) where silence, by voice activity (T,) at 50 Hz, is really silent: phone SIL, unvoiced, no
    energy.
    """
    silence = Articulation.silence(1).values
    return articulation * active[:, None] + silence * (1 - active[:, None])


def dilate(active: np.ndarray, before: int, after: int) -> np.ndarray:
    """A track (T,) whose every value also holds for so many ticks before and after it."""
    size = before + after + 1
    return maximum_filter1d(active, size, mode="nearest", origin=after - size // 2)


def pad_or_trim(track: np.ndarray, length: int) -> np.ndarray:
    """A track (T, ...) cut, or continued by its last value, to a length."""
    return np.concatenate([track[:length], np.repeat(track[-1:], max(0, length - len(track)), 0)])


def recognize_articulation(
    listener: PhoneticEncoder, wave: np.ndarray, ticks: int, gate: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(articulation (2 ticks, 43), active (2 ticks,)) of a wave (S,) at 16 kHz, padded or cut to the motion clock.

    gate: silence is made really silent, a little away from the voice; False believes what was heard in it.
    Source: ours; what is said at the edges of a voice was worth 0.02 of correlation, docs/log.md.
    """
    articulation = extract_articulation(listener, wave).values
    active = detect_speech_activity(wave).astype(np.float32) if gate else np.ones(len(articulation), np.float32)
    articulation, active = pad_or_trim(articulation, 2 * ticks), pad_or_trim(active, 2 * ticks)
    return gate_articulation(articulation, dilate(active, VOICE_LEAD_TICKS, VOICE_LAG_TICKS)), active


def pad_planned_articulation(articulation: Articulation, ticks: int) -> tuple[np.ndarray, np.ndarray]:
    """(articulation (2 ticks, 43), active (2 ticks,)) of a planned line, followed by silence."""
    placed = articulation.place_in_silence(0, 2 * ticks)
    return placed.values, placed.speech_probability


@torch.inference_mode()
def sample_motion_codes(
    core: AVCore, articulation: np.ndarray, options: AnimateOptions, item: str = "clip"
) -> np.ndarray:
    """Codes (T, 32) float32: sampled in windows that overlap and go over into each other; noise depends on the tick,
    not the window.

    articulation: (2 T, 43).
    options: with steps, guidance, variety and seed.
    item: name that the noise depends on beside the seed.
    Source: flow matching; windows that were told the codes before them drifted away within a minute, docs/log.md.
    """
    ticks = len(articulation) // 2
    sound = torch.from_numpy(articulation)[None]
    levels, adapter = make_flow_levels(options.steps), FlowAdapter(core)

    def make(window: Window, _) -> torch.Tensor:
        start, stop = window.start, window.stop
        values = pack_streams(torch.zeros(1, stop - start, CODE_WIDTH), sound[:, 2 * start : 2 * stop])
        motion = torch.full((1, stop - start), GENERATED)
        told = StreamConditions(values, motion, torch.full_like(motion, GIVEN))
        untold = StreamConditions(values, motion, torch.full_like(motion, ABSENT))
        noise = draw_tick_noise(start, stop, (values.shape[-1],), options.seed, [item])
        noise[..., :BLINK_INDEX] *= options.temperature
        if options.guidance == 1.0:
            return sample(adapter, noise, levels, told, solver="ab2")
        return sample(adapter, noise, levels, [told], null=untold, guidance=Guidance((options.guidance,)), solver="ab2")

    windows = plan_windows(ticks, WINDOW_TICKS, OVERLAP_TICKS)
    return torch.cat(list(stream_windows(windows, make, "blend")), 1)[0, :, :CODE_WIDTH].numpy()


def retime(track: np.ndarray, speed: float) -> np.ndarray:
    """A track (T, D) played at another speed, turning back at its ends."""
    last = len(track) - 1
    if speed == 1.0 or last < 1:
        return track
    at = np.arange(len(track)) * speed % (2 * last)
    return interpolate_track(track, np.where(at > last, 2 * last - at, at))


def high_pass(head: np.ndarray) -> np.ndarray:
    """A head's track (T, 6) about its own place: slow drift and the tremble of landmarks that it was learned from are
    taken out.
    """
    return gaussian_filter1d(head, HEAD_SMOOTHING_TICKS, axis=0) - gaussian_filter1d(head, DRIFT_TICKS, axis=0)


def damp_in_pauses(track: np.ndarray, active: np.ndarray) -> np.ndarray:
    """A track (T, D) that comes to rest in pauses: there it follows its own slow mean. active: (T,)."""
    free = gaussian_filter1d(active, PAUSE_MEAN_TICKS / 2)[:, None]
    return free * track + (1 - free) * gaussian_filter1d(track, PAUSE_MEAN_TICKS, axis=0)


def generate_motion(
    models: SpeechMotionModels,
    wave: np.ndarray,
    ticks: int,
    options: AnimateOptions,
    planned: Articulation | None = None,
) -> FaceMotion:
    """The Motion of a recording under the options.

    wave: (S,) at 16 kHz.  ticks: of 25 Hz.
    planned: articulation of a line that was synthesized by its plan; None recognizes the wave.
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
    """How far the mouth may leave its rest, (T,) in [0, 1]: 1 while somebody speaks and a breath before and after, 0 in
    silence.

    active: (T,) voice activity at 25 Hz.
    Source: ours; lips part up to 0.2 s before their sound.
    """
    return gaussian_filter1d(dilate(active, LIP_LEAD_TICKS, LIP_LAG_TICKS), GATE_SMOOTHING_TICKS).astype(np.float32)


def target_expression(codes: np.ndarray, own: np.ndarray, expression: float = 1.0) -> np.ndarray:
    """What the face shall be, (T, 26): codes (T, 32) of a performance on a face whose own code is own (26,).

    Mouth and jaw are absolute: a smile with teeth closes on a closed sound. Brows start from the portrait's own; lids
    stay,
    for a canvas lowers them (lipsync/portrait/eyelid_warp.py).
    expression: 0 leaves the face as it is, 1 as learned, more exaggerates.
    """
    out = codes[:, :EXPRESSION_WIDTH].copy()
    out[:, :BLINK_INDEX] = codes[:, :BLINK_INDEX] * expression + own[:BLINK_INDEX] * max(0.0, 1 - expression)
    out[:, BLINK_INDEX] = own[BLINK_INDEX]
    out[:, BLINK_INDEX + 1 :] = own[BLINK_INDEX + 1 :] + codes[:, BLINK_INDEX + 1 : EXPRESSION_WIDTH] * expression
    return out
