"""Define the audio-visual core: one flow-matching transformer over motion and articulation.

Each stream is given, generated or absent at each tick, so that the same network speaks, moves lips and reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from mouthpiece.engine.contracts import ARTICULATION_WIDTH, PHONES
from mouthpiece.engine.encoders.articulatory_features import phone_similarity
from mouthpiece.engine.encoders.motion import CODE_WIDTH
from mouthpiece.engine.nn.blocks import DiTBlock, ModulatedHead
from mouthpiece.engine.nn.embeddings import LevelEmbedding, make_rotary
from mouthpiece.engine.timeline import ARTICULATION_HZ, MOTION_HZ
from mouthpiece.engine.weights.loading import load_state_into

if TYPE_CHECKING:
    from typing import Any

TICK_RATIO = ARTICULATION_HZ // MOTION_HZ  # articulation ticks in one motion tick
PACKED_WIDTH = CODE_WIDTH + TICK_RATIO * ARTICULATION_WIDTH  # numbers of a packed tick, 118
ABSENT = 0  # state of a stream at a tick: it plays no part
GIVEN = 1  # its clean values are known
GENERATED = 2  # it is sampled


class StreamConditions(NamedTuple):
    """Conditions of the core: the state of each stream at each tick, and the values that are given.

    values: (B, T, 118) packed clean values, read where a state is GIVEN.
    motion, articulation: (B, T) int64 states: ABSENT, GIVEN or GENERATED.
    """

    values: Tensor
    motion: Tensor
    articulation: Tensor


def pack_streams(motion: torch.Tensor, articulation: torch.Tensor) -> torch.Tensor:
    """Pack streams on one clock: motion (B, T, 32) and articulation (B, 2 T, 43) into (B, T, 118)."""
    return torch.cat([motion, articulation.reshape(*motion.shape[:2], -1)], -1)


def unpack_streams(packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unpack a packed tensor (B, T, 118): (motion (B, T, 32), articulation (B, 2 T, 43))."""
    motion, rest = packed[..., :CODE_WIDTH], packed[..., CODE_WIDTH:]
    return motion, rest.reshape(len(rest), -1, ARTICULATION_WIDTH)


class AVCore(nn.Module):
    """Predict the flow velocity (B, T, 118) of packed streams; what is given or absent influences nothing through x.

    Articulation runs at 50 Hz, two of its ticks to one of motion; positions are rotary, in seconds, so that all windows
    are alike.
    width, depth: of the transformer.  heads: attention heads; width is a multiple of twice that.
    relatives: True feeds a given phone as its similarity to every phone, so that rare ones act like related ones.
    Source: flow matching 2210.02747 on a DiT 2212.09748; per-stream noise levels after 2303.06555 (UniDiffuser).
    """

    phone_similarity: Tensor | None  # buffer (phones, phones); None without relatives

    def __init__(self, width: int = 192, depth: int = 6, heads: int = 6, relatives: bool = False) -> None:
        super().__init__()
        self.config = dict(width=width, depth=depth, heads=heads, relatives=relatives)
        self.register_buffer("phone_similarity", phone_similarity() if relatives else None, persistent=False)
        self.motion_in = nn.Linear(CODE_WIDTH, width)
        self.sound_in = nn.Sequential(
            nn.Conv1d(ARTICULATION_WIDTH, width, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(width, width, TICK_RATIO, TICK_RATIO),
            nn.GELU(),
            nn.Conv1d(width, width, 5, padding=2),
        )
        self.motion_state, self.sound_state = nn.Embedding(3, width), nn.Embedding(3, width)
        self.motion_level, self.sound_level = LevelEmbedding(width), LevelEmbedding(width)
        self.blocks = nn.ModuleList(DiTBlock(width, heads, 3.0) for _ in range(depth))
        self.head_width = width // heads
        self.head = ModulatedHead(width, PACKED_WIDTH)
        self.reader = ModulatedHead(width, TICK_RATIO * len(PHONES))

    def forward(self, x: torch.Tensor, time: torch.Tensor, known: StreamConditions) -> torch.Tensor:
        """Predict the velocity (B, T, 118) float32 of x (B, T, 118) at flow time (B,) in [0, 1], under conditions."""
        return self.head(*self._encode_tokens(x, time, StreamConditions(*known))).float()

    def read_phones(self, motion: torch.Tensor) -> torch.Tensor:
        """Read phone logits (B, 2 T, 40) float32 off motion (B, T, 32) alone, as `normalize_motion` gives it."""
        batch, ticks = motion.shape[:2]
        values = pack_streams(motion, motion.new_zeros(batch, TICK_RATIO * ticks, ARTICULATION_WIDTH))
        state = torch.full((batch, ticks), GIVEN, device=motion.device)
        h, e = self._encode_tokens(
            values, motion.new_ones(batch), StreamConditions(values, state, torch.full_like(state, ABSENT))
        )
        return self.reader(h, e).float().reshape(batch, TICK_RATIO * ticks, len(PHONES))

    def _encode_tokens(
        self, x: torch.Tensor, time: torch.Tensor, known: StreamConditions
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode tokens (B, T, width) up to the last block: (tokens, embedding of their noise levels)."""
        motion, sound = unpack_streams(torch.where(self._make_given_mask(known), known.values, x))
        h = self.motion_in(_zero_absent(motion, known.motion)) + self.motion_state(known.motion)
        sound = self._relate_phones(_zero_absent(sound, known.articulation), known.articulation)
        h = h + self.sound_in(sound.transpose(1, 2)).transpose(1, 2) + self.sound_state(known.articulation)
        e = self.motion_level(_compute_levels(time, known.motion)) + self.sound_level(
            _compute_levels(time, known.articulation)
        )
        angles = make_rotary(torch.arange(x.shape[1], device=x.device) / float(MOTION_HZ), self.head_width)
        for block in self.blocks:
            h = block(h, e, angles)
        return h, e

    def _relate_phones(self, sound: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Replace given phones of articulation (B, 2 T, 43) by their similarities to all phones."""
        if self.phone_similarity is None:
            return sound
        phones = sound[..., : len(PHONES)]
        given = (state == GIVEN).repeat_interleave(TICK_RATIO, 1)[..., None]
        return torch.cat([torch.where(given, phones @ self.phone_similarity, phones), sound[..., len(PHONES) :]], -1)

    @staticmethod
    def _make_given_mask(known: StreamConditions) -> torch.Tensor:
        """Make the mask (B, T, 118) of given values."""
        motion = (known.motion == GIVEN)[..., None].expand(-1, -1, CODE_WIDTH)
        sound = (known.articulation == GIVEN)[..., None].expand(-1, -1, PACKED_WIDTH - CODE_WIDTH)
        return torch.cat([motion, sound], -1)


def build_core(state: dict[str, torch.Tensor], config: dict[str, Any]) -> AVCore:
    """Build the core, in eval mode and float32, of the tensors and the config of its weights file.

    Raises MissingDependencyError when they do not fit.
    """
    net = AVCore(config["width"], config["depth"], config["heads"], config.get("relatives", False))
    return load_state_into(net, state, "core").eval().float()


def _zero_absent(z: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Zero a stream (B, n T, D), NaN too, where its state (B, T) is ABSENT."""
    absent = (state == ABSENT).repeat_interleave(z.shape[1] // state.shape[1], 1)
    return z.masked_fill(absent[..., None], 0)


def _compute_levels(time: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Compute the level (B, T) of each tick: 1 where given, the flow time (B,) where generated, 0 where absent."""
    level = torch.where(state == GIVEN, 1.0, time[:, None].expand(state.shape))
    return level * (state != ABSENT)
