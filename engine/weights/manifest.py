"""Weights that ship with the package: their manifest and their files."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import MissingDependencyError

if TYPE_CHECKING:
    from typing import Any

FOLDER_VARIABLE = "MOUTHPIECE_WEIGHTS_DIR"
REINSTALL_HINT = "Install mouthpiece again, or set MOUTHPIECE_WEIGHTS_DIR to a folder that holds the file."


@cache
def load_weights_manifest() -> dict[str, dict[str, Any]]:
    """Load what ships with the package: {name: dict with file, sha256, bytes, licence, source, description}.

    Source: configs/weights.toml.
    """
    return tomllib.loads((resources.files("mouthpiece.configs") / "weights.toml").read_text(encoding="utf-8"))


def get_weights_folder() -> Path | None:
    """Return the folder whose files replace the embedded ones (MOUTHPIECE_WEIGHTS_DIR), or None."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


def get_embedded_path(name: str) -> Path:
    """Return the file of the weights called `name`: in the package, or in the user's own folder where that is set.

    name: name in the manifest.
    Raises MissingDependencyError when no such name or file exists.
    """
    folder = get_weights_folder()
    if folder is not None:
        path = folder / f"{name}.safetensors"
    elif name in load_weights_manifest():
        path = Path(__file__).parents[2] / load_weights_manifest()[name]["file"]
    else:
        known = ", ".join(sorted(load_weights_manifest())) or "none"
        raise MissingDependencyError(
            f"weights '{name}': not in the manifest (it has: {known}).", hint=REINSTALL_HINT, code="no_weights"
        )
    if not path.is_file():
        raise MissingDependencyError(f"weights '{name}': {path} is not there.", hint=REINSTALL_HINT, code="no_weights")
    return path
