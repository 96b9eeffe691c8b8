"""The bed below new dialogue: music and effects separated from it, the sound track without it, the user's own track,
or silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import check_input_file
from mouthpiece.engine.media.probing import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BED_CHOICES = ("separate", "keep", "mute")


@dataclass(frozen=True)
class Bed:
    """The bed of a mouthpiece.voice.mix.mixdown.Programme.

    source: path of a sound at 48 kHz, or of the user's own; None for silence.
    facts: JSON-ready, how it was made.
    """

    source: Path | None
    facts: dict[str, Any] = field(repr=False)


def make_bed(
    choice: str | Path,
    video: Path,
    spans: Sequence[tuple[float, float]],
    folder: Path,
    advance: Callable[[int], object] | None = None,
) -> Bed:
    """Make the Bed of a programme; what it writes goes to a working folder.

    choice: one of BED_CHOICES, or the path of a music-and-effects track.
    video: the programme with its original sound; one without sound has a silent bed.
    spans: (start_s, stop_s) of the old dialogue, used by "keep".
    folder: working folder.
    advance: called with samples done.
    Raises UsageError for a file that is missing, InvalidInputError for one without sound, what `load_spleeter` raises.
    """
    if str(choice) not in BED_CHOICES:
        return _open_own_bed(Path(choice))
    if choice == "mute":
        return Bed(None, {"bed": "mute"})
    if not probe(video).has_audio:
        return Bed(None, {"bed": choice, "note": "the video has no sound: the bed is silent"})
    path = Path(folder) / "bed.wav"
    if choice == "separate":
        from mouthpiece.voice.mix.source_separation import separate_file  # brings torch with it

        samples = separate_file(video, Path(folder) / "original-dialogue.wav", path, advance=advance)
        return Bed(path, {"bed": "separate", "by": "Spleeter 2 stems", "samples": samples})
    from mouthpiece.voice.mix.dialogue_removal import write_without_dialogue

    return Bed(path, {"bed": "keep", "spans": write_without_dialogue(video, spans, path, advance)})


def check_bed(choice: str | Path) -> None:
    """Check the user's own bed before any line is spoken; other choices need no check.

    choice: as for `make_bed`. Raises what `make_bed` raises of it.
    """
    if str(choice) not in BED_CHOICES:
        _open_own_bed(Path(choice))


def _open_own_bed(path: Path) -> Bed:
    """Open a music-and-effects track. Raises UsageError, InvalidInputError."""
    try:
        info = probe(check_input_file(path, "music-and-effects track"))
    except InvalidInputError as error:
        hint = f"--bed takes {', '.join(BED_CHOICES)}, or a sound file."
        kind = UsageError if error.code == "no_such_file" else InvalidInputError
        raise kind(f"--bed {error.message}", hint=hint, code="bad_bed") from error
    if not info.has_audio:
        raise InvalidInputError(
            f"--bed {path}: no sound in it.", hint="Give a recording or a video with sound.", code="no_sound"
        )
    facts = {
        "bed": "own",
        "path": str(path),
        "rate_hz": info.audio_rate_hz,
        "channels": info.channels,
        "duration_s": None if info.duration is None else float(info.duration),
    }
    return Bed(path, facts)
