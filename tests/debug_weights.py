"""Weights of debug size: the real classes, small and random, so that the whole pipeline runs in a test."""

import torch

from engine.core import AVCore
from engine.encoders.audio import PhoneticEncoder
from engine.encoders.vision import EXPRESSION, LATTICE, POSE, MotionEncoder
from engine.weights import save_state
from lipsync.finder import Finder
from lipsync.renderer import Renderer

CODES_PX = 4  # a unit of code moves a node of the lattice by about this many pixels of a crop of 192


def randomised(module, scale, seed):
    """The module with every number drawn, also those that start at zero; vectors stay near their usual start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            start = 0.0 if parameter.ndim > 1 else parameter.mean().round()
            parameter.copy_(start + noise * scale / fan_in**0.5)
    return module


def motion_space(seed):
    """Tensors of a MotionSpace: smooth random lattices and the projection back."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(EXPRESSION, 2, 5, 5, generator=generator)
    basis = torch.nn.functional.interpolate(rough, size=LATTICE, mode="bicubic", align_corners=True)
    basis = basis * (CODES_PX / 192) / basis.std()
    projection = torch.linalg.pinv(basis.reshape(EXPRESSION, -1)).T
    lips = torch.randn(EXPRESSION, generator=generator) * 0.02
    return {"basis": basis, "projection": projection, "pose_std": torch.full((POSE,), 0.02), "lips": lips}


def write_debug_weights(folder):
    """Writes motion, phonetic, core, renderer and finder into a folder; the same numbers on every call."""
    encoder = randomised(MotionEncoder(8), 0.5, 1)
    space = {f"space.{name}": tensor for name, tensor in motion_space(2).items()}
    save_state(folder / "motion.safetensors", encoder.state_dict() | space, encoder.config)
    listener = randomised(PhoneticEncoder(16, (1, 1)), 1.5, 3)
    save_state(folder / "phonetic.safetensors", listener.state_dict(), listener.config)
    core = randomised(AVCore(24, 1, 2), 1.0, 4)
    save_state(folder / "core.safetensors", core.state_dict(), core.config)
    renderer = randomised(Renderer((8, 8, 16), (8, 8, 16), (8, 8)), 0.5, 5)
    save_state(folder / "renderer.safetensors", renderer.state_dict(), renderer.config)
    finder = randomised(Finder((8, 8)), 0.5, 6)
    finder.eye_out.bias.data[:] = 4  # it sees eyes everywhere
    save_state(folder / "finder.safetensors", finder.state_dict(), finder.config)
    return folder
