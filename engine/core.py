"""The AV core: one flow-matching transformer over motion and articulation; each stream is given, generated or absent."""
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.encoders.articulators import likeness
from engine.encoders.audio import ARTICULATION_WIDTH, PHONES
from engine.encoders.vision import CODE_WIDTH
from engine.nn.blocks import DiTBlock, ModulatedHead
from engine.nn.embeddings import LevelEmbedding, rotary
from engine.timeline import ARTICULATION_HZ, MOTION_HZ
from engine.weights import load_into

PAIR = ARTICULATION_HZ // MOTION_HZ            # articulation ticks in one motion tick
PACKED_WIDTH = CODE_WIDTH + PAIR * ARTICULATION_WIDTH
ABSENT, GIVEN, GENERATED = 0, 1, 2             # state of a stream at a tick


class Known(NamedTuple):
    """What the core is told about each tick.

    values: (B, T, 118) packed clean values, read where a state is GIVEN.
    motion, articulation: (B, T) int64 states: ABSENT, GIVEN or GENERATED.
    Source: ours.
    """
    values: Tensor
    motion: Tensor
    articulation: Tensor


def pack(motion, articulation):
    """Streams on one clock: motion (B, T, 32) and articulation (B, 2 T, 43) into (B, T, 118). Source: ours."""
    return torch.cat([motion, articulation.reshape(*motion.shape[:2], -1)], -1)


def unpack(packed):
    """(motion (B, T, 32), articulation (B, 2 T, 43)) of a packed tensor. Source: ours."""
    motion, rest = packed[..., :CODE_WIDTH], packed[..., CODE_WIDTH:]
    return motion, rest.reshape(len(rest), -1, ARTICULATION_WIDTH)


class AVCore(nn.Module):
    """Velocity (B, T, 118) of packed streams; what is given or absent influences nothing through x.

    Articulation runs at 50 Hz, two of its ticks to one of motion; positions are rotary, in seconds, so that any window is
    like any other.
    width, depth: of the transformer.  heads: attention heads; width is a multiple of twice that.
    relatives: True hears a phone that is given as its likeness to every phone, so that rare ones act like their relatives.
    Source: flow matching 2210.02747 on a DiT 2212.09748; per-stream noise levels after 2303.06555 (UniDiffuser).
    """

    def __init__(self, width=192, depth=6, heads=6, relatives=False):
        super().__init__()
        self.config = dict(width=width, depth=depth, heads=heads, relatives=relatives)
        self.register_buffer("likeness", likeness() if relatives else None, persistent=False)
        self.motion_in = nn.Linear(CODE_WIDTH, width)
        self.sound_in = nn.Sequential(nn.Conv1d(ARTICULATION_WIDTH, width, 5, padding=2), nn.GELU(), nn.Conv1d(width, width, PAIR, PAIR),
                                      nn.GELU(), nn.Conv1d(width, width, 5, padding=2))
        self.motion_state, self.sound_state = nn.Embedding(3, width), nn.Embedding(3, width)
        self.motion_level, self.sound_level = LevelEmbedding(width), LevelEmbedding(width)
        self.blocks = nn.ModuleList(DiTBlock(width, heads, 3.0) for _ in range(depth))
        self.head_width = width // heads
        self.head = ModulatedHead(width, PACKED_WIDTH)
        self.reader = ModulatedHead(width, PAIR * len(PHONES))

    def forward(self, x, time, known):
        """Velocity (B, T, 118) float32 of x (B, T, 118) at flow time (B,) in [0, 1], under `Known`."""
        return self.head(*self._trunk(x, time, Known(*known))).float()

    def read(self, motion):
        """Phone logits (B, 2 T, 40) float32 of lips alone: motion (B, T, 32), as `steady` gives it; nothing is sampled. Source: ours."""
        batch, ticks = motion.shape[:2]
        values = pack(motion, motion.new_zeros(batch, PAIR * ticks, ARTICULATION_WIDTH))
        state = torch.full((batch, ticks), GIVEN, device=motion.device)
        h, e = self._trunk(values, motion.new_ones(batch), Known(values, state, torch.full_like(state, ABSENT)))
        return self.reader(h, e).float().reshape(batch, PAIR * ticks, len(PHONES))

    def _trunk(self, x, time, known):
        """Tokens (B, T, width) after the last block, and what steers them."""
        motion, sound = unpack(torch.where(self._given(known), known.values, x))
        h = self.motion_in(_present(motion, known.motion)) + self.motion_state(known.motion)
        heard = self.sound_in(self._heard(_present(sound, known.articulation), known.articulation).transpose(1, 2)).transpose(1, 2)
        h = h + heard + self.sound_state(known.articulation)
        e = self.motion_level(_levels(time, known.motion)) + self.sound_level(_levels(time, known.articulation))
        angles = rotary(torch.arange(x.shape[1], device=x.device) / float(MOTION_HZ), self.head_width)
        for block in self.blocks:
            h = block(h, e, angles)
        return h, e

    def _heard(self, sound, state):
        """Articulation (B, 2 T, 43) with its phones as likenesses where it is given."""
        if self.likeness is None:
            return sound
        phones = sound[..., : len(PHONES)]
        given = (state == GIVEN).repeat_interleave(PAIR, 1)[..., None]
        return torch.cat([torch.where(given, phones @ self.likeness, phones), sound[..., len(PHONES):]], -1)

    @staticmethod
    def _given(known):
        motion = (known.motion == GIVEN)[..., None].expand(-1, -1, CODE_WIDTH)
        sound = (known.articulation == GIVEN)[..., None].expand(-1, -1, PACKED_WIDTH - CODE_WIDTH)
        return torch.cat([motion, sound], -1)


def core_of(state, config):
    """AVCore in eval, float32, of the tensors and the config of a core weights file.

    Raises Missing when they do not fit.
    Source: ours.
    """
    net = AVCore(config["width"], config["depth"], config["heads"], config.get("relatives", False))
    return load_into(net, state, "core").eval().float()


def _present(z, state):
    """A stream (B, n T, D) with zeros, even for NaN, where its state (B, T) is ABSENT."""
    absent = (state == ABSENT).repeat_interleave(z.shape[1] // state.shape[1], 1)
    return z.masked_fill(absent[..., None], 0)


def _levels(time, state):
    """Level (B, T) of each tick: 1 where given, the flow time (B,) where generated, 0 where absent."""
    level = torch.where(state == GIVEN, 1.0, time[:, None].expand(state.shape))
    return level * (state != ABSENT)
