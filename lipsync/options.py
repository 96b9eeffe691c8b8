"""Options of `animate` and `lipsync`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.engine.config import Options, option, rename_former_options, resolve_options, to_flag
from mouthpiece.engine.errors import UsageError
from mouthpiece.lipsync.renderers import DEFAULT_RENDERER, RENDERERS, get_option_classes

if TYPE_CHECKING:
    from typing import Any

CLOSURE_HELP = "how surely lips meet on p, b, m and nearly on f, v; 0 leaves them as sampled"
NORMALIZE_HELP = (
    "how far a faint or excessive mouth is brought to the usual opening, by 0.7 to 1.5 at most; 0 leaves it"
)
ON_MISSING_FACE = ("pass", "hold", "fail")  # what is done with frames without the face


@dataclass(frozen=True)
class PortraitOptions(Options):
    """Hold the options that every renderer of `mouthpiece animate` has.

    Raises UsageError that names the flag, the value and what is accepted.
    """

    model: str = option(DEFAULT_RENDERER, "which model moves the portrait", choices=tuple(RENDERERS))
    text: str | None = option(
        None, "speak this text with an embedded voice, whose plan moves the mouth; instead of SOUND"
    )
    voice: str | None = option(None, "for --text: a voice or mix, as 'mouthpiece voices list' names them")
    seed: int = option(0, "same seed, same input, same machine type: same output", low=0, high=2**31 - 1)
    steps: int = option(8, "sampling steps; by default 30 with echomimic, 6 with echomimic-acc", low=1, high=100)
    guidance: float = option(
        2.0, "how strongly the sound rules; 1 is as learned; by default 2.5 and 1 with these", low=0.0, high=10.0
    )
    device: str = option("auto", "auto, cpu, or a GPU by name and number; a wrong one lists what is accepted")
    fps: Fraction = option(Fraction(25), "frames a second, such as 25, 23.976 or 30000/1001")
    size: int | None = option(None, "long side of the picture", unit="px", low=64, high=4096)
    frame: str = option("full", "the whole portrait or the head alone", choices=("full", "crop"))
    face: str = option("largest", "which face: largest, an index from 0 (large to small), or x,y[,width] in pixels")
    gate: bool = option(True, "keep the mouth still where nobody speaks")
    quality: int = option(17, "H.264 quality, less is better", unit="crf", low=0, high=51)
    batch: int = option(8, "frames a call of the renderer; changes memory and speed alone", low=1, high=64)

    def __post_init__(self) -> None:
        super().__post_init__()
        from mouthpiece.face.detect import parse_face_choice

        parse_face_choice(self.face)


@dataclass(frozen=True)
class AnimateOptions(PortraitOptions):
    """Hold the options of the embedded renderer, `--model mini`."""

    temperature: float = option(
        0.3,
        "scatter of mouth and jaw about what the sound asks for; 1 is as learned",
        low=0.0,
        high=1.0,
        formerly="variety",
        advanced=True,
    )
    expression: float = option(
        1.3, "strength of mouth and brows; 0 leaves the face alone; 1 is as learned", low=0.0, high=3.0
    )
    closure: float = option(1.0, CLOSURE_HELP, low=0.0, high=1.0)
    normalize_mouth: float = option(1.0, NORMALIZE_HELP, low=0.0, high=1.0, formerly="level", advanced=True)
    pose_strength: float = option(1.0, "strength of head motion; 0 holds the head", low=0.0, high=3.0)
    head_speed: float = option(1.0, "speed of head motion", low=0.1, high=4.0)
    stabilize_head: bool = option(
        True,
        "keep the head about its place, and bring head and brows to rest in pauses",
        formerly="settle",
        advanced=True,
    )
    accents: float = option(1.0, "strength of brows and nods on stressed words; 0 has none", low=0.0, high=3.0)
    blink_rate: float = option(16.0, "blinks a minute; 0 keeps the eyes open", low=0.0, high=60.0)


def reject_foreign_options(cls: type[PortraitOptions], flags: dict[str, Any]) -> None:
    """Reject flags that belong to another renderer and would be ignored. Raises UsageError.

    cls: option dataclass of the chosen renderer.
    """
    for name, value in flags.items():
        owners = [model for model, other in get_option_classes().items() if name in other.__dataclass_fields__]
        if value is not None and owners and name not in cls.__dataclass_fields__:
            model = flags.get("model") or cls.__dataclass_fields__["model"].default
            raise UsageError(
                f"{to_flag(name)}: has no meaning with --model {model}.",
                hint=f"Leave it out; it belongs to {' and '.join(owners)}.",
                code="strange_option",
            )


def resolve_animate_options(preset: dict[str, Any] | None, flags: dict[str, Any]) -> PortraitOptions:
    """Resolve the options of the chosen renderer: defaults, overlaid by a preset, overlaid by flags.

    preset, flags: as for `engine.config.resolve_options`.
    Raises UsageError, also for --fps source and for an option of another renderer.
    """
    for known in get_option_classes().values():
        flags = rename_former_options(known, flags)
    rates = [source.get("fps") for source in (flags, preset or {}) if source.get("fps") is not None]
    if rates[:1] == ["source"]:
        raise UsageError(
            "--fps source: a portrait has no frame rate to follow.",
            hint="Give a number such as 25 or 30000/1001; source is for commands that start from a video.",
            code="bad_rate",
        )
    model = next(
        (source["model"] for source in (flags, preset or {}) if source.get("model") is not None), DEFAULT_RENDERER
    )
    cls = get_option_classes().get(model, AnimateOptions)
    reject_foreign_options(cls, flags)
    return resolve_options(cls, preset, flags)


@dataclass(frozen=True)
class LipsyncOptions(Options):
    """Hold the options of `mouthpiece lipsync`.

    Raises UsageError that names the flag, the value and what is accepted.
    """

    model: str = option("mini", "which model moves the lips", choices=("mini",))
    seed: int = option(0, "same seed, same input, same machine type: same output", low=0, high=2**31 - 1)
    steps: int = option(8, "sampling steps", low=1, high=100)
    guidance: float = option(2.0, "how strongly the sound rules; 1 is as learned", low=0.0, high=10.0)
    temperature: float = option(
        0.3,
        "scatter of mouth and jaw about what the sound asks for; 1 is as learned",
        low=0.0,
        high=1.0,
        formerly="variety",
        advanced=True,
    )
    expression: float = option(1.2, "strength of the mouth; 1 is as learned", low=0.0, high=3.0)
    closure: float = option(1.0, CLOSURE_HELP, low=0.0, high=1.0)
    normalize_mouth: float = option(1.0, NORMALIZE_HELP, low=0.0, high=1.0, formerly="level", advanced=True)
    device: str = option("auto", "auto, cpu, or a GPU by name and number; a wrong one lists what is accepted")
    face: str = option(
        "largest", "which face: largest, an index from 0 (large to small), or x,y[,width] in pixels of the first frame"
    )
    on_missing_face: str = option(
        "pass", "frames without the face: pass them as they are, hold its last place, or fail", choices=ON_MISSING_FACE
    )
    spans: str | None = option(
        None, "seconds to change, such as 1.2-3.4,10-12.5; without it wherever the sound is another"
    )
    crossfade: float = option(
        0.08,
        "time over which the old mouth and the new one blend into each other at the ends of a span",
        unit="s",
        low=0.0,
        high=1.0,
        formerly="ease",
        advanced=True,
    )
    gate: bool = option(True, "keep the mouth shut where nobody speaks")
    grain: bool = option(True, "give painted parts the grain of the picture around them")
    long_sound: str = option("refuse", "sound that goes on after the film", choices=("refuse", "cut"))
    quality: int = option(14, "H.264 quality, less is better, 0 is lossless", unit="crf", low=0, high=51)
    batch: int = option(8, "frames a call of the renderer; changes memory and speed alone", low=1, high=64)

    def __post_init__(self) -> None:
        super().__post_init__()
        from mouthpiece.face.detect import parse_face_choice
        from mouthpiece.lipsync.film.spans import parse_spans

        parse_face_choice(self.face)
        parse_spans(self.spans)
