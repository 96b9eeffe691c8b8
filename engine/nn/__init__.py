"""Parts that networks in every room are built from: attention, embeddings, norms and blocks."""

from engine.nn.attention import Attention
from engine.nn.blocks import DiTBlock, MixBlock, ModulatedHead
from engine.nn.embeddings import LevelEmbedding, Rotary, apply_rotary, rotary, sinusoidal
from engine.nn.norms import Modulation, modulate

__all__ = [
    "Attention",
    "DiTBlock",
    "LevelEmbedding",
    "MixBlock",
    "ModulatedHead",
    "Modulation",
    "Rotary",
    "apply_rotary",
    "modulate",
    "rotary",
    "sinusoidal",
]
