"""An inaudible mark in the dialogue itself: put in before the mix, heard again in the finished file.

The nets are those of the package resemble-perth (PerTh, MIT, weights inside); its own loader is not used, because it
falls
back to nothing without a word when one of its many dependencies is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.files import compute_sha256
from mouthpiece.engine.weights.loading import load_state_into
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.engine.weights.records import record_model

if TYPE_CHECKING:
    from typing import Any

WATERMARK_RATE_HZ = 32_000
DETECTION_THRESHOLD = 0.5  # the detector answers 0 to 1
_FFT, _HOP, _BANDS, _HIDDEN_WIDTH = 2048, 320, 128, 256
_FLOOR_DB, _HEADROOM_DB = -180.0, 15.0
_BLOCK_SAMPLES, _FADE_SAMPLES, _WINDOW_SAMPLES = 30 * WATERMARK_RATE_HZ, WATERMARK_RATE_HZ // 2, 10 * WATERMARK_RATE_HZ
_FILE = "perth_net/pretrained/implicit/perth_net_250000.pth.tar"
_SHA256 = "a15bce457ebc53ce5e6c9c3f11df78cf7ee2bf9cdab0a798902135b4c4027670"


@dataclass(frozen=True)
class WatermarkDetection:
    """What the detector heard of a watermark.

    score: 0 to 1, of the window in which it is heard best; 0 where there is no sound.
    spans_s: pairs (start, stop) in seconds, the windows in which it is heard.
    """

    score: float
    spans_s: tuple

    @property
    def found(self):
        """Whether it is heard anywhere."""
        return bool(self.spans_s)


def get_unavailable_reason() -> str:
    """None when watermarks can be made and heard, else the sentence that says why not."""
    return None if _find_weights() else "the package resemble-perth is not installed (extra: provenance)"


def _find_weights() -> None:
    spec = find_spec("perth")  # finds without importing
    places = [Path(place) / _FILE for place in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place.is_file()), None)


class _ConvLayer(nn.Module):
    def __init__(self, inner, outer, kernel, active: bool = True) -> None:
        super().__init__()
        self.conv, self.active = nn.Conv1d(inner, outer, kernel, padding=(kernel - 1) // 2), active

    def forward(self, x):
        x = self.conv(x)
        return F.leaky_relu(x) if self.active else x


def _make_layers(outer):
    inner = [_ConvLayer(_HIDDEN_WIDTH, _HIDDEN_WIDTH, 7) for _ in range(5)]
    return nn.Sequential(_ConvLayer(_BANDS, _HIDDEN_WIDTH, 1), *inner, _ConvLayer(_HIDDEN_WIDTH, outer, 1, False))


class _PerthNet(nn.Module):
    """The nets under the names that the file of weights uses. Source: resemble-perth 1.0.1, model/encoder.py,
    decoder.py.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.layers = _make_layers(_BANDS)
        for name in ("slow", "normal", "fast"):
            setattr(self.decoder, f"{name}_layers", _make_layers(2))

    def embed(self, levels):
        """Levels (1, 1025, T) with the watermark in their lower bands."""
        wet = levels.clone()
        wet[:, :_BANDS] += self.encoder.layers(levels[:, :_BANDS]) * _mask_loud_frames(levels)
        return wet

    def detect(self, levels):
        """Score of levels (1, 1025, T): a number around 0 (absent) or 1 (present); NaN for silence."""
        bands, mask, told = levels[:, :_BANDS], _mask_loud_frames(levels), []
        for name, pace in (("slow", 1.25), ("normal", 1.0), ("fast", 0.75)):
            count = int(bands.shape[2] * pace)
            paced = bands if pace == 1 else F.interpolate(bands, size=count, mode="linear", align_corners=True)
            weight = F.interpolate(mask, size=count, mode="nearest")
            told.append((getattr(self.decoder, f"{name}_layers")(paced) * weight).sum(2) / weight.sum(2))
        told = torch.stack(told, -1)  # (1, 2, 3): attention and answer of each pace
        return float((told[:, 0].softmax(-1) * told[:, 1]).sum())


def _mask_loud_frames(levels):
    """(1, 1, T) float: 1 for frames loud enough to carry the mark."""
    total = levels.sum(1, keepdim=True)
    return (total > 0.05 * total.amax(2, keepdim=True)).float()


@cached_model(1)
def _load_net() -> None:
    path = _find_weights()
    if path is None:
        raise MissingDependencyError(
            f"watermark: {get_unavailable_reason()}.", hint="pip install 'mouthpiece[provenance]'.", code="no_watermark"
        )
    if compute_sha256(path) != _SHA256:
        raise MissingDependencyError(
            f"watermark: {path} is not the file of resemble-perth 1.0.1.",
            hint="Install that version.",
            code="bad_weights",
        )
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    state = {name: value for name, value in state.items() if not name.startswith("ap.")}  # windows of its spectrograms
    record_model("perth", path, _SHA256)
    return load_state_into(_PerthNet(), state, "watermark").eval()


def _compute_spectrum(wave):
    """(1, 1025, T) complex of (S,) float32 at RATE_HZ."""
    return torch.stft(torch.from_numpy(wave)[None], _FFT, _HOP, window=torch.hann_window(_FFT), return_complex=True)


def _to_levels(spectrum):
    level_db = 20 * torch.log10(spectrum.abs().clip(1e-9))
    return (level_db - _FLOOR_DB) / (_HEADROOM_DB - _FLOOR_DB)


@torch.inference_mode()
def _compute_change(wave):
    """What the watermark adds to (S,) float32 at RATE_HZ: the same shape."""
    if len(wave) <= _FFT:
        return np.zeros_like(wave)
    spectrum = _compute_spectrum(wave)
    levels = _to_levels(spectrum)
    gain = 10 ** ((_load_net().embed(levels) - levels) * (_HEADROOM_DB - _FLOOR_DB) / 20)
    wet = torch.istft(spectrum * gain.clip(max=10), _FFT, _HOP, window=torch.hann_window(_FFT), length=len(wave))
    return wet[0].numpy() - wave


def embed_watermark(sound: Sound) -> Sound | None:
    """The Sound with the watermark in it: same rate, channels and length, and the same above 2 kHz.

    sound: Sound, dialogue after all stretching and before the mix.
    All channels get the same change, so that it survives a mix to one channel.
    Raises Missing when the package is not there or not the version known.
    Source: PerTh, resemble-perth 1.0.1.
    """
    _load_net()
    samples, rate_hz = sound.samples, sound.rate_hz
    middle = resample(np.ascontiguousarray(samples.mean(0)), rate_hz, WATERMARK_RATE_HZ)
    added = np.zeros_like(middle)
    rise = np.linspace(0, 1, _FADE_SAMPLES, dtype=np.float32)
    # blocks overlap by a fade: memory does not grow with the length
    for start in range(0, len(middle), _BLOCK_SAMPLES):
        begin = max(0, start - _FADE_SAMPLES)
        change = _compute_change(middle[begin : start + _BLOCK_SAMPLES])
        if begin < start and len(change) > _FADE_SAMPLES:
            added[begin:start] *= 1 - rise
            change[:_FADE_SAMPLES] *= rise
        added[begin : begin + len(change)] += change
    added = resample(added, WATERMARK_RATE_HZ, rate_hz)[: samples.shape[1]]
    added = np.pad(added, (0, samples.shape[1] - len(added)))
    return Sound((samples + added).astype(np.float32), rate_hz)


def detect_watermark(sound: Sound) -> None:
    """The Heard of a Sound, window by window of 10 s.

    sound: Sound at any rate.
    Raises Missing as embed does.
    Source: PerTh, resemble-perth 1.0.1.
    """
    _load_net()
    wave = resample(np.ascontiguousarray(sound.samples.mean(0)), sound.rate_hz, WATERMARK_RATE_HZ)
    scores = []
    # the last window reaches back, so that it is not too short to judge
    for start in range(0, len(wave), _WINDOW_SAMPLES):
        window = wave[max(0, min(start, len(wave) - _WINDOW_SAMPLES)) : start + _WINDOW_SAMPLES]
        scores.append((start, min(start + _WINDOW_SAMPLES, len(wave)), _score_window(window)))
    spans = tuple(
        (start / WATERMARK_RATE_HZ, stop / WATERMARK_RATE_HZ)
        for start, stop, score in scores
        if score >= DETECTION_THRESHOLD
    )
    return WatermarkDetection(max((score for *_, score in scores), default=0.0), spans)


@torch.inference_mode()
def _score_window(window):
    """0 to 1 for (S,) float32 at RATE_HZ; 0 for silence."""
    score = _load_net().detect(_to_levels(_compute_spectrum(window))) if len(window) > _FFT else 0.0
    return float(np.clip(np.nan_to_num(score), 0, 1))


def detect_in_file(path: Path, longest_s: int = 120) -> dict[str, Any]:
    """What is heard in a file's sound, JSON-ready: found, score, spans_s, listened_s; or found None and the reason.

    path: of any media file.
    longest_s: how much of the beginning is heard, in seconds; memory is that of so much sound.
    """
    from mouthpiece.engine.errors import MouthpieceError
    from mouthpiece.engine.media.reading import open_sound_stream

    if get_unavailable_reason() is not None:
        return {"found": None, "reason": get_unavailable_reason()}
    blocks, count = [], 0
    try:
        with open_sound_stream(path, WATERMARK_RATE_HZ, 1) as (_, stream):
            for block in stream:
                blocks.append(block)
                count += block.shape[1]
                if count >= longest_s * WATERMARK_RATE_HZ:
                    break
    except (MouthpieceError, OSError, EOFError, ValueError):  # no sound in it, or broken: what was heard before counts
        if not blocks:
            return None
    heard = (
        detect_watermark(Sound(np.concatenate(blocks, 1)[:, : longest_s * WATERMARK_RATE_HZ], WATERMARK_RATE_HZ))
        if blocks
        else WatermarkDetection(0.0, ())
    )
    listened_s = min(count, longest_s * WATERMARK_RATE_HZ) / WATERMARK_RATE_HZ
    return {"found": heard.found, "score": round(heard.score, 3), "spans_s": heard.spans_s, "listened_s": listened_s}
