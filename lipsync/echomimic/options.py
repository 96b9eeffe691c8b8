"""Options of `animate --model echomimic` beside those of every renderer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mouthpiece.engine.config import Options, option
from mouthpiece.engine.errors import UsageError
from mouthpiece.lipsync.echomimic.config import CARRY_MODES, OVERLAP_FRAMES, WINDOW_FRAMES
from mouthpiece.lipsync.options import PortraitOptions


@dataclass(frozen=True)
class EchoMimicControls(Options):
    """Hold the options that only the EchoMimic renderers have.

    Raises UsageError for a value that is not accepted.
    Source: head_width and head_height: EMO section 3.2.
    """

    resolution: int = option(
        512,
        "side of the square that the network draws; a multiple of 16; less takes less memory",
        unit="px",
        low=64,
        high=1024,
        formerly="detail",
        advanced=True,
    )
    windows: str = option(
        "causal",
        "causal streams in constant memory; closed-loop is the published way, all in memory",
        choices=("causal", "closed-loop"),
    )
    window: int = option(WINDOW_FRAMES, "frames drawn together; fewer take less memory", low=1, high=32)
    overlap: int = option(OVERLAP_FRAMES, "frames that a window shares with the one before", low=0, high=16)
    carry: str = option(
        "noised",
        "how shared frames are shown to the next window; clean is for weights trained so",
        choices=CARRY_MODES,
        advanced=True,
    )
    head_width: float = option(
        1.0,
        "width of the region where the face may be; wider lets the head swing more",
        low=0.5,
        high=8.0,
        formerly="swing",
        advanced=True,
    )
    head_height: float = option(
        1.0, "height of that region; taller lets the head nod more", low=0.5, high=8.0, formerly="nod", advanced=True
    )
    speed: float | None = option(
        None, "speed of the head, for weights with speed layers; 0.1 to 1 suits speech", low=0.0, high=2.0
    )
    weights: Path | None = option(None, "folder of one's own converted or trained weights")
    compile: bool = option(False, "let torch compile the network: slow to start, then faster")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolution % 16:
            raise UsageError(
                f"--resolution {self.resolution}: need a multiple of 16.",
                hint="512 is as published; 384 and 256 are faster.",
            )
        if self.overlap >= self.window:
            raise UsageError(
                f"--overlap {self.overlap}: need less than --window {self.window}.", hint="3 of 12 is as published."
            )


@dataclass(frozen=True)
class EchoMimicOptions(EchoMimicControls, PortraitOptions):
    """Hold the options of `--model echomimic`. Source: EchoMimic v1's defaults."""

    model: str = option("echomimic", "which model moves the portrait", choices=("echomimic",))
    steps: int = option(30, "sampling steps of a window", low=1, high=100)
    guidance: float = option(
        2.5, "how strongly sound and portrait rule; 1 is as learned and halves the work", low=0.0, high=10.0
    )
    batch: int = option(4, "frames a call of the image decoder; changes memory and speed alone", low=1, high=64)

    def __post_init__(self) -> None:
        EchoMimicControls.__post_init__(self)
        PortraitOptions.__post_init__(self)


@dataclass(frozen=True)
class EchoMimicAccOptions(EchoMimicOptions):
    """Hold the options of `--model echomimic-acc`, the distilled weights. Source: EchoMimic v1's defaults."""

    model: str = option("echomimic-acc", "which model moves the portrait", choices=("echomimic-acc",))
    steps: int = option(6, "sampling steps of a window", low=1, high=100)
    guidance: float = option(
        1.0, "how strongly sound and portrait rule; 1 is as learned and halves the work", low=0.0, high=10.0
    )
