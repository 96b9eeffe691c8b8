"""Define the layers that networks are built from: attention, embeddings, norms and blocks."""

from mouthpiece.engine.nn.attention import Attention
from mouthpiece.engine.nn.blocks import DiTBlock, MixBlock, ModulatedHead
from mouthpiece.engine.nn.embeddings import LevelEmbedding, Rotary, apply_rotary, embed_sinusoidal, make_rotary
from mouthpiece.engine.nn.norms import Modulation, modulate

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
    "make_rotary",
    "embed_sinusoidal",
]
