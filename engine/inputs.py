"""A quick check of inputs by their headers, so that bad ones are rejected before networks are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.engine.media.images import check_picture
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import open_sound_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def check_inputs(
    *,
    pictures: Iterable[Path | None] = (),
    media: Iterable[Path | None] = (),
    sounds: Iterable[Path | None] = (),
) -> None:
    """Check files by their headers; the rest is found when they are read.

    pictures, media, sounds: paths; None is skipped. media may have sound, moving picture or both.
    Raises InvalidInputError as mouthpiece.engine.media.images.read_image, mouthpiece.engine.media.probing.probe and
    mouthpiece.engine.media.reading.open_sound_stream do.
    """
    checks: tuple[tuple[Callable[[Path], object], Iterable[Path | None]], ...]
    checks = ((check_picture, pictures), (probe, media), (_check_sound, sounds))
    for check, paths in checks:
        for path in paths:
            if path is not None:
                check(path)


def _check_sound(path: Path) -> None:
    with open_sound_stream(path):
        pass
