"""Weights from public files or our own: read without running code, checked name by name, loaded strictly."""

import torch

from engine.weights import load_into
from lipsync.echomimic.blocks import place_table

TABLE = ".pos_encoder.pe"


def filled(network, shape, state, name):
    """A network with the tensors of a state dict; every name and size must fit, position tables may be absent.

    network: class taking a Shape.  shape: Shape.
    state: dict of tensors.  name: what to call them in the error.
    Raises Missing with the first five that do not fit.
    Source: ours.
    """
    with torch.device("meta"):
        empty = network(shape)
    missing = [key for key in empty.state_dict() if key.endswith(TABLE) and key not in state]
    sizes = empty.state_dict()
    tables = {key: place_table(sizes[key].shape[2], sizes[key].shape[1]) for key in missing}
    module = empty.to_empty(device="cpu")
    return load_into(module, state | tables, name)
