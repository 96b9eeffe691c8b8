"""Options of `mouthpiece sound`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mouthpiece.engine.config import Options, option
from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.mmaudio.sizes import MIN_DURATION_S, VARIANTS

SPEECH_GUARD_MODES = ("resample", "attenuate", "off")


@dataclass(frozen=True)
class SoundOptions(Options):
    """Options of `mouthpiece sound`, validated when made.

    Raises UsageError naming the flag, the value and what is accepted.
    """

    model: str = option("mmaudio-large-44k-v2", "which public model makes the sound", choices=tuple(VARIANTS))
    seed: int = option(0, "same seed, same input, same machine type: same output", low=0, high=2**31 - 1)
    prompt: str = option("", "what shall be heard, in English; the picture alone decides without it")
    negative_prompt: str = option("", "what shall not be heard")
    takes: int = option(1, "how many soundtracks; all share one look at the video", low=1, high=32)
    first_take: int = option(
        1, "number of the first one; a take sounds the same alone as among others, but for rounding", low=1, high=10_000
    )
    duration: float | None = option(
        None, "length of the soundtrack; the whole video without it", unit="s", low=float(MIN_DURATION_S)
    )
    steps: int = option(25, "sampling steps", low=1, high=200)
    guidance: float = option(
        4.5, "how strongly picture and prompt rule; below 1 the null side is left out", low=0.0, high=20.0
    )
    overlap: float = option(
        1.0, "how much of a window in a long shot continues the one before", unit="s", low=0.1, high=4.0
    )
    focus: str | None = option(None, "x,y in pixels of the video: where the action is, when it is not in the middle")
    speech_guard: str = option(
        "resample", "what happens where speech is heard that nobody asked for", choices=SPEECH_GUARD_MODES
    )
    under_dialogue: Path | None = option(None, "recording or video whose dialogue is kept, with the new sound under it")
    dialogue_gap: float = option(10.0, "how far the new sound lies below the dialogue", unit="LU", low=0.0, high=40.0)
    weights: Path | None = option(None, "folder that holds the public files; the cache's without it")
    device: str = option("auto", "auto, cpu, or a GPU by name and number; a wrong one lists what is accepted")
    precision: str = option(
        "auto",
        "auto lets heavy layers run in half precision where the device is faster so",
        choices=("auto", "float32"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_focus(self.focus)


def parse_focus(text: str | None) -> tuple[float, float] | None:
    """Parse "x,y" in pixels into (x, y), None into None. Raises UsageError for anything else."""
    if text is None:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = -1.0
    if not (0 <= x < 1e6 and 0 <= y < 1e6):
        raise UsageError(f"--focus {text}: need x,y in pixels of the video, such as 1200,300.", code="bad_option")
    return x, y
