"""MMAudio's flow network: latents at a flow time, conditioned on images and text, to their flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from mouthpiece.voice.mmaudio.blocks import (
    FinalLayer,
    FlowTimeEmbedding,
    GatedLayer,
    JointBlock,
    StreamBlock,
    TimeConv,
    compute_rotary_angles,
)
from mouthpiece.voice.mmaudio.sizes import SYNC_FEATURES

if TYPE_CHECKING:
    from mouthpiece.voice.mmaudio.sizes import NetworkSize

DROPPED_KEYS = ("t_embed.freqs", "latent_rot", "clip_rot")  # tables that older files carry; computed here


def compute_sync_index(latents: int, features: int, device: torch.device | None = None) -> torch.Tensor:
    """Compute which sync feature each latent reads, (latents,) int64: nearest-exact in float32, with its ties.

    latents, features: counts.
    Source: MMAudio; float64 breaks ties otherwise, one frame off.
    """
    scale = torch.tensor(features, dtype=torch.float32) / torch.tensor(latents, dtype=torch.float32)
    places = (torch.arange(latents, dtype=torch.float32) + 0.5) * scale
    return places.floor().long().clamp(max=features - 1).to(device)


class FlowNetwork(nn.Module):
    """The flow network of v1 and v2; parameter names are those of the published files.

    Conditions are computed once by `compute_conditions` and shared by all steps and takes; `forward` gives the flow.
    Source: MMAudio, 2412.15322 section 3; details as in docs/models/mmaudio.md.
    """

    size: NetworkSize
    latent_mean: nn.Parameter
    latent_std: nn.Parameter
    empty_string_feat: nn.Parameter
    empty_clip_feat: nn.Parameter
    empty_sync_feat: nn.Parameter
    t_embed: FlowTimeEmbedding

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.size = size
        width, inner, between = size.hidden_dim, size.inner_dim, nn.SiLU if size.v2 else nn.SELU
        linear_between = [nn.SiLU()] if size.v2 else []
        self.audio_input_proj = nn.Sequential(
            TimeConv(size.latent_dim, width, 7), between(), GatedLayer(width, inner, 7)
        )
        self.sync_input_proj = nn.Sequential(TimeConv(size.sync_dim, width, 7), between(), GatedLayer(width, inner, 3))
        self.clip_input_proj = nn.Sequential(
            nn.Linear(size.clip_dim, width), *linear_between, GatedLayer(width, inner, 3)
        )
        self.text_input_proj = nn.Sequential(nn.Linear(size.text_dim, width), *linear_between, GatedLayer(width, inner))
        self.clip_cond_proj, self.text_cond_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.global_cond_mlp = GatedLayer(width, inner)
        self.sync_pos_emb = nn.Parameter(torch.zeros(1, 1, SYNC_FEATURES, size.sync_dim))
        self.t_embed = FlowTimeEmbedding(width, width if size.v2 else 256, 10000.0 if size.v2 else 1.0)
        joint = size.depth - size.fused_depth
        self.joint_blocks = nn.ModuleList(
            JointBlock(width, size.num_heads, inner, i == joint - 1) for i in range(joint)
        )
        self.fused_blocks = nn.ModuleList(StreamBlock(width, size.num_heads, inner, 3) for _ in range(size.fused_depth))
        self.final_layer = FinalLayer(width, size.latent_dim)
        self.latent_mean = nn.Parameter(torch.zeros(1, 1, size.latent_dim), requires_grad=False)
        self.latent_std = nn.Parameter(torch.ones(1, 1, size.latent_dim), requires_grad=False)
        self.empty_string_feat = nn.Parameter(torch.zeros(size.text_seq_len, size.text_dim), requires_grad=False)
        self.empty_clip_feat = nn.Parameter(torch.zeros(1, size.clip_dim))
        self.empty_sync_feat = nn.Parameter(torch.zeros(1, size.sync_dim))

    def compute_conditions(
        self, clip: torch.Tensor, sync: torch.Tensor, text: torch.Tensor, latents: int
    ) -> dict[str, torch.Tensor]:
        """Compute the conditions that `forward` takes: everything that no step and no take changes.

        clip: (B, images, clip_dim), rows of unit norm.  sync: (B, features, sync_dim), features a multiple of 8.
        text: (B, text_seq_len, text_dim), rows of unit norm.  latents: how many there will be.
        Source: MMAudio.
        """
        clip, sync, text = (features.to(self.clip_cond_proj.weight.dtype) for features in (clip, sync, text))
        placed = (sync.unflatten(1, (-1, SYNC_FEATURES)) + self.sync_pos_emb).flatten(1, 2)
        sync = self.sync_input_proj(placed)[:, compute_sync_index(latents, sync.shape[1], sync.device)]
        clip, text = self.clip_input_proj(clip), self.text_input_proj(text)
        clip_mean, text_mean = self.clip_cond_proj(clip.mean(1)), self.text_cond_proj(text.mean(1))
        return {"clip": clip, "sync": sync, "text": text, "clip_mean": clip_mean, "text_mean": text_mean}

    def empty(self, batch: int, pictures: int, features: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Get the (clip, sync, text) of no condition: learned rows, and the stored empty string. Source: MMAudio."""
        clip = self.empty_clip_feat.expand(batch, pictures, -1)
        sync = self.empty_sync_feat.expand(batch, features, -1)
        return clip, sync, self.empty_string_feat.expand(batch, -1, -1)

    def forward(self, x: torch.Tensor, time: torch.Tensor, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
        """Compute the flow, (B, N, latent_dim), data minus noise.

        x: (B, N, latent_dim), standardised latents.  time: (B,), 0 noise to 1 data.
        conditions: from `compute_conditions`.
        Source: MMAudio.
        """
        heavy = conditions["clip"].dtype
        pooled = self.global_cond_mlp(conditions["clip_mean"] + conditions["text_mean"])
        shared = (self.t_embed(time) + pooled).to(heavy)[:, None]
        each = shared + conditions["sync"]
        streams = (self.audio_input_proj(x.to(heavy)), conditions["clip"], conditions["text"])
        angles = self.angles(x.shape[1], streams[1].shape[1], x.device)
        for block in self.joint_blocks:
            streams = block(streams, each, shared, angles)
        latent = streams[0]
        for block in self.fused_blocks:
            latent = block(latent, each, angles[0])
        return self.final_layer(latent, shared)

    def angles(
        self, latents: int, pictures: int, device: torch.device | None = None
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Compute the rotary tables of latents and of images; an image turns as fast as the latents at its time."""
        head_dim = self.size.hidden_dim // self.size.num_heads
        return (
            compute_rotary_angles(latents, head_dim, device=device),
            compute_rotary_angles(pictures, head_dim, latents / pictures, device),
        )

    def standardize(self, latents: torch.Tensor) -> torch.Tensor:
        """Standardize latents of the VAE (B, N, latent_dim). Source: MMAudio."""
        return (latents - self.latent_mean) / self.latent_std

    def unstandardize(self, x: torch.Tensor) -> torch.Tensor:
        """Undo `standardize`. Source: MMAudio."""
        return x * self.latent_std + self.latent_mean
