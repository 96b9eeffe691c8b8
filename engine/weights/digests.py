"""SHA-256 of large files, computed once a process as long as a file does not change."""

from __future__ import annotations

from pathlib import Path

from mouthpiece.engine.files import compute_sha256

_digests: dict[tuple[str, int, int], str] = {}  # (path, bytes, time of change in ns) -> SHA-256


def is_verified(path: Path, sha256: str) -> bool:
    """Return whether a file exists and has this SHA-256. sha256: 64 hex digits."""
    return path.is_file() and get_sha256(path) == sha256


def get_sha256(path: Path) -> str:
    """Return the SHA-256 of a file that exists, 64 hex digits. Raises OSError when it does not."""
    facts = path.stat()
    key = (str(path), facts.st_size, facts.st_mtime_ns)
    if key not in _digests:
        _digests[key] = compute_sha256(path)
    return _digests[key]
