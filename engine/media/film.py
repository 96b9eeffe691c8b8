"""Open a film once: probed, measured and hashed a single time for all who work on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import measure_sound_duration
from mouthpiece.engine.weights.digests import get_sha256

if TYPE_CHECKING:
    from fractions import Fraction

    from mouthpiece.engine.types import MediaInfo


@dataclass(frozen=True)
class Film:
    """A media file that was probed, with picture, sound or both. path: of the file.  info: what its header says."""

    path: Path
    info: MediaInfo

    @cached_property
    def duration(self) -> Fraction:
        """Get the exact seconds of the picture, or else of the sound; measured on the first call only.

        Raises InvalidInputError where it is unknown or 0.
        """
        duration = self.info.duration if self.info.has_video else measure_sound_duration(self.path)
        if duration == 0:
            hint = "Give a complete recording or video."
            raise InvalidInputError(f"{self.path}: it lasts 0 s.", hint=hint, code="too_short")
        if duration is None:
            hint = "Remux it, for instance to .mkv, and try again."
            raise InvalidInputError(f"{self.path}: its length is not known.", hint=hint, code="no_duration")
        return duration

    @cached_property
    def sha256(self) -> str:
        """Get the SHA-256 of the file, 64 hex digits; the file is read on the first call only."""
        return get_sha256(self.path)


def open_film(path: str | Path) -> Film:
    """Probe a film, or a sound alone; raise InvalidInputError for what cannot be read."""
    return Film(Path(path), probe(path))
