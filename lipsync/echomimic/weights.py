"""Weights of EchoMimic, published or trained here: read without running code, checked name by name, converted once,
loaded
strictly.
"""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, UsageError
from mouthpiece.engine.files import atomic_write, check_input_file, compute_sha256
from mouthpiece.engine.weights.download import get_model_folder
from mouthpiece.engine.weights.loading import describe_differences, load_state_into
from mouthpiece.lipsync.echomimic.audio_encoder import WhisperAudioEncoder
from mouthpiece.lipsync.echomimic.blocks import make_position_table
from mouthpiece.lipsync.echomimic.config import FULL_CONFIG, NetworkConfig, infer_config, read_config
from mouthpiece.lipsync.echomimic.networks import Denoiser, FaceLocator, ReferenceNet
from mouthpiece.lipsync.echomimic.vae import Vae, infer_vae_sizes, rename_legacy_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.progress import Progress

VARIANTS = ("echomimic", "echomimic-acc")
POSITION_TABLE_SUFFIX = ".pos_encoder.pe"
RECORD_FILE = "record.json"
CONVERTED_FOLDER = "converted"
PULL_HINT = "Run 'mouthpiece models pull {}'; it shows size and licence first."
LICENCES = {
    "networks": "Apache-2.0 (EchoMimic), fine-tuned from Stable Diffusion 1.5: "
    "its CreativeML OpenRAIL-M use restrictions may apply",
    "vae": "MIT (sd-vae-ft-mse)",
    "ears": "MIT (whisper tiny)",
}
# part -> (names that the file may have in the published folder, licence)
PUBLISHED = {
    "reference": (("reference_unet.pth",), "networks"),
    "locator": (("face_locator.pth",), "networks"),
    "denoising": (("denoising_unet.pth",), "networks"),
    "motion": (("motion_module.pth",), "networks"),
    "denoising-acc": (("denoising_unet_acc.pth",), "networks"),
    "motion-acc": (("motion_module_acc.pth",), "networks"),
    "vae": (("sd-vae-ft-mse/diffusion_pytorch_model.safetensors", "sd-vae-ft-mse/diffusion_pytorch_model.bin"), "vae"),
    "ears": (("audio_processor/whisper_tiny.pt", "audio_processor/tiny.pt"), "ears"),
}
COMMON_PARTS = ("reference", "locator", "vae", "ears")


def list_parts(variant: str) -> tuple[str, ...]:
    """List the names of the files that a variant is made of. Source: EchoMimic v1."""
    suffix = "-acc" if variant.endswith("-acc") else ""
    return (*COMMON_PARTS, f"denoising{suffix}", f"motion{suffix}")


Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class EchoMimicModels:
    """Hold the networks of a variant, in eval.

    shape: sizes of the networks.  hashes: part -> SHA-256 of its file.
    """

    reference: ReferenceNet
    locator: FaceLocator
    denoiser: Denoiser
    vae: Vae
    audio_encoder: WhisperAudioEncoder
    shape: NetworkConfig
    hashes: dict[str, str]


def build_network(
    network: Callable[[NetworkConfig], Network], shape: NetworkConfig, state: dict[str, torch.Tensor], name: str
) -> Network:
    """Build a network with the tensors of a state dict; all names and shapes must fit, position tables may be absent.

    network: class that takes sizes.  name: what the error calls it.
    Raises MissingDependencyError with the first five that do not fit.
    """
    with torch.device("meta"):
        empty = network(shape)
    sizes = empty.state_dict()
    missing = [key for key in sizes if key.endswith(POSITION_TABLE_SUFFIX) and key not in state]
    tables = {key: make_position_table(sizes[key].shape[2], sizes[key].shape[1]) for key in missing}
    module = empty.to_empty(device="cpu")
    for part in module.modules():
        reset_constants = getattr(part, "reset_constants", None)  # of what is computed, not stored
        if reset_constants is not None:
            reset_constants()
    return load_state_into(module, state | tables, name)


def get_weights_folder(variant: str, path: Path | None = None) -> Path:
    """Return where a variant's converted weights lie. path: a folder of one's own, or None for the cache."""
    return get_model_folder(variant) / CONVERTED_FOLDER if path is None else Path(path)


def locate_files(variant: str, folder: Path | None = None) -> dict[str, Path]:
    """Locate the files of a variant, part -> path; what both variants share may lie with the other.

    variant, folder: as for `load_models`.
    Raises MissingDependencyError with the command that gets them.
    """
    folders = [get_weights_folder(variant, folder)] + (
        [get_weights_folder(other) for other in VARIANTS] if folder is None else []
    )
    names = {part: f"{part}.safetensors" for part in list_parts(variant)}
    paths = {part: [place / name for place in folders if (place / name).is_file()] for part, name in names.items()}
    absent = [names[part] for part, candidates in paths.items() if not candidates]
    if absent:
        hint = (
            PULL_HINT.format(variant)
            if folder is None
            else "Give --weights a folder that 'models convert' or 'train' has written."
        )
        raise MissingDependencyError(
            f"{variant}: {', '.join(absent)} not in {folders[0]}.", hint=hint, code="no_weights"
        )
    return {part: candidates[0] for part, candidates in paths.items()}


def load_models(placement: Placement, variant: str = "echomimic", folder: Path | None = None) -> EchoMimicModels:
    """Load the networks of a variant, in the placement's precision on its device.

    variant: one of VARIANTS.
    folder: of converted or trained files; None: the cache that `mouthpiece models pull` fills.
    Raises MissingDependencyError for files that are missing, broken or changed, or do not fit.
    """
    name, paths = variant, locate_files(variant, folder)
    hashes = verify_hashes(paths)

    def place(net: Network) -> Network:
        return net.eval().to(placement.device, placement.dtype)

    def read(part: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return read_safetensors(paths[part])

    *_, first, second = paths
    denoising, config = read(first)
    state = merge_states(denoising, read(second)[0])
    locator_state = read("locator")[0]
    shape = read_config(config) if config else infer_config(state, locator_state)
    denoiser = place(build_network(Denoiser, shape, state, f"{name} denoising and motion"))
    del denoising, state  # gigabytes
    reference = place(build_network(ReferenceNet, shape, read("reference")[0], f"{name} reference"))
    locator = place(build_network(FaceLocator, shape, locator_state, f"{name} locator"))
    vae = place(build_vae(read("vae")[0]))
    state, config = read("ears")
    encoder = load_state_into(WhisperAudioEncoder(**config), state, f"{name} audio encoder").eval().float()
    return EchoMimicModels(reference, locator, denoiser, vae, encoder.to(placement.device), shape, hashes)


def build_vae(state: dict[str, torch.Tensor]) -> Vae:
    """Build a Vae with the tensors of a state dict. Raises MissingDependencyError with the first five that do
    not fit.
    """
    return load_state_into(Vae(infer_vae_sizes(state)), state, "vae")


def merge_states(denoising: dict[str, torch.Tensor], motion: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Merge the tensors of both files. Raises InvalidInputError for a name in both, which the original
    overlays silently.
    """
    shared = sorted(denoising.keys() & motion.keys())
    if shared:
        raise InvalidInputError(
            f"denoising and motion weights both hold {', '.join(shared[:5])}.", hint="Give the files as published."
        )
    return denoising | motion


def verify_hashes(paths: dict[str, Path]) -> dict[str, str]:
    """Compute the SHA-256 of each part's file and compare it with the record beside it, where there is one.

    Raises MissingDependencyError for a file that was changed since it was converted.
    """
    hashes = {}
    for part, path in paths.items():
        hashes[part] = compute_sha256(path)
        recorded = read_record(path.parent).get(part, {}).get("sha256", hashes[part])
        if hashes[part] != recorded:
            raise MissingDependencyError(
                f"{path} is not the file that was converted (SHA-256 {hashes[part][:12]}, need {recorded[:12]}).",
                hint="Run 'mouthpiece models convert echomimic' again.",
                code="bad_weights",
            )
    return hashes


def read_record(folder: Path) -> dict[str, dict[str, Any]]:
    """Read a folder's record, part -> facts; empty without one."""
    path = folder / RECORD_FILE
    return json.loads(path.read_text(encoding="utf-8"))["files"] if path.is_file() else {}


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors, on the CPU, and the config of a safetensors file. Raises MissingDependencyError when
    it is broken.
    """
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, config
    except (SafetensorError, ValueError) as error:
        raise MissingDependencyError(
            f"{path} is broken ({error}).", hint=PULL_HINT.format("echomimic"), code="bad_weights"
        ) from error


def read_published(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a published file, a pickle or safetensors; a pickle may hold tensors and plain values alone.

    Raises InvalidInputError for a file that is truncated or of another kind, and for a pickle that would run code.
    Source: torch.load(weights_only=True).
    """
    path = check_input_file(path, "weights file")
    again = "Pull it again: mouthpiece models pull echomimic."
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)[0]
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # what tensors do not need
        if re.search(r"unsupported (global|class)|trying to (load|call|instantiate)", str(error), re.IGNORECASE):
            message = f"{path}: holds more than tensors, which could run code; refused."
            raise InvalidInputError(
                message,
                hint="Get the file from its publisher, or convert it to safetensors there.",
                code="unsafe_pickle",
            ) from error
        raise InvalidInputError(f"{path}: is not a weights file.", hint=again, code="broken_weights") from error
    except (MissingDependencyError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        short = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise InvalidInputError(
            f"{path}: truncated, or not a weights file ({short}).", hint=again, code="broken_weights"
        ) from error
    state = state.get("model_state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InvalidInputError(
            f"{path}: holds {type(state).__name__}, not named tensors.", hint=again, code="broken_weights"
        )
    return state


def find_published(folder: Path, part: str) -> Path | None:
    """Find the published file of a part; None when none of its names is there. Source: EchoMimic v1's folder."""
    found = (folder / name for name in PUBLISHED[part][0])
    return next((path for path in found if path.is_file()), None)


def convert(
    source: Path, target: Path | None = None, progress: Progress | None = None, shape: NetworkConfig = FULL_CONFIG
) -> Path:
    """Convert published files to safetensors, once; returns the folder where they lie.

    source: folder with the names of the hub, or some of them.
    target: folder; None: `converted` below the source.
    shape: sizes that the networks must have.
    Every tensor keeps its precision; licence and SHA-256 of the source stand in the record.
    Raises InvalidInputError for files that are broken, unsafe or do not fit (first five names), UsageError when there
    are
    none.
    """
    source = Path(source)
    target = source / CONVERTED_FOLDER if target is None else Path(target)
    found = {part: path for part in PUBLISHED if (path := find_published(source, part)) is not None}
    if not found:
        names = ", ".join(names[0] for names, _ in PUBLISHED.values())
        raise UsageError(
            f"{source}: none of EchoMimic's files is there.", hint=f"Expected: {names}.", code="no_weights"
        )
    target.mkdir(parents=True, exist_ok=True)
    files = read_record(target)
    for part, path in found.items():
        state, config = check_published_part(part, read_published(path), path, shape)
        out = target / f"{part}.safetensors"
        write_safetensors(out, state, config, LICENCES[PUBLISHED[part][1]])
        files[part] = {
            "sha256": compute_sha256(out),
            "bytes": out.stat().st_size,
            "licence": LICENCES[PUBLISHED[part][1]],
            "source": path.name,
            "source_sha256": compute_sha256(path),
        }
        with atomic_write(target / RECORD_FILE, overwrite=True) as beside:
            beside.write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")
        if progress is not None:
            progress.note(f"{path.name} -> {out.name}")
    return target


def write_safetensors(path: Path, state: dict[str, torch.Tensor], config: dict[str, Any], licence: str) -> None:
    """Write tensors as they are, with config and licence in the header. Raises OutputError for the disk."""
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
    with atomic_write(path, overwrite=True) as part:
        save_file(plain, part, metadata={"config": json.dumps(config), "licence": licence})


def check_published_part(
    part: str, state: dict[str, torch.Tensor], path: Path, shape: NetworkConfig
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Check every name and shape of a published part; returns its tensors and its config.

    Raises InvalidInputError with the first five that are wrong.
    """
    config: dict[str, Any] = {}
    if part == "vae":
        state = rename_legacy_keys(state)
        expected = Vae(infer_vae_sizes(state)).state_dict()
    elif part == "ears":
        state = {key: tensor for key, tensor in state.items() if key.startswith("encoder.")}
        expected = WhisperAudioEncoder().state_dict()
    else:
        expected, config = get_expected_tensors(part.removesuffix("-acc"), shape), shape.as_dict()
    differences = describe_differences(state, expected, POSITION_TABLE_SUFFIX)
    if differences:
        message = f"{path}: not EchoMimic's {part}: {differences}."
        raise InvalidInputError(message, hint="Give the file as published.", code="bad_weights")
    return state, config


def get_expected_tensors(part: str, shape: NetworkConfig) -> dict[str, torch.Tensor]:
    """Return the tensors that a published part must have, on the meta device. Source: EchoMimic v1."""
    with torch.device("meta"):
        if part == "reference":
            return ReferenceNet(shape).state_dict()
        if part == "locator":
            return FaceLocator(shape).state_dict()
        whole = Denoiser(shape).state_dict()
    return {key: tensor for key, tensor in whole.items() if (".motion_modules." in key) == (part == "motion")}
