"""Weights that ship with the package: looked up in a manifest, verified, loaded strictly."""

import json
import os
import tomllib
from contextlib import contextmanager
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine.cache import digest_of
from engine.errors import Missing, MouthpieceError
from engine.files import replacing

FOLDER_VARIABLE = "MOUTHPIECE_WEIGHTS_DIR"
_REINSTALL = "Install mouthpiece again, or set MOUTHPIECE_WEIGHTS_DIR to a folder that holds the file."
_LARGEST_HALF = 65504.0
_hashes = {}  # (name, path) -> SHA-256 of what this job has used


@cache
def manifest():
    """What ships with the package: name -> dict with file, sha256, bytes, licence, source, description.

    Source: configs/weights.toml.
    """
    return tomllib.loads((resources.files("configs") / "weights.toml").read_text(encoding="utf-8"))


def embedded_path(name):
    """Where the weights called `name` lie: in the package, or in MOUTHPIECE_WEIGHTS_DIR when that is set.

    name: name in the manifest.
    Raises Missing when there is no such name or file.
    Source: ours.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        path = Path(folder) / f"{name}.safetensors"
    elif name in manifest():
        path = Path(__file__).parent.parent / manifest()[name]["file"]
    else:
        known = ", ".join(sorted(manifest())) or "none"
        raise Missing(f"weights '{name}': not in the manifest (it has: {known}).", hint=_REINSTALL, code="no_weights")
    if not path.is_file():
        raise Missing(f"weights '{name}': {path} is not there.", hint=_REINSTALL, code="no_weights")
    return path


def load_state(name):
    """The tensors and the config of the weights called `name`: (dict of tensors on the CPU, dict).

    name: name in the manifest.
    Raises Missing when the file is not there, is broken, or differs from the manifest's SHA-256.
    Source: ours.
    """
    path = embedded_path(name)
    _verify(name, path)
    return read_state(path, name)


def read_state(path, name):
    """The tensors and the config of a weights file anywhere: (dict of tensors on the CPU, dict).

    path: str or Path of a safetensors file.
    name: what to call the weights in the error.
    Raises Missing when the file is not there or is broken.
    Source: ours.
    """
    if not Path(path).is_file():
        raise Missing(f"weights '{name}': {path} is not there.", hint=_REINSTALL, code="no_weights")
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, config
    except (SafetensorError, ValueError) as error:
        raise Missing(f"weights '{name}': {path} is broken ({error}).", hint=_REINSTALL, code="bad_weights") from error


def _verify(name, path):
    """Read once a process and file; weights from the user's own folder are recorded, not compared."""
    found = digest_of(path)
    wanted = None if os.environ.get(FOLDER_VARIABLE) else manifest()[name]["sha256"]
    if wanted is not None and found != wanted:
        raise Missing(
            f"weights '{name}': {path} is not the file that was shipped (SHA-256 {found[:12]}, need {wanted[:12]}).",
            hint=_REINSTALL,
            code="bad_weights",
        )
    record(name, path, found)


def record(name, path, digest):
    """Notes weights that another loader has verified, so that side-cars name them.

    name: what to call them.  path: of the file.  digest: its SHA-256, 64 hex digits.
    Source: ours.
    """
    _hashes[name, str(path)] = digest


def record_packaged(module, files):
    """Notes nets of others that lie in an installed package, as "package version file"; what is not there is passed over.

    module: name of the package's module, such as "mediapipe".  files: paths in it, with / between folders.
    Source: ours.
    """
    spec = find_spec(module)
    folders = spec.submodule_search_locations if spec else ()
    for path in (Path(folder) / file for folder in folders for file in files):
        if path.is_file():
            record(f"{_named_version(module)} {path.name}", path, digest_of(path))


@cache
def _named_version(module):
    name = module.replace("_", "-")
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:       # a module that no package manager put there
        return name


def loaded():
    """What `hashes` is made from: a copy of {(name, path): SHA-256}. Source: ours."""
    return dict(_hashes)


def resume(entries):
    """Replaces what this job is said to have used, for the next side-car.

    entries: as `loaded` gives it.
    Source: ours.
    """
    _hashes.clear()
    _hashes.update(entries)


@contextmanager
def noted():
    """Gives a dict that has, once the block is left, what `loaded` gives of the block alone. Source: ours."""
    before, used = loaded(), {}
    resume({})
    try:
        yield used
    finally:
        used.update(loaded())
        resume(before | used)


def hashes():
    """SHA-256 of the weights this job has used: name -> 64 hex digits. For side-cars.

    Source: ours.
    """
    return {name: digest for (name, _), digest in _hashes.items()}


def name_again(names):
    """Notes weights by which an earlier run made what this job takes over; those of this job's own stay as they are.

    names: dict, name -> SHA-256, as `hashes` gave it then.
    Source: ours.
    """
    for name, digest in names.items():
        if name not in hashes():
            record(name, "", digest)


def load_into(module, state, name):
    """Copies tensors into a module; every key and every shape must fit.

    module: torch Module, wherever and in whatever dtype the caller put it.
    state: dict of tensors, as load_state gives it.
    name: what to call the weights in the error.
    Returns the module. Raises Missing with the first five differences.
    Source: ours.
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
        raise Missing(
            f"weights '{name}' do not fit {type(module).__name__}: {'; '.join(wrong[:5])}{more}.",
            hint="Code and weights are of different versions. " + _REINSTALL,
            code="bad_weights",
        )
    module.load_state_dict(state, strict=True)
    return module


def save_state(path, tensors, config):
    """Writes tensors as half precision safetensors with the config in the header.

    path: str or Path; an older file is replaced.
    tensors: dict of tensors; floating ones become float16, others stay.
    config: JSON-ready dict, what the class needs to be built again.
    Raises MouthpieceError for values that half precision cannot hold, WriteFailed for the disk.
    Source: ours.
    """
    halves = {}
    for key, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point():
            if not (tensor.abs() <= _LARGEST_HALF).all():  # also False for NaN
                raise MouthpieceError(
                    f"{key}: values beyond {_LARGEST_HALF:.0f} or no numbers; cannot be saved as half."
                )
            tensor = tensor.half()
        halves[key] = tensor.clone().contiguous()
    with replacing(path, overwrite=True) as part:
        save_file(halves, part, metadata={"config": json.dumps(config)})
