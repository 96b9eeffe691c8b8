"""Inputs looked at by their headers, in a moment: what cannot be used is refused before networks are loaded."""

from engine.images import check_picture
from engine.media import probe, sound_stream


def look_at(*, pictures=(), media=(), sounds=()):
    """Refuses what its header already shows to be of no use; who reads the file says the rest.

    pictures, media, sounds: paths; None is passed over. media may have sound, moving picture or both.
    Raises Refused as engine.images.read_image, engine.media.probe and engine.media.sound_stream do.
    Source: ours.
    """
    for look, paths in ((check_picture, pictures), (probe, media), (_hear, sounds)):
        for path in paths:
            if path is not None:
                look(path)


def _hear(path):
    with sound_stream(path):
        pass
