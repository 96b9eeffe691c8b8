"""Inputs looked at by their headers, in a moment: what cannot be used is refused before networks are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.engine.media.images import check_picture
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import open_sound_stream

if TYPE_CHECKING:
    from pathlib import Path


def check_inputs(*, pictures: tuple = (), media: tuple = (), sounds: tuple = ()) -> None:
    """Refuses what its header already shows to be of no use; who reads the file says the rest.

    pictures, media, sounds: paths; None is passed over. media may have sound, moving picture or both.
    Raises Refused as mouthpiece.engine.media.images.read_image, mouthpiece.engine.media.probing.probe and
    mouthpiece.engine.media.reading.open_sound_stream do.
    """
    for look, paths in ((check_picture, pictures), (probe, media), (_check_sound, sounds)):
        for path in paths:
            if path is not None:
                look(path)


def _check_sound(path: Path) -> None:
    with open_sound_stream(path):
        pass
