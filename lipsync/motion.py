"""Sound into motion: articulation, voice activity, the AV core over windows, lids, brows and head, on the 25 Hz clock."""
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from engine.activity import speech_activity
from engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, Known, core_of, pack
from engine.encoders.audio import PHONES, PhoneticEncoder, listen
from engine.encoders.vision import BLINK, EXPRESSION
from engine.sampling import FlowAdapter, Guidance, flow_levels, plan, sample, stream_windows, tick_noise
from engine.timeline import read_at
from engine.weights import load_into, load_state
from lipsync.accents import gestures
from lipsync.closures import mouthed
from lipsync.eyelids import BLINK_SHUT, blinks

WINDOW_TICKS, SHARED_TICKS = 75, 25    # 3 s windows, as the core was trained; a second goes over from one to the next
BEFORE_TICKS, AFTER_TICKS = 6, 4       # of 40 ms: lips part for their sound, and come to rest after it
SLOPE_TICKS = 0.6                      # deviation of the two slopes
EDGE_BEFORE, EDGE_AFTER = 10, 5        # of 20 ms: consonants at the edge of a voice that the detector does not count
PLACE_TICKS = 45                       # 1.8 s: what moves the head more slowly than this is taken out
STEADY_TICKS = 1.2                     # deviation of what smoothes the head
CALM_TICKS = 8                         # 0.3 s: deviation of the mean that head and brows follow in pauses
SILENT_ENERGY = -1.5


@dataclass(frozen=True)
class Motion:
    """Codes of a performance. codes: (T, 32) float32 at 25 Hz.  active: (T,) share of voice in each tick.  articulation: (2 T, 43)."""
    codes: np.ndarray
    active: np.ndarray
    articulation: np.ndarray


def load_listener():
    """The embedded phonetic encoder, in eval."""
    state, config = load_state("phonetic")
    return load_into(PhoneticEncoder(config["width"], config["dilations"], config["dropout"]), state, "phonetic").eval().float()


def load_core():
    """The embedded AV core, in eval."""
    return core_of(*load_state("core"))


def gated(articulation, active):
    """Articulation (T, 43) where silence, by voice activity (T,) at 50 Hz, is really silent: phone SIL, unvoiced, no energy."""
    silence = np.zeros(articulation.shape[1], np.float32)
    silence[PHONES.index("SIL")], silence[-1] = 1, SILENT_ENERGY
    return articulation * active[:, None] + silence * (1 - active[:, None])


def widened(active, before, after):
    """A track (T,) whose every value also holds for so many ticks before and after it. Source: ours."""
    size = before + after + 1
    return maximum_filter1d(active, size, mode="nearest", origin=after - size // 2)


def fitted(track, length):
    """A track (T, ...) cut, or continued by its last value, to a length. Source: ours."""
    return np.concatenate([track[:length], np.repeat(track[-1:], max(0, length - len(track)), 0)])


def hear(listener, wave, ticks, gate=True):
    """(articulation (2 ticks, 43), active (2 ticks,)) of a wave (S,) at 16 kHz, padded or cut to the motion clock.

    gate: silence is made really silent, a little away from the voice; False believes what was heard in it.
    Source: ours; what is said at the edges of a voice was worth 0.02 of correlation, docs/log.md.
    """
    articulation = listen(listener, wave).values
    active = speech_activity(wave).astype(np.float32) if gate else np.ones(len(articulation), np.float32)
    articulation, active = fitted(articulation, 2 * ticks), fitted(active, 2 * ticks)
    return gated(articulation, widened(active, EDGE_BEFORE, EDGE_AFTER)), active


def as_planned(articulation, ticks):
    """(articulation (2 ticks, 43), active (2 ticks,)) of a planned line (T, 43), followed by silence. Source: ours."""
    silence = np.zeros((max(0, 2 * ticks - len(articulation)), articulation.shape[1]), np.float32)
    silence[:, PHONES.index("SIL")], silence[:, -1] = 1, SILENT_ENERGY
    articulation = np.concatenate([articulation[: 2 * ticks], silence]).astype(np.float32)
    return articulation, 1 - articulation[:, PHONES.index("SIL")]


@torch.inference_mode()
def motion_codes(core, articulation, options, item="clip"):
    """Codes (T, 32) float32: sampled in windows that overlap and go over into each other; noise depends on the tick, not the window.

    articulation: (2 T, 43).
    options: with steps, guidance, variety and seed.
    item: name that the noise depends on beside the seed.
    Source: flow matching; windows that were told the codes before them drifted away within a minute, docs/log.md.
    """
    ticks = len(articulation) // 2
    sound = torch.from_numpy(articulation)[None]
    levels, adapter = flow_levels(options.steps), FlowAdapter(core)

    def make(window, _):
        start, stop = window.start, window.stop
        values = pack(torch.zeros(1, stop - start, CODE_WIDTH), sound[:, 2 * start : 2 * stop])
        motion = torch.full((1, stop - start), GENERATED)
        told = Known(values, motion, torch.full_like(motion, GIVEN))
        untold = Known(values, motion, torch.full_like(motion, ABSENT))
        noise = tick_noise(start, stop, (values.shape[-1],), options.seed, [item])
        noise[..., :BLINK] *= options.variety
        if options.guidance == 1.0:
            return sample(adapter, noise, levels, told, solver="ab2")
        return sample(adapter, noise, levels, [told], null=untold, guidance=Guidance((options.guidance,)), solver="ab2")

    windows = plan(ticks, WINDOW_TICKS, SHARED_TICKS)
    return torch.cat(list(stream_windows(windows, make, "blend")), 1)[0, :, :CODE_WIDTH].numpy()


def sped(track, speed):
    """A track (T, D) played at another speed, turning back at its ends."""
    last = len(track) - 1
    if speed == 1.0 or last < 1:
        return track
    at = np.arange(len(track)) * speed % (2 * last)
    return read_at(track, np.where(at > last, 2 * last - at, at))


def placed(head):
    """A head's track (T, 6) about its own place: slow drift and the tremble of landmarks that it was learned from are taken out. Source: ours."""
    return gaussian_filter1d(head, STEADY_TICKS, axis=0) - gaussian_filter1d(head, PLACE_TICKS, axis=0)


def calmed(track, active):
    """A track (T, D) that comes to rest in pauses: there it follows its own slow mean. active: (T,). Source: ours."""
    free = gaussian_filter1d(active, CALM_TICKS / 2)[:, None]
    return free * track + (1 - free) * gaussian_filter1d(track, CALM_TICKS, axis=0)


def perform(models, wave, ticks, options, planned=None):
    """The Motion of a recording under the options.

    models: (listener, core, MotionSpace).  wave: (S,) at 16 kHz.  ticks: of 25 Hz.
    planned: (T, 43) articulation at 50 Hz of a line that we spoke ourselves; None listens to the wave.
    Source: ours.
    """
    listener, core, space = models
    articulation, active = hear(listener, wave, ticks, options.gate) if planned is None else as_planned(planned, ticks)
    codes = motion_codes(core, articulation, options).copy()
    slow = active.reshape(ticks, 2).mean(1)
    codes[:, :BLINK] = mouthed(codes, articulation, space.lips[:BLINK].numpy(), options) * near_voice(slow)[:, None]
    codes[:, BLINK] = BLINK_SHUT * blinks(ticks, options.blink_rate, slow, options.seed)
    brows, head = codes[:, BLINK + 1 : EXPRESSION], sped(codes[:, EXPRESSION:], options.head_speed)
    raised, nods = gestures(articulation, slow, space.basis.numpy(), options.accents, options.seed)
    if options.settle:
        brows, head = calmed(brows, slow), calmed(head, slow)
    head = placed(head + nods) if options.settle else head + nods
    codes[:, BLINK + 1 : EXPRESSION] = brows + raised
    codes[:, EXPRESSION:] = head * options.pose_strength
    return Motion(codes.astype(np.float32), slow, articulation)


def near_voice(active):
    """How far the mouth may leave its rest, (T,) in [0, 1]: 1 while somebody speaks and a breath before and after, 0 in silence.

    active: (T,) voice activity at 25 Hz.
    Source: ours; lips part up to 0.2 s before their sound.
    """
    return gaussian_filter1d(widened(active, BEFORE_TICKS, AFTER_TICKS), SLOPE_TICKS).astype(np.float32)


def wish(codes, own, expression=1.0):
    """What the face shall be, (T, 26): codes (T, 32) of a performance on a face whose own code is own (26,).

    Mouth and jaw are absolute: a smile with teeth closes on a closed sound. Brows start from the portrait's own; lids stay,
    for a canvas lowers them (lipsync/lids.py).
    expression: 0 leaves the face as it is, 1 as learned, more exaggerates.
    Source: ours.
    """
    out = codes[:, :EXPRESSION].copy()
    out[:, :BLINK] = codes[:, :BLINK] * expression + own[:BLINK] * max(0.0, 1 - expression)
    out[:, BLINK] = own[BLINK]
    out[:, BLINK + 1 :] = own[BLINK + 1 :] + codes[:, BLINK + 1 : EXPRESSION] * expression
    return out
