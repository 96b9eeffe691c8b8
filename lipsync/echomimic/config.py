"""Sizes of the networks: the published ones, debug sizes, and what a state dict tells of its own."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SPATIAL_LEVELS = (0, 1, 2)  # levels with attention to the portrait and to the sound; the deepest has none
LATENT_CHANNELS = 4
TOKEN_STATES = 10  # whisper states that a frame is conditioned on
STATE_LAYERS = 5  # stem and four blocks of whisper tiny
WINDOW_FRAMES = 12  # of the published windows
OVERLAP_FRAMES = 3  # frames that two published windows share
CARRY_MODES = ("noised", "clean")  # how a window is shown the frames it shares with the one before


@dataclass(frozen=True)
class NetworkConfig:
    """Hold the sizes of one family of networks; the defaults are EchoMimic's.

    Raises UsageError for widths that the heads or the groups do not divide.
    Source: EchoMimic v1's published files; EMO, 2402.17485 section 3.2.
    """

    widths: tuple[int, ...] = (320, 640, 1280, 1280)  # channels of each level, multiples of heads and groups
    layers: int = 2  # resnets of a level on the way down; one more on the way up
    heads: int = 8  # of every attention
    groups: int = 32  # of every group norm
    audio_width: int = 384  # numbers of an audio token
    audio_gain: float = 3.0  # what the audio attention is multiplied by
    places: int = 32  # rows of the position table: the longest window, frames
    locator_widths: tuple[int, ...] = (16, 32, 96, 256)
    speed_buckets: int = 0  # head speeds told apart by the speed layers; 0 builds none, as in the published files

    def __post_init__(self) -> None:
        wrong = [w for w in self.widths if w % self.groups or w % (2 * self.heads)]
        if len(self.widths) != 4 or wrong:
            raise UsageError(
                f"widths {self.widths}: need 4 multiples of {self.groups} groups and twice {self.heads} heads.",
                hint="The published size is 320, 640, 1280, 1280.",
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the sizes as a JSON-ready dict, which `read_config` reads back."""
        return asdict(self)


FULL_CONFIG = NetworkConfig()
DEBUG_CONFIG = NetworkConfig((16, 16, 32, 32), layers=1, heads=4, groups=8, audio_width=32, locator_widths=(4, 4, 8, 8))


def read_config(facts: dict[str, Any]) -> NetworkConfig:
    """Read the sizes from a weights file's header, as `as_dict` wrote them. Raises InvalidInputError for other keys."""
    try:
        lists = {name: tuple(value) for name, value in facts.items() if isinstance(value, list)}
        return NetworkConfig(**(facts | lists))
    except TypeError as error:
        raise InvalidInputError(f"weights of another kind: {error}.", hint="Convert or train them again.") from error


def infer_config(
    denoising: Mapping[str, Any], locator: Mapping[str, Any] | None = None, heads: int = 8, groups: int = 32
) -> NetworkConfig:
    """Infer sizes from the names and shapes of tensors; heads and groups leave no trace there.

    denoising: name -> tensor (or anything with a shape) of the denoising network; motion tensors may be among them.
    locator: the same of the face locator; None keeps the default widths.
    heads, groups: as published.
    Raises InvalidInputError where the names are not those of this family.
    """
    try:
        widths = tuple(denoising[f"down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(4))
        audio = denoising["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1]
        layers = sum(bool(re.fullmatch(r"down_blocks\.0\.resnets\.\d+\.conv1\.weight", key)) for key in denoising)
        shape = NetworkConfig(widths, layers, heads, groups, audio)
        if locator is not None:
            convolutions = (locator["conv_in.weight"], *(locator[f"blocks.{i}.weight"] for i in (1, 3, 5)))
            shape = replace(shape, locator_widths=tuple(tensor.shape[0] for tensor in convolutions))
    except KeyError as error:
        raise InvalidInputError(
            f"weights without {error.args[0]}: not an EchoMimic denoising network.",
            hint="Give denoising_unet.pth and its companions as published.",
            code="bad_weights",
        ) from error
    pe = next((tensor for key, tensor in denoising.items() if key.endswith("pos_encoder.pe")), None)
    return shape if pe is None else replace(shape, places=pe.shape[1])
