"""Sound into motion: articulation, voice activity, the AV core over windows, blinks and head, on the 25 Hz clock."""
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, AVCore, Known, pack
from engine.encoders.audio import PHONES, PhoneticEncoder, listen
from engine.encoders.vision import BLINK, EXPRESSION
from engine.sampling import FlowAdapter, Guidance, flow_levels, plan, sample, stream_windows, tick_noise
from engine.timeline import MOTION_HZ
from engine.weights import load_into, load_state
from lipsync.activity import speech_activity

WINDOW_TICKS, CARRY_TICKS = 75, 25     # 3 s windows, each told the last second of the one before
VOICE_REACH_TICKS = 4                  # 0.16 s
BLINK_SHUT = 2.0                       # code of a shut eye
BLINK_SHAPE = np.array([0.25, 0.8, 1.0, 0.85, 0.5, 0.22, 0.08])   # 40 ms ticks: fast down, slow up; mean of the blinks in GRID
BLINK_APART_TICKS = 15                 # 0.6 s
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
    state, config = load_state("core")
    return load_into(AVCore(config["width"], config["depth"], config["heads"]), state, "core").eval().float()


def gated(articulation, active):
    """Articulation (T, 43) where silence, by voice activity (T,) at 50 Hz, is really silent: phone SIL, unvoiced, no energy."""
    silence = np.zeros(articulation.shape[1], np.float32)
    silence[PHONES.index("SIL")], silence[-1] = 1, SILENT_ENERGY
    return articulation * active[:, None] + silence * (1 - active[:, None])


def fitted(track, length):
    """A track (T, ...) cut, or continued by its last value, to a length. Source: ours."""
    return np.concatenate([track[:length], np.repeat(track[-1:], max(0, length - len(track)), 0)])


def hear(listener, wave, ticks, gate=True):
    """(articulation (2 ticks, 43), active (2 ticks,)) of a wave (S,) at 16 kHz, padded or cut to the motion clock."""
    articulation = listen(listener, wave).values
    active = speech_activity(wave).astype(np.float32) if gate else np.ones(len(articulation), np.float32)
    articulation, active = fitted(articulation, 2 * ticks), fitted(active, 2 * ticks)
    return gated(articulation, active), active


def as_planned(articulation, ticks):
    """(articulation (2 ticks, 43), active (2 ticks,)) of a planned line (T, 43), followed by silence. Source: ours."""
    silence = np.zeros((max(0, 2 * ticks - len(articulation)), articulation.shape[1]), np.float32)
    silence[:, PHONES.index("SIL")], silence[:, -1] = 1, SILENT_ENERGY
    articulation = np.concatenate([articulation[: 2 * ticks], silence]).astype(np.float32)
    return articulation, 1 - articulation[:, PHONES.index("SIL")]


@torch.inference_mode()
def motion_codes(core, articulation, options, item="clip"):
    """Codes (T, 32) float32: sampled in windows, each continuing the one before; noise depends on the tick, not the window.

    articulation: (2 T, 43).
    options: with steps, guidance, variety and seed.
    item: name that the noise depends on beside the seed.
    Source: flow matching; carried ticks are given to the core clean, as it was trained.
    """
    ticks = len(articulation) // 2
    sound = torch.from_numpy(articulation)[None]
    windows = plan(ticks, WINDOW_TICKS, CARRY_TICKS)
    levels, adapter = flow_levels(options.steps), FlowAdapter(core)

    def make(window, carried):
        start, stop = window.start, window.stop
        values = pack(torch.zeros(1, stop - start, CODE_WIDTH), sound[:, 2 * start : 2 * stop])
        motion = torch.full((1, stop - start), GENERATED)
        if carried is not None:
            kept = carried.shape[1]
            values[:, :kept, :CODE_WIDTH], motion[:, :kept] = carried[..., :CODE_WIDTH], GIVEN
        told = Known(values, motion, torch.full_like(motion, GIVEN))
        untold = Known(values, motion, torch.full_like(motion, ABSENT))
        noise = tick_noise(start, stop, (values.shape[-1],), options.seed, [item])
        noise[..., :BLINK] *= options.variety
        if options.guidance == 1.0:
            out = sample(adapter, noise, levels, told, solver="ab2")
        else:
            out = sample(adapter, noise, levels, [told], null=untold, guidance=Guidance((options.guidance,)), solver="ab2")
        if carried is not None:
            out[:, :kept, :CODE_WIDTH] = carried[..., :CODE_WIDTH]
        return out

    return torch.cat(list(stream_windows(windows, make, "carry")), 1)[0, :, :CODE_WIDTH].numpy()


def blinks(ticks, rate_per_minute, active, seed):
    """Eyelids (ticks,) in [0, 1]: blinks at a mean rate, never within 0.6 s of each other, likelier where speech pauses.

    rate_per_minute: 0 keeps the eyes open.  active: (ticks,) voice activity.
    Source: ours; blinks fall into pauses (Nakano and Kitazawa 2010), three times as often here.
    """
    rng = np.random.default_rng([seed, 0xB11])
    lids = np.zeros(ticks, np.float32)
    if rate_per_minute <= 0:
        return lids
    odds = np.where(active < 0.5, 3.0, 1.0)
    odds *= rate_per_minute / 60 / MOTION_HZ * ticks / odds.sum()
    odds /= np.maximum(1 - (BLINK_APART_TICKS - 1) * odds, 0.1)      # makes up for the ticks in which none may start
    last = -BLINK_APART_TICKS
    for t in np.nonzero(rng.random(ticks) < odds)[0]:
        if t - last >= BLINK_APART_TICKS:
            n = min(len(BLINK_SHAPE), ticks - t)
            lids[t : t + n] = BLINK_SHAPE[:n]
            last = t
    return lids


def sped(track, speed):
    """A track (T, D) played at another speed, turning back at its ends."""
    last = len(track) - 1
    if speed == 1.0 or last < 1:
        return track
    at = np.arange(len(track)) * speed % (2 * last)
    at = np.where(at > last, 2 * last - at, at)
    low = np.minimum(at.astype(int), last - 1)
    part = (at - low)[:, None]
    return track[low] * (1 - part) + track[low + 1] * part


def perform(models, wave, ticks, options, planned=None):
    """The Motion of a recording under the options.

    models: (listener, core).  wave: (S,) at 16 kHz.  ticks: of 25 Hz.
    planned: (T, 43) articulation at 50 Hz of a line that we spoke ourselves; None listens to the wave.
    Source: ours.
    """
    listener, core = models
    articulation, active = hear(listener, wave, ticks, options.gate) if planned is None else as_planned(planned, ticks)
    codes = motion_codes(core, articulation, options).copy()
    slow = active.reshape(ticks, 2).mean(1)
    codes[:, :BLINK] *= near_voice(slow)[:, None]
    codes[:, BLINK] = BLINK_SHUT * blinks(ticks, options.blink_rate, slow, options.seed)
    codes[:, EXPRESSION:] = sped(codes[:, EXPRESSION:], options.head_speed) * options.pose_strength
    return Motion(codes.astype(np.float32), slow, articulation)


def near_voice(active):
    """How far the mouth may leave its rest, (T,) in [0, 1]: 1 while somebody speaks and a breath before and after, 0 in silence.

    active: (T,) voice activity at 25 Hz.
    Source: ours; lips part up to 0.2 s before their sound.
    """
    return gaussian_filter1d(maximum_filter1d(active, 2 * VOICE_REACH_TICKS + 1), 1.5).astype(np.float32)


def wish(codes, own, expression=1.0):
    """What the face shall be, (T, 26): codes (T, 32) of a performance on a face whose own code is own (26,).

    Mouth and jaw are absolute: a smile with teeth closes on a closed sound. Lids and brows start from the portrait's own.
    expression: 0 leaves the face as it is, 1 as learned, more exaggerates.
    Source: ours.
    """
    out = codes[:, :EXPRESSION].copy()
    out[:, :BLINK] = codes[:, :BLINK] * expression + own[:BLINK] * max(0.0, 1 - expression)
    lids = codes[:, BLINK] / BLINK_SHUT
    out[:, BLINK] = own[BLINK] + (BLINK_SHUT - own[BLINK]) * lids
    out[:, BLINK + 1 :] = own[BLINK + 1 :] + codes[:, BLINK + 1 : EXPRESSION] * expression
    return out


def at_times(track, times_s, rate_hz=float(MOTION_HZ)):
    """A track (T, D) on the 25 Hz clock read at times (N,): tick k stands for the time k / 25, between ticks linear."""
    at = np.clip(np.asarray(times_s) * rate_hz, 0, len(track) - 1)
    low = np.minimum(at.astype(int), max(0, len(track) - 2))
    part = (at - low)[:, None].astype(np.float32)
    return track[low] * (1 - part) + track[np.minimum(low + 1, len(track) - 1)] * part
