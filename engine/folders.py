"""The user's folders of this program: the cache for large files, the configuration for the signing key."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_config_path

from mouthpiece.engine.files import make_output_error

CACHE_VARIABLE = "MOUTHPIECE_CACHE_DIR"
CONFIG_VARIABLE = "MOUTHPIECE_CONFIG_DIR"
_NAME = "mouthpiece"


def get_cache_path(*parts: str) -> Path:
    """Return the user's cache folder, or a path below it, whether or not it exists.

    parts: names of folders or files below it.
    MOUTHPIECE_CACHE_DIR names another place.
    """
    named = os.environ.get(CACHE_VARIABLE)
    base = Path(named) if named else user_cache_path(_NAME, appauthor=False, opinion=False)
    return base.joinpath(*parts)


def make_cache_folder(*parts: str) -> Path:
    """Return the same path after making the folder.

    Raises OutputError when it cannot be made.
    """
    folder = get_cache_path(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise make_output_error(folder, error) from error
    return folder


def get_config_folder() -> Path:
    """Return the user's configuration folder, whether or not it exists. MOUTHPIECE_CONFIG_DIR names another place."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else user_config_path(_NAME, appauthor=False, roaming=True)
