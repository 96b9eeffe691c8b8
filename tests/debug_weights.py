"""Weights of debug size: the real classes, small and random, so that the whole pipeline runs in a test."""

import torch

from mouthpiece.engine.core import AVCore
from mouthpiece.engine.encoders.motion import EXPRESSION_WIDTH, LATTICE_NODES, POSE_WIDTH, MotionEncoder
from mouthpiece.engine.encoders.phonetic import PhoneticEncoder
from mouthpiece.engine.weights.loading import save_state
from mouthpiece.lipsync.portrait.opening_segmenter import OpeningSegmenter
from mouthpiece.lipsync.portrait.renderer import Renderer

CODES_PX = 4  # a unit of code moves a node of the lattice by about this many pixels of a crop of 192


def randomize(module, scale, seed):
    """The module with every number drawn, also those that start at zero; vectors stay near their usual start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            start = 0.0 if parameter.ndim > 1 else parameter.mean().round()
            parameter.copy_(start + noise * scale / fan_in**0.5)
    return module


def make_motion_space(seed):
    """Tensors of a MotionSpace: smooth random lattices and the projection back."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(EXPRESSION_WIDTH, 2, 5, 5, generator=generator)
    basis = torch.nn.functional.interpolate(rough, size=LATTICE_NODES, mode="bicubic", align_corners=True)
    basis = basis * (CODES_PX / 192) / basis.std()
    projection = torch.linalg.pinv(basis.reshape(EXPRESSION_WIDTH, -1)).T
    lips = torch.randn(EXPRESSION_WIDTH, generator=generator) * 0.02
    return {"basis": basis, "projection": projection, "pose_std": torch.full((POSE_WIDTH,), 0.02), "lips": lips}


def write_debug_weights(folder):
    """Writes motion, phonetic, core, renderer and finder into a folder; the same numbers on every call."""
    encoder = randomize(MotionEncoder(8), 0.5, 1)
    space = {f"space.{name}": tensor for name, tensor in make_motion_space(2).items()}
    save_state(folder / "motion.safetensors", encoder.state_dict() | space, encoder.config)
    listener = randomize(PhoneticEncoder(16, (1, 1)), 1.5, 3)
    save_state(folder / "phonetic.safetensors", listener.state_dict(), listener.config)
    core = randomize(AVCore(24, 1, 2), 1.0, 4)
    save_state(folder / "core.safetensors", core.state_dict(), core.config)
    renderer = randomize(Renderer((8, 8, 16), (8, 8, 16), (8, 8)), 0.5, 5)
    save_state(folder / "renderer.safetensors", renderer.state_dict(), renderer.config)
    finder = randomize(OpeningSegmenter((8, 8)), 0.5, 6)
    finder.eye_out.bias.data[:] = 4  # it sees eyes everywhere
    save_state(folder / "finder.safetensors", finder.state_dict(), finder.config)
    return folder
