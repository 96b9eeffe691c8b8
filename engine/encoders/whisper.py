"""Find and load the weights of Whisper speech recognition; convert CTranslate2's weights to the whisper package's."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
import torch

from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.files import atomic_write, check_input_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whisper.model import Whisper

FILE_VARIABLE = "MOUTHPIECE_WHISPER"  # names a weights file
CT2_VERSION = 6  # of the binary format
CT2_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
# layers of a block: CTranslate2's name, names of the whisper package; a layer with several holds them side by side
_BLOCK_LAYERS = (
    ("self_attention/linear_0", ("attn.query", "attn.key", "attn.value")),
    ("self_attention/linear_1", ("attn.out",)),
    ("attention/linear_0", ("cross_attn.query",)),
    ("attention/linear_1", ("cross_attn.key", "cross_attn.value")),
    ("attention/linear_2", ("cross_attn.out",)),
    ("self_attention/layer_norm", ("attn_ln",)),
    ("attention/layer_norm", ("cross_attn_ln",)),
    ("ffn/layer_norm", ("mlp_ln",)),
    ("ffn/linear_0", ("mlp.0",)),
    ("ffn/linear_1", ("mlp.2",)),
)
_OUTER_LAYERS = (
    ("encoder/conv1", ("encoder.conv1",)),
    ("encoder/conv2", ("encoder.conv2",)),
    ("encoder/layer_norm", ("encoder.ln_post",)),
    ("decoder/layer_norm", ("decoder.ln",)),
    ("decoder/embeddings", ("decoder.token_embedding",)),
)
_PARAMETERS = (("weight", "weight"), ("gamma", "weight"), ("bias", "bias"), ("beta", "bias"))  # theirs, whisper's


def find_whisper_weights(path: str | Path | None = None) -> Path:
    """Find Whisper's weights: the path given, else what MOUTHPIECE_WHISPER names.

    path: file for `load_whisper`; None means not given.
    Raises MissingDependencyError when neither names a file.
    """
    named = os.environ.get(FILE_VARIABLE) if path is None else path
    what = f"{named} is not a file" if named else "not available, they do not ship with this package"
    if not named or not Path(named).is_file():
        hint = f"Set {FILE_VARIABLE} to a weights file of the whisper package, or to what convert_ctranslate2 made."
        code = "bad_whisper" if named else "no_whisper"
        raise MissingDependencyError(f"whisper's weights: {what}.", hint=hint, code=code)
    return Path(named)


def load_whisper(path: str | Path | None) -> Whisper:
    """Load a Whisper model in eval mode on the CPU; every key and shape of the file must fit.

    path: file with {"dims", "model_state_dict"}, as whisper.load_model takes it; None as for find_whisper_weights.
    Raises MissingDependencyError when it is not there or is something else.
    Source: 2212.04356; whisper.load_model.
    """
    path = find_whisper_weights(path)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return _build_model(saved["dims"], saved["model_state_dict"])
    except (OSError, EOFError, pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError) as error:
        hint = "Give a weights file of the whisper package."
        raise MissingDependencyError(
            f"{path}: not Whisper weights ({_shorten_error(error)}).", hint=hint, code="bad_whisper"
        ) from error


def _build_model(dims: Mapping[str, int], state: Mapping[str, torch.Tensor]) -> Whisper:
    """Build the model of these sizes with these tensors. Raises RuntimeError where they do not fit."""
    from whisper.model import ModelDimensions, Whisper  # slow to import

    model = Whisper(ModelDimensions(**dims))
    model.load_state_dict(state, strict=True)
    return model.eval()


def _shorten_error(error: Exception) -> str:
    """Shorten an error to its kind and the beginning of its sentence."""
    return shorten(f"{type(error).__name__}: {error}", 200)


def convert_ctranslate2(model_bin_path: str | Path, out_path: str | Path) -> None:
    """Convert CTranslate2's Whisper weights to a file for `load_whisper` and whisper.load_model, at their precision.

    model_bin_path: model.bin of a Whisper model in float32 or float16, binary version 6.
    out_path: an older file is replaced.
    Raises InvalidInputError for another file, other precision or tensors that do not fit, OutputError for the disk.
    Source: CTranslate2 python/ctranslate2/specs/model_spec.py and whisper_spec.py.
    """
    path = check_input_file(model_bin_path, "model.bin of CTranslate2")
    try:
        tensors = read_ctranslate2(path.read_bytes())
        dims, state = _rename_tensors(tensors)
        _build_model(dims, state)  # whatever is missing or too much shows here
    except (ValueError, KeyError, RuntimeError, struct.error) as error:
        hint = "Give the model.bin of a whisper model in float16 or float32."
        raise InvalidInputError(
            f"{path}: not Whisper weights of CTranslate2 ({_shorten_error(error)}).", hint=hint, code="bad_whisper"
        ) from error
    with atomic_write(out_path, overwrite=True, inputs=(path,)) as part:
        torch.save(dict(dims=dims, model_state_dict=state), part)


def read_ctranslate2(data: bytes) -> dict[str, np.ndarray]:
    """Read the tensors of a CTranslate2 binary, by name.

    data: little endian, strings with their length and a closing zero.
    Raises ValueError or struct.error for anything else.
    Source: CTranslate2 python/ctranslate2/specs/model_spec.py.
    """
    position = 0

    def read_number(kind: str) -> int:
        nonlocal position
        (value,) = struct.unpack_from(f"<{kind}", data, position)
        position += struct.calcsize(kind)
        return value

    def read_text() -> str:
        nonlocal position
        size = read_number("H")
        position += size
        return data[position - size : position].rstrip(b"\0").decode()

    version, spec, _, count = read_number("I"), read_text(), read_number("I"), read_number("I")
    if version != CT2_VERSION or spec != "WhisperSpec":
        raise ValueError(f"version {version} of '{spec}', need version {CT2_VERSION} of 'WhisperSpec'")
    tensors = {}
    for _ in range(count):
        name, shape = read_text(), [read_number("I") for _ in range(read_number("B"))]
        kind, size = read_number("B"), read_number("I")
        if kind not in CT2_TYPES:
            raise ValueError(f"{name} is of type {kind}, need one of {sorted(CT2_TYPES)}")
        tensors[name] = np.frombuffer(data[position : position + size], CT2_TYPES[kind]).reshape(shape)
        position += size
    return tensors


def _rename_tensors(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, int], dict[str, torch.Tensor]]:
    """Rename CTranslate2's tensors as the whisper package names them: (sizes, state dict).

    Raises ValueError when a tensor that has a shape is of another precision or not used.
    """
    unused = {
        name: torch.from_numpy(values.copy())
        for name, values in tensors.items()
        if values.ndim and not name.startswith("decoder/alignment_")
    }
    quantized = next((name for name, values in unused.items() if not values.is_floating_point()), None)
    if quantized:
        raise ValueError(f"{quantized} is {unused[quantized].dtype}, need float16 or float32")
    dims = _read_sizes(tensors, unused)
    layers: list[tuple[str, tuple[str, ...]]] = []
    for side, depth in (("encoder", dims["n_audio_layer"]), ("decoder", dims["n_text_layer"])):
        for k in range(depth):
            block = f"{side}.blocks.{k}"
            for name, parts in _BLOCK_LAYERS:
                layers.append((f"{side}/layer_{k}/{name}", tuple(f"{block}.{part}" for part in parts)))
    state: dict[str, torch.Tensor] = {}
    for source, targets in (*layers, *_OUTER_LAYERS):
        state |= _take_layer(unused, source, targets)
    for side in ("encoder", "decoder"):
        state[f"{side}.positional_embedding"] = unused.pop(f"{side}/position_encodings/encodings")
    if unused:
        raise ValueError(f"not known: {', '.join(list(unused)[:5])}")
    return dims, state


def _read_sizes(tensors: Mapping[str, np.ndarray], unused: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Read the sizes of the whisper package's ModelDimensions off the shapes of CTranslate2's tensors."""
    convolution = unused["encoder/conv1/weight"]
    embeddings = unused["decoder/embeddings/weight"]
    blocks = [name.split("/")[0] for name in unused if name.endswith("/ffn/linear_0/weight")]
    return dict(
        n_mels=convolution.shape[1],
        n_audio_ctx=len(unused["encoder/position_encodings/encodings"]),
        n_audio_state=len(convolution),
        n_audio_head=int(tensors["encoder/num_heads"]),
        n_audio_layer=blocks.count("encoder"),
        n_vocab=len(embeddings),
        n_text_ctx=len(unused["decoder/position_encodings/encodings"]),
        n_text_state=embeddings.shape[1],
        n_text_head=int(tensors["decoder/num_heads"]),
        n_text_layer=blocks.count("decoder"),
    )


def _take_layer(unused: dict[str, torch.Tensor], source: str, targets: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Take the parameters of a layer out of `unused`, split evenly among its targets; keys have no bias."""
    state = {}
    for theirs, whispers in _PARAMETERS:
        whole = unused.pop(f"{source}/{theirs}", None)
        if whole is None:
            continue
        for target, values in zip(targets, whole.chunk(len(targets))):
            if not (target.endswith(".key") and whispers == "bias"):
                state[f"{target}.{whispers}"] = values.clone()
    return state
