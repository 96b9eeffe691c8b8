"""Weights as safetensors files: verified, read, loaded strictly into a network, saved in half precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mouthpiece.engine.errors import MissingDependencyError, MouthpieceError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.weights.digests import get_sha256
from mouthpiece.engine.weights.manifest import (
    REINSTALL_HINT,
    get_embedded_path,
    get_weights_folder,
    load_weights_manifest,
)
from mouthpiece.engine.weights.records import record_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import torch

Network = TypeVar("Network", bound="torch.nn.Module")
_MAX_HALF = 65504.0  # the largest number that half precision holds


def load_state(name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Load the tensors and the config of the weights called `name`: (dict of tensors on the CPU, dict).

    name: name in the manifest.
    Raises MissingDependencyError when the file is not there, is broken, or differs from the manifest's SHA-256.
    """
    path = get_embedded_path(name)
    _verify_weights(name, path)
    return read_state(path, name)


def read_state(path: Path | str, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors and the config of a weights file anywhere: (dict of tensors on the CPU, dict).

    path: of a safetensors file.
    name: what to call the weights in the error.
    Raises MissingDependencyError when the file is not there or is broken.
    """
    if not Path(path).is_file():
        raise MissingDependencyError(f"weights '{name}': {path} is not there.", hint=REINSTALL_HINT, code="no_weights")
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, config
    except (SafetensorError, ValueError) as error:
        raise MissingDependencyError(
            f"weights '{name}': {path} is broken ({error}).", hint=REINSTALL_HINT, code="bad_weights"
        ) from error


def _verify_weights(name: str, path: Path) -> None:
    """Check and record the digest; weights from the user's own folder are recorded, not compared."""
    found = get_sha256(path)
    expected = None if get_weights_folder() is not None else load_weights_manifest()[name]["sha256"]
    if expected is not None and found != expected:
        raise MissingDependencyError(
            f"weights '{name}': {path} is not the file that was shipped (SHA-256 {found[:12]}, need {expected[:12]}).",
            hint=REINSTALL_HINT,
            code="bad_weights",
        )
    record_model(name, path, found)


def describe_differences(
    state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], optional_suffix: str | None = None
) -> str:
    """Describe the first five keys and shapes in which tensors differ from those expected; "" where all fit.

    optional_suffix: ending of keys that may be missing.
    """
    needed = [key for key in expected if optional_suffix is None or not key.endswith(optional_suffix)]
    wrong = [f"{key} is missing" for key in needed if key not in state]
    wrong += [f"{key} is not known" for key in state if key not in expected]
    wrong += [
        f"{key} is {tuple(state[key].shape)}, need {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    return "; ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")


def load_state_into(module: Network, state: Mapping[str, torch.Tensor], name: str) -> Network:
    """Copy tensors into a module; every key and every shape must fit.

    module: torch Module on any device and in any dtype.
    state: dict of tensors, as load_state returns it.
    name: what to call the weights in the error.
    Returns the module.  Raises MissingDependencyError with the first five differences.
    """
    differences = describe_differences(state, module.state_dict())
    if differences:
        raise MissingDependencyError(
            f"weights '{name}' do not fit {type(module).__name__}: {differences}.",
            hint="Code and weights are of different versions. " + REINSTALL_HINT,
            code="bad_weights",
        )
    module.load_state_dict(state, strict=True)
    return module


def save_state(path: Path | str, tensors: Mapping[str, torch.Tensor], config: dict[str, Any]) -> None:
    """Write tensors as half-precision safetensors with the config in the header.

    path: an older file is replaced.
    tensors: dict of tensors; floating ones become float16, others stay.
    config: JSON-ready dict, what the class needs to be rebuilt.
    Raises MouthpieceError for values that half precision cannot hold, OutputError for the disk.
    """
    halves = {}
    for key, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point():
            if not (tensor.abs() <= _MAX_HALF).all():  # also False for NaN
                raise MouthpieceError(f"{key}: values beyond {_MAX_HALF:.0f} or no numbers; cannot be saved as half.")
            tensor = tensor.half()
        halves[key] = tensor.clone().contiguous()
    with atomic_write(path, overwrite=True) as part:
        save_file(halves, part, metadata={"config": json.dumps(config)})
