"""The version of the code, as far as results depend on it: what caches and batches keep is valid for one of them."""

from __future__ import annotations

import hashlib

__version__ = "0.2.0"
# Raise by one with every change that makes an output differ (an algorithm, a constant, a network's code), and with
# every change of what is kept in a cache. A change that leaves outputs as they are needs no new number.
CACHE_SCHEMA = 3


def get_code_version() -> str:
    """Return a text that changes when results may: release, CACHE_SCHEMA and the SHA-256 of the weights in use.

    Weights in MOUTHPIECE_WEIGHTS_DIR take the place of those of the package.
    """
    digest = hashlib.sha256()
    for name, sha256 in _list_weights():
        digest.update(f"{name}\0{sha256}\0".encode())
    return f"{__version__}+{CACHE_SCHEMA}.{digest.hexdigest()[:32]}"


def _list_weights() -> list[tuple[str, str]]:
    """List (name, SHA-256) of all weights, sorted."""
    from mouthpiece.engine.weights.digests import get_sha256
    from mouthpiece.engine.weights.manifest import get_weights_folder, load_weights_manifest

    folder = get_weights_folder()
    if folder is None:
        return sorted((name, entry["sha256"]) for name, entry in load_weights_manifest().items())
    return sorted((path.stem, get_sha256(path)) for path in folder.glob("*.safetensors"))
