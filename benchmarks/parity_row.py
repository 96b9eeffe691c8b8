"""One line of a parity check: what was compared, how far off it is, how far it may be."""

from typing import NamedTuple

import torch


class ParityRow(NamedTuple):
    """name: of the tensor or fact.  error, tolerance: numbers, or tuples of them in the same order.  ok: within all."""

    name: str
    error: object
    tolerance: object
    ok: bool


def compare_tensor(name, mine, reference, tolerance):
    """The Row of a tensor: largest difference over the reference's rms, and relative L2; infinite for another shape.

    tolerance: {"max_over_rms": x, "rel_l2": y}.
    """
    limits = (tolerance["max_over_rms"], tolerance["rel_l2"])
    if mine is None or tuple(mine.shape) != tuple(reference.shape):
        return ParityRow(name, (float("inf"),) * 2, limits, False)
    reference = reference.double()
    difference = mine.detach().cpu().double() - reference
    rms = float(reference.pow(2).mean().sqrt())
    found = (float(difference.abs().max()) / rms, float(difference.norm() / reference.norm()))
    return ParityRow(name, found, limits, all(a <= b for a, b in zip(found, limits)))  # NaN is not within anything


def compare_facts(name, differences):
    """The Row of facts that must agree exactly. differences: how many do not."""
    return ParityRow(name, differences, 0, differences == 0)


def to_float32(tensor):
    """The tensor in float32, whatever it is stored in."""
    return tensor.to(torch.float32)
