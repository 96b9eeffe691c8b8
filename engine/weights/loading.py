"""Weights that ship with the package: looked up in a manifest, verified, loaded strictly."""

from __future__ import annotations

import json
import os
import tomllib
from contextlib import contextmanager
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mouthpiece.engine.errors import MissingDependencyError, MouthpieceError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.weights.file_cache import get_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import torch

FOLDER_VARIABLE = "MOUTHPIECE_WEIGHTS_DIR"
_REINSTALL_HINT = "Install mouthpiece again, or set MOUTHPIECE_WEIGHTS_DIR to a folder that holds the file."
_MAX_HALF = 65504.0
_records = {}  # (name, path) -> SHA-256 of what this job has used


@cache
def load_weights_manifest() -> dict[str, dict[str, Any]]:
    """What ships with the package: name -> dict with file, sha256, bytes, licence, source, description.

    Source: configs/weights.toml.
    """
    return tomllib.loads((resources.files("mouthpiece.configs") / "weights.toml").read_text(encoding="utf-8"))


def get_embedded_path(name: str) -> Path:
    """Where the weights called `name` lie: in the package, or in MOUTHPIECE_WEIGHTS_DIR when that is set.

    name: name in the manifest.
    Raises Missing when there is no such name or file.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        path = Path(folder) / f"{name}.safetensors"
    elif name in load_weights_manifest():
        path = Path(__file__).parents[2] / load_weights_manifest()[name]["file"]
    else:
        known = ", ".join(sorted(load_weights_manifest())) or "none"
        raise MissingDependencyError(
            f"weights '{name}': not in the manifest (it has: {known}).", hint=_REINSTALL_HINT, code="no_weights"
        )
    if not path.is_file():
        raise MissingDependencyError(f"weights '{name}': {path} is not there.", hint=_REINSTALL_HINT, code="no_weights")
    return path


def load_state(name: str) -> tuple:
    """The tensors and the config of the weights called `name`: (dict of tensors on the CPU, dict).

    name: name in the manifest.
    Raises Missing when the file is not there, is broken, or differs from the manifest's SHA-256.
    """
    path = get_embedded_path(name)
    _verify_weights(name, path)
    return read_state(path, name)


def read_state(path: Path, name: str) -> tuple:
    """The tensors and the config of a weights file anywhere: (dict of tensors on the CPU, dict).

    path: str or Path of a safetensors file.
    name: what to call the weights in the error.
    Raises Missing when the file is not there or is broken.
    """
    if not Path(path).is_file():
        raise MissingDependencyError(f"weights '{name}': {path} is not there.", hint=_REINSTALL_HINT, code="no_weights")
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, config
    except (SafetensorError, ValueError) as error:
        raise MissingDependencyError(
            f"weights '{name}': {path} is broken ({error}).", hint=_REINSTALL_HINT, code="bad_weights"
        ) from error


def _verify_weights(name: str, path: Path) -> None:
    """Read once a process and file; weights from the user's own folder are recorded, not compared."""
    found = get_sha256(path)
    wanted = None if os.environ.get(FOLDER_VARIABLE) else load_weights_manifest()[name]["sha256"]
    if wanted is not None and found != wanted:
        raise MissingDependencyError(
            f"weights '{name}': {path} is not the file that was shipped (SHA-256 {found[:12]}, need {wanted[:12]}).",
            hint=_REINSTALL_HINT,
            code="bad_weights",
        )
    record_model(name, path, found)


def record_model(name: str, path: Path, digest: str) -> None:
    """Notes weights that another loader has verified, so that side-cars name them.

    name: what to call them.  path: of the file.  digest: its SHA-256, 64 hex digits.
    """
    _records[name, str(path)] = digest


def record_packaged_model(module: str, files: tuple[str] | list[str]) -> None:
    """Notes nets of others that lie in an installed package, as "package version file"; what is not there is passed
    over.

    module: name of the package's module, such as "mediapipe".  files: paths in it, with / between folders.
    """
    spec = find_spec(module)
    folders = spec.submodule_search_locations if spec else ()
    for path in (Path(folder) / file for folder in folders for file in files):
        if path.is_file():
            record_model(f"{_get_package_version(module)} {path.name}", path, get_sha256(path))


@cache
def _get_package_version(module: str) -> str:
    name = module.replace("_", "-")
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:  # a module that no package manager put there
        return name


def get_records() -> dict[tuple[str, str], Any]:
    """What `hashes` is made from: a copy of {(name, path): SHA-256}."""
    return dict(_records)


def restore_records(entries: dict[tuple[str, str], Any]) -> None:
    """Replaces what this job is said to have used, for the next side-car.

    entries: as `loaded` gives it.
    """
    _records.clear()
    _records.update(entries)


@contextmanager
def record_models() -> Iterator[dict]:
    """Gives a dict that has, once the block is left, what `loaded` gives of the block alone."""
    before, used = get_records(), {}
    restore_records({})
    try:
        yield used
    finally:
        used.update(get_records())
        restore_records(before | used)


def get_model_hashes() -> dict[str, str]:
    """SHA-256 of the weights this job has used: name -> 64 hex digits. For side-cars."""
    return {name: digest for (name, _), digest in _records.items()}


def add_records(names: dict[str, str]) -> None:
    """Notes weights by which an earlier run made what this job takes over; those of this job's own stay as they are.

    names: dict, name -> SHA-256, as `hashes` gave it then.
    """
    for name, digest in names.items():
        if name not in get_model_hashes():
            record_model(name, "", digest)


def load_state_into(module, state: dict[str, torch.Tensor], name: str):
    """Copies tensors into a module; every key and every shape must fit.

    module: torch Module, wherever and in whatever dtype the caller put it.
    state: dict of tensors, as load_state gives it.
    name: what to call the weights in the error.
    Returns the module. Raises Missing with the first five differences.
    """
    own = module.state_dict()
    wrong = [f"{key} is missing" for key in own if key not in state]
    wrong += [f"{key} is not known" for key in state if key not in own]
    wrong += [
        f"{key} is {tuple(state[key].shape)}, need {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise MissingDependencyError(
            f"weights '{name}' do not fit {type(module).__name__}: {'; '.join(wrong[:5])}{more}.",
            hint="Code and weights are of different versions. " + _REINSTALL_HINT,
            code="bad_weights",
        )
    module.load_state_dict(state, strict=True)
    return module


def save_state(path: Path, tensors, config: dict[str, Any]) -> None:
    """Writes tensors as half precision safetensors with the config in the header.

    path: str or Path; an older file is replaced.
    tensors: dict of tensors; floating ones become float16, others stay.
    config: JSON-ready dict, what the class needs to be built again.
    Raises MouthpieceError for values that half precision cannot hold, WriteFailed for the disk.
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
