"""Talking portraits and dubbing from one audio-visual core."""

from pathlib import Path

if not (Path(__file__).parent / "engine").is_dir():  # a checkout: the other rooms lie beside this folder, not in it
    __path__.append(str(Path(__file__).resolve().parent.parent))

from mouthpiece.engine import __version__  # noqa: E402 - the path comes first

__all__ = ["__version__"]
