"""Deliver spoken takes: at 48 kHz, placed in the programme, with a watermark where its package is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.writing import read_delivery_blocks
from mouthpiece.engine.timeline import DELIVERY_HZ, round_half_up
from mouthpiece.voice.mix.mixdown import PlacedSound

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path
    from typing import Any


def place_sound(sound: Sound, start_s: Fraction, watermark: bool = False, channels: int | None = None) -> PlacedSound:
    """Resample a sound to 48 kHz and place it at a second of the programme.

    watermark: embed one, where its package is installed.  channels: keep the first so many; None keeps all.
    """
    samples = np.concatenate(list(read_delivery_blocks(sound)), 1)[:channels]
    delivered = Sound(samples, DELIVERY_HZ)
    return PlacedSound(add_watermark(delivered) if watermark else delivered, round_half_up(start_s * DELIVERY_HZ))


def add_watermark(sound: Sound) -> Sound:
    """Embed a watermark where its package is installed; give the sound back as it is elsewhere."""
    from mouthpiece.engine.provenance.watermark import embed_watermark, get_unavailable_reason

    return sound if get_unavailable_reason() else embed_watermark(sound)


def report_watermark(path: Path) -> dict[str, Any]:
    """Report on the watermark of a finished file: whether one was embedded, and how well it is detected."""
    from mouthpiece.engine.provenance.watermark import detect_in_file, get_unavailable_reason

    reason = get_unavailable_reason()
    if reason:
        return {"embedded": False, "reason": reason}
    return {"embedded": True} | (detect_in_file(path) or {})
