"""Watermark dialogue inaudibly before the mix, and detect the watermark in finished files.

The networks are those of the package resemble-perth (PerTh, MIT, weights inside); its own loader is not used, because
it silently falls back to nothing when one of its many dependencies is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

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

WATERMARK_RATE_HZ = 32_000  # sample rate of the networks
DETECTION_THRESHOLD = 0.5  # score from which a watermark counts as detected
_FFT = 2048  # samples of a frame of the spectrogram
_HOP = 320  # samples from frame to frame
_BANDS = 128  # lowest bands of the spectrogram, which carry the watermark
_HIDDEN_WIDTH = 256  # channels of the networks
_FLOOR_DB = -180.0  # level 0 of the networks' input
_HEADROOM_DB = 15.0  # level 1 of it
_BLOCK_SAMPLES = 30 * WATERMARK_RATE_HZ  # samples watermarked at a time
_FADE_SAMPLES = WATERMARK_RATE_HZ // 2  # overlap of two blocks
_WINDOW_SAMPLES = 10 * WATERMARK_RATE_HZ  # samples of which one score is made
_FILE = "perth_net/pretrained/implicit/perth_net_250000.pth.tar"
_SHA256 = "a15bce457ebc53ce5e6c9c3f11df78cf7ee2bf9cdab0a798902135b4c4027670"


@dataclass(frozen=True)
class WatermarkDetection:
    """Result of the detector.

    score: 0 to 1, the best of all windows; 0 where there is no sound.
    spans_s: pairs (start, stop) in seconds, the windows with a watermark.
    """

    score: float
    spans_s: tuple[tuple[float, float], ...]

    @property
    def found(self) -> bool:
        """Return whether there is a watermark anywhere."""
        return bool(self.spans_s)


def get_unavailable_reason() -> str | None:
    """Get the sentence that says why watermarks are not available; None when they are."""
    return None if _find_weights() else "the package resemble-perth is not installed (extra: provenance)"


def _find_weights() -> Path | None:
    """Find the weights in the package resemble-perth without importing it."""
    spec = find_spec("perth")
    places = [Path(place) / _FILE for place in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place.is_file()), None)


class _ConvLayer(nn.Module):
    """Convolve along time, with a leaky rectifier where `active`."""

    def __init__(self, in_width: int, out_width: int, kernel: int, active: bool = True) -> None:
        super().__init__()
        self.conv, self.active = nn.Conv1d(in_width, out_width, kernel, padding=(kernel - 1) // 2), active

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_width, T) to (B, out_width, T)."""
        x = self.conv(x)
        return F.leaky_relu(x) if self.active else x


def _make_layers(out_width: int) -> nn.Sequential:
    """Make the stack of convolutions that all of PerTh's networks are."""
    inner = [_ConvLayer(_HIDDEN_WIDTH, _HIDDEN_WIDTH, 7) for _ in range(5)]
    return nn.Sequential(_ConvLayer(_BANDS, _HIDDEN_WIDTH, 1), *inner, _ConvLayer(_HIDDEN_WIDTH, out_width, 1, False))


class _PerthNet(nn.Module):
    """Hold PerTh's networks under the names of the weights file.

    Source: resemble-perth 1.0.1, model/encoder.py and decoder.py.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.layers = _make_layers(_BANDS)
        for name in ("slow", "normal", "fast"):
            setattr(self.decoder, f"{name}_layers", _make_layers(2))

    def embed(self, levels: torch.Tensor) -> torch.Tensor:
        """Embed the watermark in the lower bands of levels (1, 1025, T)."""
        wet = levels.clone()
        layers = cast("nn.Sequential", self.encoder.layers)
        wet[:, :_BANDS] += layers(levels[:, :_BANDS]) * _mask_loud_frames(levels)
        return wet

    def detect(self, levels: torch.Tensor) -> float:
        """Score levels (1, 1025, T): around 0 without watermark, around 1 with it; NaN for silence."""
        bands, mask, answers = levels[:, :_BANDS], _mask_loud_frames(levels), []
        for name, pace in (("slow", 1.25), ("normal", 1.0), ("fast", 0.75)):
            count = int(bands.shape[2] * pace)
            paced = bands if pace == 1 else F.interpolate(bands, size=count, mode="linear", align_corners=True)
            weight = F.interpolate(mask, size=count, mode="nearest")
            answers.append((getattr(self.decoder, f"{name}_layers")(paced) * weight).sum(2) / weight.sum(2))
        table = torch.stack(answers, -1)  # (1, 2, 3): attention and score of each pace
        return float((table[:, 0].softmax(-1) * table[:, 1]).sum())


def _mask_loud_frames(levels: torch.Tensor) -> torch.Tensor:
    """Mask the frames that are loud enough to carry the watermark, (1, 1, T) float."""
    total = levels.sum(1, keepdim=True)
    return (total > 0.05 * total.amax(2, keepdim=True)).float()


@cached_model(1)
def _load_net() -> _PerthNet:
    """Load PerTh. Raises MissingDependencyError when the package is missing or of another version."""
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


def _compute_spectrum(wave: np.ndarray) -> torch.Tensor:
    """Compute the spectrum (1, 1025, T) complex of (S,) float32 at WATERMARK_RATE_HZ."""
    return torch.stft(torch.from_numpy(wave)[None], _FFT, _HOP, window=torch.hann_window(_FFT), return_complex=True)


def _to_levels(spectrum: torch.Tensor) -> torch.Tensor:
    """Convert a spectrum to the levels that the networks take, 0 at _FLOOR_DB and 1 at _HEADROOM_DB."""
    level_db = 20 * torch.log10(spectrum.abs().clip(1e-9))
    return (level_db - _FLOOR_DB) / (_HEADROOM_DB - _FLOOR_DB)


@torch.inference_mode()
def _compute_change(wave: np.ndarray) -> np.ndarray:
    """Compute what the watermark adds to (S,) float32 at WATERMARK_RATE_HZ: the same shape."""
    if len(wave) <= _FFT:
        return np.zeros_like(wave)
    spectrum = _compute_spectrum(wave)
    levels = _to_levels(spectrum)
    gain = 10 ** ((_load_net().embed(levels) - levels) * (_HEADROOM_DB - _FLOOR_DB) / 20)
    wet = torch.istft(spectrum * gain.clip(max=10), _FFT, _HOP, window=torch.hann_window(_FFT), length=len(wave))
    return wet[0].numpy() - wave


def embed_watermark(sound: Sound) -> Sound:
    """Embed the watermark in a sound: rate, channels and length stay, and all above 2 kHz.

    sound: dialogue after all stretching and before the mix.
    All channels get the same change, so that it survives a mix to one channel.
    Raises MissingDependencyError when the package is missing or of another version.
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


def detect_watermark(sound: Sound) -> WatermarkDetection:
    """Detect the watermark in a sound, window by window of 10 s.

    sound: at any rate.
    Raises MissingDependencyError as embed_watermark does.
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
def _score_window(window: np.ndarray) -> float:
    """Score (S,) float32 at WATERMARK_RATE_HZ, 0 to 1; 0 for silence."""
    score = _load_net().detect(_to_levels(_compute_spectrum(window))) if len(window) > _FFT else 0.0
    return float(np.clip(np.nan_to_num(score), 0, 1))


def detect_in_file(path: str | Path, longest_s: int = 120) -> dict[str, Any] | None:
    """Detect the watermark in a file's sound, JSON-ready: found, score, spans_s, listened_s; None without sound.

    path: any media file.
    longest_s: seconds of the beginning that are searched; memory is that of so much sound.
    Where the package is missing, "found" is None and "reason" says why.
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
    except (MouthpieceError, OSError, EOFError, ValueError):  # no sound in it, or broken: what came before counts
        if not blocks:
            return None
    longest = longest_s * WATERMARK_RATE_HZ
    result = WatermarkDetection(0.0, ())
    if blocks:
        result = detect_watermark(Sound(np.concatenate(blocks, 1)[:, :longest], WATERMARK_RATE_HZ))
    return {
        "found": result.found,
        "score": round(result.score, 3),
        "spans_s": result.spans_s,
        "listened_s": min(count, longest) / WATERMARK_RATE_HZ,
    }
