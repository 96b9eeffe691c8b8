"""Sizes of the networks of the public MMAudio files, and the rates of their streams."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from typing import Any

Size = TypeVar("Size", "NetworkSize", "VaeSize", "VocoderSize", "SyncSize", "ClipSize")

CLIP_HZ = Fraction(8)  # frames that CLIP encodes
SYNC_FRAME_HZ = Fraction(25)  # frames that the sync encoder encodes
SYNC_WINDOW = 16  # frames of one sync window
SYNC_STEP = 8  # frames from one sync window to the next
SYNC_FEATURES = 8  # of one sync window
MIN_DURATION_S = SYNC_WINDOW / SYNC_FRAME_HZ  # of one sync window
TRAINED_DURATION_S = Fraction(8)  # of the clips on which the published weights were trained


@dataclass(frozen=True)
class NetworkSize:
    """Sizes of the flow network.

    latent_dim, clip_dim, sync_dim, text_dim: width of a latent, CLIP feature, sync feature and text token.
    hidden_dim: of all tokens inside.  num_heads: divides it.
    depth: blocks in all, the last `fused_depth` of them on latents alone.
    v2: SiLU after every input layer and time frequencies times 10000, instead of SELU and 1.
    text_seq_len: text tokens.  mlp_ratio: before the gated layer's two thirds and rounding up to 256.
    Source: MMAudio, 2412.15322 section 3 and appendix.
    """

    latent_dim: int
    clip_dim: int = 1024
    sync_dim: int = 768
    text_dim: int = 1024
    hidden_dim: int = 448
    depth: int = 12
    fused_depth: int = 8
    num_heads: int = 7
    v2: bool = False
    text_seq_len: int = 77
    mlp_ratio: float = 4.0

    @property
    def inner_dim(self) -> int:
        """Width inside the gated feed-forward layers."""
        return 256 * math.ceil(int(2 * int(self.hidden_dim * self.mlp_ratio) / 3) / 256)


@dataclass(frozen=True)
class VaeSize:
    """Sizes of the mel VAE.

    data_dim: mel bands.  embed_dim: width of a latent.  hidden_dim: channels of the first level.
    ch_mult: multiples of hidden_dim, one a level.  num_res_blocks: a level.
    clip_act: activations are clamped to plus and minus this.
    Source: MMAudio, 2412.15322 appendix; EDM2, 2312.02696.
    """

    data_dim: int
    embed_dim: int
    hidden_dim: int
    ch_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2
    clip_act: float = 256.0


@dataclass(frozen=True)
class VocoderSize:
    """Sizes of a BigVGAN vocoder, under the names of its published config.json.

    Source: BigVGAN, 2206.04658, and the config published with the 44.1 kHz weights.
    """

    num_mels: int
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int = 1536
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    snake_logscale: bool = True
    use_tanh_at_final: bool = True
    use_bias_at_final: bool = True

    @property
    def hop_samples(self) -> int:
        """Samples that one mel frame becomes."""
        return math.prod(self.upsample_rates)


@dataclass(frozen=True)
class SyncSize:
    """Sizes of Synchformer's visual branch.

    Source: Synchformer, 2401.16423; MotionFormer, 2106.05392.
    """

    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4
    img_size: int = 224
    patch_size: int = 16
    patch_size_temporal: int = 2
    temporal_resolution: int = 8


@dataclass(frozen=True)
class ClipSize:
    """Sizes of the CLIP model, as in the open_clip config published with the weights.

    image_px: 384, which a patch of 14 divides into the same 27 x 27 as the config's 378.
    Source: DFN, 2309.17425.
    """

    embed_dim: int = 1024
    image_px: int = 384
    patch_px: int = 14
    vision_width: int = 1280
    vision_layers: int = 32
    vision_heads: int = 16
    text_width: int = 1024
    text_layers: int = 24
    text_heads: int = 16
    vocabulary: int = 49408
    text_tokens: int = 77


@dataclass(frozen=True)
class AudioRates:
    """Rates of one kind of sound, and the parameters of its log-mel.

    mode: "16k" or "44k".  rate_hz: samples a second.  hop_samples: of a mel frame; two frames make a latent.
    n_fft, bands, highest_hz: of the log-mel.  log_base: 10 or e.
    Source: MMAudio, 2412.15322 appendix.
    """

    mode: str
    rate_hz: int
    hop_samples: int
    n_fft: int
    bands: int
    highest_hz: float
    log_base: float

    @property
    def latent_samples(self) -> int:
        """Samples of one latent."""
        return 2 * self.hop_samples

    @property
    def latent_hz(self) -> Fraction:
        """Latents a second."""
        return Fraction(self.rate_hz, self.latent_samples)

    def lengths(self, duration: Fraction | int) -> tuple[int, int, int]:
        """Count (latents, CLIP images, sync features) of a duration in seconds, exactly.

        Raises UsageError below MIN_DURATION_S.
        """
        duration = Fraction(duration).limit_denominator(10**6)
        if duration < MIN_DURATION_S:
            raise UsageError(
                f"{float(duration):.2f} s is shorter than one sync window of {float(MIN_DURATION_S):.2f} s."
            )
        windows = (math.floor(duration * SYNC_FRAME_HZ) - SYNC_WINDOW) // SYNC_STEP + 1
        return math.ceil(duration * self.latent_hz), math.floor(duration * CLIP_HZ), windows * SYNC_FEATURES


RATES = {
    "16k": AudioRates("16k", 16_000, 256, 1024, 80, 8_000, 10),
    "44k": AudioRates("44k", 44_100, 512, 2048, 128, 22_050, math.e),
}
VAES = {"16k": VaeSize(80, 20, 384), "44k": VaeSize(128, 40, 512)}
VOCODERS = {
    "16k": VocoderSize(80, (4, 4, 2, 2, 2, 2), (8, 8, 4, 4, 4, 4)),
    "44k": VocoderSize(128, (8, 4, 2, 2, 2, 2), (16, 8, 4, 4, 4, 4), use_tanh_at_final=False, use_bias_at_final=False),
}


@dataclass(frozen=True)
class ModelVariant:
    """One public model: its name, the kind of sound, and its flow network.

    Source: MMAudio's published files.
    """

    name: str
    mode: str
    network: NetworkSize

    @property
    def rates(self) -> AudioRates:
        """Rates of its sound."""
        return RATES[self.mode]


_MEDIUM = NetworkSize(40, hidden_dim=896, num_heads=14)
_LARGE = replace(_MEDIUM, depth=21, fused_depth=14)
VARIANTS = {
    variant.name: variant
    for variant in (
        ModelVariant("mmaudio-small-16k", "16k", NetworkSize(20)),
        ModelVariant("mmaudio-small-44k", "44k", NetworkSize(40)),
        ModelVariant("mmaudio-medium-44k", "44k", _MEDIUM),
        ModelVariant("mmaudio-large-44k", "44k", _LARGE),
        ModelVariant("mmaudio-large-44k-v2", "44k", replace(_LARGE, v2=True)),
    )
}


def parse_size(kind: type[Size], config: dict[str, Any]) -> Size:
    """Parse the config of a weights header or a config.json into a size; unknown names are left out.

    kind: one of the size dataclasses.
    Raises UsageError when a name without default is missing.
    """
    names = {field.name for field in fields(kind)}
    known = {name: _freeze(value) for name, value in config.items() if name in names}
    try:
        return kind(**known)
    except TypeError as error:
        raise UsageError(f"{kind.__name__}: the config lacks a value ({error}).") from error


def convert_to_config(size: NetworkSize | VaeSize | VocoderSize | SyncSize | ClipSize) -> dict[str, Any]:
    """Convert a size to a JSON-ready dict, from which `parse_size` makes it again."""
    return asdict(size)


def _freeze(value: Any) -> Any:
    """Convert nested lists to tuples."""
    return tuple(_freeze(part) for part in value) if isinstance(value, list) else value
