"""Whisper's encoder as ears, where its weights are present: features at 50 Hz; CTranslate2's weights into the whisper
package's file.
"""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.encoders.phonetic import HOP_SAMPLES, TICK_HOPS
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, UsageError
from mouthpiece.engine.files import atomic_write, check_input_file

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_VARIABLE = "MOUTHPIECE_WHISPER"
MARGIN_TICKS = 125  # heard on each side of what a window of a longer sound gives, 2.5 s
LOG_MEL_RANGE = 2.0  # what the log-mel shows below its peak: 80 dB, in its own units
CT2_VERSION = 6
CT2_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
_TICK_SAMPLES = HOP_SAMPLES * TICK_HOPS


def find_whisper_weights(path: str | Path | None = None) -> Path | None:
    """Where whisper's weights lie: the path given, else what MOUTHPIECE_WHISPER names.

    path: str or Path of a file for `load_whisper`; None means not given.
    Raises Missing when neither names a file.
    """
    named = os.environ.get(FILE_VARIABLE) if path is None else path
    what = f"{named} is no file" if named else "not at hand, they do not ship with this package"
    if not named or not Path(named).is_file():
        hint = f"Set {FILE_VARIABLE} to a weights file of the whisper package, or to what convert_ctranslate2 made."
        raise MissingDependencyError(f"whisper's weights: {what}.", hint=hint, code="no_whisper")
    return Path(named)


def load_whisper(path: Path) -> torch.nn.Module | None:
    """A whisper.model.Whisper in eval on the CPU; every key and shape of the file must fit.

    path: file with {"dims", "model_state_dict"}, as whisper.load_model takes it.
    Raises Missing when it is not there or is something else.
    Source: 2212.04356; whisper.load_model.
    """
    path = find_whisper_weights(path)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return _build_model(saved["dims"], saved["model_state_dict"])
    except (OSError, EOFError, pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError) as error:
        hint = "Give a weights file of the whisper package."
        raise MissingDependencyError(
            f"{path}: no whisper weights ({_shorten_error(error)}).", hint=hint, code="bad_whisper"
        ) from error


def _build_model(dims: dict[str, int], state) -> torch.nn.Module | None:
    from whisper.model import ModelDimensions, Whisper  # slow to import

    model = Whisper(ModelDimensions(**dims))
    model.load_state_dict(state, strict=True)
    return model.eval()


def _shorten_error(error) -> str:
    return shorten(f"{type(error).__name__}: {error}", 200)


@torch.inference_mode()
def extract_whisper_features(model: torch.nn.Module, wave: np.ndarray) -> np.ndarray | None:
    """What whisper's encoder hears, (T, C) float32 at 50 Hz, on the true length: positions are cut, nothing is padded
    to 30 s.

    Sound longer than the encoder's positions is heard in windows with margins, in constant memory, under one common
    peak.
    model: whisper.model.Whisper, wherever the caller put it.
    wave: (S,) float32 at 16 kHz in [-1, 1]; T is S / 320 rounded up, at least 1.
    Raises UsageProblem for another shape.
    Source: 2212.04356 section 2.2.
    """
    wave = torch.as_tensor(np.ascontiguousarray(wave), dtype=torch.float32)
    if wave.ndim != 1:
        raise UsageError(f"wave has shape {tuple(wave.shape)}, need (S,).", hint="Give one channel.")
    ticks = max(1, -(-len(wave) // _TICK_SAMPLES))
    wave = F.pad(wave, (0, ticks * _TICK_SAMPLES - len(wave)))
    bins, longest = model.dims.n_mels, model.dims.n_audio_ctx
    spans = list(split_into_windows(ticks, longest, min(MARGIN_TICKS, longest // 4)))
    peak = max(float(_compute_log_power(wave, a, b, bins).max()) for a, b, _, _ in spans) / 4 + 1
    device = model.encoder.positional_embedding.device
    out = np.empty((ticks, model.dims.n_audio_state), np.float32)
    for a, b, start, stop in spans:
        mel = (_compute_log_power(wave, a, b, bins) / 4 + 1).clamp_min(peak - LOG_MEL_RANGE)
        out[start:stop] = _encode_mel(model.encoder, mel.to(device))[start - a : stop - a].float().cpu().numpy()
    return out


def split_into_windows(ticks: int, longest: int, margin: int) -> Iterator[tuple[int, int, int, int]]:
    """Windows (from, to, keep from, keep to) over ticks: what is kept follows gapless, all windows but an only one are
    `longest`.

    margin: ticks heard beyond what is kept, where there are any; less than half of longest.
    """
    start = 0
    while start < ticks:
        a = max(0, min(start - margin, ticks - longest))
        b = min(ticks, a + longest)
        stop = ticks if b == ticks else b - margin
        yield a, b, start, stop
        start = stop


def _compute_log_power(wave: torch.Tensor, a: int, b: int, bins: int) -> torch.Tensor:
    """log10 mel power (bins, 2 (b - a)) of ticks a to b, as in the whole sound. Source:
    whisper.audio.log_mel_spectrogram.
    """
    from whisper.audio import N_FFT, mel_filters

    first = max(0, a - 1)  # a frame reaches 200 samples to each side, a tick has 320
    part = wave[first * _TICK_SAMPLES : (b + 1) * _TICK_SAMPLES]
    spectrum = torch.stft(part, N_FFT, HOP_SAMPLES, window=torch.hann_window(N_FFT), return_complex=True)
    spectrum = spectrum[:, TICK_HOPS * (a - first) : TICK_HOPS * (b - first)]
    return (mel_filters("cpu", bins) @ spectrum.abs() ** 2).clamp_min(1e-10).log10()


def _encode_mel(encoder: torch.nn.Module, mel: torch.Tensor) -> torch.Tensor:
    """AudioEncoder.forward for a mel (bins, 2 T) of any length its positions reach: (T, C)."""
    x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel[None])))).transpose(1, 2)
    x = x + encoder.positional_embedding[: x.shape[1]]
    for block in encoder.blocks:
        x = block(x)
    return encoder.ln_post(x)[0]


def convert_ctranslate2(model_bin_path: Path, out_path: Path) -> None:
    """Writes CTranslate2's whisper weights as a file for `load_whisper` and whisper.load_model; tensors keep their
    precision.

    model_bin_path: model.bin of a whisper model in float32 or float16, binary version 6.
    out_path: str or Path; an older file is replaced.
    Raises Refused for another file, other precision or tensors that do not fit; WriteFailed for the disk.
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
            f"{path}: no whisper weights of CTranslate2 ({_shorten_error(error)}).", hint=hint, code="bad_whisper"
        ) from error
    with atomic_write(out_path, overwrite=True, inputs=(path,)) as part:
        torch.save(dict(dims=dims, model_state_dict=state), part)


def read_ctranslate2(data: bytes) -> dict[str, np.ndarray] | None:
    """Tensors by name of a CTranslate2 binary.

    data: bytes; little endian, strings with their length and a closing zero.
    Raises ValueError or struct.error for anything else.
    Source: CTranslate2 python/ctranslate2/specs/model_spec.py.
    """
    at = 0

    def number(kind: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{kind}", data, at)
        at += struct.calcsize(kind)
        return value

    def text() -> str:
        nonlocal at
        size = number("H")
        at += size
        return data[at - size : at].rstrip(b"\0").decode()

    version, spec, _, count = number("I"), text(), number("I"), number("I")
    if version != CT2_VERSION or spec != "WhisperSpec":
        raise ValueError(f"version {version} of '{spec}', need version {CT2_VERSION} of 'WhisperSpec'")
    tensors = {}
    for _ in range(count):
        name, shape = text(), [number("I") for _ in range(number("B"))]
        kind, size = number("B"), number("I")
        if kind not in CT2_TYPES:
            raise ValueError(f"{name} is of type {kind}, need one of {sorted(CT2_TYPES)}")
        tensors[name] = np.frombuffer(data[at : at + size], CT2_TYPES[kind]).reshape(shape)
        at += size
    return tensors


def _rename_tensors(tensors: dict[str, np.ndarray]) -> tuple[dict[str, int], dict[str, torch.Tensor]] | None:
    """(dims, state dict) of the whisper package from tensors of CTranslate2; those with a shape must all be used."""
    left = {
        k: torch.from_numpy(v.copy()) for k, v in tensors.items() if v.ndim and not k.startswith("decoder/alignment_")
    }
    coded = next((k for k, v in left.items() if not v.is_floating_point()), None)
    if coded:
        raise ValueError(f"{coded} is {left[coded].dtype}, need float16 or float32")
    conv, ears, words = (
        left["encoder/conv1/weight"],
        left["encoder/position_encodings/encodings"],
        left["decoder/embeddings/weight"],
    )
    said = left["decoder/position_encodings/encodings"]
    blocks = [k.split("/")[0] for k in left if k.endswith("/ffn/linear_0/weight")]
    depth = {side: blocks.count(side) for side in ("encoder", "decoder")}
    dims = dict(
        n_mels=conv.shape[1],
        n_audio_ctx=len(ears),
        n_audio_state=len(conv),
        n_audio_head=int(tensors["encoder/num_heads"]),
        n_audio_layer=depth["encoder"],
        n_vocab=len(words),
        n_text_ctx=len(said),
        n_text_state=words.shape[1],
        n_text_head=int(tensors["decoder/num_heads"]),
        n_text_layer=depth["decoder"],
    )
    state = {}

    def take(source: str, *targets) -> None:
        """Weight (or gamma) and bias (or beta) of a layer, split evenly among targets; keys have no bias."""
        for theirs, ours in (("weight", "weight"), ("gamma", "weight"), ("bias", "bias"), ("beta", "bias")):
            if (whole := left.pop(f"{source}/{theirs}", None)) is not None:
                parts = zip(targets, whole.chunk(len(targets)))
                state.update({f"{t}.{ours}": v.clone() for t, v in parts if (t[-4:], ours) != (".key", "bias")})

    for side in depth:
        for k in range(depth[side]):
            a, b = f"{side}/layer_{k}", f"{side}.blocks.{k}"
            take(f"{a}/self_attention/linear_0", *(f"{b}.attn.{part}" for part in ("query", "key", "value")))
            take(f"{a}/self_attention/linear_1", f"{b}.attn.out")
            take(f"{a}/attention/linear_0", f"{b}.cross_attn.query")
            take(f"{a}/attention/linear_1", f"{b}.cross_attn.key", f"{b}.cross_attn.value")
            take(f"{a}/attention/linear_2", f"{b}.cross_attn.out")
            for theirs, ours in (
                ("self_attention/layer_norm", "attn_ln"),
                ("attention/layer_norm", "cross_attn_ln"),
                ("ffn/layer_norm", "mlp_ln"),
                ("ffn/linear_0", "mlp.0"),
                ("ffn/linear_1", "mlp.2"),
            ):
                take(f"{a}/{theirs}", f"{b}.{ours}")
    for theirs, ours in (
        ("encoder/conv1", "encoder.conv1"),
        ("encoder/conv2", "encoder.conv2"),
        ("encoder/layer_norm", "encoder.ln_post"),
        ("decoder/layer_norm", "decoder.ln"),
        ("decoder/embeddings", "decoder.token_embedding"),
    ):
        take(theirs, ours)
    for side in depth:
        state[f"{side}.positional_embedding"] = left.pop(f"{side}/position_encodings/encodings")
    if left:
        raise ValueError(f"not known: {', '.join(list(left)[:5])}")
    return dims, state
